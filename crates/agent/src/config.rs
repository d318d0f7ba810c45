//! `agent.toml`, made into typed values before anything is opened.

mod anchor;
mod by_filter;
pub mod listener;
mod record;
mod values;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use sealcast_agent_core::{
    AnchorRules, ClearFilter, Freshness, MaxAge, RecordRules, Stale, session::Annotate, values::ValueRules,
};
use sealcast_ledger::LedgerId;
use sealcast_node::{
    config::{MAX_PACKET_BYTES, TableAt, address},
    endpoint::NetworkConfig,
    files,
    monitor::MonitorFile,
    upstream::{UpstreamConfig, UpstreamFile},
};
use sealcast_quality::{MAX_SCHEMA_BYTES, TopicSpec};
use serde::{Deserialize, Deserializer};

use self::{
    anchor::AnchorFile,
    by_filter::by_filter,
    listener::{Listener, ListenerFile, listeners},
    record::{RecordFile, record_rules},
    values::{PublishFile, ReceiveFile, value_rules},
};
use crate::doors::{
    modbus::settings::{self, Modbus, ModbusFile},
    settings::{Door, DoorFile},
};

/// The file as `init` writes it: every key stands in it, and none is set.
pub const TEMPLATE: &str = include_str!("config/agent.toml");

/// Where clients connect if nothing else is said.
pub const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1883);

/// `agent.toml`: see [`Agent`] for each key.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AgentFile {
    /// Where the device's MQTT clients connect over plain TCP. Default `127.0.0.1:1883`, or none if there are `listener` tables.
    #[serde(deserialize_with = "some_address")]
    listen: Option<SocketAddr>,
    /// Allows `listen` to be more than loopback, where anybody who reaches it speaks as this device. Default false.
    listen_beyond_loopback: bool,
    /// More places where they connect, or other ones. Default none.
    listener: Vec<ListenerFile>,
    /// The broker, and the login that it wants. Default: what the hub said at enrolment, with the device's certificate.
    upstream: UpstreamFile,
    /// The file with the passphrase of the device's private key. Default: systemd's credential, if there is one, else the key is
    /// not encrypted.
    passphrase_file: Option<PathBuf>,
    /// Topic filters that pass as they are, sealed by nobody; `$SYS/#` for what the broker says of itself. Default none: a
    /// topic that no group covers is refused.
    clear: Vec<String>,
    /// Of which messages MQTT 5 clients are told, in user properties, who sent them and what the checks found: `none`,
    /// `flagged` or `all`. Default `flagged`: of those of which something is to be said.
    annotate: Annotate,
    /// Most clients at a time. Default 256.
    max_clients: usize,
    /// Largest MQTT packet of a client, in bytes. Default 1,048,576.
    max_packet_bytes: usize,
    /// How long a message waits for a group key that is on its way, in ms. Default 10,000.
    key_wait_ms: u64,
    freshness: FreshnessFile,
    ledger: LedgerFile,
    /// Freshness for single topics, the most specific filter that matches counts.
    topic: Vec<TopicFile>,
    /// Rules for values, the most specific filter that matches counts.
    quality: Vec<TopicSpec>,
    /// Formats of what this device's clients publish, the most specific filter that matches counts.
    publish: Vec<PublishFile>,
    /// Formats and policy of what its clients receive, the most specific filter that matches counts.
    receive: Vec<ReceiveFile>,
    /// What stands before `/<device>/<topic>` in an alarm's topic. Default `<first level of the topic>/alarm`.
    alarm_topic: Option<String>,
    /// Most readings that wait on disk for the ledger; while there are so many, the newest are not recorded. Default 100,000.
    record_queue: u64,
    /// Topics whose readings are written to the ledger as `record = "chain"` of a quality rule has it, but read in their own
    /// way; the most specific filter that matches counts, and before any quality rule. Default none.
    record: Vec<RecordFile>,
    /// What this device's clients send is anchored on the ledger, so that it can be proven. Default none: it is not.
    anchor: Option<AnchorFile>,
    /// The HTTP door. Default none.
    http: Option<DoorFile>,
    /// The CoAP door. Default none.
    coap: Option<DoorFile>,
    /// Modbus devices. Default none.
    modbus: Vec<ModbusFile>,
    /// Where metrics, health and readiness are served. Default nowhere.
    metrics: Option<MonitorFile>,
    /// Whether the hub is told how the agent is, for its console. Default true.
    report: bool,
    /// Topic filters: readings that this device's clients publish there are shown in the hub's console, with what the checks
    /// find. The hub, its console's readers, and a broker between agent and hub that is not the hub's can read them. Default
    /// none.
    share: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct LedgerFile {
    /// How old the operator's newest word on the ledger may be before the agent warns, in ms; 0: it never does. Default
    /// 900,000: 15 minutes.
    max_age_ms: u64,
    /// Endpoints of the network that the ledger is on (Ethereum JSON-RPC), `http`, `https`, `ws` or `wss`: the agent reads the
    /// ledger there itself. Default none: the hub shows it.
    rpc: Vec<String>,
    /// When a block counts as one that stays: `latest`, `safe`, `finalized`, or how many blocks have to be on top of it. Default
    /// `finalized`.
    finality: Option<String>,
    /// The contract there that has the ledger, `CHAIN:0xADDRESS`, if it has moved and this device has not read that yet. Default:
    /// where the ledger is by the entries that this device has.
    contract: Option<LedgerId>,
    /// The certificate authorities of the endpoints, PEM. Default: those of the system.
    ca_file: Option<PathBuf>,
}

