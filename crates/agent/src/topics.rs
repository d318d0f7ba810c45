//! `sealcast topics`: what an agent has measured of its topics, and what report on change has saved.

use std::{path::PathBuf, sync::Arc};

use anyhow::{Context as _, Result};
use sealcast_agent_core::values::{Alarm, Measured, measured};
use sealcast_node::{
    config,
    output::{self, Column},
};
use sealcast_quality::{Fallback, RuleSet, Span, TopicRules};
use serde::Serialize;

use crate::{Store, config::AgentFile};

/// `sealcast topics`.
#[derive(clap::Args)]
pub struct Options {
    /// The device's folder. Its agent may be running.
    #[arg(long, env = "SEALCAST_DIR", value_name = "DIR")]
    dir: PathBuf,
    /// The agent's configuration file, which says where a fail-safe is [default: DIR/agent.toml, if it exists].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
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
    /// `None` where no rule says `fail_safe`.
    fail_safe: Option<Guarded>,
}

/// After how long a fail-safe value comes.
#[derive(Serialize)]
struct Guarded {
    /// Without a good value, in ms.
    silence_ms: Option<u64>,
    /// With blocked values only, in ms.
    blocked_ms: Option<u64>,
}

impl Guarded {
    fn new(rules: &TopicRules) -> Option<Self> {
        let after = |fallback: &Option<Fallback>| fallback.as_ref().map(|fallback| fallback.after_ms);
        let fail_safe = rules.fail_safe()?;
        Some(Self { silence_ms: after(&fail_safe.on_silence), blocked_ms: after(&fail_safe.on_blocked) })
    }

    fn words(&self) -> String {
        let silence = self.silence_ms.map(|after| format!("{} silent", Span(after)));
        let blocked = self.blocked_ms.map(|after| format!("{} blocked", Span(after)));
        [silence, blocked].into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
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
    fn new((topic, name): (String, String), measured: Measured, rules: Option<&RuleSet>) -> Self {
        let Measured { period_ms, jitter_ms, last_ms, saved, alarm } = measured;
        let report = saved.map(|saved| Report {
            seen: saved.seen,
            sent: saved.sent,
            heartbeats: saved.heartbeats,
            saved_percent: ((1.0 - saved.sent_part()) * 1000.0).round() / 10.0,
        });
        let fail_safe = rules.and_then(|rules| rules.find(&topic)).and_then(Guarded::new);
        Self { topic, name, period_ms, jitter_ms, last_ms, report, alarm, fail_safe }
    }

    fn cells(self) -> [String; 9] {
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
            or_dash(self.fail_safe.map(|guarded| guarded.words())),
        ]
    }
}

/// Runs the command.
pub fn run(options: &Options) -> Result<()> {
    let topics = Store::read_values(&options.dir)
        .and_then(|rows| Ok(measured(&rows)?))
        .context("cannot show what the agent measured")?;
    let rules = rules(options);
    let mut rows: Vec<Row> =
        topics.into_iter().map(|(key, measured)| Row::new(key, measured, rules.as_deref())).collect();
    rows.extend(rules.iter().flat_map(|rules| unmeasured(rules, &rows)).collect::<Vec<_>>());
    rows.sort_by(|one, other| (&one.topic, &one.name).cmp(&(&other.topic, &other.name)));
    if options.json {
        return output::json(&rows);
    }
    let nothing = "No topic was measured yet: only topics with rules are ([[quality]], [[publish]] or [[receive]] tables \
                   in agent.toml).";
    let header = [
        "TOPIC".into(),
        Column::cut("NAME"),
        "CYCLE".into(),
        "LAST READING".into(),
        "READ".into(),
        "SENT".into(),
        "SAVED".into(),
        Column::cut("ALARM"),
        Column::cut("FAIL-SAFE"),
    ];
    let cells: Vec<_> = rows.into_iter().map(Row::cells).collect();
    output::table_or(nothing, header, &cells)
}

/// The agent's rules. What was measured is shown without them, too.
fn rules(options: &Options) -> Option<Arc<RuleSet>> {
    let file = options.dir.join("agent.toml");
    let path = options.config.clone().unwrap_or_else(|| file.clone());
    let config = config::load::<AgentFile>(options.config.as_deref(), &file)
        .and_then(|loaded| loaded.check(&[], |found| found.with_files(config::folder_of(&path))?.validate()));
    match config {
        Ok(config) => Some(config.values.quality.clone()),
        Err(error) => {
            output::complain(&format!("note: where a fail-safe is cannot be shown: {error:#}"));
            None
        }
    }
}

/// What fail-safes wait for and nothing else judges: an agent keeps nothing of these topics on disk.
fn unmeasured(rules: &RuleSet, rows: &[Row]) -> Vec<Row> {
    let is_shown = |rules: &TopicRules| rows.iter().any(|row| rules.filter().matches(&row.topic));
    let guarded = rules.iter().filter(|rules| rules.fail_safe().is_some() && !is_shown(rules));
    let row = |guarded: &TopicRules| Row {
        fail_safe: Guarded::new(guarded),
        ..Row::new((guarded.filter().as_str().to_owned(), String::new()), Measured::default(), None)
    };
    guarded.map(row).collect()
}
