//! Learning from recordings of any shape, and trying what was learnt.

use std::sync::Arc;

use proptest::prelude::*;
use sealcast_quality::{Check, Recorded, Recording, learn, try_rules};
use sealcast_reading::{Decimal, Special, Value};

use super::{TOPIC, file, number};

fn recording(values: impl IntoIterator<Item = Value>) -> Recording {
    let each = values.into_iter().enumerate();
    Recording { readings: each.map(|(at, value)| Recorded { time_ms: at as u64 * 1000, value }).collect() }
}

#[test]
fn too_little_is_refused() {
    let error = learn("a", &recording((0..49).map(|_| number("1")))).unwrap_err();
    assert_eq!(error.to_string(), "only 49 of 49 readings have a usable number; rules are learnt from at least 50");
}

#[test]
fn a_constant_is_learnt_without_step_spike_and_stuck() {
    let proposal = learn("a/\"b\"", &recording((0..100).map(|_| number("20.5")))).unwrap();
    let keys: Vec<&str> = proposal.rules.iter().map(|rule| rule.key).collect();
    assert_eq!(keys, ["range", "silent", "time", "sentinels"]);
    assert!(file(&proposal.to_toml()).unwrap().find("a/\"b\"").is_some());
}

#[test]
fn no_value_numbers_are_not_learnt_as_values() {
    let values = (0..200).map(|at| match at % 50 {
        7 => number("65535"),
        9 => Value::Special(Special::Nan),
        _ => Value::Number(Decimal::new(2000 + at % 13, 2)),
    });
    let recording = recording(values);
    let proposal = learn("#", &recording).unwrap();
    let text = proposal.to_toml();
    assert!(text.contains("# 65535 is in the recording; 4 of its readings are not numbers\n"), "{text}");
    let trial = try_rules(&Arc::new(file(&text).unwrap()), TOPIC, &recording);
    let counts = trial.counts();
    assert_eq!((counts.blocked, counts.by_check.get(&Check::Sentinel)), (8, Some(&8)), "{counts:?}");
    assert_eq!(counts.flagged, 0, "{counts:?}");
}

/// A limit that was measured to the millisecond is said with two digits.
#[test]
fn the_heartbeat_is_rounded_up() {
    for (period_ms, heartbeat_ms) in [(1_000, 12_000), (60_001, 730_000), (60_000, 720_000), (10, 120), (83, 1_000)] {
        let readings = (0..60).map(|at| Recorded { time_ms: at * period_ms, value: number(&(at % 7).to_string()) });
        let text = learn("a", &Recording { readings: readings.collect() }).unwrap().to_toml();
        assert!(text.contains(&format!("heartbeat_ms = {heartbeat_ms} }}")), "{text}");
    }
}

#[test]
fn schemas_are_left_out_of_a_trial() {
    let rules = file("[[quality]]\nfilter = \"#\"\nschema = { json = '{}' }\nrange = { max = 1 }").unwrap();
    let trial = try_rules(&Arc::new(rules), TOPIC, &recording([number("1"), number("2")]));
    assert_eq!((trial.counts().passed, trial.counts().blocked), (1, 1));
}

#[test]
fn a_silence_in_the_recording_is_found() {
    let mut gap = recording((0..60).map(|at| number(&at.to_string())));
    gap.readings.drain(30..50);
    let rules = file("[[quality]]\nfilter = \"#\"\nsilent = { periods = 5 }").unwrap();
    let said: Vec<(u64, String)> =
        try_rules(&Arc::new(rules), TOPIC, &gap).events.iter().map(|(at, event)| (*at, event.to_string())).collect();
    let text = |text: &str| text.replace("TOPIC", TOPIC);
    assert_eq!(
        said,
        [(34_000, text("silent: nothing on TOPIC for 5 s")), (50_000, text("heard: TOPIC again after 21 s"))]
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// What is learnt is a valid rules file, and finds little in what it was learnt from.
    #[test]
    fn what_is_learnt_can_be_used(
        scale in 0_u8..30,
        offset in -1_000_000_i64..1_000_000,
        moves in prop::collection::vec((-100_i64..100, 0_u64..20_000), 60..300),
    ) {
        let (mut now_ms, mut value) = (0, offset);
        let readings = moves.into_iter().map(|(by, gap_ms)| {
            now_ms += gap_ms;
            value += by;
            Recorded { time_ms: now_ms, value: Value::Number(Decimal::new(value.into(), scale)) }
        });
        let recording = Recording { readings: readings.collect() };
        let text = learn("+/#", &recording).unwrap().to_toml();
        let rules = file(&text);
        prop_assert!(rules.is_ok(), "{:?}\n{}", rules.err(), text);
        let counts = try_rules(&Arc::new(rules.unwrap()), TOPIC, &recording).counts();
        for check in [Check::Range, Check::Step, Check::Stuck, Check::Sentinel] {
            prop_assert_eq!(counts.by_check.get(&check), None, "{:?}\n{}", &counts, text);
        }
    }
}
