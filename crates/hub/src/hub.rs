//! A running hub: starts its parts, and ends them.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use axum::middleware;
use rustls_pki_types::PrivatePkcs8KeyDer;
use sealcast_broker::{Broker, BrokerConfig, Handle, Interceptor, ListenerConfig, TlsIdentity};
use sealcast_chain::{MAX_RELAY_REQUEST_BYTES, Relay as Node};
use sealcast_console::{Console, Place, Setup, Token};
use sealcast_hub_core::{LedgerPolicy, SharedReplica};
use sealcast_identity::{Certificate, Network};
use sealcast_ledger::{Genesis, Replica};
use sealcast_ledger_client::AnswerSigner;
use sealcast_node::{
    Supervisor, Tasks, files, monitor, now_ms,
    tls::{self, HostPort, Identity},
    upstream::{BrokerUrl, Upstream, UpstreamConfig},
};
use sealcast_topic::Wire;
use tokio::{net::TcpListener, sync::watch};
use tracing::{info, warn};

use crate::{
    account,
    apart::Folders,
    carrier::Carrier,
    config,
    console::{self, Bound},
    descriptor::Descriptor,
    est::{self, Est},
    folder,
    follower::{Follower, Known},
    https,
    keeper::Keeper,
    ledger,
    outside::{Counts, Outside, count_enrolments},
    registrar::Registrar,
    relay::{self, Relay},
    reports, rpc,
    tokens::Tokens,
};

/// How long an orderly end may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// A running hub.
pub struct Hub {
    /// Where EST listens.
    pub est: SocketAddr,
    /// Where its own broker listens, if it has one.
    pub mqtt: Option<SocketAddr>,
    /// Where the embedded ledger's JSON-RPC is served, if it is.
    pub ledger_rpc: Option<SocketAddr>,
    /// Where metrics are served, if they are.
    pub metrics: Option<SocketAddr>,
    /// Where the console is served, if it is.
    pub console: Option<ConsoleAt>,
    /// What devices enrol at.
    pub url: String,
    /// What devices are told of the broker.
    pub broker_url: String,
    /// The ledger.
    pub genesis: Genesis,
    /// SHA-256 of the root certificate, hex.
    pub root_sha256: String,
    replica: SharedReplica,
    broker: Option<sealcast_broker::Running>,
    outside: Arc<Outside>,
    tasks: Tasks,
    _lock: files::Lock,
}

/// Where the console is served.
pub struct ConsoleAt {
    /// For a browser.
    pub url: String,
    /// The readers' token, if this start has made it: only its verifier is kept.
    pub token: Option<Token>,
    /// For whoever has something to show.
    pub console: Arc<Console>,
}

