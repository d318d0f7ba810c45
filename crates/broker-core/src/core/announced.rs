//! How often a device publishes what every other one takes.

use std::collections::HashMap;
use std::sync::Arc;

use crate::limits::Limits;

/// When each device has all its announcements again: those that it could make at once, one more each
/// [`Limits::announcement_interval`]. One entry for each device that has made any.
#[derive(Default)]
pub(super) struct Announced(HashMap<Arc<str>, u64>);

impl Announced {
    /// Whether `device` may announce something now. If so, that counts.
    pub fn take(&mut self, device: &Arc<str>, limits: &Limits, now_ms: u64) -> bool {
        let each_ms = u64::try_from(limits.announcement_interval.as_millis()).unwrap_or(u64::MAX);
        let latest_ms = now_ms.saturating_add(each_ms.saturating_mul(limits.max_announcements.into()));
        // The clock may have been set back.
        let full_ms = self.0.get(device).map_or(now_ms, |full_ms| (*full_ms).clamp(now_ms, latest_ms));
        let next_ms = full_ms.saturating_add(each_ms);
        let may = next_ms <= latest_ms;
        self.0.insert(device.clone(), if may { next_ms } else { full_ms });
        may
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_device_has_some_announcements_at_once_and_then_one_in_each_interval() {
        let limits =
            Limits { max_announcements: 4, announcement_interval: Duration::from_secs(10), ..Limits::default() };
        let mut announced = Announced::default();
        let mut count =
            |device: &str, now_ms| (0..50).filter(|_| announced.take(&device.into(), &limits, now_ms)).count();
        assert_eq!(count("1111", 100_000), 4);
        assert_eq!(count("1112", 100_000), 4, "each has its own");
        assert_eq!(count("1111", 109_999), 0);
        assert_eq!(count("1111", 110_000), 1);
        assert_eq!(count("1111", 135_000), 2);
        assert_eq!(count("1111", 1_000_000), 4);
        assert_eq!((count("1111", 0), count("1111", 10_000)), (0, 1), "a clock that was set back");
    }
}
