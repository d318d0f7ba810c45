//! What is in `examples/`: the programs themselves, behind agents with their files, where the programs can be had.

use std::{
    io::Write as _,
    path::PathBuf,
    process::{Command, Stdio},
};

use crate::{
    harness::{Agent, Hub, PATIENCE, PROBE_INTERVAL, Process, until},
    node::node_red,
    python::python,
    values::V5,
};

fn example(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(path)
}

fn text(path: &str) -> String {
    std::fs::read_to_string(example(path)).unwrap()
}

/// What the thermometer says of these values.
fn thermometer(agent: &Agent, values: &str) -> Vec<String> {
    let mut command = Command::new(python());
    command.arg(example("thermometer/thermometer.py")).arg(agent.port());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(values.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", output.status);
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn the_thermometer_is_told_what_is_refused_and_the_valve_opens_for_it() {
    let hub = Hub::start();
    let [sensor, actuator] = hub.pair("hsu0001", [&*text("thermometer/agent.toml"), &text("valve/agent.toml")]);
    let mut valve = Command::new(python());
    let valve = Process::start(valve.arg(example("valve/valve.py")).arg(actuator.port()));

    // The valve says nothing of its subscription: it has it once it has switched.
    until("the valve hears the thermometer", || {
        assert_eq!(thermometer(&sensor, "29.5\n"), ["29.5: published"]);
        valve.line_within(PROBE_INTERVAL).as_deref() == Some("open: 29.5 degrees")
    });
    let said = thermometer(&sensor, "27\n25.5\n999\n");
    assert_eq!(said[..2], ["27: published", "25.5: published"]);
    assert!(said[2].starts_with("999: refused, ") && said[2].contains("125"), "{said:?}");
    let mut lines = Vec::new();
    while lines.last().is_none_or(|line| line != "open: no good value") {
        lines.push(valve.line());
    }
    assert!(lines.contains(&"closed: 25.5 degrees".to_owned()), "{lines:?}");
}

#[test]
fn tasmotas_and_zigbee2mqtts_messages_are_read_as_they_come() {
    let hub = Hub::start();
    let rules = format!("{}\n{}", text("tasmota/agent.toml"), text("zigbee2mqtt/agent.toml"));
    let [gateway, application] = hub.pair("hsu0001", [&*rules, ""]);
    // Not the alarms.
    let topics = ["-t", "hsu0001/zigbee2mqtt/#"];
    let mut sees = application.subscribe("hsu0001/plug1/#", &[&V5[..], &topics].concat());
    let mut send = |topic: &str, message: &str| {
        let refusal = gateway.refusal(topic, message, &[]);
        (refusal.is_empty()).then(|| sees.message(PATIENCE).expect("what was published"))
    };

    let telemetry = |stamp: &str, value: &str| {
        format!(r#"{{"Time":"{stamp}","DS18B20":{{"Id":"01131B123456","Temperature":{value}}},"TempUnit":"C"}}"#)
    };
    let plug = "hsu0001/plug1/tele/SENSOR";
    for stamp in ["2026-11-27T00:25:42", "2026-11-27T00:26:42+0100"] {
        let message = telemetry(stamp, "21.4");
        let line = send(plug, &message).expect("it is published");
        assert!(line.starts_with(&format!("{plug} {message} ")) && !line.contains("flag"), "{line}");
    }
    // The zone is the one of agent.toml: by UTC, the second one would be before the first.
    let line = send(plug, &telemetry("2026-11-27T00:25:00", "21.4")).expect("it is published");
    assert!(line.contains("sealcast-check:flag:time"), "{line}");
    assert_eq!(send(plug, &telemetry("2026-11-27T00:27:42", "85")), None, "the value at power-on");

    let room = "hsu0001/zigbee2mqtt/room";
    let whole = r#"{"battery":93.5,"humidity":43.5,"linkquality":255,"temperature":21.5}"#;
    for (message, check) in [
        (whole, None),
        (r#"{"battery":100,"voltage":3015}"#, Some("sealcast-no-value:1")),
        (r#"{"linkquality":255,"temperature":null}"#, Some("sealcast-check:flag:null")),
    ] {
        let line = send(room, message).expect("it is published");
        assert!(line.starts_with(&format!("{room} {message} ")), "{line}");
        assert!(check.is_none_or(|check| line.contains(check)), "{line}");
    }
    assert_eq!(send(room, r#"{"temperature":121.5}"#), None);
    let line = send("hsu0001/zigbee2mqtt/bridge/state", r#"{"state":"online"}"#);
    assert!(line.is_some_and(|line| line.contains("online")));
}

#[test]
fn home_assistants_topics_get_what_is_sent_there() {
    let hub = Hub::start();
    let [sensor, home] = hub.pair("hsu0001", ["", &*text("home-assistant/agent.toml")]);
    let mut status = home.subscribe("homeassistant/#", &[]);
    home.publish("homeassistant/status", "online", &["-V", "mqttv311"]);
    assert_eq!(status.message(PATIENCE).as_deref(), Some("homeassistant/status online"));
    let configuration = text("home-assistant/configuration.yaml");
    let topics: Vec<_> = configuration.lines().filter_map(|line| line.trim().strip_prefix("state_topic: ")).collect();
    assert_eq!(topics.len(), 3);
    for topic in topics {
        let topic = topic.trim_matches('"');
        let mut sees = home.subscribe(topic, &[]);
        sensor.publish(topic, "23.5", &[]);
        assert_eq!(sees.message(PATIENCE), Some(format!("{topic} 23.5")));
    }
}

#[test]
fn node_red_switches_by_value_and_by_verdict() {
    let hub = Hub::start();
    let [sensor, home] = hub.pair("hsu0001", [&*text("thermometer/agent.toml"), ""]);
    let dir = tempfile::tempdir().unwrap();
    // Without its editor it needs no port.
    let settings = "module.exports = { httpAdminRoot: false, httpNodeRoot: false }";
    std::fs::write(dir.path().join("settings.js"), settings).unwrap();
    let flow = text("node-red/flows.json");
    assert!(flow.contains("\"18832\""));
    std::fs::write(dir.path().join("flows.json"), flow.replace("18832", home.port())).unwrap();
    let mut command = Command::new("node");
    command.arg(node_red()).arg("--userDir").arg(dir.path()).arg("flows.json").current_dir(dir.path());
    let node_red = Process::start(&mut command);
    while !node_red.line().contains("Connected to broker") {}

    let mut cooling = sensor.subscribe("hsu0001/cooling", &[]);
    until("the flow hears the thermometer", || {
        assert_eq!(thermometer(&sensor, "27.5\n"), ["27.5: published"]);
        cooling.message(PROBE_INTERVAL).is_some()
    });
    let mut after = |value: &str, state: &str| {
        thermometer(&sensor, value);
        cooling.before(&format!("hsu0001/cooling {state}"));
    };
    after("28.5\n", "open");
    after("27\n", "closed");
    // Too far from the one before: it is flagged.
    after("10\n", "open");
}
