//! Swinging door: the line between archived readings, and the delay.

use proptest::prelude::*;
use sealcast_quality::{Archive, Recording, Sample, SwingingDoor};
use sealcast_reading::Value;

/// Compresses, and checks that each reading is within the deviation of the line and represented in time.
fn compress(rule: Archive, readings: &[(u64, f64)]) -> Vec<(u64, f64)> {
    let mut door = SwingingDoor::new(rule);
    let mut archived: Vec<(u64, f64)> = Vec::new();
    for (time_ms, value) in readings {
        while let Some(due) = door.poll_timeout().filter(|due| due <= time_ms) {
            archived.extend(door.handle_timeout(due).map(|sample| (sample.time_ms, sample.value)));
        }
        let out = door.handle_reading(Sample { time_ms: *time_ms, value: *value, item: () }, *time_ms);
        archived.extend(out.into_iter().flatten().map(|sample| (sample.time_ms, sample.value)));
        // Represented: it is archived, or the door will be closed in time.
        let behind = archived.last().is_some_and(|last| last.0 < *time_ms);
        assert!(!behind || door.poll_timeout().unwrap() <= time_ms + rule.max_delay_ms);
    }
    archived.extend(door.flush().map(|sample| (sample.time_ms, sample.value)));
    for (time_ms, value) in readings {
        let after = archived.partition_point(|(time, _)| time < time_ms);
        let (t1, v1) = archived[after];
        let line = match after.checked_sub(1).map(|before| archived[before]) {
            Some((t0, v0)) if t1 > t0 => v0 + (v1 - v0) * (time_ms - t0) as f64 / (t1 - t0) as f64,
            _ => v1,
        };
        assert!((line - value).abs() <= rule.deviation * (1.0 + 1e-9), "{value} at {time_ms}, line {line}");
    }
    archived
}

#[test]
fn a_ramp_is_two_readings() {
    let rule = Archive { deviation: 0.1, max_delay_ms: 1_000_000 };
    let ramp: Vec<(u64, f64)> = (0..100).map(|at| (at * 1000, at as f64 * 0.5)).collect();
    assert_eq!(compress(rule, &ramp).len(), 2);
    let bounded = Archive { deviation: 0.1, max_delay_ms: 10_000 };
    assert!(compress(bounded, &ramp).len() > 8);
}

#[test]
fn the_machine_is_compressed() {
    let text = include_str!("../../../../tests/data/machine_temperature_system_failure.csv");
    let recording = Recording::from_csv(text).unwrap();
    let readings = recording.readings.iter().zip(recording.arrivals_ms());
    let readings: Vec<(u64, f64)> = readings
        .map(|(reading, now_ms)| match reading.value {
            Value::Number(value) => (now_ms, value.to_f64()),
            _ => panic!("a number"),
        })
        .collect();
    for (deviation, most_percent) in [(1.0, 45), (2.0, 15)] {
        let archived = compress(Archive { deviation, max_delay_ms: 86_400_000 }, &readings).len();
        println!("swinging door {deviation}: {archived} of {} readings archived", readings.len());
        assert!(archived * 100 < readings.len() * most_percent);
    }
}

#[test]
fn what_has_no_line_is_archived_at_once() {
    let mut door = SwingingDoor::new(Archive { deviation: 1.0, max_delay_ms: 1000 });
    let mut handle = |time_ms: u64, value: f64| {
        let out = door.handle_reading(Sample { time_ms, value, item: () }, time_ms);
        out.into_iter().flatten().map(|sample| sample.time_ms).collect::<Vec<_>>()
    };
    assert_eq!(handle(10, 1.0), [10]);
    assert_eq!(handle(20, 1.0), [0_u64; 0]);
    assert_eq!(handle(30, f64::NAN), [20, 30]);
    assert_eq!(handle(40, 2.0), [40]);
    assert_eq!(handle(35, 2.0), [35]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn never_farther_than_the_deviation(
        readings in prop::collection::vec((1_u64..3000, -50.0..50.0_f64), 1..150),
        deviation in 0.1..30.0_f64,
        max_delay_ms in 1_u64..20_000,
    ) {
        let mut now_ms = 0;
        let readings: Vec<(u64, f64)> = readings
            .into_iter()
            .map(|(gap_ms, value)| {
                now_ms += gap_ms;
                (now_ms, value)
            })
            .collect();
        compress(Archive { deviation, max_delay_ms }, &readings);
    }
}
