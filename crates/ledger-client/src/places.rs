//! Where entries are in the chain of blocks, and how they are asked for: networks give the logs of so many blocks at once.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use alloy_primitives::Address;
use alloy_sol_types::sol;
use sealcast_ledger::Record;

use crate::{
    Endpoints, NodeError,
    entry_log::{EntryLog, METHOD, filter},
};

sol! {
    function height() external view returns (uint64);
}

/// So many parts of the chain without an entry are asked for. An endpoint that has more of them keeps its reader busy.
const MAX_EMPTY: u32 = 10_000;
/// So many places are kept: readers are at the end mostly, or read from somewhere on.
const MAX_PLACES: usize = 64;

/// See the module.
#[derive(Debug)]
pub struct Places {
    contract: Address,
    /// The block to look from.
    deployed_at: AtomicU64,
    /// The blocks of some entries, by the entries' indexes.
    blocks: Mutex<BTreeMap<u64, u64>>,
    /// How many blocks are asked for at once.
    window: AtomicU64,
    /// From which entry on each endpoint was told to show another ledger.
    told: Mutex<BTreeMap<String, u64>>,
}

/// Records as one endpoint shows them, at least one.
#[derive(Debug, Clone)]
pub struct Page {
    /// In their order, without gaps.
    pub records: Vec<Record>,
    /// The block of each.
    blocks: Vec<u64>,
}

/// What the other endpoints say of a [`Page`], as far as they answer.
#[derive(Debug)]
pub struct Comparison {
    /// So many show the same, with the one that gave the page.
    pub agree: usize,
    /// Those that show something else.
    pub differ: Vec<Other>,
    /// Those that say that they have all entries of the page, and do not show this one where the page has it. They may yet.
    pub hidden: Vec<(String, u64)>,
    /// So many have not as many entries.
    pub behind: usize,
}

/// An endpoint that shows another ledger.
#[derive(Debug)]
pub struct Other {
    /// What people call it.
    pub endpoint: String,
    /// The first entry that is another one there.
    pub index: u64,
    /// What it shows in the place of the page's records.
    pub records: Vec<Record>,
}

/// Of so many endpoints, more than half of those that answer must have an entry.
const MAJORITY_OF: usize = 3;

impl Comparison {
    /// Whether that is enough for `endpoints` to believe the page. What only one of several has may come into another order yet.
    pub fn suffices(&self, endpoints: usize) -> bool {
        let differ = self.differ.len() + self.hidden.len();
        let answering = self.agree + differ + self.behind;
        differ < self.agree && (endpoints < MAJORITY_OF || 2 * self.agree > answering)
    }

    /// Whether asking again may change it.
    pub fn may_change(&self) -> bool {
        !self.hidden.is_empty() || self.behind > 0
    }

    /// What is wrong if it does not suffice.
    pub fn disagreement(&self) -> NodeError {
        let Self { agree, differ, hidden, behind } = self;
        let indexes = differ.iter().map(|other| other.index).chain(hidden.iter().map(|(_, index)| *index));
        let what = match indexes.min() {
            Some(index) => {
                let against = differ.len() + hidden.len();
                format!("endpoints disagree about entry {index}: {agree} for it, {against} against")
            }
            None => format!("{agree} of the endpoints shows the newest entries, and {behind} have not got them yet"),
        };
        NodeError::answer(METHOD, what)
    }
}

impl Places {
    /// Those of the contract at `contract`, which is in the block `deployed_at`.
    pub fn new(contract: [u8; 20], deployed_at: u64) -> Self {
        let contract = Address::from(contract);
        Self {
            contract,
            deployed_at: AtomicU64::new(deployed_at),
            blocks: Mutex::default(),
            window: AtomicU64::new(u64::MAX),
            told: Mutex::default(),
        }
    }

