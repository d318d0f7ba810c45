//! `sealcast bench fleet`: so many agents in one process, each with its application, against one hub on loopback.

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use sealcast_agent::{Agent, AgentFile, enroll};
use sealcast_hub::{Folders, Hub, HubConfig, HubFile};
use sealcast_identity::DeviceId;
use sealcast_ledger::{
    Authenticity, Body, Granted, GroupCreated, GroupName, GroupNumber, Hash, Policy, Reason, Revoked, TopicFilter,
};
use sealcast_node::{
    output,
    tls::{HostPort, Upstream},
};
use sealcast_operator::{Operator, device};
use serde::Serialize;
use tokio::task::JoinSet;

use crate::app::App;

/// Most agents of one row: each takes some twenty file descriptors of this process.
pub const MAX_NODES: usize = 500;
const GROUP: &str = "fleet";
const FILTER: &str = "fleet/#";
const TOPIC: &str = "fleet/all";
const PAYLOAD_BYTES: usize = 100;
/// Devices that enrol at a time.
const ENROLLING: usize = 4;
/// How long to wait before looking again.
const LOOK: Duration = Duration::from_millis(5);

/// What one size took. Times are in ms.
#[derive(Debug, Serialize)]
pub struct Row {
    nodes: usize,
    /// Enrolment of all, four at a time.
    enrol_ms: f64,
    /// From the start of the first agent until every node has seen the key broadcasts of all, each as the ledger has it.
    keys_agree_ms: f64,
    /// From the creation of the group until all but the last node are members of one epoch, granted together.
    group_ms: f64,
    /// Key exchanges that this took.
    group_epochs: u64,
    /// From signing the last node's grant until every node has that epoch and has read a message under it.
    grant_to_readable_ms: f64,
    /// From signing its revocation until every other node has an epoch without it.
    revoke_to_unreadable_ms: f64,
    messages: usize,
    /// Sent by one, read by all others; QoS 1, signed, 100 bytes.
    messages_per_s: f64,
    /// The same, counted at the readers.
    deliveries_per_s: f64,
}

/// Runs the sizes one after the other.
pub async fn run(sizes: &[usize], json: bool) -> Result<()> {
    let mut rows = Vec::new();
    for &nodes in sizes {
        rows.push(measure(nodes).await.with_context(|| format!("with {nodes} nodes"))?);
    }
    if json {
        return output::json(&rows);
    }
    let cells: Vec<[String; 8]> = rows
        .iter()
        .map(|row| {
            let ms = |value: f64| format!("{value:.0}");
            [
                row.nodes.to_string(),
                ms(row.enrol_ms),
                ms(row.keys_agree_ms),
                format!("{} ({} epochs)", ms(row.group_ms), row.group_epochs),
                ms(row.grant_to_readable_ms),
                ms(row.revoke_to_unreadable_ms),
                ms(row.messages_per_s),
                ms(row.deliveries_per_s),
            ]
        })
        .collect();
    let header = ["NODES", "ENROL ms", "KEYS ms", "GROUP ms", "GRANT ms", "REVOKE ms", "MESSAGES/s", "DELIVERIES/s"];
    output::table(header, &cells)
}

/// One node: its agent, and the application behind it.
struct Node {
    id: DeviceId,
    agent: Agent,
    app: App,
}

struct Fleet {
    hub: Hub,
    operator: Operator,
    nodes: Vec<Node>,
    /// How long anything may take.
    patience: Duration,
}

