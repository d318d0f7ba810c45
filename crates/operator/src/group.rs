//! `sealcast group`: create, list, show, grant, revoke, limits, reset.

mod limits;
mod overlap;

use std::num::NonZeroU32;

use anyhow::{Result, ensure};
use clap::{Subcommand, ValueEnum};
use sealcast_identity::DeviceId;
use sealcast_ledger::{
    Authenticity, Body, Granted, Group, GroupCreated, GroupName, GroupReset, Policy, Reason, Replica, Revoked,
    TopicFilter,
};
use sealcast_node::output;
use sealcast_topic::CONTROL_LEVEL;
use serde::Serialize;

use crate::{
    device::{self, Entry},
    operator::OperatorArgs,
};

/// `sealcast group`.
#[derive(Subcommand)]
pub enum Command {
    /// Create a group for topic filters. It has no members until you grant it to devices.
    Create {
        /// The group's name.
        name: GroupName,
        /// Topic filter whose messages are sealed for this group. Can be repeated.
        #[arg(long = "filter", required = true, value_name = "FILTER")]
        filters: Vec<TopicFilter>,
        /// Longest life of an epoch, in seconds: then the group changes its key. 0 for no limit.
        #[arg(long, default_value_t = 86_400, value_name = "SECONDS")]
        epoch_max_age: u32,
        /// Most messages of one member in an epoch: then the group changes its key, but not before the epoch has lasted 30
        /// seconds. 0 for no limit.
        #[arg(long, default_value_t = 1_000_000, value_name = "COUNT")]
        epoch_max_messages: u32,
        /// How many old epochs members can still read: for retained messages, and for members that were offline. At most 511,
        /// as messages can tell no more apart.
        #[arg(long, default_value_t = 16, value_name = "EPOCHS", value_parser = clap::value_parser!(u16).range(..=511))]
        retention: u16,
        /// How a receiver knows who sent a message.
        #[arg(long, value_enum, default_value_t = AuthenticityArg::Signature)]
        authenticity: AuthenticityArg,
        /// Members seal nothing while the operator's newest word on the ledger is older than so many seconds: `sealcast ledger
        /// attest` has to run all the time, and to say it more often. 0: they seal without it.
        #[arg(long, default_value_t = 0, value_name = "SECONDS")]
        ledger_max_age: u32,
        /// Create it although one of its filters takes topics from a group that exists.
        #[arg(long)]
        overlap: bool,
        /// As which operator.
        #[command(flatten)]
        operator: OperatorArgs,
    },
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
    /// Allow devices into a group.
    Grant {
        /// The group's name.
        name: GroupName,
        /// The devices' ids.
        #[arg(required = true)]
        devices: Vec<DeviceId>,
        /// As which operator.
        #[command(flatten)]
        operator: OperatorArgs,
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
    },
}

/// `--authenticity`.
#[derive(Clone, Copy, ValueEnum)]
pub enum AuthenticityArg {
    /// Each message is signed: no member can speak in another member's name.
    Signature,
    /// Any member can speak in another member's name. Faster, and messages are shorter.
    Group,
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
        Self {
            group: group.name.to_string(),
            number: group.number.get(),
            filters: group.filters.iter().map(ToString::to_string).collect(),
            generation: group.generation.0,
            epoch: group.epoch.0,
            granted: replica.granted_devices(group.number).map(|device| device.id.to_string()).collect(),
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
    output::table(["GROUP", "NUMBER", "EPOCH", "TOPICS", "GRANTED", "AUTHENTICITY"], &cells)
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
        Command::Create {
            name,
            filters,
            epoch_max_age,
            epoch_max_messages,
            retention,
            authenticity,
            ledger_max_age,
            overlap,
            operator,
        } => {
            let mut operator = operator.connect().await?;
            for filter in &filters {
                ensure!(
                    !operator.wire.is_control(filter.as_str()),
                    "no group can have {filter}: Sealcast's own topics begin with {} at this network's broker",
                    operator.wire.prefix().unwrap_or(CONTROL_LEVEL)
                );
            }
            overlap::Overlaps::new(&name, &filters, operator.replica.groups()).check(overlap)?;
            let policy = Policy {
                epoch_max_age_s: NonZeroU32::new(epoch_max_age),
                epoch_max_messages: NonZeroU32::new(epoch_max_messages),
                retention,
                authenticity: match authenticity {
                    AuthenticityArg::Signature => Authenticity::Signature,
                    AuthenticityArg::Group => Authenticity::Group,
                },
                ledger_max_age_s: NonZeroU32::new(ledger_max_age),
            };
            operator.submit(Body::GroupCreated(GroupCreated { name: name.clone(), filters, policy })).await?;
            let group = operator.group(&name)?;
            output::line(&format!("group {name} was created with number {}", group.number))
        }
        Command::List { operator, json } => {
            let operator = operator.connect().await?;
            let rows: Vec<Row> = operator.replica.groups().map(|group| Row::new(&operator.replica, group)).collect();
            if json { output::json(&rows) } else { table(&rows) }
        }
        Command::Show { name, operator, json } => {
            let operator = operator.connect().await?;
            let group = operator.group(&name)?;
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
        Command::Grant { name, devices, operator } => {
            let mut operator = operator.connect().await?;
            let group = operator.group(&name)?.number;
            // A name that is wrong stops all of them: nobody has to find out which were done.
            let grant = |id| Ok(Body::Granted(Granted { group, device: operator.device(id)?.number }));
            let bodies = devices.iter().map(grant).collect::<Result<Vec<_>>>()?;
            let said = |place: usize| match devices.get(place) {
                Some(id) => output::line(&format!("{id} is granted {name}")),
                None => Ok(()),
            };
            operator.submit_all(&bodies, said).await
        }
        Command::Revoke { name, devices, reason, operator } => {
            let mut operator = operator.connect().await?;
            let group = operator.group(&name)?.number;
            let revoke =
                |id| Ok(Body::Revoked(Revoked { group, device: operator.device(id)?.number, reason: reason.clone() }));
            let bodies = devices.iter().map(revoke).collect::<Result<Vec<_>>>()?;
            let said = |place: usize| match devices.get(place) {
                Some(id) => output::line(&format!(
                    "{id} is revoked from {name}: it cannot read anything from the next epoch on"
                )),
                None => Ok(()),
            };
            operator.submit_all(&bodies, said).await
        }
        Command::Limits(options) => limits::run(options).await,
        Command::Reset { name, reason, operator } => {
            let mut operator = operator.connect().await?;
            let group = operator.group(&name)?.number;
            operator.submit(Body::GroupReset(GroupReset { group, reason })).await?;
            output::line(&format!("{name} was reset: its members now agree on new keys"))
        }
    }
}
