//! State as bytes: an agent that is killed at any moment goes on as one that was not.

use std::collections::BTreeMap;

use proptest::prelude::*;
use sealcast_quality::{Checker, Input, Reporter};
use sealcast_reading::{Reading, Value};

use super::{TOPIC, hundredths, rules};

const KEYS: &str = r#"
accept_after = 3
range = { min = -10, max = 10 }
step = { max = 4, action = "block" }
rate = { max_per_s = 3 }
stuck = { readings = 3, for_ms = 4_000 }
spike = { window = 5, floor = 1 }
time = { gap_periods = 3, action = "block" }
sequence = { action = "block" }
silent = { periods = 4 }
sentinels = { values = [7] }
"#;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn killed_at_any_moment(
        steps in prop::collection::vec((-1200_i64..1200, 0_u64..3000, 0_u64..40, 0_u8..3, any::<bool>()), 1..80),
    ) {
        let rules = rules(KEYS);
        let mut steady = Checker::new(rules.clone(), 0);
        let mut killed = Checker::new(rules.clone(), 0);
        let mut store: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        let mut now_ms = 1_000_000;
        for (value, gap_ms, sequence, name, kill) in steps {
            now_ms += gap_ms;
            let name = ["", "a", "b"][usize::from(name)];
            let reading = Reading {
                value: hundredths(value / 50 * 50),
                unit: None,
                time_ms: Some(now_ms - sequence * 300),
                sequence: Some(sequence),
            };
            let input = Input::new(TOPIC, name, &reading);
            prop_assert_eq!(steady.handle_reading(&input, now_ms), killed.handle_reading(&input, now_ms));
            for row in killed.changes() {
                match row.value {
                    Some(value) => store.insert(row.key.into(), value),
                    None => store.remove(&*row.key),
                };
            }
            if kill {
                let rows = store.iter().map(|(key, value)| (key.as_str(), value.as_slice()));
                killed = Checker::restore(rules.clone(), rows, now_ms).unwrap();
                prop_assert_eq!(killed.export(), steady.export());
            }
        }
        let whole = Checker::import(rules, &steady.export(), now_ms).unwrap();
        prop_assert_eq!(whole.export(), steady.export());
        let largest = store.values().map(Vec::len).max().unwrap_or(0);
        prop_assert!(largest < 400, "{} bytes", largest);
    }

    /// Damaged bytes are refused or read, and never panic.
    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300), at in 0_usize..400, bit in 0_u8..8) {
        let rules = rules(KEYS);
        let _ = Checker::import(rules.clone(), &bytes, 0);
        let _ = Reporter::import(rules.clone(), &bytes);
        let mut checker = Checker::new(rules.clone(), 0);
        for now_ms in 0..8_u32 {
            let reading = Reading::new(Value::Number(i64::from(now_ms % 5).into()));
            let input = Input::new(TOPIC, "", &reading);
            checker.handle_reading(&input, u64::from(now_ms) * 1000);
        }
        let mut damaged = checker.export();
        if let Some(byte) = damaged.get_mut(at) {
            *byte ^= 1 << bit;
        }
        if let Ok(mut checker) = Checker::import(rules, &damaged, 9_000) {
            let reading = Reading::new(Value::Number(3_i64.into()));
            checker.handle_reading(&Input::new(TOPIC, "", &reading), 9_000);
            checker.handle_timeout(u64::MAX);
        }
    }
}
