//! The operator's key and the CA's are replaced, while groups, grants and agents stay as they are.

use std::{fs, path::Path};

use crate::harness::{Agent, Hub, mosquitto_sub, output, refuse, sealcast, succeed, until, until_joined};

/// A copy of the files of a folder.
fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file()) {
        fs::copy(&entry, to.join(entry.file_name().unwrap())).unwrap();
    }
}

#[test]
fn the_operator_gets_a_new_key_and_the_old_one_is_refused() {
    let hub = Hub::start();
    let [first, second] = hub.pair("hsu0001", ["", ""]);
    let old = hub.dir.path().join("old-operator");
    copy(&hub.operator(), &old);
    let identity = ["--cafile", "--cert", "--key"].map(str::to_owned);
    let files = [hub.path().join("root.pem"), old.join("operator.pem"), old.join("operator.key")];
    let files = files.map(|path| path.to_str().unwrap().to_owned());
    let identity: Vec<&str> = identity.iter().zip(&files).flat_map(|(option, path)| [&**option, &**path]).collect();
    let mut thief = mosquitto_sub(hub.mqtt_port(), "open/#", &identity);
    let said = hub.operate(&["key", "rotate", "operator"]);
    assert!(said.contains("the operator has a new key"), "{said}");
    until("who is connected by the old key is not any more", || thief.exit_code().is_some());

    let said = refuse(["group", "reset", "hsu0001", "--operator", old.to_str().unwrap()]);
    assert!(said.contains("cannot connect"), "{said}");
    hub.log.until(&["the ledger knows another key of the operator"]);
    // What was granted is still granted, and what is granted now is followed by agents that were there before.
    until_joined(&first, &second, "hsu0001/probe");
    hub.group("hsu0002", "hsu0002/#", &["1111", "1112"]);
    until_joined(&first, &second, "hsu0002/probe");
    let shown = hub.operate(&["ledger", "show"]);
    assert!(shown.contains("operator gave operator the key"), "{shown}");

    // One that was interrupted when the ledger had the key: the files are as they were before, and the new key is there.
    let interrupted = hub.dir.path().join("interrupted");
    copy(&hub.operator(), &interrupted);
    hub.operate(&["key", "rotate", "operator"]);
    fs::copy(hub.operator().join("operator.key"), interrupted.join("next-operator.key")).unwrap();
    let again = ["key", "rotate", "operator", "--operator", interrupted.to_str().unwrap()];
    succeed(sealcast().args(again));
    let keys = [&interrupted, &hub.operator()].map(|dir| fs::read(dir.join("operator.key")).unwrap());
    assert_eq!(keys[0], keys[1], "no third key was made");
    succeed(sealcast().args(["group", "list", "--operator"]).arg(&interrupted));
    // A device that comes later verifies all of it from the first entry on.
    let third = Agent::start(&hub.enroll("1113"), &[]);
    hub.operate(&["group", "grant", "hsu0002", "1113"]);
    until_joined(&first, &third, "hsu0002/probe");
}

#[test]
fn the_hub_gets_a_new_ca_and_the_old_one_registers_nobody() {
    let mut hub = Hub::start();
    let [first, second] = hub.pair("hsu0001", ["", ""]);
    let rotate = |hub: &Hub| output(sealcast().args(["key", "rotate", "ca", "--hub"]).arg(hub.path()));
    let refused = rotate(&hub);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("stop the hub first"), "{refused:?}");
    hub.kill();
    let old = hub.dir.path().join("old-hub");
    copy(hub.path(), &old);
    let rotated = rotate(&hub);
    assert!(rotated.status.success(), "{rotated:?}");

    // The old CA's key is of no use any more, not even to the hub.
    let file = |name: &str| hub.path().join(name);
    for name in ["issuing.key", "issuing.pem"] {
        fs::rename(file(name), file(&format!("next-{name}"))).unwrap();
        fs::copy(old.join(name), file(name)).unwrap();
    }
    let started = output(&mut hub.up(sealcast()));
    let said = String::from_utf8_lossy(&started.stderr);
    assert!(!started.status.success() && said.contains("another key of the issuing CA"), "{said}");
    // That is also how an interrupted rotation leaves it: it is finished.
    let finished = rotate(&hub);
    assert!(finished.status.success(), "{finished:?}");
    hub.restart();

    // The agents have certificates of the old CA, and were not restarted. One that comes now has one of the new CA.
    until_joined(&first, &second, "hsu0001/probe");
    let third = Agent::start(&hub.enroll("1113"), &[]);
    hub.operate(&["group", "grant", "hsu0001", "1113"]);
    until_joined(&first, &third, "hsu0001/probe");
    until_joined(&third, &second, "hsu0001/probe");
    let shown = hub.operate(&["ledger", "show"]);
    assert_eq!(shown.matches("root gave ca the key").count(), 1, "{shown}");
}
