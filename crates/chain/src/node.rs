//! A connection to an EVM node, or to several of one network, and the few things that the ledger's client asks of them.

use std::{
    borrow::Cow,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use alloy::{
    eips::BlockNumberOrTag,
    primitives::{Address, B256, Bytes, U64, U128, U256},
    rpc::{
        client::RpcClient,
        json_rpc::{RpcError, RpcRecv, RpcSend},
        types::{FeeHistory, Filter, Log, TransactionRequest},
    },
    sol_types::SolCall,
    transports::{TransportError, TransportErrorKind},
};
use sealcast_ledger_client::{Channel, NodeError};
use serde::Deserialize;
use tokio::sync::watch;

use crate::{
    engine::{Engine, Progress},
    fees::{self, Fees},
    finality::Finality,
    transport::CallTransport,
};

/// How often a node that does not signal its blocks is asked.
const POLL: Duration = Duration::from_millis(250);

/// An EVM node: the embedded engine, or a network's. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Node {
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    /// Fees are zero there, and what is written is final.
    Embedded {
        client: RpcClient,
        progress: watch::Receiver<Progress>,
    },
    Network(Arc<Network>),
}

/// Nodes of one network, of which one is asked until it does not answer.
#[derive(Debug)]
struct Network {
    /// What people call them, and how they are asked.
    endpoints: Vec<(String, RpcClient)>,
    /// The one that is asked.
    present: AtomicUsize,
    finality: Finality,
    /// The most that is offered for a transaction, in wei per gas.
    max_fee: u128,
}

/// The endpoints that did not answer, and why.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("; "))]
struct Silent(Vec<String>);

/// What the client looks at in a receipt.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Receipt {
    pub(crate) status: U64,
    pub(crate) block_number: U64,
    pub(crate) logs: Vec<Log>,
    pub(crate) contract_address: Option<Address>,
    /// What the contract said when it reverted, where the node tells (the embedded engine, Besu).
    #[serde(default)]
    pub(crate) revert_reason: Option<Bytes>,
}

impl Node {
    /// The engine in this process.
    pub fn embedded(engine: &Engine) -> Self {
        let client = RpcClient::new(CallTransport::new(engine.clone()), true);
        Self { kind: Kind::Embedded { client, progress: engine.progress() } }
    }

    /// Nodes of a network at the Osaka upgrade or later, each with a name for the log. The first that answers is asked. For a
    /// transaction at most `max_fee_gwei` is offered, in Gwei per gas, whatever they say that it costs.
    pub fn network<C: Channel>(
        endpoints: impl IntoIterator<Item = (String, C)>,
        finality: Finality,
        max_fee_gwei: u64,
    ) -> Self {
        let client = |channel| RpcClient::new(CallTransport::new(channel), false);
        let endpoints = endpoints.into_iter().map(|(name, channel)| (name, client(channel))).collect();
        let max_fee = u128::from(max_fee_gwei) * fees::GWEI;
        Self { kind: Kind::Network(Arc::new(Network::new(endpoints, finality, max_fee))) }
    }

    pub(crate) async fn request<P: RpcSend, R: RpcRecv>(
        &self,
        method: &'static str,
        params: P,
    ) -> Result<R, NodeError> {
        self.ask(method.into(), params).await
    }

    /// Passes a request on as it is.
    pub(crate) async fn pass<P: RpcSend>(&self, method: String, params: P) -> Result<serde_json::Value, NodeError> {
        self.ask(method.into(), params).await
    }

    async fn ask<P: RpcSend, R: RpcRecv>(&self, method: Cow<'static, str>, params: P) -> Result<R, NodeError> {
        match &self.kind {
            Kind::Embedded { client, .. } => ask(client, method, params).await,
            Kind::Network(network) => network.ask(method, params).await,
        }
    }

    /// How many endpoints there are; 1 if it is embedded.
    pub(crate) fn endpoints(&self) -> usize {
        match &self.kind {
            Kind::Embedded { .. } => 1,
            Kind::Network(network) => network.endpoints.len(),
        }
    }

