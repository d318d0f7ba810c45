//! The ledger's client: deploys the contract, submits entries with a wallet of its own, reads records.

use std::sync::Arc;

use alloy::{
    eips::BlockNumberOrTag,
    primitives::{Address, Bytes, TxKind, U256},
    sol_types::SolConstructor as _,
};
use sealcast_identity::PublicKey;
use sealcast_ledger::{Genesis, Hash, LedgerId, Number, Record, Refusal, SignedEntry};
use sealcast_ledger_client::{ENTRY_TOPIC, Head, NodeError, Places, SubmitError, record};

use crate::{
    agreement::agreed,
    batch::{self, Outcome},
    code,
    contract::{self, SealcastLedger as abi},
    node::{Node, Ticker},
    sender::{Sender, Sent},
    wallet::Wallet,
};

/// Records in one `eth_getLogs`.
const PAGE: usize = 64;
/// So often as nothing new was found, other endpoints are asked whether they have more.
const OTHERS_EVERY: u32 = 20;
/// What an entry costs, about.
const ENTRY_GAS: u64 = 150_000;
/// Records in one answer of [`Ledger::records`].
pub const MAX_RECORDS: usize = 1024;
const MAX_RECORDS_BYTES: usize = 8 << 20;
/// How far back a submission looks for itself when its nonce was used: an answer that was lost is seldom older.
const LOOK_BACK: u64 = 256;

/// Why there is no ledger here.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// No precompile at 0x100.
    #[error(
        "the network does not verify P-256 signatures (EIP-7951 at 0x100): it must be at the Osaka upgrade or later"
    )]
    NoP256,
    /// No code at the address.
    #[error("there is no contract at 0x{} on chain {chain_id}: check the ledger's address and the chain", hex::encode(.address))]
    NoContract {
        /// The network's chain id.
        chain_id: u64,
        /// The configured address.
        address: [u8; 20],
    },
    /// Another contract.
    #[error("the contract at 0x{} is not a Sealcast ledger", hex::encode(.address))]
    NotALedger {
        /// The configured address.
        address: [u8; 20],
    },
    /// Other code than this program's contract has.
    #[error(
        "the contract at 0x{} has other code than this program's ledger: it is the ledger of another version, or none",
        hex::encode(.address)
    )]
    OtherCode {
        /// The configured address.
        address: [u8; 20],
    },
    /// The contract has the entries of another ledger.
    #[error("the contract {at} has the ledger {first}, not {name}")]
    OtherLedger {
        /// The contract.
        at: LedgerId,
        /// The ledger that was asked for.
        name: LedgerId,
        /// What the one there is called.
        first: LedgerId,
    },
    /// The node is of another network than the ledger.
    #[error("the endpoint is of chain {chain_id}, and the ledger is looked for on chain {wanted}")]
    OtherNetwork {
        /// The node's chain id.
        chain_id: u64,
        /// The ledger's.
        wanted: u64,
    },
    /// Nothing to pay transactions with.
    #[error(
        "the relay's account 0x{} has nothing on chain {chain_id}, and the network takes fees: send it some of the network's \
         currency (each entry costs about 150,000 gas)", hex::encode(.account)
    )]
    NoFunds {
        /// The network's chain id.
        chain_id: u64,
        /// The relay's account.
        account: [u8; 20],
    },
    /// The deployment failed.
    #[error("the contract could not be deployed: {0}")]
    Deployment(String),
    /// The node did not answer as it should.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The entry could not be sent.
    #[error("the contract could not be deployed")]
    Submit(#[source] SubmitError),
}

/// A client with a wallet, for the hub: submits entries and reads them back. Cheap to clone.
///
/// What it reads is what the node says: give it to a [`Replica`](sealcast_ledger::Replica).
#[derive(Clone, Debug)]
pub struct Ledger {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    node: Node,
    id: LedgerId,
    first: LedgerId,
    address: Address,
    places: Places,
    sender: Sender,
}

fn public_key(view: &'static str, xy: Option<&[u8; 64]>) -> Result<PublicKey, NodeError> {
    let xy = xy.ok_or_else(|| NodeError::answer(view, "too few bytes"))?;
    PublicKey::from_xy(*xy).map_err(|error| NodeError::answer(view, error))
}

