//! The server for devices that only speak MQTT: a part of Ethereum's JSON-RPC, and five methods of its own.
//!
//! Anyone may ask and anyone may submit: an entry carries its originator's signature, and the relay's wallet pays for
//! the transaction that carries it. So nothing here checks who asks; everything is bounded, and what the contract would
//! refuse is found out by a call, which costs neither a block nor space in the file. A [`Gate`] may refuse more. Quotas
//! bound what devices put on the ledger, see [`RelayLimits`]; the CA and the operator have none.
//!
//! | method | parameters | answer |
//! | --- | --- | --- |
//! | `sealcast_submitEntry` | `[entry]`: hex of [`SignedEntry::encode`] | hex of [`Record::encode`](sealcast_ledger::Record::encode), once it is final; a refusal has code 3 and the contract's error in `data` |
//! | `sealcast_submitEntries` | `[[entry, ...]]`: 1 to 32 of the operator's, with consecutive nonces | `{"records": [hex, ...], "refused": error}`: the records of those before the first that was refused, and why it was |
//! | `sealcast_records` | `[from, max]`: numbers | `{"height": number, "records": [hex, ...]}`: in order from `from` on, fewer than asked for if they are long |
//! | `sealcast_report` | `[report]` | `true`: takes what an agent tells of itself |
//! | `sealcast_kept` | `[query]` | [`KeptPage`]: what the hub keeps for the node that asks |
//! | `sealcast_head` | none | `{"height": number, "head": "0x..."}` |
//! | `eth_chainId`, `net_version`, `web3_clientVersion`, `eth_blockNumber` | as in Ethereum | |
//! | `eth_call`, `eth_getLogs` | the ledger's contract only; at most 2,048 blocks at once | |
//! | `eth_getCode`, `eth_getTransactionReceipt`, `eth_getBlockByNumber` | blocks with hashes only | |

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Instant,
};

use alloy::{
    eips::BlockNumberOrTag,
    primitives::{Address, B256, Bytes, U64},
    rpc::types::{Filter, FilterBlockOption, TransactionRequest},
};
use sealcast_ledger::{CodecError, LedgerId, SignedEntry};
use sealcast_ledger_client::{
    Channel, ChannelError, KeptPage, KeptQuery, MAX_HAVE, MAX_RELAY_ENTRIES, NodeError, RETRY_AFTER_MS, SignedReport,
    SubmitError, rpc_code,
};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::{
    ledger::{Failure, Ledger, Submitted},
    quota::{OverQuota, Quotas, RelayLimits},
    rpc::{Params, Request, RpcFault, encode, parse, response},
};

/// The longest request: the longest entry in hex and what is around it.
pub const MAX_RELAY_REQUEST_BYTES: usize = 256 << 10;
/// About the longest answer. One record is always given, however long.
pub const MAX_RELAY_RESPONSE_BYTES: usize = 512 << 10;
/// Requests in a batch.
const MAX_BATCH: usize = 16;
/// Requests that are carried out at the same time; the others wait their turn.
const MAX_RUNNING: usize = 64;
/// Requests that run or wait; more are refused.
const MAX_WAITING: usize = 1024;
const MAX_BLOCKS: u64 = 2048;
/// Topics in one `eth_getLogs`.
const MAX_TOPICS: usize = 256;
/// Records in one `sealcast_records`.
pub(crate) const MAX_RELAY_RECORDS: usize = 256;

/// The relay: one per hub, in front of a [`Ledger`].
pub struct Relay {
    ledger: Ledger,
    permits: Semaphore,
    waiting: AtomicUsize,
    quotas: Quotas,
    started: Instant,
    gate: Gate,
    keeper: Keeper,
    reports: Reports,
}

/// What the relay asks before it submits a device's entry.
pub type Gate = Box<dyn Fn(&SignedEntry) -> Result<(), Closed> + Send + Sync>;

/// What the relay asks what is kept for the node of this name.
pub type Keeper = Box<dyn Fn(&str, &KeptQuery) -> KeptPage + Send + Sync>;

