//! The agent's disk: full, and mended; its database lost. And how little memory an idle agent takes.

use std::{path::Path, process::Command};

use sealcast_seal::Header;
use serde_json::Value;

use crate::harness::{
    Agent, Hub, PATIENCE, mosquitto_sub, refuse, sealcast, sealcast_after, succeed, until, until_joined,
};
use crate::nonce::observe;

/// An agent whose files can be made to take no bytes: by the limit on the size of files that a process may write, which needs
/// neither rights nor a file system of its own.
struct Limited(Agent);

impl Limited {
    fn start(dir: &Path) -> Self {
        // What is over the limit is an error then, not the end of the process.
        Self(Agent::start_by(|| sealcast_after("trap '' XFSZ"), dir, &[]))
    }

    /// How large its files may become: 0, or without limit.
    fn limit(&self, bytes: &str) {
        let pid = self.id().to_string();
        succeed(Command::new("prlimit").args(["--pid", &pid, &format!("--fsize={bytes}:unlimited")]));
    }

    /// Whether an MQTT client got its message acknowledged.
    fn takes(&self, topic: &str, payload: &str, extra: &[&str]) -> bool {
        self.publish_within(5, topic, payload, extra)
    }
}

impl std::ops::Deref for Limited {
    type Target = Agent;

    fn deref(&self) -> &Agent {
        &self.0
    }
}

const FULL: &str = "agent.sqlite cannot be written";
const ROOM: &str = "can be written again";

#[test]
fn a_receiver_with_a_full_disk_acknowledges_nothing_and_goes_on_when_there_is_room() {
    let hub = Hub::start();
    let dirs = hub.members("hsu0001", ["", ""]);
    let sender = Agent::start(&dirs[0], &[]);
    let receiver = Limited::start(&dirs[1]);
    until_joined(&sender, &receiver, "hsu0001/probe");

    let session = ["-i", "app", "-c", "-k", "5"];
    let mut app = mosquitto_sub(receiver.port(), "hsu0001/t", &session);
    sender.publish("hsu0001/t", "1", &[]);
    assert_eq!(app.message(PATIENCE).as_deref(), Some("hsu0001/t 1"));

    receiver.limit("0");
    sender.publish("hsu0001/t", "2", &[]);
    receiver.log.until(&[FULL]);
    sender.publish("hsu0001/t", "3", &[]);
    sender.publish("hsu0001/t", "4", &[]);
    // The client tries again and again, and is let in when there is room. What it acknowledged does not come twice.
    // Message 2 comes before that if the agent had stored what it knows of message 1 when its disk became full.
    let (mut arrived, mut attempts) = (Vec::new(), 0);
    while attempts < 4 {
        let line = app.line_within(PATIENCE).expect("the client goes on");
        attempts += usize::from(line.contains("sending CONNECT"));
        assert!(!line.contains("CONNACK"), "{line}");
        arrived.extend(line.starts_with("hsu0001/t ").then_some(line));
    }
    assert_eq!(receiver.log.count(FULL), 1, "once, however often it fails");
    receiver.limit("unlimited");
    while arrived.len() < 3 {
        arrived.push(app.message(PATIENCE).expect("each message arrives"));
    }
    assert_eq!(arrived, ["hsu0001/t 2", "hsu0001/t 3", "hsu0001/t 4"]);
    receiver.log.until(&[ROOM]);

    // The answer to a ping comes behind what its client acknowledged before.
    until("4 is acknowledged", || app.line_within(PATIENCE).is_some_and(|line| line.contains("received PINGRESP")));

    // Killed while the disk is full: the broker has no acknowledgement that the windows on disk do not know.
    receiver.limit("0");
    sender.publish("hsu0001/t", "5", &[]);
    assert_eq!(app.message(PATIENCE).as_deref(), Some("hsu0001/t 5"));
    until("the connection was closed", || {
        app.line_within(PATIENCE).is_some_and(|line| line.contains("sending CONNECT"))
    });
    app.kill();
    drop(receiver);
    let receiver = Agent::start(&dirs[1], &[]);
    let mut app = receiver.subscribe("hsu0001/t", &session);
    assert_eq!(app.message(PATIENCE).as_deref(), Some("hsu0001/t 5"), "it was not acknowledged, so it comes again");
}

