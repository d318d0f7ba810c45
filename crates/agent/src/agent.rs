//! `sealcast agent`: the sidecar of one device. Its MQTT clients connect to it as if it were the broker.

use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, bail};
use sealcast_agent_core::{
    Keyring, LedgerSource, Own,
    control::{Control, KeysSeen, RestoreError, Restored, restore},
    session::ClientEvent,
};
use sealcast_group::{Groups, Me};
use sealcast_identity::{DeviceId, SigningKey};
use sealcast_ledger::{Hash, Record, Replica};
use sealcast_ledger_client::{AnswerVerifier, NetworkLedger, RemoteLedger};
use sealcast_node::{
    HubChannel, KeyFiles, Link, PassphraseArgs, Supervisor, Tasks,
    config::{folder_of, load},
    endpoint::NetworkConfig,
    monitor, now_ms, output, shutdown,
    tls::{self, Identity},
    upstream::Upstream,
};
use sealcast_topic::ControlTopic;
use serde::Serialize;
use tokio::sync::{Semaphore, mpsc, watch};
use tracing::info;

use crate::{
    client::Shared,
    config,
    control::{Driver, Parts},
    counts::Counts,
    data::DataPlane,
    doors,
    events::Events,
    folder::Folder,
    key_log::KeyLog,
    listeners::{self, Bound},
    outside::Outside,
    readings::Readings,
    refusals::Refusals,
    renewal::Renewer,
    reporter::Reporter,
    sessions::Sessions,
    store::Store,
    values::{Outlet, Values},
};

/// Records that a start reads from the disk at a time.
const RECORDS_READ: usize = 1024;
/// How long an orderly end may take.
const DEADLINE: Duration = Duration::from_secs(5);

/// `sealcast agent`.
#[derive(clap::Args)]
pub struct Options {
    /// The device's folder, made by `sealcast enroll`.
    #[arg(long, env = "SEALCAST_DIR", value_name = "DIR")]
    dir: PathBuf,
    /// Configuration file [default: DIR/agent.toml, if it exists].
    #[arg(long, env = "SEALCAST_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the device's MQTT clients connect over plain TCP [default: 127.0.0.1:1883, if agent.toml has no listeners].
    #[arg(long, env = "SEALCAST_LISTEN", value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// The hub's broker, mqtts://HOST:PORT or mqtt://HOST:PORT [default: the address from enrolment].
    #[arg(long, env = "SEALCAST_UPSTREAM", value_name = "URL")]
    upstream: Option<String>,
    /// Topic filter that passes unsealed, in addition to `clear` in the configuration. Can be repeated.
    #[arg(long, value_name = "FILTER")]
    clear: Vec<String>,
    #[command(flatten)]
    passphrase: PassphraseArgs,
    /// Start with an empty state, in a folder that has lost its agent.sqlite.
    #[arg(long)]
    new_state: bool,
    /// Write the keys of all groups to this file, in the clear, for Wireshark. Whoever gets the file can read all messages.
    #[arg(long, env = "SEALCAST_KEYLOG", value_name = "FILE")]
    keylog: Option<PathBuf>,
    /// Check folder and configuration, then exit.
    #[arg(long)]
    check: bool,
    /// Print the addresses that the agent listens on as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Ready {
    device: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    listen: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    listeners: Vec<String>,
    upstream: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    http: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    coap: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metrics: Option<SocketAddr>,
}

/// Where an agent's MQTT clients connect.
#[derive(Debug, Clone, Default)]
pub struct Addresses {
    /// Over plain TCP, as `listen` says.
    pub listen: Option<SocketAddr>,
    /// Besides, as the `[[listener]]` tables say.
    pub listeners: Vec<String>,
}

impl Addresses {
    /// The listener of `listen` is the first one.
    fn of(config: &config::Agent, bound: &[Bound]) -> Self {
        let (plain, others) = bound.split_at(usize::from(config.listen.is_some()));
        Self {
            listen: plain.first().and_then(Bound::address),
            listeners: others.iter().map(|bound| bound.listener.to_string()).collect(),
        }
    }
}

impl fmt::Display for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let listen = self.listen.map(|address| address.to_string());
        let all: Vec<&str> = listen.as_deref().into_iter().chain(self.listeners.iter().map(String::as_str)).collect();
        f.write_str(&all.join(", "))
    }
}

