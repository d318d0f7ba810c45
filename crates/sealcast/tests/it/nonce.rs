//! No two frames on the wire have the same key and nonce, however often an agent is killed while epochs turn.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use sealcast_seal::Header;

use crate::harness::{Agent, Hub, Process, mosquitto_sub, until, until_joined};

const ROUNDS: usize = 5;
/// Clients that wait at the agent's door when it opens: each has a will, which is sealed when it connects.
const WAITING: usize = 6;

#[test]
fn no_nonce_is_used_twice_when_an_agent_is_killed_again_and_again() {
    let hub = Hub::start();
    let dirs = ["1111", "1112", "1113"].map(|device| hub.enroll(device));
    hub.group("hsu0001", "hsu0001/#", &["1111", "1112"]);
    let mut sender = Agent::start(&dirs[0], &[]);
    let other = Agent::start(&dirs[1], &[]);
    let _third = Agent::start(&dirs[2], &[]);
    let mut observer = observe(&hub, &dirs[1]);
    until_joined(&sender, &other, "hsu0001/probe");

    let stop = Arc::new(AtomicBool::new(false));
    let _stops = StopsWhenDropped(stop.clone());
    let clients: Vec<_> = (0..WAITING).map(|client| knock(sender.port().to_owned(), client, stop.clone())).collect();
    let mut frames = Frames::default();
    // From the group's present epoch on: a grant that is revoked before anyone has acted on it turns no epoch.
    until("frames of the group's first epoch with both members", || {
        frames.collect(&mut observer);
        frames.epochs.contains(&epoch(&hub))
    });
    for round in 0..ROUNDS {
        let command = if round % 2 == 0 { "grant" } else { "revoke" };
        hub.operate(&["group", command, "hsu0001", "1113"]);
        sender.kill();
        sender.restart();
        let (before, turned) = (frames.seen.len(), frames.epochs.len());
        until("frames of the new start and of a new epoch", || {
            frames.collect(&mut observer);
            frames.seen.len() >= before + 10 && frames.epochs.len() > turned
        });
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().unwrap();
    }
    frames.collect(&mut observer);
    assert!(frames.epochs.len() >= ROUNDS, "epochs: {:?}", frames.epochs);
}

/// The group's epoch on the ledger.
fn epoch(hub: &Hub) -> u16 {
    let group: serde_json::Value =
        serde_json::from_str(&hub.operate(&["group", "show", "hsu0001", "--json"])).expect("the group as JSON");
    group["group"]["epoch"].as_u64().and_then(|epoch| epoch.try_into().ok()).expect("an epoch")
}

/// The clients end with the test, also when it fails.
struct StopsWhenDropped(Arc<AtomicBool>);

impl Drop for StopsWhenDropped {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Connects with a will and publishes, over and over.
fn knock(port: String, client: usize, stop: Arc<AtomicBool>) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        while !stop.load(Ordering::Relaxed) {
            let mut command = Command::new("timeout");
            command.args([
                "20",
                "mosquitto_pub",
                "-h",
                "127.0.0.1",
                "-p",
                &port,
                "-q",
                "1",
                "-t",
                "hsu0001/t",
                "-m",
                "x",
            ]);
            command.args(["--will-topic", &format!("hsu0001/will/{client}"), "--will-payload", "gone"]);
            let _ = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
            thread::sleep(Duration::from_millis(20));
        }
    })
}

pub fn observe(hub: &Hub, dir: &std::path::Path) -> Process {
    let path = |path: std::path::PathBuf| path.to_str().unwrap().to_owned();
    mosquitto_sub(
        hub.mqtt_port(),
        "hsu0001/#",
        &[
            "--cafile",
            &path(hub.path().join("root.pem")),
            "--cert",
            &path(dir.join("device.pem")),
            "--key",
            &path(dir.join("device.key")),
            "-F",
            "%t %x",
        ],
    )
}

/// What whoever observes the broker has seen of the group's messages.
#[derive(Default)]
pub struct Frames {
    /// By KID and counter, each with its topic.
    seen: BTreeMap<(u64, u64), (String, Vec<u8>)>,
    /// The epochs that they are sealed under.
    pub epochs: BTreeSet<u16>,
}

impl Frames {
    pub fn collect(&mut self, observer: &mut Process) {
        for line in observer.pending() {
            let Some((topic, hex)) = line.split_once(' ').filter(|(topic, _)| topic.starts_with("hsu0001/")) else {
                continue;
            };
            let frame = hex::decode(hex).unwrap();
            let header = Header::parse(&frame).unwrap();
            self.epochs.insert(header.key_id.epoch_tag());
            // The broker may hand one frame on twice; two frames of one nonce are the end.
            let place = (header.key_id.bits(), header.ctr());
            let (_, first) = self.seen.entry(place).or_insert_with(|| (topic.to_owned(), frame.clone()));
            assert!(*first == frame, "two frames with {:?} {}", header.key_id, header.counter);
        }
    }

    /// Those on a topic.
    pub fn of(&self, topic: &str) -> Vec<Vec<u8>> {
        self.seen.values().filter(|(of, _)| of == topic).map(|(_, frame)| frame.clone()).collect()
    }

    /// The epochs that those on a topic are sealed under.
    pub fn epochs_of(&self, topic: &str) -> BTreeSet<u16> {
        self.of(topic).iter().map(|frame| Header::parse(frame).unwrap().key_id.epoch_tag()).collect()
    }
}
