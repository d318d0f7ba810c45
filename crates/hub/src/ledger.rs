//! The hub's ledger, embedded in its folder or on a network, and the hub's own replica of it.

pub(crate) mod network;
mod served;
mod snapshot;

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use sealcast_chain::{Engine, EngineConfig, Ledger, Node, Wallet};
use sealcast_group::PublicGroups;
use sealcast_identity::{Network, PublicKey};
use sealcast_ledger::{Genesis, LedgerId, Replica};
use sealcast_node::files::{self, Mode};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{
    config,
    folder::{self, Keys},
};

const PAGE: usize = 256;
/// The file that says which contract is the ledger.
pub(crate) const ADDRESS: &str = "ledger.address";

pub use self::{
    served::open as serve,
    snapshot::{Due, Snapshots},
};

/// The ledger, and the engine that it is in unless it is on a network.
pub async fn open(dir: &Path, config: &config::Hub, keys: &Keys) -> Result<(Ledger, Option<Engine>)> {
    let known = address(dir)?;
    if let Some(network) = &config.ledger {
        let ledger = network::open(network, known, keys).await?;
        if known.is_none() {
            note(dir, &ledger)?;
        }
        return Ok((ledger, None));
    }
    let wallet = Wallet::from_secret(&keys.relay_key)?;
    let engine = engine(dir, config, &wallet)?;
    if let Some(id) = known {
        return Ok((attach_embedded(&engine, wallet, id, config).await?, Some(engine)));
    }
    // A first start may have ended between the deployment, which is one block, and the last line.
    let height = engine.progress().borrow().height;
    ensure!(
        height <= 1,
        "{} is missing, but ledger.sqlite holds entries. The missing file says which contract in ledger.sqlite is the \
         ledger; without it, the hub would make an empty ledger that no device knows. Restore the file from a backup. \
         Without a backup, start over with an empty folder: every device then has to enrol again",
        dir.join(ADDRESS).display()
    );
    let node = Node::embedded(&engine);
    let ledger = if height == 0 {
        Ledger::deploy(node, wallet, keys.first()).await?
    } else {
        let deployed = wallet.first_contract();
        Ledger::attach(node, wallet, deployed).await?
    };
    note(dir, &ledger)?;
    Ok((ledger, Some(engine)))
}

/// Reads the files that the configuration names for a ledger on a network.
pub fn check(dir: &Path, config: &config::Hub) -> Result<()> {
    let Some(network) = &config.ledger else { return Ok(()) };
    network::node(network)?;
    if config.relay_key_file().is_some() {
        folder::relay_key(dir, config)?;
    }
    Ok(())
}

/// Until nothing writes the embedded ledger any more, or `stop`.
pub async fn written(engine: Engine, stop: CancellationToken) {
    let mut progress = engine.progress();
    // It must not keep what writes.
    drop(engine);
    stop.run_until_cancelled(async move { while progress.changed().await.is_ok() {} }).await;
}

fn note(dir: &Path, ledger: &Ledger) -> Result<()> {
    files::write(&dir.join(ADDRESS), ledger.id().to_string().as_bytes(), Mode::Public)
}

/// The ledger of a hub that has run before and does not run now.
pub async fn reopen(dir: &Path, config: &config::Hub) -> Result<Ledger> {
    let id = address(dir)?.with_context(|| format!("no hub has been started in {}", dir.display()))?;
    let relay_key = folder::relay_key(dir, config)?;
    if let Some(network) = &config.ledger {
        return network::attach(network, id, &relay_key).await;
    }
    let wallet = Wallet::from_secret(&relay_key)?;
    let engine = engine(dir, config, &wallet)?;
    attach_embedded(&engine, wallet, id, config).await
}

async fn attach_embedded(engine: &Engine, wallet: Wallet, id: LedgerId, config: &config::Hub) -> Result<Ledger> {
    ensure!(
        id.chain_id == config.chain_id,
        "{ADDRESS} in the hub's folder says that the ledger is at {id}, and chain {} is the one in ledger.sqlite: name the \
         endpoints of its network, `rpc` in [ledger] of hub.toml (--rpc)",
        config.chain_id
    );
    Ok(Ledger::attach(Node::embedded(engine), wallet, id.address).await?)
}

fn engine(dir: &Path, config: &config::Hub, wallet: &Wallet) -> Result<Engine> {
    let config = EngineConfig { chain_id: config.chain_id, funded: vec![wallet.address()] };
    Engine::open(dir.join("ledger.sqlite"), &config).context("the embedded ledger cannot be opened")
}

