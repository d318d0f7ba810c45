//! What is compared: a hub with two agents, and mosquitto, each in a process of its own; and the ways through them.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use sealcast_agent::{AgentFile, Folder, enroll, upstream};
use sealcast_hub::{Folders, HubConfig, HubFile};
use sealcast_ledger::{Authenticity, Body, Granted};
use sealcast_mqtt::Qos;
use sealcast_node::{KeyFiles, tls::HostPort, upstream::Upstream};
use sealcast_operator::{Operator, device};
use serde::Deserialize;
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

use super::{
    super::{client::connect, site::create_group},
    load::Load,
    process::Process,
};

/// How long anything may take to be ready.
const PATIENCE: Duration = Duration::from_secs(30);
/// The devices: one sends, the other one receives.
const DEVICES: [&str; 2] = ["1111", "1112"];
/// Clients behind agents: their messages are sealed.
pub const GROUP: &str = "group";
/// Sealed and signed.
pub const SIGNED: &str = "signed";
/// Each covers the topics below its name.
const GROUPS: [(&str, Authenticity); 2] = [(GROUP, Authenticity::Group), (SIGNED, Authenticity::Signature)];
/// The first level of topics that no group covers.
const OPEN: &str = "open";
/// Straight to the broker, over TCP.
pub const PLAIN: &str = "direct plain";
/// Straight to the broker, over TLS with the device's certificate.
const TLS: &str = "direct TLS";
/// Debian keeps it where not every user's path leads.
const MOSQUITTO: [&str; 2] = ["mosquitto", "/usr/sbin/mosquitto"];

/// See the module.
pub struct Site {
    /// The ways, in the order in which they are measured.
    pub ways: Vec<Way>,
    /// The servers.
    pub processes: Vec<Process>,
    /// What is not compared, and why.
    pub missing: Option<String>,
    dir: TempDir,
}

/// A way from one client to another.
pub struct Way {
    /// The broker.
    pub broker: &'static str,
    /// Whether and how it is protected.
    pub mode: &'static str,
    /// Where clients connect, and which topic goes this way.
    publisher: Upstream,
    subscriber: Upstream,
    topic: String,
    /// What processes it leads through: places in [`Site::processes`].
    pub through: Vec<usize>,
}

impl Way {
    fn new(
        broker: &'static str,
        mode: &'static str,
        [publisher, subscriber]: [&Upstream; 2],
        through: &[usize],
    ) -> Self {
        let topic = format!("{}/line", if [PLAIN, TLS].contains(&mode) { OPEN } else { mode });
        let (publisher, subscriber) = (publisher.clone(), subscriber.clone());
        Self { broker, mode, publisher, subscriber, topic, through: through.to_vec() }
    }

    /// A load that goes this way.
    pub fn load(&self, qos: Qos, payload_bytes: usize, subscribers: usize, messages: usize) -> Load {
        let (publisher, subscriber, topic) = (self.publisher.clone(), self.subscriber.clone(), self.topic.clone());
        Load { publisher, subscriber, topic, qos, payload_bytes, subscribers, messages }
    }
}

#[derive(Deserialize)]
struct HubReady {
    est: SocketAddr,
}

#[derive(Deserialize)]
struct AgentReady {
    listen: SocketAddr,
}

