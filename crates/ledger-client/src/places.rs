//! Where entries are in the chain of blocks, and how they are asked for: networks give the logs of so many blocks at once.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use alloy_primitives::Address;
use sealcast_ledger::Record;

use crate::{
    Endpoints, NodeError,
    entry_log::{EntryLog, METHOD, filter},
};

/// So many places are kept: readers are at the end mostly, or read from somewhere on.
const MAX_PLACES: usize = 64;

/// See the module.
#[derive(Debug)]
pub struct Places {
    contract: Address,
    deployed_at: u64,
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
    last: Record,
    /// The block of the last one.
    block: u64,
}

/// What the other endpoints say of a [`Page`].
#[derive(Debug)]
pub struct Comparison {
    /// So many show the same, with the one that gave the page.
    pub agree: usize,
    /// Those that show something else.
    pub differ: Vec<Other>,
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

impl Comparison {
    /// Whether more show the page than something else: then the most are believed.
    pub fn is_believed(&self) -> bool {
        self.differ.len() < self.agree
    }

    /// What is wrong if it is not believed.
    pub fn disagreement(&self) -> NodeError {
        let (agree, differ) = (self.agree, self.differ.len());
        let index = self.differ.iter().map(|other| other.index).min().unwrap_or_default();
        NodeError::answer(METHOD, format!("endpoints disagree about entry {index}: {agree} for it, {differ} against"))
    }
}

enum Shown {
    Same,
    Another,
    Nothing,
}

impl Places {
    /// Those of the contract at `contract`, which is in the block `deployed_at`.
    pub fn new(contract: [u8; 20], deployed_at: u64) -> Self {
        let contract = Address::from(contract);
        Self {
            contract,
            deployed_at,
            blocks: Mutex::default(),
            window: AtomicU64::new(u64::MAX),
            told: Mutex::default(),
        }
    }

    /// The records from index `from` on, at most `count` and at least one, as the present endpoint shows them.
    pub async fn page(&self, node: &Endpoints, from: u64, mut count: usize) -> Result<Page, NodeError> {
        let missing = || NodeError::answer(METHOD, format!("records from {from} on are missing"));
        let last = node.final_number().await?.ok_or_else(missing)?;
        let mut start = self.start(from);
        let mut again = start > self.deployed_at;
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
            if logs.is_empty() {
                start = end + 1;
                // A reorganisation may have put it into an earlier block.
                if start > last && std::mem::take(&mut again) {
                    start = self.deployed_at;
                }
                continue;
            }
            let records: Vec<Record> = logs.iter().map(EntryLog::record).collect::<Result<_, _>>()?;
            if !records.iter().zip(from..).all(|(record, index)| record.index == index) {
                return Err(missing());
            }
            let (Some(log), Some(last)) = (logs.last(), records.last().cloned()) else { return Err(missing()) };
            let block = log.block().unwrap_or(start);
            self.note(last.index + 1, block);
            return Ok(Page { records, last, block });
        }
        Err(missing())
    }

    /// What the endpoints that are not asked at present say of `page`, as far as they answer. An endpoint that shows another
    /// ledger is named in the log, with the entry from which on it does.
    pub async fn compare(&self, node: &Endpoints, page: &Page) -> Comparison {
        let mut comparison = Comparison { agree: 1, differ: Vec::new() };
        for other in node.others() {
            match self.shows(&other, page).await {
                Ok(Shown::Same) => {
                    comparison.agree += 1;
                    self.told().remove(other.name());
                }
                Ok(Shown::Another) => {
                    let shown = self.instead(&other, page).await;
                    self.tell(&shown, node.name());
                    comparison.differ.push(shown);
                }
                // It is behind, or does not answer.
                Ok(Shown::Nothing) | Err(_) => {}
            }
        }
        comparison
    }

    /// Tells it once: who asks again gets the same.
    fn tell(&self, shown: &Other, other: &str) {
        let Other { endpoint, index, .. } = shown;
        if self.told().insert(endpoint.clone(), *index) != Some(*index) {
            tracing::error!(%endpoint, index, other, "endpoints of the ledger's network show different ledgers from this entry on: \
                one of them lies, or is on a branch");
        }
    }

    fn told(&self) -> MutexGuard<'_, BTreeMap<String, u64>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What an endpoint has in the place of a page's last record.
    async fn shows(&self, node: &Endpoints, page: &Page) -> Result<Shown, NodeError> {
        let is_same = |record: Result<Record, NodeError>| match record.is_ok_and(|record| record == page.last) {
            true => Shown::Same,
            false => Shown::Another,
        };
        let at_its_block = filter(self.contract, page.last.index, 1, page.block, page.block);
        if let Some(log) = node.entries(&at_its_block).await?.first() {
            return Ok(is_same(log.record()));
        }
        if node.final_number().await?.is_none_or(|last| last < page.block) {
            return Ok(Shown::Nothing);
        }
        // It has the block, without the entry.
        match self.page(node, page.last.index, 1).await {
            Ok(elsewhere) => Ok(is_same(Ok(elsewhere.last))),
            Err(_) => Ok(Shown::Nothing),
        }
    }

    /// What an endpoint shows in the place of a page, whose last record is another one there.
    async fn instead(&self, node: &Endpoints, page: &Page) -> Other {
        let endpoint = node.name().to_owned();
        let first = page.records.first().map_or(page.last.index, |record| record.index);
        if let Ok(shown) = self.page(node, first, page.records.len()).await {
            let parted = shown.records.iter().zip(&page.records).find(|(one, other)| one != other);
            let index = parted.map_or(page.last.index, |(record, _)| record.index);
            return Other { endpoint, index, records: shown.records };
        }
        // Some of it cannot be read.
        for record in &page.records {
            let alone = self.page(node, record.index, 1).await;
            if !alone.is_ok_and(|alone| alone.last == *record) {
                return Other { endpoint, index: record.index, records: Vec::new() };
            }
        }
        Other { endpoint, index: page.last.index, records: Vec::new() }
    }

    /// The block from which on the entry `from` is.
    fn start(&self, from: u64) -> u64 {
        let blocks = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        blocks.range(..=from).next_back().map_or(self.deployed_at, |(_, block)| *block)
    }

    fn note(&self, index: u64, block: u64) {
        let mut blocks = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        blocks.insert(index, block);
        if blocks.len() > MAX_PLACES {
            blocks.pop_first();
        }
    }
}
