//! The experiment's machines: one hub, six agents, and the applications behind them.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use sealcast_agent::{Agent, AgentFile, ClientEvent, Folder, Refused, enroll, upstream};
use sealcast_broker::{Handle, Qos};
use sealcast_hub::{Folders, Hub, HubConfig, HubFile, Subscribe};
use sealcast_identity::{DeviceId, EnrolmentToken};
use sealcast_ledger::{Body, GroupName, GroupNumber};
use sealcast_node::{KeyFiles, endpoint::EndpointUrl, tls::HostPort, upstream::Upstream};
use sealcast_operator::{Operator, device};
use tokio::sync::broadcast;

use super::{
    hostile::Hostile,
    network::{self, NetworkArgs},
    observer::Observer,
    show::Show,
    standin::StandIn,
};
use crate::app::{App, Message, PATIENCE};

/// The paper's four nodes.
pub const NODES: [&str; 4] = ["1111", "1112", "1113", "1114"];
/// Everything below this topic passes unsealed.
pub const CLEAR: &str = "open/#";
/// Below this topic, which passes unsealed too, an application publishes to itself: see [`NodeHandle::settle`].
const MARKER: &str = "marker";
/// How long an agent waits for the keys of a new epoch before it refuses a message, and how old other messages than those
/// of [`HELD_TOPIC`] may be. No step is about these, so they are long for a computer that has other work as well.
const SLOW_COMPUTER: &str = "key_wait_ms = 100000\n[freshness]\nmax_age_ms = 600000\n";
/// A topic whose messages must be younger than [`HELD_MAX_AGE_MS`].
pub const HELD_TOPIC: &str = "hsu0001/held";
/// See [`HELD_TOPIC`].
pub const HELD_MAX_AGE_MS: u64 = 300;
/// All clocks here are the same.
const CLOCK_TOLERANCE_MS: u64 = 100;

/// How the paper's nodes are configured.
pub fn agent_toml() -> String {
    format!(
        "listen = '127.0.0.1:0'\nclear = ['{CLEAR}', '{MARKER}/#']\n\
         {SLOW_COMPUTER}clock_tolerance_ms = {CLOCK_TOLERANCE_MS}\n\
         [[topic]]\nfilter = '{HELD_TOPIC}'\nmax_age_ms = {HELD_MAX_AGE_MS}\n"
    )
}

/// A node: its agent, its application, and what the agent refused.
pub struct NodeHandle {
    /// Its id.
    pub id: DeviceId,
    /// Its folder.
    pub dir: PathBuf,
    /// Its agent.
    pub agent: Agent,
    /// Its application, an ordinary MQTT client of the agent.
    pub app: App,
    events: broadcast::Receiver<ClientEvent>,
    markers: u64,
    show: Option<Show>,
}

/// How the attacker's own messages get out.
enum Injector {
    /// By the hub's broker.
    Own(Handle),
    /// By a client of another broker, past the stand-in that all others are carried by.
    Foreign { client: App, _stand_in: StandIn },
}

/// See the module.
pub struct World {
    dir: PathBuf,
    folders: Folders,
    hub_config: HubConfig,
    /// The hub.
    pub hub: Hub,
    /// The broker's attacker.
    pub hostile: Arc<Hostile>,
    injector: Injector,
    /// Who grants and revokes.
    pub operator: Operator,
    /// The nodes, once they are enrolled.
    pub nodes: Vec<NodeHandle>,
    /// The page that shows what nodes read.
    pub show: Option<Show>,
    /// Who listens at the broker.
    pub observer: Option<Observer>,
    /// The sealed frame of the first message, as the broker carried it.
    pub first_frame: Vec<u8>,
}

fn rpc_finality(network: &NetworkArgs) -> Option<String> {
    network.rpc.as_ref().map(|_| network.finality.clone())
}

impl World {
    /// Starts the hub in `dir/hub`, with a broker of its own or as a client of `broker`, and with its ledger in the same folder
    /// or on `network`.
    ///
    /// `serve`: where the hub's console is served, if it is.
    pub async fn start(
        dir: &Path,
        broker: Option<Upstream>,
        network: &NetworkArgs,
        serve: Option<SocketAddr>,
    ) -> Result<Self> {
        let hostile = Hostile::new();
        let foreign = match broker {
            Some(broker) => Some(foreign(broker, hostile.clone()).await?),
            None => None,
        };
        let url = foreign.as_ref().map(|(stand_in, _)| format!("mqtt://{}", stand_in.address));
        let hub_config = HubFile::default()
            .with(Some(([127, 0, 0, 1], 0).into()), Some(([127, 0, 0, 1], 0).into()), &[])
            // The paper's broker hands everybody the bytes: the demo shows that they are no use to outsiders.
            .with_subscribe(Subscribe::Anyone)
            .with_broker(url, None)
            .with_console(Some(serve.map_or_else(String::new, |serve| serve.to_string())))
            .with_ledger(network.rpc.iter().map(EndpointUrl::whole).collect(), rpc_finality(network))
            .validate()?;
        let folders = Folders::beside(&dir.join("hub"))?;
        if let Some(url) = &network.rpc {
            network::fund(url, &folders.hub).await?;
        }
        let hub = Hub::start(&folders, hub_config.clone(), Some(hostile.clone())).await?;
        let injector = match foreign {
            Some((stand_in, client)) => Injector::Foreign { client, _stand_in: stand_in },
            None => Injector::Own(hub.broker().context("the hub has no broker")?.clone()),
        };
        let operator = Operator::connect(&folders.operator, &KeyFiles::default()).await?;
        Ok(Self {
            dir: dir.to_owned(),
            folders,
            hub_config,
            hub,
            hostile,
            injector,
            operator,
            nodes: Vec::new(),
            show: None,
            observer: None,
            first_frame: Vec::new(),
        })
    }

