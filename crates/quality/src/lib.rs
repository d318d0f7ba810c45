//! Edge verification and less traffic: every reading is judged by the rules of its topic before it is sealed, what has not
//! changed is not sent again, and the receiving side knows what to do when no good value comes.
//!
//! - [`RuleSet`]: the rules of topic filters, from TOML ([`TopicSpec`]), with every value checked.
//! - [`Checker`]: range, step, rate, stuck, silent, spike, schema, time, sequence, sentinels. A [`Verdict`] is pass, flag
//!   or block, with reasons in words.
//! - [`Reporter`]: report on change. [`Restorer`]: the fixed cycle again at the other end. [`Archiver`]: compression
//!   for archives ([`SwingingDoor`]), topic by topic.
//! - [`FailSafe`]: what is published locally when no good value comes.
//! - [`learn()`] proposes rules from a [`Recording`], [`try_rules`] says what rules would have done to it.
//!
//! Sans-IO: time is passed in as Unix ms and should not go back; what is to be stored is handed out as bytes. The order for
//! a driver is check, store, report, publish. Blocked readings are not given to the [`Reporter`].
//!
//! What keeps a sensor from being locked out: range, schema and sentinels judge a reading by itself; step, rate and spike
//! compare with what was accepted and believe a new level after `accept_after` consistent readings; stuck ends with the
//! first other value; a clock or count that went back is believed after `accept_after` rising ones.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod archive;
mod archiver;
mod checker;
mod codec;
mod config;
mod cycle;
mod fail_safe;
mod filter;
mod learn;
mod level;
mod order;
mod recording;
mod report;
mod restore;
mod rules;
mod schema;
mod series;
mod trial;
mod verdict;

pub use archive::{Sample, SwingingDoor};
pub use archiver::{Archived, Archiver, MAX_ARCHIVED, Point};
pub use checker::{Checker, Input, MAX_EVENTS, SilenceEvent};
pub use codec::StateError;
pub use config::{
    ArchiveSpec, FailSafeSpec, FallbackSpec, RangeSpec, RateSpec, RecordSpec, ReportSpec, RestoreSpec, SchemaSpec,
    SentinelSpec, SequenceSpec, SilentSpec, SpikeSpec, StepSpec, StuckSpec, TimeSpec, TopicSpec,
};
pub use cycle::Cycle;
pub use fail_safe::{FailSafe, FailSafeOutput, Trigger};
pub use filter::{FilterError, RuleFilter};
pub use learn::{LearnError, MIN_READINGS, Proposal, Proposed, learn};
pub use recording::{
    CellFault, Column, ColumnUsed, Condition, CsvOptionError, CsvOptions, DecimalSign, Delimiter, Imported,
    MAX_READINGS, MAX_SERIES_NAMED, Order, OrderOption, Place, Recorded, Recording, RecordingError, TextEncoding,
    Thousands, Understood,
};
pub use report::{Cause, Decision, Reported, Reporter, Saved};
pub use restore::{Repeat, Restorer};
pub use rules::{
    Archive, DeadBand, FailSafeRules, Fallback, Limits, MAX_FALLBACK_BYTES, MAX_RULES, RecordRule, Report, Restore,
    RuleError, RuleProblem, RuleSet, TopicRules,
};
pub use schema::{MAX_SCHEMA_BYTES, SchemaError};
pub use series::{MAX_SERIES, Row};
pub use trial::{Counts, Trial, Tried, try_rules};
pub use verdict::{Action, Check, Finding, Marks, Reason, Span, Verdict};
