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
/// The groups, each of which covers the topics below its name.
const GROUPS: [(&str, Authenticity); 2] = [("group", Authenticity::Group), ("signed", Authenticity::Signature)];
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
    _dir: TempDir,
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
        let hub = dir.path().join("hub");
        let text = |path: &Path| path.to_str().map(str::to_owned).context("the temporary folder's name is not UTF-8");
        let (folder, log) = (text(&hub)?, dir.path().join("hub.log"));
        let args = ["up", "--dir", &folder, "--est", "127.0.0.1:0", "--mqtt", "127.0.0.1:0", "--json"];
        let (process, ready) = Process::sealcast::<HubReady>("hub", &args, &log).await?;
        let mut processes = vec![process];

        let mut agents = Vec::new();
        let max_clients = connections + 64;
        let config = format!(
            "listen = '127.0.0.1:0'\nmax_clients = {max_clients}\nclear = ['{OPEN}/#']\n[freshness]\nmax_age_ms = 0\n"
        );
        for (id, role) in DEVICES.iter().zip(["sending agent", "receiving agent"]) {
            let agent = dir.path().join(id);
            enrol(&hub, ready.est, id, &agent).await?;
            std::fs::write(agent.join("agent.toml"), &config)?;
            let (folder, log) = (text(&agent)?, dir.path().join(format!("{id}.log")));
            let args = ["agent", "--dir", &folder, "--json"];
            let (process, ready) = Process::sealcast::<AgentReady>(role, &args, &log).await?;
            processes.push(process);
            agents.push(local(ready.listen));
        }
        let [sender, receiver] = <[Upstream; 2]>::try_from(agents).ok().context("two agents")?;
        make_groups(&hub).await?;

        let direct = direct(&dir.path().join(DEVICES[0]), None)?;
        let way = |mode, publisher: &Upstream, subscriber: &Upstream, through: &[usize]| Way {
            broker: "the hub's",
            mode,
            publisher: publisher.clone(),
            subscriber: subscriber.clone(),
            topic: format!("{}/line", if mode == TLS { OPEN } else { mode }),
            through: through.to_vec(),
        };
        let mut ways = vec![way(TLS, &direct, &direct, &[0])];
        ways.extend(GROUPS.map(|(group, _)| way(group, &sender, &receiver, &[0, 1, 2])));
        let mut site = Self { ways, processes, missing: None, _dir: dir };
        match mosquitto() {
            Some(program) => site.add_mosquitto(&program, &hub).await?,
            None => site.missing = Some("mosquitto is not installed: nothing is compared with it".into()),
        }
        for way in &site.ways {
            open_way(way).await.with_context(|| format!("{}, {}", way.broker, way.mode))?;
        }
        Ok(site)
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

    /// A mosquitto whose TLS listener asks for the devices' certificates, as the hub's broker does.
    async fn add_mosquitto(&mut self, program: &Path, hub: &Path) -> Result<()> {
        let [plain, tls] = [free_port()?, free_port()?];
        let (dir, hub) = (self._dir.path(), hub.display());
        let config = dir.join("mosquitto.conf");
        std::fs::write(
            &config,
            format!(
                "user root\nset_tcp_nodelay true\nmax_queued_messages 0\nallow_anonymous true\n\
                 listener {} 127.0.0.1\nlistener {} 127.0.0.1\ncafile {hub}/root.pem\ncertfile {hub}/server.pem\nkeyfile {hub}/server.key\n\
                 require_certificate true\n",
                plain.port(),
                tls.port()
            ),
        )?;
        let mut command = Command::new(program);
        command.arg("-c").arg(config).stdout(std::process::Stdio::null());
        let process = Process::start("mosquitto", &mut command, &dir.join("mosquitto.log"))?;
        self.processes.push(process);
        let through = vec![self.processes.len() - 1];
        let device = dir.join(DEVICES[0]);
        for (mode, at) in [(PLAIN, local(plain)), (TLS, direct(&device, Some(tls))?)] {
            let topic = format!("{OPEN}/line");
            let (publisher, subscriber) = (at.clone(), at);
            self.ways.push(Way { broker: "mosquitto", mode, publisher, subscriber, topic, through: through.clone() });
        }
        let start = Instant::now();
        while TcpStream::connect(tls).is_err() {
            let said = || std::fs::read_to_string(dir.join("mosquitto.log")).unwrap_or_default();
            ensure!(start.elapsed() < PATIENCE, "mosquitto does not start: {}", said());
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }
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

async fn enrol(hub: &Path, est: SocketAddr, id: &str, dir: &Path) -> Result<()> {
    let config: HubConfig = HubFile::default().validate()?;
    let token = device::invite(hub, id.parse()?, &config)?;
    enroll::enroll(&format!("https://localhost:{}", est.port()), &token, dir, &KeyFiles::default(), None).await?;
    Ok(())
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
