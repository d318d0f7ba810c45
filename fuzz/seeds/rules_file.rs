//! Seeds: rules with readings, stored state, and a short recording.

use std::{fmt::Write as _, sync::Arc};

use sealcast_quality::{Archiver, Checker, FailSafe, Input, Reported, Reporter, RuleSet, TopicSpec};
use sealcast_reading::{Reading, Value};

type Failure = Box<dyn std::error::Error>;

const NOW_MS: u64 = 1_700_000_000_000;

const RULES: &[(&str, &str)] = &[
    ("range", "range = { min = -40, max = 50.5 }"),
    ("step", "step = { max = 5.0, action = 'block' }\naccept_after = 3"),
    ("rate", "rate = { max_per_s = 0.5, action = 'flag' }"),
    ("stuck", "stuck = { readings = 3, for_ms = 5000 }"),
    ("silent", "silent = { after_ms = 2000, periods = 1.5 }"),
    ("spike", "spike = { window = 5, sigmas = 3.0, floor = 0.1, action = 'block' }"),
    ("schema", "schema = { json = '{\"type\":\"number\",\"maximum\":50}' }"),
    ("time", "time = { gap_ms = 5000, gap_periods = 2.0, ahead_ms = 100, action = 'block' }"),
    ("sequence", "sequence = { wrap = 256, action = 'block' }"),
    ("sentinels", "sentinels = { values = [85, 1e2], near = 1.5 }"),
    ("report", "report = { dead_band = 1.5, heartbeat_ms = 60000, min_interval_ms = 500 }"),
    ("percent", "report = { dead_band_percent = 10 }"),
    ("restore", "restore = { cycle_ms = 1000, heartbeat_ms = 5000, grace_ms = 10 }"),
    (
        "fail-safe",
        "range = { max = 9 }\nfail_safe = { on_silence = { after_ms = 3000, publish = '0', topic = 'x' }, on_blocked = { after_ms = 0, publish = '1' } }",
    ),
    ("archive", "archive = { deviation = 0.5, max_delay_ms = 60000 }"),
];

/// Recordings as tools export them, with the choice of options before them.
const EXPORTS: &[(&str, &[u8], &str)] = &[
    (
        "grafana",
        &[2],
        "sep=;\r\n\"Time\";\"T\"\r\n\"2026-03-01 00:00:00\";\"20,95 °C\"\r\n\"2026-03-01 00:01:00\";\"21,02 °C\"\r\n",
    ),
    (
        "home-assistant",
        &[2],
        "entity_id,state,last_changed\na,unavailable,2026-03-01T00:01:00.000Z\na,20.93,2026-03-01T00:00:00.000Z\n",
    ),
    (
        "influx",
        &[2],
        "#group,false,false,false,false,true\n#datatype,string,long,dateTime:RFC3339,double,string\n#default,_result,,,,\n\
         ,result,table,_time,_value,room\n,,0,2026-03-01T00:00:00.123456789Z,20.5,a\n",
    ),
    ("thousands", &[3, 0b10], "t,v\n2026-03-01,\"1,200.5\"\n"),
    ("german", &[3, 0b111], "Datum;Uhrzeit;Wert\n25.10.2026;02:30:00;1.200,5\n25.10.2026;02:10:00;1.201,5\n"),
    ("day-first", &[3, 0b1000], "date\tvalue\n31/03/2024 9:00\t1\n"),
    ("digits", &[3, 0b1_0000], "a,20260301000000,1\nb,20260301000100,2\n"),
    ("series", &[3, 0b100_0000], "sensor|time|x\na|1|2\nb|2|3\n"),
];

