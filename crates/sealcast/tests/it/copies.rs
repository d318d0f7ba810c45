//! An agent's folder is copied, the agent runs on, and the copy is put back: the agent notices by itself, no key and nonce are
//! used twice, and the device is in its group again. And a hub's folder: its agents say so.

use std::{
    collections::BTreeSet,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{
    harness::{Agent, Hub, Process, output, sealcast, succeed, unique, until, until_joined},
    nonce::{Frames, observe},
};

/// Of a reader with a session and replay windows of its own.
const SESSION: [&str; 3] = ["-i", "reader", "-c"];

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for file in std::fs::read_dir(from).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file()) {
        std::fs::copy(&file, to.join(file.file_name().unwrap())).unwrap();
    }
}

/// Two members of a group, and a third device that is granted it now and then; whoever sees all at the broker; and a copy of
/// the second one's folder, made while its agent did not run.
struct Scene {
    hub: Hub,
    other: Agent,
    copied: Agent,
    copy: PathBuf,
    observer: Process,
    frames: Frames,
    _third: Agent,
}

impl Scene {
    fn new() -> Self {
        let hub = Hub::start();
        let third = hub.enroll("1113");
        let [other, mut copied] = hub.pair("hsu0001", ["", ""]);
        let observer = observe(&hub, &other.dir);
        let third = Agent::start(&third, &[]);
        until_joined(&copied, &other, "hsu0001/before");
        copied.kill();
        let copy_of = hub.dir.path().join("copy");
        copy(&copied.dir, &copy_of);
        copied.restart();
        until_joined(&copied, &other, "hsu0001/before");
        Self { hub, other, copied, copy: copy_of, observer, frames: Frames::default(), _third: third }
    }

    /// Another epoch, that both members seal under.
    fn turn(&mut self, change: &str) {
        let before = self.frames.epochs.len();
        self.hub.operate(&["group", change, "hsu0001", "1113"]);
        until("the next epoch", || {
            self.copied.try_publish("hsu0001/before", "x", &[]);
            self.other.try_publish("hsu0001/before", "x", &[]);
            self.frames.collect(&mut self.observer);
            self.frames.epochs.len() > before
        });
    }

    /// The agent is killed, and starts with the copy of its folder.
    fn put_back(&mut self) {
        self.copied.kill();
        std::fs::remove_dir_all(&self.copied.dir).unwrap();
        copy(&self.copy, &self.copied.dir);
        self.copied.restart();
    }
}

#[test]
fn a_folder_that_is_put_back_from_a_copy_repeats_no_nonce_and_is_a_member_again() {
    let mut scene = Scene::new();
    for change in ["grant", "revoke"] {
        scene.turn(change);
    }
    let before = scene.frames.epochs.clone();
    scene.put_back();
    until_joined(&scene.copied, &scene.other, "hsu0001/after");
    until_joined(&scene.other, &scene.copied, "hsu0001/others");
    scene.copied.log.until(&[" WARN ", "this agent's folder is older than what the device has done"]);
    // It is as new as any other from now on.
    scene.copied.kill();
    scene.copied.restart();
    until_joined(&scene.copied, &scene.other, "hsu0001/after");
    scene.frames.collect(&mut scene.observer);
    let after: BTreeSet<u16> = scene.frames.epochs_of("hsu0001/after");
    assert!(!after.is_empty() && after.is_disjoint(&before), "{after:?} {before:?}");
    let alarms = scene.copied.log.lines(&["folder is older"]);
    assert_eq!(alarms.len(), 1, "{alarms:?}");
    assert!(scene.other.log.lines(&["folder is older"]).is_empty());
}

/// What its clients had after the copy was made is not in its replay windows.
/// It has nothing new to say, and then what does not continue the ledger.
#[test]
fn a_hub_whose_folder_is_put_back_from_a_copy_is_told_of_before_it_is_written_to_and_after() {
    let mut hub = Hub::start();
    let [agent, _other] = hub.pair("home", ["", ""]);
    let (folder, copy_of) = (hub.path().to_owned(), hub.dir.path().join("copy"));
    hub.kill();
    copy(&folder, &copy_of);
    hub.restart();
    hub.operate(&["group", "create", "newer", "--filter", "newer/#"]);
    until("the agent has read it", || succeed(&mut shown(&agent.dir)).contains("newer"));
    hub.kill();
    std::fs::remove_dir_all(&folder).unwrap();
    copy(&copy_of, &folder);
    hub.restart();
    agent.log.until(&[" ERROR ", "the hub shows an older ledger or another one", "docs/recovery.md"]);
    for name in ["fork", "longer"] {
        hub.operate(&["group", "create", name, "--filter", &format!("{name}/#")]);
    }
    agent.log.until(&[" ERROR ", "does not verify", "put back from an older copy"]);
    until("both are noted", || {
        let noted = succeed(sealcast().args(["why", "home/t", "--json", "--dir"]).arg(&agent.dir));
        noted.contains("ledger-withheld") && noted.contains("ledger-parted")
    });
    let found = output(sealcast().args(["doctor", "--json", "--dir"]).arg(&agent.dir));
    let found = String::from_utf8(found.stdout).unwrap();
    assert!(found.contains("the hub shows another ledger: its entry"), "{found}");
}

fn shown(dir: &Path) -> Command {
    let mut command = sealcast();
    command.args(["ledger", "show", "--agent"]).arg(dir);
    command
}

#[test]
fn what_was_delivered_before_a_copy_was_put_back_is_not_delivered_again() {
    let mut scene = Scene::new();
    let mut reader = scene.copied.subscribe("hsu0001/#", &SESSION);
    let payload = unique("once");
    scene.other.publish("hsu0001/once", &payload, &[]);
    reader.before(&payload);
    reader.end();
    until("the message at the broker", || {
        scene.frames.collect(&mut scene.observer);
        !scene.frames.of("hsu0001/once").is_empty()
    });
    scene.put_back();
    until_joined(&scene.other, &scene.copied, "hsu0001/after");
    let mut reader = scene.copied.subscribe("hsu0001/#", &SESSION);
    for frame in scene.frames.of("hsu0001/once") {
        replay(&scene.hub, &scene.other.dir, "hsu0001/once", &frame);
    }
    let came = scene.other.before_marker("hsu0001/marker", &mut reader);
    assert!(came.iter().all(|line| !line.starts_with("hsu0001/once")), "{came:?}");
}

/// Whoever can write to the broker sends a frame again.
fn replay(hub: &Hub, dir: &Path, topic: &str, frame: &[u8]) {
    let mut command = Command::new("mosquitto_pub");
    command.args(["-p", hub.mqtt_port(), "-t", topic, "-q", "1", "-s"]);
    command.arg("--cafile").arg(hub.path().join("root.pem"));
    command.arg("--cert").arg(dir.join("device.pem")).arg("--key").arg(dir.join("device.key"));
    let mut process = command.stdin(Stdio::piped()).spawn().unwrap();
    process.stdin.take().unwrap().write_all(frame).unwrap();
    assert!(process.wait().unwrap().success());
}
