//! `sealcast up`: the hub. CA with EST, embedded broker, embedded ledger and relay in one process.

mod est;
mod folder;
mod https;
pub mod policy;
pub mod tokens;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use sealcast_broker::{Broker, BrokerConfig, Handle, Interceptor, ListenerConfig, Qos, Received, TlsIdentity};
use sealcast_chain::{Engine, EngineConfig, Ledger, Node, Relay, Wallet};
use sealcast_identity::{Authority, Network};
use sealcast_ledger::{Body, Event, Genesis, LedgerId, Refusal, Replica};
use sealcast_ledger_client::{NodeError, SubmitError};
use sealcast_mqtt::Property;
use sealcast_topic::ControlTopic;
use serde::Serialize;
use tokio::{
    net::TcpListener,
    sync::{Mutex, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

pub use self::est::NETWORK_PATH;
use self::{
    est::Est,
    policy::{LedgerPolicy, SharedReplica},
    tokens::Tokens,
};
use crate::{
    config,
    files::{self, Mode},
    now_ms, output, shutdown,
    tasks::Tasks,
    tls::{self, HostPort, Identity},
};

/// How long an orderly end may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// Calls from devices that wait to be answered.
const MAX_CALLS_WAITING: usize = 4096;
/// Calls of one device that are answered at a time; more are dropped, so that no device takes the relay from the others.
const MAX_CALLS_PER_DEVICE: usize = 16;
const PAGE: usize = 256;
/// The hub ends when its ledger could not be read for so long.
const UNREAD: Duration = Duration::from_secs(30);

/// `sealcast up`.
#[derive(clap::Args)]
pub struct Options {
    /// The hub's folder. The first start creates it.
    #[arg(long, env = "SEALCAST_HUB", value_name = "DIR", default_value = "hub")]
    dir: PathBuf,
    /// Configuration file [default: DIR/hub.toml, if it exists].
    #[arg(long, env = "SEALCAST_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where EST listens, HTTPS [default: 127.0.0.1:8443].
    #[arg(long, env = "SEALCAST_EST", value_name = "ADDRESS")]
    est: Option<SocketAddr>,
    /// Where the broker listens, MQTT over TLS [default: 127.0.0.1:8883].
    #[arg(long, env = "SEALCAST_MQTT", value_name = "ADDRESS")]
    mqtt: Option<SocketAddr>,
    /// Name or address at which devices reach the hub. Can be repeated: devices are told the first [default: localhost,
    /// 127.0.0.1].
    #[arg(long = "name", value_name = "NAME")]
    names: Vec<String>,
    /// Check the configuration, then exit.
    #[arg(long)]
    check: bool,
    /// Print the addresses that the hub listens on as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Ready {
    est: SocketAddr,
    mqtt: SocketAddr,
    ledger: String,
    root_sha256: String,
}

/// Runs the hub until the process is told to stop.
pub async fn run(options: Options) -> Result<()> {
    let given = [options.est.map(|_| "est"), options.mqtt.map(|_| "mqtt"), options.names.first().map(|_| "names")];
    let given: Vec<&str> = given.into_iter().flatten().collect();
    let config = config::load::<config::HubFile>(options.config.as_deref(), &options.dir.join("hub.toml"))?
        .check(&given, |file| file.with(options.est, options.mqtt, &options.names).validate())?;
    if options.check {
        return output::line("the hub's configuration is in order");
    }
    let hub = Hub::start(&options.dir, config, None).await?;
    let ready = Ready {
        est: hub.est,
        mqtt: hub.mqtt,
        ledger: hub.genesis.id.to_string(),
        root_sha256: hub.root_sha256.clone(),
    };
    let words = format!(
        "hub in {}\n  enrolment  {} (EST)\n  broker     mqtts://{}\n  ledger     {}, {} entries\n  root       SHA-256 {}",
        options.dir.display(),
        hub.url,
        hub.broker_address,
        ready.ledger,
        hub.height(),
        ready.root_sha256
    );
    output::ready(options.json, &ready, &words)?;
    let failure = shutdown::requested_or(hub.failed()).await;
    let stopped = hub.stop().await;
    match failure {
        // A supervisor starts again what has failed, not what has ended well.
        Some(reason) => bail!("the hub cannot go on: {reason}"),
        None => stopped,
    }
}

/// A running hub.
pub struct Hub {
    /// Where EST listens.
    pub est: SocketAddr,
    /// Where the broker listens.
    pub mqtt: SocketAddr,
    /// What devices enrol at.
    pub url: String,
    /// What devices are told of the broker.
    pub broker_address: HostPort,
    /// The ledger.
    pub genesis: Genesis,
    /// SHA-256 of the root certificate, hex.
    pub root_sha256: String,
    replica: SharedReplica,
    broker: sealcast_broker::Running,
    tasks: Tasks,
    _lock: files::Lock,
}

impl Hub {
    /// Starts all parts on the folder `dir`. `interceptor` makes the broker a hostile one, for the demo.
    pub async fn start(dir: &Path, config: config::Hub, interceptor: Option<Arc<dyn Interceptor>>) -> Result<Self> {
        files::create_dir(dir)?;
        let lock = files::lock(dir)?;
        folder::check(dir)?;
        let keys = folder::keys(dir, &config, now_ms())?;
        let tasks = Tasks::default();
        let stop = tasks.stop().clone();

        let (ledger, writer) = open_ledger(dir, &config, &keys).await?;
        let genesis = ledger.genesis().await?;
        ensure!(
            genesis.ca == *keys.authority.key().public() && genesis.operator == *keys.operator.public_key(),
            "the ledger in {} belongs to another CA or operator than the keys in the same folder: restore all files from one \
             backup",
            dir.display()
        );
        let mut replica = Replica::new(genesis);
        loop {
            let page = ledger.records(replica.height(), PAGE).await?;
            if page.is_empty() {
                break;
            }
            for record in &page {
                replica.apply(record).context("the hub's own ledger does not verify")?;
            }
        }
        let replica: SharedReplica = Arc::new(RwLock::new(replica));

        let policy = LedgerPolicy { replica: replica.clone(), operator: keys.operator.clone() };
        let broker = start_broker(dir, &config, &keys, policy, interceptor).await?;
        let mqtt = *broker.addrs().first().context("the broker has no address")?;
        let listener = TcpListener::bind(config.est)
            .await
            .with_context(|| format!("EST cannot listen on {} (--est)", config.est))?;
        let est = listener.local_addr()?;
        let name = config.names.first().context("the hub has no name")?.clone();
        let broker_address = HostPort { host: name.clone(), port: mqtt.port() };
        let url = format!("https://{}", HostPort { host: name, port: est.port() });

        let network = Network {
            chain_id: genesis.id.chain_id,
            ledger: genesis.id.address,
            issuing: keys.authority.certificate().clone(),
            operator: keys.operator.clone(),
            broker: broker_address.to_string(),
            hub: url.clone(),
            written_ms: now_ms(),
        };
        let network_json = folder::network(dir, &network, &keys.authority)?;

        let calls =
            broker.handle().subscribe(ControlTopic::Request { node: "+" }.to_string(), MAX_CALLS_WAITING).await?;
        let known = watch::Sender::new(replica.read().unwrap_or_else(PoisonError::into_inner).height());
        let relaying = relay(
            Relay::new(ledger.clone()),
            ledger.clone(),
            known.subscribe(),
            calls,
            broker.handle().clone(),
            stop.clone(),
        );
        tasks.keep("the relay", relaying);
        let following = follow(ledger.clone(), replica.clone(), known, broker.handle().clone(), stop.clone());
        tasks.keep("the ledger's writer", {
            let stop = stop.clone();
            async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = writer => {}
                }
            }
        });
        tasks.keep("the task that follows the ledger", following);

        let root_sha256 = keys.authority.root().fingerprint().to_string();
        let tls = tls::server(&Identity { chain: &keys.server_chain, key: &keys.server_key })?;
        let registrar = Arc::new(Registrar { authority: keys.authority, ledger, submitting: Mutex::new(()) });
        let state = Arc::new(Est { registrar, tokens: Tokens::open(dir)?, config, network_json });
        tasks.keep("EST", https::serve(listener, tls, est::router(state), stop.clone()));

        info!(%url, broker = %broker_address, ledger = %genesis.id, "hub runs");
        Ok(Self { est, mqtt, url, broker_address, genesis, root_sha256, replica, broker, tasks, _lock: lock })
    }

    /// Resolves when the hub cannot go on, with the reason: the broker has given up, the ledger does not verify, or a task
    /// that the hub needs has ended.
    pub async fn failed(&self) -> String {
        tokio::select! {
            () = self.broker.stopped() => self.broker.failure().unwrap_or("the broker has stopped").to_owned(),
            reason = self.tasks.failed() => reason,
        }
    }

    /// Number of ledger entries, as the hub's own replica has them.
    pub fn height(&self) -> u64 {
        self.replica.read().unwrap_or_else(PoisonError::into_inner).height()
    }

    /// The broker, in process.
    pub fn broker(&self) -> &Handle {
        self.broker.handle()
    }

    /// Ends all parts, letting what is under way finish.
    pub async fn stop(self) -> Result<()> {
        self.tasks.stop().cancel();
        if !self.broker.shutdown(DEADLINE).await {
            warn!("some connections to the broker did not end in time");
        }
        self.tasks.end(DEADLINE).await
    }
}

