//! The hub's keys and certificates, made at the first start, in three folders.
//!
//! ```text
//! hub/           root.pem
//!                issuing.key issuing.pem    the CA that certifies devices (its certificate, then the root's)
//!                operator.pem               who the operator is
//!                server.key server.pem      the hub's server, made anew when its names change or its end is near
//!                relay.key                  the Ethereum account that pays for entries (secp256k1, hex)
//!                network.json               what a device has to know, signed by the CA; written anew when that changes
//! hub-operator/  operator.key operator.pem  who may create groups, grant and revoke; a TLS client of the broker
//!                root.pem network.json      for the operator's commands
//! hub-root/      root.key root.pem          the root CA, which makes issuing CAs
//! ```
//!
//! The hub needs the second and third folder at its first start only. Whoever has the hub's folder and the operator's can make
//! a member of any group, so they belong on two machines.
//!
//! A start that changes nothing writes none of them: a hub must be able to start while its disk is full.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use sealcast_identity::{Authority, Certificate, Network, PublicKey, SigningKey, TrustAnchor};
use sealcast_ledger::LedgerId;
use sealcast_node::{
    KeyFiles,
    files::{self, Mode},
};
use zeroize::Zeroizing;

use crate::{
    apart::{self, Folders, YEAR},
    config, relay_key,
};

/// The file that says where the ledger was before it moved.
pub const FORMER: &str = "ledger.address.former";
/// A server certificate that ends within this time is made anew.
const RENEW: Duration = Duration::from_secs(30 * 86_400);

/// The hub's keys.
pub struct Keys {
    /// The issuing CA.
    pub authority: Authority,
    /// The operator's certificate; its key stays in the folder.
    pub operator: Certificate,
    /// Certificate of the hub's servers, leaf first, with the root for clients that pin it.
    pub server_chain: Vec<Vec<u8>>,
    /// Certificate of the hub as a client, for the same key, leaf first, without the root.
    pub client_chain: Vec<Vec<u8>>,
    /// The key of both.
    pub server_key: SigningKey,
    /// The relay's secp256k1 key.
    pub relay_key: Zeroizing<[u8; 32]>,
}

impl Keys {
    /// The keys that a new ledger begins with: of the root, the issuing CA and the operator.
    pub fn first(&self) -> [&PublicKey; 3] {
        [self.authority.root().public_key(), self.authority.key().public(), self.operator.public_key()]
    }
}

/// Reads the hub's keys, making those that are not there.
pub fn keys(folders: &Folders, config: &config::Hub, now_ms: u64) -> Result<Keys> {
    let dir = &folders.hub;
    let key_files = KeyFiles::new(config.passphrase_file.as_deref())?;
    let path = |name: &str| dir.join(name);
    let keep = |name: &str, text: &str, mode| files::write(&path(name), text.as_bytes(), mode);

    if !path("issuing.pem").exists() {
        let root = apart::root(&folders.root, &key_files, now_ms)?;
        let key = key_files.make(&path("issuing.key"), config.issuing_key.as_deref())?;
        let authority = root.certify_authority(key, "Sealcast", now_ms, 10 * YEAR)?;
        keep("root.pem", &root.certificate().to_pem(), Mode::Public)?;
        // Last: its presence says that the others are there.
        keep("issuing.pem", &authority.chain_pem(), Mode::Public)?;
    }
    let authority = Authority::new(key_files.read(&path("issuing.key"))?, &files::read(&path("issuing.pem"))?)
        .with_context(|| format!("the CA in {} cannot be used", dir.display()))?;

    if !path("operator.pem").exists() {
        let chain = apart::make_operator(&folders.operator, &authority, &key_files, now_ms)?;
        // Last: its presence says that the operator's folder is made.
        keep("operator.pem", &chain, Mode::Public)?;
    }
    let operator = files::certificate(&path("operator.pem"))?;

    let server_key = if path("server.key").exists() {
        key_files.read(&path("server.key"))?
    } else {
        key_files.make(&path("server.key"), None)?
    };
    let chain = match usable(&path("server.pem"), &authority, server_key.public(), &config.names, now_ms) {
        Some(chain) => chain,
        None => {
            let server = authority.issue_server(&config.names, server_key.public(), now_ms, YEAR)?;
            keep("server.pem", &server.chain_pem(), Mode::Public)?;
            server.chain().into_iter().cloned().collect()
        }
    };
    let mut server_chain: Vec<Vec<u8>> = chain.iter().map(|certificate| certificate.der().to_vec()).collect();
    server_chain.push(authority.root().der().to_vec());
    // It is never compared with an earlier one, so a start need not write it.
    let client = authority.issue_hub_client(server_key.public(), now_ms, YEAR)?;
    let client_chain = client.chain().iter().map(|certificate| certificate.der().to_vec()).collect();

    if config.relay_key_file().is_none() && !path("relay.key").exists() {
        let mut key = Zeroizing::new([0; 32]);
        aws_lc_rs::rand::fill(key.as_mut()).context("no randomness from the system")?;
        keep("relay.key", &Zeroizing::new(hex::encode(*key)), Mode::Secret)?;
    }
    let relay_key = relay_key(dir, config)?;
    Ok(Keys { authority, operator, server_chain, client_chain, server_key, relay_key })
}

