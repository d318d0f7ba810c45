//! A hub and its devices' agents in this process, on loopback: what benches of the whole path stand on.

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use sealcast_agent::{Agent, AgentFile, enroll};
use sealcast_hub::{Folders, Hub, HubConfig, HubFile};
use sealcast_identity::DeviceId;
use sealcast_ledger::{Authenticity, Body, Granted, GroupCreated, GroupName, GroupNumber, Hash, Number, TopicFilter};
use sealcast_node::{KeyFiles, tls::HostPort, upstream::Upstream};
use sealcast_operator::{Operator, device};
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::policy::policy;

/// Devices that enrol at a time.
const ENROLLING: usize = 4;
/// How long to wait before looking again.
const LOOK: Duration = Duration::from_millis(5);

/// See the module.
pub struct Site {
    dir: TempDir,
    /// `None` only while it is started again.
    hub: Option<Hub>,
    folders: Folders,
    hub_config: HubConfig,
    /// The operator's view.
    pub operator: Operator,
    /// The devices, in their order.
    pub nodes: Vec<Node>,
    /// How long anything may take.
    pub patience: Duration,
}

/// One device and its agent, once it runs.
pub struct Node {
    /// The device.
    pub id: DeviceId,
    agent: Option<Agent>,
}

impl Node {
    fn agent(&self) -> Result<&Agent> {
        self.agent.as_ref().with_context(|| format!("the agent of {} does not run", self.id))
    }

    /// Where its local clients connect.
    pub fn local(&self) -> Result<Upstream> {
        let listen = self.agent()?.addresses.listen.context("the agent does not listen on TCP")?;
        let address = HostPort { host: "127.0.0.1".into(), port: listen.port() };
        Ok(Upstream::new(address, None))
    }
}

