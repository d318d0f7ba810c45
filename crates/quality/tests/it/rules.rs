//! The rules file: what is read, what is refused and how that is said.

use super::{file, rules};

#[test]
fn reads_all_keys() {
    let rules = rules(
        r#"
        accept_after = 5
        range = { min = -20, max = 120.5, action = "block" }
        step = { max = "10", action = "block" }
        rate = { max_per_s = 0.5 }
        stuck = { readings = 50, for_ms = 3_600_000 }
        silent = { periods = 5, after_ms = 60_000 }
        spike = { window = 11, sigmas = 4, floor = 0.5 }
        schema = { json = '{"type":"object","required":["t"]}' }
        time = { gap_periods = 3, ahead_ms = 60_000 }
        sequence = { wrap = 65536 }
        sentinels = { values = [65535, -32768, 85.0], near = 5 }
        report = { dead_band = 0.5, heartbeat_ms = 600_000, min_interval_ms = 1_000 }
        restore = { cycle_ms = 1_000, heartbeat_ms = 600_000 }
        fail_safe = { on_silence = { after_ms = 5_000, publish = "open", topic = "valve" }, on_blocked = { after_ms = 0, publish = "open" } }
        archive = { deviation = 0.5, max_delay_ms = 60_000 }
        record = "chain"
        record_decimals = 2
        "#,
    );
    let found = rules.find(super::TOPIC).unwrap();
    assert!(found.has_checks() && found.wants_document() && found.report().is_some() && found.restore().is_some());
    assert!(found.fail_safe().is_some() && found.archive().is_some());
    assert_eq!(found.record().map(|record| record.decimals), Some(Some(2)));
    assert!(rules.find("plant/1/pressure").is_none());
}

#[test]
fn says_what_is_wrong() {
    let check = |keys: &str, part: &str| {
        let error = file(&format!("[[quality]]\nfilter = \"a/#\"\n{keys}")).unwrap_err();
        assert!(error.contains(part), "{keys}: {error}");
    };
    check("rang = {}", "unknown field `rang`");
    check(
        "range = { min = 5, max = 3 }",
        "[[quality]] table number 1 (filter = \"a/#\") cannot be used: range: min (5) is above max (3): swap them",
    );
    check("range = {}", "give min, max or both");
    check("range = { min = 1, limit = 2 }", "unknown field `limit`");
    check("range = { min = 1, action = \"drop\" }", "unknown variant `drop`");
    check("step = { max = 0 }", "step.max: must be above 0, not 0");
    check("rate = { max_per_s = nan }", "rate.max_per_s");
    check("stuck = { readings = 1 }", "at least 2");
    check("silent = { after_ms = 0 }", "1 ms to ten years");
    check("silent = { periods = 1 }", "1.5 to 10000");
    check("spike = { window = 3 }", "5 to 255");
    check("schema = { json = \"{\" }", "schema cannot be used: not JSON");
    check("schema = {}", "give either json or file");
    check("schema = { json = '{}', file = 'a' }", "give either json or file");
    check("schema = { file = 'a' }", "a file cannot be read here");
    check("schema = { json = '{\"$ref\":\"http://127.0.0.1/x\"}' }", "none is fetched");
    check("report = { dead_band = 1, dead_band_percent = 1 }", "not both");
    check("report = { dead_band = -1 }", "report.dead_band");
    check("restore = { cycle_ms = 10, heartbeat_ms = 5 }", "at most restore.heartbeat_ms");
    check("fail_safe = {}", "on_silence, on_blocked or both");
    check("fail_safe = { on_silence = { after_ms = 1, publish = \"x\", topic = \"a/+\" } }", "without wildcards");
    check("accept_after = 1", "accept_after: must be from 2 to 1000");
    check("archive = { deviation = 0, max_delay_ms = 1 }", "archive.deviation");
    check("archive = { deviation = 1, max_delay_ms = 1, topic = 'b' }", "leave it out");
    let error = file("[[quality]]\nfilter = \"a\"\n[[quality]]\nfilter = \"a\"").unwrap_err();
    assert!(error.contains("number 2") && error.contains("same filter"), "{error}");
    assert!(file("[[quality]]\nfilter = \"a/#/b\"").unwrap_err().contains("level 2"));
}

#[test]
fn the_most_specific_filter_counts() {
    let rules =
        file("[[quality]]\nfilter = \"#\"\n[[quality]]\nfilter = \"a/+\"\n[[quality]]\nfilter = \"a/b\"").unwrap();
    let check = |topic: &str, filter: &str| assert_eq!(rules.find(topic).unwrap().filter().as_str(), filter);
    check("a/b", "a/b");
    check("a/c", "a/+");
    check("x", "#");
}
