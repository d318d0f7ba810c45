//! `sealcast why`: why a message did not arrive, or was not sent, as the agent has noted it.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use sealcast_agent_core::{Incident, Way};
use sealcast_node::output::{self, Column};
use sealcast_topic::{check_filter, matches};
use tracing::debug;

use crate::{incidents, lost::lost_groups};

/// `sealcast why`.
#[derive(clap::Args)]
pub struct Options {
    /// A topic, or a filter that matches several; in quotes if it has a `#`.
    #[arg(value_name = "TOPIC")]
    topic: String,
    /// The device's folder. Its agent may be running.
    #[arg(long, env = "SEALCAST_DIR", value_name = "DIR")]
    dir: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(options: &Options) -> Result<()> {
    let Options { topic, dir, json } = options;
    check_filter(topic)?;
    ensure!(dir.is_dir(), "there is no folder {}: give the device's folder (--dir)", dir.display());
    let mut found: Vec<Incident> =
        incidents::read(dir)?.into_iter().filter(|incident| is_about(incident, topic)).collect();
    match lost_groups(dir, topic) {
        Ok(lost) => found.extend(lost),
        Err(error) => debug!("which groups the device has lost is not known: {error:#}"),
    }
    found.sort_by_key(|incident| std::cmp::Reverse(incident.last_ms));
    if *json {
        return output::json(&found);
    }
    let nothing = "This agent has refused nothing on such a topic lately, as far as is written down, which can \
                   take 5 s. Did the publisher's agent? Does the client \
                   subscribe to the topic?";
    let header = [
        "LAST".into(),
        "TIMES".into(),
        "WAY".into(),
        Column::cut("TOPIC"),
        Column::cut("CLIENT"),
        Column::cut("SENDER"),
        "CODE".into(),
        Column::below("WHY"),
    ];
    let cells: Vec<_> = found.into_iter().map(cells).collect();
    output::table_or(nothing, header, &cells)
}

/// A connection that ended may have carried any topic, and the ledger is about all.
fn is_about(incident: &Incident, filter: &str) -> bool {
    match (&incident.topic, incident.way) {
        (None, _) => true,
        (Some(topic), Way::Subscription) => topic == filter || sealcast_topic::overlap(topic, filter),
        // A topic that MQTT does not allow, shortened.
        (Some(topic), _) => topic == filter || matches(filter, topic),
    }
}

fn cells(incident: Incident) -> [String; 8] {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let way = match incident.way {
        Way::Out => "sent",
        Way::In => "received",
        Way::Subscription => "subscribed",
        Way::Connection => "connected",
        Way::Ledger => "ledger",
    };
    [
        sealcast_reading::utc(incident.last_ms),
        incident.count.to_string(),
        way.to_owned(),
        or_dash(incident.topic),
        incident.client,
        or_dash(incident.sender),
        incident.code.to_string(),
        incident.detail,
    ]
}
