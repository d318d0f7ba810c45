//! `hub.toml`, made into typed values before anything is opened.

mod console;
mod ledger;
mod limits;
mod relay;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use sealcast_hub_core::Readers;
use sealcast_node::{
    MAX_MESSAGE_BYTES,
    config::{MAX_PACKET_BYTES, address},
    monitor::MonitorFile,
    upstream::{UpstreamConfig, UpstreamFile},
};
use sealcast_topic::Wire;
use serde::Deserialize;

use self::{console::ConsoleFile, ledger::LedgerFile, limits::LimitsFile, relay::RelayFile};

pub use self::{console::Console, ledger::Network};

/// The file as `init` writes it: every key stands in it, and none is set.
pub const TEMPLATE: &str = include_str!("config/hub.toml");

/// `hub.toml`: see [`Hub`] for each key.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HubFile {
    /// Where EST listens (HTTPS). Default `127.0.0.1:8443`.
    #[serde(deserialize_with = "address")]
    est: SocketAddr,
    /// Where the broker listens (MQTT over TLS, client certificate required). Default `127.0.0.1:8883`.
    #[serde(deserialize_with = "address")]
    mqtt: SocketAddr,
    /// Names and addresses at which devices reach the hub. The server certificate holds them all; enrolled devices are
    /// told the first. Default `["localhost", "127.0.0.1"]`.
    names: Vec<String>,
    /// How long a device's certificate is valid, in seconds. Its agent renews it after two thirds of that. Default
    /// 31,536,000 (365 days).
    certificate_lifetime_s: u32,
    /// How long an enrolment token can be used, in hours. Default 24.
    token_hours: u32,
    /// The EVM chain id of the embedded ledger, chosen at the first start. Default 7526.
    chain_id: u64,
    /// The file with the passphrase of the private keys. Default: systemd's credential, if there is one, else the keys are not
    /// encrypted.
    passphrase_file: Option<PathBuf>,
    /// The `pkcs11:` URI of the issuing CA's key, for the first start: it is in a token, which makes it if it is not there.
    /// Default: a new key in the hub's folder.
    issuing_key: Option<String>,
    /// Somebody else's broker, in the place of the hub's own.
    broker: UpstreamFile,
    /// On which network the ledger is, if it is not the embedded one.
    ledger: LedgerFile,
    /// Which devices may subscribe to a group's topics, and get what is sent there. Default `granted`.
    subscribe: Subscribe,
    /// What devices may use of the broker.
    limits: LimitsFile,
    /// What devices may put on the ledger.
    relay: RelayFile,
    /// Largest MQTT packet that the broker takes, in bytes. Default 4,194,304.
    max_packet_bytes: usize,
    /// Where metrics, health and readiness are served. Default nowhere.
    metrics: Option<MonitorFile>,
    /// Where the console is served.
    console: ConsoleFile,
}

impl Default for HubFile {
    fn default() -> Self {
        Self {
            est: SocketAddr::from(([127, 0, 0, 1], 8443)),
            mqtt: SocketAddr::from(([127, 0, 0, 1], 8883)),
            names: vec!["localhost".into(), "127.0.0.1".into()],
            certificate_lifetime_s: 365 * 86_400,
            token_hours: 24,
            chain_id: 7526,
            passphrase_file: None,
            issuing_key: None,
            broker: UpstreamFile::default(),
            ledger: LedgerFile::default(),
            subscribe: Subscribe::Granted,
            limits: LimitsFile::default(),
            relay: RelayFile::default(),
            max_packet_bytes: MAX_MESSAGE_BYTES,
            metrics: None,
            console: ConsoleFile::default(),
        }
    }
}

/// Which devices may subscribe to a group's topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Subscribe {
    /// Those that are granted the group.
    Granted,
    /// All, though they cannot open what they get.
    Anyone,
}

