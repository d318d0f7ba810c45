//! The agent's disk: full, and mended; its database lost. And how little memory an idle agent takes.

use std::{
    path::Path,
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::Value;

use crate::harness::{Agent, Hub, Process, mosquitto_sub, refuse, sealcast, succeed, until, until_joined};

const SOON: Duration = Duration::from_secs(30);

/// An agent whose files can be made to take no bytes: by the limit on the size of files that a process may write, which needs
/// neither rights nor a file system of its own.
struct Limited {
    agent: Agent,
    process: Process,
    log: Arc<Mutex<Vec<String>>>,
}

impl Limited {
    fn start(dir: &Path) -> Self {
        // What is over the limit is an error then, not the end of the process. The log comes where the test reads.
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\" 2>&1", env!("CARGO_BIN_EXE_sealcast"), "agent"]);
        command.arg("--dir").arg(dir).args(["--listen", "127.0.0.1:0", "--json"]);
        command.env("NO_COLOR", "1").stdin(Stdio::null());
        let process = Process::start(&mut command);
        let log: Arc<Mutex<Vec<String>>> = Arc::default();
        let ready = loop {
            let line = process.line();
            match serde_json::from_str::<Value>(&line) {
                Ok(ready) => break ready,
                Err(_) => log.lock().unwrap().push(line),
            }
        };
        let listen = ready["listen"].as_str().unwrap().to_owned();
        Self { agent: Agent::at(dir, &listen), process, log }
    }

    /// How large its files may become: 0, or without limit.
    fn limit(&self, bytes: &str) {
        let pid = self.process.id().to_string();
        succeed(Command::new("prlimit").args(["--pid", &pid, &format!("--fsize={bytes}:unlimited")]));
    }

    /// The lines of its log with `part`.
    fn said(&mut self, part: &str) -> usize {
        let mut log = self.log.lock().unwrap();
        log.extend(self.process.pending());
        log.iter().filter(|line| line.contains(part)).count()
    }

    /// Whether an MQTT client got its message acknowledged.
    fn publish(&self, topic: &str, payload: &str, extra: &[&str]) -> bool {
        let mut command = Command::new("timeout");
        command.args(["5", "mosquitto_pub", "-h", "127.0.0.1", "-p", self.agent.port(), "-t", topic, "-m", payload]);
        command.args(["-q", "1"]).args(extra);
        command.output().unwrap().status.success()
    }
}

fn two(hub: &Hub, sender: &str) -> [std::path::PathBuf; 2] {
    let dirs = ["1111", "1112"].map(|device| hub.enroll(device));
    std::fs::write(dirs[0].join("agent.toml"), sender).unwrap();
    hub.group("hsu0001", "hsu0001/#", &["1111", "1112"]);
    dirs
}

const FULL: &str = "agent.sqlite cannot be written";
const ROOM: &str = "can be written again";