/// The CA with its place on the ledger.
pub struct Registrar {
    /// The issuing CA.
    pub authority: Authority,
    ledger: Ledger,
    /// The CA's entries go one after the other: each has the nonce after the last.
    submitting: Mutex<()>,
}

impl Registrar {
    /// Signs `body` as the CA and waits until the ledger has it.
    pub async fn submit(&self, body: Body) -> Result<()> {
        let _turn = self.submitting.lock().await;
        let id = self.ledger.id();
        let nonce = self.ledger.nonce_of(id.ca()).await?;
        let entry = body.sign(self.authority.key(), id.ca(), nonce, &id)?;
        match self.ledger.submit(&entry).await {
            Ok(_) => Ok(()),
            Err(SubmitError::Refused(refusal @ Refusal::BadNonce { .. })) => {
                Err(anyhow::Error::new(refusal).context("does another process use the CA's key?"))
            }
            Err(error) => Err(anyhow::Error::new(error).context("the ledger did not take the registration")),
        }
    }
}

/// The ledger, and what resolves when nothing writes it any more.
async fn open_ledger(
    dir: &Path,
    config: &config::Hub,
    keys: &folder::Keys,
) -> Result<(Ledger, impl Future<Output = ()> + use<>)> {
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
    // A first start may have ended between the deployment, which is one block, and the next line.
    ensure!(
        engine.progress().borrow().height <= 1,
        "{} is missing, but ledger.sqlite holds entries. The missing file says which contract in ledger.sqlite is the \
         ledger; without it, the hub would make an empty ledger that no device knows. Restore the file from a backup. \
         Without a backup, start over with an empty folder: every device then has to enrol again",
        address.display()
    );
    let ledger = Ledger::deploy(node, wallet, keys.authority.key().public(), keys.operator.public_key()).await?;
    files::write(&address, ledger.id().to_string().as_bytes(), Mode::Public)?;
    Ok((ledger, writer))
}