/// Runs an agent until the process is told to stop.
pub async fn run(options: Options) -> Result<()> {
    let file = options.config.clone().unwrap_or_else(|| options.dir.join("agent.toml"));
    let given = [
        options.listen.map(|_| "listen"),
        options.upstream.as_ref().map(|_| "upstream"),
        options.clear.first().map(|_| "clear"),
    ];
    let given: Vec<&str> = given.into_iter().flatten().collect();
    let config = load::<config::AgentFile>(options.config.as_deref(), &file)?.check(&given, |found| {
        let found = found.with_files(folder_of(&file))?.with_passphrase(options.passphrase.passphrase_file);
        found.with(options.listen, options.upstream, &options.clear).validate()
    })?;
    if options.check {
        let folder = Folder::open(&options.dir)?;
        let key_files = KeyFiles::new(config.passphrase_file.as_deref())?;
        let key = folder.key(&key_files)?;
        Store::require(&options.dir)?;
        Store::read_state(&options.dir, key_files.passphrase())?;
        upstream(&folder, &key, &config)?;
        config.network.as_ref().map(NetworkConfig::open).transpose()?;
        listeners::prepare(&config)?;
        for door in config.http.iter().chain(&config.coap) {
            door.token(&options.dir)?;
        }
        return output::line(&format!("{}: folder and configuration are in order", folder.device));
    }
    if options.new_state {
        Folder::open(&options.dir)?;
        Store::replace_lost(&options.dir, KeyFiles::new(config.passphrase_file.as_deref())?.passphrase())?;
    }
    let agent = Agent::start(&options.dir, config.with_keylog(options.keylog)).await?;
    let ready = Ready {
        device: agent.device.to_string(),
        listen: agent.addresses.listen,
        listeners: agent.addresses.listeners.clone(),
        upstream: agent.upstream.to_string(),
        http: agent.doors.http,
        coap: agent.doors.coap,
        metrics: agent.metrics,
    };
    let mut words =
        format!("agent of {}: MQTT clients connect to {}; broker {}", ready.device, agent.addresses, ready.upstream);
    for (door, address) in [("HTTP", ready.http), ("CoAP", ready.coap)] {
        words += &address.map(|address| format!("\n{door} devices connect to {address}")).unwrap_or_default();
    }
    words += &ready.metrics.map(|address| format!("\nmetrics at http://{address}/metrics")).unwrap_or_default();
    output::event(options.json, &ready, &words)?;
    let supervisor = Supervisor::from_environment();
    // What the service waits for is told after this.
    supervisor.ready();
    agent.tell(supervisor.clone());
    let failure = shutdown::requested_or(agent.failed()).await;
    supervisor.stopping();
    let stopped = agent.stop().await;
    match failure {
        // A supervisor starts again what has failed, not what has ended well.
        Some(reason) => bail!("the agent cannot go on: {reason}"),
        None => stopped,
    }
}

/// A running agent.
pub struct Agent {
    /// Its device.
    pub device: DeviceId,
    /// Where its clients connect.
    pub addresses: Addresses,
    /// Its broker.
    pub upstream: Upstream,
    /// Its doors beside MQTT.
    pub doors: doors::Addresses,
    /// Where metrics are served, if they are.
    pub metrics: Option<SocketAddr>,
    shared: Arc<Shared>,
    keys_seen: Arc<Mutex<KeysSeen>>,
    tasks: Tasks,
}

