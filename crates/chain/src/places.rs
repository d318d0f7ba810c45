//! Where entries are in the chain of blocks, and how they are asked for: networks give the logs of so many blocks at once.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use alloy::primitives::Address;
use sealcast_ledger::Record;
use sealcast_ledger_client::NodeError;

use crate::{
    agreement::{confirm, filter},
    contract,
    node::Node,
};

/// So many places are kept: readers are at the end mostly, or read from somewhere on.
const MAX_PLACES: usize = 64;
const METHOD: &str = "eth_getLogs";
/// How long a node may have a block's state before it shows the block's logs.
const LOGS_LATE: Duration = Duration::from_secs(5);

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

    /// The records of `contract` from index `from` on, which it has: at most `count`, at least one. What one endpoint gives the
    /// others do not contradict.
    pub(crate) async fn page(
        &self,
        node: &Node,
        contract: Address,
        from: u64,
        count: usize,
    ) -> Result<Vec<Record>, NodeError> {
        let (mut attempt, mut ticker, asked) = (1, node.ticker(), Instant::now());
        loop {
            let error = match self.find(node, contract, from, count).await {
                // Nodes show the state of a block a moment before its logs, and behind one URL there may be several nodes.
                Ok(none) if none.is_empty() => {
                    if !node.is_embedded() && asked.elapsed() < LOGS_LATE {
                        ticker.tick().await;
                        continue;
                    }
                    NodeError::answer(METHOD, format!("records from {from} on are missing"))
                }
                Err(error @ NodeError::Answer { .. }) => error,
                other => return other,
            };
            if attempt >= node.endpoints() {
                return Err(error);
            }
            // Another endpoint may know better.
            node.turn_away(&error);
            attempt += 1;
        }
    }

    /// The same, of the endpoint that is asked at present; none if its blocks do not have them yet.
    async fn find(
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
            self.widen(end - start + 1);
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
            let blocks: Vec<u64> = logs.iter().map(|log| log.block_number.unwrap_or(start)).collect();
            confirm(node, contract, &records, &blocks).await?;
            if let (Some(block), Some(record)) = (blocks.last(), records.last()) {
                self.note(record.index + 1, *block);
            }
            return Ok(records);
        }
        Ok(Vec::new())
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
