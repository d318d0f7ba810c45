//! When a device's certificate is renewed, and when somebody must be told that it could not be.

use sealcast_identity::Certificate;

use crate::deadline::Deadline;

/// The first try comes after two thirds of the lifetime, and at the latest so much of it later: devices that were enrolled
/// together do not come together.
const SPREAD: u64 = 30;
/// Wait after the first failure, as a part of the lifetime and within bounds. Each further wait is twice as long.
const FIRST_WAIT: u64 = 100;
const FIRST_WAIT_MS: std::ops::RangeInclusive<u64> = 1_000..=60_000;
/// The longest wait, likewise.
const LAST_WAIT: u64 = 30;
const LAST_WAIT_MS: std::ops::RangeInclusive<u64> = 1_000..=3_600_000;

/// See the module. Times are milliseconds since the Unix epoch, `random` is any number that others cannot tell.
#[derive(Debug)]
pub struct Renewal {
    lifetime_ms: u64,
    end_ms: u64,
    try_at: Deadline,
    failures: u32,
    /// How long the certificate was still valid when the last warning came.
    warned_ms: Option<u64>,
}

/// Who has to be told that a certificate could not be renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Warning {
    /// It is valid for so long.
    Ends {
        /// Milliseconds that are left.
        left_ms: u64,
    },
    /// It has ended.
    Ended,
}

impl Renewal {
    /// Of a certificate that the device has got.
    pub fn new(certificate: &Certificate, random: u64, now_ms: u64) -> Self {
        let (issued_ms, end_ms) = (certificate.issued_s() * 1000, certificate.not_after_s() * 1000);
        let lifetime_ms = end_ms.saturating_sub(issued_ms);
        let two_thirds_ms = lifetime_ms - lifetime_ms / 3;
        let due_ms = issued_ms.saturating_add(two_thirds_ms).saturating_add(random % (lifetime_ms / SPREAD).max(1));
        let try_at = Deadline::after(now_ms, due_ms.saturating_sub(now_ms));
        Self { lifetime_ms, end_ms, try_at, failures: 0, warned_ms: None }
    }

    /// Whether to try now.
    pub fn is_due(&self, now_ms: u64) -> bool {
        self.try_at.is_due(now_ms)
    }

    /// The ledger has a newer certificate of the device, which did not arrive: that is asked for at once.
    pub fn handle_replaced(&mut self, now_ms: u64) {
        if self.failures == 0 {
            self.try_at = Deadline::after(now_ms, 0);
        }
    }

    /// When to try next.
    pub fn due_ms(&self) -> u64 {
        self.try_at.at_ms()
    }

    /// A try failed. A warning comes with the first failure, and whenever half of the time since the last one is over.
    pub fn handle_failure(&mut self, random: u64, now_ms: u64) -> Option<Warning> {
        let part = |parts: u64, bounds: &std::ops::RangeInclusive<u64>| {
            (self.lifetime_ms / parts).clamp(*bounds.start(), *bounds.end())
        };
        let wait_ms = part(FIRST_WAIT, &FIRST_WAIT_MS).saturating_mul(1 << self.failures.min(20));
        let wait_ms = wait_ms.min(part(LAST_WAIT, &LAST_WAIT_MS));
        self.failures = self.failures.saturating_add(1);
        // From half to one and a half times the wait.
        self.try_at = Deadline::after(now_ms, wait_ms / 2 + random % (wait_ms + 1));
        let left_ms = self.end_ms.saturating_sub(now_ms);
        if self.warned_ms.is_some_and(|warned_ms| left_ms > warned_ms / 2 || warned_ms == 0) {
            return None;
        }
        self.warned_ms = Some(left_ms);
        Some(if left_ms > 0 { Warning::Ends { left_ms } } else { Warning::Ended })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sealcast_identity::{Root, SigningKey};

    use super::*;

    const NOW_MS: u64 = 1_767_225_600_000;
    const DAY_MS: u64 = 86_400_000;

    fn certificate(lifetime_ms: u64) -> Certificate {
        let decade = Duration::from_millis(3_650 * DAY_MS);
        let root = Root::create("test", NOW_MS - DAY_MS, decade).unwrap();
        let authority = root.create_authority("test", NOW_MS - DAY_MS, decade).unwrap();
        let (key, lifetime) = (SigningKey::generate().unwrap(), Duration::from_millis(lifetime_ms));
        authority.issue_device(&"1111".parse().unwrap(), key.public(), NOW_MS, lifetime).unwrap().certificate
    }

    #[test]
    fn the_first_try_comes_at_two_thirds_of_the_lifetime_and_not_for_all_devices_at_once() {
        let lifetime_ms = 90 * DAY_MS;
        let certificate = certificate(lifetime_ms);
        let due = |random| Renewal::new(&certificate, random, NOW_MS).due_ms() - NOW_MS;
        assert_eq!(due(0), 60 * DAY_MS);
        let spread: Vec<u64> = [1, 7 * DAY_MS + 5, u64::MAX].map(due).into();
        assert!(spread.iter().all(|due| (60 * DAY_MS..63 * DAY_MS).contains(due)), "{spread:?}");
        assert_ne!(spread[1], spread[2]);
        let renewal = Renewal::new(&certificate, 0, NOW_MS + DAY_MS);
        assert!(!renewal.is_due(NOW_MS + 60 * DAY_MS - 1) && renewal.is_due(NOW_MS + 60 * DAY_MS));
        let late = Renewal::new(&certificate, 0, NOW_MS + 80 * DAY_MS);
        assert!(late.is_due(NOW_MS + 80 * DAY_MS), "an agent that was away");
        let mut lost = Renewal::new(&certificate, 0, NOW_MS);
        lost.handle_replaced(NOW_MS);
        assert!(lost.is_due(NOW_MS));
        lost.handle_failure(60_000, NOW_MS);
        lost.handle_replaced(NOW_MS);
        assert!(!lost.is_due(NOW_MS), "a failure waits");
    }

    #[test]
    fn the_waits_grow_and_the_warnings_come_nearer_to_the_end() {
        let certificate = certificate(90 * DAY_MS);
        let mut renewal = Renewal::new(&certificate, 0, NOW_MS);
        let (mut now_ms, mut waits, mut warnings) = (renewal.due_ms(), Vec::new(), Vec::new());
        while now_ms < NOW_MS + 91 * DAY_MS {
            // The middle of the jitter.
            let random = 1_800_000.min(30_000 << renewal.failures.min(20));
            warnings.extend(renewal.handle_failure(random, now_ms));
            waits.push(renewal.due_ms() - now_ms);
            now_ms = renewal.due_ms();
        }
        assert_eq!(waits[..8], [60_000, 120_000, 240_000, 480_000, 960_000, 1_920_000, 3_600_000, 3_600_000]);
        let days: Vec<u64> = warnings
            .iter()
            .filter_map(|warning| match warning {
                Warning::Ends { left_ms } => Some(left_ms / DAY_MS),
                Warning::Ended => None,
            })
            .collect();
        assert_eq!(days[..5], [30, 14, 7, 3, 1], "{warnings:?}");
        assert_eq!(warnings.iter().filter(|warning| **warning == Warning::Ended).count(), 1);
        assert_eq!(warnings.last(), Some(&Warning::Ended));
    }
}