    /// A one-time token for a device.
    pub fn invite(&self, id: &DeviceId) -> Result<EnrolmentToken> {
        Ok(device::invite(&self.folders.hub, id.clone(), &self.hub_config)?.token)
    }

    /// The folder of a node.
    pub fn node_dir(&self, id: &DeviceId) -> PathBuf {
        self.dir.join("agents").join(id.as_str())
    }

    /// Enrols a device with `token`.
    pub async fn enroll(&self, token: &EnrolmentToken, dir: &Path) -> Result<()> {
        enroll::enroll(&self.hub.url, token, dir, &KeyFiles::default(), None).await.map(drop)
    }

    /// Starts the agent and the application of an enrolled node; `agent_toml` is its configuration.
    pub async fn start_node(&mut self, id: DeviceId, agent_toml: &str) -> Result<()> {
        let node = NodeHandle::start(id.clone(), self.node_dir(&id), agent_toml, self.show.clone()).await?;
        self.nodes.push(node);
        Ok(())
    }

    /// Ends the agent at `index` and starts it again with another configuration.
    pub async fn restart_node(&mut self, index: usize, agent_toml: &str) -> Result<()> {
        ensure!(index < self.nodes.len(), "no such node");
        let NodeHandle { id, dir, agent, app, show, .. } = self.nodes.remove(index);
        drop(app);
        agent.stop().await?;
        self.nodes.insert(index, NodeHandle::start(id, dir, agent_toml, show).await?);
        Ok(())
    }

    /// The operator's folder.
    pub fn operator_dir(&self) -> &Path {
        &self.folders.operator
    }

    /// Puts an observer at the broker, with the certificate of node 1113.
    pub async fn observe(&mut self) -> Result<()> {
        let folder = Folder::open(&self.node(2)?.dir)?;
        let config = AgentFile::default().validate()?;
        let upstream = upstream(&folder, &folder.key(&KeyFiles::default())?, &config)?;
        self.observer = Some(Observer::open(&upstream, &["hsu0001/#", "hsu0002/#", CLEAR]).await?);
        Ok(())
    }

    /// The node at `index`.
    pub fn node(&self, index: usize) -> Result<&NodeHandle> {
        self.nodes.get(index).context("no such node")
    }

    /// The node at `index`.
    pub fn node_mut(&mut self, index: usize) -> Result<&mut NodeHandle> {
        self.nodes.get_mut(index).context("no such node")
    }

    /// The number of a group.
    pub fn group(&self, name: &str) -> Result<GroupNumber> {
        Ok(self.operator.group(&name.parse::<GroupName>()?)?.number)
    }

    /// Has the operator put an entry on the ledger.
    pub async fn submit(&mut self, body: Body) -> Result<()> {
        self.operator.submit(body).await?;
        Ok(())
    }

