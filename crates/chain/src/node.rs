//! A connection to an EVM node, or to several of one network, and the few things that the ledger's client asks of them.

use std::{borrow::Cow, time::Duration};

use alloy::{
    eips::BlockNumberOrTag,
    primitives::{Address, B256, Bytes, U64, U128, U256},
    rpc::types::{FeeHistory, Log, TransactionRequest},
    sol_types::SolCall,
};
use sealcast_ledger_client::{Channel, ChannelError, Endpoints, Finality, NodeError};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::sync::watch;

use crate::{
    engine::{Engine, Progress},
    fees::{self, Fees},
};

/// How often a node that does not signal its blocks is asked.
const POLL: Duration = Duration::from_millis(250);

/// An EVM node: the embedded engine, or a network's. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Node {
    endpoints: Endpoints,
    /// Of the embedded engine. Fees are zero there, and what is written is final.
    progress: Option<watch::Receiver<Progress>>,
    /// The most that is offered for a transaction, in wei per gas. Nothing is, to the embedded engine.
    max_fee: u128,
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
        let endpoints = Endpoints::new([("the embedded ledger".to_owned(), engine.clone())], Finality::Finalized);
        Self { endpoints, progress: Some(engine.progress()), max_fee: 0 }
    }

    /// Nodes of a network at the Osaka upgrade or later. For a transaction at most `max_fee_gwei` is offered, in Gwei per gas,
    /// whatever they say that it costs.
    pub fn network(endpoints: Endpoints, max_fee_gwei: u64) -> Self {
        Self { endpoints, progress: None, max_fee: u128::from(max_fee_gwei) * fees::GWEI }
    }

    /// How it is asked.
    pub(crate) fn endpoints(&self) -> &Endpoints {
        &self.endpoints
    }

    pub(crate) async fn request<P: Serialize, R: DeserializeOwned>(
        &self,
        method: impl Into<Cow<'static, str>>,
        params: P,
    ) -> Result<R, NodeError> {
        self.endpoints.request(method, params).await
    }

    /// How long a transaction may take until it is in a final block.
    pub(crate) fn patience(&self) -> Duration {
        if self.is_embedded() { Finality::Latest.patience() } else { self.endpoints.finality().patience() }
    }

    pub(crate) fn is_embedded(&self) -> bool {
        self.progress.is_some()
    }

    /// The network's chain id.
    ///
    /// # Errors
    /// No endpoint says it.
    pub async fn chain_id(&self) -> Result<u64, NodeError> {
        self.endpoints.chain_id().await
    }

    /// Calls a contract's view, on the newest final state.
    pub(crate) async fn view<C: SolCall>(&self, to: Address, call: C) -> Result<C::Return, NodeError> {
        self.endpoints.view(to, call).await
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
            if fees.max() <= self.max_fee {
                return Ok(fees);
            }
            let [wanted, most] = [fees.max(), self.max_fee].map(|fee| fee / fees::GWEI);
            let what = format!(
                "a transaction would cost {wanted} Gwei per gas, and ledger.max_fee_gwei of hub.toml is {most}"
            );
            let error = NodeError::answer("eth_feeHistory", what);
            if asked >= self.endpoints.count() {
                return Err(error);
            }
            self.endpoints.turn_away(&error);
            asked += 1;
        }
    }

    /// What to offer for a transaction in the place of one that waits, for which `before` was offered; `None` if that is more
    /// than may be paid.
    pub(crate) async fn fees_to_replace(&self, before: Fees) -> Result<Option<Fees>, NodeError> {
        let may_pay = |fees: &Fees| fees.max() <= self.max_fee;
        let now = Some(self.quoted_fees().await?).filter(may_pay);
        Ok(Some(before.to_replace(now.unwrap_or(before))).filter(may_pay))
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
        Ok(self.endpoints.final_number().await?.is_some_and(|last| last >= block))
    }

    pub(crate) fn ticker(&self) -> Ticker {
        Ticker { progress: self.progress.clone() }
    }
}

impl Channel for Engine {
    async fn call(&self, request: Vec<u8>) -> Result<Vec<u8>, ChannelError> {
        Ok(self.handle(&request).await)
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