    /// The records from index `from` on, at most `count`, as the present endpoint shows them. `None` if its final blocks have
    /// none of them.
    pub async fn page(&self, node: &Endpoints, from: u64, mut count: usize) -> Result<Option<Page>, NodeError> {
        let Some(last) = node.final_number().await? else { return Ok(None) };
        let mut start = self.start(from);
        // The endpoint may be behind what is known of others.
        if start > last {
            start = self.deployed_at();
        }
        let (mut again, mut empty) = (start > self.deployed_at(), 0);
        while start <= last {
            let end = last.min(start.saturating_add(self.window.load(Ordering::Relaxed) - 1));
            let logs = match node.entries(&filter(self.contract, from, count, start, end)).await {
                Err(error) if error.is_limit() && count > 1 => {
                    count /= 2;
                    continue;
                }
                // Each network has its own words for what is too much.
                Err(NodeError::Refused { .. }) if end > start => {
                    self.window.store((end - start).div_ceil(2), Ordering::Relaxed);
                    continue;
                }
                other => other?,
            };
            self.widen((end - start).saturating_add(1));
            if logs.is_empty() {
                empty += 1;
                let Some(next) = end.checked_add(1).filter(|_| empty < MAX_EMPTY) else {
                    let what = format!("it has nothing in {empty} parts of the chain, and says that there are more");
                    return Err(NodeError::answer(METHOD, what));
                };
                start = next;
                // A reorganisation may have put it into an earlier block.
                if start > last && std::mem::take(&mut again) {
                    start = self.deployed_at();
                }
                continue;
            }
            let records: Vec<Record> = logs.iter().map(EntryLog::record).collect::<Result<_, _>>()?;
            if !records.iter().zip(from..).all(|(record, index)| record.index == index) {
                return Err(missing(from));
            }
            let blocks: Vec<u64> = logs.iter().map(|log| log.block().unwrap_or(start)).collect();
            // What is noted of a place is where the others are asked.
            if blocks.iter().any(|block| !(start..=end).contains(block)) {
                return Err(NodeError::answer(METHOD, "a log of another block than was asked for"));
            }
            return Ok(Some(Page { records, blocks }));
        }
        Ok(None)
    }

    /// The contract may be in this block.
    pub fn begin_at(&self, block: u64) {
        self.deployed_at.fetch_min(block, Ordering::Relaxed);
    }

    fn deployed_at(&self) -> u64 {
        self.deployed_at.load(Ordering::Relaxed)
    }

    /// Remembers where `page` is, which is believed.
    pub fn note(&self, page: &Page) {
        let (Some(record), Some(block)) = (page.records.last(), page.blocks.last()) else { return };
        let mut blocks = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        blocks.insert(record.index + 1, *block);
        if blocks.len() > MAX_PLACES {
            blocks.pop_first();
        }
    }

    /// What the endpoints that are not asked at present say of `page`. One that shows another ledger is named in the log, with
    /// the entry from which on it does. What an endpoint says of its blocks is not believed either: an entry counts by its index.
    pub async fn compare(&self, node: &Endpoints, page: &Page) -> Comparison {
        let mut comparison = Comparison { agree: 1, differ: Vec::new(), hidden: Vec::new(), behind: 0 };
        for other in node.others() {
            match self.word(&other, page).await {
                Ok(Word::Same) => {
                    comparison.agree += 1;
                    self.told().remove(other.name());
                }
                Ok(Word::Other { index, records }) => {
                    self.tell(other.name(), index, node.name());
                    let endpoint = other.name().to_owned();
                    comparison.differ.push(Other { endpoint, index, records });
                }
                Ok(Word::Hidden(index)) => comparison.hidden.push((other.name().to_owned(), index)),
                Ok(Word::Behind) => comparison.behind += 1,
                // It does not answer.
                Err(_) => {}
            }
        }
        comparison
    }

    /// Tells it once: whoever asks again gets the same.
    pub fn tell(&self, endpoint: &str, index: u64, other: &str) {
        if self.told().insert(endpoint.to_owned(), index) != Some(index) {
            tracing::error!(%endpoint, index, other, "endpoints of the ledger's network show different ledgers from this entry on: \
                one of them lies, or is on a branch");
        }
    }