    /// Waits until each of these nodes is at the group's newest epoch with exactly these as members.
    pub async fn members_agree(&mut self, group: GroupNumber, nodes: &[usize]) -> Result<()> {
        let start = Instant::now();
        loop {
            self.operator.catch_up().await?;
            let epoch = self.operator.replica.group(group).context("the group")?.epoch.0;
            let agreed = nodes.iter().all(|index| {
                self.nodes.get(*index).is_some_and(|node| {
                    let data = node.agent.data();
                    data.epochs().iter().any(|(of, id)| *of == group && id.epoch == epoch)
                        && data.members(group).len() == nodes.len()
                })
            });
            if agreed {
                return Ok(());
            }
            ensure!(start.elapsed() < PATIENCE, "the members did not agree on keys within {} s", PATIENCE.as_secs());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Waits until each node's agent has read the ledger as far as it stands now.
    pub async fn all_caught_up(&mut self) -> Result<()> {
        self.operator.catch_up().await?;
        let height = self.operator.replica.height();
        let start = Instant::now();
        let behind = |node: &NodeHandle| node.agent.data().with_replica(|replica| replica.height()) < height;
        while self.nodes.iter().any(behind) {
            ensure!(start.elapsed() < PATIENCE, "not all agents read the ledger within {} s", PATIENCE.as_secs());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }

    /// Has the broker hand out what the attacker made up, or plays again.
    pub async fn inject(&mut self, topic: &str, payload: impl Into<Bytes>) -> Result<()> {
        let payload = payload.into();
        match &mut self.injector {
            Injector::Own(broker) => Ok(broker.inject(topic, payload, Qos::AtLeastOnce, false).await?),
            Injector::Foreign { client, .. } => client.publish(topic, false, &payload).await,
        }
    }

    /// Ends everything.
    pub async fn stop(self) -> Result<()> {
        for node in self.nodes {
            drop(node.app);
            node.agent.stop().await?;
        }
        drop(self.operator);
        self.hub.stop().await
    }
}

/// What stands in front of somebody else's broker, and the attacker's client of it.
async fn foreign(broker: Upstream, hostile: Arc<Hostile>) -> Result<(StandIn, App)> {
    let client = App::connect(&broker, "attacker").await?;
    Ok((StandIn::start(broker, hostile).await?, client))
}

impl NodeHandle {
    async fn start(id: DeviceId, dir: PathBuf, agent_toml: &str, show: Option<Show>) -> Result<Self> {
        let agent = Agent::start(&dir, toml::from_str::<AgentFile>(agent_toml)?.validate()?).await?;
        let mut app = App::connect(&local(&agent)?, &format!("app-{id}")).await?;
        app.subscribe(&marker(&id)).await?;
        let events = agent.events();
        Ok(Self { id, dir, agent, app, events, markers: 0, show })
    }

    /// Where its applications connect.
    pub fn local(&self) -> Result<Upstream> {
        local(&self.agent)
    }

    /// What the application received next, as text.
    pub async fn read(&mut self) -> Result<String> {
        match self.app.next(PATIENCE).await {
            Some(message) => {
                let text = String::from_utf8_lossy(&message.payload).into_owned();
                self.note_read(&message.topic, Some(text.clone()));
                Ok(text)
            }
            None => bail!("the application of {} received nothing", self.id),
        }
    }

    /// What is on its way to the application, which is none of it afterwards.
    ///
    /// It publishes to itself, and takes what comes before that. The order of messages holds from the broker on, so
    /// whatever the broker had before has come, or has been refused, however slow this computer is.
    pub async fn settle(&mut self) -> Result<Vec<Message>> {
        let topic = marker(&self.id);
        self.markers += 1;
        let payload = self.markers.to_string();
        self.app.publish(&topic, false, payload.as_bytes()).await?;
        let mut before = Vec::new();
        loop {
            match self.app.next(PATIENCE).await {
                Some(message) if message.topic == topic && message.payload == payload.as_bytes() => return Ok(before),
                Some(message) => before.push(message),
                None => bail!("the application of {} does not get what it publishes to itself", self.id),
            }
        }
    }

    /// Whether nothing is on its way to the application.
    pub async fn read_nothing(&mut self) -> Result<bool> {
        Ok(self.settle().await?.is_empty())
    }

    /// Forgets what was refused so far.
    pub fn forget_refusals(&mut self) {
        self.events = self.agent.events();
    }

    /// Whichever comes first: a message for the application, or one on `topic` that was refused.
    pub async fn read_or_refusal(&mut self, topic: &str) -> Result<ReadOrRefusal> {
        let Self { app, events, id, .. } = self;
        tokio::select! {
            refusal = refusal(events, id, topic) => Ok(ReadOrRefusal::Refused(refusal?.1)),
            message = app.next(PATIENCE) => match message {
                Some(_) => Ok(ReadOrRefusal::Read),
                None => bail!("the application of {id} received nothing"),
            },
        }
    }

    /// The next message on `topic` that the agent did not hand on: its size and the reason.
    pub async fn refusal(&mut self, topic: &str) -> Result<(usize, String)> {
        let refused = refusal(&mut self.events, &self.id, topic).await?;
        self.note_read(topic, None);
        Ok(refused)
    }

    fn note_read(&self, topic: &str, text: Option<String>) {
        if let Some(show) = &self.show {
            show.note_read(topic, self.id.as_str(), text);
        }
    }
}

/// What came of a message.
pub enum ReadOrRefusal {
    /// The application has it.
    Read,
    /// The agent refused it, for this reason.
    Refused(String),
}

fn marker(id: &DeviceId) -> String {
    format!("{MARKER}/{id}")
}

fn local(agent: &Agent) -> Result<Upstream> {
    let listen = agent.addresses.listen.context("the agent does not listen on TCP")?;
    Ok(Upstream::new(HostPort { host: "127.0.0.1".into(), port: listen.port() }, None))
}

async fn refusal(events: &mut broadcast::Receiver<ClientEvent>, id: &DeviceId, topic: &str) -> Result<(usize, String)> {
    let next = async {
        loop {
            match events.recv().await {
                Ok(ClientEvent { what: Refused::Delivery { bytes }, topic: of, why, .. }) if of == topic => {
                    return Ok((bytes, why.text));
                }
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => bail!("the agent has ended"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, next)
        .await
        .with_context(|| format!("{id} refused nothing on {topic} within {} s", PATIENCE.as_secs()))?
}
