//! Each rule on short sequences, once a second, and how each ends by itself.

use sealcast_quality::{Action, Check, Checker, Decision, Input, Marks, Reason, Reported, Reporter, SilenceEvent};
use sealcast_reading::{Expected, Reading, Special, Value};

use super::{TOPIC, check_one, judge, number, rules, stamped};

#[test]
fn range() {
    let keys = "range = { min = 0, max = 50 }";
    assert_eq!(
        judge(keys, &["0", "50", "50.01", "-0.1", "20"]),
        ["pass", "pass", "block range", "block range", "pass"]
    );
    assert_eq!(judge("range = { max = 1, action = \"flag\" }", &["2"]), ["flag range"]);
}

#[test]
fn step_blocks_until_the_new_level_is_consistent() {
    let keys = "accept_after = 3\nstep = { max = 5, action = \"block\" }";
    let expected = ["pass", "block step", "pass", "block step", "block step", "flag level", "pass", "block step"];
    assert_eq!(judge(keys, &["20", "60", "21", "60", "61", "60", "62", "21"]), expected);
    // Values that don't agree with one another are never a level.
    let wild = ["20", "60", "90", "60", "90", "60", "90"];
    assert!(judge(keys, &wild).iter().skip(1).all(|verdict| verdict == "block step"));
}

#[test]
fn step_flags_once() {
    let keys = "step = { max = 5, action = \"flag\" }";
    assert_eq!(judge(keys, &["20", "60", "61"]), ["pass", "flag step", "pass"]);
}

#[test]
fn rate_is_by_time() {
    let keys = "rate = { max_per_s = 2, action = \"block\" }";
    let mut checker = Checker::new(rules(keys), 0);
    let mut check = |value: &str, time_ms: u64, action: Action| {
        let verdict = check_one(&mut checker, &stamped(number(value), time_ms), time_ms);
        assert_eq!(verdict.action(), action, "{value} at {time_ms}: {verdict}");
    };
    check("20", 1_000, Action::Pass);
    check("30", 2_000, Action::Block);
    check("30", 6_000, Action::Pass);
    // No time went by: the step rule's concern.
    check("90", 6_000, Action::Pass);
}

#[test]
fn stuck_by_count_and_by_time() {
    let keys = "stuck = { readings = 3, action = \"block\" }";
    // 20 and 20.00 are the same value. The first other one ends it.
    let expected = ["pass", "pass", "block stuck", "block stuck", "pass"];
    assert_eq!(judge(keys, &["20", "20.00", "20", "20", "21"]), expected);
    assert_eq!(judge("stuck = { for_ms = 2_000 }", &["1", "1", "1"]), ["pass", "pass", "flag stuck"]);
}

#[test]
fn a_sensor_stuck_at_a_new_level_is_not_locked_out() {
    let keys = "accept_after = 3\nstep = { max = 5, action = \"block\" }\nstuck = { readings = 2, action = \"block\" }";
    let values = ["20", "60", "60", "60", "60", "61", "62"];
    let verdicts = judge(keys, &values);
    assert_eq!(verdicts[1], "block step");
    assert!(verdicts[2..5].iter().all(|verdict| verdict.starts_with("block")));
    assert_eq!(verdicts[5..], ["flag level", "pass"]);
}

