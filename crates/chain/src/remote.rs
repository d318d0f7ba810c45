//! The ledger's client for devices that only speak MQTT: it asks a [`Relay`](crate::Relay) over a [`Channel`].

use alloy::{
    primitives::Bytes,
    rpc::{
        client::RpcClient,
        json_rpc::{ErrorPayload, RpcError, RpcRecv, RpcSend},
        types::TransactionRequest,
    },
    sol_types::SolCall as _,
};
use sealcast_ledger::{Hash, LedgerId, Number, Record, SignedEntry};
use serde::Deserialize;

use crate::{
    contract::{self, SealcastLedger as abi},
    ledger::{Failure, Head, Ledger, SubmitError},
    node::NodeError,
    relay::MAX_RELAY_ENTRIES,
    rpc::RpcFault,
    transport::{CallTransport, Channel},
};

/// A client without a wallet. Cheap to clone.
///
/// The relay is not trusted: what it gives out is for a [`Replica`](sealcast_ledger::Replica) to check. What it
/// withholds shows at the next commit, which carries its sender's head.
#[derive(Clone, Debug)]
pub struct RemoteLedger {
    client: RpcClient,
    id: LedgerId,
}

#[derive(Clone, Debug, Deserialize)]
struct RecordsAnswer {
    records: Vec<Bytes>,
}

#[derive(Clone, Debug, Deserialize)]
struct HeadAnswer {
    height: u64,
    head: Hash,
}

#[derive(Clone, Debug, Deserialize)]
struct EntriesAnswer {
    records: Vec<Bytes>,
    refused: Option<ErrorPayload>,
}

impl RemoteLedger {
    /// A client of the ledger `id`, which comes from the device's configuration. Sends nothing.
    pub fn new(channel: impl Channel, id: LedgerId) -> Self {
        Self { client: RpcClient::new(CallTransport::new(channel), false), id }
    }

    /// Which ledger this is.
    pub fn id(&self) -> LedgerId {
        self.id
    }

    async fn request<P: RpcSend, R: RpcRecv>(&self, method: &'static str, params: P) -> Result<R, NodeError> {
        self.client.request(method, params).await.map_err(|error| NodeError::new(method, error))
    }

    /// See [`Ledger::submit`].
    pub async fn submit(&self, entry: &SignedEntry) -> Result<Record, SubmitError> {
        const METHOD: &str = "sealcast_submitEntry";
        let answer: Result<Bytes, NodeError> = self.request(METHOD, (Bytes::from(entry.encode()),)).await;
        let bytes = answer.map_err(refused)?;
        taken(METHOD, entry, &bytes, &self.id)
    }

    /// Submits the operator's entries, which must have consecutive nonces: up to 32 at a time share blocks. Gives the
    /// records of those that the ledger took, which are the first ones, and why it did not take the next.
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
        let answer: EntriesAnswer = self.request(METHOD, (encoded,)).await.map_err(refused)?;
        for (entry, bytes) in entries.iter().zip(&answer.records) {
            records.push(taken(METHOD, entry, bytes, &self.id)?);
        }
        match answer.refused {
            Some(error) => Err(refused(NodeError::new(METHOD, RpcError::ErrorResp(error)))),
            None if answer.records.len() == entries.len() => Ok(()),
            None => Err(NodeError::answer(METHOD, "fewer records than entries, and no reason").into()),
        }
    }

    /// The records from index `from` on, in order, at most `max` and at most 256. Fewer, but at least one, if they are
    /// long; none if the ledger is not that long, or if the relay withholds them.
    pub async fn records(&self, from: u64, max: usize) -> Result<Vec<Record>, NodeError> {
        const METHOD: &str = "sealcast_records";
        let answer: RecordsAnswer = self.request(METHOD, (from, max as u64)).await?;
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
        let answer: HeadAnswer = self.request("sealcast_head", ()).await?;
        Ok(Head { height: answer.height, hash: answer.head })
    }

    /// The nonce that the originator's next entry must have.
    pub async fn nonce_of(&self, originator: Number) -> Result<u64, NodeError> {
        let call = abi::nonceOfCall { originator: contract::address(&originator) };
        let request =
            TransactionRequest::default().to(self.id.address.into()).input(Bytes::from(call.abi_encode()).into());
        let output: Bytes = self.request("eth_call", (request, "latest")).await?;
        abi::nonceOfCall::abi_decode_returns_validate(&output).map_err(|error| NodeError::answer("nonceOf", error))
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
        NodeError::Refused { code, message, .. } if code == RpcFault::LIMIT => SubmitError::Busy { reason: message },
        error => Failure::from(error).error,
    }
}

/// A ledger's client, in process or over a relay.
#[derive(Clone, Debug)]
pub enum LedgerClient {
    /// In the hub's process.
    Local(Ledger),
    /// Over a relay.
    Remote(RemoteLedger),
}

impl LedgerClient {
    /// Which ledger this is.
    pub fn id(&self) -> LedgerId {
        match self {
            Self::Local(ledger) => ledger.id(),
            Self::Remote(ledger) => ledger.id(),
        }
    }

    /// See [`Ledger::submit`].
    pub async fn submit(&self, entry: &SignedEntry) -> Result<Record, SubmitError> {
        match self {
            Self::Local(ledger) => ledger.submit(entry).await,
            Self::Remote(ledger) => ledger.submit(entry).await,
        }
    }

    /// See [`Ledger::records`] and [`RemoteLedger::records`].
    pub async fn records(&self, from: u64, max: usize) -> Result<Vec<Record>, NodeError> {
        match self {
            Self::Local(ledger) => ledger.records(from, max).await,
            Self::Remote(ledger) => ledger.records(from, max).await,
        }
    }

    /// See [`Ledger::head`].
    pub async fn head(&self) -> Result<Head, NodeError> {
        match self {
            Self::Local(ledger) => ledger.head().await,
            Self::Remote(ledger) => ledger.head().await,
        }
    }

    /// See [`Ledger::nonce_of`].
    pub async fn nonce_of(&self, originator: Number) -> Result<u64, NodeError> {
        match self {
            Self::Local(ledger) => ledger.nonce_of(originator).await,
            Self::Remote(ledger) => ledger.nonce_of(originator).await,
        }
    }
}
