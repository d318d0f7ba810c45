//! The recording of a real machine, with its failures labelled (see `tests/data/README.md`).

use std::sync::Arc;

use sealcast_quality::{
    Action, Check, Decision, Recording, Reported, Reporter, Restorer, RuleSet, Tried, learn, try_rules,
};
use sealcast_reading::{Decimal, Value};

use super::{TOPIC, file, rules};

const CSV: &str = include_str!("../../../../tests/data/machine_temperature_system_failure.csv");

/// The labelled failures, as the recording writes times.
const WINDOWS: [(&str, &str); 4] = [
    ("2013-12-10 06:25:00", "2013-12-12 05:35:00"),
    ("2013-12-15 17:50:00", "2013-12-17 17:00:00"),
    ("2014-01-27 14:20:00", "2014-01-29 13:30:00"),
    ("2014-02-07 14:55:00", "2014-02-09 14:05:00"),
];

fn machine() -> Recording {
    Recording::from_csv(CSV).unwrap()
}

fn windows() -> Vec<(u64, u64)> {
    let time = |text: &str| Recording::from_csv(&format!("{text},0")).unwrap().readings[0].time_ms;
    WINDOWS.iter().map(|(from, to)| (time(from), time(to))).collect()
}

fn decimal(value: &Value) -> Decimal {
    match value {
        Value::Number(number) => *number,
        other => panic!("{other}"),
    }
}

/// How many readings a dead band sends; checks that a receiver that holds the last one is never off by more.
fn sent(band: &str) -> (usize, usize) {
    let recording = machine();
    let rules = rules(&format!("report = {{ dead_band = {band} }}"));
    let mut reporter = Reporter::new(rules);
    let limit: Decimal = band.parse().unwrap();
    let mut held = None;
    let mut sent = 0;
    for (reading, now_ms) in recording.readings.iter().zip(recording.arrivals_ms()) {
        let reported = Reported {
            topic: TOPIC,
            name: "",
            value: &reading.value,
            time_ms: Some(reading.time_ms),
            marks: Default::default(),
        };
        match reporter.handle_reading(&reported, now_ms) {
            Decision::Send(_) => {
                held = Some(decimal(&reading.value));
                sent += 1;
            }
            Decision::Skip => {}
            Decision::Keep { .. } => panic!("there is no smallest interval"),
        }
        let off = decimal(&reading.value).checked_sub(held.unwrap()).unwrap().abs();
        assert!(off <= limit, "{off} from the truth at {}", reading.time_ms);
    }
    let saved = reporter.saved().next().unwrap().2;
    assert_eq!((saved.seen, saved.sent), (recording.readings.len() as u64, sent as u64));
    assert_eq!(reporter.cycle(TOPIC, "").unwrap().period_ms(), Some(300_000));
    (sent, recording.readings.len())
}

#[test]
fn dead_band_saves() {
    for (band, most_percent) in [("0.5", 65.0), ("1", 36.0), ("2", 8.5)] {
        let (sent, all) = sent(band);
        let percent = sent as f64 * 100.0 / all as f64;
        println!("dead band {band}: {sent} of {all} readings sent, {percent:.2} %");
        assert!(percent <= most_percent, "{percent} %");
    }
}

