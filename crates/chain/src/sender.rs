//! The wallet's transactions: signed, sent, sent again when they are stuck or lost, and waited for until they are final.

use alloy::{
    consensus::{TxEip1559, TxLegacy},
    eips::eip2718::Encodable2718 as _,
    primitives::{Address, B256, Bytes, TxKind, U64, U256},
    rpc::types::TransactionRequest,
};
use sealcast_ledger_client::{NodeError, SubmitError};
use tokio::{
    sync::Mutex,
    time::{Duration, Instant, timeout_at},
};

use crate::{
    engine::MAX_TX_GAS,
    fees::Fees,
    node::{Node, Receipt, Ticker},
    wallet::{Wallet, WalletError},
};

/// How often a transaction whose nonce was taken meanwhile is signed again.
const NONCE_ATTEMPTS: usize = 3;
/// A transaction that is in no block after so long is sent again, with more offered for it.
const STUCK: Duration = Duration::from_secs(45);

/// The wallet and the nonce that its next transaction takes; `None` when the node must be asked.
#[derive(Debug)]
pub(crate) struct Sender {
    wallet: Wallet,
    chain_id: u64,
    next: Mutex<Option<u64>>,
}

/// A transaction, as it can be signed any number of times with other fees.
#[derive(Debug, Clone)]
struct Unsigned {
    nonce: u64,
    gas_limit: u64,
    to: TxKind,
    data: Bytes,
}

/// A transaction on its way.
#[derive(Debug)]
pub(crate) struct Sent {
    unsigned: Unsigned,
    fees: Fees,
    /// As it was sent last.
    raw: Bytes,
    /// Under each of the fees that were offered, the newest last. Any of them may come to be in a block.
    hashes: Vec<B256>,
    /// When it was sent last.
    at: Instant,
}

impl Sender {
    /// One whose transactions are for the network `chain_id`.
    pub(crate) fn new(wallet: Wallet, chain_id: u64) -> Self {
        Self { wallet, chain_id, next: Mutex::new(None) }
    }

    pub(crate) fn chain_id(&self) -> u64 {
        self.chain_id
    }

    pub(crate) fn account(&self) -> Address {
        Address::from(self.wallet.address())
    }

