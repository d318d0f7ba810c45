//! The ledger's client for devices that only speak MQTT: it asks a relay over a [`Channel`].

use std::{fmt, sync::Arc};

use alloy_primitives::{Address, Bytes};
use alloy_sol_types::{SolCall as _, sol};
use sealcast_ledger::{Hash, LedgerId, Number, Record, SignedEntry};
use serde::Deserialize;
use serde_json::json;

use crate::{
    Channel, KeptPage, KeptQuery, NodeError, SignedReport, SubmitError,
    json_rpc::{Caller, ErrorObject},
    rpc_code,
};

/// Entries in one `sealcast_submitEntries`: even on a slow machine they are final long before the caller gives up.
pub const MAX_RELAY_ENTRIES: usize = 32;

sol! {
    function nonceOf(address originator) external view returns (uint64);
}

/// The newest entry's place: how many there are, and the head with all of them in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Number of entries, which is the next one's index.
    pub height: u64,
    /// The head with the last of them in it; the genesis head if there is none.
    pub hash: Hash,
}

/// A client without a wallet. Cheap to clone.
///
/// The relay is not trusted: what it gives out is for a [`Replica`](sealcast_ledger::Replica) to check. What it
/// withholds shows at the next commit, which carries its sender's head.
pub struct RemoteLedger<C> {
    relay: Arc<Caller<C>>,
    id: LedgerId,
}

#[derive(Deserialize)]
struct RecordsAnswer {
    records: Vec<Bytes>,
}

#[derive(Deserialize)]
struct HeadAnswer {
    height: u64,
    head: Hash,
}

#[derive(Deserialize)]
struct EntriesAnswer {
    records: Vec<Bytes>,
    refused: Option<ErrorObject>,
}

impl<C: Channel> RemoteLedger<C> {
    /// A client of the ledger `id`, which comes from the device's configuration. Sends nothing.
    pub fn new(channel: C, id: LedgerId) -> Self {
        Self { relay: Arc::new(Caller::new(channel)), id }
    }

    /// Which ledger this is.
    pub fn id(&self) -> LedgerId {
        self.id
    }

    /// Submits an entry and waits until it is final.
    ///
    /// Submitting the same entry again is safe: if the ledger has it (among its newest 256) its record is returned. Signed
    /// anew it counts as the same: the record has the first signature.
    pub async fn submit(&self, entry: &SignedEntry) -> Result<Record, SubmitError> {
        const METHOD: &str = "sealcast_submitEntry";
        let answer: Result<Bytes, NodeError> = self.relay.request(METHOD, (Bytes::from(entry.encode()),)).await;
        let bytes = answer.map_err(refused)?;
        taken(METHOD, entry, &bytes, &self.id)
    }

    /// Submits the operator's entries, which must have consecutive nonces: up to [`MAX_RELAY_ENTRIES`] at a time share
    /// blocks. Gives the records of those that the ledger took, which are the first ones, and why it did not take the next.
    pub async fn submit_all(&self, entries: &[SignedEntry]) -> (Vec<Record>, Result<(), SubmitError>) {
        let mut records = Vec::with_capacity(entries.len());
        for chunk in entries.chunks(MAX_RELAY_ENTRIES) {
            if let Err(error) = self.submit_chunk(chunk, &mut records).await {
                return (records, Err(error));
            }
        }
        (records, Ok(()))
    }

    async fn submit_chunk(&self, entries: &[SignedEntry], records: &mut Vec<Record>) -> Result<(), SubmitError> {
        const METHOD: &str = "sealcast_submitEntries";
        let encoded: Vec<Bytes> = entries.iter().map(|entry| entry.encode().into()).collect();
        let answer: EntriesAnswer = self.relay.request(METHOD, (encoded,)).await.map_err(refused)?;
        for (entry, bytes) in entries.iter().zip(&answer.records) {
            records.push(taken(METHOD, entry, bytes, &self.id)?);
        }
        match answer.refused {
            Some(error) => Err(refused(error.refused(METHOD))),
            None if answer.records.len() == entries.len() => Ok(()),
            None => Err(NodeError::answer(METHOD, "fewer records than entries, and no reason").into()),
        }
    }

    /// The records from index `from` on, in order, at most `max` and at most 256. Fewer, but at least one, if they are
    /// long; none if the ledger is not that long, or if the relay withholds them.
    pub async fn records(&self, from: u64, max: usize) -> Result<Vec<Record>, NodeError> {
        const METHOD: &str = "sealcast_records";
        let answer: RecordsAnswer = self.relay.request(METHOD, (from, max)).await?;
        let wrong = |what: String| NodeError::answer(METHOD, what);
        if answer.records.len() > max {
            return Err(wrong(format!("{} records where {max} were asked for", answer.records.len())));
        }
        let mut records = Vec::with_capacity(answer.records.len());
        for (bytes, index) in answer.records.iter().zip(from..) {
            let record = Record::decode(bytes).map_err(|error| wrong(format!("record {index}: {error}")))?;
            if record.index != index {
                return Err(wrong(format!("record {} where {index} must stand", record.index)));
            }
            records.push(record);
        }
        Ok(records)
    }

    /// How many entries there are, and the head.
    pub async fn head(&self) -> Result<Head, NodeError> {
        let answer: HeadAnswer = self.relay.request("sealcast_head", ()).await?;
        Ok(Head { height: answer.height, hash: answer.head })
    }

    /// What the hub keeps for this node.
    pub async fn kept(&self, query: &KeptQuery) -> Result<KeptPage, NodeError> {
        self.relay.request("sealcast_kept", (query,)).await
    }

    /// Tells the hub how this node is.
    pub async fn report(&self, report: &SignedReport) -> Result<(), NodeError> {
        self.relay.request::<bool>("sealcast_report", (report,)).await.map(drop)
    }

    /// The nonce that the originator's next entry must have.
    pub async fn nonce_of(&self, originator: Number) -> Result<u64, NodeError> {
        let call = nonceOfCall { originator: Address::from(*originator.as_bytes()) };
        let request = json!({ "to": Address::from(self.id.address), "input": Bytes::from(call.abi_encode()) });
        let output: Bytes = self.relay.request("eth_call", (request, "latest")).await?;
        nonceOfCall::abi_decode_returns_validate(&output).map_err(|error| NodeError::answer("nonceOf", error))
    }
}

impl<C> Clone for RemoteLedger<C> {
    fn clone(&self) -> Self {
        Self { relay: Arc::clone(&self.relay), id: self.id }
    }
}

impl<C> fmt::Debug for RemoteLedger<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteLedger").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The record in an answer, if it is of `entry`.
fn taken(method: &'static str, entry: &SignedEntry, bytes: &[u8], id: &LedgerId) -> Result<Record, SubmitError> {
    let record = Record::decode(bytes).map_err(|error| NodeError::answer(method, error))?;
    // The signature may be another: the ledger may have taken the same entry before.
    if record.entry.digest(id) != entry.digest(id) {
        return Err(NodeError::answer(method, "the record is of another entry").into());
    }
    Ok(record)
}

fn refused(error: NodeError) -> SubmitError {
    match error {
        NodeError::Refused { code: rpc_code::LIMIT, message, wait_ms, .. } => {
            SubmitError::Busy { reason: message, wait_ms }
        }
        NodeError::Refused { code: rpc_code::REJECTED, message, .. } => SubmitError::Rejected { reason: message },
        error => error.into(),
    }
}
