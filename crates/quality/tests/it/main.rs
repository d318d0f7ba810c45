//! The rules against a simple model, against a real machine's recording, and against crashes.
// Figures are printed for people: `-- --nocapture`.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod archive;
mod csv;
mod fail_safe;
mod interleaved;
mod learn;
mod levels;
mod machine;
mod model;
mod report;
mod rules;
mod state;

use std::sync::Arc;

use sealcast_quality::{Checker, Input, RuleSet, TopicSpec, Verdict};
use sealcast_reading::{Decimal, Reading, Value};
use serde::Deserialize;

/// The topic that most tests use.
pub const TOPIC: &str = "plant/1/temperature";

#[derive(Deserialize)]
struct File {
    quality: Vec<TopicSpec>,
}

/// Rules as an agent reads them.
pub fn file(toml: &str) -> Result<RuleSet, String> {
    let file: File = toml::from_str(toml).map_err(|error| error.to_string())?;
    RuleSet::new(file.quality).map_err(|error| {
        let mut text = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        text
    })
}

/// Rules for [`TOPIC`].
pub fn rules(keys: &str) -> Arc<RuleSet> {
    Arc::new(file(&format!("[[quality]]\nfilter = \"plant/+/temperature\"\n{keys}")).unwrap())
}

/// A number.
pub fn number(text: &str) -> Value {
    Value::Number(text.parse().unwrap())
}

/// A value in hundredths.
pub fn hundredths(value: i64) -> Value {
    Value::Number(Decimal::new(value.into(), 2))
}

/// A reading with a stamp.
pub fn stamped(value: Value, time_ms: u64) -> Reading {
    Reading { value, unit: None, time_ms: Some(time_ms), sequence: None }
}

/// Judges one reading of [`TOPIC`].
pub fn check_one(checker: &mut Checker, reading: &Reading, now_ms: u64) -> Verdict {
    checker.handle_reading(&Input::new(TOPIC, "", reading), now_ms)
}

/// Judges values that come once a second.
pub fn judge(keys: &str, values: &[&str]) -> Vec<String> {
    let mut checker = Checker::new(rules(keys), 0);
    let verdicts = values.iter().enumerate().map(|(at, value)| {
        let now_ms = 1000 * (at as u64 + 1);
        let value = Value::Number(value.parse::<Decimal>().unwrap());
        let verdict = check_one(&mut checker, &stamped(value, now_ms), now_ms);
        let marks = verdict.marks().to_string();
        if marks.is_empty() { verdict.action().to_string() } else { format!("{} {marks}", verdict.action()) }
    });
    verdicts.collect()
}
