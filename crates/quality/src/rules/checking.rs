//! Makes rules of what stands in a configuration, and says which value is wrong.

use std::fmt;

use sealcast_reading::Decimal;

use super::{
    Archive, DeadBand, FailSafeRules, Fallback, MAX_FALLBACK_BYTES, MAX_MS, Range, RecordRule, Report, Restore,
    RuleProblem, Sentinels, Sequence, Silent, Spike, Stuck, Time, TopicRules,
};
use crate::{
    config::{ArchiveSpec, FailSafeSpec, FallbackSpec, RecordSpec, ReportSpec, RestoreSpec, TopicSpec},
    schema::Schema,
    verdict::Action,
};

/// Most digits after the point of a recorded number, which is what the ledger takes.
const MAX_RECORD_DECIMALS: u8 = 38;

fn wrong<T>(key: &'static str, problem: impl fmt::Display) -> Result<T, RuleProblem> {
    Err(RuleProblem::Key { key, problem: problem.to_string() })
}

fn ms(key: &'static str, value: u64) -> Result<u64, RuleProblem> {
    if (1..=MAX_MS).contains(&value) { Ok(value) } else { wrong(key, "must be from 1 ms to ten years") }
}

fn above_zero(key: &'static str, value: f64) -> Result<f64, RuleProblem> {
    if value.is_finite() && value > 0.0 { Ok(value) } else { wrong(key, format_args!("must be above 0, not {value}")) }
}

fn periods(key: &'static str, value: f64) -> Result<f64, RuleProblem> {
    if (1.5..=10_000.0).contains(&value) { Ok(value) } else { wrong(key, "must be from 1.5 to 10000 periods") }
}