/// The contract that the hub of this folder has its ledger at.
pub(crate) fn address(dir: &Path) -> Result<Option<LedgerId>> {
    let path = dir.join(ADDRESS);
    if !path.exists() {
        return Ok(None);
    }
    files::read(&path)?.trim().parse().map(Some).with_context(|| format!("{} cannot be used", path.display()))
}

/// What the ledger comes to.
pub struct State {
    /// A replica of all of it.
    pub replica: Replica,
    /// Its groups' public part.
    pub groups: PublicGroups,
    /// Where both are kept.
    pub snapshots: Snapshots,
}

/// What the whole ledger comes to, which must be that of this CA.
pub async fn state(dir: &Path, ledger: &Ledger, keys: &Keys) -> Result<State> {
    let (authority, genesis) = (&keys.authority, ledger.genesis().await?);
    if !ledger.is_embedded() {
        // An endpoint could say any keys, and with them show entries that nobody here has signed.
        check_genesis(&genesis, folder::told(dir, authority)?.as_ref(), keys.first())?;
        ensure!(
            ledger.replayer().await?.is_none(),
            "the contract {} has not all entries of the ledger that moves there: run `sealcast ledger import` to its end, with the \
             operator's entry from `sealcast ledger move`",
            ledger.id()
        );
    }
    let (mut snapshots, mut replica, mut groups) = Snapshots::open(dir, genesis, ledger).await;
    catch_up(ledger, &mut replica, &mut groups).await?;
    if let Some(due) = snapshots.due(&replica, &groups) {
        due.write().await;
    }
    if *replica.current_id() != ledger.id() {
        warn!(
            "the ledger has moved to {}, so that no entry is taken here: export it, import it there with `sealcast ledger import`, \
             and start the hub with that network",
            replica.current_id()
        );
    }
    let (genesis, known) = (replica.genesis(), replica.key_of(genesis.id.ca()));
    ensure!(
        genesis.root == *authority.root().public_key(),
        "the ledger in {} belongs to another root CA than the keys in the same folder: restore all files from one backup",
        dir.display()
    );
    ensure!(
        known == Some(authority.key().public()),
        "the ledger in {0} knows another key of the issuing CA than {0}/issuing.key. If `sealcast key rotate ca` was \
         interrupted, run it again; else restore all files from one backup",
        dir.display()
    );
    Ok(State { replica, groups, snapshots })
}

/// Whether a ledger begins with the keys that devices were told of it, or if none were told yet, with this hub's.
fn check_genesis(genesis: &Genesis, told: Option<&Network>, own: [&PublicKey; 3]) -> Result<()> {
    let [root, ca, operator] = own;
    let (ca, operator) = told.map_or((ca, operator), |told| (&told.first_ca, &told.first_operator));
    let name = told.map_or(genesis.id, |told| LedgerId { chain_id: told.chain_id, address: told.ledger });
    ensure!(
        genesis.id == name,
        "the endpoints say that the ledger began as {}, and the devices were told of {name}: they lie, or it is another ledger",
        genesis.id
    );
    ensure!(
        [&genesis.root, &genesis.ca, &genesis.operator] == [root, ca, operator],
        "the endpoints say that the ledger {} begins with other keys than this hub's: they lie, or it is the ledger of another \
         CA or operator. If another hub has made it, copy that hub's folder",
        genesis.id
    );
    Ok(())
}

/// A replica of the whole ledger.
pub async fn read(ledger: &Ledger) -> Result<Replica> {
    let mut replica = Replica::new(ledger.genesis().await?);
    catch_up(ledger, &mut replica, &mut PublicGroups::default()).await?;
    Ok(replica)
}