#[test]
fn a_sender_with_a_full_disk_takes_nothing_that_it_must_remember_and_goes_on_when_there_is_room() {
    let hub = Hub::start();
    let rules = "
        [[quality]]
        filter = 'hsu0001/checked'
        step = { max = 10, action = 'block' }
        [[record]]
        filter = 'hsu0001/recorded'";
    let dirs = hub.members("hsu0001", [rules, ""]);
    let sender = Limited::start(&dirs[0]);
    let receiver = Agent::start(&dirs[1], &[]);
    until_joined(&sender, &receiver, "hsu0001/probe");
    let limits =
        ["group", "limits", "hsu0001", "--topic", "hsu0001/recorded", "--min", "0", "--max", "99", "--unit", "Cel"];
    hub.operate(&limits);
    let mut app = receiver.subscribe("hsu0001/#", &["-T", "hsu0001/probe"]);
    assert!(sender.takes("hsu0001/checked", "20", &[]));
    assert_eq!(app.message(PATIENCE).as_deref(), Some("hsu0001/checked 20"));

    sender.limit("0");
    for (topic, payload, extra) in
        [("hsu0001/checked", "21", &[][..]), ("hsu0001/kept", "on", &["-r"][..]), ("hsu0001/recorded", "7", &[][..])]
    {
        assert!(!sender.takes(topic, payload, extra), "{topic} was acknowledged");
        assert!(!sender.takes(topic, payload, extra), "{topic} was acknowledged");
    }
    // The ledger goes on meanwhile: the agent's replica does when there is room.
    hub.group("hsu0002", "hsu0002/#", &["1111", "1112"]);
    sender.log.until(&[FULL]);
    assert_eq!(sender.log.count(FULL), 1, "once, however often it fails");

    sender.limit("unlimited");
    for (topic, payload, extra) in
        [("hsu0001/checked", "22", &[][..]), ("hsu0001/kept", "off", &["-r"][..]), ("hsu0001/recorded", "8", &[][..])]
    {
        until("it is taken", || sender.takes(topic, payload, extra));
        assert_eq!(app.message(PATIENCE), Some(format!("{topic} {payload}")), "nothing else came before it");
    }
    until_joined(&sender, &receiver, "hsu0002/probe");
    let recorded = || -> Vec<String> {
        let shown = hub.operate(&["readings", "show", "1111", "--topic", "hsu0001/recorded", "--json"]);
        let shown: Value = serde_json::from_str(&shown).unwrap();
        shown["readings"].as_array().unwrap().iter().map(|row| row["value"].as_str().unwrap().to_owned()).collect()
    };
    until("it is recorded", || recorded() == ["8"]);
}

#[test]
fn nothing_is_sealed_for_a_revoked_member_while_the_disk_is_full_or_before_the_ledger_was_read_again() {
    let mut hub = Hub::start();
    // So that the revoked member sees what the broker sees.
    hub.configure("subscribe = 'anyone'");
    let dirs = hub.members("hsu0001", ["", ""]);
    let sender = Limited::start(&dirs[0]);
    let receiver = Agent::start(&dirs[1], &[]);
    until_joined(&sender, &receiver, "hsu0001/probe");
    let mut observer = observe(&hub, &dirs[1]);
    let mut epoch_of_next = || {
        let line = observer.message(PATIENCE).expect("a frame");
        let (_, frame) = line.split_once(' ').unwrap();
        Header::parse(&hex::decode(frame).unwrap()).unwrap().key_id.epoch_tag()
    };
    assert!(sender.takes("hsu0001/t", "before", &[]));
    let before = epoch_of_next();

    sender.limit("0");
    // The control task waits with this record, and so does not learn of the next one.
    hub.group("hsu0002", "hsu0002/#", &["1111"]);
    sender.log.until(&[FULL]);
    hub.operate(&["group", "revoke", "hsu0001", "1112", "--reason", "stolen"]);
    assert!(!sender.takes("hsu0001/t", "secret", &[]), "it was sealed for the device that was revoked");
    sender.limit("unlimited");
    until("it is taken", || sender.takes("hsu0001/t", "after", &[]));
    assert_ne!(epoch_of_next(), before, "the first that goes out is not for the device that was revoked");
}

#[test]
fn an_agent_that_lost_its_database_says_so_and_begins_anew_when_it_is_told_to() {
    let hub = Hub::start();
    let dirs = hub.members("hsu0001", ["", ""]);
    let mut sender = Agent::start(&dirs[0], &[]);
    let receiver = Agent::start(&dirs[1], &[]);
    until_joined(&sender, &receiver, "hsu0001/probe");
    sender.kill();
    for lost in [true, false] {
        for file in ["agent.sqlite", "agent.sqlite-wal", "agent.sqlite-shm"] {
            let _ = std::fs::remove_file(dirs[0].join(file));
        }
        if !lost {
            std::fs::write(dirs[0].join("agent.sqlite"), "").unwrap();
        }
        for extra in [None, Some("--check")] {
            let said = refuse(
                ["agent", "--dir", dirs[0].to_str().unwrap(), "--listen", "127.0.0.1:0"].into_iter().chain(extra),
            );
            assert!(said.contains("the agent's state is lost") && said.contains("--new-state"), "{said}");
            assert!(said.contains(if lost { "missing" } else { "empty" }), "{said}");
        }
    }
    // Once: it is no way to wipe a state that is there.
    let sender = Agent::start(&dirs[0], &["--new-state"]);
    until_joined(&sender, &receiver, "hsu0001/probe");
    drop(sender);
    let said = refuse(["agent", "--dir", dirs[0].to_str().unwrap(), "--listen", "127.0.0.1:0", "--new-state"]);
    assert!(said.contains("start the agent without this option"), "{said}");

    // Enrolling is the other way, also before any agent ran.
    std::fs::remove_file(dirs[1].join("agent.sqlite")).unwrap();
    let url = format!("https://{}", hub.est);
    let token = hub.invite("1112");
    drop(receiver);
    succeed(sealcast().args(["enroll", "--hub", &url]).arg("--token-file").arg(token).arg("--dir").arg(&dirs[1]));
    succeed(sealcast().args(["agent", "--check", "--dir"]).arg(&dirs[1]));
}

#[test]
fn an_idle_agent_takes_little_memory() {
    let hub = Hub::start();
    let [sender, _receiver] = hub.pair("hsu0001", ["", ""]);
    let status = std::fs::read_to_string(format!("/proc/{}/status", sender.id())).unwrap();
    let anonymous = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    let kilobytes: u64 = anonymous.trim().trim_end_matches(" kB").parse().unwrap();
    // 4.1 MB in a debug build; it was 17.8 MB while the MQTT client kept a slot for each packet id that there is.
    assert!(kilobytes < 10_000, "{kilobytes} kB");
}