impl TopicRules {
    pub(super) fn new(spec: TopicSpec) -> Result<Self, RuleProblem> {
        let filter = spec.filter.parse()?;
        let accept_after = spec.accept_after.unwrap_or(5);
        if !(2..=1000).contains(&accept_after) {
            return wrong("accept_after", "must be from 2 to 1000 readings");
        }
        let range = spec
            .range
            .map(|range| {
                match (range.min, range.max) {
                    (None, None) => return wrong("range", "give min, max or both"),
                    (Some(min), Some(max)) if min > max => {
                        return wrong("range", format_args!("min ({min}) is above max ({max}): swap them"));
                    }
                    _ => {}
                }
                Ok(Range { min: range.min, max: range.max, action: range.action.unwrap_or(Action::Block) })
            })
            .transpose()?;
        let step = spec
            .step
            .map(|step| {
                above_zero("step.max", step.max.to_f64())?;
                Ok::<_, RuleProblem>((step.max, step.action.unwrap_or(Action::Flag)))
            })
            .transpose()?;
        let rate = spec
            .rate
            .map(|rate| {
                let max_per_s = above_zero("rate.max_per_s", rate.max_per_s)?;
                Ok::<_, RuleProblem>((max_per_s, rate.action.unwrap_or(Action::Flag)))
            })
            .transpose()?;
        let stuck = spec
            .stuck
            .map(|stuck| {
                match (stuck.readings, stuck.for_ms) {
                    (None, None) => return wrong("stuck", "give readings, for_ms or both"),
                    (Some(0 | 1), _) => return wrong("stuck.readings", "must be at least 2"),
                    _ => {}
                }
                let for_ms = stuck.for_ms.map(|value| ms("stuck.for_ms", value)).transpose()?;
                Ok(Stuck { readings: stuck.readings, for_ms, action: stuck.action.unwrap_or(Action::Flag) })
            })
            .transpose()?;
        let silent = spec
            .silent
            .map(|silent| {
                if silent.after_ms.is_none() && silent.periods.is_none() {
                    return wrong("silent", "give after_ms, periods or both");
                }
                Ok(Silent {
                    after_ms: silent.after_ms.map(|value| ms("silent.after_ms", value)).transpose()?,
                    periods: silent.periods.map(|value| periods("silent.periods", value)).transpose()?,
                })
            })
            .transpose()?;
        let spike = spec
            .spike
            .map(|spike| {
                let window = spike.window.unwrap_or(11);
                if !(5..=255).contains(&window) {
                    return wrong("spike.window", "must be from 5 to 255 readings");
                }
                let floor = spike.floor.unwrap_or(0.0);
                if !(floor.is_finite() && floor >= 0.0) {
                    return wrong("spike.floor", "must be 0 or above");
                }
                let sigmas = above_zero("spike.sigmas", spike.sigmas.unwrap_or(4.0))?;
                Ok(Spike { window: window.into(), sigmas, floor, action: spike.action.unwrap_or(Action::Flag) })
            })
            .transpose()?;
        let schema = spec
            .schema
            .map(|schema| {
                let text = match (schema.json, schema.file) {
                    (Some(text), None) => text,
                    (None, Some(_)) => return wrong("schema.file", "a file cannot be read here: give json"),
                    _ => return wrong("schema", "give either json or file"),
                };
                let compiled = Schema::new(&text).map_err(RuleProblem::Schema)?;
                Ok::<_, RuleProblem>((compiled, schema.action.unwrap_or(Action::Block)))
            })
            .transpose()?;
        let time = spec
            .time
            .map(|time| {
                Ok::<_, RuleProblem>(Time {
                    gap_ms: time.gap_ms.map(|value| ms("time.gap_ms", value)).transpose()?,
                    gap_periods: time.gap_periods.map(|value| periods("time.gap_periods", value)).transpose()?,
                    ahead_ms: time.ahead_ms,
                    action: time.action.unwrap_or(Action::Flag),
                })
            })
            .transpose()?;
        let sequence = spec
            .sequence
            .map(|sequence| {
                if sequence.wrap.is_some_and(|wrap| wrap < 2) {
                    return wrong("sequence.wrap", "must be 2 or more");
                }
                Ok(Sequence { wrap: sequence.wrap, action: sequence.action.unwrap_or(Action::Flag) })
            })
            .transpose()?;
        let sentinels = spec
            .sentinels
            .map(|sentinels| {
                let values = sentinels.values.unwrap_or_else(|| [65_535_i64, -32_768, 85].map(Decimal::from).to_vec());
                if values.len() > 64 {
                    return wrong("sentinels.values", "must have at most 64 numbers");
                }
                let near = sentinels.near.unwrap_or(Decimal::from(5_i64));
                if near.is_negative() {
                    return wrong("sentinels.near", "must be 0 or above");
                }
                Ok(Sentinels { values, near, action: sentinels.action.unwrap_or(Action::Block) })
            })
            .transpose()?;
        let archive_topic = spec.archive.as_ref().and_then(|archive| archive.topic.clone());
        if let Some(topic) = &archive_topic {
            if spec.filter.contains(['+', '#']) {
                return wrong(
                    "archive.topic",
                    "the filter has wildcards, and one topic cannot hold several series: leave it out",
                );
            }
            if topic.is_empty() || topic.contains(['+', '#', '\0']) || *topic == spec.filter {
                return wrong("archive.topic", "must be another topic than the filter's, without wildcards");
            }
        }
        Ok(Self {
            filter,
            accept_after,
            range,
            step,
            rate,
            stuck,
            silent,
            spike,
            schema,
            time,
            sequence,
            sentinels,
            missing: spec.missing,
            null: spec.null,
            report: spec.report.map(Report::new).transpose()?,
            restore: spec.restore.map(Restore::new).transpose()?,
            fail_safe: spec.fail_safe.map(FailSafeRules::new).transpose()?,
            archive: spec.archive.as_ref().map(Archive::new).transpose()?,
            archive_topic,
            record: RecordRule::new(spec.record, spec.record_decimals)?,
        })
    }
}