    /// Signs and sends a transaction. The lock is held until the node has taken it, so that the node sees the nonces in
    /// order; it is not held while the block is written.
    pub(crate) async fn send(&self, node: &Node, to: TxKind, data: Bytes) -> Result<Sent, SubmitError> {
        let fees = node.fees().await?;
        let gas_limit = self.gas_limit(node, to, &data).await?;
        let mut next = self.next.lock().await;
        for attempt in 1.. {
            let nonce = match *next {
                Some(nonce) => nonce,
                None => node.request::<_, U64>("eth_getTransactionCount", (self.account(), "pending")).await?.to(),
            };
            let unsigned = Unsigned { nonce, gas_limit, to, data: data.clone() };
            let (raw, hash) = self.sign(&unsigned, fees)?;
            // Asked again unless this one is taken: a nonce that was not used must not leave a gap.
            *next = None;
            match node.send_raw(&raw).await {
                Ok(()) => {
                    *next = nonce.checked_add(1);
                    return Ok(Sent { unsigned, fees, raw, hashes: vec![hash], at: Instant::now() });
                }
                Err(NodeError::Refused { message, .. }) if message.contains("nonce") && attempt < NONCE_ATTEMPTS => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(pending(node))
    }

    /// Waits until a transaction is in a block that is final.
    pub(crate) async fn wait(&self, node: &Node, ticker: &mut Ticker, sent: Sent) -> Result<Receipt, SubmitError> {
        let outcome = self.wait_until_final(node, ticker, sent).await;
        if matches!(outcome, Err(SubmitError::Dropped | SubmitError::Pending { .. })) {
            // Others may be gone with it, or an endpoint has named a nonce that is not the next one: it is asked for again.
            *self.next.lock().await = None;
        }
        outcome
    }

    async fn wait_until_final(&self, node: &Node, ticker: &mut Ticker, mut sent: Sent) -> Result<Receipt, SubmitError> {
        let deadline = Instant::now() + node.patience();
        loop {
            match sent.receipt(node).await? {
                Some(receipt) if node.is_final(receipt.block_number.to()).await? => return Ok(receipt),
                Some(_) => {}
                None if !sent.is_known(node).await? => self.send_again(node, &mut sent).await?,
                None if sent.at.elapsed() >= STUCK && !node.is_embedded() => self.replace(node, &mut sent).await?,
                None => {}
            }
            timeout_at(deadline, ticker.tick()).await.map_err(|_| pending(node))?;
        }
    }

    /// The node does not know it any more: a reorganisation took back its block, or the node that had it is gone.
    async fn send_again(&self, node: &Node, sent: &mut Sent) -> Result<(), SubmitError> {
        if node.is_embedded() {
            return Err(SubmitError::Dropped);
        }
        match node.send_raw(&sent.raw).await {
            Ok(()) => Ok(()),
            // Unless it is in a block by now, another transaction has its nonce.
            Err(NodeError::Refused { .. }) if sent.receipt(node).await?.is_some() => Ok(()),
            Err(NodeError::Refused { .. }) if !sent.is_known(node).await? => Err(SubmitError::Dropped),
            Err(NodeError::Refused { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Offers more for one that waits.
    async fn replace(&self, node: &Node, sent: &mut Sent) -> Result<(), SubmitError> {
        sent.at = Instant::now();
        let Some(fees) = node.fees_to_replace(sent.fees).await? else {
            tracing::warn!(
                nonce = sent.unsigned.nonce,
                "a transaction waits for long, and ledger.max_fee_gwei of hub.toml does not allow to offer more for it"
            );
            return Ok(());
        };
        let (raw, hash) = self.sign(&sent.unsigned, fees)?;
        match node.send_raw(&raw).await {
            Ok(()) => {
                tracing::info!(nonce = sent.unsigned.nonce, "a transaction waits for long: more is offered for it");
                sent.hashes.push(hash);
                (sent.raw, sent.fees) = (raw, fees);
                Ok(())
            }
            // It may have come into a block meanwhile, or the account has not as much.
            Err(NodeError::Refused { message, .. }) => {
                tracing::warn!(
                    nonce = sent.unsigned.nonce,
                    "a transaction waits for long, and the node refuses more for it: {message}"
                );
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn gas_limit(&self, node: &Node, to: TxKind, data: &Bytes) -> Result<u64, NodeError> {
        if node.is_embedded() {
            return Ok(MAX_TX_GAS);
        }
        // Where gas costs something its limit must be near what is used.
        let mut call = TransactionRequest::default().from(self.account()).input(data.clone().into());
        call.to = Some(to);
        let gas: U64 = node.request("eth_estimateGas", (call,)).await?;
        let gas = gas.to::<u64>();
        Ok(gas.saturating_add(gas / 5).min(MAX_TX_GAS))
    }

    /// The signed transaction and its hash, whatever a node may call it.
    fn sign(&self, unsigned: &Unsigned, fees: Fees) -> Result<(Bytes, B256), SubmitError> {
        let Unsigned { nonce, gas_limit, to, data: input } = unsigned.clone();
        let (chain_id, value) = (self.chain_id, U256::ZERO);
        let signed = match fees {
            Fees::Dynamic { max: max_fee_per_gas, priority: max_priority_fee_per_gas } => self.wallet.sign(TxEip1559 {
                chain_id,
                nonce,
                gas_limit,
                max_fee_per_gas,
                max_priority_fee_per_gas,
                to,
                value,
                access_list: Default::default(),
                input,
            }),
            Fees::Legacy(gas_price) => {
                self.wallet.sign(TxLegacy { chain_id: Some(chain_id), nonce, gas_price, gas_limit, to, value, input })
            }
        };
        signed
            .map(|tx| (tx.encoded_2718().into(), *tx.tx_hash()))
            .map_err(|error: WalletError| SubmitError::Wallet(error.into()))
    }
}

impl Sent {
    /// The receipt of whichever is in a block.
    async fn receipt(&self, node: &Node) -> Result<Option<Receipt>, NodeError> {
        for hash in self.hashes.iter().rev() {
            if let Some(receipt) = node.receipt(*hash).await? {
                return Ok(Some(receipt));
            }
        }
        Ok(None)
    }

    /// Whether the node knows any of them, waiting or in a block.
    async fn is_known(&self, node: &Node) -> Result<bool, NodeError> {
        for hash in self.hashes.iter().rev() {
            if node.knows(*hash).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn pending(node: &Node) -> SubmitError {
    SubmitError::Pending { waited_s: node.patience().as_secs() }
}