/// The hub's configuration, checked.
#[derive(Debug, Clone)]
pub struct Hub {
    /// Where EST listens.
    pub est: SocketAddr,
    /// Where the hub's own broker listens, unless there is another one.
    pub mqtt: SocketAddr,
    /// Somebody else's broker. Devices are told where it is.
    pub broker: Option<UpstreamConfig>,
    /// How Sealcast's own topics are written there. Devices are told that, too.
    pub wire: Wire,
    /// What the server certificate is for, the public name first.
    pub names: Vec<String>,
    /// Validity of device certificates.
    pub certificate_lifetime: Duration,
    /// Validity of enrolment tokens.
    pub token_lifetime: Duration,
    /// The embedded ledger's chain id.
    pub chain_id: u64,
    /// Where the passphrase of the private keys is.
    pub passphrase_file: Option<PathBuf>,
    /// Which key in a token the issuing CA gets at the first start.
    pub issuing_key: Option<String>,
    /// The network that the ledger is on, if it is not the embedded one.
    pub ledger: Option<Network>,
    /// Where the embedded ledger's JSON-RPC is served.
    pub ledger_listen: Option<SocketAddr>,
    /// Who gets the messages of groups.
    pub readers: Readers,
    /// What devices may use of the broker.
    pub limits: sealcast_broker::Limits,
    /// What devices may put on the ledger.
    pub relay: sealcast_chain::RelayLimits,
    /// Where metrics are served.
    pub metrics: Option<SocketAddr>,
    /// Where the console is served.
    pub console: Option<Console>,
}

impl Hub {
    /// The key of the account that pays for entries, if it is not in the hub's folder.
    pub fn relay_key_file(&self) -> Option<&Path> {
        self.ledger.as_ref()?.key_file.as_deref()
    }

    /// The file with its password, if it is a keystore.
    pub fn relay_key_password_file(&self) -> Option<&Path> {
        self.ledger.as_ref()?.key_password_file.as_deref()
    }
}

impl HubFile {
    /// Replaces what a flag or the environment gave.
    pub fn with(mut self, est: Option<SocketAddr>, mqtt: Option<SocketAddr>, names: &[String]) -> Self {
        self.est = est.unwrap_or(self.est);
        self.mqtt = mqtt.unwrap_or(self.mqtt);
        if !names.is_empty() {
            self.names = names.to_vec();
        }
        self
    }

    /// Replaces whose broker it is, and what Sealcast's own topics begin with there, if options say so.
    pub fn with_broker(self, url: Option<String>, prefix: Option<String>) -> Self {
        Self { broker: self.broker.with_url(url).with_prefix(prefix), ..self }
    }

    /// Replaces on which network the ledger is, if options say so.
    pub fn with_ledger(self, rpc: Vec<String>, finality: Option<String>) -> Self {
        Self { ledger: self.ledger.with_rpc(rpc).with_finality(finality), ..self }
    }

    /// Takes the paths that it has as relative to `dir`, the folder of the configuration's own file.
    pub fn with_paths(self, dir: &Path) -> Self {
        let passphrase_file = self.passphrase_file.map(|file| dir.join(file));
        Self { passphrase_file, broker: self.broker.with_files(dir), ledger: self.ledger.with_files(dir), ..self }
    }

    /// Replaces where the passphrase is, if an option says so.
    pub fn with_passphrase(self, file: Option<PathBuf>) -> Self {
        Self { passphrase_file: file.or(self.passphrase_file), ..self }
    }

    /// Replaces where the console is served, if an option says so; an empty text: nowhere.
    pub fn with_console(self, listen: Option<String>) -> Self {
        Self { console: self.console.with(listen), ..self }
    }

    /// Replaces who may subscribe to a group's topics.
    pub fn with_subscribe(self, subscribe: Subscribe) -> Self {
        Self { subscribe, ..self }
    }