/// What the ledger at the contract `id` is called, and the block to look for entries from, if there is one.
pub(crate) async fn deployed(node: &Node, id: LedgerId) -> Result<(LedgerId, u64), AttachError> {
    let LedgerId { chain_id, address: bytes } = id;
    let address = Address::from(bytes);
    let code: Bytes = node.request("eth_getCode", (address, BlockNumberOrTag::Latest)).await?;
    if code.is_empty() {
        return Err(AttachError::NoContract { chain_id, address: bytes });
    }
    // The embedded engine may have the contract of an earlier version; a stranger's contract may be anything.
    if !node.is_embedded() && !code::is_ledger(&code) {
        return Err(AttachError::OtherCode { address: bytes });
    }
    let not_a_ledger = |error: NodeError| match error {
        NodeError::Refused { .. } | NodeError::Answer { .. } => AttachError::NotALedger { address: bytes },
        other => other.into(),
    };
    let ca = node.view(address, abi::caCall {}).await.map_err(not_a_ledger)?;
    let mut deployed_at = node.view(address, abi::deployedAtCall {}).await.map_err(not_a_ledger)?;
    // One endpoint that says a later block would hide the first entries from what the others are asked.
    for other in node.endpoints().others() {
        if let Ok(at) = other.view(address, abi::deployedAtCall {}).await {
            deployed_at = deployed_at.min(at);
        }
    }
    let first = match node.view(address, abi::firstCall {}).await {
        Ok(first) => LedgerId { chain_id: first.chainId, address: first.ledger.into_array() },
        // One of an earlier version, which succeeds no other.
        Err(NodeError::Refused { .. }) if node.is_embedded() => id,
        Err(error) => return Err(not_a_ledger(error)),
    };
    if ca != contract::address(&first.ca()) {
        return Err(AttachError::NotALedger { address: bytes });
    }
    Ok((first, deployed_at))
}

impl Ledger {
    /// Deploys a new ledger with these keys of the root, the CA and the operator. The root's cannot be changed.
    pub async fn deploy(node: Node, wallet: Wallet, keys: [&PublicKey; 3]) -> Result<Self, AttachError> {
        Self::construct(node, wallet, keys, LedgerId { chain_id: 0, address: [0; 20] }).await
    }

    /// Deploys a contract that succeeds the ledger which began so: [`replay`](Self::replay) all its entries. Only this wallet
    /// can.
    pub async fn deploy_successor(node: Node, wallet: Wallet, genesis: &Genesis) -> Result<Self, AttachError> {
        Self::construct(node, wallet, [&genesis.root, &genesis.ca, &genesis.operator], genesis.id).await
    }

    async fn construct(
        node: Node,
        wallet: Wallet,
        keys: [&PublicKey; 3],
        succeeds: LedgerId,
    ) -> Result<Self, AttachError> {
        let chain_id = node.chain_id().await?;
        probe(&node).await?;
        let [root, ca, operator] = keys.map(|key| Bytes::copy_from_slice(key.xy()));
        let LedgerId { chain_id: of, address } = succeeds;
        let arguments = abi::constructorCall {
            rootKey: root,
            caKey: ca,
            operatorKey: operator,
            chainId: of,
            ledger: address.into(),
        };
        let code = [abi::BYTECODE.as_ref(), &arguments.abi_encode()].concat();
        let sender = Sender::new(wallet, chain_id);
        require_funds(&node, &sender).await?;
        let mut ticker = node.ticker();
        let sent = sender.send(&node, TxKind::Create, code.into()).await.map_err(AttachError::Submit)?;
        let receipt = sender.wait(&node, &mut ticker, sent).await.map_err(AttachError::Submit)?;
        let reason = receipt.revert_reason.as_ref().and_then(|data| Refusal::from_revert(data));
        match (receipt.contract_address, reason) {
            (Some(address), _) if !receipt.status.is_zero() => Self::open(node, sender, address).await,
            (_, Some(refusal)) => Err(AttachError::Deployment(refusal.to_string())),
            _ => Err(AttachError::Deployment("the constructor reverted".into())),
        }
    }

    /// Attaches to the contract at `address`, after probing that it is one and that P-256 signatures are verified.
    pub async fn attach(node: Node, wallet: Wallet, address: [u8; 20]) -> Result<Self, AttachError> {
        let chain_id = node.chain_id().await?;
        probe(&node).await?;
        let sender = Sender::new(wallet, chain_id);
        require_funds(&node, &sender).await?;
        Self::open(node, sender, address.into()).await
    }