impl Hub {
    /// Starts all parts on `folders`. `interceptor` makes the broker a hostile one, for the demo.
    pub async fn start(
        folders: &Folders,
        config: config::Hub,
        interceptor: Option<Arc<dyn Interceptor>>,
    ) -> Result<Self> {
        let dir = &*folders.hub;
        files::create_dir(dir)?;
        let lock = files::lock(dir)?;
        folder::check(dir, &config)?;
        folders.check_apart()?;
        let keys = folder::keys(folders, &config, now_ms())?;
        let tasks = Tasks::default();

        let (ledger, engine) = ledger::open(dir, &config, &keys).await?;
        let ledger::State { replica, groups, snapshots } = ledger::state(dir, &ledger, &keys).await?;
        let genesis = *replica.genesis();
        let known = watch::Sender::new(replica.height());
        check_prefix(&config.wire, &replica)?;
        let replica: SharedReplica = Arc::new(RwLock::new(replica));
        let groups = Arc::new(Mutex::new(groups));

        let policy = LedgerPolicy { replica: replica.clone(), readers: config.readers };
        let broker = match &config.broker {
            None => Some(start_broker(dir, &config, &keys, policy, interceptor).await?),
            Some(_) => None,
        };
        let mqtt = broker.as_ref().and_then(|broker| broker.addrs().first()).copied();
        let listener = TcpListener::bind(config.est)
            .await
            .with_context(|| format!("EST cannot listen on {} (--est)", config.est))?;
        let est = listener.local_addr()?;
        let network = describe(&config, &genesis, &keys, mqtt, est)?;
        let (broker_url, url) = (network.broker.clone(), network.hub.clone());
        let descriptor = Descriptor::new(folders.clone(), network, replica.clone(), &keys.authority)?;

        let root_sha256 = keys.authority.root().fingerprint().to_string();
        let identity = Identity { chain: &keys.server_chain, key: &keys.server_key };
        let tls = tls::server(&identity, keys.authority.root().der())?;
        let tokens = Tokens::open(dir)?;
        let (carrier, arrivals) = match (&broker, &config.broker) {
            (None, Some(foreign)) => {
                Carrier::foreign(&upstream(foreign, &keys)?.with_wire(config.wire.clone()), &tasks)?
            }
            (own, _) => Carrier::own(own.as_ref().context("there is no broker")?.handle().clone(), &tasks).await?,
        };

        let bound = match &config.console {
            Some(console) => Bound::open(dir, console, &config.names).await?,
            None => None,
        };
        let shown = bound.as_ref().map(|bound| {
            Console::new(Setup {
                dir: dir.to_owned(),
                names: config.names.clone(),
                broker: broker_url.clone(),
                own_broker: broker.is_some(),
                place: if ledger.is_embedded() { Place::Embedded } else { Place::Network },
                lifetime: config.certificate_lifetime,
                tls: bound.is_tls,
                port: bound.address.port(),
                url: bound.url.clone(),
                replica: replica.clone(),
                groups: groups.clone(),
                certificates: config.console.iter().flat_map(|it| it.certificates.clone()).collect(),
                records: console::records(ledger.clone()),
                stop: tasks.stop().clone(),
            })
        });
        let gate = relay::gate(replica.clone(), groups.clone(), ledger.id());
        let counts = Arc::new(Counts::default());
        let keeper = Arc::new(Keeper::open(dir, replica.clone())?);
        let node = Node::with_gate(ledger.clone(), config.relay, gate).with_keeper(keeper.clone().answers());
        let node = node.with_reports(reports::taken(replica.clone(), shown.clone()));
        let signer = AnswerSigner::new(genesis.id, keys.server_key.clone(), &keys.client_chain);
        let heights = Known::new(known.subscribe());
        let relay = Relay::new(node, ledger.clone(), heights.clone(), carrier.clone(), signer, counts.clone());
        tasks.keep("the task that keeps messages", keeper.clone().run(arrivals.kept, tasks.clone()));
        tasks.keep("the relay", relay.clone().run(arrivals.calls, tasks.clone()));
        let mut ledger_rpc = None;
        match engine {
            Some(engine) => {
                tasks.keep("the ledger's writer", ledger::written(engine.clone(), tasks.stop().clone()));
                if let Some(address) = config.ledger_listen {
                    ledger_rpc = Some(ledger::serve(address, engine, &tasks).await?);
                }
            }
            None => tasks.keep("the task that watches the account", account::watch(ledger.clone(), tasks.clone())),
        }
        let certificates = certificates(&keys);
        let outside = Arc::new(Outside { carrier: carrier.clone(), replica: replica.clone(), counts, certificates });
        let follower = Follower {
            ledger: ledger.clone(),
            replica: replica.clone(),
            groups,
            known,
            snapshots,
            keeper,
            carrier,
            console: shown.clone(),
        };
        tasks.keep("the task that follows the ledger", follower.run(tasks.clone()));
        let metrics = config.metrics;
        let registrar = Registrar::new(keys.authority, ledger, heights);
        let limits = est_limits(&config);
        let est_of = Est::new(registrar, tokens, config, descriptor, replica.clone(), tasks.clone());
        let mut router = est::router(Arc::new(est_of)).merge(rpc::router(relay, replica.clone()));
        if let Some(console) = &shown {
            router = router.merge(console::calls(console.clone(), replica.clone()));
        }
        let router = router.layer(middleware::from_fn_with_state(outside.counts.clone(), count_enrolments));
        tasks.keep("EST", https::serve(listener, Some(tls.clone()), router, limits, tasks.clone()));
        let console = match (bound, shown) {
            (Some(mut bound), Some(console)) => {
                let (url, token) = (bound.url.clone(), bound.token.take());
                let handle = broker.as_ref().map(|broker| broker.handle().clone());
                tasks.keep("the console", console.clone().run(handle, tasks.clone()));
                tasks.keep("the console's server", bound.serve(console.clone(), tls, limits.max_host, tasks.clone()));
                Some(ConsoleAt { url, token, console })
            }
            _ => None,
        };

        let metrics = match metrics {
            Some(address) => Some(monitor::open(address, outside.clone(), &tasks).await?),
            None => None,
        };

        info!(%url, broker = %broker_url, ledger = %genesis.id, "hub runs");
        Ok(Self {
            est,
            mqtt,
            ledger_rpc,
            metrics,
            console,
            url,
            broker_url,
            genesis,
            root_sha256,
            replica,
            broker,
            outside,
            tasks,
            _lock: lock,
        })
    }

    /// Tells its supervisor how it is, until it ends.
    pub(crate) fn tell(&self, supervisor: Supervisor) {
        let watch = supervisor.watch(self.outside.clone(), self.tasks.clone());
        self.tasks.keep("the task that tells the supervisor", watch);
    }

