//! `sealcast bench fleet`: so many agents in one process, each with its application, against one hub on loopback.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use sealcast_ledger::{Authenticity, Body, Granted, Reason, Revoked};
use sealcast_node::output;
use sealcast_operator::progress::Bar;
use serde::Serialize;

use super::site::Site;
use crate::app::App;

/// Most agents of one row: each takes some twenty file descriptors of this process.
pub const MAX_NODES: usize = 500;
const GROUP: &str = "fleet";
const TOPIC: &str = "fleet/all";
const PAYLOAD_BYTES: usize = 100;

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
        let _bar = Bar::waiting(format!("measuring {nodes} agents"));
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

struct Fleet {
    site: Site,
    /// The application behind each agent.
    apps: Vec<App>,
}

async fn measure(nodes: usize) -> Result<Row> {
    ensure!((2..=MAX_NODES).contains(&nodes), "--nodes: 2 to {MAX_NODES}");
    let mut site = Site::new(nodes).await?;
    let start = Instant::now();
    site.enrol().await?;
    let enrol_ms = millis(start);

    let start = Instant::now();
    site.start_agents().await?;
    let keys_agree_ms = millis(start);

    // The applications come now: what they do is none of the keys' business.
    let mut apps = Vec::new();
    for node in &site.nodes {
        apps.push(App::connect(&node.local()?, &format!("app-{}", node.id)).await?);
    }
    let mut fleet = Fleet { site, apps };

    let start = Instant::now();
    let all_but_last: Vec<usize> = (0..nodes - 1).collect();
    let group = fleet.site.make_group(GROUP, Authenticity::Signature, &all_but_last).await?;
    let group_ms = millis(start);
    let group_epochs = fleet.site.operator.replica.group(group).context("the group")?.epoch.0;
    for app in fleet.apps.iter_mut().take(nodes - 1).skip(1) {
        app.subscribe(TOPIC).await?;
    }

    let start = Instant::now();
    let device = fleet.site.number_of(nodes - 1)?;
    fleet.site.operator.submit(Body::Granted(Granted { group, device })).await?;
    fleet.apps.last_mut().context("the last node")?.subscribe(TOPIC).await?;
    fleet.site.members_agree(group, &(0..nodes).collect::<Vec<_>>()).await?;
    fleet.send_to_all(1, nodes).await?;
    let grant_to_readable_ms = millis(start);

    let messages = (20_000 / nodes).clamp(100, 2_000);
    let start = Instant::now();
    fleet.send_to_all(messages, nodes).await?;
    let sending = start.elapsed().as_secs_f64();

    let start = Instant::now();
    let reason: Reason = "sold".parse()?;
    fleet.site.operator.submit(Body::Revoked(Revoked { group, device, reason })).await?;
    fleet.site.members_agree(group, &all_but_last).await?;
    let revoke_to_unreadable_ms = millis(start);
    fleet.send_to_all(1, nodes - 1).await?;
    let last = fleet.apps.last_mut().context("the last node")?;
    ensure!(last.next(Duration::from_millis(200)).await.is_none(), "the last node still reads after its revocation");

    drop(fleet.apps);
    fleet.site.stop().await?;
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

impl Fleet {
    /// The first node sends, all others up to `nodes` read.
    async fn send_to_all(&mut self, messages: usize, nodes: usize) -> Result<()> {
        let patience = self.site.patience;
        let (first, others) = self.apps.split_first_mut().context("no nodes")?;
        let payloads: Vec<Vec<u8>> = (0..messages)
            .map(|at| {
                let mut payload = format!("{at:08}").into_bytes();
                payload.resize(PAYLOAD_BYTES, b'.');
                payload
            })
            .collect();
        first.publish_all(TOPIC, &payloads, patience).await?;
        for (app, node) in others.iter_mut().zip(self.site.nodes.iter().skip(1)).take(nodes - 1) {
            for payload in &payloads {
                let message = app.next(patience).await;
                let message = message.with_context(|| format!("{} got no message", node.id))?;
                ensure!(message.payload == payload, "{} read another message than was sent next", node.id);
            }
        }
        Ok(())
    }
}

fn millis(start: Instant) -> f64 {
    round(start.elapsed().as_secs_f64() * 1e3)
}

fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}
