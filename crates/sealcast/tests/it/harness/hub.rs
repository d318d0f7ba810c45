//! A hub in a folder of its own, and what its operator does.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use super::{Agent, Port, Process, configure, log::Log, sealcast, secret_file, succeed, until_joined};

/// A hub in a folder of its own.
pub struct Hub {
    // Dropped in this order: the process before its log is printed and before its folder is removed.
    process: Option<Process>,
    /// What it said, over all its starts.
    pub log: Log,
    _ports: [Port; 2],
    pub est: String,
    pub mqtt: String,
    /// What it said of itself when it was ready.
    pub ready: Value,
    /// Holds its folder, `hub`, and what is beside it: `hub-operator`, `hub-root`, the agents.
    pub dir: tempfile::TempDir,
    path: PathBuf,
    /// Somebody else's broker, that it and its devices are clients of.
    broker: Option<String>,
    /// Where its console is served.
    console: String,
    environment: Vec<(String, String)>,
}

impl Hub {
    pub fn start() -> Self {
        Self::start_with(&[], |_| {})
    }

    /// Starts it for the first time, with this in its environment, in a folder that `prepare` has put something into.
    pub fn start_with(environment: &[(String, String)], prepare: impl FnOnce(&Path)) -> Self {
        Self::start_at(None, environment, prepare)
    }

    /// One that is a client of the broker at `url`.
    pub fn at(url: &str) -> Self {
        Self::start_at(Some(url), &[], |_| {})
    }

    /// The same, in a folder that `prepare` has put something into.
    pub fn at_with(url: &str, prepare: impl FnOnce(&Path)) -> Self {
        Self::start_at(Some(url), &[], prepare)
    }

    fn start_at(broker: Option<&str>, environment: &[(String, String)], prepare: impl FnOnce(&Path)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ports = [Port::reserve(), Port::reserve()];
        let [est, mqtt] = ports.each_ref().map(Port::address);
        let path = dir.path().join("hub");
        std::fs::create_dir(&path).unwrap();
        prepare(&path);
        let log = Log::new(format!("hub in {}", path.display()));
        let (environment, broker) = (environment.to_vec(), broker.map(str::to_owned));
        let (ready, console) = (Value::Null, "127.0.0.1:0".to_owned());
        let mut hub =
            Self { process: None, log, _ports: ports, est, mqtt, ready, dir, path, broker, console, environment };
        hub.restart();
        hub
    }

    /// Starts it, always on the same ports.
    pub fn restart(&mut self) {
        let process = Process::logged(self.up(sealcast()).envs(self.environment.iter().cloned()), self.log.share());
        let ready: Value = serde_json::from_str(&process.line()).expect("the hub says where it listens, as JSON");
        let mqtt = self.broker.is_none().then_some(&*self.mqtt);
        assert_eq!((ready["est"].as_str(), ready["mqtt"].as_str()), (Some(&*self.est), mqtt), "{ready}");
        self.ready = ready;
        self.process = Some(process);
    }

    /// What starts it, on the same ports: `command` is a [`sealcast`].
    pub fn up(&self, mut command: Command) -> Command {
        command.arg("up").arg("--dir").arg(self.path()).arg("--json");
        command.args(["--est", &self.est, "--console", &self.console]);
        match &self.broker {
            Some(url) => command.args(["--broker", url]),
            None => command.args(["--mqtt", &self.mqtt]),
        };
        command
    }

    pub fn kill(&mut self) {
        self.process.take().unwrap().kill();
    }

    /// Starts it again with these lines as its `hub.toml`.
    pub fn configure(&mut self, config: &str) {
        self.kill();
        std::fs::write(self.path().join("hub.toml"), config).unwrap();
        self.restart();
    }

    /// Starts it again with its console at this address, and these lines as its `hub.toml`.
    pub fn console_at(&mut self, address: &str, config: &str) {
        self.console = address.to_owned();
        self.configure(config);
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The operator's folder.
    pub fn operator(&self) -> PathBuf {
        self.dir.path().join("hub-operator")
    }

    /// A `sealcast` command, given the hub's folder if it takes it, and the operator's.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = sealcast();
        command.args(args).arg("--operator").arg(self.operator());
        if args.starts_with(&["device", "add"]) {
            command.arg("--hub").arg(self.path());
        }
        command
    }

    pub fn mqtt_port(&self) -> &str {
        self.mqtt.rsplit_once(':').unwrap().1
    }

    /// A `sealcast` command of the operator.
    pub fn operate(&self, args: &[&str]) -> String {
        succeed(&mut self.command(args))
    }

    /// Invites a device and writes its token to a file.
    pub fn invite(&self, device: &str) -> PathBuf {
        let token = self.operate(&["device", "add", device]);
        let path = self.path().join(format!("{device}.token"));
        secret_file(&path, &token);
        path
    }

    /// Enrols a device; its folder is beside the hub's.
    pub fn enroll(&self, device: &str) -> PathBuf {
        let token = self.invite(device);
        let dir = self.dir.path().join("agents").join(device);
        let url = format!("https://{}", self.est);
        succeed(sealcast().args(["enroll", "--hub", &url]).arg("--token-file").arg(token).arg("--dir").arg(&dir));
        dir
    }

    /// Enrols the devices 1111, 1112 …, each with its lines of `agent.toml`, and grants all of them the group `name` with
    /// the topics below `name`.
    pub fn members<const N: usize>(&self, name: &str, configs: [&str; N]) -> [PathBuf; N] {
        let devices: [String; N] = std::array::from_fn(|at| (1111 + at).to_string());
        let dirs = devices.each_ref().map(|device| self.enroll(device));
        for (dir, config) in dirs.iter().zip(configs) {
            configure(dir, config);
        }
        self.group(name, &format!("{name}/#"), &devices.each_ref().map(String::as_str));
        dirs
    }

    /// Two such members; the second one can read what the first one publishes.
    pub fn pair(&self, name: &str, configs: [&str; 2]) -> [Agent; 2] {
        let agents = self.members(name, configs).map(|dir| Agent::start(&dir, &[]));
        until_joined(&agents[0], &agents[1], &format!("{name}/probe"));
        agents
    }

    /// Creates a group and grants it to `members`.
    pub fn group(&self, name: &str, filter: &str, members: &[&str]) {
        self.operate(&["group", "create", name, "--filter", filter]);
        let mut args = vec!["group", "grant", name];
        args.extend(members);
        self.operate(&args);
    }
}