    fn told(&self) -> MutexGuard<'_, BTreeMap<String, u64>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn word(&self, node: &Endpoints, page: &Page) -> Result<Word, NodeError> {
        let shown = self.shown(node, page).await?;
        let at = |index: u64| shown.iter().find(|record| record.index == index);
        let differs = |record: &&Record| at(record.index).is_some_and(|other| other != *record);
        if let Some(wrong) = page.records.iter().find(differs) {
            return Ok(Word::Other { index: wrong.index, records: shown });
        }
        let Some(missing) = page.records.iter().find(|record| at(record.index).is_none()) else {
            return Ok(Word::Same);
        };
        let height = node.view(self.contract, heightCall {}).await?;
        Ok(if height > missing.index { Word::Hidden(missing.index) } else { Word::Behind })
    }

    /// What an endpoint shows in the places of a page.
    async fn shown(&self, node: &Endpoints, page: &Page) -> Result<Vec<Record>, NodeError> {
        let (Some(first), Some(start), Some(end)) =
            (page.records.first(), page.blocks.iter().min(), page.blocks.iter().max())
        else {
            return Ok(Vec::new());
        };
        let logs = match node.entries(&filter(self.contract, first.index, page.records.len(), *start, *end)).await {
            // It gives the logs of fewer blocks at once.
            Err(NodeError::Refused { .. }) if page.records.len() > 1 => {
                let mut logs = Vec::new();
                for (record, block) in page.records.iter().zip(&page.blocks) {
                    logs.extend(node.entries(&filter(self.contract, record.index, 1, *block, *block)).await?);
                }
                logs
            }
            other => other?,
        };
        let mut records: Vec<Record> = logs.iter().filter_map(|log| log.record().ok()).collect();
        records.sort_by_key(|record| record.index);
        Ok(records)
    }

    /// The logs of so many blocks were given at once. If that is as many as are asked for, more are asked for: an endpoint
    /// that refuses many does not slow down what the others are asked.
    fn widen(&self, blocks: u64) {
        if self.window.load(Ordering::Relaxed) == blocks {
            self.window.store(blocks.saturating_add(blocks / 16 + 1), Ordering::Relaxed);
        }
    }

    /// The block from which on the entry `from` is.
    fn start(&self, from: u64) -> u64 {
        let blocks = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        blocks.range(..=from).next_back().map_or_else(|| self.deployed_at(), |(_, block)| *block)
    }
}

/// An endpoint does not show entries from `from` on.
pub fn missing(from: u64) -> NodeError {
    NodeError::answer(METHOD, format!("records from {from} on are missing"))
}

/// What an endpoint says of records that another one gave.
enum Word {
    /// The same.
    Same,
    /// Another entry in the place of this one.
    Other { index: u64, records: Vec<Record> },
    /// It has that many entries, and does not show this one where the other does.
    Hidden(u64),
    /// It has not as many entries.
    Behind,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suffices(endpoints: usize, agree: usize, differ: usize, behind: usize) -> bool {
        let other = |_| Other { endpoint: String::new(), index: 1, records: Vec::new() };
        let differ = (0..differ).map(other).collect();
        Comparison { agree, differ, hidden: Vec::new(), behind }.suffices(endpoints)
    }

    #[test]
    fn of_three_two_decide_and_of_two_none_may_contradict() {
        assert!(suffices(1, 1, 0, 0));
        assert!(suffices(2, 1, 0, 1) && suffices(2, 2, 0, 0) && !suffices(2, 1, 1, 0));
        assert!(suffices(3, 2, 1, 0) && suffices(3, 2, 0, 1) && suffices(3, 1, 0, 0), "the others do not answer");
        assert!(!suffices(3, 1, 0, 2) && !suffices(3, 1, 0, 1) && !suffices(3, 1, 1, 1));
    }
}