/// What becomes of what the node of this name tells of itself; or why it is not taken.
pub type Reports = Box<dyn Fn(&str, &SignedReport) -> Result<(), String> + Send + Sync>;

/// Why an entry is not submitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Closed {
    /// It never will be, for this reason.
    Rejected(String),
    /// It cannot be told yet whether it may be.
    NotYet,
    /// The ledger is at this other contract.
    Moved(LedgerId),
}

impl Relay {
    /// A relay that submits through `ledger`, within `limits`, whatever the contract takes.
    pub fn new(ledger: Ledger, limits: RelayLimits) -> Self {
        Self::with_gate(ledger, limits, Box::new(|_| Ok(())))
    }

    /// A relay that submits through `ledger`, within `limits`, what `gate` lets pass.
    pub fn with_gate(ledger: Ledger, limits: RelayLimits, gate: Gate) -> Self {
        Self {
            ledger,
            permits: Semaphore::new(MAX_RUNNING),
            waiting: AtomicUsize::new(0),
            quotas: Quotas::new(limits),
            started: Instant::now(),
            gate,
            keeper: Box::new(|_, _| KeptPage {
                messages: Vec::new(),
                next: String::new(),
                more: false,
                lacks: Vec::new(),
            }),
            reports: Box::new(|_, _| Ok(())),
        }
    }

    /// The same, which answers `sealcast_kept` as `keeper` does.
    #[must_use]
    pub fn with_keeper(self, keeper: Keeper) -> Self {
        Self { keeper, ..self }
    }

    /// The same, which gives what nodes tell of themselves to `reports`.
    #[must_use]
    pub fn with_reports(self, reports: Reports) -> Self {
        Self { reports, ..self }
    }

    /// Which ledger it serves.
    pub fn id(&self) -> LedgerId {
        self.ledger.id()
    }

    /// Answers a request or batch of `node`, from outside. Never fails: what is wrong is in the answer, which is empty only if
    /// nothing but notifications came. Calls run at the same time; entries that wait together share a block.
    pub async fn handle(&self, node: &str, request: &[u8]) -> Vec<u8> {
        let value = match parse(request, MAX_RELAY_REQUEST_BYTES) {
            Ok(value) => value,
            Err(fault) => return encode(&response(Value::Null, Err(fault))),
        };
        let Value::Array(batch) = value else {
            return self.one(node, value).await.map(|answer| encode(&answer)).unwrap_or_default();
        };
        if batch.is_empty() || batch.len() > MAX_BATCH {
            let message = format!("a batch has 1 to {MAX_BATCH} requests, this one {}", batch.len());
            return encode(&response(Value::Null, Err(RpcFault::new(rpc_code::INVALID_REQUEST, message))));
        }
        let mut answers = Vec::with_capacity(batch.len());
        let mut bytes = 0;
        for request in batch {
            if bytes > MAX_RELAY_RESPONSE_BYTES {
                let id = request.get("id").cloned().unwrap_or_default();
                answers.push(response(id, Err(RpcFault::new(rpc_code::LIMIT, "the batch's answers are too long"))));
            } else if let Some(answer) = self.one(node, request).await {
                bytes += encode(&answer).len();
                answers.push(answer);
            }
        }
        if answers.is_empty() { Vec::new() } else { encode(&Value::Array(answers)) }
    }

    async fn one(&self, node: &str, request: Value) -> Option<Value> {
        let request = match Request::from_value(request) {
            Ok(request) => request,
            Err((id, fault)) => return Some(response(id, Err(fault))),
        };
        // A device that does not want an answer cannot learn what became of its entry: nothing is done for it.
        let id = request.id?;
        let outcome = match Waiting::enter(&self.waiting) {
            None => Err(RpcFault::new(rpc_code::LIMIT, "the relay is busy: try again in a moment")),
            Some(_waiting) => match self.permits.acquire().await {
                Ok(_permit) => self.dispatch(node, &request.method, request.params).await,
                Err(_) => Err(RpcFault::server("the relay is shutting down")),
            },
        };
        Some(response(id, outcome))
    }

