//! `sealcast readings`: what a device has written to the ledger, and what the ledger said of it.

use anyhow::{Context as _, Result};
use clap::Subcommand;
use sealcast_identity::DeviceId;
use sealcast_ledger::{Event, LimitVerdict, Number, ReadingTopic, Record, Replica};
use sealcast_node::output::{self, Column};
use sealcast_reading::Decimal;
use serde::Serialize;

use crate::source::Source;

/// `sealcast readings`.
#[derive(Subcommand)]
pub enum Command {
    /// Show a device's readings with the contract's verdicts. Verifies the whole ledger first.
    Show {
        /// The device's id.
        device: DeviceId,
        /// Show only this topic.
        #[arg(long)]
        topic: Option<ReadingTopic>,
        /// Whose copy of the ledger.
        #[command(flatten)]
        source: Source,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

/// A reading on the ledger.
#[derive(Serialize)]
pub struct Row {
    /// Index of its entry.
    pub entry: u64,
    /// The group.
    pub group: String,
    /// The topic.
    pub topic: String,
    /// When the device took it, Unix ms by the device's clock.
    pub time_ms: u64,
    /// The device's count of the topic's readings.
    pub sequence: u64,
    /// Decimal digits.
    pub value: String,
    /// Of the topic's limits, as SenML writes it.
    pub unit: String,
    /// Whether the limits allow it.
    pub accepted: bool,
    /// Why not; `None` if accepted.
    pub reason: Option<String>,
    /// The contract's number of the verdict, 0 for accepted.
    #[serde(rename = "verdict")]
    pub code: u8,
}

impl Row {
    /// The ledger's verdict in words.
    pub fn verdict(&self) -> String {
        self.reason.as_ref().map_or_else(|| "accepted".to_owned(), |reason| format!("refused: {reason}"))
    }
}

#[derive(Serialize)]
struct Count {
    group: String,
    topic: String,
    accepted: u64,
    refused: u64,
}

/// A device's readings in `records`, which have been verified, each judged again as it was when it came; `replica` is one
/// that has not seen any.
pub fn rows(
    records: &[Record],
    mut replica: Replica,
    device: Number,
    topic: Option<&ReadingTopic>,
) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for record in records {
        let event = replica.apply_without_signature_check(record)?;
        let Event::Reading { group, topic: of, value, decimals, unit, time_ms, sequence, verdict } = event else {
            continue;
        };
        if record.entry.originator() != device || topic.is_some_and(|topic| *topic != of) {
            continue;
        }
        rows.push(Row {
            entry: record.index,
            group: replica.group(group).map(|group| group.name.to_string()).unwrap_or_default(),
            topic: of.to_string(),
            time_ms,
            sequence,
            value: Decimal::new(value, decimals).to_string(),
            unit: unit.to_string(),
            accepted: verdict.is_accepted(),
            code: verdict.code(),
            reason: match verdict {
                LimitVerdict::Accepted => None,
                LimitVerdict::Refused(breach) => Some(breach.to_string()),
            },
        });
    }
    Ok(rows)
}

fn counts(replica: &Replica, device: Number, topic: Option<&ReadingTopic>) -> Vec<Count> {
    let wanted = replica.streams(device).filter(|(_, of, _)| topic.is_none_or(|topic| topic == *of));
    wanted
        .map(|(group, of, stream)| Count {
            group: replica.group(group).map(|group| group.name.to_string()).unwrap_or_default(),
            topic: of.to_string(),
            accepted: stream.accepted,
            refused: stream.refused,
        })
        .collect()
}

/// Runs the command.
pub async fn run(command: Command) -> Result<()> {
    let Command::Show { device, topic, source, json } = command;
    let (records, replica) = source.read().await?;
    let number = replica
        .device_by_id(&device)
        .with_context(|| format!("no device {device} is registered: see `sealcast device list`"))?
        .number;
    let rows = rows(&records, Replica::new(*replica.genesis()), number, topic.as_ref())?;
    let counts = counts(&replica, number, topic.as_ref());
    if json {
        return output::json(&serde_json::json!({
            "device": device.to_string(),
            "height": replica.height(),
            "head": replica.head().to_string(),
            "counts": counts,
            "readings": rows,
        }));
    }
    if rows.is_empty() {
        let of = topic.map_or_else(String::new, |topic| format!(" of {topic}"));
        output::line(&format!(
            "the ledger has no readings{of} by {device}; readings of a topic without limits wait on the agent's disk"
        ))?;
        return output::line(&format!("verified to entry {}, head {}", replica.height(), replica.head()));
    }
    let cells: Vec<[String; 6]> = rows
        .iter()
        .map(|row| {
            [
                row.entry.to_string(),
                sealcast_reading::utc(row.time_ms),
                row.topic.clone(),
                row.sequence.to_string(),
                format!("{} {}", row.value, row.unit).trim_end().to_owned(),
                row.verdict(),
            ]
        })
        .collect();
    let header = [
        "ENTRY".into(),
        "TAKEN".into(),
        Column::cut("TOPIC"),
        "SEQUENCE".into(),
        "VALUE".into(),
        Column::cut("VERDICT"),
    ];
    output::table(header, &cells)?;
    output::line("")?;
    for Count { topic, accepted, refused, .. } in &counts {
        output::line(&format!("{topic}: {accepted} accepted, {refused} refused"))?;
    }
    output::line(&format!("verified to entry {}, head {}", replica.height(), replica.head()))
}
