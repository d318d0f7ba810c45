//! Swinging door: the line between archived readings, and the delay.

use std::{collections::BTreeMap, sync::Arc};

use proptest::prelude::*;
use sealcast_quality::{Archive, Archived, Archiver, Marks, Recording, RuleSet, Sample, SwingingDoor};
use sealcast_reading::{Reading, Special, Value};

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
    check_line(&archived, readings, rule.deviation);
    archived
}

/// Each reading is within the deviation of the line through what was archived.
fn check_line(archived: &[(u64, f64)], readings: &[(u64, f64)], deviation: f64) {
    for (time_ms, value) in readings {
        let after = archived.partition_point(|(time, _)| time < time_ms);
        let (t1, v1) = archived[after];
        let line = match after.checked_sub(1).map(|before| archived[before]) {
            Some((t0, v0)) if t1 > t0 => v0 + (v1 - v0) * (time_ms - t0) as f64 / (t1 - t0) as f64,
            _ => v1,
        };
        assert!((line - value).abs() <= deviation * (1.0 + 1e-9), "{value} at {time_ms}, line {line}");
    }
}

/// An archiver that is killed after some readings, and what of it was stored: rows and points together.
fn archive_with_crashes(rules: &Arc<RuleSet>, readings: &[(u64, f64)], crashes: &[bool]) -> Vec<Archived> {
    let mut rows: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut archived = Vec::new();
    let mut archiver = Archiver::new(rules.clone());
    let mut store = |archiver: &mut Archiver, rows: &mut BTreeMap<String, Vec<u8>>| {
        archived.extend(std::iter::from_fn(|| archiver.poll_archived()));
        for row in archiver.changes() {
            rows.insert(row.key.into(), row.value.unwrap());
        }
    };
    for ((time_ms, value), crash) in readings.iter().zip(crashes) {
        archiver.handle_timeout(*time_ms);
        let number = value.to_string().parse().unwrap();
        let reading = Reading { time_ms: Some(*time_ms), ..Reading::new(Value::Number(number)) };
        archiver.handle_reading(super::TOPIC, "x", &reading, Marks(2), *time_ms);
        store(&mut archiver, &mut rows);
        assert!(archiver.poll_timeout().is_none_or(|due| due <= time_ms + 20_000));
        if *crash {
            let stored = rows.iter().map(|(key, value)| (key.as_str(), value.as_slice()));
            archiver = Archiver::restore(rules.clone(), stored).unwrap();
        }
    }
    archiver.handle_timeout(u64::MAX);
    store(&mut archiver, &mut rows);
    archived
}

#[test]
fn another_rule_and_what_is_no_number_end_the_line() {
    let strict = super::rules("archive = { deviation = 0.1, max_delay_ms = 20_000 }");
    let reading = |time_ms, value| Reading { time_ms: Some(time_ms), ..Reading::new(value) };
    let mut archiver = Archiver::new(super::rules("archive = { deviation = 9, max_delay_ms = 20_000 }"));
    for time_ms in [1, 2, 3] {
        archiver.handle_reading(super::TOPIC, "", &reading(time_ms, super::number("1.50")), Marks::NONE, time_ms);
    }
    let rows = archiver.changes();
    let rows = rows.iter().map(|row| (&*row.key, row.value.as_deref().unwrap()));
    let mut archiver = Archiver::restore(strict, rows).unwrap();
    for (time_ms, value) in [
        (4, super::number("1.5")),
        (5, Value::Special(Special::Nan)),
        (6, Value::Text("off".into())),
        (7, super::number("2")),
    ] {
        archiver.handle_reading(super::TOPIC, "", &reading(time_ms, value), Marks::NONE, time_ms);
    }
    let archived: Vec<_> = std::iter::from_fn(|| archiver.poll_archived()).map(|one| one.point).collect();
    assert_eq!(archived.iter().map(|point| point.time_ms).collect::<Vec<_>>(), [3, 4, 6, 7]);
    assert_eq!(archived[0].value.to_string(), "1.50");
    archiver.handle_reading("other", "", &reading(8, super::number("2")), Marks::NONE, 8);
    assert_eq!(archiver.poll_archived(), None);
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

    #[test]
    fn never_farther_whatever_is_killed(
        readings in prop::collection::vec((1_u64..3000, -500..500_i32, any::<bool>()), 1..100),
    ) {
        let rules = super::rules("archive = { deviation = 5, max_delay_ms = 20_000 }");
        let mut now_ms = 0;
        let crashes: Vec<bool> = readings.iter().map(|(.., crash)| *crash).collect();
        let readings: Vec<(u64, f64)> = readings
            .into_iter()
            .map(|(gap_ms, value, _)| {
                now_ms += gap_ms;
                (now_ms, f64::from(value) / 10.0)
            })
            .collect();
        let archived = archive_with_crashes(&rules, &readings, &crashes);
        let points: Vec<(u64, f64)> = archived
            .iter()
            .map(|one| match one.point.value {
                Value::Number(number) => (one.point.time_ms, number.to_f64()),
                _ => panic!("a number"),
            })
            .collect();
        check_line(&points, &readings, 5.0);
        prop_assert_eq!(&archived, &archive_with_crashes(&rules, &readings, &vec![false; crashes.len()]));
    }
}