    /// Attaches to the contract at `address` to read it: with an account of its own that has nothing.
    pub async fn inspect(node: Node, address: [u8; 20]) -> Result<Self, AttachError> {
        let sender = Sender::new(Wallet::generate(), node.chain_id().await?);
        Self::open(node, sender, address.into()).await
    }

    async fn open(node: Node, sender: Sender, address: Address) -> Result<Self, AttachError> {
        let id = LedgerId { chain_id: sender.chain_id(), address: address.into_array() };
        let (first, deployed_at) = deployed(&node, id).await?;
        let places = Places::new(id.address, deployed_at);
        Ok(Self { inner: Arc::new(Inner { node, id, first, address, places, sender }) })
    }

    /// Which contract this is: what the entries that it takes are signed for.
    pub fn id(&self) -> LedgerId {
        self.inner.id
    }

    /// What the ledger is called, wherever it is: the contract that its first entry was written to, as the node says it. The
    /// numbers of all originators come from it.
    pub fn first_id(&self) -> LedgerId {
        self.inner.first
    }

    /// Whether it is the embedded one: nothing is between it and this process, and what it has written is final.
    pub fn is_embedded(&self) -> bool {
        self.inner.node.is_embedded()
    }

    /// The account that pays for entries, as Ethereum writes it.
    pub fn account(&self) -> String {
        self.inner.sender.account().to_string()
    }

    /// For how many more entries the relay's account can pay at the present fees; `None` if they cost nothing.
    pub async fn affordable(&self) -> Result<Option<u64>, NodeError> {
        let Inner { node, sender, .. } = &*self.inner;
        let each = U256::from(node.fees().await?.max()).saturating_mul(U256::from(ENTRY_GAS));
        let balance = node.balance(sender.account()).await?;
        Ok(balance.checked_div(each).map(|entries| entries.saturating_to()))
    }

    /// What a client must be configured with to verify this ledger, as the node says it: for a hub that trusts its own
    /// engine, to hand out.
    pub async fn genesis(&self) -> Result<Genesis, NodeError> {
        let keys = self.view(abi::genesisKeysCall {}).await?;
        let key = |at: usize| public_key("genesisKeys", keys.get(64 * at..).and_then(<[u8]>::first_chunk));
        Ok(Genesis { id: self.inner.first, root: key(0)?, ca: key(1)?, operator: key(2)? })
    }

    /// The key that verifies the originator's next entry, as the node says it.
    pub async fn key_of(&self, originator: Number) -> Result<PublicKey, NodeError> {
        let xy = self.view(abi::keyOfCall { originator: contract::address(&originator) }).await?;
        public_key("keyOf", xy.first_chunk())
    }

    pub(crate) fn node(&self) -> &Node {
        &self.inner.node
    }

    pub(crate) fn address(&self) -> Address {
        self.inner.address
    }

    pub(crate) fn sender(&self) -> &Sender {
        &self.inner.sender
    }

    pub(crate) async fn view<C: alloy::sol_types::SolCall>(&self, call: C) -> Result<C::Return, NodeError> {
        self.inner.node.view(self.inner.address, call).await
    }

    /// Submits an entry and waits until it is final. Concurrent calls share blocks.
    ///
    /// Submitting the same entry again is safe: if the ledger has it (among its newest 256) its record is returned. Signed
    /// anew it counts as the same: the record has the first signature.
    pub async fn submit(&self, entry: &SignedEntry) -> Result<Record, SubmitError> {
        self.try_submit(entry).await.map(|submitted| submitted.record).map_err(|failure| failure.error)
    }

    /// Like [`submit`](Self::submit), with the contract's own words for a refusal.
    pub(crate) async fn try_submit(&self, entry: &SignedEntry) -> Result<Submitted, Failure> {
        // First as a call: what the contract refuses costs neither a block nor a place in the file.
        match self.would_take(entry).await {
            Ok(()) => self.send(entry).await,
            Err(failure) => self.unless_taken(entry, failure).await,
        }
    }

