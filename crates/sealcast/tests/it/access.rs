//! Who is at the hub's broker, and what they get of it, as the ledger changes. Clients speak to the broker itself, with the
//! identity of a device.

use std::{fs, path::Path};

use crate::harness::{Hub, PATIENCE, Process, mosquitto_sub, until};

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
