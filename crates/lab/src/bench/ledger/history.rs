//! What a long history costs: a new device that verifies all of it, and the next start of its agent and of the hub.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use sealcast_ledger::{Authenticity, Body};
use sealcast_node::output;
use sealcast_operator::progress::Bar;
use serde::Serialize;

use super::figures::{millis, round, turns};
use crate::bench::site::{Site, create_group};

/// Entries that the operator signs at a time.
const GROWING: usize = 1024;
/// Starts of which the fastest counts: what else the machine does slows some, speeds none.
const STARTS: usize = 3;

/// One size.
#[derive(Serialize)]
pub struct Row {
    entries: u64,
    /// From the start of a new device's agent until it has verified the ledger from the first entry on, as the hub gives it
    /// over MQTT on loopback, and stored it.
    new_device_ms: f64,
    /// From the start of the same agent again until its clients can connect.
    agent_start_ms: f64,
    /// From the start of the hub until devices can connect.
    hub_start_ms: f64,
    /// In the agent's folder, for one entry.
    agent_bytes: f64,
    /// In the hub's folder, for one entry.
    hub_bytes: f64,
}

/// Lets one ledger grow to these sizes.
pub async fn measure(sizes: &[usize]) -> Result<Vec<Row>> {
    // One new device for each size, and one that is granted and revoked, and has no agent.
    let mut site = Site::new(sizes.len() + 1).await?;
    site.enrol().await?;
    site.operator.catch_up().await?;
    let group = create_group(&mut site.operator, "history", Authenticity::Signature).await?;
    let mut bodies = turns(group, site.number_of(sizes.len())?);
    let mut rows = Vec::new();
    for (device, size) in sizes.iter().enumerate() {
        loop {
            let missing = size.saturating_sub(usize::try_from(site.operator.replica.height())?);
            if missing == 0 {
                break;
            }
            let some: Vec<Body> = bodies.by_ref().take(missing.min(GROWING)).collect();
            site.operator.submit_all(&some, |_, _| Ok(())).await?;
            // Only the sums are needed.
            site.operator.records = Vec::new();
        }
        let _bar = Bar::waiting(format!("starting an agent and a hub with {size} entries"));
        rows.push(one(&mut site, device).await.with_context(|| format!("with {size} entries"))?);
    }
    site.stop().await?;
    Ok(rows)
}

async fn one(site: &mut Site, device: usize) -> Result<Row> {
    let entries = site.operator.replica.height();
    let start = Instant::now();
    site.start_agent(device).await?;
    site.has_read(device, entries).await?;
    let new_device = start.elapsed();
    let mut agent_start = Duration::MAX;
    for _ in 0..STARTS {
        site.stop_agent(device).await?;
        let start = Instant::now();
        site.start_agent(device).await?;
        agent_start = agent_start.min(start.elapsed());
    }
    site.stop_agent(device).await?;
    let start = Instant::now();
    let stopping = site.restart_hub().await?;
    let hub_start = start.elapsed().saturating_sub(stopping);
    let each = |bytes: u64| round(bytes as f64 / entries as f64);
    Ok(Row {
        entries,
        new_device_ms: millis(new_device),
        agent_start_ms: millis(agent_start),
        hub_start_ms: millis(hub_start),
        agent_bytes: each(site.agent_bytes(device)?),
        hub_bytes: each(site.hub_bytes()?),
    })
}

/// As a table.
pub fn print(rows: &[Row]) -> Result<()> {
    let cells: Vec<[String; 6]> = rows
        .iter()
        .map(|row| {
            let ms = |value: f64| format!("{value:.0}");
            [
                row.entries.to_string(),
                ms(row.new_device_ms),
                ms(row.agent_start_ms),
                ms(row.hub_start_ms),
                ms(row.agent_bytes),
                ms(row.hub_bytes),
            ]
        })
        .collect();
    let header = ["ENTRIES", "NEW DEVICE ms", "AGENT START ms", "HUB START ms", "AGENT bytes each", "HUB bytes each"];
    output::table(header, &cells)
}
