//! Where entries are in the chain of blocks, and how they are asked for: networks give the logs of so many blocks at once.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use alloy::{
    eips::BlockNumberOrTag,
    primitives::{Address, B256},
    rpc::types::{Filter, Log},
};
use sealcast_ledger::Record;
use sealcast_ledger_client::NodeError;

use crate::{contract, node::Node};

/// So many places are kept: readers are at the end mostly, or read from somewhere on.
const MAX_PLACES: usize = 64;
const METHOD: &str = "eth_getLogs";

/// See the module.
#[derive(Debug)]
pub(crate) struct Places {
    deployed_at: u64,
    /// The blocks of some entries, by the entries' indexes.
    blocks: Mutex<BTreeMap<u64, u64>>,
    /// How many blocks are asked for at once.
    window: AtomicU64,
}

impl Places {
    /// Those of a contract that is in the block `deployed_at`.
    pub(crate) fn new(deployed_at: u64) -> Self {
        Self { deployed_at, blocks: Mutex::default(), window: AtomicU64::new(u64::MAX) }
    }

    /// The records of `contract` from index `from` on, at most `count`; none if the node's blocks do not have them yet. What one
    /// endpoint gives the others do not contradict.
    pub(crate) async fn page(
        &self,
        node: &Node,
        contract: Address,
        from: u64,
        mut count: usize,
    ) -> Result<Vec<Record>, NodeError> {
        let missing = || NodeError::answer(METHOD, format!("records from {from} on are missing"));
        let Some(last) = node.final_number().await? else { return Ok(Vec::new()) };
        let mut start = self.start(from);
        let mut again = start > self.deployed_at;
        while start <= last {
            let end = last.min(start.saturating_add(self.window.load(Ordering::Relaxed) - 1));
            let logs = match node.logs(&filter(contract, from, count, start, end)).await {
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
            let records: Vec<Record> = logs.iter().map(contract::record).collect::<Result<_, _>>()?;
            if !records.iter().zip(from..).all(|(record, index)| record.index == index) {
                return Err(missing());
            }
            if let (Some(log), Some(record)) = (logs.last(), records.last()) {
                let block = log.block_number.unwrap_or(start);
                confirm(node, contract, record, block).await?;
                self.note(record.index + 1, block);
            }
            return Ok(records);
        }
        Ok(Vec::new())
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

/// For entries one by one: nodes find them by their index of topics.
fn filter(contract: Address, from: u64, count: usize, start: u64, end: u64) -> Filter {
    let indexes: Vec<B256> = (from..).take(count).map(contract::topic).collect();
    Filter::new()
        .address(contract)
        .event_signature(contract::ENTRY_TOPIC)
        .topic1(indexes)
        .from_block(start)
        .to_block(BlockNumberOrTag::Number(end))
}

/// Whether the other endpoints have the same entry in that place, as far as they answer. One that has another one lies, or
/// the one that gave `record` does: the most are believed.
async fn confirm(node: &Node, contract: Address, record: &Record, block: u64) -> Result<(), NodeError> {
    let (mut agree, mut differ) = (1, 0);
    for (name, other) in node.others() {
        let answer = other.logs(&filter(contract, record.index, 1, block, block)).await;
        let is_same = |log: &Log| contract::record(log).is_ok_and(|other| other == *record);
        match answer.as_deref() {
            Ok([log]) if is_same(log) => agree += 1,
            Ok([_]) => {
                tracing::error!(endpoint = %name, index = record.index, "endpoints of the ledger's network show different \
                    ledgers from this entry on: one of them lies, or is on a branch");
                differ += 1;
            }
            // It is behind, or does not answer.
            Ok(_) | Err(_) => {}
        }
    }
    if differ < agree {
        return Ok(());
    }
    let what = format!("endpoints disagree about entry {}: {agree} for it, {differ} against", record.index);
    Err(NodeError::answer(METHOD, what))
}
