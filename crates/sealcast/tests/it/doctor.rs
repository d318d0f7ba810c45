//! `sealcast doctor` on the folders of a fleet that runs, and on folders that are broken. `sealcast init`, and what it writes.

mod hostile;
mod places;

use std::{
    collections::BTreeMap,
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Command,
};

use serde_json::Value;

use crate::harness::{Agent, Hub, Process, configure, output, refuse, sealcast, succeed, until, until_joined};

/// What it says of a folder: its exit code, and its checks.
struct Found {
    code: Option<i32>,
    checks: Vec<Value>,
}

impl Found {
    fn of(option: &str, dir: &Path, extra: &[&str]) -> Self {
        Self::by(sealcast().args(["doctor", "--json", option]).arg(dir).args(extra))
    }

    /// By a command that ends with that.
    fn by(command: &mut Command) -> Self {
        let ran = output(command);
        let text = String::from_utf8_lossy(&ran.stdout);
        let checks: Value = serde_json::from_str(&text)
            .unwrap_or_else(|error| panic!("{error}: {text}\n{}", String::from_utf8_lossy(&ran.stderr)));
        Self { code: ran.status.code(), checks: checks.as_array().unwrap().clone() }
    }

    /// What is not ok.
    fn faults(&self) -> Vec<&Value> {
        self.checks.iter().filter(|check| check["verdict"] != "ok").collect()
    }

    #[track_caller]
    fn assert_ok(&self) {
        assert_eq!((self.faults(), self.code), (vec![], Some(0)), "{:#?}", self.checks);
    }

    /// The check `name` fails, says this, and what to do.
    #[track_caller]
    fn assert_failure(&self, name: &str, part: &str) {
        assert_eq!(self.code, Some(1), "{:#?}", self.checks);
        self.assert_fault("failure", name, part);
    }

    /// The check `name` has this verdict, says this, and what to do.
    #[track_caller]
    fn assert_fault(&self, verdict: &str, name: &str, part: &str) {
        let mut faults = self.checks.iter().filter(|check| check["check"] == name && check["verdict"] == verdict);
        let said = faults.any(|check| {
            check["found"].as_str().unwrap().contains(part) && !check["advice"].as_str().unwrap().is_empty()
        });
        assert!(said, "{name}: {part}: {:#?}", self.faults());
    }

    /// The check `name` is ok with this.
    #[track_caller]
    fn assert_says(&self, name: &str, part: &str) {
        let says = |check: &&Value| check["check"] == name && check["found"].as_str().unwrap().contains(part);
        assert!(self.checks.iter().any(|check| says(&check)), "{name}: {part}: {:#?}", self.checks);
    }
}

/// The files of a folder, with what is in them. SQLite's shared memory is each reader's.
fn content(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
    let files = files.filter(|path| !path.to_string_lossy().ends_with("-shm"));
    files.map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(path).unwrap())).collect()
}

/// A copy of a folder, for something to be broken in.
fn copy(dir: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    fs::set_permissions(to, Permissions::from_mode(0o700)).unwrap();
    for (name, _) in content(dir) {
        fs::copy(dir.join(&name), to.join(&name)).unwrap();
    }
}