/// The key of the account that pays for entries.
pub fn relay_key(dir: &Path, config: &config::Hub) -> Result<Zeroizing<[u8; 32]>> {
    let path = config.relay_key_file().map_or_else(|| dir.join("relay.key"), Path::to_owned);
    relay_key::read(&path, config.relay_key_password_file())
}

/// The operator's certificate: the one in the folder, if it is of the CA's present key and of the operator's, else a new one.
/// The ledger says which key is the operator's.
pub fn operator(dir: &Path, key: &PublicKey, authority: &Authority, now_ms: u64) -> Result<Certificate> {
    let path = dir.join("operator.pem");
    let found = files::certificate(&path)?;
    if found.public_key() == key && found.is_issued_by(authority.certificate()) {
        return Ok(found);
    }
    let issued = authority.issue_operator(key, now_ms, 10 * YEAR)?;
    files::write(&path, issued.chain_pem().as_bytes(), Mode::Public)?;
    Ok(issued.certificate)
}

/// The server certificate that is there, with the CA's, if it still does.
fn usable(
    path: &Path,
    authority: &Authority,
    key: &PublicKey,
    names: &[String],
    now_ms: u64,
) -> Option<Vec<Certificate>> {
    let chain = files::certificates(path).ok()?;
    let [server, issuing] = chain.as_slice() else { return None };
    let then_ms = now_ms.saturating_add(u64::try_from(RENEW.as_millis()).unwrap_or(u64::MAX));
    let good = server.public_key() == key
        && issuing == authority.certificate()
        && server.is_issued_by(issuing)
        && server.is_for_servers()
        && server.is_for_names(names)
        && server.is_valid_at(now_ms)
        && server.is_valid_at(then_ms);
    good.then_some(chain)
}

/// The signed text of `network`: what is in the folder if it says the same, else a new one, which is written there. If the
/// operator's folder is still here, it gets a copy.
pub fn network(folders: &Folders, network: &Network, authority: &Authority) -> Result<String> {
    let text = own_network(&folders.hub, network, authority)?;
    apart::tell_operator(&folders.operator, &text, authority);
    Ok(text)
}

/// What devices have been told, if the hub has told them anything yet.
pub fn told(dir: &Path, authority: &Authority) -> Result<Option<Network>> {
    let path = dir.join("network.json");
    if !path.exists() {
        return Ok(None);
    }
    let anchor = TrustAnchor::new(authority.root().clone()).context("root.pem")?;
    let network = Network::verify(files::read(&path)?.as_bytes(), &anchor, sealcast_node::now_ms());
    network.map(Some).with_context(|| format!("{} cannot be used", path.display()))
}

fn own_network(dir: &Path, network: &Network, authority: &Authority) -> Result<String> {
    let path = dir.join("network.json");
    let anchor = TrustAnchor::new(authority.root().clone()).context("root.pem")?;
    let old = files::read(&path).ok().filter(|text| {
        Network::verify(text.as_bytes(), &anchor, network.written_ms)
            .is_ok_and(|old| Network { written_ms: network.written_ms, ..old } == *network)
    });
    match old {
        Some(text) => Ok(text),
        None => {
            let text = network.to_json(authority)?;
            files::write(&path, text.as_bytes(), Mode::Public)?;
            Ok(text)
        }
    }
}

/// What shows that a hub has run on a folder, in the order in which the first start makes it.
const TRACES: [&str; 4] = ["ledger.sqlite", "ledger.address", "broker.db", "network.json"];