    /// Submits an entry that the contract [would take](Self::would_take).
    pub(crate) async fn send(&self, entry: &SignedEntry) -> Result<Submitted, Failure> {
        let inner = &*self.inner;
        let data = contract::submission(entry);
        let mut ticker = inner.node.ticker();
        let sent = inner.sender.send(&inner.node, TxKind::Call(inner.address), data.into()).await?;
        self.outcome(entry, &mut ticker, sent).await
    }

    /// Whether the contract would take it now, by a call.
    pub(crate) async fn would_take(&self, entry: &SignedEntry) -> Result<(), Failure> {
        let inner = &*self.inner;
        let data = contract::submission(entry);
        inner.node.eth_call(inner.address, data, BlockNumberOrTag::Latest).await.map(drop).map_err(Failure::from)
    }

    /// Submits entries all at once, such as those of one originator with consecutive nonces: they share transactions, where
    /// one after the other would take a block each. The results are in the order of the entries.
    pub async fn submit_all(&self, entries: &[SignedEntry]) -> Vec<Result<Record, SubmitError>> {
        let results = self.try_submit_all(entries).await;
        results
            .into_iter()
            .map(|result| result.map(|submitted| submitted.record).map_err(|failure| failure.error))
            .collect()
    }

    /// Like [`submit_all`](Self::submit_all), with the contract's own words for refusals.
    pub(crate) async fn try_submit_all(&self, entries: &[SignedEntry]) -> Vec<Result<Submitted, Failure>> {
        let mut results = Vec::with_capacity(entries.len());
        let mut rest = entries;
        while let Some(first) = rest.first() {
            let (now, later) = rest.split_at(batch::fits(rest));
            match now {
                [_] => results.push(self.send(first).await),
                _ => results.extend(self.send_together(now).await),
            }
            rest = later;
        }
        results
    }

    /// One transaction for all of them. The contract takes or refuses each by itself.
    async fn send_together(&self, entries: &[SignedEntry]) -> Vec<Result<Submitted, Failure>> {
        let outcomes = match self.outcomes(entries).await {
            Ok(Some(outcomes)) => outcomes,
            Err(error) => return entries.iter().map(|_| same(&error)).map(Failure::from).map(Err).collect(),
            Ok(None) => {
                let mut results = Vec::with_capacity(entries.len());
                for entry in entries {
                    results.push(self.try_submit(entry).await);
                }
                return results;
            }
        };
        let mut results = Vec::with_capacity(entries.len());
        for (entry, outcome) in entries.iter().zip(outcomes) {
            results.push(match outcome {
                Ok(record) => submitted(entry, record).map_err(Failure::from),
                Err(data) => self.unless_taken(entry, Failure::reverted(data)).await,
            });
        }
        results
    }

    /// What became of each in one transaction; `None` if the gas of one does not suffice for all.
    async fn outcomes(&self, entries: &[SignedEntry]) -> Result<Option<Vec<Outcome>>, SubmitError> {
        let inner = &*self.inner;
        let data = contract::submissions(entries);
        let mut ticker = inner.node.ticker();
        let sent = match inner.sender.send(&inner.node, TxKind::Call(inner.address), data.into()).await {
            // By the node's estimate of the gas: some say it with the contract's words, some with their own.
            Err(SubmitError::Reverted(_) | SubmitError::Refused(_) | SubmitError::Node(NodeError::Refused { .. })) => {
                return Ok(None);
            }
            other => other?,
        };
        let receipt = inner.sender.wait(&inner.node, &mut ticker, sent).await?;
        if receipt.status.is_zero() {
            return Ok(None);
        }
        batch::outcomes(&receipt.logs, inner.address, entries.len()).map(Some).map_err(SubmitError::Node)
    }

    /// What became of a transaction that carries `entry`.
    async fn outcome(&self, entry: &SignedEntry, ticker: &mut Ticker, sent: Sent) -> Result<Submitted, Failure> {
        let inner = &*self.inner;
        let receipt = inner.sender.wait(&inner.node, ticker, sent).await?;
        if receipt.status.is_zero() {
            let failure = match receipt.revert_reason {
                Some(data) => Failure::reverted(data.to_vec()),
                // The node does not tell why: the same call now most likely fails for the same reason.
                None => {
                    let data = contract::submission(entry);
                    match inner.node.eth_call(inner.address, data, BlockNumberOrTag::Latest).await {
                        Ok(_) => SubmitError::Dropped.into(),
                        Err(error) => error.into(),
                    }
                }
            };
            return self.unless_taken(entry, failure).await;
        }
        let found = receipt
            .logs
            .iter()
            .find(|log| log.inner.address == inner.address && log.inner.data.topics().first() == Some(&ENTRY_TOPIC));
        let log = found.ok_or_else(|| NodeError::answer("eth_getTransactionReceipt", "no Entry event"))?;
        Ok(submitted(entry, record(&log.inner.data)?)?)
    }

