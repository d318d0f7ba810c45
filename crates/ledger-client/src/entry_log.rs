//! The contract's `Entry` events, as a node's logs have them.

use alloy_primitives::{Address, B256, Bytes, LogData, U64, U256};
use alloy_sol_types::{SolEvent as _, sol};
use sealcast_ledger::{Hash, Number, Record, SignedEntry};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{NodeError, finality::quantity};

/// The method that gives logs.
pub(crate) const METHOD: &str = "eth_getLogs";

sol! {
    event Entry(uint64 indexed index, address indexed originator, uint8 indexed kind, uint64 nonce, uint64 time, bytes body,
        bytes signature, bytes32 head);
}

/// The topic that marks entries.
pub const ENTRY_TOPIC: B256 = Entry::SIGNATURE_HASH;

/// What is read of a log.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EntryLog {
    topics: Vec<B256>,
    data: Bytes,
    block_number: Option<U64>,
}

impl EntryLog {
    pub(crate) fn record(&self) -> Result<Record, NodeError> {
        let data = LogData::new(self.topics.clone(), self.data.clone());
        record(&data.ok_or_else(|| NodeError::answer(METHOD, "more than four topics"))?)
    }

    /// The number of its block.
    pub(crate) fn block(&self) -> Option<u64> {
        self.block_number.map(|number| number.to())
    }
}

/// An `Entry` event as a record. Checks its form, not its truth, which is the replica's work.
pub fn record(log: &LogData) -> Result<Record, NodeError> {
    let wrong = |what: String| NodeError::answer(METHOD, what);
    let event = Entry::decode_log_data_validate(log).map_err(|error| wrong(error.to_string()))?;
    let index = event.index;
    let entry = SignedEntry::from_parts(
        event.kind,
        Number::from(event.originator.into_array()),
        event.nonce,
        &event.body,
        &event.signature,
    )
    .map_err(|refusal| wrong(format!("entry {index}: {refusal}")))?;
    Ok(Record { index, time_s: event.time, entry, head: Hash::from(event.head.0) })
}

/// Parameters that ask for `count` entries from `from` on, which are in the blocks from `start` to `end`. Each is asked for by
/// its index: nodes find them by their index of topics.
pub(crate) fn filter(contract: Address, from: u64, count: usize, start: u64, end: u64) -> Value {
    let indexes: Vec<B256> = (from..).take(count).map(|index| B256::from(U256::from(index))).collect();
    json!([{
        "address": contract,
        "topics": [ENTRY_TOPIC, indexes],
        "fromBlock": quantity(start),
        "toBlock": quantity(end),
    }])
}
