//! `sealcast group create`.

use std::num::NonZeroU32;

use anyhow::{Result, ensure};
use clap::ValueEnum;
use sealcast_ledger::{Authenticity, Body, GroupCreated, GroupName, Policy, TopicFilter};
use sealcast_node::output;
use sealcast_topic::CONTROL_LEVEL;

use super::overlap::Overlaps;
use crate::{operator::OperatorArgs, receipt::AboutGroup};

/// Its flags.
#[derive(clap::Args)]
pub struct Options {
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
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// `--authenticity`.
#[derive(Clone, Copy, ValueEnum)]
pub enum AuthenticityArg {
    /// Each message is signed: no member can speak in another member's name.
    Signature,
    /// Any member can speak in another member's name. Faster, and messages are shorter.
    Group,
}

/// Runs the command.
pub async fn run(options: Options) -> Result<()> {
    let Options {
        name,
        filters,
        epoch_max_age,
        epoch_max_messages,
        retention,
        authenticity,
        ledger_max_age,
        overlap,
        operator,
        json,
    } = options;
    let mut operator = operator.connect().await?;
    for filter in &filters {
        ensure!(
            !operator.wire.is_control(filter.as_str()),
            "no group can have {filter}: Sealcast's own topics begin with {} at this network's broker",
            operator.wire.prefix().unwrap_or(CONTROL_LEVEL)
        );
    }
    Overlaps::new(&name, &filters, operator.replica.groups()).check(overlap)?;
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
    let record = operator.submit(Body::GroupCreated(GroupCreated { name: name.clone(), filters, policy })).await?;
    let number = operator.group(&name)?.number;
    let created = AboutGroup { group: name.to_string(), number: number.get(), receipt: (&record).into() };
    output::outcome(json, &created, &format!("group {name} was created with number {number}"))
}
