//! Whether the endpoints of a network show the same entries. What one says of its blocks is not believed either: an entry
//! counts by its index, wherever the others have it.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use alloy::{
    eips::BlockNumberOrTag,
    primitives::{Address, B256},
    rpc::types::Filter,
};
use sealcast_ledger::Record;
use sealcast_ledger_client::NodeError;

use crate::{
    contract::{self, SealcastLedger as abi},
    node::Node,
};

/// How much later than one endpoint another may show the same.
const LATE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(500);
/// Of so many endpoints, more than half of those that answer must have an entry.
const MAJORITY_OF: usize = 3;

/// For entries one by one: nodes find them by their index of topics.
pub(crate) fn filter(contract: Address, from: u64, count: usize, start: u64, end: u64) -> Filter {
    let indexes: Vec<B256> = (from..).take(count).map(contract::topic).collect();
    Filter::new()
        .address(contract)
        .event_signature(contract::ENTRY_TOPIC)
        .topic1(indexes)
        .from_block(start)
        .to_block(BlockNumberOrTag::Number(end))
}

/// What an endpoint says of records that another one gave.
enum Word {
    /// The same.
    Same,
    /// Another entry in the place of this one.
    Other(u64),
    /// It has that many entries, and does not show this one where the other does.
    Hidden(u64),
    /// It has not as many entries.
    Behind,
    /// Nothing.
    Silent,
}

/// How many say what.
#[derive(Default)]
struct Tally {
    agree: usize,
    differ: usize,
    behind: usize,
    /// Whether asking again may change it.
    may_change: bool,
    /// The first entry about which they disagree.
    index: Option<u64>,
}

impl Tally {
    /// What only one of several has may come into another order yet, so it is waited for.
    fn suffices(&self, endpoints: usize) -> bool {
        let answering = self.agree + self.differ + self.behind;
        self.differ < self.agree && (endpoints < MAJORITY_OF || 2 * self.agree > answering)
    }
}

/// Whether the other endpoints have these `records`, as far as they answer, each in its block of `blocks`. Waits for those
/// that are a little behind. One that has another record lies, or the one that gave `records` does: the most are believed.
pub(crate) async fn confirm(
    node: &Node,
    contract: Address,
    records: &[Record],
    blocks: &[u64],
) -> Result<(), NodeError> {
    let (others, until) = (node.others(), Instant::now() + LATE);
    let Some(last) = records.last() else { return Ok(()) };
    loop {
        let is_last_try = Instant::now() >= until;
        let tally = ask(&others, contract, records, blocks, is_last_try).await;
        if tally.suffices(node.endpoints()) {
            return Ok(());
        }
        if is_last_try || !tally.may_change {
            let Tally { agree, differ, behind, index, .. } = tally;
            let what = match index {
                Some(index) => format!("endpoints disagree about entry {index}: {agree} for it, {differ} against"),
                None => format!("{agree} of the endpoints has entry {}, and {behind} have not yet", last.index),
            };
            return Err(NodeError::answer("eth_getLogs", what));
        }
        tokio::time::sleep(POLL).await;
    }
}

async fn ask(
    others: &[(String, Node)],
    contract: Address,
    records: &[Record],
    blocks: &[u64],
    is_last_try: bool,
) -> Tally {
    let mut tally = Tally { agree: 1, ..Tally::default() };
    for (name, other) in others {
        let word = word(other, contract, records, blocks).await;
        match word {
            Word::Same => tally.agree += 1,
            Word::Other(index) | Word::Hidden(index) => {
                let is_hidden = matches!(word, Word::Hidden(_));
                if !is_hidden || is_last_try {
                    tracing::error!(endpoint = %name, index, "endpoints of the ledger's network show different ledgers from \
                        this entry on: one of them lies, or is on a branch");
                }
                tally.differ += 1;
                tally.may_change |= is_hidden;
                tally.index = Some(tally.index.map_or(index, |first| first.min(index)));
            }
            Word::Behind => {
                tally.behind += 1;
                tally.may_change = true;
            }
            Word::Silent => {}
        }
    }
    tally
}

async fn word(other: &Node, contract: Address, records: &[Record], blocks: &[u64]) -> Word {
    let Ok(shown) = shown(other, contract, records, blocks).await else { return Word::Silent };
    if let Some(wrong) = records.iter().find(|record| shown.get(&record.index).is_some_and(|other| other != *record)) {
        return Word::Other(wrong.index);
    }
    let Some(missing) = records.iter().find(|record| !shown.contains_key(&record.index)) else { return Word::Same };
    match other.view(contract, abi::heightCall {}).await {
        Ok(height) if height > missing.index => Word::Hidden(missing.index),
        Ok(_) => Word::Behind,
        Err(_) => Word::Silent,
    }
}

/// What the endpoint shows in the places of `records`.
async fn shown(
    other: &Node,
    contract: Address,
    records: &[Record],
    blocks: &[u64],
) -> Result<BTreeMap<u64, Record>, NodeError> {
    let (Some(first), Some(start), Some(end)) = (records.first(), blocks.iter().min(), blocks.iter().max()) else {
        return Ok(BTreeMap::new());
    };
    let logs = match other.logs(&filter(contract, first.index, records.len(), *start, *end)).await {
        // It gives the logs of fewer blocks at once.
        Err(NodeError::Refused { .. }) if records.len() > 1 => {
            let mut logs = Vec::new();
            for (record, block) in records.iter().zip(blocks) {
                logs.extend(other.logs(&filter(contract, record.index, 1, *block, *block)).await?);
            }
            logs
        }
        other => other?,
    };
    let records = logs.iter().filter_map(|log| contract::record(log).ok());
    Ok(records.map(|record| (record.index, record)).collect())
}

#[cfg(test)]
mod tests {
    use super::Tally;

    fn suffices(endpoints: usize, agree: usize, differ: usize, behind: usize) -> bool {
        Tally { agree, differ, behind, ..Tally::default() }.suffices(endpoints)
    }

    #[test]
    fn of_three_two_decide_and_of_two_none_may_contradict() {
        assert!(suffices(1, 1, 0, 0));
        assert!(suffices(2, 1, 0, 1) && suffices(2, 2, 0, 0) && !suffices(2, 1, 1, 0));
        assert!(suffices(3, 2, 1, 0) && suffices(3, 2, 0, 1) && suffices(3, 1, 0, 0), "the others do not answer");
        assert!(!suffices(3, 1, 0, 2) && !suffices(3, 1, 0, 1) && !suffices(3, 1, 1, 1));
    }
}
