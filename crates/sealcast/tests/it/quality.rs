//! Rules learnt from and tried on a real machine's recording (`tests/data/README.md`), with the real binary.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::harness::{refuse, sealcast, succeed};

/// The labelled failures.
const WINDOWS: [&str; 4] = [
    "2013-12-10 06:25:00/2013-12-12 05:35:00",
    "2013-12-15 17:50:00/2013-12-17 17:00:00",
    "2014-01-27 14:20:00/2014-01-29 13:30:00",
    "2014-02-07 14:55:00/2014-02-09 14:05:00",
];

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

fn data() -> PathBuf {
    project("tests/data/machine_temperature_system_failure.csv")
}

fn percent(figures: &Value) -> f64 {
    figures["found_percent"].as_f64().unwrap()
}

#[test]
#[allow(clippy::print_stdout)]
fn learnt_before_any_failure_the_rules_find_the_deep_falls() {
    let dir = tempfile::tempdir().unwrap();
    let rules = dir.path().join("rules.toml");
    let learnt =
        succeed(sealcast().args(["quality", "learn"]).arg(data()).args(["--first", "5", "--filter", "plant/+/t"]));
    assert!(learnt.contains("# smallest 52.69, median 82.63, largest 94.37"), "{learnt}");
    std::fs::write(&rules, learnt.replace("plant/+/t", "plant/+/temperature")).unwrap();

    let plot = dir.path().join("machine.svg");
    let windows = WINDOWS.iter().flat_map(|window| ["--window", window]);
    let out = succeed(
        sealcast()
            .args(["quality", "try"])
            .args([&rules, &data()])
            .args(["--json", "--unit", "temperature, °F", "--plot"])
            .arg(&plot)
            .args(windows.clone()),
    );
    let tried: Value = serde_json::from_str(&out).unwrap();
    for (at, window) in tried["windows"].as_array().unwrap().iter().enumerate() {
        println!("window {}: {window}", at + 1);
    }
    println!("outside: {}", tried["outside"]);
    assert_eq!(tried["topic"], "plant/x/temperature");
    assert_eq!(tried["readings"], 22_695);
    for deep in [1, 3] {
        let window = &tried["windows"][deep];
        assert!(percent(window) > 5.0, "window {}: {window}", deep + 1);
    }
    assert!(percent(&tried["outside"]) < 0.5, "{}", tried["outside"]);
    let reasons = tried["reasons"].as_array().unwrap();
    let clock = reasons.iter().find(|why| why["check"] == "time").unwrap();
    assert_eq!(clock["readings"], 1);
    assert_eq!(clock["reason"], "the device's clock went back: the stamp is 55 min before the last one");

    // The same as a table.
    let table = succeed(sealcast().args(["quality", "try"]).args([&rules, &data()]).args(windows));
    for text in ["READINGS", "outside of these", "2014-01-07 02:00:00Z", "55 min before the last one"] {
        assert!(table.contains(text), "{text}\n{table}");
    }

    // The picture of docs/quality.md.
    let (drawn, committed) = (std::fs::read_to_string(&plot).unwrap(), project("docs/img/quality-machine.svg"));
    if std::env::var_os("SEALCAST_BLESS").is_some() {
        std::fs::write(&committed, &drawn).unwrap();
    }
    assert!(std::fs::read_to_string(committed).is_ok_and(|text| text == drawn), "docs/img/quality-machine.svg is old");
}

#[test]
fn what_cannot_be_tried_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let good = file("good.toml", "[[quality]]\nfilter = 'a/b'\nrange = { max = 5 }\n");
    let values = file("values.csv", "2024-05-01 06:00:00,4\n2024-05-01 06:00:10,6\n");
    let check = |args: &[&str], said: &str| {
        let error = refuse(["quality"].iter().chain(args));
        assert!(error.contains(said), "{args:?}: {error}");
    };
    check(
        &["try", &good, &file("bad.csv", "2024-05-01 06:00:00,4\nyesterday,5\n")],
        "line 2, column 1: \"yesterday\" is not a time",
    );
    check(&["try", &good, &values, "--topic", "c"], "no [[quality]] table has a filter that matches topic c");
    check(
        &["try", &file("typo.toml", "[[quality]]\nfilter = 'a'\nrange = { mx = 5 }\n"), &values],
        "unknown field `mx`",
    );
    check(&["try", &good, &values, "--window", "soon"], "give two times with / between them, for example '2024");
    check(&["try", "missing.toml", &values], "missing.toml");
    check(&["learn", &values], "rules are learnt from at least 50");
    check(&["learn", &values, "--first", "0"], "above 0 and at most 100");

    let out = succeed(sealcast().args(["quality", "try", &good, &values, "--json"]));
    let tried: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&tried["blocked"], &tried["sent"]), (&1.into(), &1.into()));
    assert_eq!(tried["reasons"][0]["reason"], "6 is above the largest allowed value 5");
    assert_eq!(tried["reasons"][0]["first"], "2024-05-01 06:00:10Z");
}

