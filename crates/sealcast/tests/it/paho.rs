//! paho in both versions of MQTT: what it sends is checked, and what it gets says that it was.

use std::{path::Path, process::Command};

use serde_json::{Value, json};

use crate::{
    harness::{Agent, Hub, Process, succeed, until},
    python::python,
};

const TOPIC: &str = "hsu0001/t";

fn paho(agent: &Agent, version: &str, action: &[&str]) -> Command {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/paho_client.py");
    let mut command = Command::new(python());
    command.arg(script).args([version, agent.port()]).args(action);
    command
}

fn subscriber(agent: &Agent, version: &str, topic: &str) -> Process {
    let process = Process::start(&mut paho(agent, version, &["subscribe", topic]));
    assert_eq!(next(&process), json!({ "subscribed": true }));
    process
}

fn next(process: &Process) -> Value {
    serde_json::from_str(&process.line()).unwrap()
}

/// What became of each value.
fn publish(agent: &Agent, version: &str, qos: &str, values: &[&str]) -> Vec<Value> {
    let mut action = vec!["publish", TOPIC, qos];
    action.extend(values);
    let output = succeed(&mut paho(agent, version, &action));
    output.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn paho_gets_reason_codes_and_verdicts_as_far_as_its_version_has_them() {
    let hub = Hub::start();
    let rules = "
        [[quality]]
        filter = 'hsu0001/t'
        range = { min = -20, max = 120 }
        step = { max = 10 }";
    let [sender, receiver] = hub.pair("hsu0001", [rules, "annotate = 'all'"]);
    let five = subscriber(&receiver, "5", TOPIC);
    let three = subscriber(&receiver, "3.1.1", TOPIC);
    let alarms = subscriber(&receiver, "5", "hsu0001/alarm/#");

    let said = publish(&sender, "5", "1", &["20", "500", "hot", "40"]);
    let codes: Vec<u64> = said.iter().filter_map(|one| one["code"].as_u64()).collect();
    // Success, implementation specific error, payload format invalid, and a flagged one is sent.
    assert_eq!(codes, [0, 0x83, 0x99, 0], "{said:?}");
    let reason = said[1]["reason"].as_str().unwrap();
    assert!(reason.contains("500") && reason.contains("120"), "{reason}");
    assert!(said[2]["reason"].is_string() && said[0]["reason"].is_null(), "{said:?}");
    // The older version has nothing but the acknowledgement.
    for qos in ["1", "2"] {
        let said = publish(&sender, "3.1.1", qos, &["600", "41"]);
        assert_eq!(said.iter().filter(|one| one["code"] == 0).count(), 2, "{said:?}");
    }

    let expected = [("20", "pass"), ("40", "flag:step"), ("41", "pass"), ("41", "pass")];
    for (payload, verdict) in expected {
        let message = next(&five);
        assert_eq!((&message["payload"], &message["topic"]), (&json!(payload), &json!(TOPIC)), "{message}");
        let properties = &message["properties"];
        assert!(properties["sealcast-check"].as_str().is_some_and(|check| check.starts_with(verdict)), "{message}");
        assert_eq!(properties["sealcast-sender"], "1111", "{message}");
        let message = next(&three);
        assert_eq!((&message["payload"], &message["properties"]), (&json!(payload), &json!({})), "{message}");
    }
    // How many of those that were blocked one alarm tells depends on when the good ones between them came.
    until("an alarm says why", || {
        let message = next(&alarms);
        let alarm: Value = serde_json::from_str(message["payload"].as_str().unwrap()).unwrap_or_default();
        alarm["checks"][0]["check"] == "range" && alarm["reason"].as_str().is_some_and(|reason| reason.contains("120"))
    });
}
