//! `sealcast group limits`: what readings of a topic must keep to.

use std::num::NonZeroU128;

use anyhow::{Context as _, Result, ensure};
use sealcast_identity::DeviceId;
use sealcast_ledger::{
    Body, Group, GroupName, Limits, LimitsSet, MAX_DECIMALS, ReadingTopic, Replica, Reporters, SequenceRule, UnitText,
};
use sealcast_node::output::{self, Column};
use sealcast_reading::{Decimal, Unit, UnitError};
use serde::Serialize;

use crate::{operator::OperatorArgs, receipt::BatchEntries};

/// `sealcast group limits`.
#[derive(clap::Args)]
pub struct Options {
    /// The group's name.
    name: GroupName,
    /// Topic without wildcards that one of the group's filters matches. Can be repeated, for the same limits.
    #[arg(long = "topic", required = true, value_parser = topic, value_name = "TOPIC")]
    topics: Vec<ReadingTopic>,
    /// Smallest value [default: any].
    #[arg(long, allow_hyphen_values = true, value_parser = number, value_name = "NUMBER")]
    min: Option<Decimal>,
    /// Largest value [default: any].
    #[arg(long, allow_hyphen_values = true, value_parser = number, value_name = "NUMBER")]
    max: Option<Decimal>,
    /// Largest difference from a device's last accepted value [default: any].
    #[arg(long, value_parser = number, value_name = "NUMBER")]
    max_step: Option<Decimal>,
    /// Unit, as SenML writes it: Cel, m/s, %RH.
    #[arg(long, default_value = "", value_parser = unit, value_name = "UNIT")]
    unit: UnitText,
    /// Most digits after the decimal point [default: as many as the numbers above have].
    #[arg(long, value_name = "DIGITS")]
    decimals: Option<u8>,
    /// Refuse a reading if a sequence number before it is missing. Without this, sequence numbers only have to grow.
    #[arg(long)]
    gapless: bool,
    /// Device that may record readings. Can be repeated [default: every device that is granted the group].
    #[arg(long = "reporter", value_name = "DEVICE", conflicts_with = "closed")]
    reporters: Vec<DeviceId>,
    /// Let no device record readings.
    #[arg(long)]
    closed: bool,
    /// As which operator.
    #[command(flatten)]
    operator: OperatorArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

fn number(text: &str) -> Result<Decimal, sealcast_reading::DecimalError> {
    Decimal::parse(text)
}

fn topic(text: &str) -> Result<ReadingTopic> {
    ensure!(!text.contains(['+', '#']), "limits are for one topic: it can have no wildcards");
    Ok(text.parse()?)
}

/// What stands on the ledger stays there: a unit that nothing can be converted to is refused.
fn unit(text: &str) -> Result<UnitText> {
    if !text.is_empty() {
        let unit = Unit::new(text)?;
        ensure!(unit.standing().is_some(), UnitError::Unknown { unit });
    }
    Ok(text.parse()?)
}

/// Limits as people and programs see them.
#[derive(Serialize)]
pub struct Row {
    topic: String,
    min: Option<String>,
    max: Option<String>,
    max_step: Option<String>,
    unit: String,
    decimals: u8,
    gapless: bool,
    /// `None`: every device that is granted.
    reporters: Option<Vec<String>>,
    version: u64,
    entry: u64,
}

/// The limits of a group's topics.
pub fn rows(replica: &Replica, group: &Group) -> Vec<Row> {
    let row = |(topic, set): (&ReadingTopic, &sealcast_ledger::TopicLimits)| {
        let limits = &set.limits;
        let text = |digits: i128| Decimal::new(digits, limits.decimals).to_string();
        Row {
            topic: topic.to_string(),
            min: (limits.min != i128::MIN).then(|| text(limits.min)),
            max: (limits.max != i128::MAX).then(|| text(limits.max)),
            max_step: limits.max_step.map(|step| text(i128::try_from(step.get()).unwrap_or(i128::MAX))),
            unit: limits.unit.to_string(),
            decimals: limits.decimals,
            gapless: limits.sequence == SequenceRule::Gapless,
            reporters: match &limits.reporters {
                Reporters::Granted => None,
                Reporters::Listed(devices) => {
                    let name = |number| replica.name_of(number).map_or_else(|| number.to_string(), str::to_owned);
                    Some(devices.iter().copied().map(name).collect())
                }
            },
            version: set.version,
            entry: set.set_at,
        }
    };
    group.limits.iter().map(row).collect()
}

/// Prints limits as a table.
pub fn table(rows: &[Row]) -> Result<()> {
    let or = |text: &Option<String>| text.clone().unwrap_or_else(|| "any".to_owned());
    let cells: Vec<[String; 7]> = rows
        .iter()
        .map(|row| {
            [
                row.topic.clone(),
                or(&row.min),
                or(&row.max),
                or(&row.max_step),
                row.unit.clone(),
                if row.gapless { "gapless" } else { "increasing" }.to_owned(),
                match &row.reporters {
                    None => "granted".to_owned(),
                    Some(devices) if devices.is_empty() => "nobody".to_owned(),
                    Some(devices) => devices.join(" "),
                },
            ]
        })
        .collect();
    let header = [
        "LIMITS OF".into(),
        "MIN".into(),
        "MAX".into(),
        "MAX STEP".into(),
        "UNIT".into(),
        "SEQUENCE".into(),
        Column::cut("REPORTERS"),
    ];
    output::table(header, &cells)
}

impl Options {
    /// The limits, with `reporters` looked up.
    fn limits(&self, reporters: Reporters) -> Result<Limits> {
        let given = [("--min", self.min), ("--max", self.max), ("--max-step", self.max_step)];
        let most = given.iter().filter_map(|(_, number)| number.map(Decimal::decimals)).max().unwrap_or(0);
        let decimals = self.decimals.unwrap_or(most);
        ensure!(decimals <= MAX_DECIMALS, "--decimals: at most {MAX_DECIMALS}");
        let digits = |(name, number): (&str, Option<Decimal>)| -> Result<Option<i128>> {
            let Some(number) = number else { return Ok(None) };
            let scaled = number.rescale(decimals).with_context(|| {
                format!("{name}: {number} cannot be written with {decimals} decimals: give a larger --decimals")
            })?;
            Ok(Some(scaled.mantissa()))
        };
        let [min, max, step] = given.map(digits);
        let (min, max) = (min?.unwrap_or(i128::MIN), max?.unwrap_or(i128::MAX));
        ensure!(min <= max, "--min is greater than --max: swap them");
        let max_step = match step? {
            None => None,
            Some(step) => {
                let step = u128::try_from(step).ok().and_then(NonZeroU128::new);
                Some(step.context("--max-step: must be greater than 0")?)
            }
        };
        let sequence = if self.gapless { SequenceRule::Gapless } else { SequenceRule::Increasing };
        Ok(Limits { min, max, max_step, decimals, unit: self.unit.clone(), sequence, reporters })
    }
}

/// Runs the command.
pub async fn run(options: Options) -> Result<()> {
    // What is wrong with the numbers is said before anything is asked of the hub.
    options.limits(Reporters::Granted)?;
    let mut operator = options.operator.connect().await?;
    let reporters = match &options.reporters[..] {
        [] if !options.closed => Reporters::Granted,
        devices => {
            let numbers = devices.iter().map(|id| operator.device(id).map(|device| device.number));
            Reporters::Listed(numbers.collect::<Result<_>>()?)
        }
    };
    let limits = options.limits(reporters)?;
    let group = operator.group(&options.name)?;
    for topic in &options.topics {
        let inside = group.filters.iter().any(|filter| filter.matches(topic.as_str()));
        ensure!(inside, "topic {topic} does not belong to group {}: none of its filters matches", options.name);
    }
    let group = group.number;
    let entry =
        |topic: ReadingTopic| (topic.to_string(), Body::LimitsSet(LimitsSet { group, topic, limits: limits.clone() }));
    let name = &options.name;
    let set = BatchEntries { group: name, kind: "topic", entries: options.topics.into_iter().map(entry).collect() };
    let words = |topic: &str| format!("{name}: from now on the ledger judges readings of {topic} by these limits");
    set.submit(&mut operator, options.json, words).await
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        /// The options.
        #[command(flatten)]
        options: Options,
    }