async fn start_broker(
    dir: &Path,
    config: &config::Hub,
    keys: &folder::Keys,
    policy: LedgerPolicy,
    interceptor: Option<Arc<dyn Interceptor>>,
) -> Result<sealcast_broker::Running> {
    let (chain, key) = Identity { chain: &keys.server_chain, key: &keys.server_key }.parts();
    let identity = TlsIdentity::from_der(chain, key, vec![keys.authority.root().der().to_vec().into()]);
    let config = BrokerConfig {
        listeners: vec![ListenerConfig::Tls { addr: config.mqtt, identity }],
        data_dir: Some(dir.to_owned()),
        limits: config.limits.clone(),
    };
    Broker::start(config, Arc::new(policy), interceptor).await.context("the broker cannot start")
}

/// Answers the JSON-RPC calls of devices: MQTT 5 request and response.
async fn relay(
    relay: Relay,
    ledger: Ledger,
    known: watch::Receiver<u64>,
    mut calls: tokio::sync::mpsc::Receiver<Received>,
    broker: Handle,
    stop: CancellationToken,
) {
    let relay = Arc::new(relay);
    let turns = Turns::default();
    loop {
        let call = tokio::select! {
            () = stop.cancelled() => return,
            call = calls.recv() => call,
        };
        let Some(Received { payload, properties, sender, .. }) = call else {
            // The broker has stopped, and says why.
            return stop.cancelled().await;
        };
        let Some(sender) = sender else { continue };
        let Some(turn) = turns.take(&sender) else {
            debug!(%sender, "a call was dropped: {MAX_CALLS_PER_DEVICE} calls of this device are under way");
            continue;
        };
        let (relay, ledger, mut known, broker) = (relay.clone(), ledger.clone(), known.clone(), broker.clone());
        tokio::spawn(async move {
            let answer = relay.handle(&payload).await;
            // Whoever learns of a grant may act on it at once, and the broker's rules are the replica's.
            if let Ok(height) = ledger.height().await
                && !matches!(tokio::time::timeout(DEADLINE, known.wait_for(|known| *known >= height)).await, Ok(Ok(_)))
            {
                warn!(
                    "the hub's replica is behind its ledger: a device may learn of a record before the broker's rules know it"
                );
            }
            drop(turn);
            // To the sender by its certificate, whatever response topic it asked for.
            let topic = ControlTopic::Response { node: &sender }.to_string();
            let properties = properties.correlation_data().map(Property::CorrelationData).into_iter().collect();
            if let Err(error) = broker.publish_with(topic, answer, Qos::AtLeastOnce, false, properties).await {
                warn!(%sender, %error, "the answer to a device's call could not be published");
            }
        });
    }
}

