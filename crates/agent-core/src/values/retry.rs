//! When what could not be done is tried again.

use crate::deadline::Deadline;

/// No key, no connection, no room on the disk: tried again after so long.
pub(super) const RETRY_MS: u64 = 1_000;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Retry {
    deadline: Option<Deadline>,
}

impl Retry {
    /// Something could not be done.
    pub fn begin(&mut self, now_ms: u64) {
        self.deadline = Some(Deadline::after(now_ms, RETRY_MS));
    }

    /// There is no reason to wait any more.
    pub fn end(&mut self) {
        self.deadline = None;
    }

    /// Whether it is too early.
    pub fn is_too_early(&self, now_ms: u64) -> bool {
        self.deadline.is_some_and(|deadline| !deadline.is_due(now_ms))
    }

    /// When that is over, Unix ms.
    pub fn at_ms(&self) -> Option<u64> {
        self.deadline.map(Deadline::at_ms)
    }

    /// The first time from `due_ms` on at which it is not too early, Unix ms.
    pub fn not_before(&self, due_ms: u64) -> u64 {
        self.at_ms().map_or(due_ms, |at_ms| at_ms.max(due_ms))
    }
}
