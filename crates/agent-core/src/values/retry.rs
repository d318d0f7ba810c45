//! When what could not be done is tried again.

/// No key, no connection, no room on the disk: tried again after so long.
pub(super) const RETRY_MS: u64 = 1_000;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Retry {
    at_ms: Option<u64>,
}

impl Retry {
    /// Something could not be done.
    pub fn begin(&mut self, now_ms: u64) {
        self.at_ms = Some(now_ms.saturating_add(RETRY_MS));
    }

    /// There is no reason to wait any more.
    pub fn end(&mut self) {
        self.at_ms = None;
    }

    /// Whether it is too early. A clock that was set back makes nobody wait for longer.
    pub fn is_too_early(&self, now_ms: u64) -> bool {
        self.at_ms.is_some_and(|at_ms| at_ms > now_ms && at_ms <= now_ms.saturating_add(RETRY_MS))
    }

    /// When that is over, Unix ms.
    pub fn at_ms(&self) -> Option<u64> {
        self.at_ms
    }

    /// The first time from `due_ms` on at which it is not too early, Unix ms.
    pub fn not_before(&self, due_ms: u64) -> u64 {
        self.at_ms.map_or(due_ms, |at_ms| at_ms.max(due_ms))
    }
}