#[test]
fn a_fleet_that_runs_is_well_and_so_is_one_that_was_stopped() {
    let mut hub = Hub::start();
    let dirs = hub.members("hsu0001", ["", "max_clients = 7"]);
    let mut agents = dirs.each_ref().map(|dir| Agent::start(dir, &[]));
    until_joined(&agents[0], &agents[1], "hsu0001/probe");
    let duty = Process::start(&mut hub.command(&["operator", "--every", "1"]));
    duty.line();

    until("the operator's word is kept", || {
        let found = Found::of("--operator", &hub.operator(), &[]);
        found.checks.iter().any(|check| check["found"].as_str().unwrap().contains("the operator's last word is of"))
    });
    let found = Found::of("--dir", &dirs[1], &[]);
    found.assert_ok();
    found.assert_says("process", &format!("as process {}", agents[1].id()));
    found.assert_says("ports", &format!("{} is listened at", agents[1].listen));
    found.assert_says("configuration", "agent.toml is in order");
    found.assert_says("groups", "hsu0001: 2 of 2 granted devices are members");
    found.assert_says("registration", "1112");
    found.assert_says("broker", hub.mqtt_port());
    found.assert_says("operator", "the operator's last word is of");
    found.assert_says("clock", "which fits the certificate, the ledger, the hub");

    let found = Found::of("--hub", hub.path(), &[]);
    found.assert_ok();
    found.assert_says("groups", "hsu0001: 2 of 2 granted devices are members");
    found.assert_says("ports", &format!("{} is listened at", hub.est));
    found.assert_says("reach", "the hub answers");
    let found = Found::of("--operator", &hub.operator(), &[]);
    found.assert_ok();
    found.assert_says("groups", "hsu0001: 2 of 2 granted devices are members");

    // Both at once, for a person, where nobody names them.
    let said = succeed(sealcast().arg("doctor").current_dir(hub.dir.path()));
    assert!(said.contains("hub in hub\n") && said.contains("operator in hub-operator\n"), "{said}");
    assert!(said.ends_with("all checks are ok\n"), "{said}");

    drop(duty);
    agents[0].end();
    let before = content(&dirs[0]);
    Found::of("--dir", &dirs[0], &[]).assert_ok();
    assert_eq!(content(&dirs[0]), before, "it changes nothing");

    // The broker and the hub are gone.
    hub.kill();
    let found = Found::of("--dir", &dirs[1], &[]);
    found.assert_failure("broker", "cannot reach the broker");
    found.assert_failure("hub", "cannot reach the hub");
    found.assert_says("groups", "hsu0001: 2 of 2");
    let found = Found::of("--operator", &hub.operator(), &[]);
    found.assert_failure("hub", "cannot reach the hub");
    agents[1].end();
    // The hub's flags said where it listens.
    let listen = format!("est = '{}'\nmqtt = '127.0.0.1:{}'\n", hub.est, hub.mqtt_port());
    fs::write(hub.path().join("hub.toml"), listen).unwrap();
    let before = content(hub.path());
    let found = Found::of("--hub", hub.path(), &[]);
    found.assert_ok();
    found.assert_says("process", "does not run");
    found.assert_says("databases", "broker.db is whole");
    found.assert_says("operator", "the operator's last word is of");
    assert_eq!(content(hub.path()), before, "it changes nothing");
}

#[test]
fn what_is_broken_in_a_folder_is_named_with_what_to_do() {
    let hub = Hub::start();
    let [dir, other] = hub.members("hsu0001", ["", ""]);
    let mut agent = Agent::start(&dir, &[]);
    agent.log.until(&["hsu0001"]);
    agent.end();
    let breaking = |name: &str, harm: &dyn Fn(&Path)| {
        let broken = hub.dir.path().join(name);
        copy(&dir, &broken);
        harm(&broken);
        let found = Found::of("--dir", &broken, &[]);
        // Each check stands for itself.
        found.assert_says("disk", "are free");
        found
    };

    let found = breaking("open", &|dir| {
        fs::set_permissions(dir.join("device.key"), Permissions::from_mode(0o644)).unwrap();
    });
    found.assert_failure("permissions", "device.key (mode 644)");
    found.assert_failure("key", "others than its owner may use it");

    let found = breaking("garbage", &|dir| configure(dir, "max_clients = many\n\u{0}"));
    found.assert_failure("configuration", "agent.toml");
    found.assert_says("broker", "takes this device's connection");

    let found = breaking("unknown", &|dir| configure(dir, "max_clinets = 7"));
    found.assert_failure("configuration", "max_clinets");

    let found = breaking("database", &|dir| fs::write(dir.join("agent.sqlite"), vec![7; 9_000]).unwrap());
    found.assert_failure("state", "agent.sqlite");
    found.assert_says("broker", "takes this device's connection");

    let found = breaking("empty", &|dir| fs::remove_file(dir.join("agent.sqlite")).unwrap());
    found.assert_failure("state", "the agent's state is lost");

    // The key is of another device.
    let found = breaking("key", &|dir| {
        fs::copy(other.join("device.key"), dir.join("device.key")).unwrap();
    });
    found.assert_failure("key", "is not the key of device.pem");

    // The certificate is of another network.
    let foreign = Hub::start();
    let [stranger] = foreign.members("hsu0001", [""]);
    let found = breaking("foreign", &|dir| {
        fs::copy(stranger.join("device.pem"), dir.join("device.pem")).unwrap();
    });
    found.assert_failure("network", "device.pem cannot be used");

    let found = breaking("no certificate", &|dir| fs::write(dir.join("device.pem"), "garbage").unwrap());
    found.assert_failure("certificate", "device.pem");
    found.assert_says("state", "agent.sqlite is whole");

    let found = breaking("away", &|dir| configure(dir, "upstream = 'mqtt://127.0.0.1:1'"));
    found.assert_failure("broker", "cannot reach the broker at 127.0.0.1:1");
    found.assert_says("hub", "answers");

    hub.operate(&["device", "revoke", "1111", "--reason", "sold"]);
    let found = Found::of("--dir", &dir, &[]);
    // The folder does not know it yet, and the broker does.
    assert_eq!(found.code, Some(1), "{:#?}", found.checks);
    assert!(found.faults().iter().any(|check| check["check"] == "broker"), "{:#?}", found.faults());

    let missing = Found::of("--dir", &hub.dir.path().join("missing"), &[]);
    missing.assert_failure("folder", "there is no folder");
    let said = refuse(["doctor", "--dir"].iter().copied().chain(["/", "--hub", "/", "--config", "x"]));
    assert!(said.contains("one folder at a time"), "{said}");
}