    /// Asks another endpoint from now on, as the present one's answers are wrong for this reason.
    pub(crate) fn turn_away(&self, why: &dyn std::fmt::Display) {
        let Kind::Network(network) = &self.kind else { return };
        let at = network.present.load(Ordering::Relaxed);
        if network.endpoints.len() > 1 {
            let name = network.endpoints.get(at).map_or("", |(name, _)| name);
            tracing::warn!(endpoint = %name, "another endpoint of the ledger's network is asked from now on: {why}");
            network.present.store((at + 1) % network.endpoints.len(), Ordering::Relaxed);
        }
    }

    /// The endpoints that are not asked at present, each as a node of its own, with its name.
    pub(crate) fn others(&self) -> Vec<(String, Self)> {
        let Kind::Network(network) = &self.kind else { return Vec::new() };
        let present = network.present.load(Ordering::Relaxed);
        let others = network.endpoints.iter().enumerate().filter(|(at, _)| *at != present);
        others
            .map(|(_, endpoint)| {
                let alone = Network::new(vec![endpoint.clone()], network.finality, network.max_fee);
                (endpoint.0.clone(), Self { kind: Kind::Network(Arc::new(alone)) })
            })
            .collect()
    }

    /// How long a transaction may take until it is in a final block.
    pub(crate) fn patience(&self) -> Duration {
        match &self.kind {
            Kind::Embedded { .. } => Finality::Latest.patience(),
            Kind::Network(network) => network.finality.patience(),
        }
    }

    pub(crate) fn is_embedded(&self) -> bool {
        matches!(self.kind, Kind::Embedded { .. })
    }

    /// The newest final block, as a parameter for a request.
    pub(crate) async fn final_block(&self) -> Result<BlockNumberOrTag, NodeError> {
        match &self.kind {
            Kind::Embedded { .. } => Ok(BlockNumberOrTag::Finalized),
            Kind::Network(network) => {
                let latest = match network.finality {
                    Finality::Blocks(_) => self.block_number().await?,
                    _ => 0,
                };
                Ok(network.finality.block(latest))
            }
        }
    }

    async fn block_number(&self) -> Result<u64, NodeError> {
        self.request::<_, U64>("eth_blockNumber", ()).await.map(|number| number.to())
    }

    pub(crate) async fn chain_id(&self) -> Result<u64, NodeError> {
        self.request::<_, U64>("eth_chainId", ()).await.map(|id| id.to())
    }

    /// Calls a contract's view, on the newest final state.
    pub(crate) async fn view<C: SolCall>(&self, to: Address, call: C) -> Result<C::Return, NodeError> {
        let output = self.eth_call(to, call.abi_encode(), self.final_block().await?).await?;
        if output.is_empty() {
            let what = format!("there is no contract at {to}: the endpoint shows another chain, or is behind");
            return Err(NodeError::answer(C::SIGNATURE, what));
        }
        C::abi_decode_returns_validate(&output).map_err(|error| NodeError::answer(C::SIGNATURE, error))
    }

    pub(crate) async fn eth_call(
        &self,
        to: Address,
        data: Vec<u8>,
        block: BlockNumberOrTag,
    ) -> Result<Bytes, NodeError> {
        let request = TransactionRequest::default().to(to).input(Bytes::from(data).into());
        self.request("eth_call", (request, block)).await
    }

    pub(crate) async fn logs(&self, filter: &Filter) -> Result<Vec<Log>, NodeError> {
        self.request("eth_getLogs", (filter,)).await
    }

    pub(crate) async fn receipt(&self, hash: B256) -> Result<Option<Receipt>, NodeError> {
        self.request("eth_getTransactionReceipt", (hash,)).await
    }

    /// Hands over a signed transaction.
    pub(crate) async fn send_raw(&self, signed: &Bytes) -> Result<(), NodeError> {
        self.request::<_, B256>("eth_sendRawTransaction", (signed,)).await.map(drop)
    }

