//! The embedded ledger in the hub's folder, and the hub's own replica of it.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use sealcast_chain::{Engine, EngineConfig, Ledger, Node, Wallet};
use sealcast_group::PublicGroups;
use sealcast_ledger::{LedgerId, Replica};
use sealcast_node::files::{self, Mode};

use crate::{config, folder::Keys};

const PAGE: usize = 256;

/// The ledger, and what resolves when nothing writes it any more.
pub async fn open(dir: &Path, config: &config::Hub, keys: &Keys) -> Result<(Ledger, impl Future<Output = ()> + use<>)> {
    let wallet = Wallet::from_secret(&keys.relay_key)?;
    let engine_config = EngineConfig { chain_id: config.chain_id, funded: vec![wallet.address()] };
    let engine =
        Engine::open(dir.join("ledger.sqlite"), &engine_config).context("the embedded ledger cannot be opened")?;
    let node = Node::embedded(&engine);
    let mut progress = engine.progress();
    let writer = async move { while progress.changed().await.is_ok() {} };
    let address = dir.join("ledger.address");
    if address.exists() {
        let id: LedgerId =
            files::read(&address)?.trim().parse().with_context(|| format!("{} cannot be used", address.display()))?;
        return Ok((Ledger::attach(node, wallet, id.address).await?, writer));
    }
    // A first start may have ended between the deployment, which is one block, and the last line.
    let height = engine.progress().borrow().height;
    ensure!(
        height <= 1,
        "{} is missing, but ledger.sqlite holds entries. The missing file says which contract in ledger.sqlite is the \
         ledger; without it, the hub would make an empty ledger that no device knows. Restore the file from a backup. \
         Without a backup, start over with an empty folder: every device then has to enrol again",
        address.display()
    );
    let ledger = if height == 0 {
        Ledger::deploy(node, wallet, keys.authority.key().public(), keys.operator.public_key()).await?
    } else {
        let deployed = wallet.first_contract();
        Ledger::attach(node, wallet, deployed).await?
    };
    files::write(&address, ledger.id().to_string().as_bytes(), Mode::Public)?;
    Ok((ledger, writer))
}

/// A replica of the whole ledger, which must be that of `keys`.
pub async fn replica(dir: &Path, ledger: &Ledger, keys: &Keys) -> Result<(Replica, PublicGroups)> {
    let genesis = ledger.genesis().await?;
    ensure!(
        genesis.ca == *keys.authority.key().public() && genesis.operator == *keys.operator.public_key(),
        "the ledger in {} belongs to another CA or operator than the keys in the same folder: restore all files from one \
         backup",
        dir.display()
    );
    let (mut replica, mut groups) = (Replica::new(genesis), PublicGroups::default());
    loop {
        let page = ledger.records(replica.height(), PAGE).await?;
        if page.is_empty() {
            return Ok((replica, groups));
        }
        for record in &page {
            replica.apply(record).context("the hub's own ledger does not verify")?;
            groups.handle_record(&replica, record);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{apart::Folders, folder};

    /// The address cannot be written, however often the hub starts; then it can.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_first_start_whose_address_was_not_written_goes_on_with_the_same_ledger() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let dir = &dir.path().join("hub");
        std::fs::create_dir(dir)?;
        let config = config::HubFile::default().validate()?;
        let keys = folder::keys(&Folders::beside(dir)?, &config, sealcast_node::now_ms())?;
        let in_the_way = dir.join("ledger.new");
        std::fs::create_dir(&in_the_way)?;
        for _ in 0..3 {
            let error = open(dir, &config, &keys).await.map_or_else(|error| format!("{error:#}"), |_| String::new());
            assert!(error.contains("cannot write") && error.contains("ledger.address"), "{error}");
        }
        std::fs::remove_dir(&in_the_way)?;
        let (ledger, _) = open(dir, &config, &keys).await?;
        assert_eq!(replica(dir, &ledger, &keys).await?.0.height(), 0);
        let id = ledger.id();
        drop(ledger);
        assert_eq!(open(dir, &config, &keys).await?.0.id(), id);
        Ok(())
    }
}