async fn measure(nodes: usize) -> Result<Row> {
    ensure!((2..=MAX_NODES).contains(&nodes), "--nodes: 2 to {MAX_NODES}");
    let dir = tempfile::Builder::new().prefix("sealcast-fleet-").tempdir().context("no temporary folder")?;
    let ids: Vec<DeviceId> = (1..=nodes).map(|at| Ok(format!("{:04}", 1000 + at).parse()?)).collect::<Result<_>>()?;
    let hub_config =
        HubFile::default().with(Some(([127, 0, 0, 1], 0).into()), Some(([127, 0, 0, 1], 0).into()), &[]).validate()?;
    let folders = Folders::beside(&dir.path().join("hub"))?;
    let hub = Hub::start(&folders, hub_config.clone(), None).await?;
    let operator = Operator::connect(&folders.operator).await?;

    let start = Instant::now();
    enrol(&hub, &folders.hub, &hub_config, dir.path(), &ids).await?;
    let enrol_ms = millis(start);

    let start = Instant::now();
    let patience = Duration::from_secs(120 + 2 * nodes as u64);
    let mut fleet = Fleet { hub, operator, nodes: Vec::new(), patience };
    let mut agents = Vec::new();
    for id in &ids {
        let text = "listen = '127.0.0.1:0'\n[freshness]\nmax_age_ms = 0\n";
        let config = toml::from_str::<AgentFile>(text)?.validate()?;
        agents.push(Agent::start(&dir.path().join(id.as_str()), config).await?);
    }
    fleet.keys_agree(&agents).await?;
    let keys_agree_ms = millis(start);

    // The applications come now: what they do is none of the keys' business.
    for (id, agent) in ids.into_iter().zip(agents) {
        let local = HostPort { host: "127.0.0.1".into(), port: agent.listen.port() };
        let app = App::connect(&Upstream::new(local, None), &format!("app-{id}")).await?;
        fleet.nodes.push(Node { id, agent, app });
    }

    let start = Instant::now();
    let all_but_last: Vec<usize> = (0..nodes - 1).collect();
    let group = fleet.make_group(&all_but_last).await?;
    let group_ms = millis(start);
    let group_epochs = fleet.operator.replica.group(group).context("the group")?.epoch.0;
    for node in fleet.nodes.iter_mut().skip(1) {
        node.app.subscribe(TOPIC).await?;
    }

    let start = Instant::now();
    fleet.grant(group, nodes - 1).await?;
    fleet.members_agree(group, &(0..nodes).collect::<Vec<_>>()).await?;
    fleet.send_to_all(1, nodes).await?;
    let grant_to_readable_ms = millis(start);

    let messages = (20_000 / nodes).clamp(100, 2_000);
    let start = Instant::now();
    fleet.send_to_all(messages, nodes).await?;
    let sending = start.elapsed().as_secs_f64();

    let start = Instant::now();
    let device = fleet.number_of(nodes - 1)?;
    let reason: Reason = "sold".parse()?;
    fleet.operator.submit(Body::Revoked(Revoked { group, device, reason })).await?;
    fleet.members_agree(group, &all_but_last).await?;
    let revoke_to_unreadable_ms = millis(start);
    fleet.send_to_all(1, nodes - 1).await?;
    let last = fleet.nodes.last_mut().context("the last node")?;
    ensure!(last.app.next(Duration::from_millis(200)).await.is_none(), "{} still reads after its revocation", last.id);

    fleet.stop().await?;
    Ok(Row {
        nodes,
        enrol_ms,
        keys_agree_ms,
        group_ms,
        group_epochs,
        grant_to_readable_ms,
        revoke_to_unreadable_ms,
        messages,
        messages_per_s: round(messages as f64 / sending),
        deliveries_per_s: round((messages * (nodes - 1)) as f64 / sending),
    })
}

async fn enrol(hub: &Hub, hub_dir: &Path, config: &HubConfig, dir: &Path, ids: &[DeviceId]) -> Result<()> {
    let mut enrolling = JoinSet::new();
    for id in ids {
        if enrolling.len() >= ENROLLING
            && let Some(ended) = enrolling.join_next().await
        {
            ended.context("enrolment")??;
        }
        let token = device::invite(hub_dir, id.clone(), config)?;
        let (url, dir) = (hub.url.clone(), dir.join(id.as_str()));
        enrolling.spawn(async move { enroll::enroll(&url, &token, &dir).await.map(drop) });
    }
    while let Some(ended) = enrolling.join_next().await {
        ended.context("enrolment")??;
    }
    Ok(())
}

