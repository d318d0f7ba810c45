//! The valve opens when no good value comes, and never against one.

use proptest::prelude::*;
use sealcast_quality::{FailSafe, FailSafeOutput, FailSafeRules, Trigger};

use super::rules;

fn valve(keys: &str) -> FailSafeRules {
    let rules = rules(&format!("fail_safe = {{ {keys} }}"));
    rules.find(super::TOPIC).unwrap().fail_safe().unwrap().clone()
}

const BOTH: &str =
    "on_silence = { after_ms = 5_000, publish = \"open\" }, on_blocked = { after_ms = 2_000, publish = \"half\" }";

#[test]
fn silence_opens_and_a_value_ends_it() {
    let mut safe = FailSafe::new(valve(BOTH), 1_000);
    assert_eq!(safe.poll_timeout(), Some(6_000));
    assert_eq!(safe.handle_good(2_000), None);
    assert_eq!(safe.handle_timeout(6_999), None);
    let Some(FailSafeOutput::Publish { trigger, fallback, without_ms }) = safe.handle_timeout(7_000) else {
        panic!("due");
    };
    assert_eq!((trigger, fallback.publish.as_str(), without_ms), (Trigger::Silence, "open", 5_000));
    assert_eq!(safe.handle_timeout(60_000), None, "once");
    assert_eq!(safe.active().unwrap().publish, "open");
    assert_eq!(safe.poll_timeout(), None);
    let mut safe = FailSafe::import(valve(BOTH), &safe.export()).unwrap();
    assert_eq!(safe.handle_good(9_000), Some(FailSafeOutput::Ended { trigger: Trigger::Silence, active_ms: 2_000 }));
    assert_eq!(safe.active(), None);
    assert_eq!(safe.poll_timeout(), Some(14_000));
}

#[test]
fn blocked_values_open_it_sooner() {
    let mut safe = FailSafe::new(valve(BOTH), 0);
    assert_eq!(safe.handle_blocked(1_000), None);
    assert_eq!(safe.handle_blocked(2_000), None);
    assert_eq!(safe.poll_timeout(), Some(3_000));
    let output = safe.handle_timeout(3_000);
    assert!(matches!(output, Some(FailSafeOutput::Publish { trigger: Trigger::Blocked, .. })), "{output:?}");
    let mut safe = FailSafe::new(valve("on_blocked = { after_ms = 0, publish = \"open\" }"), 0);
    assert_eq!(safe.poll_timeout(), None);
    assert!(safe.handle_blocked(1).is_some());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Nothing is published within the time after a good value, it is always published after it, and a good value ends it.
    #[test]
    fn never_against_a_good_value(steps in prop::collection::vec((0_u8..4, 0_u64..3000), 1..100)) {
        let mut safe = FailSafe::new(valve(BOTH), 0);
        let (mut now_ms, mut good_ms, mut active) = (0, 0, false);
        for (what, gap_ms) in steps {
            now_ms += gap_ms;
            let output = match what {
                0 => safe.handle_good(now_ms),
                1 => safe.handle_blocked(now_ms),
                2 => {
                    safe = FailSafe::import(valve(BOTH), &safe.export()).unwrap();
                    None
                }
                _ => safe.handle_timeout(now_ms),
            };
            if what == 0 {
                prop_assert_eq!(matches!(output, Some(FailSafeOutput::Ended { .. })), active);
                (good_ms, active) = (now_ms, false);
            }
            if let Some(FailSafeOutput::Publish { .. }) = output {
                prop_assert!(!active && now_ms - good_ms >= 2_000);
                active = true;
            }
            prop_assert!(what != 3 || active || now_ms - good_ms < 5_000);
            prop_assert_eq!(safe.active().is_some(), active);
        }
    }
}