impl Agent {
    /// Starts the agent of the device in `dir`: it listens when this returns, and joins its groups as soon as it can.
    pub async fn start(dir: &Path, config: config::Agent) -> Result<Self> {
        let folder = Folder::open(dir)?;
        let key_files = KeyFiles::new(config.passphrase_file.as_deref())?;
        let key = folder.key(&key_files)?;
        let upstream = upstream(&folder, &key, &config)?;
        let store = Arc::new(Store::open(dir, key_files.passphrase())?);
        store.forget_old_clients()?;
        let config = Arc::new(config);
        let tasks = Tasks::default();
        let stop = tasks.stop().clone();

        let genesis = folder.genesis();
        let me = Me {
            device: folder.device.clone(),
            key: key.clone(),
            chain: folder.chain_der(),
            anchors: vec![folder.anchor.clone()],
        };
        let mut groups = Groups::new(me, &genesis, store.state()?, now_ms()).context("the groups' stored state")?;
        let snapshot = store.snapshot()?;
        let page = |from| store.records(from, RECORDS_READ);
        let restored = restore(genesis, &mut groups, snapshot.as_deref(), page, now_ms());
        let Restored { replica, snapshot_at } = restored.map_err(advise)?;
        info!(
            device = %folder.device, entries = replica.height(), applied = replica.height() - snapshot_at,
            "replica of the ledger read"
        );

        let number = genesis.id.number_of(&folder.device);
        let every = config.anchors.map_or(0, |rules| rules.every_messages);
        let readings = Arc::new(Readings::new(store.clone(), config.record_queue, every));
        let certificate = folder.chain.first().context("device.pem holds no certificate")?.fingerprint().0.into();
        let own = Own { device: folder.device.clone(), number, certificate, key: Arc::new(key.clone()) };
        let control = Control::new(own.clone(), groups, store.past()?, now_ms());
        let control = control.with_snapshot_at(snapshot_at).with_anchors(config.anchors);
        let key_log = config.keylog.as_deref().map(KeyLog::open).transpose()?;
        let (source, network) = match &config.network {
            None => (LedgerSource::Hub, None),
            Some(network) => {
                let final_after_ms = network.finality.apart_ms();
                let ledger = NetworkLedger::new(network.open()?, config.contract.unwrap_or(*replica.current_id()));
                (LedgerSource::Network { final_after_ms }, Some(Arc::new(ledger)))
            }
        };
        let keyring = Keyring::new(own, config.clear.clone(), config.freshness.clone(), replica)
            .with_wire(folder.network.wire.clone())
            .with_anchors(config.anchors)
            .with_source(source);
        let data = Arc::new(DataPlane::new(keyring, store.clone(), key_log));
        let mut listeners = Vec::new();
        for prepared in listeners::prepare(&config)? {
            listeners.push(prepared.bind().await?);
        }
        let addresses = Addresses::of(&config, &listeners);

        let device = folder.device.clone();
        let mut filters = vec![
            ControlTopic::Checkpoint { device: device.as_str() }.to_string(),
            ControlTopic::Ledger.to_string(),
            ControlTopic::Head.to_string(),
            ControlTopic::Keys { device: "+" }.to_string(),
            ControlTopic::Inbox { device: device.as_str(), group: "+", committer: "+" }.to_string(),
        ];
        filters.extend(config.values.watched());
        let answers = AnswerVerifier::new(genesis.id, device.as_str(), folder.anchor.clone());
        let (link, link_events) = Link::open(&upstream, device.as_str(), &filters, Some(answers), &tasks)?;
        let identity = Identity { chain: &folder.chain_der(), key: &key };
        let (hub_tls, tls_of) = watch::channel(tls::client(folder.anchor.root().der(), Some(&identity))?);
        let hub = HubChannel::new(link.clone(), &folder.network.hub, tls_of);
        let events = Arc::new(Events::new(dir));
        let values = Values::new(device.clone(), config.values.clone(), store.clone(), events.clone(), now_ms())?;
        let values = Arc::new(values);
        let keys_seen = Arc::new(Mutex::default());
        let (control_of, renewed) = mpsc::channel(1);
        let parts = Parts {
            data: data.clone(),
            store: store.clone(),
            values: values.clone(),
            readings: readings.clone(),
            ledger: RemoteLedger::new(hub.clone(), genesis.id),
            network: network.clone(),
            events: events.clone(),
            link: link.clone(),
            upstream: upstream.clone(),
            keys_seen: keys_seen.clone(),
            renewed,
            tasks: tasks.clone(),
        };
        let driver = Driver::start(control, parts).await?;
        let outlet = Outlet {
            config: config.clone(),
            data: data.clone(),
            link,
            readings: readings.clone(),
            events: events.clone(),
        };
        let counts = Arc::new(Counts::default());
        let renewer = Renewer {
            dir: dir.to_owned(),
            device: device.clone(),
            key: key.clone(),
            chain: folder.chain,
            anchor: folder.anchor,
            hub: folder.network.hub,
            upstream: upstream.clone(),
            hub_tls,
            data: data.clone(),
            counts: counts.clone(),
            control: control_of,
        };
        tasks.keep("the task that renews the certificate", renewer.run(stop.clone()));
        tasks.keep("the task for values", values.clone().run(outlet, stop.clone()));
        tasks.keep("the control task", driver.run(link_events));
        tasks.keep("the task that notes what was refused", events.clone().keep(stop.clone()));

        let shared = Arc::new(Shared {
            data,
            readings,
            store,
            values,
            upstream: upstream.clone(),
            network,
            config,
            events,
            sessions: Sessions::default(),
            counts,
            refusals: Refusals::default(),
            stop: stop.clone(),
        });
        if shared.config.report {
            let hub = RemoteLedger::new(hub, genesis.id);
            let reporter = Reporter { shared: shared.clone(), hub, number, key, ledger: genesis.id };
            tasks.keep("the task that tells the hub how the agent is", reporter.run(stop.clone()));
        }
        let places = Arc::new(Semaphore::new(shared.config.max_clients));
        for listener in listeners {
            let serving = listener.serve(shared.clone(), places.clone(), tasks.clone());
            tasks.keep("a listener for MQTT clients", serving);
        }
        let doors = match doors::open(dir, &shared, &tasks).await {
            Ok(doors) => doors,
            Err(error) => {
                stop.cancel();
                return Err(error);
            }
        };
        let metrics = match shared.config.metrics {
            Some(address) => Some(
                monitor::open(address, Arc::new(Outside(shared.clone())), &tasks)
                    .await
                    .inspect_err(|_| stop.cancel())?,
            ),
            None => None,
        };
        info!(%device, listen = %addresses, %upstream, "agent runs");
        Ok(Self { device, addresses, upstream, doors, metrics, shared, keys_seen, tasks })
    }

