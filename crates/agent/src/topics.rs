//! `sealcast topics`: what an agent has measured of its topics, and what report on change has saved.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use sealcast_agent_core::values::{Alarm, Measured, measured};
use sealcast_node::output;
use sealcast_quality::Span;
use serde::Serialize;

use crate::Store;

/// `sealcast topics`.
#[derive(clap::Args)]
pub struct Options {
    /// The device's folder. Its agent may be running.
    #[arg(long, env = "SEALCAST_DIR", value_name = "DIR")]
    dir: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Row {
    topic: String,
    /// Within the topic's messages; empty if they hold one reading.
    name: String,
    /// The cycle in which readings come, in ms; `None` until five came.
    period_ms: Option<u64>,
    /// The largest difference of the last ones from it, in ms.
    jitter_ms: Option<u64>,
    /// When the last one came, Unix ms.
    last_ms: Option<u64>,
    /// `None` where no rule says `report`.
    report: Option<Report>,
    /// `None` if none stands.
    alarm: Option<Alarm>,
}

#[derive(Serialize)]
struct Report {
    /// Readings that were not blocked.
    seen: u64,
    /// Those of them that were sent.
    sent: u64,
    /// Those of `sent` that were sent for the heartbeat alone.
    heartbeats: u64,
    /// The part that was not sent, in percent.
    saved_percent: f64,
}

impl Row {
    fn new((topic, name): (String, String), measured: Measured) -> Self {
        let Measured { period_ms, jitter_ms, last_ms, saved, alarm } = measured;
        let report = saved.map(|saved| Report {
            seen: saved.seen,
            sent: saved.sent,
            heartbeats: saved.heartbeats,
            saved_percent: ((1.0 - saved.sent_part()) * 1000.0).round() / 10.0,
        });
        Self { topic, name, period_ms, jitter_ms, last_ms, report, alarm }
    }

    fn cells(self) -> [String; 8] {
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        let report = self.report.as_ref();
        [
            self.topic,
            or_dash(Some(self.name).filter(|name| !name.is_empty())),
            or_dash(self.period_ms.map(|period| Span(period).to_string())),
            or_dash(self.last_ms.map(sealcast_reading::utc)),
            or_dash(report.map(|report| report.seen.to_string())),
            or_dash(report.map(|report| report.sent.to_string())),
            or_dash(report.map(|report| format!("{} %", report.saved_percent))),
            or_dash(self.alarm.map(|alarm| {
                let times = if alarm.count == 1 { "once".to_owned() } else { format!("{} times", alarm.count) };
                format!("{times}, {}", alarm.reason)
            })),
        ]
    }
}

/// Runs the command.
pub fn run(options: &Options) -> Result<()> {
    let topics = Store::read_values(&options.dir)
        .and_then(|rows| Ok(measured(&rows)?))
        .context("cannot show what the agent measured")?;
    let rows: Vec<Row> = topics.into_iter().map(|(key, measured)| Row::new(key, measured)).collect();
    if options.json {
        return output::json(&rows);
    }
    if rows.is_empty() {
        output::complain(
            "no topic was measured yet: only topics with rules are ([[quality]], [[publish]] or [[receive]] tables in \
             agent.toml)",
        );
    }
    let cells: Vec<_> = rows.into_iter().map(Row::cells).collect();
    output::table(["TOPIC", "NAME", "CYCLE", "LAST READING", "READ", "SENT", "SAVED", "ALARM"], &cells)
}
