//! Rules with every value checked, found by topic.

mod checking;

use sealcast_reading::Decimal;

use crate::{
    config::TopicSpec,
    filter::{FilterError, RuleFilter},
    schema::{Schema, SchemaError},
    verdict::{Action, Check},
};

/// Most filters in one [`RuleSet`].
pub const MAX_RULES: usize = 1024;
/// Largest fallback payload, in bytes.
pub const MAX_FALLBACK_BYTES: usize = 64 * 1024;
/// Longest time in a rule: ten years.
pub(crate) const MAX_MS: u64 = 315_360_000_000;

/// The rules of all topics.
#[derive(Debug, Clone, Default)]
pub struct RuleSet {
    rules: Vec<TopicRules>,
}

/// The rules of one topic filter.
#[derive(Debug, Clone)]
pub struct TopicRules {
    pub(crate) filter: RuleFilter,
    pub(crate) accept_after: u32,
    pub(crate) range: Option<Range>,
    pub(crate) step: Option<(Decimal, Action)>,
    pub(crate) rate: Option<(f64, Action)>,
    pub(crate) stuck: Option<Stuck>,
    pub(crate) silent: Option<Silent>,
    pub(crate) spike: Option<Spike>,
    pub(crate) schema: Option<(Schema, Action)>,
    pub(crate) time: Option<Time>,
    pub(crate) sequence: Option<Sequence>,
    pub(crate) sentinels: Option<Sentinels>,
    pub(crate) missing: Option<Action>,
    pub(crate) null: Option<Action>,
    pub(crate) report: Option<Report>,
    pub(crate) restore: Option<Restore>,
    pub(crate) fail_safe: Option<FailSafeRules>,
    pub(crate) archive: Option<Archive>,
    pub(crate) archive_topic: Option<String>,
    pub(crate) record: Option<RecordRule>,
}

#[derive(Debug, Clone)]
pub(crate) struct Range {
    pub min: Option<Decimal>,
    pub max: Option<Decimal>,
    pub action: Action,
}

#[derive(Debug, Clone)]
pub(crate) struct Stuck {
    pub readings: Option<u32>,
    pub for_ms: Option<u64>,
    pub action: Action,
}

#[derive(Debug, Clone)]
pub(crate) struct Silent {
    pub after_ms: Option<u64>,
    pub periods: Option<f64>,
}

#[derive(Debug, Clone)]
pub(crate) struct Spike {
    pub window: usize,
    pub sigmas: f64,
    pub floor: f64,
    pub action: Action,
}

#[derive(Debug, Clone)]
pub(crate) struct Time {
    pub gap_ms: Option<u64>,
    pub gap_periods: Option<f64>,
    pub ahead_ms: Option<u64>,
    pub action: Action,
}

#[derive(Debug, Clone)]
pub(crate) struct Sequence {
    pub wrap: Option<u64>,
    pub action: Action,
}

#[derive(Debug, Clone)]
pub(crate) struct Sentinels {
    pub values: Vec<Decimal>,
    pub near: Decimal,
    pub action: Action,
}

/// What a chart can show of a topic's rules, in the unit of its readings.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Limits {
    /// The least value of `range`.
    pub min: Option<Decimal>,
    /// Its greatest value.
    pub max: Option<Decimal>,
    /// The greatest distance to the reading before.
    pub step: Option<Decimal>,
}

/// Report on change, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// When a change counts.
    pub band: DeadBand,
    /// Something is sent at least this often while readings come.
    pub heartbeat_ms: Option<u64>,
    /// At most one is sent in so long; 0 for no limit.
    pub min_interval_ms: u64,
}

/// How far a reading may be from the last one sent without being sent itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum DeadBand {
    /// In the reading's unit; 0 sends each change.
    Absolute(Decimal),
    /// In percent of the last one sent.
    Percent(Decimal),
}

/// Restoring of a fixed cycle, checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restore {
    /// The cycle.
    pub cycle_ms: u64,
    /// How long the last value may be repeated.
    pub heartbeat_ms: u64,
    /// How long after its time a value is repeated.
    pub grace_ms: u64,
}

/// Fail-safe values, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailSafeRules {
    /// When no good value has come for a time.
    pub on_silence: Option<Fallback>,
    /// When values have been blocked for a time.
    pub on_blocked: Option<Fallback>,
}

/// What is published, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fallback {
    /// How long to wait.
    pub after_ms: u64,
    /// The payload.
    pub publish: String,
    /// Where, if not on the topic itself.
    pub topic: Option<String>,
}

/// Swinging-door compression, checked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Archive {
    /// Largest distance of a reading from the archive's line.
    pub deviation: f64,
    /// Each reading is represented at most so long after it came.
    pub max_delay_ms: u64,
}

/// Recording on the ledger, checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordRule {
    /// Digits after the point to which numbers are rounded; `None` keeps those that the payload has.
    pub decimals: Option<u8>,
}

/// A rule that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("[[quality]] table number {position} (filter = {filter:?}) cannot be used")]
pub struct RuleError {
    /// Which one in the file, from 1.
    pub position: usize,
    /// Its filter.
    pub filter: String,
    /// What is wrong with it.
    #[source]
    pub problem: RuleProblem,
}