    /// Resolves when the hub cannot go on, with the reason: the broker has given up, the ledger does not verify, or a task
    /// that the hub needs has ended.
    pub async fn failed(&self) -> String {
        let broker = async {
            match &self.broker {
                Some(broker) => {
                    broker.stopped().await;
                    broker.failure().unwrap_or("the broker has stopped").to_owned()
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            reason = broker => reason,
            reason = self.tasks.failed() => reason,
        }
    }

    /// Number of ledger entries, as the hub's own replica has them.
    pub fn height(&self) -> u64 {
        self.replica.read().unwrap_or_else(PoisonError::into_inner).height()
    }

    /// Its own broker, in process, if it has one.
    pub fn broker(&self) -> Option<&Handle> {
        self.broker.as_ref().map(sealcast_broker::Running::handle)
    }

    /// Ends all parts, letting what is under way finish.
    pub async fn stop(self) -> Result<()> {
        self.tasks.stop().cancel();
        if let Some(broker) = self.broker
            && !broker.shutdown(DEADLINE).await
        {
            warn!("some connections to the broker did not end in time");
        }
        self.tasks.end(DEADLINE).await
    }
}

/// What devices are told of the hub, whose servers listen at these addresses.
fn describe(
    config: &config::Hub,
    genesis: &Genesis,
    keys: &folder::Keys,
    mqtt: Option<SocketAddr>,
    est: SocketAddr,
) -> Result<Network> {
    let name = config.names.first().context("the hub has no name")?;
    let address = |of: SocketAddr| HostPort { host: name.clone(), port: of.port() };
    let own = || mqtt.map(|mqtt| BrokerUrl::new(address(mqtt), true));
    let foreign = config.broker.as_ref().and_then(|broker| broker.url.clone());
    let broker = foreign.or_else(own).context("the broker has no address")?;
    Ok(Network {
        chain_id: genesis.id.chain_id,
        ledger: genesis.id.address,
        first_ca: genesis.ca,
        first_operator: genesis.operator,
        issuing: keys.authority.certificate().clone(),
        operator: keys.operator.clone(),
        broker: broker.to_string(),
        wire: config.wire.clone(),
        hub: format!("https://{}", address(est)),
        written_ms: now_ms(),
    })
}

/// A group whose topics are all below the prefix could never use one of them. Its operator may have chosen them before the hub
/// was told of the prefix.
fn check_prefix(wire: &Wire, replica: &Replica) -> Result<()> {
    for group in replica.groups() {
        if let Some(filter) = group.filters.iter().find(|filter| wire.is_control(filter.as_str())) {
            bail!(
                "broker.prefix: the topics {filter} of group {} begin with it: choose a prefix of Sealcast's own",
                group.name
            );
        }
    }
    Ok(())
}

/// When the certificates that the hub shows and issues by end, Unix s.
fn certificates(keys: &folder::Keys) -> Vec<(&'static str, u64)> {
    let server = keys.server_chain.first().and_then(|der| Certificate::from_der(der).ok());
    let server = server.map(|certificate| ("server", certificate.not_after_s()));
    server.into_iter().chain([("issuing", keys.authority.certificate().not_after_s())]).collect()
}

/// Somebody else's broker, as the hub reaches it. Over TLS the hub shows a certificate of its CA, as devices do.
fn upstream(broker: &UpstreamConfig, keys: &folder::Keys) -> Result<Upstream> {
    let identity = Identity { chain: &keys.client_chain, key: &keys.server_key };
    Upstream::open(broker, "", keys.authority.root().der(), &identity)
}

/// What EST's connections may take. Of one host, loopback too, as many as the broker lets in before it knows them.
fn est_limits(config: &config::Hub) -> https::Limits {
    https::Limits {
        name: "EST",
        refusal: "EST connection refused: this address has as many as it may",
        max_connections: 1_024,
        max_host: config.limits.max_unauthenticated,
        max_body_bytes: sealcast_identity::est::MAX_REQUEST_BODY_BYTES.max(MAX_RELAY_REQUEST_BYTES),
        step: Duration::from_secs(5),
        longest: Duration::from_secs(60),
    }
}

async fn start_broker(
    dir: &Path,
    config: &config::Hub,
    keys: &folder::Keys,
    policy: LedgerPolicy,
    interceptor: Option<Arc<dyn Interceptor>>,
) -> Result<sealcast_broker::Running> {
    let chain = keys.server_chain.iter().map(|der| der.clone().into()).collect();
    let key = PrivatePkcs8KeyDer::from(keys.server_key.to_pkcs8_der().context("server.key")?.to_vec());
    let identity = TlsIdentity::from_der(chain, key.into(), vec![keys.authority.root().der().to_vec().into()]);
    let config = BrokerConfig {
        listeners: vec![ListenerConfig::Tls { addr: config.mqtt, identity }],
        data_dir: Some(dir.to_owned()),
        limits: config.limits.clone(),
    };
    Broker::start(config, Arc::new(policy), interceptor)
        .await
        .context("the broker cannot start (--mqtt names its address)")
}