#[test]
fn the_cycle_is_restored() {
    let recording = machine();
    let rules = rules(
        "report = { dead_band = 2 }\nrestore = { cycle_ms = 300_000, heartbeat_ms = 864_000_000, grace_ms = 10_000 }",
    );
    let mut reporter = Reporter::new(rules.clone());
    let mut restorer = Restorer::new(rules);
    let mut times = Vec::new();
    let mut repeats = 0;
    let arrivals = recording.arrivals_ms();
    for (reading, now_ms) in recording.readings.iter().zip(&arrivals) {
        while let Some(repeat) = restorer.poll_repeat(*now_ms) {
            times.push(repeat.time_ms);
            repeats += 1;
        }
        let reported = Reported {
            topic: TOPIC,
            name: "",
            value: &reading.value,
            time_ms: Some(reading.time_ms),
            marks: Default::default(),
        };
        if matches!(reporter.handle_reading(&reported, *now_ms), Decision::Send(_)) {
            restorer.handle_message(TOPIC, reading.time_ms, true, *now_ms);
            times.push(reading.time_ms);
        }
    }
    while let Some(repeat) = restorer.poll_repeat(arrivals.last().unwrap() + 10_000) {
        times.push(repeat.time_ms);
        repeats += 1;
    }
    println!("dead band 2: {repeats} of {} readings were repeated by the receiver", times.len());
    let expected: Vec<u64> = recording.readings.iter().map(|reading| reading.time_ms).collect();
    assert_eq!(times, expected, "each reading's time, once, in order, through the clock that goes back");
}

#[test]
fn learnt_rules_find_the_failures() {
    let recording = machine();
    let proposal = learn("plant/+/temperature", &recording.first(0.05)).unwrap();
    let toml = proposal.to_toml();
    println!("{toml}");
    let rules: Arc<RuleSet> = Arc::new(file(&toml).unwrap());
    let trial = try_rules(&rules, TOPIC, &recording);
    assert_eq!(trial.readings.len(), recording.readings.len());

    let windows = windows();
    let inside = |tried: &Tried, (from, to): (u64, u64)| (from..=to).contains(&tried.time_ms);
    for (at, window) in windows.iter().enumerate() {
        let counts = trial.counts_where(|tried| inside(tried, *window));
        println!(
            "window {}: {} readings, {} flagged, {} blocked ({:.1} %), {} sent, {:?}",
            at + 1,
            counts.readings,
            counts.flagged,
            counts.blocked,
            counts.found_part() * 100.0,
            counts.sent,
            counts.by_check
        );
    }
    let outside = trial.counts_where(|tried| !windows.iter().any(|window| inside(tried, *window)));
    println!(
        "outside: {} readings, {} flagged, {} blocked ({:.3} %), {} sent, {:?}",
        outside.readings,
        outside.flagged,
        outside.blocked,
        outside.found_part() * 100.0,
        outside.sent,
        outside.by_check
    );
    assert!(outside.found_part() < 0.005, "{outside:?}");

    // The two deep falls: each reading that is far below what normal operation ever showed.
    for (window, below) in [(windows[1], 30.0), (windows[3], 30.0)] {
        let deep = trial.counts_where(|tried| inside(tried, window) && decimal(&tried.value).to_f64() < below);
        println!("readings below {below} there: {}, passed {}", deep.readings, deep.passed);
        assert!(deep.readings > 0);
        assert_eq!(deep.passed, 0);
    }

    // The clock goes back once: said once, and the readings after it pass.
    let said: Vec<(usize, &Tried)> =
        trial.readings.iter().enumerate().filter(|(_, tried)| tried.verdict.marks().contains(Check::Time)).collect();
    for (_, tried) in &said {
        println!("{}: {}", tried.time_ms, tried.verdict);
    }
    assert_eq!(said.len(), 1);
    let (at, tried) = said[0];
    assert_eq!(tried.verdict.action(), Action::Flag);
    assert!(tried.verdict.to_string().contains("went back: the stamp is 55 min before"), "{}", tried.verdict);
    assert!(trial.readings[at + 1..at + 20].iter().all(|tried| tried.verdict.action() == Action::Pass));
    assert!(trial.events.is_empty(), "{:?}", trial.events);
}

#[test]
fn a_clock_that_goes_back_locks_nobody_out() {
    let recording = machine();
    let trial = try_rules(&rules("time = { action = \"block\" }"), TOPIC, &recording);
    let counts = trial.counts();
    println!("blocking: {counts:?}");
    // Four are held back, the fifth rising stamp is believed.
    assert_eq!((counts.blocked, counts.flagged), (4, 1));
}
