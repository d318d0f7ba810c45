//! `sealcast group`: create, list, show, grant, revoke, limits, reset.

mod create;
mod limits;
mod overlap;

use std::{num::NonZeroU32, path::PathBuf};

use anyhow::{Context as _, Result};
use clap::Subcommand;
use sealcast_identity::DeviceId;
use sealcast_ledger::{Authenticity, Body, Granted, Group, GroupName, GroupReset, Reason, Replica, Revoked};
use sealcast_node::output::{self, Column};
use serde::Serialize;

use crate::{
    device::{self, Entry},
    operator::OperatorArgs,
    receipt::{AboutGroup, BatchEntries},
};

/// `sealcast group`.
#[derive(Subcommand)]
pub enum Command {
    /// Create a group for topic filters. It has no members until you grant it to devices.
    Create(create::Options),
    /// List all groups.
    List {
        /// As which operator.
        #[command(flatten)]
        operator: OperatorArgs,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show one group and its entries on the ledger.
    Show {
        /// The group's name.
        name: GroupName,
        /// As which operator.
        #[command(flatten)]
        operator: OperatorArgs,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Allow devices into a group, or those of a CSV file into theirs.
    Grant {
        /// The group's name.
        #[arg(required_unless_present = "csv", conflicts_with = "csv")]
        name: Option<GroupName>,
        /// The devices' ids.
        #[arg(required_unless_present = "csv")]
        devices: Vec<DeviceId>,
        /// Grant the groups that this CSV file of `sealcast device add` names, to those of its devices that have
        /// enrolled. Run again, it goes on with the others. A group that was revoked is not granted again.
        #[arg(long, value_name = "FILE")]
        csv: Option<PathBuf>,
        /// As which operator.
        #[command(flatten)]
        operator: OperatorArgs,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Remove devices from a group.
    Revoke {
        /// The group's name.
        name: GroupName,
        /// The devices' ids.
        #[arg(required = true)]
        devices: Vec<DeviceId>,
        /// The reason. It is written to the ledger, where everybody can read it.
        #[arg(long, default_value = "")]
        reason: Reason,
        /// As which operator.
        #[command(flatten)]
        operator: OperatorArgs,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Set a topic's limits. The ledger judges each reading by them, and takes no readings of a topic without limits.
    Limits(limits::Options),
    /// Give a group new keys after its members lost or dropped theirs. Retained and queued messages become unreadable.
    Reset {
        /// The group's name.
        name: GroupName,
        /// The reason. It is written to the ledger, where everybody can read it.
        #[arg(long, default_value = "")]
        reason: Reason,
        /// As which operator.
        #[command(flatten)]
        operator: OperatorArgs,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Serialize)]
struct Row {
    group: String,
    number: u16,
    filters: Vec<String>,
    generation: u32,
    epoch: u64,
    granted: Vec<String>,
    authenticity: &'static str,
    epoch_max_age_s: Option<NonZeroU32>,
    epoch_max_messages: Option<NonZeroU32>,
    retention: u16,
    ledger_max_age_s: Option<NonZeroU32>,
}

impl Row {
    fn new(replica: &Replica, group: &Group) -> Self {
        let mut granted: Vec<String> =
            replica.granted_devices(group.number).map(|device| device.id.to_string()).collect();
        granted.sort();
        Self {
            group: group.name.to_string(),
            number: group.number.get(),
            filters: group.filters.iter().map(ToString::to_string).collect(),
            generation: group.generation.0,
            epoch: group.epoch.0,
            granted,
            authenticity: match group.policy.authenticity {
                Authenticity::Signature => "signature",
                Authenticity::Group => "group",
            },
            epoch_max_age_s: group.policy.epoch_max_age_s,
            epoch_max_messages: group.policy.epoch_max_messages,
            retention: group.policy.retention,
            ledger_max_age_s: group.policy.ledger_max_age_s,
        }
    }
}

fn table(rows: &[Row]) -> Result<()> {
    let cells: Vec<[String; 6]> = rows
        .iter()
        .map(|row| {
            [
                row.group.clone(),
                row.number.to_string(),
                row.epoch.to_string(),
                row.filters.join(" "),
                row.granted.join(" "),
                row.authenticity.to_owned(),
            ]
        })
        .collect();
    let header = [
        "GROUP".into(),
        "NUMBER".into(),
        "EPOCH".into(),
        Column::cut("TOPICS"),
        Column::cut("GRANTED"),
        "AUTHENTICITY".into(),
    ];
    output::table_or("No groups yet: `sealcast group create NAME --filter FILTER` makes one.", header, &cells)
}

/// How the group's keys are handled, and when its members stop sealing.
fn policy_table(row: &Row) -> Result<()> {
    let or_none = |limit: Option<NonZeroU32>, unit| limit.map_or_else(|| "none".to_owned(), |it| format!("{it}{unit}"));
    let cells = [
        or_none(row.epoch_max_age_s, " s"),
        or_none(row.epoch_max_messages, ""),
        row.retention.to_string(),
        or_none(row.ledger_max_age_s, " s"),
    ];
    output::table(["EPOCH MAX AGE", "EPOCH MAX MESSAGES", "RETENTION", "LEDGER MAX AGE"], &[cells])
}

/// Runs the command.
pub async fn run(command: Command) -> Result<()> {
    match command {
        Command::Create(options) => create::run(options).await,
        Command::List { operator, json } => {
            let operator = operator.connect().await?;
            let mut rows: Vec<Row> =
                operator.replica.groups().map(|group| Row::new(&operator.replica, group)).collect();
            rows.sort_by(|one, other| one.group.cmp(&other.group));
            if json { output::json(&rows) } else { table(&rows) }
        }
        Command::Show { name, operator, json } => show(&name, operator, json).await,
        Command::Grant { name, devices, csv, operator, json } => {
            let mut operator = operator.connect().await?;
            if let Some(csv) = &csv {
                return device::grant_listed(csv, operator, json).await;
            }
            let name = name.context("which group? Give its name, or --csv FILE")?;
            let group = operator.group(&name)?.number;
            // A name that is wrong stops all of them: nobody has to find out which were done.
            let grant = |id: &DeviceId| {
                Ok((id.to_string(), Body::Granted(Granted { group, device: operator.device(id)?.number })))
            };
            let entries = devices.iter().map(grant).collect::<Result<Vec<_>>>()?;
            let grants = BatchEntries { group: &name, kind: "device", entries };
            grants.submit(&mut operator, json, |id| format!("{id} is granted {name}")).await
        }
        Command::Revoke { name, devices, reason, operator, json } => {
            let mut operator = operator.connect().await?;
            let group = operator.group(&name)?.number;
            let revoke = |id: &DeviceId| {
                let device = operator.device(id)?.number;
                Ok((id.to_string(), Body::Revoked(Revoked { group, device, reason: reason.clone() })))
            };
            let entries = devices.iter().map(revoke).collect::<Result<Vec<_>>>()?;
            let revocations = BatchEntries { group: &name, kind: "device", entries };
            let words =
                |id: &str| format!("{id} is revoked from {name}: it cannot read anything from the next epoch on");
            revocations.submit(&mut operator, json, words).await
        }
        Command::Limits(options) => limits::run(options).await,
        Command::Reset { name, reason, operator, json } => {
            let mut operator = operator.connect().await?;
            let group = operator.group(&name)?.number;
            let record = operator.submit(Body::GroupReset(GroupReset { group, reason })).await?;
            let reset = AboutGroup { group: name.to_string(), number: group.get(), receipt: (&record).into() };
            output::outcome(json, &reset, &format!("{name} was reset: its members now agree on new keys"))
        }
    }
}

async fn show(name: &GroupName, operator: OperatorArgs, json: bool) -> Result<()> {
    let operator = operator.connect().await?;
    let group = operator.group(name)?;
    let row = Row::new(&operator.replica, group);
    let limits = limits::rows(&operator.replica, group);
    let history = operator.replica.about_group(group.number);
    let history: Vec<Entry> = history.iter().map(|summary| Entry::new(&operator.replica, summary)).collect();
    if json {
        return output::json(&serde_json::json!({ "group": row, "limits": limits, "history": history }));
    }
    table(std::slice::from_ref(&row))?;
    output::line("")?;
    policy_table(&row)?;
    output::line("")?;
    if !limits.is_empty() {
        limits::table(&limits)?;
        output::line("")?;
    }
    device::entries(&history)
}
