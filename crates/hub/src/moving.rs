//! The ledger moves to a contract on another network, and the hub with it.
//!
//! The contract there is deployed first, and gets the entries that there are. Then the operator's entry names it, which is the last
//! one of the former contract, and the rest of the entries follows. Whatever is interrupted goes on where it stopped: how far it
//! is stands in the contract.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use sealcast_chain::{Ledger, Wallet};
use sealcast_ledger::{Genesis, LedgerId, Record, Replica};
use sealcast_node::files::{self, Mode};
use tracing::info;

use crate::{
    config,
    folder::{self, FORMER},
    ledger::{self, ADDRESS, network},
};

/// The file in the hub's folder that says which contract is to be the ledger.
const SUCCESSOR: &str = "ledger.successor";

/// How far a successor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Imported {
    /// The contract.
    pub contract: LedgerId,
    /// How many entries it has.
    pub height: u64,
    /// How many of them came now.
    pub new: u64,
    /// It has all of them, and the hub's next start has its ledger there.
    pub complete: bool,
}

/// Brings `records`, which are the first ones of `replica`'s ledger, to the contract that succeeds it on the network of `config`.
/// Deploys it unless that was done before. When the last of them says that the ledger is there, the hub's folder says so too.
///
/// `told` hears how many of them are there.
///
/// # Errors
/// The contract has another history, the network does not answer, or the hub of this folder runs when its ledger is to be another.
pub async fn import(
    dir: &Path,
    config: &config::Hub,
    records: &[Record],
    replica: &Replica,
    mut told: impl FnMut(u64),
) -> Result<Imported> {
    let network = config.ledger.as_ref().context(
        "where to? Give the network's endpoint with --rpc, or name it in [ledger] of hub.toml, as for the hub itself",
    )?;
    let relay_key = folder::relay_key(dir, config)?;
    let path = dir.join(SUCCESSOR);
    let known = if path.exists() { Some(files::read(&path)?) } else { None };
    let successor = match known {
        Some(id) => {
            let id = id.trim().parse().with_context(|| format!("{} cannot be used", path.display()))?;
            network::attach(network, id, &relay_key).await?
        }
        None => {
            ensure!(
                replica.current_id() == &replica.genesis().id
                    || ledger::address(dir)?.as_ref() == Some(replica.current_id()),
                "the ledger has moved to {}, and {} does not say that this folder has deployed it: import the entries where that was \
                 done",
                replica.current_id(),
                path.display()
            );
            let node = network::node(network)?;
            let wallet = Wallet::from_secret(&relay_key)?;
            let successor = Ledger::deploy_successor(node, wallet, replica.genesis()).await?;
            files::write(&path, successor.id().to_string().as_bytes(), Mode::Public)?;
            info!(contract = %successor.id(), "the contract that succeeds the ledger was deployed");
            successor
        }
    };
    let before = check_prefix(&successor, replica.genesis(), records).await?;
    let mut height = before;
    told(height);
    while let Some(rest) = records.get(usize::try_from(height)?..).filter(|rest| !rest.is_empty()) {
        height += successor.replay(rest).await.with_context(|| format!("entry {height} was not imported"))? as u64;
        told(height);
        info!(height, of = records.len(), "entries were imported");
    }
    check_prefix(&successor, replica.genesis(), records).await?;
    let complete = successor.current_id().await? == successor.id();
    if complete {
        take_over(dir, successor.id())?;
    }
    Ok(Imported { contract: successor.id(), height, new: height - before, complete })
}

/// The hub's ledger is that contract from its next start on.
fn take_over(dir: &Path, contract: LedgerId) -> Result<()> {
    let _lock =
        files::lock(dir).context("all entries are imported, but the hub still runs: stop it, and run this again")?;
    let address = dir.join(ADDRESS);
    if address.exists() {
        let former = files::read(&address)?;
        if former.trim() != contract.to_string() {
            files::write(&dir.join(FORMER), former.as_bytes(), Mode::Public)?;
        }
    }
    files::write(&address, contract.to_string().as_bytes(), Mode::Public)?;
    let path = dir.join(SUCCESSOR);
    fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))
}

/// Before the operator says that the ledger is at `to`: that it is a contract there which succeeds it, has nothing else than
/// `records` have, and nearly all of them, so that little is left to import.
///
/// # Errors
/// It is not so, and the ledger would be lost there.
pub async fn check_successor(
    network: &config::Network,
    to: LedgerId,
    genesis: &Genesis,
    records: &[Record],
) -> Result<()> {
    let successor = Ledger::inspect(network::node(network)?, to.address).await?;
    ensure!(
        successor.id() == to,
        "the endpoints are of chain {}, the contract is on chain {}",
        successor.id().chain_id,
        to.chain_id
    );
    ensure!(
        successor.replayer().await?.is_some(),
        "the contract {to} takes no entries of another ledger: `sealcast ledger import` deploys one that does"
    );
    let height = check_prefix(&successor, genesis, records).await?;
    let missing = records.len() as u64 - height;
    ensure!(
        missing <= MOST_MISSING,
        "the contract {to} has {height} entries, and the ledger has {missing} more: export and import them first, so that the ledger \
         is not without a contract for long"
    );
    Ok(())
}

/// How many entries may be on their way when the ledger moves.
const MOST_MISSING: u64 = 64;

/// How many of `records` the successor has; they are the same ones there.
async fn check_prefix(successor: &Ledger, genesis: &Genesis, records: &[Record]) -> Result<u64> {
    let (id, began) = (successor.id(), successor.genesis().await?);
    ensure!(began == *genesis, "the contract {id} succeeds the ledger {}, and this one is {}", began.id, genesis.id);
    let there = successor.head().await?;
    let head = match usize::try_from(there.height)?.checked_sub(1) {
        None => Some(genesis.head()),
        Some(last) => records.get(last).map(|record| record.head),
    };
    let head = head.with_context(|| {
        format!(
            "the contract {id} has {} entries, and only {} were given: export the ledger again",
            there.height,
            records.len()
        )
    })?;
    ensure!(
        there.hash == head,
        "the contract {id} has other entries than this ledger: its {} entries have another head. If the ledger has not moved there \
         yet, remove {SUCCESSOR} from the hub's folder, and import again: another contract is deployed",
        there.height
    );
    Ok(there.height)
}