async fn catch_up(ledger: &Ledger, replica: &mut Replica, groups: &mut PublicGroups) -> Result<()> {
    loop {
        let page = ledger.records(replica.height(), PAGE).await?;
        if page.is_empty() {
            return Ok(());
        }
        for record in &page {
            replica.apply(record).context("the hub's ledger does not verify")?;
            groups.handle_record(replica, record);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::bail;
    use sealcast_identity::SigningKey;
    use sealcast_ledger::{Body, DeviceRegistered, Hash, Record, Serial};

    use crate::{apart::Folders, folder};

    #[test]
    fn a_ledger_on_a_network_begins_with_the_keys_that_devices_know() -> Result<()> {
        let keys: Vec<PublicKey> = (0..4).map(|_| Ok(*SigningKey::generate()?.public())).collect::<Result<_>>()?;
        let id = LedgerId { chain_id: 1, address: [1; 20] };
        let genesis = Genesis { id, root: keys[0], ca: keys[1], operator: keys[2] };
        let own = [&keys[0], &keys[1], &keys[2]];
        check_genesis(&genesis, None, own)?;
        for at in 0..3 {
            let mut other = own;
            other[at] = &keys[3];
            assert!(check_genesis(&genesis, None, other).is_err(), "{at}");
        }
        Ok(())
    }

    /// A rotation gave the CA another key; the ledger still begins with the first one.
    #[test]
    fn what_devices_were_told_holds_after_a_rotation() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let folders = Folders::beside(&dir.path().join("hub"))?;
        std::fs::create_dir(&folders.hub)?;
        let keys = folder::keys(&folders, &config::HubFile::default().validate()?, sealcast_node::now_ms())?;
        assert!(folder::told(&folders.hub, &keys.authority)?.is_none());
        let first_ca = *SigningKey::generate()?.public();
        let network = Network {
            chain_id: 1,
            ledger: [1; 20],
            first_ca,
            first_operator: *keys.operator.public_key(),
            issuing: keys.authority.certificate().clone(),
            operator: keys.operator.clone(),
            broker: "mqtts://localhost:1".to_owned(),
            wire: Default::default(),
            hub: "https://localhost:1".to_owned(),
            written_ms: sealcast_node::now_ms(),
        };
        folder::network(&folders, &network, &keys.authority)?;
        let told = folder::told(&folders.hub, &keys.authority)?;
        let id = LedgerId { chain_id: 1, address: [1; 20] };
        let root = *keys.authority.root().public_key();
        let genesis = Genesis { id, root, ca: first_ca, operator: *keys.operator.public_key() };
        check_genesis(&genesis, told.as_ref(), keys.first())?;
        assert!(check_genesis(&Genesis { operator: first_ca, ..genesis }, told.as_ref(), keys.first()).is_err());
        let other = LedgerId { chain_id: 2, ..id };
        assert!(check_genesis(&Genesis { id: other, ..genesis }, told.as_ref(), keys.first()).is_err());
        Ok(())
    }

    /// The address cannot be written, however often the hub starts; then it can.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_first_start_whose_address_was_not_written_goes_on_with_the_same_ledger() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let dir = &dir.path().join("hub");
        std::fs::create_dir(dir)?;
        let config = config::HubFile::default().validate()?;
        let keys = folder::keys(&Folders::beside(dir)?, &config, sealcast_node::now_ms())?;
        let in_the_way = dir.join("ledger.address.new");
        std::fs::create_dir(&in_the_way)?;
        for _ in 0..3 {
            let error = open(dir, &config, &keys).await.map_or_else(|error| format!("{error:#}"), |_| String::new());
            assert!(error.contains("cannot write") && error.contains("ledger.address"), "{error}");
        }
        std::fs::remove_dir(&in_the_way)?;
        let ledger = open(dir, &config, &keys).await?.0;
        assert_eq!(state(dir, &ledger, &keys).await?.replica.height(), 0);
        let id = ledger.id();
        drop(ledger);
        assert_eq!(open(dir, &config, &keys).await?.0.id(), id);
        Ok(())
    }

    /// And verifies all again if what is stored is of other entries.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_start_goes_on_from_what_is_stored() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let dir = &dir.path().join("hub");
        std::fs::create_dir(dir)?;
        let config = config::HubFile::default().validate()?;
        let keys = folder::keys(&Folders::beside(dir)?, &config, sealcast_node::now_ms())?;
        let ledger = open(dir, &config, &keys).await?.0;
        let id = ledger.id();
        for nonce in 0..20 {
            let key = SigningKey::generate()?;
            let body = Body::DeviceRegistered(DeviceRegistered {
                device: format!("{nonce}").parse()?,
                public_key: *key.public(),
                certificate: Hash::of(key.public().xy()),
                serial: Serial::new(&[1])?,
                not_after_s: 4_000_000_000,
            });
            ledger.submit(&body.sign(keys.authority.key(), id.ca(), nonce, &id)?).await?;
        }
        let state_now = state(dir, &ledger, &keys).await?;
        let genesis = *state_now.replica.genesis();
        let stored = async || Snapshots::open(dir, genesis, &ledger).await.1.height();
        assert_eq!((state_now.replica.height(), stored().await), (20, 20));

        // The same first entries, then another one.
        let mut records = ledger.records(0, 11).await?;
        let [.., before, last] = &mut records[..] else { bail!("two records") };
        last.time_s += 1;
        last.head = Record::next_head(&before.head, last.index, last.time_s, &last.entry, &id);
        let mut other = Replica::new(genesis);
        for record in &records {
            other.apply_without_signature_check(record)?;
        }
        std::fs::write(dir.join("replica.snapshot"), snapshot::encode(&other, &PublicGroups::default()))?;
        assert_eq!(stored().await, 0);
        assert_eq!(state(dir, &ledger, &keys).await?.replica.height(), 20);
        assert_eq!(stored().await, 20, "it is stored anew");
        Ok(())
    }
}