/// A file of Home Assistant's with two sensors, the newest first, one of them in a spreadsheet's way.
#[test]
fn what_was_understood_stands_before_the_figures() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let mut rows = Vec::new();
    for minute in 0..120 {
        let (hour, minute) = (minute / 60, minute % 60);
        let value = if minute == 7 { "unavailable".to_owned() } else { format!("\"20,{:02}\"", 10 + minute * 7 % 23) };
        rows.push(format!("sensor.a,{value},2026-03-01 {hour:02}:{minute:02}:00"));
        rows.push(format!("sensor.b,\"900,5\",2026-03-01 {hour:02}:{minute:02}:30"));
    }
    rows.push("entity_id,state,last_changed".to_owned());
    rows.reverse();
    let data = file("history.csv", &rows.join("\n"));
    let options = ["--where", "entity_id=sensor.a", "--time-zone", "Europe/Berlin"];

    // Both read by the same options, and what learn writes is TOML.
    let learnt = succeed(sealcast().args(["quality", "learn", &data, "--filter", "home/t"]).args(options));
    let rules = file("rules.toml", &learnt);
    let read = [
        "columns: time 3 (last_changed), value 2 (state); only rows with entity_id=sensor.a",
        "separator: comma, decimal sign: comma, encoding: UTF-8",
        "time zone: Europe/Berlin, because the stamps name none",
        "order: the file has the newest first; reversed",
        "rows: 120; left out by the conditions: 120; not numbers: 2 (unavailable 2)",
    ];
    for line in read {
        assert!(learnt.contains(&format!("#   {line}\n")), "{line}\n{learnt}");
    }
    assert!(learnt.starts_with("# Read from history.csv\n"), "{learnt}");

    let tried = succeed(sealcast().args(["quality", "try", &rules, &data]).args(options));
    assert!(tried.starts_with(&read.join("\n")), "{tried}");
    assert!(tried.find("rows: 120") < tried.find("READINGS"), "{tried}");
    assert!(
        tried.contains("120 readings from 2026-02-28 23:00:00Z to 2026-03-01 00:59:00Z, one in 60 s")
            || tried.contains("120 readings from 2026-02-28 23:00:00Z to 2026-03-01 00:59:00Z, one in 1 min"),
        "{tried}"
    );

    let json = succeed(sealcast().args(["quality", "try", &rules, &data, "--json"]).args(options));
    let tried: Value = serde_json::from_str(&json).unwrap();
    let read = &tried["read"];
    assert_eq!((&read["time_column"]["name"], &read["value_column"]["number"]), (&"last_changed".into(), &2.into()));
    assert_eq!(
        (&read["delimiter"], &read["decimal"], &read["encoding"]),
        (&"comma".into(), &"comma".into(), &"UTF-8".into())
    );
    assert_eq!((&read["time_zone"], &read["rows"]), (&"Europe/Berlin".into(), &120.into()));
    assert_eq!((&read["rows_left_out"], &read["not_numbers"]), (&120.into(), &2.into()));
    assert_eq!(read["words"]["unavailable"], 2);

    // For both the same is refused, with what helps.
    for args in [vec!["learn", &data], vec!["try", &rules, &data]] {
        let error = refuse(["quality"].iter().chain(&args));
        assert!(error.contains("--where 'entity_id=…'") && error.contains("sensor.a, sensor.b"), "{error}");
    }
    let error = refuse(["quality", "learn", &data, "--time-zone", "Berlin"]);
    assert!(error.contains("is not a time zone: give an IANA name"), "{error}");
}

#[test]
fn the_rules_are_for_the_topic_that_was_chosen() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log.csv");
    let row = |at: u32| format!("2026-03-01 00:{:02}:{:02},plant/{}/temp,2{}\n", at / 60, at % 60, at % 2, at % 7);
    std::fs::write(&path, (0..200).map(row).collect::<String>()).unwrap();
    let learn = |args: &[&str]| succeed(sealcast().args(["quality", "learn"]).arg(&path).args(args));
    let chosen = ["--where", "2=plant/1/temp"];
    let learnt = learn(&chosen);
    assert!(learnt.contains("filter = \"plant/1/temp\"") && !learnt.contains("every topic"), "{learnt}");
    let learnt = learn(&[&chosen[..], &["--filter", "plant/+/temp"]].concat());
    assert!(learnt.contains("filter = \"plant/+/temp\""), "{learnt}");
    let error = refuse(["quality", "learn", path.to_str().unwrap()]);
    assert!(error.contains("--where '2=…'") && error.contains("plant/0/temp, plant/1/temp"), "{error}");
}
