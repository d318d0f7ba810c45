//! A topic's fail-safe, which hears of good and bad values in whatever order a broker chooses. They count in the order in
//! which they were sealed: else an old good value, kept and delivered again, would end what a newer bad one began, and an old bad
//! one would begin what a newer good one has ended.

use sealcast_identity::DeviceId;
use sealcast_quality::{FailSafe, FailSafeOutput, FailSafeRules, Fallback};

/// When something was said, by its sender's clock.
#[derive(Debug, Clone, Copy)]
pub(super) struct Said<'a> {
    /// Who said it.
    pub sender: &'a DeviceId,
    /// When, Unix ms.
    pub at_ms: u64,
    /// How far the clocks of two senders may be apart, ms.
    pub tolerance_ms: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Guard {
    fail_safe: FailSafe,
    /// The last good value, by this agent's clock.
    since_ms: u64,
    /// The newest of each, with its sender.
    good: Option<(DeviceId, u64)>,
    bad: Option<(DeviceId, u64)>,
}

impl Guard {
    /// Waits for a first good value from now on.
    pub fn new(rules: FailSafeRules, now_ms: u64) -> Self {
        Self { fail_safe: FailSafe::new(rules, now_ms), since_ms: now_ms, good: None, bad: None }
    }

    /// A good value that was sealed `age_ms` ago.
    pub fn handle_good(&mut self, said: Said<'_>, age_ms: u64, now_ms: u64) -> Option<FailSafeOutput> {
        if self.bad.as_ref().is_some_and(|bad| is_older(said, bad)) {
            return None;
        }
        note(&mut self.good, said);
        // What was held back on its way does not put off the end of the wait.
        let since_ms = now_ms.saturating_sub(age_ms.saturating_sub(said.tolerance_ms));
        self.since_ms = self.since_ms.max(since_ms);
        self.fail_safe.handle_good(self.since_ms)
    }

    /// A value was blocked, here or by its sender.
    pub fn handle_blocked(&mut self, said: Said<'_>, now_ms: u64) -> Option<FailSafeOutput> {
        // Of one sender a good value of the same millisecond is the later one: what was blocked raised the alarm before.
        if let Some((sender, good_ms)) = &self.good
            && (said.at_ms < *good_ms || said.at_ms == *good_ms && sender == said.sender)
        {
            return None;
        }
        note(&mut self.bad, said);
        self.fail_safe.handle_blocked(now_ms)
    }

    /// When a fail-safe value is due if no good value comes, Unix ms.
    pub fn poll_timeout(&self) -> Option<u64> {
        self.fail_safe.poll_timeout()
    }

    /// Publishes the fail-safe value if it is due, once.
    pub fn handle_timeout(&mut self, now_ms: u64) -> Option<FailSafeOutput> {
        self.fail_safe.handle_timeout(now_ms)
    }

    /// What stands in place of a good value.
    pub fn active(&self) -> Option<&Fallback> {
        self.fail_safe.active()
    }
}

/// Between two senders a good value is given the benefit of the doubt.
fn is_older(said: Said<'_>, (sender, at_ms): &(DeviceId, u64)) -> bool {
    let tolerance_ms = if sender == said.sender { 0 } else { said.tolerance_ms };
    said.at_ms.saturating_add(tolerance_ms) < *at_ms
}

fn note(newest: &mut Option<(DeviceId, u64)>, said: Said<'_>) {
    if newest.as_ref().is_none_or(|(_, at_ms)| *at_ms <= said.at_ms) {
        *newest = Some((said.sender.clone(), said.at_ms));
    }
}

#[cfg(test)]
mod tests {
    use anyhow::{Context as _, Result};
    use sealcast_quality::Trigger;

    use super::{super::tests::rules, *};

    fn guard(keys: &str) -> Result<Guard> {
        let text = format!("[[quality]]\nfilter = 't'\nfail_safe = {{ {keys} }}");
        let rules = rules(&text)?;
        Ok(Guard::new(rules.quality.find("t").and_then(|rules| rules.fail_safe()).context("a rule")?.clone(), 0))
    }

    #[test]
    fn what_a_broker_delivers_again_neither_ends_nor_begins_it() -> Result<()> {
        let [one, other]: [DeviceId; 2] = ["1111".parse()?, "1112".parse()?];
        let said = |at_ms| Said { sender: &one, at_ms, tolerance_ms: 2_000 };
        let mut guard = guard("on_blocked = { after_ms = 500, publish = 'open' }")?;
        assert_eq!(guard.handle_good(said(10_000), 0, 10_000), None);
        assert_eq!(guard.handle_blocked(said(9_999), 10_100), None);
        assert_eq!(guard.poll_timeout(), None, "it was bad before it was good");
        assert_eq!(guard.handle_blocked(said(11_000), 11_000), None);
        for now_ms in [11_100, 11_300, 11_499] {
            assert_eq!(guard.handle_good(said(10_000), 1_000, now_ms), None);
        }
        let output = guard.handle_timeout(11_500);
        assert!(matches!(output, Some(FailSafeOutput::Publish { trigger: Trigger::Blocked, .. })), "{output:?}");
        assert_eq!(guard.handle_good(said(10_999), 600, 11_600), None);
        assert!(guard.active().is_some());
        // Another sender's clock may be behind.
        let behind = Said { sender: &other, at_ms: 9_500, tolerance_ms: 2_000 };
        assert!(guard.handle_good(behind, 2_100, 11_600).is_some());
        assert_eq!(guard.handle_blocked(said(12_000), 12_000), None);
        assert!(guard.handle_timeout(12_500).is_some());
        assert!(guard.handle_good(said(12_000), 700, 12_700).is_some(), "in the millisecond of the bad one");
        Ok(())
    }

    #[test]
    fn what_was_held_back_does_not_put_off_the_end_of_the_wait() -> Result<()> {
        let one: DeviceId = "1111".parse()?;
        let said = |at_ms| Said { sender: &one, at_ms, tolerance_ms: 2_000 };
        let mut guard = guard("on_silence = { after_ms = 5_000, publish = 'open' }")?;
        guard.handle_good(said(10_000), 0, 10_000);
        assert_eq!(guard.poll_timeout(), Some(15_000));
        guard.handle_good(said(10_000), 4_900, 14_900);
        assert_eq!(guard.poll_timeout(), Some(17_000), "but for the clocks");
        guard.handle_good(said(15_500), 1_500, 17_000);
        assert_eq!(guard.poll_timeout(), Some(22_000));
        Ok(())
    }
}
