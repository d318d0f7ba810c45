//! Times to come.

/// When something is due.
///
/// By the machine's clock, which may be set back: a deadline that is further away than it was when it was made is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Deadline {
    at_ms: u64,
    wait_ms: u64,
}

impl Deadline {
    /// After this wait.
    pub fn after(now_ms: u64, wait_ms: u64) -> Self {
        Self { at_ms: now_ms.saturating_add(wait_ms), wait_ms }
    }

    /// Whether its time has come.
    pub fn is_due(self, now_ms: u64) -> bool {
        self.at_ms.checked_sub(now_ms).is_none_or(|left_ms| left_ms == 0 || left_ms > self.wait_ms)
    }

    /// The time, Unix ms.
    pub fn at_ms(self) -> u64 {
        self.at_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_due_at_its_time_and_when_the_clock_is_set_back() {
        let deadline = Deadline::after(1_000, 500);
        let due: Vec<bool> = [999, 1_000, 1_499, 1_500, 9_999].map(|now_ms| deadline.is_due(now_ms)).into();
        assert_eq!(due, [true, false, false, true, true]);
        assert!(Deadline::after(7, 0).is_due(7));
    }
}