impl Site {
    /// Starts all of it, and waits until messages come through on each way. Agents take some more clients than `connections`.
    pub async fn start(connections: usize) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("sealcast-bench-").tempdir().context("no temporary folder")?;
        let mut site = Self { ways: Vec::new(), processes: Vec::new(), missing: None, dir };
        let hub = site.start_hub("own", None).await?;
        let agents = site.start_agents(&hub, connections).await?;
        let direct = direct(&hub.device(0), None)?;
        let through = [hub.process, hub.process + 1, hub.process + 2];
        site.ways.push(Way::new("the hub's", TLS, [&direct, &direct], &through[..1]));
        site.ways.extend(GROUPS.map(|(group, _)| Way::new("the hub's", group, agents.each_ref(), &through)));
        match mosquitto() {
            Some(program) => site.add_mosquitto(&program, connections).await?,
            None => site.missing = Some("mosquitto is not installed: nothing is compared with it".into()),
        }
        for way in &site.ways {
            open_way(way).await.with_context(|| format!("{}, {}", way.broker, way.mode))?;
        }
        Ok(site)
    }

    /// A hub in a folder of its own, with a broker of its own or as a client of another one.
    async fn start_hub(&mut self, name: &str, broker: Option<&str>) -> Result<RunningHub> {
        let dir = self.dir.path().join(name);
        std::fs::create_dir(&dir)?;
        let (folder, log) = (text(&dir.join("hub"))?, dir.join("hub.log"));
        let mut args = vec!["up", "--dir", &folder, "--est", "127.0.0.1:0", "--json"];
        args.extend(broker.map_or(["--mqtt", "127.0.0.1:0"], |url| ["--broker", url]));
        let (process, HubReady { est }) = Process::sealcast::<HubReady>("hub", &args, &log).await?;
        self.processes.push(process);
        Ok(RunningHub { dir, est, process: self.processes.len() - 1 })
    }

    /// The agents of a hub's two devices, which are in both groups: where their clients connect.
    async fn start_agents(&mut self, hub: &RunningHub, connections: usize) -> Result<[Upstream; 2]> {
        let max_clients = connections + 64;
        let config = format!(
            "listen = '127.0.0.1:0'\nmax_clients = {max_clients}\nclear = ['{OPEN}/#']\n[freshness]\nmax_age_ms = 0\n"
        );
        let mut agents = Vec::new();
        for (at, role) in ["sending agent", "receiving agent"].into_iter().enumerate() {
            let dir = hub.device(at);
            enrol(hub, at).await?;
            std::fs::write(dir.join("agent.toml"), &config)?;
            let (folder, log) = (text(&dir)?, dir.with_extension("log"));
            let (process, ready) =
                Process::sealcast::<AgentReady>(role, &["agent", "--dir", &folder, "--json"], &log).await?;
            self.processes.push(process);
            agents.push(local(ready.listen));
        }
        make_groups(&hub.folder()).await?;
        <[Upstream; 2]>::try_from(agents).ok().context("two agents")
    }

    /// What the sending agent has in memory, in bytes, while so many clients are connected to it and say nothing.
    pub async fn rss_with(&self, connections: usize) -> Result<u64> {
        let way = self.ways.iter().find(|way| way.mode == GROUPS[0].0).context("a way through the agents")?;
        let agent = way.through.get(1).and_then(|at| self.processes.get(*at)).context("the agent")?;
        let mut clients = Vec::new();
        for at in 0..connections {
            clients.push(connect(&way.publisher, &format!("idle-{at}")).await?);
        }
        agent.rss_bytes()
    }

    /// A mosquitto whose TLS listener asks for the devices' certificates, as the hub's broker does, and a hub and two agents that
    /// are its clients there.
    async fn add_mosquitto(&mut self, program: &Path, connections: usize) -> Result<()> {
        let [plain, tls] = [free_port()?, free_port()?];
        let hub = self.start_hub("client", Some(&format!("mqtts://localhost:{}", tls.port()))).await?;
        let (config, folder) = (hub.dir.join("mosquitto.conf"), hub.folder());
        let folder = folder.display();
        std::fs::write(
            &config,
            format!(
                "user root\nset_tcp_nodelay true\nmax_queued_messages 0\nallow_anonymous true\n\
                 listener {} 127.0.0.1\nlistener {} 127.0.0.1\ncafile {folder}/root.pem\ncertfile {folder}/server.pem\n\
                 keyfile {folder}/server.key\nrequire_certificate true\n",
                plain.port(),
                tls.port()
            ),
        )?;
        let mut command = Command::new(program);
        command.arg("-c").arg(config).stdout(std::process::Stdio::null());
        let log = hub.dir.join("mosquitto.log");
        self.processes.push(Process::start("mosquitto", &mut command, &log)?);
        let broker = self.processes.len() - 1;
        let start = Instant::now();
        while TcpStream::connect(tls).is_err() {
            let said = || std::fs::read_to_string(&log).unwrap_or_default();
            ensure!(start.elapsed() < PATIENCE, "mosquitto does not start: {}", said());
            sleep(Duration::from_millis(20)).await;
        }
        let agents = self.start_agents(&hub, connections).await?;
        let (plain, direct) = (local(plain), direct(&hub.device(0), Some(tls))?);
        let through = [broker, broker + 1, broker + 2];
        for (mode, at) in [(PLAIN, plain), (TLS, direct)] {
            self.ways.push(Way::new("mosquitto", mode, [&at, &at], &through[..1]));
        }
        self.ways.extend(GROUPS.map(|(group, _)| Way::new("mosquitto", group, agents.each_ref(), &through)));
        Ok(())
    }
}

