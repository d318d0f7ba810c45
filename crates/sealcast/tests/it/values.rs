//! Values on their way: blocked, flagged, skipped, alarms, fail-safe, and a real machine's recording through two agents.

use std::{path::Path, process::Command, time::Duration};

use serde_json::Value;

use crate::harness::{Agent, Hub, Process, until, until_joined};

const QUIET: Duration = Duration::from_millis(1_500);
const SOON: Duration = Duration::from_secs(20);
const V5: [&str; 4] = ["-V", "mqttv5", "-F", "%t %p %P"];

/// Two agents of one group with these lines in their `agent.toml`.
pub fn pair(hub: &Hub, sender: &str, receiver: &str) -> [Agent; 2] {
    let start = |device: &str, config: &str| {
        let dir = hub.enroll(device);
        std::fs::write(dir.join("agent.toml"), config).unwrap();
        dir
    };
    let dirs = [start("1111", sender), start("1112", receiver)];
    hub.group("hsu0001", "hsu0001/#", &["1111", "1112"]);
    let agents = dirs.each_ref().map(|dir: &std::path::PathBuf| Agent::start(Path::new(dir), &[]));
    until_joined(&agents[0], &agents[1], "hsu0001/probe");
    agents
}

/// What `mosquitto_pub` says when an MQTT 5 publish is refused.
fn refused(agent: &Agent, topic: &str, payload: &str) -> String {
    let mut command = Command::new("mosquitto_pub");
    command.args(["-V", "mqttv5", "-h", "127.0.0.1", "-p", agent.port(), "-t", topic, "-m", payload, "-q", "1"]);
    let output = command.output().unwrap();
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The next message of which `part` is a part.
fn message_with(process: &mut Process, part: &str) -> String {
    let mut others = Vec::new();
    loop {
        let Some(line) = process.message(SOON) else { panic!("no message with {part:?}, but {others:?}") };
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
    let [mut sender, receiver] = pair(&hub, rules, policy);
    let mut sees = receiver.subscribe("hsu0001/t", &V5);
    let mut blind = receiver.subscribe("hsu0001/t", &[]);
    let mut diverted = receiver.subscribe("flagged/hsu0001/t", &[]);
    let mut alarms = receiver.subscribe("hsu0001/alarm/#", &[]);

    sender.publish(
        "hsu0001/t",
        "20.0",
        &["-V", "mqttv5", "-D", "publish", "user-property", "sealcast-check", "flag:forged"],
    );
    let line = sees.message(SOON).unwrap();
    assert!(line.starts_with("hsu0001/t 20.0 ") && line.contains("sealcast-check:pass"), "{line}");
    assert!(line.contains("sealcast-sender:1111") && !line.contains("forged"), "{line}");
    assert_eq!(blind.message(SOON).as_deref(), Some("hsu0001/t 20.0"));

    // Within the dead band: acknowledged in both versions, and not sent.
    sender.publish("hsu0001/t", "20.4", &[]);
    sender.publish("hsu0001/t", "20.3", &["-V", "mqttv5", "-q", "2"]);
    assert_eq!(sees.message(QUIET), None);

    // Flagged: MQTT 5 clients see why, the others' is diverted.
    sender.publish("hsu0001/t", "40", &[]);
    assert!(message_with(&mut sees, " 40 ").contains("sealcast-check:flag:step"));
    assert_eq!(diverted.message(SOON).as_deref(), Some("flagged/hsu0001/t 40"));
    sender.publish("hsu0001/t", "41", &[]);
    assert!(message_with(&mut sees, " 41 ").contains("sealcast-check:pass"));
    assert_eq!(blind.message(SOON).as_deref(), Some("hsu0001/t 41"), "and nothing of 40 before it");

    // Blocked: an MQTT 5 device is told why, a 3.1.1 device gets its acknowledgement; both raise the alarm.
    sender.publish("hsu0001/t", "500", &["-q", "2"]);
    let said = refused(&sender, "hsu0001/t", "501");
    assert!(said.contains("Implementation specific"), "{said}");
    let said = refused(&sender, "hsu0001/t", "hot");
    assert!(said.contains("Payload format invalid"), "{said}");
    let line = message_with(&mut alarms, "\"count\":3");
    let alarm: Value = serde_json::from_str(line.split_once(' ').unwrap().1).unwrap();
    assert!(line.starts_with("hsu0001/alarm/1111/hsu0001/t "), "{line}");
    assert_eq!((&alarm["kind"], &alarm["topic"]), (&"unreadable".into(), &"hsu0001/t".into()), "{line}");
    assert!(alarm["since_ms"].as_u64() < alarm["last_ms"].as_u64(), "{line}");
    assert_eq!(sees.message(QUIET), None, "nothing that is blocked is sent");

    // Retained, and after SIGKILL it still stands; what was sent last is not known to have arrived.
    sender.kill();
    sender.restart();
    let mut late = receiver.subscribe("hsu0001/alarm/#", &V5);
    assert!(message_with(&mut late, "\"count\":3").contains("sealcast-age-ms:"));
    until("the killed agent has its keys again", || {
        sender.publish("hsu0001/t", "500.5", &[]);
        alarms.message(Duration::from_secs(2)).is_some_and(|line| line.contains("500.5"))
    });
    sender.publish("hsu0001/t", "41", &[]);
    assert!(message_with(&mut sees, " 41 ").contains("sealcast-check:pass"), "the level of before is remembered");
    message_with(&mut alarms, "\"over_ms\":");
    until("the broker has forgotten the alarm", || receiver.subscribe("hsu0001/alarm/#", &[]).message(QUIET).is_none());

    // Converted at both ends.
    let mut number = receiver.subscribe("hsu0001/json", &V5);
    sender.publish("hsu0001/json", r#"{"t": 212.0}"#, &[]);
    assert!(message_with(&mut number, "hsu0001/json ").starts_with("hsu0001/json 100"));
    assert!(refused(&sender, "hsu0001/json", r#"{"t": }"#).contains("Payload format invalid"));

    // What nobody checked is not handed on where it has to be.
    let mut checked = receiver.subscribe("hsu0001/checked", &V5);
    sender.publish("hsu0001/checked", "1", &[]);
    assert_eq!(checked.message(QUIET), None);
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
    let [sender, receiver] = pair(&hub, rules, policy);
    let mut valve = receiver.subscribe("hsu0001/valve", &V5);
    let mut alarms = receiver.subscribe("hsu0001/alarm/#", &[]);

    // The valve does not read the thermometer: its agent does.
    sender.publish("hsu0001/t", "20", &[]);
    assert_eq!(valve.message(QUIET), None);
    sender.publish("hsu0001/t", "130", &[]);
    let line = message_with(&mut valve, "hsu0001/valve open");
    assert!(line.contains("sealcast-fail-safe:1"), "{line}");
    // One that connects meanwhile is told.
    assert!(message_with(&mut receiver.subscribe("hsu0001/valve", &V5), "open").contains("sealcast-fail-safe"));
    // A good value ends it; the next blocked one begins it again.
    until("the fail-safe has ended", || {
        sender.publish("hsu0001/t", "21", &[]);
        receiver.subscribe("hsu0001/valve", &[]).message(Duration::from_millis(300)).is_none()
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
    std::thread::sleep(Duration::from_millis(800));
    let line = message_with(&mut receiver.subscribe("hsu0001/old", &V5), "hsu0001/old 5");
    assert!(line.contains("sealcast-check:flag:stale") && line.contains("sealcast-age-ms:"), "{line}");
}