#[test]
fn spike_is_found_and_a_shift_is_believed() {
    let keys = "accept_after = 3\nspike = { window = 5, sigmas = 4, floor = 1, action = \"block\" }";
    let calm = ["20", "20.1", "19.9", "20", "20.1"];
    let with = |more: &[&'static str]| judge(keys, &[&calm[..], more].concat())[5..].to_vec();
    assert_eq!(with(&["85", "20", "20.1"]), ["block spike", "pass", "pass"]);
    assert_eq!(
        with(&["30", "30.2", "30.1", "30.3", "30.2", "30.1", "20"]),
        ["block spike", "block spike", "flag level", "pass", "pass", "pass", "block spike"]
    );
    // Values that have become noisy for good: a window of spikes, consistent or not, is believed.
    let noisy = with(&["30", "10", "25", "14", "24", "12", "28"]);
    assert_eq!(noisy[..5], ["block spike", "block spike", "block spike", "block spike", "flag level"]);
    assert!(noisy[5..].iter().all(|verdict| verdict == "pass"), "{noisy:?}");
}

#[test]
fn equal_values_without_a_floor_judge_nothing() {
    assert_eq!(judge("spike = { window = 5 }", &["1", "1", "1", "1", "1", "2"])[5], "pass");
}

#[test]
fn sentinels_unless_they_are_plausible() {
    let keys = "sentinels = {}\nrange = { min = -50, max = 150 }";
    assert_eq!(
        judge(keys, &["20", "85.0", "65535", "-32768"]),
        ["pass", "block sentinel", "block sentinel", "block sentinel"]
    );
    assert_eq!(judge(keys, &["82", "85", "86"]), ["pass", "pass", "pass"]);
    let mut checker = Checker::new(rules(keys), 0);
    for special in [Special::Nan, Special::Null, Special::NegativeInfinity] {
        let verdict = check_one(&mut checker, &Reading::new(Value::Special(special)), 1);
        assert_eq!((verdict.action(), verdict.marks().contains(Check::Sentinel)), (Action::Block, true), "{verdict}");
    }
    let mut checker = Checker::new(rules("range = { max = 1 }"), 0);
    assert_eq!(check_one(&mut checker, &Reading::new(Value::Special(Special::Nan)), 1).action(), Action::Block);
}

#[test]
fn stamps_and_counts() {
    let mut checker =
        Checker::new(rules("time = { gap_ms = 5_000, ahead_ms = 1_000 }\nsequence = { action = \"block\" }"), 0);
    let mut check = |time_ms: u64, sequence: u64, now_ms: u64, expected: &str| {
        let reading = Reading { value: number("1"), unit: None, time_ms: Some(time_ms), sequence: Some(sequence) };
        let verdict = check_one(&mut checker, &reading, now_ms);
        assert_eq!(verdict.to_string(), expected, "{time_ms} {sequence}");
    };
    check(10_000, 7, 10_000, "");
    check(11_000, 8, 11_000, "");
    check(
        11_000,
        8,
        11_100,
        "sequence: count 8 is that of the last reading again; time: the stamp is that of the last reading again",
    );
    check(12_000, 12, 12_000, "sequence: count 12: 3 readings before it are missing");
    check(20_000, 13, 20_000, "time: 8 s since the last stamp, expected within 5 s");
    check(30_000, 14, 21_000, "time: the stamp is 9 s ahead of this agent's clock");
    check(21_500, 15, 21_500, "");
    check(15_000, 16, 22_000, "time: the device's clock went back: the stamp is 6.5 s before the last one");
    // The device restarted and counts from 0: believed after five.
    for at in 0..4 {
        check(16_000 + at, at, 23_000 + at, &format!("sequence: count {at} after 16: out of order, or a restart"));
    }
    check(17_000, 4, 24_000, "sequence: counting from 4 is believed after 5 rising counts");
    check(18_000, 5, 25_000, "");
}

#[test]
fn schema_of_the_message() {
    let rules =
        rules(r#"schema = { json = '{"type":"object","properties":{"t":{"type":"number"}},"required":["t"]}' }"#);
    let mut checker = Checker::new(rules, 0);
    let reading = Reading::new(number("1"));
    let mut check = |document: Option<&str>, action: Action| {
        let document = document.map(|text| serde_json::from_str(text).unwrap());
        let input = Input { document: document.as_ref(), ..Input::new(TOPIC, "t", &reading) };
        let verdict = checker.handle_reading(&input, 1);
        assert_eq!(verdict.action(), action, "{verdict}");
    };
    check(Some(r#"{"t":1}"#), Action::Pass);
    check(Some(r#"{"t":"1"}"#), Action::Block);
    check(Some("{}"), Action::Block);
    check(None, Action::Block);
}

#[test]
fn silence_by_time_and_by_learnt_period() {
    let mut checker = Checker::new(rules("silent = { periods = 3, after_ms = 60_000 }"), 0);
    let reading = Reading::new(number("1"));
    assert_eq!(checker.poll_timeout(), None);
    for at in 1..=6 {
        check_one(&mut checker, &reading, at * 1000);
    }
    checker.handle_timeout(8_999);
    assert_eq!(checker.poll_event(), None);
    assert_eq!(checker.poll_timeout(), Some(9_000));
    checker.handle_timeout(9_000);
    let silent = SilenceEvent::Silent { topic: TOPIC.into(), name: String::new(), since_ms: 6_000, limit_ms: 3_000 };
    assert_eq!(checker.poll_event(), Some(silent));
    assert_eq!(checker.poll_timeout(), None, "said once");
    check_one(&mut checker, &reading, 20_000);
    assert_eq!(checker.poll_event().unwrap().to_string(), format!("heard: {TOPIC} again after 14 s"));
    assert_eq!(checker.poll_timeout(), Some(23_000));
}

#[test]
fn a_named_topic_that_never_speaks_is_silent() {
    let rules = super::file("[[quality]]\nfilter = \"a/b\"\nsilent = { after_ms = 1_000 }").unwrap();
    let mut checker = Checker::new(rules.into(), 500);
    assert_eq!(checker.poll_timeout(), Some(1_500));
    checker.handle_timeout(1_500);
    assert!(matches!(checker.poll_event(), Some(SilenceEvent::Silent { since_ms: 500, .. })));
}

#[test]
fn topics_without_rules_are_untouched() {
    let mut checker = Checker::new(rules("range = { max = 1 }"), 0);
    let reading = Reading::new(Value::Text("any".into()));
    let verdict = checker.handle_reading(&Input::new("other", "", &reading), 0);
    assert!(!verdict.is_checked() && verdict.action() == Action::Pass);
    assert!(checker.export().is_empty());
}

#[test]
fn names_have_pasts_of_their_own() {
    let mut checker = Checker::new(rules("step = { max = 1, action = \"block\" }"), 0);
    for (name, value) in [("t", "20"), ("h", "60"), ("t", "20.5"), ("h", "60.5")] {
        let reading = Reading::new(number(value));
        let verdict = checker.handle_reading(&Input::new(TOPIC, name, &reading), 1);
        assert_eq!(verdict.action(), Action::Pass, "{name} {verdict}");
    }
    let reading = Reading::new(number("60"));
    let verdict = checker.handle_reading(&Input::new(TOPIC, "t", &reading), 2);
    assert!(matches!(verdict.findings()[0].reason, Reason::Step { .. }));
}

#[test]
fn messages_without_the_value_are_no_readings() {
    let empty = |special| Reading::new(Value::Special(special));
    let said = |keys: &str, special| {
        let verdict = check_one(&mut Checker::new(rules(keys), 0), &empty(special), 1);
        (verdict.action(), verdict.marks().to_string(), verdict.to_string())
    };
    let check = |keys: &str, special, action, marks: &str, reason: &str| {
        assert_eq!(said(keys, special), (action, marks.to_owned(), reason.to_owned()), "{keys} {special}");
    };
    let (missing, null) = (Special::Absent, Special::Null);
    check("range = { max = 1 }", missing, Action::Pass, "", "missing: the message has no value");
    check("range = { max = 1 }", null, Action::Pass, "", "null: the value is null");
    check("missing = 'flag'", missing, Action::Flag, "missing", "missing: the message has no value");
    check("missing = 'block'", missing, Action::Block, "missing", "missing: the message has no value");
    check("missing = 'block'", null, Action::Pass, "", "null: the value is null");
    check("null = 'flag'", null, Action::Flag, "null", "null: the value is null");
    check("null = 'block'", missing, Action::Pass, "", "missing: the message has no value");
    // Whoever has the signs for "no value" blocked means null too, and not what other messages do not say.
    check("sentinels = {}", null, Action::Block, "sentinel", "sentinel: the value is null");
    check("sentinels = { action = 'flag' }\nnull = 'pass'", null, Action::Pass, "", "null: the value is null");
    check("sentinels = {}", missing, Action::Pass, "", "missing: the message has no value");

    // Silence goes on, and neither the level nor the run of equal values is touched.
    let keys = "silent = { after_ms = 10_000 }\nstuck = { readings = 3 }\nstep = { max = 1 }";
    let mut checker = Checker::new(rules(keys), 0);
    check_one(&mut checker, &Reading::new(number("20")), 1_000);
    for now_ms in [5_000, 9_000, 13_000] {
        let verdict = check_one(&mut checker, &empty(if now_ms == 9_000 { null } else { missing }), now_ms);
        assert_eq!((verdict.action(), verdict.is_checked()), (Action::Pass, true));
        checker.handle_timeout(now_ms);
    }
    assert!(matches!(checker.poll_event(), Some(SilenceEvent::Silent { since_ms: 1_000, .. })));
    check_one(&mut checker, &empty(missing), 14_000);
    assert_eq!(checker.poll_event(), None, "it is not heard either");
    assert_eq!(check_one(&mut checker, &Reading::new(number("20")), 15_000).to_string(), "");
    assert!(matches!(checker.poll_event(), Some(SilenceEvent::Heard { after_ms: 14_000, .. })));
    // A topic that never had a value is not waited for.
    let mut checker = Checker::new(rules(keys), 0);
    assert!(check_one(&mut checker, &empty(missing), 1).is_checked());
    assert_eq!((checker.poll_timeout(), checker.changes().len()), (None, 0));
}

#[test]
fn counts_and_stamps_of_messages_without_the_value() {
    let keys = "sequence = {}\ntime = { gap_ms = 5_000 }\nmissing = 'flag'";
    let mut checker = Checker::new(rules(keys), 0);
    let expected = Expected { time: true, sequence: true };
    let mut check = |value: Value, time_ms: Option<u64>, sequence: Option<u64>, said: &str| {
        let reading = Reading { value, unit: None, time_ms, sequence };
        let verdict = checker.handle_reading(&Input { expected, ..Input::new(TOPIC, "", &reading) }, 1);
        assert_eq!(verdict.to_string(), said, "{reading:?}");
    };
    let none = || Value::Special(Special::Null);
    check(number("1"), Some(1_000), Some(1), "");
    // Its own stamp is that of the reading which it stands beside; it is counted.
    check(none(), Some(1_000), Some(2), "null: the value is null");
    check(number("1"), Some(2_000), Some(3), "");
    check(none(), Some(2_000), Some(5), "sequence: count 5: 1 readings before it are missing; null: the value is null");
    check(number("1"), None, Some(6), "missing: the message has no time");
    check(number("1"), Some(3_000), None, "missing: the message has no sequence");
}

#[test]
fn the_schema_judges_messages_without_the_value_too() {
    let keys = r#"schema = { json = '{"type":"object","required":["battery"]}' }"#;
    let mut checker = Checker::new(rules(keys), 0);
    let reading = Reading::new(Value::Special(Special::Absent));
    for (document, action) in
        [(serde_json::json!({"battery": 1}), Action::Pass), (serde_json::json!({}), Action::Block)]
    {
        let input = Input { document: Some(&document), ..Input::new(TOPIC, "", &reading) };
        assert_eq!(checker.handle_reading(&input, 1).action(), action, "{document}");
    }
}

#[test]
fn a_message_without_the_value_is_always_sent_and_is_no_report() {
    let mut reporter = Reporter::new(rules("report = { dead_band = 1 }"));
    let mut report = |value: Value, now_ms| {
        let reported = Reported { topic: TOPIC, name: "", value: &value, time_ms: None, marks: Marks::NONE };
        matches!(reporter.handle_reading(&reported, now_ms), Decision::Send(_))
    };
    assert!(report(number("20"), 1));
    assert!(report(Value::Special(Special::Absent), 2) && report(Value::Special(Special::Null), 3));
    assert!(!report(number("20.5"), 4), "20 is still what was sent last");
    assert_eq!(reporter.saved().map(|(_, _, saved)| saved.seen).sum::<u64>(), 2);
}