/// What is wrong with a rule.
#[derive(Debug, thiserror::Error)]
pub enum RuleProblem {
    /// The filter.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// Another rule has this filter.
    #[error("another [[quality]] table has the same filter: put all its rules into one table")]
    SameFilter,
    /// Too many rules.
    #[error("there are more than {MAX_RULES} rules")]
    TooMany,
    /// A key's value.
    #[error("{key}: {problem}")]
    Key {
        /// The key, like `range.min`.
        key: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// The schema.
    #[error("schema cannot be used")]
    Schema(#[source] SchemaError),
}

impl RuleSet {
    /// Checks all values. An empty list is a set in which no topic has rules.
    ///
    /// # Errors
    /// [`RuleError`] says which rule, which key, and what would be right.
    pub fn new(specs: impl IntoIterator<Item = TopicSpec>) -> Result<Self, RuleError> {
        let mut rules: Vec<TopicRules> = Vec::new();
        for (at, spec) in specs.into_iter().enumerate() {
            let filter = spec.filter.clone();
            let fail = |problem| RuleError { position: at + 1, filter: filter.clone(), problem };
            if at >= MAX_RULES {
                return Err(fail(RuleProblem::TooMany));
            }
            let rule = TopicRules::new(spec).map_err(fail)?;
            if rules.iter().any(|other| other.filter == rule.filter) {
                return Err(fail(RuleProblem::SameFilter));
            }
            rules.push(rule);
        }
        Ok(Self { rules })
    }

    /// The rules of the most specific filter that matches; of equally specific ones the first.
    pub fn find(&self, topic: &str) -> Option<&TopicRules> {
        self.rules
            .iter()
            .filter(|rule| rule.filter.matches(topic))
            .reduce(|best, rule| if rule.filter.compare_specificity(&best.filter).is_lt() { rule } else { best })
    }

    /// All rules, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &TopicRules> {
        self.rules.iter()
    }

    pub(crate) fn without_schemas(&self) -> Self {
        Self { rules: self.rules.iter().map(|rule| TopicRules { schema: None, ..rule.clone() }).collect() }
    }

    pub(crate) fn index(&self, topic: &str) -> Option<usize> {
        let found = self.find(topic)?;
        self.rules.iter().position(|rule| std::ptr::eq(rule, found))
    }

    pub(crate) fn at(&self, index: usize) -> Option<&TopicRules> {
        self.rules.get(index)
    }
}

impl TopicRules {
    /// The filter.
    pub fn filter(&self) -> &RuleFilter {
        &self.filter
    }

    /// What a chart can show of the rules.
    pub fn limits(&self) -> Limits {
        let (min, max) = self.range.as_ref().map_or((None, None), |range| (range.min, range.max));
        Limits { min, max, step: self.step.map(|(step, _)| step) }
    }

    /// Whether readings are judged at all, or only reported on change, restored and so on.
    pub fn has_checks(&self) -> bool {
        self.range.is_some()
            || self.step.is_some()
            || self.rate.is_some()
            || self.stuck.is_some()
            || self.silent.is_some()
            || self.spike.is_some()
            || self.schema.is_some()
            || self.time.is_some()
            || self.sequence.is_some()
            || self.sentinels.is_some()
            || self.missing.is_some()
            || self.null.is_some()
    }

    /// What becomes of a message without the value.
    pub(crate) fn missing(&self) -> Action {
        self.missing.unwrap_or(Action::Pass)
    }

    /// What becomes of a message with null as its value, and by which check: `sentinels` are the signs for "no value", and
    /// null is one.
    pub(crate) fn null(&self) -> (Check, Action) {
        match (self.null, &self.sentinels) {
            (Some(action), _) => (Check::Null, action),
            (None, Some(sentinels)) => (Check::Sentinel, sentinels.action),
            (None, None) => (Check::Null, Action::Pass),
        }
    }

    /// Whether readings are judged as numbers, so that one that is none is found.
    pub(crate) fn wants_numbers(&self) -> bool {
        self.range.is_some()
            || self.step.is_some()
            || self.rate.is_some()
            || self.spike.is_some()
            || self.sentinels.is_some()
    }

    /// Whether there is a schema, so that [`Input::document`](crate::Input::document) is needed.
    pub fn wants_document(&self) -> bool {
        self.schema.is_some()
    }

    /// Report on change.
    pub fn report(&self) -> Option<&Report> {
        self.report.as_ref()
    }

    /// Restoring of a fixed cycle.
    pub fn restore(&self) -> Option<&Restore> {
        self.restore.as_ref()
    }

    /// Fail-safe values.
    pub fn fail_safe(&self) -> Option<&FailSafeRules> {
        self.fail_safe.as_ref()
    }

    /// Compression for an archive.
    pub fn archive(&self) -> Option<&Archive> {
        self.archive.as_ref()
    }

    /// Where the archive goes, if the rule names a topic.
    pub fn archive_topic(&self) -> Option<&str> {
        self.archive_topic.as_deref()
    }

    /// Recording on the ledger.
    pub fn record(&self) -> Option<&RecordRule> {
        self.record.as_ref()
    }
}
