//! Makes rules of what stands in a configuration, and says which value is wrong.

use std::fmt;

use sealcast_reading::Decimal;

use super::{
    Archive, DeadBand, FailSafeRules, Fallback, MAX_FALLBACK_BYTES, MAX_MS, Range, RecordRule, Report, Restore,
    RuleProblem, Sentinels, Sequence, Silent, Spike, Stuck, Time, TopicRules,
};
use crate::{
    config::{
        ArchiveSpec, FailSafeSpec, FallbackSpec, RangeSpec, RateSpec, RecordSpec, ReportSpec, RestoreSpec, SchemaSpec,
        SentinelSpec, SequenceSpec, SilentSpec, SpikeSpec, StepSpec, StuckSpec, TimeSpec, TopicSpec,
    },
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
        Ok(Self {
            filter,
            accept_after,
            range: spec.range.map(Range::new).transpose()?,
            step: spec.step.map(step).transpose()?,
            rate: spec.rate.map(rate).transpose()?,
            stuck: spec.stuck.map(Stuck::new).transpose()?,
            silent: spec.silent.map(Silent::new).transpose()?,
            spike: spec.spike.map(Spike::new).transpose()?,
            schema: spec.schema.map(schema).transpose()?,
            time: spec.time.map(Time::new).transpose()?,
            sequence: spec.sequence.map(Sequence::new).transpose()?,
            sentinels: spec.sentinels.map(Sentinels::new).transpose()?,
            missing: spec.missing,
            null: spec.null,
            report: spec.report.map(Report::new).transpose()?,
            restore: spec.restore.map(Restore::new).transpose()?,
            fail_safe: spec.fail_safe.map(FailSafeRules::new).transpose()?,
            archive: spec.archive.as_ref().map(Archive::new).transpose()?,
            archive_topic: archive_topic(spec.archive, &spec.filter)?,
            record: RecordRule::new(spec.record, spec.record_decimals)?,
        })
    }
}

impl Range {
    fn new(spec: RangeSpec) -> Result<Self, RuleProblem> {
        match (spec.min, spec.max) {
            (None, None) => wrong("range", "give min, max or both"),
            (Some(min), Some(max)) if min > max => {
                wrong("range", format_args!("min ({min}) is above max ({max}): swap them"))
            }
            (min, max) => Ok(Self { min, max, action: spec.action.unwrap_or(Action::Block) }),
        }
    }
}

fn step(spec: StepSpec) -> Result<(Decimal, Action), RuleProblem> {
    above_zero("step.max", spec.max.to_f64())?;
    Ok((spec.max, spec.action.unwrap_or(Action::Flag)))
}

fn rate(spec: RateSpec) -> Result<(f64, Action), RuleProblem> {
    Ok((above_zero("rate.max_per_s", spec.max_per_s)?, spec.action.unwrap_or(Action::Flag)))
}

impl Stuck {
    fn new(spec: StuckSpec) -> Result<Self, RuleProblem> {
        match (spec.readings, spec.for_ms) {
            (None, None) => return wrong("stuck", "give readings, for_ms or both"),
            (Some(0 | 1), _) => return wrong("stuck.readings", "must be at least 2"),
            _ => {}
        }
        let for_ms = spec.for_ms.map(|value| ms("stuck.for_ms", value)).transpose()?;
        Ok(Self { readings: spec.readings, for_ms, action: spec.action.unwrap_or(Action::Flag) })
    }
}

impl Silent {
    fn new(spec: SilentSpec) -> Result<Self, RuleProblem> {
        if spec.after_ms.is_none() && spec.periods.is_none() {
            return wrong("silent", "give after_ms, periods or both");
        }
        Ok(Self {
            after_ms: spec.after_ms.map(|value| ms("silent.after_ms", value)).transpose()?,
            periods: spec.periods.map(|value| periods("silent.periods", value)).transpose()?,
        })
    }
}

impl Spike {
    fn new(spec: SpikeSpec) -> Result<Self, RuleProblem> {
        let window = spec.window.unwrap_or(11);
        if !(5..=255).contains(&window) {
            return wrong("spike.window", "must be from 5 to 255 readings");
        }
        let floor = spec.floor.unwrap_or(0.0);
        if !(floor.is_finite() && floor >= 0.0) {
            return wrong("spike.floor", "must be 0 or above");
        }
        let sigmas = above_zero("spike.sigmas", spec.sigmas.unwrap_or(4.0))?;
        Ok(Self { window: window.into(), sigmas, floor, action: spec.action.unwrap_or(Action::Flag) })
    }
}

fn schema(spec: SchemaSpec) -> Result<(Schema, Action), RuleProblem> {
    let text = match (spec.json, spec.file) {
        (Some(text), None) => text,
        (None, Some(_)) => return wrong("schema.file", "a file cannot be read here: give json"),
        _ => return wrong("schema", "give either json or file"),
    };
    let compiled = Schema::new(&text).map_err(RuleProblem::Schema)?;
    Ok((compiled, spec.action.unwrap_or(Action::Block)))
}

impl Time {
    fn new(spec: TimeSpec) -> Result<Self, RuleProblem> {
        Ok(Self {
            gap_ms: spec.gap_ms.map(|value| ms("time.gap_ms", value)).transpose()?,
            gap_periods: spec.gap_periods.map(|value| periods("time.gap_periods", value)).transpose()?,
            ahead_ms: spec.ahead_ms,
            action: spec.action.unwrap_or(Action::Flag),
        })
    }
}

impl Sequence {
    fn new(spec: SequenceSpec) -> Result<Self, RuleProblem> {
        if spec.wrap.is_some_and(|wrap| wrap < 2) {
            return wrong("sequence.wrap", "must be 2 or more");
        }
        Ok(Self { wrap: spec.wrap, action: spec.action.unwrap_or(Action::Flag) })
    }
}

impl Sentinels {
    fn new(spec: SentinelSpec) -> Result<Self, RuleProblem> {
        let values = spec.values.unwrap_or_else(|| [65_535_i64, -32_768, 85].map(Decimal::from).to_vec());
        if values.len() > 64 {
            return wrong("sentinels.values", "must have at most 64 numbers");
        }
        let near = spec.near.unwrap_or(Decimal::from(5_i64));
        if near.is_negative() {
            return wrong("sentinels.near", "must be 0 or above");
        }
        Ok(Self { values, near, action: spec.action.unwrap_or(Action::Block) })
    }
}

/// The topic that the archive of `filter` has, if it was chosen.
fn archive_topic(archive: Option<ArchiveSpec>, filter: &str) -> Result<Option<String>, RuleProblem> {
    let Some(topic) = archive.and_then(|archive| archive.topic) else { return Ok(None) };
    if filter.contains(['+', '#']) {
        return wrong(
            "archive.topic",
            "the filter has wildcards, and one topic cannot hold several series: leave it out",
        );
    }
    if topic.is_empty() || topic.contains(['+', '#', '\0']) || topic == filter {
        return wrong("archive.topic", "must be another topic than the filter's, without wildcards");
    }
    Ok(Some(topic))
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
