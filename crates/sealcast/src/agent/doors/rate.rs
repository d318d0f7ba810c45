//! A limit on requests a second, with room for a second's worth at once.

use std::{
    sync::{Mutex, PoisonError},
    time::Instant,
};

/// A token bucket.
pub struct Rate {
    per_second: f64,
    state: Mutex<(f64, Instant)>,
}

impl Rate {
    /// Full.
    pub fn new(per_second: u32, now: Instant) -> Self {
        let per_second = f64::from(per_second);
        Self { per_second, state: Mutex::new((per_second, now)) }
    }

    /// Whether one more may pass.
    pub fn admit(&self, now: Instant) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (left, since) = *state;
        let left = (left + now.duration_since(since).as_secs_f64() * self.per_second).min(self.per_second);
        let pass = left >= 1.0;
        *state = (if pass { left - 1.0 } else { left }, now);
        pass
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_second_worth_at_once_and_then_as_many_as_time_gives() {
        let start = Instant::now();
        let rate = Rate::new(10, start);
        assert_eq!((0..50).filter(|_| rate.admit(start)).count(), 10);
        assert_eq!((0..50).filter(|_| rate.admit(start + Duration::from_millis(500))).count(), 5);
        assert_eq!((0..50).filter(|_| rate.admit(start + Duration::from_secs(60))).count(), 10);
    }
}
