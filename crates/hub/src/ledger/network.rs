//! The ledger on an EVM network: a contract that the first start makes, or that another hub has made.

use anyhow::{Result, ensure};
use sealcast_chain::{Ledger, Node, Wallet};
use sealcast_ledger::LedgerId;
use tracing::info;

use crate::{config::Network, folder::Keys};

/// The ledger that the hub's folder knows, or the configuration names. If neither does, a new one.
pub async fn open(network: &Network, known: Option<LedgerId>, keys: &Keys) -> Result<Ledger> {
    if let (Some(known), Some(given)) = (known, network.contract) {
        ensure!(known == given, "ledger.contract is {given}, but the ledger in the hub's folder is {known}");
    }
    if let Some(id) = known.or(network.contract) {
        return attach(network, id, &keys.relay_key).await;
    }
    let wallet = Wallet::from_secret(&keys.relay_key)?;
    info!(
        finality = %network.endpoints.finality,
        "the ledger's contract is being deployed. The hub runs once its block is final: on a public network that takes a \
         quarter of an hour. A node for development may need --finality latest"
    );
    let ledger = Ledger::deploy(node(network)?, wallet, keys.first()).await?;
    info!(ledger = %ledger.id(), "the ledger's contract was deployed");
    Ok(ledger)
}

/// The ledger `id`, with the wallet of `relay_key`.
pub async fn attach(network: &Network, id: LedgerId, relay_key: &[u8; 32]) -> Result<Ledger> {
    let node = node(network)?;
    let chain_id = node.chain_id().await?;
    ensure!(
        chain_id == id.chain_id,
        "the endpoints are of chain {chain_id}, the ledger is on chain {}: check `rpc` in [ledger] of hub.toml (--rpc). If the \
         ledger is to move there, begin with `sealcast ledger export`, see docs/ledger-move.md",
        id.chain_id
    );
    Ok(Ledger::attach(node, Wallet::from_secret(relay_key)?, id.address).await?)
}

/// The network's endpoints. None is asked yet.
pub fn node(network: &Network) -> Result<Node> {
    Ok(Node::network(network.endpoints.open()?, network.max_fee_gwei))
}