/// Time goes on by a second or a little; a value around 20 to one decimal, now and then something else.
fn readings() -> Vec<u8> {
    let mut bytes = Vec::new();
    for at in 0..40u8 {
        let tenths: i16 = if at % 9 == 8 { 850 } else { 200 + i16::from(at % 7) };
        bytes.extend([if at % 5 == 4 { 0x20 } else { 0x40 }, 0, 200, if at == 20 { 0xff } else { 0x15 }, at]);
        bytes.push(if at % 11 == 10 { 230 } else { 1 });
        bytes.extend(tenths.to_be_bytes());
    }
    bytes
}

pub fn seeds() -> Result<Vec<(String, Vec<u8>)>, Failure> {
    let readings = readings();
    let file = |text: &str| [&[0], text.as_bytes(), &[0], readings.as_slice()].concat();
    let mut seeds = Vec::new();
    let mut all = String::new();
    for (name, rule) in RULES {
        let text = format!("[[quality]]\nfilter = \"plant/+/{name}/#\"\n{rule}\n");
        seeds.push((format!("seed-{name}"), file(&text)));
        all.push_str(&text);
    }
    seeds.push(("seed-all".to_owned(), file(&all)));

    let text = "filter = 'a/#'\nspike = { window = 5 }\nsequence = {}\nreport = {}\n\
                archive = { deviation = 0.1, max_delay_ms = 60000 }\n\
                fail_safe = { on_silence = { after_ms = 10, publish = '1' } }";
    let rules = Arc::new(RuleSet::new([toml::from_str::<TopicSpec>(text)?])?);
    let (mut checker, mut reporter) = (Checker::new(rules.clone(), NOW_MS), Reporter::new(rules.clone()));
    let mut archiver = Archiver::new(rules.clone());
    for at in 0..12u32 {
        let now_ms = NOW_MS + u64::from(at) * 1000;
        let reading = Reading {
            value: Value::Number(i64::from(if at > 9 { 90 } else { at % 3 }).into()),
            unit: None,
            time_ms: Some(now_ms),
            // Beyond where the target's own rule begins again at 0.
            sequence: Some(u64::from(at) * 100),
        };
        let input = Input::new("a/b", "", &reading);
        let marks = checker.handle_reading(&input, now_ms).marks();
        let reported = Reported { topic: "a/b", name: "", value: &reading.value, time_ms: reading.time_ms, marks };
        reporter.handle_reading(&reported, now_ms);
        archiver.handle_reading("a/b", "", &reading, marks, now_ms);
    }
    let fail_safe = rules.iter().find_map(|rule| rule.fail_safe()).ok_or("there is one")?;
    let mut fail_safe = FailSafe::new(fail_safe.clone(), NOW_MS);
    fail_safe.handle_blocked(NOW_MS + 5);
    fail_safe.handle_timeout(NOW_MS + 20);
    let archived = archiver.changes().pop().and_then(|row| row.value).ok_or("a row of the archive")?;
    for (choice, name, state) in [
        (0, "checker", checker.export()),
        (1, "reporter", reporter.export()),
        (2, "archive", archived),
        (3, "fail-safe", fail_safe.export()),
    ] {
        seeds.push((format!("seed-state-{name}"), [&[1, choice], state.as_slice()].concat()));
    }

    let mut csv = String::from("timestamp,value\n");
    for at in 0..60 {
        writeln!(csv, "2013-12-02 21:{at:02}:00,{}.{}", 70 + at % 5, at % 10)?;
    }
    seeds.push(("seed-csv".to_owned(), [&[2], csv.as_bytes()].concat()));
    let other = b"\x021386018900;nan\n1386018960;85\n2013-12-02T21:20:00.5+01:00;\n".to_vec();
    seeds.push(("seed-csv-semicolon".to_owned(), other));
    for (name, head, csv) in EXPORTS {
        seeds.push((format!("seed-csv-{name}"), [*head, csv.as_bytes()].concat()));
    }
    let wide = EXPORTS[0].2.encode_utf16().flat_map(u16::to_le_bytes);
    seeds.push(("seed-csv-utf-16".to_owned(), [2, 0xff, 0xfe].into_iter().chain(wide).collect()));
    Ok(seeds)
}
