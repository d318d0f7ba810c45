//! Report on change: the band, the heartbeat, the smallest interval, and the receiver.

use proptest::prelude::*;
use sealcast_quality::{Cause, Decision, Marks, Reported, Reporter, Restorer};
use sealcast_reading::{Decimal, Value};

use super::{TOPIC, hundredths, rules};

fn decide(reporter: &mut Reporter, value: &Value, now_ms: u64, marks: Marks) -> Decision {
    reporter.handle_reading(&Reported { topic: TOPIC, name: "", value, time_ms: Some(now_ms), marks }, now_ms)
}

fn check(keys: &str, readings: &[(i64, u64, Decision)]) {
    let mut reporter = Reporter::new(rules(keys));
    for (value, now_ms, expected) in readings {
        let found = decide(&mut reporter, &hundredths(*value), *now_ms, Marks::NONE);
        assert_eq!(found, *expected, "{value} at {now_ms}");
    }
}

#[test]
fn bands() {
    use Decision::{Send, Skip};
    let first = Send(Cause::First);
    let change = Send(Cause::Change);
    check("report = { dead_band = 0.1 }", &[(100, 1, first), (110, 2, Skip), (90, 3, Skip), (89, 4, change)]);
    check("report = { dead_band_percent = 10 }", &[(100, 1, first), (110, 2, Skip), (111, 3, change), (122, 4, Skip)]);
    check("report = {}", &[(100, 1, first), (100, 2, Skip), (101, 3, change)]);
    check("range = { max = 1 }", &[(100, 1, Send(Cause::NoRule)), (100, 2, Send(Cause::NoRule))]);
}

#[test]
fn heartbeat_is_never_missed_while_readings_come() {
    let mut reporter = Reporter::new(rules("report = { dead_band = 1, heartbeat_ms = 10_000 }"));
    let mut last_ms = 0;
    for at in 1..200_u64 {
        let now_ms = at * 1500;
        if let Decision::Send(_) = decide(&mut reporter, &hundredths(100), now_ms, Marks::NONE) {
            assert!(at < 10 || now_ms - last_ms <= 10_000, "{} ms", now_ms - last_ms);
            last_ms = now_ms;
        }
    }
    let saved = reporter.saved().next().unwrap().2;
    assert!(saved.heartbeats > 30 && saved.sent == saved.heartbeats + 1, "{saved:?}");
}

#[test]
fn verdicts_and_clocks_are_told() {
    let mut reporter = Reporter::new(rules("report = { dead_band = 1 }"));
    let value = hundredths(100);
    let mut marks = Marks::NONE;
    marks.insert(sealcast_quality::Check::Stuck);
    decide(&mut reporter, &value, 1, Marks::NONE);
    assert_eq!(decide(&mut reporter, &value, 2, marks), Decision::Send(Cause::Verdict));
    assert_eq!(decide(&mut reporter, &value, 3, marks), Decision::Skip);
    assert_eq!(decide(&mut reporter, &value, 4, Marks::NONE), Decision::Send(Cause::Verdict));
    let back = Reported { topic: TOPIC, name: "", value: &value, time_ms: Some(2), marks: Marks::NONE };
    assert_eq!(reporter.handle_reading(&back, 5), Decision::Send(Cause::Clock));
}

#[test]
fn what_is_kept_is_sent_when_the_interval_ends() {
    let mut reporter = Reporter::new(rules("report = { dead_band = 0.1, min_interval_ms = 1000 }"));
    let mut decide = |value: i64, now_ms: u64| decide(&mut reporter, &hundredths(value), now_ms, Marks::NONE);
    assert_eq!(decide(100, 0), Decision::Send(Cause::First));
    assert_eq!(decide(200, 100), Decision::Keep { until_ms: 1000 });
    // Back in the band: what was kept is not true any more.
    assert_eq!(decide(105, 200), Decision::Skip);
    assert_eq!(decide(300, 900), Decision::Keep { until_ms: 1000 });
    assert_eq!(reporter.poll_kept(999), None);
    assert!(reporter.poll_timeout().unwrap() <= 1000);
    assert_eq!(reporter.poll_kept(1000), Some((TOPIC.to_owned(), String::new())));
    assert_eq!(reporter.poll_kept(1000), None);
    assert_eq!(reporter.poll_timeout(), None);
    let value = hundredths(300);
    assert_eq!(super::report::decide(&mut reporter, &value, 1100, Marks::NONE), Decision::Skip);
}

