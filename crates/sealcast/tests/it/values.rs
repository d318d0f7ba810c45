//! Values on their way: blocked, flagged, skipped, alarms, fail-safe, and a real machine's recording through two agents.

use std::{
    io::{Seek as _, Write as _},
    process::Command,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::harness::{Agent, Hub, PATIENCE, PROBE_INTERVAL, Process, refuse, sealcast, succeed, until};

pub const V5: [&str; 4] = ["-V", "mqttv5", "-F", "%t %p %P"];
/// The same, and the markers that show that nothing came.
pub const V5_MARKED: [&str; 6] = ["-V", "mqttv5", "-F", "%t %p %P", "-t", MARKER];
/// A topic of the group that no rule is for.
pub const MARKER: &str = "hsu0001/marker";

/// What an agent has measured of its topics.
fn topics(agent: &Agent) -> Value {
    serde_json::from_str(&succeed(sealcast().args(["topics", "--json", "--dir"]).arg(&agent.dir))).unwrap()
}

/// The next message of which `part` is a part.
pub fn message_with(process: &mut Process, part: &str) -> String {
    let mut others = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let Some(line) = process.message(left) else { panic!("no message with {part:?}, but {others:?}") };
        if line.contains(part) {
            return line;
        }
        others.push(line);
    }
}