impl Site {
    /// A hub that runs, and so many devices that it does not know yet.
    pub async fn new(nodes: usize) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("sealcast-bench-").tempdir().context("no temporary folder")?;
        let any = || Some(([127, 0, 0, 1], 0).into());
        let mut hub_config = HubFile::default().with(any(), any(), &[]).with_console(Some(String::new())).validate()?;
        let folders = Folders::beside(&dir.path().join("hub"))?;
        let hub = Hub::start(&folders, hub_config.clone(), None).await?;
        // Where it is found, also if it is started again.
        hub_config.est = hub.est;
        hub_config.mqtt = hub.mqtt.context("the hub's broker")?;
        let operator = Operator::connect(&folders.operator, &KeyFiles::default()).await?;
        let id = |at: usize| Ok(Node { id: format!("{:04}", 1000 + at).parse()?, agent: None });
        let patience = Duration::from_secs(120 + 2 * nodes as u64);
        let nodes = (1..=nodes).map(id).collect::<Result<_>>()?;
        Ok(Self { dir, hub: Some(hub), folders, hub_config, operator, nodes, patience })
    }

    /// Enrols all devices, some at a time.
    pub async fn enrol(&self) -> Result<()> {
        let mut enrolling = JoinSet::new();
        for Node { id, .. } in &self.nodes {
            if enrolling.len() >= ENROLLING
                && let Some(ended) = enrolling.join_next().await
            {
                ended.context("enrolment")??;
            }
            let token = device::invite(&self.folders.hub, id.clone(), &self.hub_config)?.token;
            let url = self.hub.as_ref().context("the hub")?.url.clone();
            let (url, dir) = (url, self.dir.path().join(id.as_str()));
            enrolling
                .spawn(async move { enroll::enroll(&url, &token, &dir, &KeyFiles::default(), None).await.map(drop) });
        }
        while let Some(ended) = enrolling.join_next().await {
            ended.context("enrolment")??;
        }
        Ok(())
    }

    /// Starts the agent of one device.
    pub async fn start_agent(&mut self, at: usize) -> Result<()> {
        let node = self.nodes.get_mut(at).context("no such node")?;
        let text = "listen = '127.0.0.1:0'\n[freshness]\nmax_age_ms = 0\n";
        let config = toml::from_str::<AgentFile>(text)?.validate()?;
        node.agent = Some(Agent::start(&self.dir.path().join(node.id.as_str()), config).await?);
        Ok(())
    }

    /// Stops it.
    pub async fn stop_agent(&mut self, at: usize) -> Result<()> {
        match self.nodes.get_mut(at).and_then(|node| node.agent.take()) {
            Some(agent) => agent.stop().await,
            None => Ok(()),
        }
    }

    /// Waits until an agent's replica has so many entries.
    pub async fn has_read(&self, at: usize, entries: u64) -> Result<()> {
        let data = self.nodes.get(at).context("no such node")?.agent()?.data();
        let end = Instant::now() + self.patience;
        while data.with_replica(|replica| replica.height()) < entries {
            ensure!(Instant::now() < end, "the agent did not read {entries} entries in time");
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// Starts the hub again. How long its end took.
    pub async fn restart_hub(&mut self) -> Result<Duration> {
        let start = Instant::now();
        self.hub.take().context("the hub")?.stop().await?;
        let stopping = start.elapsed();
        self.hub = Some(Hub::start(&self.folders, self.hub_config.clone(), None).await?);
        Ok(stopping)
    }

    /// What a device's folder has on disk, in bytes.
    pub fn agent_bytes(&self, at: usize) -> Result<u64> {
        let node = self.nodes.get(at).context("no such node")?;
        bytes_in(&self.dir.path().join(node.id.as_str()))
    }

    /// What the hub's folder has on disk, in bytes.
    pub fn hub_bytes(&self) -> Result<u64> {
        bytes_in(&self.folders.hub)
    }

    /// Starts all agents, and waits until each has seen, for every device, the key broadcast that the ledger names, and the
    /// same ledger.
    pub async fn start_agents(&mut self) -> Result<()> {
        for at in 0..self.nodes.len() {
            self.start_agent(at).await?;
        }
        let start = Instant::now();
        let mut agreed = 0;
        loop {
            self.operator.catch_up().await?;
            let replica = &self.operator.replica;
            let ledger: BTreeMap<DeviceId, Hash> = replica
                .devices()
                .filter_map(|device| Some((device.id.clone(), replica.latest_keys(device.number)?.key_package)))
                .collect();
            // Keys that were once the ledger's stay so: nothing is rotated here.
            while ledger.len() == self.nodes.len()
                && let Some(node) = self.nodes.get(agreed)
                && let agent = node.agent()?
                && agent.data().with_replica(|own| own.head() == replica.head())
                && agent.keys_seen() == ledger
            {
                agreed += 1;
            }
            if agreed == self.nodes.len() {
                return Ok(());
            }
            if start.elapsed() > self.patience {
                bail!("{agreed} of {} nodes had the ledger's {} keys in time", self.nodes.len(), ledger.len());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Makes a group that covers all topics below its name, and waits until these devices are its members.
    pub async fn make_group(
        &mut self,
        name: &str,
        authenticity: Authenticity,
        members: &[usize],
    ) -> Result<GroupNumber> {
        let group = create_group(&mut self.operator, name, authenticity).await?;
        let grant = |member: &usize| Ok(Body::Granted(Granted { group, device: self.number_of(*member)? }));
        let grants = members.iter().map(grant).collect::<Result<Vec<_>>>()?;
        self.operator.submit_all(&grants, |_, _| Ok(())).await?;
        self.members_agree(group, members).await?;
        Ok(group)
    }

    /// A device's number on the ledger.
    pub fn number_of(&self, node: usize) -> Result<Number> {
        let id = &self.nodes.get(node).context("no such node")?.id;
        Ok(self.operator.device(id)?.number)
    }

    /// Waits until each of these is at the group's newest epoch, with exactly these as members.
    pub async fn members_agree(&mut self, group: GroupNumber, members: &[usize]) -> Result<()> {
        let start = Instant::now();
        loop {
            self.operator.catch_up().await?;
            let epoch = self.operator.replica.group(group).context("the group")?.epoch.0;
            let agreed = |index: &&usize| {
                self.nodes.get(**index).and_then(|node| node.agent.as_ref()).is_some_and(|agent| {
                    let data = agent.data();
                    data.epochs().iter().any(|(of, id)| *of == group && id.epoch == epoch)
                        && data.members(group).len() == members.len()
                })
            };
            let count = members.iter().filter(agreed).count();
            if count == members.len() {
                return Ok(());
            }
            if start.elapsed() > self.patience {
                bail!("{count} of {} members had the keys of epoch {epoch} in time", members.len());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Stops the agents, then the hub.
    pub async fn stop(self) -> Result<()> {
        let mut ending = JoinSet::new();
        for agent in self.nodes.into_iter().filter_map(|node| node.agent) {
            ending.spawn(agent.stop());
        }
        while let Some(ended) = ending.join_next().await {
            ended.context("an agent's end")??;
        }
        drop(self.operator);
        match self.hub {
            Some(hub) => hub.stop().await,
            None => Ok(()),
        }
    }
}

fn bytes_in(dir: &Path) -> Result<u64> {
    let sizes = std::fs::read_dir(dir)?.map(|entry| Ok(entry?.metadata()?.len()));
    sizes.sum()
}

/// Creates a group that covers all topics below its name.
pub async fn create_group(operator: &mut Operator, name: &str, authenticity: Authenticity) -> Result<GroupNumber> {
    let policy = policy(authenticity);
    let filters: Vec<TopicFilter> = vec![format!("{name}/#").parse()?];
    let name: GroupName = name.parse()?;
    operator.submit(Body::GroupCreated(GroupCreated { name: name.clone(), filters, policy })).await?;
    Ok(operator.group(&name)?.number)
}