    /// Whether the node knows the transaction, waiting or in a block.
    pub(crate) async fn knows(&self, hash: B256) -> Result<bool, NodeError> {
        let found: Option<serde::de::IgnoredAny> = self.request("eth_getTransactionByHash", (hash,)).await?;
        Ok(found.is_some())
    }

    /// What to offer for a transaction. An endpoint that asks more than may be paid is left: it could have the account emptied.
    pub(crate) async fn fees(&self) -> Result<Fees, NodeError> {
        let mut asked = 1;
        loop {
            let fees = self.quoted_fees().await?;
            let Some(most) = self.max_fee().filter(|most| fees.max() > *most) else { return Ok(fees) };
            let [wanted, most] = [fees.max(), most].map(|fee| fee / fees::GWEI);
            let what = format!(
                "a transaction would cost {wanted} Gwei per gas, and ledger.max_fee_gwei of hub.toml is {most}"
            );
            let error = NodeError::answer("eth_feeHistory", what);
            if asked >= self.endpoints() {
                return Err(error);
            }
            self.turn_away(&error);
            asked += 1;
        }
    }

    /// What to offer for a transaction in the place of one that waits, for which `before` was offered; `None` if that is more
    /// than may be paid.
    pub(crate) async fn fees_to_replace(&self, before: Fees) -> Result<Option<Fees>, NodeError> {
        let may_pay = |fees: &Fees| self.max_fee().is_none_or(|most| fees.max() <= most);
        let now = Some(self.quoted_fees().await?).filter(may_pay);
        Ok(Some(before.to_replace(now.unwrap_or(before))).filter(may_pay))
    }

    fn max_fee(&self) -> Option<u128> {
        match &self.kind {
            Kind::Embedded { .. } => None,
            Kind::Network(network) => Some(network.max_fee),
        }
    }

    /// What the node would have offered for a transaction.
    pub(crate) async fn quoted_fees(&self) -> Result<Fees, NodeError> {
        if self.is_embedded() {
            return Ok(Fees::NONE);
        }
        let wanted = (U64::from(fees::BLOCKS), BlockNumberOrTag::Latest, [fees::PERCENTILE]);
        let history: FeeHistory = match self.request("eth_feeHistory", wanted).await {
            Ok(history) => history,
            // The method came with EIP-1559.
            Err(NodeError::Refused { .. }) => return self.gas_price().await.map(Fees::Legacy),
            Err(error) => return Err(error),
        };
        let base = match history.latest_block_base_fee() {
            // Zero stands for "none" too, so the block itself is asked.
            None | Some(0) => self.base_fee().await?,
            base => base,
        };
        match base {
            None => self.gas_price().await.map(Fees::Legacy),
            // A network without fees takes transactions of accounts that have nothing, and only if they offer nothing.
            Some(0) if self.gas_price().await? == 0 => Ok(Fees::NONE),
            Some(base) => Ok(fees::estimate(base, &history.reward.unwrap_or_default())),
        }
    }

    async fn gas_price(&self) -> Result<u128, NodeError> {
        self.request::<_, U128>("eth_gasPrice", ()).await.map(|price| price.to())
    }

    /// What an account has, in wei.
    pub(crate) async fn balance(&self, of: Address) -> Result<U256, NodeError> {
        self.request("eth_getBalance", (of, BlockNumberOrTag::Latest)).await
    }

    /// The newest block's base fee, in wei per gas, if the network has such a fee.
    async fn base_fee(&self) -> Result<Option<u128>, NodeError> {
        #[derive(Deserialize, Clone, Debug)]
        #[serde(rename_all = "camelCase")]
        struct Head {
            base_fee_per_gas: Option<U128>,
        }
        let head: Option<Head> = self.request("eth_getBlockByNumber", (BlockNumberOrTag::Latest, false)).await?;
        Ok(head.and_then(|head| head.base_fee_per_gas).map(|fee| fee.to()))
    }