    async fn dispatch(&self, node: &str, method: &str, mut params: Params) -> Result<Value, RpcFault> {
        match method {
            "sealcast_submitEntry" => self.submit(params).await,
            "sealcast_submitEntries" => self.submit_all(params).await,
            "sealcast_records" => self.records(params).await,
            "sealcast_kept" => {
                let query: KeptQuery = params.required(0, "query")?;
                if query.have.len() > MAX_HAVE {
                    return Err(RpcFault::new(rpc_code::LIMIT, format!("at most {MAX_HAVE} messages in have")));
                }
                Ok(json!((self.keeper)(node, &query)))
            }
            "sealcast_report" => {
                let report: SignedReport = params.required(0, "report")?;
                let taken = (self.reports)(node, &report);
                taken.map(|()| json!(true)).map_err(|why| RpcFault::new(rpc_code::INVALID_PARAMS, why))
            }
            "sealcast_head" => {
                let head = self.ledger.head().await.map_err(fault)?;
                Ok(json!({ "height": head.height, "head": head.hash.to_string() }))
            }
            "eth_chainId" | "net_version" | "web3_clientVersion" | "eth_blockNumber" => {
                self.pass(method, json!([])).await
            }
            "eth_call" => {
                let request: TransactionRequest = params.required(0, "call")?;
                self.only_ledger(request.to.and_then(|to| to.to().copied()))?;
                // Only what a view needs: no sender, no value, no gas limit of the asker's.
                let call = json!({ "to": self.ledger.address(), "input": request.input.input() });
                self.pass(method, json!([call, "latest"])).await
            }
            "eth_getLogs" => {
                let filter: Filter = params.required(0, "filter")?;
                let filter = self.bounded(filter).await?;
                self.pass(method, json!([filter])).await
            }
            "eth_getCode" => {
                let address: Address = params.required(0, "address")?;
                self.pass(method, json!([address, "latest"])).await
            }
            "eth_getTransactionReceipt" => {
                let hash: B256 = params.required(0, "transaction hash")?;
                self.pass(method, json!([hash])).await
            }
            "eth_getBlockByNumber" => {
                let block: BlockNumberOrTag = params.required(0, "block")?;
                self.pass(method, json!([block, false])).await
            }
            other => {
                let shown: String = other.chars().take(64).collect();
                Err(RpcFault::new(rpc_code::METHOD_NOT_FOUND, format!("the relay does not offer {shown}")))
            }
        }
    }

    async fn submit(&self, mut params: Params) -> Result<Value, RpcFault> {
        let entry = decode(&params.required(0, "entry")?)?;
        // Before the quotas: what is never submitted must not be told to wait for room.
        (self.gate)(&entry).map_err(|closed| match closed {
            Closed::Rejected(reason) => RpcFault::new(rpc_code::REJECTED, reason),
            Closed::Moved(to) => RpcFault::new(
                rpc_code::LIMIT,
                format!("the ledger has moved to {to}, and the hub has not: start the hub there"),
            ),
            Closed::NotYet => RpcFault::new(rpc_code::LIMIT, "the relay is behind the ledger: try again in a moment"),
        })?;
        let is_limited = self.is_limited(&entry);
        if is_limited {
            self.quotas.check(&entry, self.now_ms()).map_err(over_quota)?;
        }
        let outcome = match self.ledger.would_take(&entry).await {
            Err(failure) => self.ledger.unless_taken(&entry, failure).await,
            Ok(()) if is_limited => self.submit_within_quotas(&entry).await?,
            Ok(()) => self.ledger.send(&entry).await,
        };
        outcome
            .map(|submitted| Value::String(alloy::hex::encode_prefixed(submitted.record.encode())))
            .map_err(|failure| refusal(&entry, failure))
    }