    /// Checks every value.
    pub fn validate(self) -> Result<Hub> {
        ensure!(!self.names.is_empty(), "names: give at least one name or address at which devices reach the hub");
        for name in &self.names {
            ensure!(
                rustls_pki_types::ServerName::try_from(name.as_str()).is_ok(),
                "names: {name:?} is neither a host name nor an IP address"
            );
        }
        ensure!(
            (30..=315_360_000).contains(&self.certificate_lifetime_s),
            "certificate_lifetime_s: must be from 30 to 315360000, which is ten years"
        );
        ensure!((1..=8760).contains(&self.token_hours), "token_hours: must be from 1 to 8760");
        ensure!((1..1 << 32).contains(&self.chain_id), "chain_id: must be from 1 to 4294967295");
        ensure!(
            (MAX_MESSAGE_BYTES..=MAX_PACKET_BYTES).contains(&self.max_packet_bytes),
            "max_packet_bytes: must be from {MAX_MESSAGE_BYTES}, which control messages may need, to {MAX_PACKET_BYTES}, \
             the largest packet in MQTT"
        );
        ensure!(
            self.est != self.mqtt || self.est.port() == 0,
            "est and mqtt: both are {}, but each needs its own address",
            self.est
        );
        let (broker, prefix) = self.broker.split_prefix();
        let broker = Some(broker.validate("broker")?).filter(|broker| broker.url.is_some());
        Ok(Hub {
            est: self.est,
            mqtt: self.mqtt,
            wire: match prefix {
                Some(prefix) => Wire::new(&prefix).context("broker.prefix: cannot be used")?,
                // At the hub's own broker topics stay as they are.
                None if broker.is_none() => Wire::default(),
                None => Wire::foreign(),
            },
            broker,
            names: self.names,
            certificate_lifetime: Duration::from_secs(self.certificate_lifetime_s.into()),
            token_lifetime: Duration::from_secs(u64::from(self.token_hours) * 3_600),
            chain_id: self.chain_id,
            passphrase_file: self.passphrase_file,
            issuing_key: self.issuing_key,
            ledger_listen: self.ledger.listen()?,
            ledger: self.ledger.validate()?,
            readers: match self.subscribe {
                Subscribe::Granted => Readers::Granted,
                Subscribe::Anyone => Readers::Anyone,
            },
            limits: self.limits.validate(self.max_packet_bytes)?,
            relay: self.relay.validate()?,
            metrics: self.metrics.map(MonitorFile::validate).transpose()?,
            console: self.console.validate()?,
        })
    }
}

impl Hub {
    /// What a hub that runs has to heed. Commands beside it do not know of the options that it was given.
    pub fn check_to_run(self) -> Result<Self> {
        ensure!(
            self.broker.is_some() || self.wire.prefix().is_none(),
            "broker.prefix: is for somebody else's broker: set broker.url, or leave it out"
        );
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_that_init_writes_has_every_key_with_its_default() {
        let docs = include_str!("../../../docs/configuration.md");
        let faults = sealcast_node::config::faults::<HubFile>(TEMPLATE, docs);
        assert!(faults.is_empty(), "{}", faults.join("\n"));
    }

    #[test]
    fn a_prefix_is_for_somebody_elses_broker() -> Result<()> {
        let read = |text: &str| toml::from_str::<HubFile>(text)?.validate()?.check_to_run();
        let at = |line: &str| format!("[broker]\nurl = 'mqtt://localhost:1'\n{line}");
        assert_eq!(read("")?.wire, Wire::default());
        assert_eq!(read(&at(""))?.wire, Wire::foreign());
        let chosen = read(&at("prefix = 'plant-7/sealcast'"))?;
        assert_eq!(chosen.wire, Wire::new("plant-7/sealcast")?);
        let by_option = toml::from_str::<HubFile>(&at("prefix = 'plant-7'"))?.with_broker(None, Some("plant-8".into()));
        assert_eq!(by_option.validate()?.wire.prefix(), Some("plant-8"));
        for (text, part) in [
            ("[broker]\nprefix = 'plant-7'".to_owned(), "broker.prefix: is for somebody else's broker"),
            (at("prefix = ''"), "broker.prefix: cannot be used: a prefix has 1 to"),
            (at("prefix = 'a/#'"), "broker.prefix: cannot be used: a prefix may not have '#'"),
        ] {
            let error = read(&text).map_or_else(|error| format!("{error:#}"), |_| "accepted".into());
            assert!(error.contains(part), "{text}: {error}");
        }
        Ok(())
    }
}
