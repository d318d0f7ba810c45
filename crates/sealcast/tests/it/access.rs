//! Who is at the hub's broker, and what they get of it, as the ledger changes. Clients speak to the broker itself, with the
//! identity of a device.

use std::{fs, path::Path, process::Command};

use crate::harness::{Hub, PATIENCE, Process, mosquitto_sub, output, succeed, until};

/// What `mosquitto_sub` and `mosquitto_pub` need to be the device whose folder this is.
fn identity(hub: &Hub, device: &Path) -> Vec<String> {
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let options = [
        ("--cafile", hub.path().join("root.pem")),
        ("--cert", device.join("device.pem")),
        ("--key", device.join("device.key")),
    ];
    options.into_iter().flat_map(|(option, path)| [option.to_owned(), text(&path)]).collect()
}

fn subscriber(hub: &Hub, device: &Path, topic: &str, extra: &[&str]) -> Process {
    let identity = identity(hub, device);
    let options: Vec<&str> = identity.iter().map(String::as_str).chain(extra.iter().copied()).collect();
    mosquitto_sub(hub.mqtt_port(), topic, &options)
}

#[test]
fn whoever_holds_a_former_key_is_disconnected_when_the_device_has_enrolled_again() {
    let hub = Hub::start();
    let stolen = hub.path().join("stolen");
    fs::rename(hub.enroll("1111"), &stolen).unwrap();
    let other = hub.enroll("1112");
    let mut thief = subscriber(&hub, &stolen, "sealcast/v1/ledger", &["-F", "%t %x"]);
    let mut bystander = subscriber(&hub, &other, "sealcast/v1/ledger", &["-F", "%t %x"]);
    hub.group("g", "g/#", &["1112"]);
    assert!(thief.message(PATIENCE).is_some() && bystander.message(PATIENCE).is_some());

    // With a key of its own, in an empty folder.
    let own = hub.enroll("1111");
    assert_ne!(fs::read(own.join("device.pem")).unwrap(), fs::read(stolen.join("device.pem")).unwrap());
    // It tries again and is refused.
    until("the thief's client has ended", || thief.exit_code().is_some());
    hub.log.until(&["WARN", "1111", "the device has enrolled again since"]);
    assert_eq!(bystander.exit_code(), None);
    subscriber(&hub, &own, "sealcast/v1/ledger", &[]).end();
}

/// The code in SUBACK by which the broker refuses a subscription.
fn refusal(hub: &Hub, device: &Path, topic: &str, version: &str) -> String {
    let mut command = Command::new("mosquitto_sub");
    command.args(["-h", "127.0.0.1", "-p", hub.mqtt_port(), "-t", topic, "-V", version, "-d", "-W", "200"]);
    let said = String::from_utf8(output(command.args(identity(hub, device))).stdout).unwrap();
    let code = said.lines().find_map(|line| line.strip_prefix("Subscribed (mid: 1): "));
    code.unwrap_or_else(|| panic!("no SUBACK: {said}")).to_owned()
}

#[test]
fn outsiders_get_nothing_of_a_group_whatever_they_subscribe_to() {
    const MARKER: &str = "open/marker";
    let hub = Hub::start();
    let [sender, receiver] = hub.pair("g", ["", ""]);
    let outsider = hub.enroll("1113");
    for topic in ["g/#", "g/t", "$share/s/g/t"] {
        assert_eq!(refusal(&hub, &outsider, topic, "mqttv5"), "135", "{topic}");
        assert_eq!(refusal(&hub, &outsider, topic, "mqttv311"), "128", "{topic}");
    }
    sender.publish("g/kept", "1", &["-r"]);
    let mut member = receiver.subscribe("g/#", &[]);
    assert_eq!(member.message(PATIENCE).as_deref(), Some("g/kept 1"));
    let [mut all, mut share] = ["#", "$share/s/#"].map(|filter| subscriber(&hub, &outsider, filter, &["-F", "%t"]));
    // Both get what is in no group, behind whatever else they get.
    let mark = || {
        let mut command = Command::new("mosquitto_pub");
        command.args(["-h", "127.0.0.1", "-p", hub.mqtt_port(), "-t", MARKER, "-m", "x", "-q", "1"]);
        succeed(command.args(identity(&hub, &outsider)));
    };
    let mut send = |payload: &str| {
        sender.publish("g/t", payload, &[]);
        assert_eq!(member.message(PATIENCE), Some(format!("g/t {payload}")));
        mark();
    };
    let mut seen = || [&mut all, &mut share].map(|reader| reader.before(MARKER).concat());
    send("2");
    assert_eq!(seen(), ["", ""]);
    hub.operate(&["group", "grant", "g", "1113"]);
    send("3");
    assert_eq!(seen(), ["g/t", "g/t"]);
    hub.operate(&["group", "revoke", "g", "1113", "--reason", "test"]);
    send("4");
    assert_eq!(seen(), ["", ""]);
}