impl RecordRule {
    fn new(to: Option<RecordSpec>, decimals: Option<u8>) -> Result<Option<Self>, RuleProblem> {
        match (to, decimals) {
            (None, Some(_)) => wrong("record_decimals", "can only stand beside record = \"chain\""),
            (Some(RecordSpec::Chain), Some(decimals)) if decimals > MAX_RECORD_DECIMALS => {
                wrong("record_decimals", format_args!("must be at most {MAX_RECORD_DECIMALS}"))
            }
            (to, decimals) => Ok(to.map(|RecordSpec::Chain| Self { decimals })),
        }
    }
}

impl Report {
    fn new(spec: ReportSpec) -> Result<Self, RuleProblem> {
        let band = match (spec.dead_band, spec.dead_band_percent) {
            (Some(_), Some(_)) => return wrong("report", "give dead_band or dead_band_percent, not both"),
            (Some(band), None) if band.is_negative() => return wrong("report.dead_band", "must be 0 or above"),
            (Some(band), None) => DeadBand::Absolute(band),
            (None, Some(percent)) if percent.is_negative() || percent > Decimal::from(100_i64) => {
                return wrong("report.dead_band_percent", "must be from 0 to 100");
            }
            (None, Some(percent)) => DeadBand::Percent(percent),
            (None, None) => DeadBand::Absolute(Decimal::ZERO),
        };
        let heartbeat_ms = spec.heartbeat_ms.map(|value| ms("report.heartbeat_ms", value)).transpose()?;
        let min_interval_ms = spec.min_interval_ms.unwrap_or(0);
        if min_interval_ms > heartbeat_ms.unwrap_or(MAX_MS) {
            return wrong("report.min_interval_ms", "must be at most the heartbeat");
        }
        Ok(Self { band, heartbeat_ms, min_interval_ms })
    }
}

impl Restore {
    fn new(spec: RestoreSpec) -> Result<Self, RuleProblem> {
        let cycle_ms = ms("restore.cycle_ms", spec.cycle_ms)?;
        let heartbeat_ms = ms("restore.heartbeat_ms", spec.heartbeat_ms)?;
        let grace_ms = spec.grace_ms.unwrap_or(cycle_ms / 10);
        if cycle_ms > heartbeat_ms {
            return wrong("restore.cycle_ms", "must be at most restore.heartbeat_ms");
        }
        if grace_ms >= cycle_ms {
            return wrong("restore.grace_ms", "must be less than restore.cycle_ms");
        }
        Ok(Self { cycle_ms, heartbeat_ms, grace_ms })
    }
}

impl FailSafeRules {
    fn new(spec: FailSafeSpec) -> Result<Self, RuleProblem> {
        if spec.on_silence.is_none() && spec.on_blocked.is_none() {
            return wrong("fail_safe", "give on_silence, on_blocked or both");
        }
        if let Some(silence) = &spec.on_silence {
            ms("fail_safe.on_silence.after_ms", silence.after_ms)?;
        }
        Ok(Self {
            on_silence: spec.on_silence.map(|spec| Fallback::new("fail_safe.on_silence", spec)).transpose()?,
            on_blocked: spec.on_blocked.map(|spec| Fallback::new("fail_safe.on_blocked", spec)).transpose()?,
        })
    }
}

impl Fallback {
    fn new(key: &'static str, spec: FallbackSpec) -> Result<Self, RuleProblem> {
        if spec.after_ms > MAX_MS {
            return wrong(key, "after_ms must be at most ten years");
        }
        if spec.publish.len() > MAX_FALLBACK_BYTES {
            return wrong(key, "publish must have at most 64 KiB");
        }
        if spec.topic.as_ref().is_some_and(|topic| topic.is_empty() || topic.contains(['+', '#', '\0'])) {
            return wrong(key, "topic must be a topic name without wildcards");
        }
        Ok(Self { after_ms: spec.after_ms, publish: spec.publish, topic: spec.topic })
    }
}

impl Archive {
    fn new(spec: &ArchiveSpec) -> Result<Self, RuleProblem> {
        Ok(Self {
            deviation: above_zero("archive.deviation", spec.deviation)?,
            max_delay_ms: ms("archive.max_delay_ms", spec.max_delay_ms)?,
        })
    }
}