#[test]
fn a_receiver_with_a_full_disk_acknowledges_nothing_and_goes_on_when_there_is_room() {
    let hub = Hub::start();
    let dirs = two(&hub, "");
    let sender = Agent::start(&dirs[0], &[]);
    let mut receiver = Limited::start(&dirs[1]);
    until_joined(&sender, &receiver.agent, "hsu0001/probe");

    let session = ["-i", "app", "-c", "-k", "5"];
    let mut app = mosquitto_sub(receiver.agent.port(), "hsu0001/t", &session);
    sender.publish("hsu0001/t", "1", &[]);
    assert_eq!(app.message(SOON).as_deref(), Some("hsu0001/t 1"));

    receiver.limit("0");
    sender.publish("hsu0001/t", "2", &[]);
    assert_eq!(app.message(SOON).as_deref(), Some("hsu0001/t 2"));
    until("the log says that the disk is full", || receiver.said(FULL) > 0);
    sender.publish("hsu0001/t", "3", &[]);
    sender.publish("hsu0001/t", "4", &[]);
    // The client tries again and again, and is let in when there is room. What it acknowledged does not come twice.
    let mut attempts = 0;
    while attempts < 4 {
        let line = app.line_within(SOON).expect("the client goes on");
        attempts += usize::from(line.contains("sending CONNECT"));
        assert!(!line.contains("CONNACK"), "{line}");
    }
    assert_eq!(receiver.said(FULL), 1, "once, however often it fails");
    receiver.limit("unlimited");
    assert_eq!(app.message(SOON).as_deref(), Some("hsu0001/t 3"));
    assert_eq!(app.message(SOON).as_deref(), Some("hsu0001/t 4"));
    until("the log says that there is room", || receiver.said(ROOM) == 1);

    // The answer to a ping comes behind what its client acknowledged before.
    until("4 is acknowledged", || app.line_within(SOON).is_some_and(|line| line.contains("received PINGRESP")));

    // Killed while the disk is full: the broker has no acknowledgement that the windows on disk do not know.
    receiver.limit("0");
    sender.publish("hsu0001/t", "5", &[]);
    assert_eq!(app.message(SOON).as_deref(), Some("hsu0001/t 5"));
    until("the connection was closed", || app.line_within(SOON).is_some_and(|line| line.contains("sending CONNECT")));
    app.kill();
    receiver.process.kill();
    let receiver = Agent::start(&dirs[1], &[]);
    let mut app = receiver.subscribe("hsu0001/t", &session);
    assert_eq!(app.message(SOON).as_deref(), Some("hsu0001/t 5"), "it was not acknowledged, so it comes again");
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
    let dirs = two(&hub, rules);
    let mut sender = Limited::start(&dirs[0]);
    let receiver = Agent::start(&dirs[1], &[]);
    until_joined(&sender.agent, &receiver, "hsu0001/probe");
    let limits =
        ["group", "limits", "hsu0001", "--topic", "hsu0001/recorded", "--min", "0", "--max", "99", "--unit", "Cel"];
    hub.operate(&limits);
    let mut app = receiver.subscribe("hsu0001/#", &["-T", "hsu0001/probe"]);
    assert!(sender.publish("hsu0001/checked", "20", &[]));
    assert_eq!(app.message(SOON).as_deref(), Some("hsu0001/checked 20"));

    sender.limit("0");
    for (topic, payload, extra) in
        [("hsu0001/checked", "21", &[][..]), ("hsu0001/kept", "on", &["-r"][..]), ("hsu0001/recorded", "7", &[][..])]
    {
        assert!(!sender.publish(topic, payload, extra), "{topic} was acknowledged");
        assert!(!sender.publish(topic, payload, extra), "{topic} was acknowledged");
    }
    // The ledger goes on meanwhile: the agent's replica does when there is room.
    hub.group("hsu0002", "hsu0002/#", &["1111", "1112"]);
    until("the log says that the disk is full", || sender.said(FULL) > 0);
    assert_eq!(sender.said(FULL), 1, "once, however often it fails");

    sender.limit("unlimited");
    for (topic, payload, extra) in
        [("hsu0001/checked", "22", &[][..]), ("hsu0001/kept", "off", &["-r"][..]), ("hsu0001/recorded", "8", &[][..])]
    {
        until("it is taken", || sender.publish(topic, payload, extra));
        assert_eq!(app.message(SOON), Some(format!("{topic} {payload}")), "nothing else came before it");
    }
    until_joined(&sender.agent, &receiver, "hsu0002/probe");
    let recorded = || -> Vec<String> {
        let shown = hub.operate(&["readings", "show", "1111", "--topic", "hsu0001/recorded", "--json"]);
        let shown: Value = serde_json::from_str(&shown).unwrap();
        shown["readings"].as_array().unwrap().iter().map(|row| row["value"].as_str().unwrap().to_owned()).collect()
    };
    until("it is recorded", || recorded() == ["8"]);
}

#[test]
fn an_agent_that_lost_its_database_says_so_and_begins_anew_when_it_is_told_to() {
    let hub = Hub::start();
    let dirs = two(&hub, "");
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
    assert!(said.contains("start without it"), "{said}");

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
    let dirs = two(&hub, "");
    let sender = Limited::start(&dirs[0]);
    let receiver = Agent::start(&dirs[1], &[]);
    until_joined(&sender.agent, &receiver, "hsu0001/probe");
    let status = std::fs::read_to_string(format!("/proc/{}/status", sender.process.id())).unwrap();
    let anonymous = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    let kilobytes: u64 = anonymous.trim().trim_end_matches(" kB").parse().unwrap();
    // 3.9 MB in a debug build; it was 17.8 MB while rumqttc kept a slot for each packet id that there is.
    assert!(kilobytes < 10_000, "{kilobytes} kB");
}