    fn limits(args: &[&str]) -> Result<Limits> {
        let line = Line::try_parse_from([&["limits", "hsu0001", "--topic", "hsu0001/temp"], args].concat())?;
        line.options.limits(Reporters::Granted)
    }

    #[test]
    fn numbers_get_the_same_decimals() -> Result<()> {
        let set = limits(&["--min", "-10", "--max", "100.5", "--max-step", "2.25", "--unit", "Cel"])?;
        assert_eq!((set.min, set.max, set.max_step.map(NonZeroU128::get), set.decimals), (-1000, 10050, Some(225), 2));
        let set = limits(&["--max", "1", "--decimals", "1"])?;
        assert_eq!((set.min, set.max, set.max_step, set.decimals), (i128::MIN, 10, None, 1));
        Ok(())
    }

    #[test]
    fn what_makes_no_limits_is_named() {
        for (args, part) in [
            (&["--min", "2", "--max", "1"][..], "--min is greater"),
            (&["--max-step", "0"], "--max-step"),
            (&["--max", "1.25", "--decimals", "1"], "1.25 cannot be written with 1 decimals"),
            (&["--decimals", "39"], "at most 38"),
            (&["--min", "cold"], "not a number"),
            (&["--closed", "--reporter", "1111"], "cannot be used with"),
            (&["--unit", "kelvins"], "unit `kelvins` is in no registry"),
            (&["--topic", "plant/+/x"], "no wildcards"),
        ] {
            let error = limits(args).map_or_else(|error| format!("{error:#}"), |_| "accepted".into());
            assert!(error.contains(part), "{args:?}: {error}");
        }
    }
}