/// Calls under way, by device.
#[derive(Clone, Default)]
struct Turns(Arc<std::sync::Mutex<BTreeMap<Arc<str>, usize>>>);

/// A call under way, until it is dropped.
struct Turn {
    turns: Turns,
    device: Arc<str>,
}

impl Turns {
    fn take(&self, device: &Arc<str>) -> Option<Turn> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let calls = counts.entry(device.clone()).or_default();
        if *calls >= MAX_CALLS_PER_DEVICE {
            return None;
        }
        *calls += 1;
        Some(Turn { turns: self.clone(), device: device.clone() })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut counts = self.turns.0.lock().unwrap_or_else(PoisonError::into_inner);
        match counts.get_mut(&self.device) {
            Some(calls) if *calls > 1 => *calls -= 1,
            _ => {
                counts.remove(&self.device);
            }
        }
    }
}

/// Keeps the hub's replica at the ledger's head, and pushes each new record to the agents. Fails if a record does not
/// verify, or cannot be read: a replica that stands still would let revoked devices in.
async fn follow(
    ledger: Ledger,
    replica: SharedReplica,
    known: watch::Sender<u64>,
    broker: Handle,
    stop: CancellationToken,
) -> Result<()> {
    let from = replica.read().unwrap_or_else(PoisonError::into_inner).height();
    let mut watch = ledger.watch(from);
    let mut unread_since: Option<Instant> = None;
    loop {
        let records = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            records = watch.next() => records,
        };
        let records = match records {
            Ok(records) => records,
            Err(error) => {
                let since = *unread_since.get_or_insert_with(Instant::now);
                let damaged = matches!(error, NodeError::Answer { .. });
                let error = anyhow::Error::new(error).context("the hub's own ledger cannot be read");
                if damaged || since.elapsed() >= UNREAD {
                    return Err(error);
                }
                error!("{error:#}; trying again");
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        unread_since = None;
        let mut revoked = Vec::new();
        {
            let mut replica = replica.write().unwrap_or_else(PoisonError::into_inner);
            for record in &records {
                let event = replica.apply(record).context("the hub's own ledger does not verify")?;
                if let Event::DeviceRevoked { device, .. } = event {
                    revoked.extend(replica.name_of(device).map(str::to_owned));
                }
            }
            known.send_replace(replica.height());
        }
        for name in revoked {
            if let Err(error) = broker.disconnect_device(name).await {
                warn!(%error, "a revoked device could not be disconnected");
            }
        }
        for record in records {
            if let Err(error) =
                broker.publish(ControlTopic::Ledger.to_string(), record.encode(), Qos::AtLeastOnce, false).await
            {
                warn!(%error, "a ledger record could not be pushed: the agents will ask for it");
            }
        }
    }
}