#[test]
fn a_certificate_that_has_expired_is_told() {
    let hub = Hub::start_with(&[], |dir| fs::write(dir.join("hub.toml"), "certificate_lifetime_s = 30").unwrap());
    let dir = hub.enroll("1111");
    until("the certificate ends", || {
        let found = Found::of("--dir", &dir, &[]);
        found.faults().iter().any(|check| check["found"].as_str().unwrap().contains("has expired"))
    });
    let found = Found::of("--dir", &dir, &[]);
    found.assert_failure("certificate", "that of 1111 has expired");
    found.assert_says("key", "device.key is that of the certificate");
    assert!(found.faults().iter().any(|check| check["check"] == "broker"), "{:#?}", found.faults());
}

#[test]
fn a_hub_and_an_operator_that_lost_something_are_told() {
    let mut hub = Hub::start();
    hub.kill();
    let path = hub.path().to_owned();
    fs::set_permissions(path.join("issuing.key"), Permissions::from_mode(0o640)).unwrap();
    fs::write(path.join("hub.toml"), "names = []").unwrap();
    let journal = fs::read(path.join("broker.db")).unwrap();
    fs::write(path.join("broker.db"), vec![7; 9_000]).unwrap();
    // A hub that was killed leaves it, and SQLite would mend the garbage by it.
    fs::rename(path.join("broker.db-wal"), path.join("log")).unwrap();
    let found = Found::of("--hub", &path, &[]);
    found.assert_failure("permissions", "issuing.key (mode 640)");
    found.assert_failure("configuration", "names");
    found.assert_failure("databases", "broker.db");
    fs::remove_file(path.join("hub.toml")).unwrap();
    fs::write(path.join("broker.db"), journal).unwrap();
    fs::rename(path.join("log"), path.join("broker.db-wal")).unwrap();
    fs::rename(path.join("ledger.sqlite"), path.join("elsewhere")).unwrap();
    Found::of("--hub", &path, &[]).assert_failure("files", "ledger.sqlite is missing");

    let operator = hub.operator();
    fs::write(operator.join("operator.toml"), "brocker = 1").unwrap();
    fs::write(operator.join("operator.key"), "garbage").unwrap();
    let found = Found::of("--operator", &operator, &[]);
    found.assert_failure("configuration", "brocker");
    found.assert_failure("key", "operator.key");
}

#[test]
fn init_writes_what_the_roles_take_and_overwrites_nothing() {
    let hub = Hub::start();
    let dir = hub.enroll("1111");
    succeed(sealcast().args(["init", "agent", "--dir"]).arg(&dir));
    let written = fs::read_to_string(dir.join("agent.toml")).unwrap();
    assert!(written.contains("#max_clients = 256"), "{written}");
    let said = succeed(sealcast().args(["agent", "--check", "--dir"]).arg(&dir));
    assert!(said.contains("in order"), "{said}");
    configure(&dir, "max_clients = 7");
    let said = refuse(["init", "agent", "--dir", dir.to_str().unwrap()]);
    assert!(said.contains("agent.toml is there, and is not overwritten"), "{said}");
    assert_eq!(fs::read_to_string(dir.join("agent.toml")).unwrap(), "max_clients = 7");

    let new = hub.dir.path().join("new");
    succeed(sealcast().args(["init", "hub", "--dir"]).arg(&new));
    succeed(sealcast().args(["up", "--check", "--dir"]).arg(&new));
    succeed(sealcast().args(["init", "operator", "--operator"]).arg(hub.operator()));
    hub.operate(&["device", "list"]);
    let said = refuse(["init", "agent", "--dir", "/missing"]);
    assert!(said.contains("there is no folder /missing"), "{said}");
}