    /// For an entry that the contract would take: its originator has signed it.
    async fn submit_within_quotas(&self, entry: &SignedEntry) -> Result<Result<Submitted, Failure>, RpcFault> {
        // Before it is sent: what is under way at the same time must not exceed a quota together.
        self.quotas.take(entry, self.now_ms()).map_err(over_quota)?;
        let outcome = self.ledger.send(entry).await;
        let is_new = match &outcome {
            Ok(submitted) => submitted.is_new,
            Err(failure) => failure.may_be_on_ledger(),
        };
        if !is_new {
            self.quotas.give_back(entry);
        }
        Ok(outcome)
    }

    /// Not each is tried as a call before it takes its place in a block, so they have to be the operator's, and its
    /// signatures are checked here. They share a transaction.
    async fn submit_all(&self, mut params: Params) -> Result<Value, RpcFault> {
        let entries: Vec<Bytes> = params.required(0, "entries")?;
        if !(1..=MAX_RELAY_ENTRIES).contains(&entries.len()) {
            let message = format!("1 to {MAX_RELAY_ENTRIES} entries at once, not {}", entries.len());
            return Err(RpcFault::new(rpc_code::INVALID_PARAMS, message));
        }
        let entries = entries.iter().map(decode).collect::<Result<Vec<_>, _>>()?;
        // Where the ledger has moved to, if it has: the contract then says so below.
        let id = self.ledger.current_id().await.map_err(fault)?;
        let number = self.ledger.first_id().operator();
        let operator = self.ledger.key_of(number).await.map_err(fault)?;
        let first = entries.first().map_or(0, SignedEntry::nonce);
        for (entry, nonce) in entries.iter().zip(first..) {
            if entry.originator() != number || entry.nonce() != nonce || !entry.is_signed_by(&operator, &id) {
                let message = "only entries that the operator signed, with consecutive nonces, are taken together";
                return Err(RpcFault::new(rpc_code::INVALID_PARAMS, message));
            }
        }
        // Somebody else with the operator's key may have been faster: then all would be in blocks for nothing.
        if let Some(first) = entries.first()
            && let Err(failure) = self.ledger.would_take(first).await
        {
            return Ok(json!({ "records": [], "refused": refusal(first, failure).to_value() }));
        }
        let mut records: Vec<Bytes> = Vec::with_capacity(entries.len());
        for (entry, outcome) in entries.iter().zip(self.ledger.try_submit_all(&entries).await) {
            match outcome {
                Ok(submitted) => records.push(submitted.record.encode().into()),
                // Those behind it were refused because it is not there.
                Err(failure) => {
                    return Ok(json!({ "records": records, "refused": refusal(entry, failure).to_value() }));
                }
            }
        }
        Ok(json!({ "records": records }))
    }