/// A hub, with what belongs to it below one folder.
struct RunningHub {
    dir: PathBuf,
    est: SocketAddr,
    /// Its place in [`Site::processes`].
    process: usize,
}

impl RunningHub {
    fn folder(&self) -> PathBuf {
        self.dir.join("hub")
    }

    fn device(&self, at: usize) -> PathBuf {
        self.dir.join(DEVICES[at])
    }
}

fn text(path: &Path) -> Result<String> {
    path.to_str().map(str::to_owned).context("the temporary folder's name is not UTF-8")
}

/// Waits until a message comes through: the agents may not have the group's keys yet.
async fn open_way(way: &Way) -> Result<()> {
    let start = Instant::now();
    loop {
        let load = way.load(Qos::AtLeastOnce, 100, 1, 1);
        if let Ok(run) = timeout(Duration::from_secs(2), load.at_full_speed()).await {
            return run.map(drop);
        }
        ensure!(start.elapsed() < PATIENCE, "no message comes through");
    }
}

async fn enrol(hub: &RunningHub, at: usize) -> Result<()> {
    let config: HubConfig = HubFile::default().validate()?;
    let token = device::invite(&hub.folder(), DEVICES[at].parse()?, &config)?.token;
    let url = format!("https://localhost:{}", hub.est.port());
    enroll::enroll(&url, &token, &hub.device(at), &KeyFiles::default(), None).await.map(drop)
}

async fn make_groups(hub: &Path) -> Result<()> {
    let mut operator = Operator::connect(&Folders::beside(hub)?.operator, &KeyFiles::default()).await?;
    for (name, authenticity) in GROUPS {
        let group = create_group(&mut operator, name, authenticity).await?;
        for id in DEVICES {
            let device = operator.device(&id.parse()?)?.number;
            operator.submit(Body::Granted(Granted { group, device })).await?;
        }
    }
    Ok(())
}

/// The hub's broker, or another one that its devices' certificates are good for, as a client with such a certificate reaches
/// it.
fn direct(device: &Path, broker: Option<SocketAddr>) -> Result<Upstream> {
    let folder = Folder::open(device)?;
    let key = folder.key(&KeyFiles::default())?;
    let file = match broker {
        Some(broker) => format!("upstream = 'mqtts://localhost:{}'", broker.port()),
        None => String::new(),
    };
    upstream(&folder, &key, &toml::from_str::<AgentFile>(&file)?.validate()?)
}

fn local(address: SocketAddr) -> Upstream {
    Upstream::new(HostPort { host: address.ip().to_string(), port: address.port() }, None)
}

fn free_port() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

fn mosquitto() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let found = |program: &str| folders.iter().map(|folder| folder.join(program)).find(|file| file.is_file());
    MOSQUITTO.iter().find_map(|program| found(program))
}
