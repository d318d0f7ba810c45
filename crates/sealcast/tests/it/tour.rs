//! README's five-minute tour, as a user walks it: separate processes, mosquitto's clients.

use std::process::Command;

use serde_json::Value;

use crate::harness::{Agent, Hub, PATIENCE, PROBE_INTERVAL, mosquitto_sub, output, until, until_joined};

/// A topic that everybody reads, whatever the groups are.
const MARKER: &str = "open/marker";

#[test]
fn members_read_each_other_and_the_broker_sees_sealed_bytes_only() {
    let mut hub = Hub::start();
    // So that an outsider sees what the broker sees.
    hub.configure("subscribe = 'anyone'");
    let dirs = ["1111", "1112", "1113"].map(|device| hub.enroll(device));
    hub.group("hsu0001", "hsu0001/#", &["1111", "1112"]);
    let agents = dirs.each_ref().map(|dir| Agent::start(dir, &["--clear", "open/#"]));

    until_joined(&agents[0], &agents[1], "hsu0001/probe");
    let mut reader = agents[1].subscribe("hsu0001/t", &["-t", MARKER]);
    let mut outsider = agents[2].subscribe("hsu0001/t", &["-t", MARKER]);
    let ca = hub.path().join("root.pem");
    let mut observer = mosquitto_sub(
        hub.mqtt_port(),
        "hsu0001/t",
        &[
            "--cafile",
            ca.to_str().unwrap(),
            "--cert",
            dirs[2].join("device.pem").to_str().unwrap(),
            "--key",
            dirs[2].join("device.key").to_str().unwrap(),
            "-F",
            "%t %x",
        ],
    );

    agents[0].publish("hsu0001/t", "27.0 degrees", &[]);
    assert_eq!(reader.message(PATIENCE).as_deref(), Some("hsu0001/t 27.0 degrees"));
    let sealed = observer.message(PATIENCE).expect("the broker hands the bytes to every subscriber");
    let sealed = hex::decode(sealed.strip_prefix("hsu0001/t ").unwrap()).unwrap();
    assert_eq!(sealed[0], 0xfd, "a sealed frame, version 2");
    assert!(!sealed.windows(4).any(|window| window == b"27.0"));
    assert!(sealed.len() <= "27.0 degrees".len() + 100);
    agents[0].nothing_before_marker(MARKER, &mut outsider);
    assert_eq!(reader.before("marker"), [""; 0]);

    // A member that joins reads what comes after, and nothing from before.
    hub.operate(&["group", "grant", "hsu0001", "1113"]);
    let mut first = None;
    until("1113 is a member", || {
        if agents[0].try_publish("hsu0001/t", "again", &[]) {
            first = outsider.message(PROBE_INTERVAL);
        }
        first.is_some()
    });
    assert_eq!(first.as_deref(), Some("hsu0001/t again"));

    // A member that is revoked reads nothing from the next epoch on.
    hub.operate(&["group", "revoke", "hsu0001", "1112", "--reason", "sold"]);
    until("1112 is out", || {
        agents[0].before_marker(MARKER, &mut reader);
        // The sender has to wait for the next epoch's keys itself.
        agents[0].try_publish("hsu0001/t", "without 1112", &[])
            && agents[0].before_marker(MARKER, &mut reader).is_empty()
    });

    // A clear topic passes as it is.
    let mut clear = agents[1].subscribe("open/x", &[]);
    agents[0].publish("open/x", "for all", &[]);
    assert_eq!(clear.message(PATIENCE).as_deref(), Some("open/x for all"));

    let ledger: Value = serde_json::from_str(&hub.operate(&["ledger", "verify", "--json"])).unwrap();
    assert_eq!(ledger["verified"], true);
}