    /// A used nonce may mean that this very entry was taken before and the answer lost.
    pub(crate) async fn unless_taken(&self, entry: &SignedEntry, failure: Failure) -> Result<Submitted, Failure> {
        if let SubmitError::Refused(Refusal::BadNonce { expected, got }) = failure.error
            && expected > got
            && let Some(record) = self.find(entry).await?
        {
            return Ok(Submitted { record, is_new: false });
        }
        Err(failure)
    }

    /// The record of this entry, perhaps signed another time, if it is among the newest.
    async fn find(&self, entry: &SignedEntry) -> Result<Option<Record>, NodeError> {
        let digest = entry.digest(&self.inner.id);
        let mut end = self.height().await?;
        let oldest = end.saturating_sub(LOOK_BACK);
        while end > oldest {
            let from = end.saturating_sub(PAGE as u64).max(oldest);
            let page = self.page(from, usize::try_from(end - from).unwrap_or(PAGE)).await?;
            let first = page.first().map(|record| record.index);
            if let Some(found) = page.into_iter().rev().find(|record| record.entry.digest(&self.inner.id) == digest) {
                return Ok(Some(found));
            }
            end = first.unwrap_or(from).min(end - 1);
        }
        Ok(None)
    }

    /// The records from index `from` on, in order, at most `max` and at most [`MAX_RECORDS`]. Fewer, but at least one,
    /// if they are long (8 MiB and more); none if the ledger is not that long.
    pub async fn records(&self, from: u64, max: usize) -> Result<Vec<Record>, NodeError> {
        self.records_within(from, max, MAX_RECORDS_BYTES).await.map(|(_, records)| records)
    }

    /// The ledger's height, and the records from `from` on whose bodies add up to `max_bytes`, but at least one.
    pub(crate) async fn records_within(
        &self,
        from: u64,
        max: usize,
        max_bytes: usize,
    ) -> Result<(u64, Vec<Record>), NodeError> {
        /// What a record has around its body, as hex about as much as this.
        const AROUND: usize = 160;
        let height = self.height().await?;
        let wanted = usize::try_from(height.saturating_sub(from)).unwrap_or(usize::MAX).min(max).min(MAX_RECORDS);
        let mut records = Vec::new();
        let mut bytes = 0;
        while records.len() < wanted {
            for record in self.page(from + records.len() as u64, (wanted - records.len()).min(PAGE)).await? {
                bytes += record.entry.encoded_body().len() + AROUND;
                if bytes > max_bytes && !records.is_empty() {
                    return Ok((height, records));
                }
                records.push(record);
            }
        }
        Ok((height, records))
    }

    /// At most `count` records that the ledger has, at least one. What one endpoint gives, the most of those that answer must
    /// have too.
    async fn page(&self, from: u64, count: usize) -> Result<Vec<Record>, NodeError> {
        let Inner { node, places, .. } = &*self.inner;
        agreed(node, places, from, count).await
    }

    /// How many entries there are.
    pub async fn height(&self) -> Result<u64, NodeError> {
        self.view(abi::heightCall {}).await
    }

    /// How many entries there are, and the head.
    pub async fn head(&self) -> Result<Head, NodeError> {
        loop {
            let height = self.height().await?;
            if height == 0 {
                let hash = self.view(abi::headCall {}).await?;
                if self.height().await? == 0 {
                    return Ok(Head { height, hash: Hash::from(hash.0) });
                }
            } else if let Some(last) = self.records(height - 1, 1).await?.pop() {
                return Ok(Head { height, hash: last.head });
            }
        }
    }

    /// Turns to another endpoint if one has more entries than `height`, which is all that the present one shows.
    async fn leave_stale_endpoint(&self, height: u64) {
        let endpoints = self.inner.node.endpoints();
        for other in endpoints.others() {
            if let Ok(has) = other.view(self.inner.address, abi::heightCall {}).await
                && has > height
            {
                return endpoints.turn_away(&format!("{} has {has} entries, and it shows {height}", other.name()));
            }
        }
    }