impl Default for LedgerFile {
    fn default() -> Self {
        Self { max_age_ms: 900_000, rpc: Vec::new(), finality: None, contract: None, ca_file: None }
    }
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FreshnessFile {
    /// How far the clocks of sender and receiver may be apart, in ms. Default 2,000.
    clock_tolerance_ms: u64,
    /// Oldest live message that is handed on, in ms; 0 for no limit. Default 30,000.
    max_age_ms: u64,
    /// The same for retained messages. Default 0.
    retained_max_age_ms: u64,
    /// The same for what the broker kept while the client was away. Default 604,800,000: seven days.
    offline_max_age_ms: u64,
    /// What becomes of a retained message that is older. Default `refuse`.
    stale: Stale,
}

impl Default for FreshnessFile {
    fn default() -> Self {
        Self {
            clock_tolerance_ms: 2_000,
            max_age_ms: 30_000,
            retained_max_age_ms: 0,
            offline_max_age_ms: 7 * 24 * 3_600_000,
            stale: Stale::Refuse,
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct TopicFile {
    filter: String,
    max_age_ms: Option<u64>,
    retained_max_age_ms: Option<u64>,
    offline_max_age_ms: Option<u64>,
    stale: Option<Stale>,
}

impl Default for AgentFile {
    fn default() -> Self {
        Self {
            listen: None,
            listen_beyond_loopback: false,
            listener: Vec::new(),
            upstream: UpstreamFile::default(),
            passphrase_file: None,
            clear: Vec::new(),
            annotate: Annotate::default(),
            max_clients: 256,
            max_packet_bytes: 1 << 20,
            key_wait_ms: 10_000,
            freshness: FreshnessFile::default(),
            ledger: LedgerFile::default(),
            topic: Vec::new(),
            quality: Vec::new(),
            publish: Vec::new(),
            receive: Vec::new(),
            alarm_topic: None,
            record_queue: 100_000,
            record: Vec::new(),
            anchor: None,
            http: None,
            coap: None,
            modbus: Vec::new(),
            metrics: None,
            report: true,
            share: Vec::new(),
        }
    }
}

/// An agent's configuration, checked.
#[derive(Debug, Clone)]
pub struct Agent {
    /// Where clients connect over plain TCP, as `listen` says.
    pub listen: Option<SocketAddr>,
    /// Where they connect besides.
    pub listeners: Vec<Listener>,
    /// The broker.
    pub upstream: UpstreamConfig,
    /// Where the passphrase of the device's private key is.
    pub passphrase_file: Option<PathBuf>,
    /// Filters of topics that pass unsealed.
    pub clear: Vec<ClearFilter>,
    /// What MQTT 5 clients are told of the messages that they get.
    pub annotate: Annotate,
    /// Most clients at a time.
    pub max_clients: usize,
    /// Largest packet of a client.
    pub max_packet_bytes: usize,
    /// How long a message waits for a key.
    pub key_wait: Duration,
    /// How old a message may be.
    pub freshness: Freshness,
    /// What is said about values.
    pub values: Arc<ValueRules>,
    /// What goes to the ledger.
    pub record: RecordRules,
    /// Most readings that wait for it.
    pub record_queue: u64,
    /// How what is sent is anchored on the ledger, if it is.
    pub anchors: Option<AnchorRules>,
    /// The HTTP door.
    pub http: Option<Door>,
    /// The CoAP door.
    pub coap: Option<Door>,
    /// Modbus devices that are polled and written.
    pub modbus: Vec<Modbus>,
    /// Where metrics are served.
    pub metrics: Option<SocketAddr>,
    /// Whether the hub is told how the agent is.
    pub report: bool,
    /// Where the agent reads the ledger, if not from the hub.
    pub network: Option<NetworkConfig>,
    /// At which contract, if not where the device knows the ledger to be.
    pub contract: Option<LedgerId>,
    /// Where the groups' keys are written in the clear. No file says so: whoever wants that has to say it each time.
    pub keylog: Option<PathBuf>,
}

impl Agent {
    /// Writes the groups' keys to a file.
    pub fn with_keylog(self, keylog: Option<PathBuf>) -> Self {
        Self { keylog, ..self }
    }
}

impl AgentFile {
    /// Replaces what a flag or the environment gave.
    pub fn with(mut self, listen: Option<SocketAddr>, upstream: Option<String>, clear: &[String]) -> Self {
        self.listen = listen.or(self.listen);
        self.upstream = self.upstream.with_url(upstream);
        self.clear.extend_from_slice(clear);
        self
    }

    /// Replaces where the passphrase is, if an option says so.
    pub fn with_passphrase(self, file: Option<PathBuf>) -> Self {
        Self { passphrase_file: file.or(self.passphrase_file), ..self }
    }

    /// Reads the schemas that it names; paths are relative to `dir`, the folder of the configuration's own file.
    pub fn with_files(mut self, dir: &Path) -> Result<Self> {
        read_schemas(&mut self.quality, dir)?;
        self.listener.iter_mut().for_each(|table| table.set_dir(dir));
        self.passphrase_file = self.passphrase_file.map(|file| dir.join(file));
        self.upstream = self.upstream.with_files(dir);
        self.ledger.ca_file = self.ledger.ca_file.map(|file| dir.join(file));
        Ok(self)
    }

    /// Checks every value.
    pub fn validate(self) -> Result<Agent> {
        let clear = |text: &String| -> Result<ClearFilter> {
            text.parse().with_context(|| format!("clear: {text:?} cannot pass unsealed"))
        };
        let listen = self.listen.or_else(|| self.listener.is_empty().then_some(DEFAULT_LISTEN));
        if let Some(listen) = listen {
            ensure!(
                listen.ip().is_loopback() || self.listen_beyond_loopback,
                "listen: {listen} can be reached from other machines, and whoever reaches it speaks as this device; if you \
                 want that, set listen_beyond_loopback = true"
            );
        }
        ensure!((1..=65_536).contains(&self.max_clients), "max_clients: must be from 1 to 65536");
        ensure!(
            (128..=MAX_PACKET_BYTES).contains(&self.max_packet_bytes),
            "max_packet_bytes: must be from 128 to {MAX_PACKET_BYTES}, the largest packet in MQTT"
        );
        ensure!(self.key_wait_ms <= 600_000, "key_wait_ms: must be at most 600000");
        let limit = |ms: u64| (ms != 0).then_some(ms);
        let default = MaxAge {
            live_ms: limit(self.freshness.max_age_ms),
            retained_ms: limit(self.freshness.retained_max_age_ms),
            offline_ms: limit(self.freshness.offline_max_age_ms),
            stale: self.freshness.stale,
        };
        let topics = by_filter(
            "topic",
            self.topic,
            |table| &table.filter,
            |table| {
                let or = |own: Option<u64>, default| own.map_or(default, limit);
                let age = MaxAge {
                    live_ms: or(table.max_age_ms, default.live_ms),
                    retained_ms: or(table.retained_max_age_ms, default.retained_ms),
                    offline_ms: or(table.offline_max_age_ms, default.offline_ms),
                    stale: table.stale.unwrap_or(default.stale),
                };
                Ok(age)
            },
        )?;
        ensure!((1..=100_000_000).contains(&self.record_queue), "record_queue: must be from 1 to 100000000");
        ensure!(
            self.report || self.share.is_empty(),
            "share: needs report = true, since the readings are a part of the report"
        );
        let shared = self
            .share
            .iter()
            .map(|text| text.parse().with_context(|| format!("share: {text:?} is not a topic filter")));
        let values = value_rules(self.quality, self.publish, self.receive, self.alarm_topic)?;
        let values = Arc::new(values.with_shared(shared.collect::<Result<_>>()?));
        let network = NetworkConfig::new(&self.ledger.rpc, self.ledger.finality.as_deref(), self.ledger.ca_file)?;
        ensure!(
            network.is_some() || self.ledger.contract.is_none(),
            "ledger.contract: says nothing without `rpc`, the endpoints of its network"
        );
        Ok(Agent {
            record: record_rules(self.record, values.clone())?,
            record_queue: self.record_queue,
            anchors: self.anchor.map(AnchorFile::validate).transpose()?,
            listen,
            listeners: listeners(self.listener, self.annotate)?,
            upstream: self.upstream.validate("upstream")?,
            clear: self.clear.iter().map(clear).collect::<Result<_>>()?,
            passphrase_file: self.passphrase_file,
            annotate: self.annotate,
            max_clients: self.max_clients,
            max_packet_bytes: self.max_packet_bytes,
            key_wait: Duration::from_millis(self.key_wait_ms),
            freshness: Freshness {
                clock_tolerance_ms: self.freshness.clock_tolerance_ms,
                ledger_ms: limit(self.ledger.max_age_ms),
                default,
                topics,
            },
            values,
            http: self.http.map(|door| door.validate("http")).transpose()?,
            coap: self.coap.map(|door| door.validate("coap")).transpose()?,
            modbus: settings::devices(self.modbus)?,
            metrics: self.metrics.map(MonitorFile::validate).transpose()?,
            report: self.report,
            contract: self.ledger.contract,
            network,
            keylog: None,
        })
    }
}

/// Puts the JSON Schemas that rules name by a file in the file's place; paths are relative to `dir`.
pub fn read_schemas(rules: &mut [TopicSpec], dir: &Path) -> Result<()> {
    for (at, rule) in rules.iter_mut().enumerate() {
        let Some(schema) = rule.schema.as_mut().filter(|schema| schema.json.is_none()) else { continue };
        if let Some(file) = schema.file.take() {
            let text = files::read_bounded(&dir.join(file), MAX_SCHEMA_BYTES)
                .context("schema.file")
                .with_context(|| TableAt::new("quality", at, &rule.filter))?;
            schema.json = Some(text);
        }
    }
    Ok(())
}

fn some_address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SocketAddr>, D::Error> {
    address(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(text: &str) -> Result<Agent> {
        toml::from_str::<AgentFile>(text)?.validate()
    }

    #[test]
    fn the_file_that_init_writes_has_every_key_with_its_default() {
        let docs = include_str!("../../../docs/configuration.md");
        let faults = sealcast_node::config::faults::<AgentFile>(TEMPLATE, docs);
        assert!(faults.is_empty(), "{}", faults.join("\n"));
    }

    #[test]
    fn defaults_are_valid() -> Result<()> {
        let agent = AgentFile::default().validate()?;
        assert_eq!(agent.freshness.of("a/b").live_ms, Some(30_000));
        assert_eq!(agent.freshness.of("a/b").retained_ms, None);
        assert_eq!((agent.listen, agent.listeners), (Some(DEFAULT_LISTEN), vec![]));
        Ok(())
    }

    #[test]
    fn listener_tables_take_the_place_of_the_default_and_stand_beside_what_is_said() -> Result<()> {
        let table = "[[listener]]\nlisten = 'unix:/run/s'";
        let other = agent(table)?;
        assert_eq!((other.listen, other.listeners.len()), (None, 1));
        let both = agent(&format!("listen = '127.0.0.1:7'\n{table}"))?;
        assert_eq!((both.listen.map(|address| address.port()), both.listeners.len()), (Some(7), 1));
        let address = Some(SocketAddr::from(([127, 0, 0, 1], 8)));
        let flag = toml::from_str::<AgentFile>(table)?.with(address, None, &[]).validate()?;
        assert_eq!((flag.listen, flag.listeners.len()), (address, 1));
        Ok(())
    }

    #[test]
    fn the_most_specific_topic_table_counts_and_inherits_the_rest() -> Result<()> {
        let agent = agent(
            "[freshness]\nretained_max_age_ms = 7\n\
             [[topic]]\nfilter = 'valve/#'\nmax_age_ms = 0\n\
             [[topic]]\nfilter = 'valve/+'\nmax_age_ms = 500",
        )?;
        let age = |topic| agent.freshness.of(topic);
        let stale = Stale::Refuse;
        assert_eq!(
            age("valve/1"),
            MaxAge { live_ms: Some(500), retained_ms: Some(7), offline_ms: Some(604_800_000), stale }
        );
        assert_eq!(age("valve/1/x").live_ms, None);
        assert_eq!(age("other").live_ms, Some(30_000));
        Ok(())
    }

    #[test]
    fn bad_values_are_named() {
        for (text, part) in [
            ("lisen = '127.0.0.1:1'", "lisen"),
            ("listen = '0.0.0.0:1883'", "listen_beyond_loopback"),
            ("listen = 'localhost'", "127.0.0.1:1883"),
            (
                "[[listener]]\nlisten = '127.0.0.1:1883'",
                "[[listener]] table number 1 (listen = \"127.0.0.1:1883\"): listen",
            ),
            ("[ledger]\nrpc = ['rpc.example']", "ledger.rpc"),
            ("[ledger]\nrpc = ['https://rpc.example']\nfinality = 'soon'", "ledger.finality"),
            (
                "[ledger]\ncontract = '31337:0x0707070707070707070707070707070707070707'",
                "ledger.contract: says nothing",
            ),
            ("[ledger]\nrpc = ['https://rpc.example']\ncontract = '7'", "contract"),
            ("[ledger]\nfinality = 'safe'", "ledger.finality: says nothing without `rpc`"),
            ("upstream = 'broker:1883'", "mqtts://"),
            ("upstream = 'mqtt://broker'", "HOST:PORT"),
            ("[upstream]\npassword_file = 'p'", "upstream: password_file"),
            ("clear = ['a/#/b']", "clear"),
            ("annotate = 'some'", "some"),
            ("max_clients = 0", "max_clients"),
            ("max_packet_bytes = 268435461", "268435460"),
            ("clear = ['$share/g/a']", "leave out $share"),
            ("clear = ['sealcast/#']", "for the agents themselves"),
            ("[[quality]]\nfilter = 'a'\nrnage = { min = 1 }", "rnage"),
            ("[[quality]]\nfilter = 'a/#/b'\nrange = { min = 1 }", "a/#/b"),
            ("[[quality]]\nfilter = 'a'\nrange = { min = 2, max = 1 }", "range"),
            ("[[publish]]\nfilter = 'a'", "neither input nor output"),
            ("[[publish]]\nfilter = 'a'\ninput = { format = 'json' }", "value"),
            ("[[publish]]\nfilter = 'a'\ninput = { format = 'jsn', value = '$.t' }", "jsn"),
            ("[[receive]]\nfilter = 'a'\nflagged = 'keep'", "keep"),
            ("[[receive]]\nfilter = 'a'\n[[receive]]\nfilter = 'a'", "table number 1 has the same filter"),
            ("[[receive]]\nfilter = 'a'\ndivert_to = 'a/#'", "divert_to"),
            ("alarm_topic = 'sealcast/v1/keys'", "alarm_topic"),
            ("[freshness]\nstale = 'maybe'", "maybe"),
            ("[[topic]]\nfilter = 'a/#/b'", "[[topic]] table number 1 (filter = \"a/#/b\"): filter"),
            ("[[record]]\nfilter = '#/a'", "[[record]] table number 1 (filter = \"#/a\"): filter"),
            ("[[record]]\nfilter = 'a'\ndecimals = 39", "[[record]] table number 1 (filter = \"a\"): decimals"),
            ("[[record]]\nfilter = 'a'\n[[record]]\nfilter = 'a'", "table number 1 has the same filter"),
            ("record_queue = 0", "record_queue"),
            ("[anchor]\nevery_messages = 0", "anchor: every_messages"),
            ("[anchor]\nevery_s = 5", "anchor: every_s"),
            ("[anchor]\nkeep_days = 0", "anchor: keep_days"),
            ("[anchor]\nevery = 5", "every"),
            ("[[quality]]\nfilter = 'a'\nrecord = 'disk'", "disk"),
            ("[[quality]]\nfilter = 'a'\nrecord_decimals = 1", "record = \"chain\""),
            ("[[quality]]\nfilter = 'a'\nrecord = 'chain'\nrecord_decimals = 39", "at most 38"),
        ] {
            let error = agent(text).map_or_else(|error| format!("{error:#}"), |_| "accepted".into());
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