/// Refuses a folder that was in use and has lost files which the hub would make anew: a CA, a ledger, a journal without
/// anything in it, in the place of those that the devices know. A first start that was interrupted goes on.
///
/// Without a broker of its own it needs no journal, and without the embedded ledger no file of that.
pub fn check(dir: &Path, config: &config::Hub) -> Result<()> {
    let exists = |name: &&str| dir.join(name).exists();
    let Some(trace) = TRACES.iter().copied().rfind(exists) else { return Ok(()) };
    let lost = |name: &str, holds: &str, over: &str| {
        format!(
            "{} is missing, but {trace} in the same folder shows that a hub has run there. The missing file holds {holds}. \
             Restore it from a backup. {over}",
            dir.join(name).display()
        )
    };
    let new = "Without a backup, start over with an empty folder for the hub: every device then has to enrol again, into an empty \
               folder too";
    for name in ["issuing.key", "issuing.pem"] {
        ensure!(exists(&name), lost(name, "the CA that all devices' certificates come from", new));
    }
    ensure!(exists(&"operator.pem"), lost("operator.pem", "the operator's certificate, which the ledger names", new));
    ensure!(
        config.relay_key_file().is_some() || exists(&"relay.key"),
        lost("relay.key", "the account that pays for the ledger's entries", new)
    );
    let ledger = "all devices, groups and keys that were ever agreed";
    if exists(&"ledger.address") {
        let over =
            format!("Or, if the ledger is on a network, say where: rpc in [ledger] of hub.toml, or --rpc. {new}");
        ensure!(config.ledger.is_some() || exists(&"ledger.sqlite"), lost("ledger.sqlite", ledger, &over));
    } else {
        let address = "the address of the contract that is the ledger";
        let file = dir.join("ledger.address");
        // The descriptor names the ledger as it was called at first, wherever it has moved to.
        let has_moved = exists(&FORMER) || (config.ledger.is_some() && exists(&"ledger.sqlite"));
        let over = match named_ledger(dir) {
            _ if has_moved => format!(
                "The ledger has moved, so network.json does not say where it is. Or write the file again with the contract, \
                 CHAIN:0xADDRESS, that `sealcast ledger verify --agent DIR` shows for a device's folder: echo CONTRACT > {}",
                file.display()
            ),
            Some(id) => {
                format!("Or write it again from network.json in the same folder: echo {id} > {}", file.display())
            }
            None => new.to_owned(),
        };
        ensure!(!exists(&"broker.db") && !exists(&"network.json"), lost("ledger.address", address, &over));
    }
    if config.broker.is_none() && exists(&"network.json") {
        let broker = "the sessions of all clients, and messages that were acknowledged to their senders";
        let over = format!("Or give them up and start with an empty broker: touch {}", dir.join("broker.db").display());
        ensure!(exists(&"broker.db"), lost("broker.db", broker, &over));
    }
    Ok(())
}