#[test]
fn both_protocol_versions_every_qos_retained_messages_and_wills() {
    let hub = Hub::start();
    let [sender, receiver] = hub.pair("hsu0001", ["", ""]);

    for version in ["mqttv311", "mqttv5"] {
        for qos in ["0", "1", "2"] {
            let topic = format!("hsu0001/{version}/{qos}");
            let mut live = receiver.subscribe(&topic, &["-V", version, "-q", qos]);
            sender.publish(&topic, "live", &["-V", version, "-q", qos]);
            assert_eq!(live.message(PATIENCE).as_deref(), Some(&*format!("{topic} live")));

            let kept = format!("{topic}/kept");
            sender.publish(&kept, "kept", &["-V", version, "-q", qos, "-r"]);
            let mut late = receiver.subscribe(&kept, &["-V", version, "-q", qos]);
            assert_eq!(late.message(PATIENCE).as_deref(), Some(&*format!("{kept} kept")));
        }

        let topic = format!("hsu0001/{version}/will");
        let mut watcher = receiver.subscribe(&topic, &["-V", version]);
        let mortal = sender.subscribe(
            "hsu0001/none",
            &["-V", version, "--will-topic", &topic, "--will-payload", "gone", "--will-qos", "1"],
        );
        mortal.kill();
        assert_eq!(watcher.message(PATIENCE).as_deref(), Some(&*format!("{topic} gone")));
    }

    // MQTT 5 properties travel inside the seal and arrive.
    let topic = "hsu0001/properties";
    let mut typed = receiver.subscribe(topic, &["-V", "mqttv5", "-F", "%t %p %C %P"]);
    sender.publish(
        topic,
        "{}",
        &[
            "-V",
            "mqttv5",
            "-D",
            "publish",
            "content-type",
            "application/json",
            "-D",
            "publish",
            "user-property",
            "unit",
            "Cel",
        ],
    );
    let line = typed.message(PATIENCE).unwrap();
    assert!(line.contains("application/json") && line.contains("unit:Cel"), "{line}");
}

/// What README says is written to `file`.
fn from_readme(file: &str) -> String {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md")).unwrap();
    let (_, rest) = readme.split_once(&format!("cat > {file} <<'END'\n")).expect("README writes the file");
    rest.split_once("END\n").expect("the file's end").0.to_owned()
}

#[test]
fn the_valve_opens_when_values_are_blocked_or_do_not_come() {
    let hub = Hub::start();
    let configs = ["1111", "1112"].map(|device| from_readme(&format!("{device}/agent.toml")));
    let [sensor, valve] = hub.pair("hsu0001", configs.each_ref().map(String::as_str));

    let mut reader = valve.subscribe("hsu0001/#", &[]);
    sensor.publish("hsu0001/temperature", "21.5", &[]);
    reader.before("hsu0001/temperature 21.5");
    let mut command = Command::new("mosquitto_pub");
    command.args(["-h", "127.0.0.1", "-p", sensor.port(), "-V", "mqttv5", "-q", "1", "-d"]).args([
        "-t",
        "hsu0001/temperature",
        "-m",
        "85",
    ]);
    let said = output(&mut command);
    let said = String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).into_owned();
    assert!(said.contains("RC:131"), "{said}");

    // The alarm, then the valve. On a machine that is slow enough silence has opened the valve before.
    let alarm_topic = "hsu0001/alarm/1111/hsu0001/temperature ";
    let mut after = Vec::new();
    let alarm = loop {
        let line = reader.message(PATIENCE).expect("an alarm");
        let alarm = line.strip_prefix(alarm_topic).map(|text| serde_json::from_str::<Value>(text).unwrap());
        after.push(line);
        if let Some(alarm) = alarm.filter(|alarm| alarm["reason"].as_str().is_some_and(|why| why.contains("85"))) {
            break alarm;
        }
    };
    assert_eq!((&alarm["kind"], &alarm["count"]), (&"blocked".into(), &1.into()), "{alarm}");
    if !after.iter().any(|line| line == "hsu0001/valve open") {
        after.extend(reader.before("hsu0001/valve open"));
    }
    assert!(!after.iter().any(|line| line == "hsu0001/temperature 85"), "{after:?}");

    // The next good value ends it; then silence opens the valve again.
    sensor.publish("hsu0001/temperature", "22.0", &[]);
    reader.before("hsu0001/temperature 22.0");
    reader.before("hsu0001/valve open");
}