#[test]
fn repeats_end_with_the_heartbeat() {
    let mut restorer = Restorer::new(rules("restore = { cycle_ms = 1000, heartbeat_ms = 3_500, grace_ms = 100 }"));
    restorer.handle_message(TOPIC, 50_000, true, 60_000);
    assert_eq!(restorer.poll_timeout(), Some(61_100));
    assert_eq!(restorer.poll_repeat(61_099), None);
    let mut times = Vec::new();
    while let Some(repeat) = restorer.poll_repeat(99_000) {
        times.push((repeat.time_ms, repeat.age_ms));
    }
    assert_eq!(times, [(51_000, 1000), (52_000, 2000), (53_000, 3000)]);
    assert_eq!(restorer.poll_timeout(), None);
    restorer.handle_message(TOPIC, 60_000, false, 100_000);
    assert_eq!(restorer.poll_timeout().and_then(|at| restorer.poll_repeat(at + 99_000)), None, "not fresh");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever comes, with restarts between: a receiver that holds the last one is within the band.
    #[test]
    fn never_farther_than_the_band(
        band in 0_i64..300,
        values in prop::collection::vec((-2000_i64..2000, 0_u64..5000, prop::bool::weighted(0.05)), 1..200),
    ) {
        let rules = rules(&format!("report = {{ dead_band = \"{}\", heartbeat_ms = 20_000 }}", Decimal::new(band.into(), 2)));
        let mut reporter = Reporter::new(rules.clone());
        let mut held = None;
        let mut now_ms = 0;
        for (value, gap_ms, restart) in values {
            if restart {
                reporter = Reporter::import(rules.clone(), &reporter.export()).unwrap();
            }
            now_ms += gap_ms;
            if let Decision::Send(_) = decide(&mut reporter, &hundredths(value), now_ms, Marks::NONE) {
                held = Some(value);
            }
            prop_assert!((value - held.unwrap()).abs() <= band);
        }
    }

    /// With a smallest interval the same holds once the interval after the last one sent is over.
    #[test]
    fn within_the_band_when_the_interval_is_over(
        values in prop::collection::vec((-500_i64..500, 1_u64..800), 1..200),
    ) {
        let mut reporter = Reporter::new(rules("report = { dead_band = 1, min_interval_ms = 1000 }"));
        let (mut held, mut kept, mut sent_ms, mut now_ms) = (0, None, None::<u64>, 0);
        for (value, gap_ms) in values {
            now_ms += gap_ms;
            // The driver's timer.
            while let Some(due) = reporter.poll_timeout().filter(|due| *due <= now_ms) {
                if reporter.poll_kept(due).is_some() {
                    held = kept.take().unwrap();
                    prop_assert!(sent_ms.is_none_or(|last| due - last >= 1000));
                    sent_ms = Some(due);
                }
            }
            match decide(&mut reporter, &hundredths(value), now_ms, Marks::NONE) {
                Decision::Send(_) => {
                    prop_assert!(sent_ms.is_none_or(|last| now_ms - last >= 1000));
                    (held, kept, sent_ms) = (value, None, Some(now_ms));
                }
                Decision::Skip => kept = None,
                Decision::Keep { until_ms } => {
                    prop_assert!(until_ms > now_ms && until_ms <= now_ms + 1000);
                    kept = Some(value);
                }
            }
            prop_assert!(kept.is_some() || (value - held).abs() <= 100);
        }
    }
}

#[test]
fn what_may_be_lost_is_sent_again() {
    let mut reporter = Reporter::new(rules("report = { dead_band = 1 }"));
    let value = hundredths(100);
    decide(&mut reporter, &value, 1, Marks::NONE);
    assert_eq!(decide(&mut reporter, &value, 2, Marks::NONE), Decision::Skip);
    reporter.forget_sent(TOPIC, "");
    reporter.forget_sent("another", "");
    assert_eq!(decide(&mut reporter, &value, 3, Marks::NONE), Decision::Send(Cause::First));
    assert_eq!(decide(&mut reporter, &value, 4, Marks::NONE), Decision::Skip);
}

#[test]
fn no_time_is_left_out_when_readings_come_sooner_than_their_stamps() {
    let mut restorer = Restorer::new(rules("restore = { cycle_ms = 1000, heartbeat_ms = 5000 }"));
    let missed = |restorer: &mut Restorer, time_ms| {
        std::iter::from_fn(|| restorer.poll_missed(TOPIC, time_ms)).map(|repeat| repeat.time_ms).collect::<Vec<_>>()
    };
    assert!(missed(&mut restorer, 10_000).is_empty());
    restorer.handle_message(TOPIC, 10_000, true, 1);
    assert_eq!(missed(&mut restorer, 13_100), [11_000, 12_000]);
    restorer.handle_message(TOPIC, 13_100, true, 2);
    assert!(missed(&mut restorer, 14_100).is_empty());
    assert!(missed(&mut restorer, 5_000).is_empty(), "a clock that went back leaves nothing out");
    restorer.handle_message(TOPIC, 20_000, true, 3);
    assert_eq!(missed(&mut restorer, 90_000).len(), 5, "never beyond the heartbeat");
    assert!(missed(&mut restorer, 90_000).is_empty());
}
