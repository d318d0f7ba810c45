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
    let mut frames: BTreeMap<(u64, u64), String> = BTreeMap::new();
    let mut epochs = BTreeSet::new();
    // From the group's present epoch on: a grant that is revoked before anyone has acted on it turns no epoch.
    until("frames of the group's first epoch with both members", || {
        collect(&mut observer, &mut frames, &mut epochs);
        epochs.contains(&epoch(&hub))
    });
    for round in 0..ROUNDS {
        let command = if round % 2 == 0 { "grant" } else { "revoke" };
        hub.operate(&["group", command, "hsu0001", "1113"]);
        sender.kill();
        sender.restart();
        let (before, turned) = (frames.len(), epochs.len());
        until("frames of the new start and of a new epoch", || {
            collect(&mut observer, &mut frames, &mut epochs);
            frames.len() >= before + 10 && epochs.len() > turned
        });
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().unwrap();
    }
    collect(&mut observer, &mut frames, &mut epochs);
    assert!(epochs.len() >= ROUNDS, "epochs: {epochs:?}");
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

fn collect(observer: &mut Process, frames: &mut BTreeMap<(u64, u64), String>, epochs: &mut BTreeSet<u16>) {
    for line in observer.pending() {
        let Some((_, hex)) = line.split_once(' ').filter(|(topic, _)| topic.starts_with("hsu0001/")) else { continue };
        let frame = hex::decode(hex).unwrap();
        let header = Header::parse(&frame).unwrap();
        epochs.insert(header.key_id.epoch_tag());
        // The broker may hand one frame on twice; two frames of one nonce are the end.
        let before = frames.insert((header.key_id.bits(), header.ctr()), hex.to_owned());
        assert!(before.is_none_or(|before| before == hex), "two frames with {:?} {}", header.key_id, header.counter);
    }
}
