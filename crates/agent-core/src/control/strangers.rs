//! What is published on the ledger's topic at somebody else's broker and is not the hub's.
//!
//! Whoever that broker lets may publish there, so it is no fault of the hub's, and may not fill a log.

use tracing::warn;

use crate::deadline::Deadline;

/// There is no second warning sooner.
const QUIET_MS: u64 = 60_000;

/// See the module.
#[derive(Default)]
pub(super) struct Strangers {
    /// Until then they are only counted.
    quiet: Option<Deadline>,
    /// Those since the last warning.
    counted: u64,
}

impl Strangers {
    /// Warns, or counts: how many were counted since the last warning, if this is one.
    pub fn note(&mut self, error: &str, now_ms: u64) -> Option<u64> {
        if self.quiet.is_some_and(|quiet| !quiet.is_due(now_ms)) {
            self.counted = self.counted.saturating_add(1);
            return None;
        }
        self.quiet = Some(Deadline::after(now_ms, QUIET_MS));
        let others = std::mem::take(&mut self.counted);
        warn!(
            others,
            "somebody published on the ledger's topic at the broker what is not the hub's: {error}; this agent ignores it. \
             Only the hub needs to publish there: `sealcast broker config` prints rules for the broker"
        );
        Some(others)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_warning_a_minute_and_it_says_how_many_there_were() {
        let mut strangers = Strangers::default();
        let notes = (0..150_u64).map(|second| (second, strangers.note("garbage", 1_000_000 + second * 1_000)));
        let warnings: Vec<(u64, u64)> = notes.filter_map(|(second, others)| Some((second, others?))).collect();
        assert_eq!(warnings, [(0, 0), (60, 59), (120, 59)]);
    }
}