#[test]
fn values_are_blocked_flagged_and_skipped_and_the_alarm_stands_until_a_good_one_comes() {
    let hub = Hub::start();
    let rules = "
        [[quality]]
        filter = 'hsu0001/t'
        range = { min = -20, max = 120 }
        step = { max = 10 }
        report = { dead_band = 0.5 }
        [[publish]]
        filter = 'hsu0001/json'
        input = { format = 'json', value = '$.t', unit = 'degF', convert_to = 'Cel' }
        output = { format = 'senml_json', name = 'urn:dev:x:1' }";
    let policy = "
        annotate = 'all'
        [[receive]]
        filter = 'hsu0001/t'
        flagged = 'divert'
        [[receive]]
        filter = 'hsu0001/checked'
        require_checked = true
        [[receive]]
        filter = 'hsu0001/json'
        input = { format = 'senml_json' }
        output = { format = 'number' }";
    let [mut sender, receiver] = hub.pair("hsu0001", [rules, policy]);
    let mut sees = receiver.subscribe("hsu0001/t", &V5_MARKED);
    let mut blind = receiver.subscribe("hsu0001/t", &[]);
    let mut diverted = receiver.subscribe("flagged/hsu0001/t", &[]);
    let mut alarms = receiver.subscribe("hsu0001/alarm/#", &[]);

    sender.publish(
        "hsu0001/t",
        "20.0",
        &["-V", "mqttv5", "-D", "publish", "user-property", "sealcast-check", "flag:forged"],
    );
    let line = sees.message(PATIENCE).unwrap();
    assert!(line.starts_with("hsu0001/t 20.0 ") && line.contains("sealcast-check:pass"), "{line}");
    assert!(line.contains("sealcast-sender:1111") && !line.contains("forged"), "{line}");
    assert_eq!(blind.message(PATIENCE).as_deref(), Some("hsu0001/t 20.0"));

    // Within the dead band: acknowledged in both versions, and not sent.
    sender.publish("hsu0001/t", "20.4", &[]);
    sender.publish("hsu0001/t", "20.3", &["-V", "mqttv5", "-q", "2"]);
    receiver.nothing_before_marker(MARKER, &mut sees);

    // Flagged: MQTT 5 clients see why, the others' is diverted.
    sender.publish("hsu0001/t", "40", &[]);
    assert!(message_with(&mut sees, " 40 ").contains("sealcast-check:flag:step"));
    assert_eq!(diverted.message(PATIENCE).as_deref(), Some("flagged/hsu0001/t 40"));
    sender.publish("hsu0001/t", "41", &[]);
    assert!(message_with(&mut sees, " 41 ").contains("sealcast-check:pass"));
    assert_eq!(blind.message(PATIENCE).as_deref(), Some("hsu0001/t 41"), "and nothing of 40 before it");

    // Shown while the agent runs: 20.0, 20.4, 20.3, 40 and 41 came, three of them were sent.
    let shown = &topics(&sender)[0];
    assert_eq!((&shown["topic"], &shown["alarm"]), (&"hsu0001/t".into(), &Value::Null), "{shown}");
    assert_eq!((&shown["report"]["seen"], &shown["report"]["sent"]), (&5.into(), &3.into()), "{shown}");
    assert!(shown["report"]["saved_percent"] == 40.0 && shown["period_ms"].as_u64() > Some(0), "{shown}");

    // Blocked: an MQTT 5 device is told why, a 3.1.1 device gets its acknowledgement; both raise the alarm.
    sender.publish("hsu0001/t", "500", &["-q", "2"]);
    let said = sender.refusal("hsu0001/t", "501", &[]);
    assert!(said.contains("Implementation specific"), "{said}");
    let said = sender.refusal("hsu0001/t", "hot", &[]);
    assert!(said.contains("Payload format invalid"), "{said}");
    let line = message_with(&mut alarms, "\"count\":3");
    let alarm: Value = serde_json::from_str(line.split_once(' ').unwrap().1).unwrap();
    assert!(line.starts_with("hsu0001/alarm/1111/hsu0001/t "), "{line}");
    assert_eq!((&alarm["kind"], &alarm["topic"]), (&"unreadable".into(), &"hsu0001/t".into()), "{line}");
    assert!(alarm["since_ms"].as_u64() < alarm["last_ms"].as_u64(), "{line}");
    // Nothing that is blocked is sent.
    receiver.nothing_before_marker(MARKER, &mut sees);

    // Retained, and after SIGKILL it still stands; what was sent last is not known to have arrived.
    sender.kill();
    let text = succeed(sealcast().args(["topics", "--dir"]).arg(&sender.dir));
    assert!(text.contains(" 40 %   3 times, ") && text.starts_with("TOPIC"), "{text}");
    sender.restart();
    let mut late = receiver.subscribe("hsu0001/alarm/#", &V5);
    assert!(message_with(&mut late, "\"count\":3").contains("sealcast-age-ms:"));
    until("the killed agent has its keys again", || {
        sender.try_publish("hsu0001/t", "500.5", &[])
            && alarms.message(PROBE_INTERVAL).is_some_and(|line| line.contains("500.5"))
    });
    sender.publish("hsu0001/t", "41", &[]);
    assert!(message_with(&mut sees, " 41 ").contains("sealcast-check:pass"), "the level of before is remembered");
    message_with(&mut alarms, "\"over_ms\":");
    until("the broker has forgotten the alarm", || {
        let mut fresh = receiver.subscribe("hsu0001/alarm/#", &["-t", MARKER]);
        receiver.before_marker(MARKER, &mut fresh).is_empty()
    });

    // Converted at both ends.
    let mut number = receiver.subscribe("hsu0001/json", &V5);
    sender.publish("hsu0001/json", r#"{"t": 212.0}"#, &[]);
    assert!(message_with(&mut number, "hsu0001/json ").starts_with("hsu0001/json 100"));
    assert!(sender.refusal("hsu0001/json", r#"{"t": }"#, &[]).contains("Payload format invalid"));

    // What nobody checked is not handed on where it has to be.
    let mut checked = receiver.subscribe("hsu0001/checked", &V5_MARKED);
    sender.publish("hsu0001/checked", "1", &[]);
    receiver.nothing_before_marker(MARKER, &mut checked);
}

#[test]
fn what_is_sent_is_recorded_also_when_it_waited_and_what_is_blocked_is_not() {
    let mut hub = Hub::start();
    let rules = "
        [[quality]]
        filter = 'hsu0001/t'
        range = { max = 100 }
        step = { max = 10 }
        report = { dead_band = 0.5, min_interval_ms = 6000 }
        record = 'chain'
        record_decimals = 1
        [[publish]]
        filter = 'hsu0001/t'
        input = { format = 'json', value = '$.t', unit = 'degF', convert_to = 'Cel' }
        output = { format = 'number', decimals = 1 }
        [[quality]]
        filter = 'hsu0001/u'
        range = { max = 100 }
        [[record]]
        filter = 'hsu0001/u'";
    let policy = "
        annotate = 'all'
        [[receive]]
        filter = 'hsu0001/t'
        flagged = 'drop'";
    let [sender, receiver] = hub.pair("hsu0001", [rules, policy]);
    for topic in ["hsu0001/t", "hsu0001/u"] {
        let limits = ["group", "limits", "hsu0001", "--topic", topic, "--min", "-50", "--max", "200", "--unit", "Cel"];
        hub.operate(&[&limits[..], &["--decimals", "1", "--gapless"]].concat());
    }
    let mut sees = receiver.subscribe("hsu0001/t", &V5);
    let mut blind = receiver.subscribe("hsu0001/t", &[]);
    let publish = |value: &str| sender.publish("hsu0001/t", &format!("{{\"t\": {value}}}"), &[]);

    // The second and the third come too early: on one connection, and the interval is longer than a machine stands still.
    // They are acknowledged, and of those that wait only the newest is sent, when the interval is over.
    let first = Instant::now();
    publish_lines(&sender, "hsu0001/t", ["68", "70", "71.6"].map(|value| format!("{{\"t\": {value}}}")));
    assert_eq!(blind.message(PATIENCE).as_deref(), Some("hsu0001/t 20.0"));
    assert_eq!(blind.message(PATIENCE).as_deref(), Some("hsu0001/t 22.0"));
    assert!(first.elapsed() >= Duration::from_secs(6), "{:?}", first.elapsed());

    let said = sender.refusal("hsu0001/t", r#"{"t": 500}"#, &[]);
    assert!(said.contains("Implementation specific"), "{said}");
    // Flagged: at once, and dropped for who cannot see that it is.
    publish("113");
    assert!(message_with(&mut sees, " 45.0 ").contains("sealcast-check:flag:step"));
    publish("114.08");
    assert!(message_with(&mut sees, " 45.6 ").contains("sealcast-check:pass"));
    assert_eq!(blind.message(PATIENCE).as_deref(), Some("hsu0001/t 45.6"), "and nothing of 45 before it");
    publish("114.1");
    sender.publish("hsu0001/u", "20", &[]);
    sender.refusal("hsu0001/u", "130", &[]);
    sender.publish("hsu0001/u", "21.5", &[]);

    let recorded = |hub: &Hub, topic: &str| -> Vec<String> {
        let shown: Value =
            serde_json::from_str(&hub.operate(&["readings", "show", "1111", "--topic", topic, "--json"])).unwrap();
        let rows = shown["readings"].as_array().unwrap();
        assert!(rows.iter().all(|row| row["accepted"] == true), "{shown}");
        rows.iter().map(|row| row["value"].as_str().unwrap().to_owned()).collect()
    };
    until("the last is recorded", || recorded(&hub, "hsu0001/u").len() >= 2);
    assert_eq!(recorded(&hub, "hsu0001/u"), ["20", "21.5"]);
    assert_eq!(recorded(&hub, "hsu0001/t"), ["20.0", "22.0", "45.0", "45.6"]);

    // Its time comes while the broker is away: it is sent when the broker is back, and recorded once.
    publish("131");
    assert_eq!(blind.message(PATIENCE).as_deref(), Some("hsu0001/t 55.0"));
    sender.publish("hsu0001/t", r#"{"t": 140}"#, &["-r"]);
    hub.kill();
    // 68, 71.6, 113, 114.08, 131 and this one.
    until("its time comes", || topics(&sender)[0]["report"]["sent"] == 6);
    hub.restart();
    until("it is sent", || {
        let mut fresh = receiver.subscribe("hsu0001/t", &["-t", MARKER]);
        receiver.before_marker(MARKER, &mut fresh).iter().any(|line| line == "hsu0001/t 60.0")
    });
    until("it is recorded", || recorded(&hub, "hsu0001/t").len() >= 6);
    assert_eq!(recorded(&hub, "hsu0001/t")[4..], ["55.0", "60.0"]);
}

/// Publishes each value, in order, with its time in ms.
pub fn publish_all(agent: &Agent, topic: &str, readings: &[(u64, f64)]) {
    publish_lines(agent, topic, readings.iter().map(|(time_ms, value)| format!("{{\"v\":{value},\"ts\":{time_ms}}}")));
}

/// Publishes each line over one connection; each was acknowledged when this returns.
fn publish_lines(agent: &Agent, topic: &str, lines: impl IntoIterator<Item = String>) {
    let mut command = Command::new("mosquitto_pub");
    let mut file = tempfile::tempfile().unwrap();
    for line in lines {
        writeln!(file, "{line}").unwrap();
    }
    file.rewind().unwrap();
    command.args(["-h", "127.0.0.1", "-p", agent.port(), "-t", topic, "-q", "1", "-l"]).stdin(file);
    succeed(&mut command);
}

#[test]
fn a_schema_may_be_a_file_beside_the_configuration() {
    let hub = Hub::start();
    let dir = hub.enroll("1111");
    let rules = "
        [[quality]]
        filter = 'hsu0001/t'
        schema = { file = 'schemas/reading.json' }
        [[publish]]
        filter = 'hsu0001/t'
        input = { format = 'json', value = '$.u' }";
    std::fs::write(dir.join("agent.toml"), rules).unwrap();
    let path = dir.join("schemas/reading.json");
    let check = || [std::ffi::OsString::from("agent"), "--check".into(), "--dir".into(), dir.clone().into()];
    let said = refuse(check());
    assert!(
        said.contains("line 2: [[quality]] table number 1 (filter = \"hsu0001/t\")")
            && said.contains("schemas/reading.json"),
        "{said}"
    );
    std::fs::create_dir(dir.join("schemas")).unwrap();
    std::fs::write(&path, " ".repeat(300_000)).unwrap();
    let said = refuse(check());
    assert!(said.contains("larger than 262144 bytes"), "{said}");
    std::fs::write(&path, "{\"type\": 7}").unwrap();
    let said = refuse(check());
    assert!(said.contains("schema cannot be used: not a schema"), "{said}");
    std::fs::write(&path, r#"{"type": "object", "required": ["t"]}"#).unwrap();
    succeed(sealcast().args(check()));
    // The same file for who tries the rules.
    let data = dir.join("data.csv");
    std::fs::write(&data, "1000,1\n2000,2\n").unwrap();
    succeed(sealcast().args(["quality", "try"]).arg(dir.join("agent.toml")).arg(data));

    // Beside a configuration elsewhere, and it judges.
    let elsewhere = hub.path().join("other.toml");
    std::fs::write(&elsewhere, rules.replace("schemas/", "").replace("file =", "action = 'block', file =")).unwrap();
    std::fs::rename(&path, hub.path().join("reading.json")).unwrap();
    hub.group("hsu0001", "hsu0001/#", &["1111"]);
    let agent = Agent::start(&dir, &["--config", elsewhere.to_str().unwrap()]);
    until("the schema judges", || agent.refusal("hsu0001/t", r#"{"u": 1}"#, &[]).contains("Implementation specific"));
}

#[test]
fn fail_safe_opens_the_valve_and_ends_by_itself() {
    let hub = Hub::start();
    let rules = "
        [[quality]]
        filter = 'hsu0001/t'
        range = { max = 120 }
        silent = { after_ms = 2000 }";
    let policy = "
        [[quality]]
        filter = 'hsu0001/t'
        [quality.fail_safe]
        on_blocked = { after_ms = 300, publish = 'open', topic = 'hsu0001/valve' }
        [[quality]]
        filter = 'hsu0001/quiet/+'
        [quality.fail_safe]
        on_silence = { after_ms = 1500, publish = '99' }
        [[receive]]
        filter = 'hsu0001/old'
        [[topic]]
        filter = 'hsu0001/old'
        retained_max_age_ms = 1
        stale = 'flag'
        [freshness]
        clock_tolerance_ms = 500";
    let [sender, receiver] = hub.pair("hsu0001", [rules, policy]);
    let mut valve = receiver.subscribe("hsu0001/valve", &V5_MARKED);
    let mut alarms = receiver.subscribe("hsu0001/alarm/#", &[]);

    // The valve does not read the thermometer: its agent does.
    sender.publish("hsu0001/t", "20", &[]);
    receiver.nothing_before_marker(MARKER, &mut valve);
    sender.publish("hsu0001/t", "130", &[]);
    let line = message_with(&mut valve, "hsu0001/valve open");
    assert!(line.contains("sealcast-fail-safe:1"), "{line}");
    // One that connects meanwhile is told.
    assert!(message_with(&mut receiver.subscribe("hsu0001/valve", &V5), "open").contains("sealcast-fail-safe"));
    // A good value ends it; the next blocked one begins it again.
    until("the fail-safe has ended", || {
        sender.publish("hsu0001/t", "21", &[]);
        let mut fresh = receiver.subscribe("hsu0001/valve", &["-t", MARKER]);
        receiver.before_marker(MARKER, &mut fresh).is_empty()
    });
    message_with(&mut alarms, "\"over_ms\":");

    // Silence: noticed by the sender as an alarm, and at the receiver once a topic was heard.
    message_with(&mut alarms, "\"kind\":\"silent\"");
    let mut quiet = receiver.subscribe("hsu0001/quiet/#", &V5);
    sender.publish("hsu0001/quiet/1", "1", &[]);
    message_with(&mut quiet, "hsu0001/quiet/1 1 ");
    assert!(message_with(&mut quiet, "hsu0001/quiet/1 99 ").contains("sealcast-fail-safe:1"));

    // A retained value that is too old comes as what it is.
    sender.publish("hsu0001/old", "5", &["-r"]);
    until("it is too old", || {
        let line = message_with(&mut receiver.subscribe("hsu0001/old", &V5), "hsu0001/old 5");
        assert_eq!(line.contains("sealcast-age-ms:"), line.contains("sealcast-check:flag:stale"), "{line}");
        line.contains("sealcast-age-ms:")
    });
}