impl Fleet {
    /// Waits until each agent has seen, for every device, the key broadcast that the ledger names, and the same ledger.
    async fn keys_agree(&mut self, agents: &[Agent]) -> Result<()> {
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
            while ledger.len() == agents.len()
                && agents.get(agreed).is_some_and(|agent| {
                    agent.data().with_replica(|own| own.head() == replica.head()) && agent.keys_seen() == ledger
                })
            {
                agreed += 1;
            }
            if agreed == agents.len() {
                return Ok(());
            }
            if start.elapsed() > self.patience {
                let nodes = agents.len();
                bail!("{agreed} of {nodes} nodes had the ledger's {} keys in time", ledger.len());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn make_group(&mut self, members: &[usize]) -> Result<GroupNumber> {
        let policy = Policy {
            epoch_max_age_s: None,
            epoch_max_messages: None,
            retention: 4,
            authenticity: Authenticity::Signature,
        };
        let name: GroupName = GROUP.parse()?;
        let filters: Vec<TopicFilter> = vec![FILTER.parse()?];
        self.operator.submit(Body::GroupCreated(GroupCreated { name: name.clone(), filters, policy })).await?;
        let group = self.operator.group(&name)?.number;
        let grant = |member: &usize| Ok(Body::Granted(Granted { group, device: self.number_of(*member)? }));
        let grants = members.iter().map(grant).collect::<Result<Vec<_>>>()?;
        self.operator.submit_all(&grants, |_| Ok(())).await?;
        self.members_agree(group, members).await?;
        Ok(group)
    }

    fn number_of(&self, node: usize) -> Result<sealcast_ledger::Number> {
        let id = &self.nodes.get(node).context("no such node")?.id;
        Ok(self.operator.device(id)?.number)
    }

    async fn grant(&mut self, group: GroupNumber, node: usize) -> Result<()> {
        let device = self.number_of(node)?;
        self.operator.submit(Body::Granted(Granted { group, device })).await
    }

    /// Waits until each of these is at the group's newest epoch, with exactly these as members.
    async fn members_agree(&mut self, group: GroupNumber, members: &[usize]) -> Result<()> {
        let start = Instant::now();
        loop {
            self.operator.catch_up().await?;
            let epoch = self.operator.replica.group(group).context("the group")?.epoch.0;
            let agreed = |index: &&usize| {
                self.nodes.get(**index).is_some_and(|node| {
                    let data = node.agent.data();
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

    /// The first node sends, all others up to `nodes` read.
    async fn send_to_all(&mut self, messages: usize, nodes: usize) -> Result<()> {
        let (first, others) = self.nodes.split_first_mut().context("no nodes")?;
        let payloads: Vec<Vec<u8>> = (0..messages)
            .map(|at| {
                let mut payload = format!("{at:08}").into_bytes();
                payload.resize(PAYLOAD_BYTES, b'.');
                payload
            })
            .collect();
        first.app.publish_all(TOPIC, &payloads, self.patience).await?;
        for node in others.iter_mut().take(nodes - 1) {
            for payload in &payloads {
                let message = node.app.next(self.patience).await;
                let message = message.with_context(|| format!("{} got no message", node.id))?;
                ensure!(message.payload == payload, "{} read another message than was sent next", node.id);
            }
        }
        Ok(())
    }

    async fn stop(self) -> Result<()> {
        let mut ending = JoinSet::new();
        for Node { agent, app, .. } in self.nodes {
            drop(app);
            ending.spawn(agent.stop());
        }
        while let Some(ended) = ending.join_next().await {
            ended.context("an agent's end")??;
        }
        drop(self.operator);
        self.hub.stop().await
    }
}

fn millis(start: Instant) -> f64 {
    round(start.elapsed().as_secs_f64() * 1e3)
}

fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}
