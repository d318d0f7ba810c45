//! How old a message may be, and the operator's word on the ledger.

use serde::Deserialize;

use crate::ByFilter;

/// What becomes of a retained message that is too old.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stale {
    /// It is not handed on.
    #[default]
    Refuse,
    /// It is handed on as a flagged value.
    Flag,
}

/// How old a message may be, by the way it came. `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxAge {
    /// As it was published.
    pub live_ms: Option<u64>,
    /// Kept by the broker as the topic's last value.
    pub retained_ms: Option<u64>,
    /// Kept by the broker while the client was away.
    pub offline_ms: Option<u64>,
    /// What becomes of a retained message that is too old.
    pub stale: Stale,
}

/// The freshness rules of an agent.
#[derive(Debug, Clone)]
pub struct Freshness {
    /// How far the clocks of sender and receiver may be apart.
    pub clock_tolerance_ms: u64,
    /// For topics that no table matches.
    pub default: MaxAge,
    /// How old the operator's word on the ledger may be before a person is told; `None`: nobody is.
    pub ledger_ms: Option<u64>,
    /// For single topics.
    pub topics: ByFilter<MaxAge>,
}

impl Freshness {
    /// The limits for `topic`: those of the most specific table that matches, else the default.
    pub fn of(&self, topic: &str) -> MaxAge {
        self.topics.find(topic).copied().unwrap_or(self.default)
    }

    /// Whether a retained message that was opened is older than its topic's may be.
    pub fn is_stale(&self, topic: &str, retained: bool, age_ms: u64) -> bool {
        let limit = self.of(topic).retained_ms.filter(|_| retained);
        limit.is_some_and(|limit_ms| age_ms > limit_ms.saturating_add(self.clock_tolerance_ms))
    }
}
