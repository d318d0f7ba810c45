//! Rules as they stand in the agent's TOML. Unknown keys are refused; [`RuleSet::new`](crate::RuleSet::new) checks the
//! values and gives typed ones, nothing is looked at again later.
//!
//! ```toml
//! [[quality]]
//! filter = "plant/+/temperature"
//! accept_after = 5
//! range = { min = -20, max = 120 }
//! step = { max = 10, action = "block" }
//! rate = { max_per_s = 0.5 }
//! stuck = { readings = 50, for_ms = 3_600_000 }
//! silent = { periods = 5 }
//! spike = { window = 11, sigmas = 4, floor = 0.5 }
//! schema = { json = '{"type":"object","required":["t"]}' }
//! time = { gap_periods = 3, ahead_ms = 60_000 }
//! sequence = { wrap = 65536 }
//! sentinels = { values = [65535, -32768, 85.0], near = 5 }
//! missing = "flag"
//! null = "flag"
//! report = { dead_band = 0.5, heartbeat_ms = 600_000 }
//! record = "chain"
//! ```

use sealcast_reading::Decimal;
use serde::Deserialize;

use crate::verdict::Action;

/// All rules of one topic filter. Only the rules of the most specific filter that matches a topic apply to it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table of rules: filter = ..., and the rules of its topics")]
pub struct TopicSpec {
    /// MQTT topic filter.
    pub filter: String,
    /// After how many consistent readings in a row a new level (or a clock or count that went back) is believed: 2 to
    /// 1000, default 5.
    pub accept_after: Option<u32>,
    /// Smallest and largest value.
    pub range: Option<RangeSpec>,
    /// Largest difference from the last accepted value.
    pub step: Option<StepSpec>,
    /// Largest change per second from the last accepted value.
    pub rate: Option<RateSpec>,
    /// The same value for too long.
    pub stuck: Option<StuckSpec>,
    /// No reading for too long.
    pub silent: Option<SilentSpec>,
    /// Outliers of a window (Hampel).
    pub spike: Option<SpikeSpec>,
    /// JSON Schema of the whole message.
    pub schema: Option<SchemaSpec>,
    /// The device's stamps.
    pub time: Option<TimeSpec>,
    /// The device's count of readings.
    pub sequence: Option<SequenceSpec>,
    /// Numbers with which the device says "no value".
    pub sentinels: Option<SentinelSpec>,
    /// For messages without the value, the time or the count that their format names. Default `pass`.
    pub missing: Option<Action>,
    /// For messages with null as their value. Default that of `sentinels` if there is one, else `pass`.
    pub null: Option<Action>,
    /// Report on change, on the sending side.
    pub report: Option<ReportSpec>,
    /// Restoring of a fixed cycle, on the receiving side.
    pub restore: Option<RestoreSpec>,
    /// What is published locally when no good value comes, on the receiving side.
    pub fail_safe: Option<FailSafeSpec>,
    /// Compression for an archive.
    pub archive: Option<ArchiveSpec>,
    /// Where readings that were not blocked are recorded, on the sending side.
    pub record: Option<RecordSpec>,
    /// Digits after the point to which recorded numbers are rounded: at most 38. Default those that the payload has.
    pub record_decimals: Option<u8>,
}

/// `record`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordSpec {
    /// On the ledger, where the contract verifies them.
    Chain,
}

/// `range`: at least one of the two ends.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table such as { min = -20, max = 60 }")]
pub struct RangeSpec {
    /// Smallest allowed value.
    pub min: Option<Decimal>,
    /// Largest allowed value.
    pub max: Option<Decimal>,
    /// Default `block`.
    pub action: Option<Action>,
}

/// `step`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table such as { max = 3 }")]
pub struct StepSpec {
    /// Largest allowed difference from the last accepted value, above 0.
    pub max: Decimal,
    /// Default `flag`.
    pub action: Option<Action>,
}

/// `rate`. Time is the device's if its stamps rise, else that of arrival; readings of the same ms are not judged.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table such as { max_per_s = 0.5 }")]
pub struct RateSpec {
    /// Largest allowed change per second, above 0.
    pub max_per_s: f64,
    /// Default `flag`.
    pub action: Option<Action>,
}

/// `stuck`: at least one of the two.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table such as { readings = 50 }")]
pub struct StuckSpec {
    /// From this many equal readings in a row on: at least 2.
    pub readings: Option<u32>,
    /// From the time of arrival on when the value has been the same for so long.
    pub for_ms: Option<u64>,
    /// Default `flag`.
    pub action: Option<Action>,
}

/// `silent`: at least one of the two; the earlier counts.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table such as { periods = 5 }")]
pub struct SilentSpec {
    /// No reading for so long. A message that can't be read is none, nor is one without the value.
    pub after_ms: Option<u64>,
    /// No reading for so many learnt periods: at least 1.5.
    pub periods: Option<f64>,
}

