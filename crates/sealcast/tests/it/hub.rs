//! The hub's limits and its ends: full queues, quotas, full disks, lost files. Real processes throughout.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::MetadataExt as _,
    path::Path,
    process::{Command, Stdio},
};

use crate::harness::{
    Agent, Hub, PATIENCE, Process, mosquitto_sub, output, refuse, sealcast, sealcast_after, succeed, until,
    until_joined,
};

/// The hub must end by itself, with exit code 1; what it says.
fn fails(hub: &Hub) -> String {
    let output = output(&mut hub.up(sealcast()));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    said
}

/// `mosquitto_pub` of one message a line, standard input still open.
fn publisher(port: &str, topic: &str, version: &str) -> std::process::Child {
    Command::new("mosquitto_pub")
        .args(["-h", "127.0.0.1", "-p", port, "-t", topic, "-q", "1", "-V", version, "-l"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn a_slow_subscriber_holds_publishers_up_and_loses_nothing() {
    let mut hub = Hub::start();
    hub.configure("[limits]\nmax_queued_messages = 20\npublish_wait_ms = 600000");
    let [sender, receiver] = hub.pair("hsu0001", ["", ""]);
    let session = ["-i", "member", "-c"];
    let topic = "hsu0001/count";
    receiver.subscribe(topic, &session).end();

    // Nobody reads: the queue fills, and the publisher is not told that the rest arrived.
    let mut three = publisher(sender.port(), topic, "mqttv311");
    let lines: String = (0..200).map(|number| format!("{number}\n")).collect();
    three.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    until("the queue is full", || sender.refusal(topic, "refused", &[]).contains("Quota exceeded"));
    assert!(three.try_wait().unwrap().is_none(), "the publisher waits");

    // It comes a few times, reads some, and goes again.
    let mut got: Vec<u32> = Vec::new();
    while got.len() < 200 {
        let mut member = mosquitto_sub(receiver.port(), topic, &session);
        let mut lines = Vec::new();
        while lines.len() < 40 && got.len() + lines.len() < 200 {
            lines.push(member.message(PATIENCE).expect("the next message"));
        }
        // What it has acknowledged by then is part of it.
        lines.extend(member.end());
        for line in lines {
            // "refused" was accepted once there was room.
            let number = line.strip_prefix("hsu0001/count ").and_then(|payload| payload.parse().ok());
            // At least once: what a connection has not acknowledged comes again.
            got.extend(number.filter(|number| !got.contains(number)));
        }
    }
    assert!(got.into_iter().eq(0..200), "all, in order");
    assert!(three.wait().unwrap().success(), "each line was acknowledged in the end");
}

/// A device in no group fills the hub's queues with messages of a topic that no group covers.
#[test]
fn a_device_that_fills_all_queues_does_not_stop_a_group() {
    let mut hub = Hub::start();
    hub.configure("[limits]\nmax_total_queued_messages = 20");
    let [sender, receiver] = hub.pair("hsu0001", ["", ""]);
    let session = ["-i", "member", "-c"];
    let topic = "hsu0001/count";
    receiver.subscribe(topic, &session).end();
    sender.publish(topic, "1", &[]);

    let outsider = hub.enroll("1119");
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let (ca, certificate, key) =
        (hub.path().join("root.pem"), outsider.join("device.pem"), outsider.join("device.key"));
    let identity = ["--cafile", &path(&ca), "--cert", &path(&certificate), "--key", &path(&key)];
    mosquitto_sub(hub.mqtt_port(), "anybody", &[&identity[..], &["-i", "away", "-c"]].concat()).end();
    let fill = ["-p", hub.mqtt_port(), "-t", "anybody", "-m", "x", "-q", "1", "--repeat", "19"];
    succeed(Command::new("mosquitto_pub").args(["-h", "127.0.0.1"]).args(fill).args(identity));
    assert_eq!(hub.log.lines(&["session ended", "away"]).len(), 0);

    sender.publish(topic, "2", &[]);
    hub.log.until(&[" WARN ", "session ended", "1119", "away"]);
    for number in 3..=20 {
        sender.publish(topic, &number.to_string(), &[]);
    }
    let said = sender.refusal(topic, "refused", &[]);
    assert!(said.contains("Quota exceeded"), "the member is waited for: {said}");
    let mut member = mosquitto_sub(receiver.port(), topic, &session);
    for number in 1..=20 {
        assert_eq!(member.message(PATIENCE).as_deref(), Some(&*format!("hsu0001/count {number}")));
    }
}

#[test]
fn a_new_member_gets_its_welcome_from_a_device_with_many_retained_messages() {
    let mut hub = Hub::start();
    // The device's keys are retained too: they take no place here.
    hub.configure("[limits]\nmax_device_retained = 3");
    let dirs = ["1111", "1112"].map(|device| hub.enroll(device));
    hub.group("hsu0001", "hsu0001/#", &["1111"]);
    let [first, second] = dirs.map(|dir| Agent::start(&dir, &[]));
    for number in 1..=3 {
        let topic = format!("hsu0001/{number}");
        until("the group has its keys", || first.try_publish(&topic, "x", &["-r"]));
    }
    let said = first.refusal("hsu0001/4", "x", &["-r"]);
    assert!(said.contains("Quota exceeded"), "{said}");
    hub.operate(&["group", "grant", "hsu0001", "1112"]);
    until_joined(&first, &second, "hsu0001/probe");
}

#[test]
fn offline_sessions_leave_the_control_connection_its_place_and_clients_are_told_why() {
    let mut hub = Hub::start();
    hub.configure("[limits]\nmax_device_sessions = 3");
    let dirs = hub.members("hsu0001", ["", ""]);
    let mut agent = Agent::start(&dirs[0], &[]);
    for id in ["a", "b", "c"] {
        agent.subscribe("hsu0001/x", &["-i", id, "-c"]).end();
    }
    agent.end();
    // Its own connection is up again although all places are taken.
    let agent = Agent::start(&dirs[0], &[]);
    agent.log.until(&["control connection to the hub is up"]);
    for _ in 0..3 {
        assert!(!agent.try_publish("hsu0001/x", "x", &["-i", "d"]));
    }
    let told = agent.log.lines(&["WARN", "max_device_sessions"]);
    assert_eq!(told.len(), 1, "once, as nothing has changed since");
    let other = Agent::start(&dirs[1], &[]);
    until("the group has its keys", || other.try_publish("hsu0001/x", "x", &[]));
}

#[test]
fn a_hub_whose_disk_is_full_fails_and_has_all_that_it_acknowledged_when_there_is_room() {
    let mut hub = Hub::start();
    let [sender, receiver] = hub.pair("hsu0001", ["", ""]);
    let session = ["-i", "member", "-c"];
    receiver.subscribe("hsu0001/count", &session).end();
    hub.kill();

    // No file may grow beyond 1 MiB, as if the disk had no more: writes fail, as ignoring SIGXFSZ has it.
    let start = || Process::start(&mut hub.up(sealcast_after("trap '' XFSZ; ulimit -f 1024")));
    let mut process = start();
    process.line();
    let payload = "x".repeat(2000);
    let mut acknowledged = 0;
    let publish = |number: u32| sender.publish_within(20, "hsu0001/count", &format!("{number} {payload}"), &[]);
    let mut attempts = 0u32;
    while process.exit_code().is_none() {
        attempts += 1;
        if publish(acknowledged) {
            acknowledged += 1;
        }
        assert!(attempts < 2000, "the disk is never full");
    }
    assert_eq!(process.exit_code(), Some(1), "{}", process.log.text());
    assert!(process.log.text().contains("the broker's journal"), "{}", process.log.text());
    assert!(acknowledged > 10, "{acknowledged}");

    // It starts while the disk is full, so that what was stored can be read; and fails again when it has to write.
    let mut process = start();
    process.line();
    until("it fails again", || {
        publish(1_000_000);
        process.exit_code().is_some()
    });
    assert_eq!(process.exit_code(), Some(1), "{}", process.log.text());

    hub.restart();
    let mut member = mosquitto_sub(receiver.port(), "hsu0001/count", &session);
    let mut next = 0;
    while next < acknowledged {
        let line = member.message(PATIENCE).expect("each message that was acknowledged");
        let number: u32 = line.strip_prefix("hsu0001/count ").unwrap().split(' ').next().unwrap().parse().unwrap();
        // One that was stored and not acknowledged was sent again.
        assert!(number <= next || number == 1_000_000, "{number} came, {next} is missing");
        next = next.max((number + 1) % 1_000_001);
    }
}

#[test]
fn a_device_that_was_removed_from_a_group_repeats_no_welcome_for_it() {
    let mut hub = Hub::start();
    let dirs = hub.members("hsu0001", ["", ""]);
    let first = Agent::start(&dirs[0], &[]);
    until("it has founded the group", || first.try_publish("hsu0001/probe", "x", &[]));
    let second = Agent::start(&dirs[1], &[]);
    // The first has welcomed the second.
    until_joined(&first, &second, "hsu0001/probe");
    hub.operate(&["group", "revoke", "hsu0001", "1111"]);
    first.log.until(&["this device has left the group"]);
    hub.kill();
    hub.restart();
    hub.group("hsu0002", "hsu0002/#", &["1111", "1112"]);
    // Welcomes for the new group go out behind those that would be repeated.
    until_joined(&first, &second, "hsu0002/probe");
    assert_eq!(first.log.count("the broker refused a message of the control plane"), 0);
}

/// A hub whose new entries are stored with some bytes changed: `change` is an SQL expression of `data`.
fn spoilt_ledger(change: &str, complaint: &str) {
    let mut hub = Hub::start();
    hub.enroll("1111");
    hub.kill();
    let db = rusqlite::Connection::open(hub.path().join("ledger.sqlite")).unwrap();
    db.execute_batch(&format!(
        "CREATE TRIGGER spoil AFTER INSERT ON logs BEGIN UPDATE logs SET data = CAST({change} AS BLOB)
         WHERE id = NEW.id; END"
    ))
    .unwrap();
    drop(db);
    let mut process = Process::start(&mut hub.up(sealcast()));
    process.line();
    let token = hub.invite("1112");
    let mut enroll = sealcast();
    enroll.args(["enroll", "--hub", &format!("https://{}", hub.est)]);
    enroll.arg("--token-file").arg(token).arg("--dir").arg(hub.path().join("1112"));
    let enrolled = output(&mut enroll);
    until(&format!("the hub ends: {enrolled:?}"), || process.exit_code().is_some());
    assert_eq!(process.exit_code(), Some(1), "{}", process.log.text());
    assert!(process.log.text().contains(complaint), "{}", process.log.text());
    // A supervisor starts it again: it does not come up.
    fails(&hub);
}

#[test]
fn a_hub_whose_ledger_does_not_verify_fails() {
    // An entry ends with its signature.
    spoilt_ledger("substr(data, 1, length(data) - 3) || x'5a5a5a'", "the hub's ledger does not verify");
}

#[test]
fn a_hub_whose_ledger_cannot_be_read_fails() {
    spoilt_ledger("substr(data, 1, 20)", "the hub's ledger cannot be read");
}

#[test]
fn a_folder_that_has_lost_a_file_is_refused() {
    let mut hub = Hub::start();
    hub.enroll("1111");
    hub.kill();
    let file = |name: &str| hub.path().join(name);
    let away = file("away");
    for lost in ["ledger.address", "ledger.sqlite", "issuing.pem", "operator.pem", "relay.key", "broker.db"] {
        fs::rename(file(lost), &away).unwrap();
        let before = names(hub.path());
        let said = fails(&hub);
        assert!(said.contains(&format!("{lost} is missing")) && said.contains("Restore it"), "{lost}: {said}");
        assert_eq!(names(hub.path()), before, "nothing is made in its place");
        fs::rename(&away, file(lost)).unwrap();
    }
    // On purpose: what the message says does it.
    fs::remove_file(file("broker.db")).unwrap();
    let said = fails(&hub);
    let touch = said.split("touch ").nth(1).unwrap().split_whitespace().next().unwrap();
    succeed(Command::new("touch").arg(touch));
    hub.restart();
    let entries = hub.operate(&["ledger", "show", "--json"]);
    assert!(entries.contains("1111"), "{entries}");
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_start_that_changes_nothing_writes_nothing() {
    let mut hub = Hub::start();
    let inodes = |hub: &Hub| {
        ["server.pem", "server.key", "network.json", "issuing.pem", "operator.pem", "root.pem", "relay.key"]
            .map(|name| fs::metadata(hub.path().join(name)).unwrap().ino())
    };
    let before = inodes(&hub);
    hub.kill();
    hub.restart();
    assert_eq!(inodes(&hub), before);
    // Other names, another certificate.
    hub.configure("names = [\"localhost\", \"127.0.0.1\", \"hub.example\"]");
    let after = inodes(&hub);
    assert_ne!(after[0], before[0]);
    assert_eq!(after[1..], before[1..]);
}

#[test]
fn a_hub_runs_without_the_operator_s_key_and_the_root_s() {
    let mut hub = Hub::start();
    let own = names(hub.path());
    assert!(own.iter().all(|name| name != "operator.key" && name != "root.key"), "{own:?}");
    hub.log.until(&["the operator's key is in", "hub-operator", "whoever has both"]);
    hub.log.until(&["the root CA's key is in", "hub-root", "offline"]);
    hub.kill();
    let elsewhere = tempfile::tempdir().unwrap();
    let moved = elsewhere.path().join("operator");
    fs::rename(hub.operator(), &moved).unwrap();
    fs::remove_dir_all(hub.dir.path().join("hub-root")).unwrap();
    hub.restart();
    hub.enroll("1111");
    assert!(!hub.operator().exists(), "a second start makes no other operator");
    let listed = succeed(sealcast().args(["device", "list", "--operator"]).arg(&moved));
    assert!(listed.contains("1111"), "{listed}");
    let said = refuse(["device", "list", "--operator", hub.path().to_str().unwrap()]);
    assert!(said.contains("operator.key"), "{said}");

    // As a hub of an earlier version left it.
    hub.kill();
    fs::copy(moved.join("operator.key"), hub.path().join("operator.key")).unwrap();
    let said = fails(&hub);
    assert!(said.contains("must not be") && said.contains("Move it: mkdir"), "{said}");
}