    /// Whether a block can no longer be taken back.
    pub(crate) async fn is_final(&self, block: u64) -> Result<bool, NodeError> {
        if self.is_embedded() {
            return Ok(true);
        }
        Ok(self.final_number().await?.is_some_and(|last| last >= block))
    }

    /// The number of the newest final block; `None` if there is none yet.
    pub(crate) async fn final_number(&self) -> Result<Option<u64>, NodeError> {
        #[derive(Deserialize, Clone, Debug)]
        struct Head {
            number: U64,
        }
        if let BlockNumberOrTag::Number(number) = self.final_block().await? {
            return Ok(Some(number));
        }
        let head: Option<Head> = self.request("eth_getBlockByNumber", (self.final_block().await?, false)).await?;
        Ok(head.map(|head| head.number.to()))
    }

    pub(crate) fn ticker(&self) -> Ticker {
        match &self.kind {
            Kind::Embedded { progress, .. } => Ticker { progress: Some(progress.clone()) },
            Kind::Network(_) => Ticker { progress: None },
        }
    }
}

impl Network {
    fn new(endpoints: Vec<(String, RpcClient)>, finality: Finality, max_fee: u128) -> Self {
        Self { endpoints, present: AtomicUsize::new(0), finality, max_fee }
    }

    /// Asks the node that answered last, then the others.
    async fn ask<P: RpcSend, R: RpcRecv>(&self, method: Cow<'static, str>, params: P) -> Result<R, NodeError> {
        let first = self.present.load(Ordering::Relaxed);
        let count = self.endpoints.len();
        let mut silent = Vec::new();
        for at in (first..first + count).map(|at| at % count) {
            let Some((name, client)) = self.endpoints.get(at) else { break };
            match ask(client, method.clone(), params.clone()).await {
                Err(NodeError::Transport { source, .. }) => silent.push(format!("{name}: {source}")),
                answered => {
                    self.note_answer(at, first, &silent);
                    return answered;
                }
            }
        }
        Err(NodeError::Transport { method, source: Silent(silent).into() })
    }

    /// Says in the log which endpoint answers, if it is not the one that did before.
    fn note_answer(&self, at: usize, before: usize, silent: &[String]) {
        let name = |at: usize| self.endpoints.get(at).map_or("", |(name, _)| name);
        if at != before && self.present.swap(at, Ordering::Relaxed) != at {
            tracing::warn!(
                endpoint = %name(at),
                "another endpoint of the ledger's network is asked from now on; no answer from {}",
                silent.join("; ")
            );
        }
    }
}

async fn ask<P: RpcSend, R: RpcRecv>(client: &RpcClient, method: Cow<'static, str>, params: P) -> Result<R, NodeError> {
    client.request(method.clone(), params).await.map_err(|error| node_error(method, error))
}

/// Waits for something to have changed on the node.
#[derive(Debug)]
pub(crate) struct Ticker {
    progress: Option<watch::Receiver<Progress>>,
}

impl Ticker {
    /// Until the next block, or until it is time to ask again.
    pub(crate) async fn tick(&mut self) {
        match &mut self.progress {
            Some(progress) => {
                if progress.changed().await.is_err() {
                    // The engine is gone; whoever asks will find out.
                    tokio::time::sleep(POLL).await;
                }
            }
            None => tokio::time::sleep(POLL).await,
        }
    }
}

/// alloy's error as the client's.
fn node_error(method: impl Into<Cow<'static, str>>, error: TransportError) -> NodeError {
    let method = method.into();
    match error {
        RpcError::ErrorResp(error) => {
            let data = || error.as_revert_data().map(|data| data.to_vec());
            NodeError::refused(method, error.code, error.message.to_string(), data)
        }
        RpcError::DeserError { err, .. } => NodeError::answer(method, err),
        RpcError::NullResp => NodeError::answer(method, "null"),
        RpcError::Transport(TransportErrorKind::Custom(source)) => NodeError::Transport { method, source },
        other => NodeError::Transport { method, source: other.into() },
    }
}