    /// Tells its supervisor how it is, until it ends.
    fn tell(&self, supervisor: Supervisor) {
        let outside = Arc::new(Outside(self.shared.clone()));
        self.tasks.keep("the task that tells the supervisor", supervisor.watch(outside, self.tasks.clone()));
    }

    /// Resolves when the agent cannot go on, with the reason.
    pub async fn failed(&self) -> String {
        self.tasks.failed().await
    }

    /// What it refuses from now on.
    pub fn events(&self) -> tokio::sync::broadcast::Receiver<ClientEvent> {
        self.shared.events.subscribe()
    }

    /// Its keys and its replica.
    pub fn data(&self) -> &Arc<DataPlane> {
        &self.shared.data
    }

    /// How many readings wait for the ledger: its own replica has the records of all others.
    pub fn readings_waiting(&self) -> Result<u64> {
        self.shared.store.readings_waiting()
    }

    /// Which key package each device broadcasts, as this agent saw it on MQTT.
    pub fn keys_seen(&self) -> BTreeMap<DeviceId, Hash> {
        self.keys_seen.lock().unwrap_or_else(PoisonError::into_inner).by_device().clone()
    }

    /// Ends it: clients are told, windows are saved.
    pub async fn stop(self) -> Result<()> {
        let ended = self.tasks.end(DEADLINE).await;
        self.shared.events.save();
        ended
    }
}

/// What to do about a disk that holds what no agent writes.
fn advise(error: RestoreError) -> anyhow::Error {
    let what = match error {
        RestoreError::Unreadable { .. } => "the agent's copy of the ledger, in agent.sqlite, cannot be read",
        RestoreError::Disk(_) => return anyhow!(error),
        RestoreError::Groups(_) => "the groups' state does not fit the agent's copy of the ledger",
        RestoreError::Damaged(_) | RestoreError::GroupsLead { .. } => "the agent's copy of the ledger is damaged",
    };
    anyhow!(error).context(format!("{what}: move agent.sqlite away, and start the agent once with --new-state"))
}

/// The broker that a device connects to.
pub fn upstream(folder: &Folder, key: &SigningKey, config: &config::Agent) -> Result<Upstream> {
    let identity = Identity { chain: &folder.chain_der(), key };
    let upstream = Upstream::open(&config.upstream, &folder.network.broker, folder.anchor.root().der(), &identity)?;
    Ok(upstream.taking(2 * config.max_packet_bytes).with_wire(folder.network.wire.clone()))
}

/// The entries in an agent's folder, whether an agent runs on it or not. Nothing of them is verified.
pub fn stored_records(dir: &Path) -> Result<Vec<Record>> {
    let stored = Store::read_records(dir)?;
    let records: Result<_, _> = stored.iter().map(|bytes| Record::decode(bytes)).collect();
    records.context("the agent's copy of the ledger, in agent.sqlite, cannot be read")
}

/// Reads an agent's replica from its folder and verifies it from the first entry on.
pub fn read_replica(dir: &Path) -> Result<(Vec<Record>, Replica)> {
    read_replica_with_progress(dir, |_, _| {})
}

/// The same; `told` hears how many entries were verified, and of how many.
pub fn read_replica_with_progress(dir: &Path, mut told: impl FnMut(u64, u64)) -> Result<(Vec<Record>, Replica)> {
    let folder = Folder::open(dir)?;
    let records = stored_records(dir)?;
    let all = records.len() as u64;
    let counted = records.iter().zip(0..).map(|(record, done)| {
        told(done, all);
        record.clone()
    });
    let replica = sealcast_ledger::verify(folder.genesis(), counted)?;
    Ok((records, replica))
}