    /// The nonce that the originator's next entry must have.
    pub async fn nonce_of(&self, originator: Number) -> Result<u64, NodeError> {
        self.view(abi::nonceOfCall { originator: contract::address(&originator) }).await
    }

    /// Follows the ledger from index `from` on.
    pub fn watch(&self, from: u64) -> Watch {
        Watch {
            ledger: self.clone(),
            next: from,
            ticker: self.inner.node.ticker(),
            found_nothing: 0,
            has_failed: false,
        }
    }
}

/// New records as they come. With the embedded engine they come at once, otherwise at the next poll.
#[derive(Debug)]
pub struct Watch {
    ledger: Ledger,
    next: u64,
    ticker: Ticker,
    found_nothing: u32,
    has_failed: bool,
}

impl Watch {
    /// Waits for records; the next call continues after them. Cancel safe. After an error it can be called again, and then
    /// it gives none as soon as the ledger can be read, if nothing is new.
    pub async fn next(&mut self) -> Result<Vec<Record>, NodeError> {
        loop {
            let records = self.ledger.records(self.next, PAGE).await.inspect_err(|_| self.has_failed = true)?;
            if !records.is_empty() || std::mem::take(&mut self.has_failed) {
                self.has_failed = false;
                self.next += records.len() as u64;
                self.found_nothing = 0;
                return Ok(records);
            }
            self.found_nothing += 1;
            if self.found_nothing.is_multiple_of(OTHERS_EVERY) {
                self.ledger.leave_stale_endpoint(self.next).await;
            }
            self.ticker.tick().await;
        }
    }
}

/// An entry's record.
#[derive(Debug)]
pub(crate) struct Submitted {
    pub(crate) record: Record,
    /// Whether this submission put it there; `false` if it was on the ledger before.
    pub(crate) is_new: bool,
}

/// What a receipt says of `entry`.
fn submitted(entry: &SignedEntry, record: Record) -> Result<Submitted, NodeError> {
    if record.entry != *entry {
        return Err(NodeError::answer("eth_getTransactionReceipt", "the receipt is of another entry"));
    }
    Ok(Submitted { record, is_new: true })
}

/// Why a submission failed, with the contract's words if it is the contract that refused.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) error: SubmitError,
    pub(crate) revert: Option<Vec<u8>>,
}

impl Failure {
    fn reverted(data: Vec<u8>) -> Self {
        Self { error: SubmitError::reverted(&data), revert: Some(data) }
    }

    /// Whether the entry may be on the ledger, or come to be.
    pub(crate) fn may_be_on_ledger(&self) -> bool {
        matches!(self.error, SubmitError::Pending { .. } | SubmitError::Node(_))
    }
}

/// The error of a transaction once more, for another entry in it.
fn same(error: &SubmitError) -> SubmitError {
    match error {
        SubmitError::Dropped => SubmitError::Dropped,
        SubmitError::Pending { waited_s } => SubmitError::Pending { waited_s: *waited_s },
        other => NodeError::answer("eth_sendRawTransaction", other).into(),
    }
}

impl From<SubmitError> for Failure {
    fn from(error: SubmitError) -> Self {
        Self { error, revert: None }
    }
}

impl From<NodeError> for Failure {
    fn from(error: NodeError) -> Self {
        match error.revert() {
            Some(data) => Self::reverted(data.to_vec()),
            None => SubmitError::Node(error).into(),
        }
    }
}

async fn require_funds(node: &Node, sender: &Sender) -> Result<(), AttachError> {
    let account = sender.account();
    if node.quoted_fees().await?.max() > 0 && node.balance(account).await?.is_zero() {
        return Err(AttachError::NoFunds { chain_id: sender.chain_id(), account: account.into_array() });
    }
    Ok(())
}

async fn probe(node: &Node) -> Result<(), AttachError> {
    let output = node.eth_call(contract::P256VERIFY, contract::P256_PROBE.to_vec(), BlockNumberOrTag::Latest).await?;
    // Where the precompile does not exist the call succeeds with empty output.
    if output.len() == 32 && U256::from_be_slice(&output) == U256::ONE { Ok(()) } else { Err(AttachError::NoP256) }
}
