//! A connection to an EVM node, and the few things that the ledger's client asks of it.

use std::{borrow::Cow, time::Duration};

use alloy::{
    eips::BlockNumberOrTag,
    primitives::{Address, B256, Bytes, U64, U128},
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
    fees,
    transport::CallTransport,
};

/// How often a node that does not signal its blocks is asked.
const POLL: Duration = Duration::from_millis(250);

/// A connection to an EVM node: the embedded engine, or any other over a [`Channel`]. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Node {
    client: RpcClient,
    /// Only the embedded engine has it: fees are zero there, and what is written is final.
    progress: Option<watch::Receiver<Progress>>,
}

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
        Self { client: RpcClient::new(CallTransport::new(engine.clone()), true), progress: Some(engine.progress()) }
    }

    /// Another node, of any network at the Osaka upgrade or later.
    pub fn over(channel: impl Channel) -> Self {
        Self { client: RpcClient::new(CallTransport::new(channel), false), progress: None }
    }

    pub(crate) async fn request<P: RpcSend, R: RpcRecv>(
        &self,
        method: &'static str,
        params: P,
    ) -> Result<R, NodeError> {
        self.client.request(method, params).await.map_err(|error| node_error(method, error))
    }

    /// Passes a request on as it is.
    pub(crate) async fn pass<P: RpcSend>(&self, method: String, params: P) -> Result<serde_json::Value, NodeError> {
        self.client.request(method.clone(), params).await.map_err(|error| node_error(method, error))
    }

    pub(crate) async fn chain_id(&self) -> Result<u64, NodeError> {
        self.request::<_, U64>("eth_chainId", ()).await.map(|id| id.to())
    }

    /// Calls a contract's view, on the newest final state.
    pub(crate) async fn view<C: SolCall>(&self, to: Address, call: C) -> Result<C::Return, NodeError> {
        let output = self.eth_call(to, call.abi_encode(), BlockNumberOrTag::Finalized).await?;
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

    /// Whether the node knows the transaction, waiting or in a block.
    pub(crate) async fn knows(&self, hash: B256) -> Result<bool, NodeError> {
        let found: Option<serde::de::IgnoredAny> = self.request("eth_getTransactionByHash", (hash,)).await?;
        Ok(found.is_some())
    }

    /// Fees for a transaction, (most, priority) in wei per gas.
    pub(crate) async fn fees(&self) -> Result<(u128, u128), NodeError> {
        if self.progress.is_some() {
            return Ok((0, 0));
        }
        let wanted = (U64::from(fees::BLOCKS), BlockNumberOrTag::Latest, [fees::PERCENTILE]);
        let history: FeeHistory = self.request("eth_feeHistory", wanted).await?;
        let base = match history.latest_block_base_fee() {
            Some(base) if base != 0 => base,
            // Zero stands for "none" too, so the block itself is asked.
            _ => self.base_fee().await?,
        };
        Ok(fees::estimate(base, &history.reward.unwrap_or_default()))
    }

    /// The newest block's base fee, in wei per gas.
    async fn base_fee(&self) -> Result<u128, NodeError> {
        const METHOD: &str = "eth_getBlockByNumber";
        #[derive(Deserialize, Clone, Debug)]
        #[serde(rename_all = "camelCase")]
        struct Head {
            base_fee_per_gas: Option<U128>,
        }
        let head: Option<Head> = self.request(METHOD, (BlockNumberOrTag::Latest, false)).await?;
        let base = head.and_then(|head| head.base_fee_per_gas);
        base.map(|fee| fee.to()).ok_or_else(|| {
            NodeError::answer(METHOD, "the newest block has no base fee: the network must have EIP-1559")
        })
    }

    /// Whether a block can no longer be taken back.
    pub(crate) async fn is_final(&self, block: u64) -> Result<bool, NodeError> {
        if self.progress.is_some() {
            return Ok(true);
        }
        #[derive(Deserialize, Clone, Debug)]
        struct Head {
            number: U64,
        }
        let head: Option<Head> = self.request("eth_getBlockByNumber", ("finalized", false)).await?;
        Ok(head.is_some_and(|head| head.number.to::<u64>() >= block))
    }

    pub(crate) fn ticker(&self) -> Ticker {
        Ticker { progress: self.progress.clone() }
    }
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
