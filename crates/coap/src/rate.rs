//! A limit on requests a second, with room for a second's worth at once.

/// A token bucket.
#[derive(Debug, Clone)]
pub struct Rate {
    per_second: u64,
    /// Thousandths of a request.
    left: u64,
    since_ms: u64,
}

impl Rate {
    /// Full.
    pub fn new(per_second: u32, now_ms: u64) -> Self {
        let per_second = u64::from(per_second);
        Self { per_second, left: per_second * 1000, since_ms: now_ms }
    }

    /// Whether one more may pass.
    pub fn admit(&mut self, now_ms: u64) -> bool {
        // As many thousandths in a ms as whole ones in a second.
        let more = now_ms.saturating_sub(self.since_ms).saturating_mul(self.per_second);
        self.left = self.left.saturating_add(more).min(self.per_second * 1000);
        self.since_ms = now_ms;
        let pass = self.left >= 1000;
        if pass {
            self.left -= 1000;
        }
        pass
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_worth_at_once_and_then_as_many_as_time_gives() {
        let mut rate = Rate::new(10, 5);
        assert_eq!((0..50).filter(|_| rate.admit(5)).count(), 10);
        assert_eq!((0..50).filter(|_| rate.admit(505)).count(), 5);
        assert_eq!((0..50).filter(|_| rate.admit(60_005)).count(), 10);
        assert!(!Rate::new(0, 0).admit(u64::MAX));
    }
}