/// `spike`: farther from the median of the last readings than `sigmas` times 1.4826 times their median absolute deviation.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table such as { window = 11, sigmas = 4, floor = 0.5 }")]
pub struct SpikeSpec {
    /// How many accepted readings are looked back at: 5 to 255, default 11.
    pub window: Option<u16>,
    /// Default 4.
    pub sigmas: Option<f64>,
    /// A distance that is never a spike: the device's noise. Without it, a window of equal values judges nothing.
    pub floor: Option<f64>,
    /// Default `flag`.
    pub action: Option<Action>,
}

/// `schema`: one of `json` and `file`. References are resolved within the schema alone, never from files or the network.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table such as { file = \"reading.schema.json\" }")]
pub struct SchemaSpec {
    /// The JSON Schema as text (draft by its `$schema`, else 2020-12), at most [`MAX_SCHEMA_BYTES`](crate::MAX_SCHEMA_BYTES).
    pub json: Option<String>,
    /// The file that holds it. This crate opens none: the driver puts its content into `json` and clears this.
    pub file: Option<String>,
    /// Default `block`.
    pub action: Option<Action>,
}

/// `time`. Stamps that go back or repeat are always looked for.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table such as { gap_periods = 3 }")]
pub struct TimeSpec {
    /// Longest time between stamps; a longer one flags, never blocks.
    pub gap_ms: Option<u64>,
    /// The same in learnt periods: at least 1.5.
    pub gap_periods: Option<f64>,
    /// How far a stamp may be ahead of the agent's clock.
    pub ahead_ms: Option<u64>,
    /// For stamps that go back, repeat or are ahead. Default `flag`.
    pub action: Option<Action>,
}

/// `sequence`. Gaps flag, never block.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table such as { wrap = 65536 }, or {}")]
pub struct SequenceSpec {
    /// The count begins again at 0 after `wrap - 1`: 2 or more.
    pub wrap: Option<u64>,
    /// For counts that go back or repeat. Default `flag`.
    pub action: Option<Action>,
}

/// `sentinels`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table such as { values = [65535], near = 5 }")]
pub struct SentinelSpec {
    /// Default 65535, -32768 and 85. At most 64.
    pub values: Option<Vec<Decimal>>,
    /// A sentinel value that is at most so far from the last accepted one is a plausible reading: a boiler passes through
    /// 85. Default 5; 0 makes each one a sentinel.
    pub near: Option<Decimal>,
    /// Also for NaN and infinities, and for null unless `null` says otherwise. Default `block`.
    pub action: Option<Action>,
}

/// `report`: report on change. Without a dead band each change is sent.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table such as { dead_band = 0.5, heartbeat_ms = 600_000 }")]
pub struct ReportSpec {
    /// A reading at most this far from the last one sent is not sent.
    pub dead_band: Option<Decimal>,
    /// The same in percent of the last one sent; not both.
    pub dead_band_percent: Option<Decimal>,
    /// Something is sent at least this often while readings come.
    pub heartbeat_ms: Option<u64>,
    /// At most one is sent in so long. What changes meanwhile is sent when it ends: the band holds except for so long.
    pub min_interval_ms: Option<u64>,
}

/// `restore`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table such as { cycle_ms = 10_000, heartbeat_ms = 600_000 }")]
pub struct RestoreSpec {
    /// The cycle that the application expects.
    pub cycle_ms: u64,
    /// How long the last value may be repeated: the sender's heartbeat.
    pub heartbeat_ms: u64,
    /// How long after its time a value is repeated, so that the real reading can come first. Default a tenth of the cycle.
    pub grace_ms: Option<u64>,
}

/// `fail_safe`: at least one of the two.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table such as { on_silence = { after_ms = 60_000, publish = \"off\" } }")]
pub struct FailSafeSpec {
    /// When no good value has come for `after_ms`.
    pub on_silence: Option<FallbackSpec>,
    /// When values have been blocked for `after_ms` and no good one came since.
    pub on_blocked: Option<FallbackSpec>,
}

/// What is published, and when.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table such as { after_ms = 60_000, publish = \"off\" }")]
pub struct FallbackSpec {
    /// How long to wait. For `on_silence` at least 1.
    pub after_ms: u64,
    /// The payload, at most 64 KiB.
    pub publish: String,
    /// Where; default the topic that has no good value.
    pub topic: Option<String>,
}

/// `archive`: swinging-door compression.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table such as { deviation = 0.3, max_delay_ms = 300_000 }")]
pub struct ArchiveSpec {
    /// Readings between two archived ones are at most this far from the line between them: above 0.
    pub deviation: f64,
    /// Each reading is represented in the archive at most so long after it came.
    pub max_delay_ms: u64,
    /// Where the archive is published. Not beside a filter with wildcards; what the default is, the driver says.
    pub topic: Option<String>,
}