    /// Devices are limited; the CA and the operator say who is a device at all.
    fn is_limited(&self, entry: &SignedEntry) -> bool {
        let id = self.ledger.first_id();
        ![id.root(), id.ca(), id.operator()].contains(&entry.originator())
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    async fn records(&self, mut params: Params) -> Result<Value, RpcFault> {
        let from: u64 = params.required(0, "from")?;
        let max: u64 = params.required(1, "max")?;
        let max = usize::try_from(max).unwrap_or(usize::MAX).min(MAX_RELAY_RECORDS);
        let (height, records) =
            self.ledger.records_within(from, max, MAX_RELAY_RESPONSE_BYTES / 2).await.map_err(fault)?;
        let records: Vec<Bytes> = records.iter().map(|record| record.encode().into()).collect();
        Ok(json!({ "height": height, "records": records }))
    }

    fn only_ledger(&self, address: Option<Address>) -> Result<(), RpcFault> {
        let ledger = self.ledger.address();
        if address == Some(ledger) {
            return Ok(());
        }
        Err(RpcFault::server(format!("the relay answers for the ledger's contract only, {ledger}")))
    }

    /// The filter, if it asks for the ledger's events of not too many blocks.
    async fn bounded(&self, filter: Filter) -> Result<Filter, RpcFault> {
        let mut addresses = filter.address.iter();
        self.only_ledger(addresses.next().copied())?;
        if addresses.next().is_some() {
            return self.only_ledger(None).map(|()| filter);
        }
        if filter.topics.iter().map(|topic| topic.len()).sum::<usize>() > MAX_TOPICS {
            return Err(RpcFault::new(rpc_code::LIMIT, format!("at most {MAX_TOPICS} topics at once")));
        }
        if let FilterBlockOption::Range { from_block, to_block } = filter.block_option {
            let tip: U64 = self.ledger.node().request("eth_blockNumber", ()).await.map_err(fault)?;
            let number = |tag: Option<BlockNumberOrTag>| match tag {
                Some(BlockNumberOrTag::Number(number)) => number,
                Some(BlockNumberOrTag::Earliest) => 0,
                _ => tip.to(),
            };
            if number(to_block).saturating_sub(number(from_block)) >= MAX_BLOCKS {
                return Err(RpcFault::new(rpc_code::LIMIT, format!("at most {MAX_BLOCKS} blocks at once")));
            }
        }
        Ok(filter)
    }

    async fn pass(&self, method: &str, params: Value) -> Result<Value, RpcFault> {
        let answer =
            self.ledger.node().request::<_, serde_json::Value>(method.to_owned(), params).await.map_err(fault)?;
        let bytes = encode(&answer).len();
        if bytes > MAX_RELAY_RESPONSE_BYTES {
            let message = format!("the answer has {bytes} bytes, {MAX_RELAY_RESPONSE_BYTES} are allowed: ask for less");
            return Err(RpcFault::new(rpc_code::LIMIT, message));
        }
        Ok(answer)
    }
}

impl Channel for Relay {
    async fn call(&self, request: Vec<u8>) -> Result<Vec<u8>, ChannelError> {
        Ok(self.handle("", &request).await)
    }
}

/// Counts a request for as long as it lives.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn enter(count: &'a AtomicUsize) -> Option<Self> {
        let waiting = Self(count);
        (count.fetch_add(1, Ordering::Relaxed) < MAX_WAITING).then_some(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn decode(bytes: &Bytes) -> Result<SignedEntry, RpcFault> {
    SignedEntry::decode(bytes).map_err(|error| {
        let reason = match &error {
            CodecError::Refused(refusal) => refusal.to_string(),
            other => other.to_string(),
        };
        RpcFault::new(rpc_code::INVALID_PARAMS, format!("parameter 1 (entry): {reason}"))
    })
}

fn over_quota(over: OverQuota) -> RpcFault {
    let data = Some(json!({ RETRY_AFTER_MS: over.wait_ms }));
    RpcFault { code: rpc_code::LIMIT, message: over.to_string(), data }
}

/// Why an entry is not on the ledger.
fn refusal(entry: &SignedEntry, failure: Failure) -> RpcFault {
    match failure {
        Failure { revert: Some(data), .. } => RpcFault::reverted(&data),
        Failure { error: SubmitError::Node(error), .. } => fault(error),
        Failure { error, .. } => {
            tracing::warn!(originator = %entry.originator(), %error, "the relay could not submit an entry");
            RpcFault::server(error.to_string())
        }
    }
}

/// The node's refusal as it is; what only the hub can mend without its inner workings.
fn fault(error: NodeError) -> RpcFault {
    match error {
        NodeError::Refused { code, message, revert, .. } => {
            RpcFault { code, message, data: revert.map(|data| Value::String(alloy::hex::encode_prefixed(data))) }
        }
        // The hub cannot read its ledger then either, and says so, but not for each device that asks.
        NodeError::Transport { .. } => {
            RpcFault::new(rpc_code::INTERNAL, "the ledger's node does not answer: look at the hub's log")
        }
        NodeError::Answer { .. } => {
            tracing::debug!(%error, "the relay got a wrong answer from the ledger's node");
            RpcFault::new(rpc_code::INTERNAL, "the ledger's node failed: look at the hub's log")
        }
    }
}