/// The ledger that the devices were told of.
fn named_ledger(dir: &Path) -> Option<LedgerId> {
    let network: serde_json::Value = serde_json::from_str(&files::read(&dir.join("network.json")).ok()?).ok()?;
    format!("{}:{}", network.get("chain_id")?.as_u64()?, network.get("ledger")?.as_str()?).parse().ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use sealcast_topic::Wire;

    use super::*;

    fn config() -> config::Hub {
        config::HubFile::default().validate().unwrap()
    }

    fn refusal(present: &[&str]) -> String {
        let dir = tempfile::tempdir().unwrap();
        for name in present {
            std::fs::write(dir.path().join(name), b"").unwrap();
        }
        check(dir.path(), &config()).map_or_else(|error| format!("{error:#}"), |()| String::new())
    }

    const ALL: [&str; 8] = [
        "issuing.key",
        "issuing.pem",
        "operator.pem",
        "relay.key",
        "ledger.sqlite",
        "ledger.address",
        "broker.db",
        "network.json",
    ];

    #[test]
    fn each_file_that_was_lost_is_named() {
        assert_eq!(refusal(&ALL), "");
        for lost in ALL {
            let present: Vec<_> = ALL.into_iter().filter(|name| *name != lost).collect();
            let said = refusal(&present);
            // It can be made again from the others.
            if lost == "network.json" {
                assert_eq!(said, "");
                continue;
            }
            assert!(said.contains(&format!("{lost} is missing")) && said.contains("Restore it"), "{lost}: {said}");
        }
    }

    #[test]
    fn a_lost_address_is_told_from_the_descriptor() {
        let dir = tempfile::tempdir().unwrap();
        let said = || check(dir.path(), &config()).map_or_else(|error| format!("{error:#}"), |()| String::new());
        for name in ALL.into_iter().filter(|name| *name != "ledger.address") {
            std::fs::write(dir.path().join(name), b"").unwrap();
        }
        assert!(said().contains("start over with an empty folder"), "{}", said());
        let address = format!("0x{}", "ab".repeat(20));
        let network = serde_json::json!({ "chain_id": 7526, "ledger": address });
        std::fs::write(dir.path().join("network.json"), network.to_string()).unwrap();
        assert!(said().contains(&format!("echo 7526:{address} > ")), "{}", said());
        // That is not where it is, once it has moved.
        std::fs::write(dir.path().join(FORMER), b"").unwrap();
        assert!(!said().contains("echo 7526") && said().contains("`sealcast ledger verify --agent DIR`"), "{}", said());
    }

    #[test]
    fn a_first_start_that_was_interrupted_goes_on() {
        for made in 0..ALL.len() {
            assert_eq!(refusal(ALL.get(..made).unwrap()), "", "after {made} files");
        }
    }

    /// In the order in which a first start writes them. One that failed at a file leaves those before it; one that failed
    /// although the file was written leaves that one too.
    const KEYS: [&str; 12] = [
        "hub-root/root.key",
        "hub-root/root.pem",
        "hub/root.pem",
        "hub/issuing.key",
        "hub/issuing.pem",
        "hub-operator/root.pem",
        "hub-operator/operator.key",
        "hub-operator/operator.pem",
        "hub/operator.pem",
        "hub/server.key",
        "hub/server.pem",
        "hub/relay.key",
    ];

    /// Folders of a hub in `dir`, of which the hub's own is there.
    fn folders(dir: &Path) -> Folders {
        std::fs::create_dir(dir.join("hub")).unwrap();
        Folders::beside(&dir.join("hub")).unwrap()
    }

    #[test]
    fn a_first_start_that_failed_at_any_file_goes_on_with_keys_that_fit() -> Result<()> {
        let config = config::HubFile::default().validate()?;
        let now_ms = sealcast_node::now_ms();
        let first = tempfile::tempdir()?;
        keys(&folders(first.path()), &config, now_ms)?;
        let read_all = |dir: &Path| KEYS.map(|name| std::fs::read(dir.join(name)).unwrap());
        let files =
            ["hub", "hub-operator", "hub-root"].map(|name| std::fs::read_dir(first.path().join(name)).unwrap().count());
        assert_eq!(files.iter().sum::<usize>(), KEYS.len());
        for written in 0..=KEYS.len() {
            let dir = tempfile::tempdir()?;
            let folders = folders(dir.path());
            for name in &KEYS[..written] {
                std::fs::create_dir_all(dir.path().join(name).parent().unwrap())?;
                std::fs::copy(first.path().join(name), dir.path().join(name))?;
            }
            let made = keys(&folders, &config, now_ms + 1_000)?;
            let files = read_all(dir.path());
            let again = keys(&folders, &config, now_ms + 2_000)?;
            assert_eq!(files, read_all(dir.path()), "after {written} files a second start writes");
            assert_eq!((&made.operator, &made.relay_key), (&again.operator, &again.relay_key));
            for dir in [&folders.hub, &folders.operator, &folders.root] {
                assert_eq!(&files::certificate(&dir.join("root.pem"))?, made.authority.root(), "{written}");
            }
            assert!(made.operator.is_issued_by(made.authority.certificate()), "{written}");
            let operator = KeyFiles::default().read(&folders.operator.join("operator.key"))?;
            assert_eq!(operator.public(), made.operator.public_key(), "{written}");
        }
        Ok(())
    }

    #[test]
    fn the_server_certificate_and_the_descriptor_are_written_when_they_change() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let folders = folders(dir.path());
        let config = config::HubFile::default().validate()?;
        let now_ms = sealcast_node::now_ms();
        let read = || std::fs::read(folders.hub.join("server.pem"));
        keys(&folders, &config, now_ms)?;
        let first = read()?;
        let keys_again = keys(&folders, &config, now_ms + 1000)?;
        assert_eq!(read()?, first);
        assert_eq!(keys_again.server_chain.len(), 3);
        let year = u64::try_from(YEAR.as_millis())?;
        let month = u64::try_from(RENEW.as_millis())?;
        keys(&folders, &config, now_ms + year - month - 60_000)?;
        assert_eq!(read()?, first, "it is good for another month");
        keys(&folders, &config, now_ms + year - month + 60_000)?;
        let second = read()?;
        assert_ne!(second, first, "it ends within a month");
        let names = vec!["localhost".to_owned(), "hub.example".to_owned()];
        let keys = keys(&folders, &config::Hub { names, ..config }, now_ms + year - month + 60_000)?;
        assert_ne!(read()?, second, "other names");

        let network = |broker: &str, written_ms| Network {
            chain_id: 1,
            ledger: [1; 20],
            first_ca: *keys.authority.key().public(),
            first_operator: *keys.operator.public_key(),
            issuing: keys.authority.certificate().clone(),
            operator: keys.operator.clone(),
            broker: broker.to_owned(),
            wire: Wire::default(),
            hub: "https://localhost:1".to_owned(),
            written_ms,
        };
        let write = |network: &Network| self::network(&folders, network, &keys.authority);
        let copy = || files::read(&folders.operator.join("network.json"));
        let first = write(&network("mqtts://localhost:1", now_ms))?;
        assert_eq!(write(&network("mqtts://localhost:1", now_ms + 5))?, first);
        let second = write(&network("mqtts://localhost:2", now_ms + 5))?;
        assert_ne!(second, first);
        assert_eq!(copy()?, second, "the operator's commands find the hub");
        std::fs::remove_dir_all(&folders.operator)?;
        write(&network("mqtts://localhost:3", now_ms + 5))?;
        assert!(!folders.operator.exists(), "a folder that was moved away stays away");
        Ok(())
    }
}
