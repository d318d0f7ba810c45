//! Processes of a test: started on free ports, waited for by what they print, ended by id when the test ends.

mod books;
mod chain;
mod cluster;
mod intruder;
mod log;
mod mosquitto;
mod port;
mod process;
mod publisher;
mod relay;
/// Choices that a seed decides.
#[path = "../../../simulation/src/rng.rs"]
#[allow(dead_code, reason = "the simulation makes more of them")]
mod rng;
mod soft_token;
mod stand_in;
mod traffic;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use serde_json::Value;

use self::log::Log;
pub use self::{
    chain::{Anvil, geth},
    cluster::Cluster,
    intruder::Intruder,
    mosquitto::{Mosquitto, own_certificate, password_file},
    port::Port,
    process::{PATIENCE, Process, output, refuse, sealcast, sealcast_after, succeed},
    publisher::Publisher,
    relay::Relay,
    rng::Rng,
    soft_token::SoftToken,
    stand_in::{Armed, Fault, Line, StandIn, Subject, Way, Wire},
    traffic::Traffic,
};

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
        let ready = Value::Null;
        let mut hub = Self { process: None, log, _ports: ports, est, mqtt, ready, dir, path, broker, environment };
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
        command.args(["--est", &self.est]);
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
        std::fs::write(&path, token).unwrap();
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

/// Writes the `agent.toml` of the agent in `dir`.
pub fn configure(dir: &Path, config: &str) {
    std::fs::write(dir.join("agent.toml"), config).unwrap();
}

/// An agent process.
pub struct Agent {
    // Dropped in this order: the process before its log is printed.
    process: Option<Process>,
    /// What it said, over all its starts.
    pub log: Log,
    _port: Port,
    pub dir: PathBuf,
    pub listen: String,
    /// What it said of itself when it was ready.
    pub ready: Value,
    binary: Box<dyn Fn() -> Command>,
    extra: Vec<String>,
}

impl Agent {
    pub fn start(dir: &Path, extra: &[&str]) -> Self {
        Self::start_by(sealcast, dir, extra)
    }

    /// The same, where `binary` gives the command that the arguments are added to.
    pub fn start_by(binary: impl Fn() -> Command + 'static, dir: &Path, extra: &[&str]) -> Self {
        let extra = extra.iter().map(|arg| (*arg).to_owned()).collect();
        let port = Port::reserve();
        let log = Log::new(format!("agent in {}", dir.display()));
        let mut agent = Self {
            process: None,
            log,
            listen: port.address(),
            _port: port,
            dir: dir.to_owned(),
            ready: Value::Null,
            binary: Box::new(binary),
            extra,
        };
        agent.restart();
        agent
    }

    pub fn restart(&mut self) {
        let mut command = (self.binary)();
        command.arg("agent").arg("--dir").arg(&self.dir).args(["--listen", &self.listen, "--json"]).args(&self.extra);
        let process = Process::logged(&mut command, self.log.share());
        let ready: Value = serde_json::from_str(&process.line()).expect("the agent says where it listens, as JSON");
        assert_eq!(ready["listen"].as_str(), Some(&*self.listen), "{ready}");
        self.ready = ready;
        self.process = Some(process);
    }

    pub fn kill(&mut self) {
        self.process.take().unwrap().kill();
    }

    /// SIGTERM; it has ended afterwards.
    pub fn end(&mut self) {
        self.process.take().unwrap().end();
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.as_ref().unwrap().id()
    }

    pub fn address(&self) -> SocketAddr {
        self.listen.parse().unwrap()
    }

    pub fn port(&self) -> &str {
        self.listen.rsplit_once(':').unwrap().1
    }

    /// `mosquitto_sub` on this agent, after its subscription was acknowledged.
    pub fn subscribe(&self, topic: &str, extra: &[&str]) -> Process {
        mosquitto_sub(self.port(), topic, extra)
    }

    /// `mosquitto_pub` on this agent.
    pub fn publish(&self, topic: &str, payload: &str, extra: &[&str]) {
        succeed(&mut self.mosquitto_pub(topic, payload, extra));
    }

    /// The same where it may be refused, or the agent be away: whether it was acknowledged.
    pub fn try_publish(&self, topic: &str, payload: &str, extra: &[&str]) -> bool {
        output(&mut self.mosquitto_pub(topic, payload, extra)).status.success()
    }

    /// The same, ended after `patience_s`: mosquitto_pub tries again and again while its connection is closed.
    pub fn publish_within(&self, patience_s: u32, topic: &str, payload: &str, extra: &[&str]) -> bool {
        let publish = self.mosquitto_pub(topic, payload, extra);
        let mut command = Command::new("timeout");
        command.arg(patience_s.to_string()).arg(publish.get_program()).args(publish.get_args());
        output(&mut command).status.success()
    }

    /// What `mosquitto_pub` says to an MQTT 5 publish: why it is refused, or nothing if it was taken.
    pub fn refusal(&self, topic: &str, payload: &str, extra: &[&str]) -> String {
        let said = output(self.mosquitto_pub(topic, payload, extra).args(["-V", "mqttv5"])).stderr;
        String::from_utf8_lossy(&said).into_owned()
    }

    fn mosquitto_pub(&self, topic: &str, payload: &str, extra: &[&str]) -> Command {
        let mut command = Command::new("mosquitto_pub");
        command.args(["-h", "127.0.0.1", "-p", self.port(), "-t", topic, "-m", payload, "-q", "1"]).args(extra);
        command
    }
}

/// A `mosquitto_sub` that has its subscription. Lines are `topic payload`, the payload as text.
pub fn mosquitto_sub(port: &str, topic: &str, extra: &[&str]) -> Process {
    mosquitto_sub_at(&["-h", "127.0.0.1", "-p", port], topic, extra)
}

/// The same, where `broker` are the options that say where its broker is.
///
/// It ends when all its filters are refused. A broker that cannot do it in time refuses what it takes a moment later: NATS
/// does after a node has died. So it is started again until its filters are granted.
pub fn mosquitto_sub_at(broker: &[&str], topic: &str, extra: &[&str]) -> Process {
    let deadline = Instant::now() + PATIENCE;
    let mut earlier = Vec::new();
    loop {
        // Its output is not a terminal: without stdbuf it comes in blocks.
        let mut command = Command::new("stdbuf");
        command.args(["-oL", "mosquitto_sub"]).args(broker);
        command.args(["-t", topic, "-q", "1", "-d", "-F", "%t %p"]).args(extra);
        let mut process = Process::start(&mut command);
        let is_granted = process.is_granted(deadline);
        // A session's messages came to the one that was refused.
        earlier.extend(process.pending());
        if is_granted {
            earlier.into_iter().for_each(|line| process.put_back(line));
            return process;
        }
        assert!(Instant::now() < deadline, "the subscription of {topic} was refused for {PATIENCE:?}");
    }
}

impl Process {
    /// Whether a [`mosquitto_sub`] gets all its filters, once it has its SUBACK.
    fn is_granted(&mut self, deadline: Instant) -> bool {
        loop {
            let line = self.line_within(deadline.saturating_duration_since(Instant::now())).expect("a SUBACK in time");
            if let Some(codes) = line.strip_prefix("Subscribed (mid:").and_then(|rest| rest.split_once("): ")) {
                return codes.1.split(", ").all(|code| matches!(code, "0" | "1" | "2"));
            }
            // What a session kept comes before the acknowledgement of its subscription.
            self.put_back(line);
        }
    }
}

impl Process {
    /// The next message that a [`mosquitto_sub`] printed, past its debug lines. Not for showing that nothing comes: see
    /// [`Agent::before_marker`].
    pub fn message(&mut self, patience: Duration) -> Option<String> {
        let deadline = Instant::now() + patience;
        loop {
            let line = self.next_within(deadline.saturating_duration_since(Instant::now()))?;
            if !line.starts_with("Client ") && !line.starts_with("Subscribed") {
                return Some(line);
            }
        }
    }

    /// The messages that come before the first one that contains `part`, which has to come.
    pub fn before(&mut self, part: &str) -> Vec<String> {
        let mut others = Vec::new();
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.message(deadline.saturating_duration_since(Instant::now())) {
                Some(line) if line.contains(part) => return others,
                Some(line) => others.push(line),
                None => panic!("no message with {part:?} within {PATIENCE:?}, but {others:?}"),
            }
        }
    }
}

/// A payload that no other message has.
pub fn unique(name: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("{name}-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

impl Agent {
    /// All that `reader` gets before a message which is published here and now on `marker`.
    ///
    /// This shows that something does not come, without waiting for a time. Whatever was acknowledged, refused or dropped
    /// before this call would have come before the marker: the broker and the agents keep the order of messages of one
    /// quality of service. `reader` must have subscribed to `marker` too (`&["-t", marker]`), and be able to read it.
    /// Earlier markers are left out.
    pub fn before_marker(&self, marker: &str, reader: &mut Process) -> Vec<String> {
        let payload = unique("marker");
        self.publish(marker, &payload, &[]);
        let earlier = format!("{marker} marker-");
        reader.before(&payload).into_iter().filter(|line| !line.starts_with(&earlier)).collect()
    }

    /// Fails the test if `reader` gets anything before such a marker.
    #[track_caller]
    pub fn nothing_before_marker(&self, marker: &str, reader: &mut Process) {
        let came = self.before_marker(marker, reader);
        assert!(came.is_empty(), "{came:?}");
    }
}

/// Waits until `reached`, looking again and again; fails the test after [`PATIENCE`].
pub fn until(what: &str, mut reached: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !reached() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Waits until `reader` reads what `writer` publishes: a device that is granted reads nothing from before it has joined.
/// None of what is published for this is on its way any more afterwards.
pub fn until_joined(writer: &Agent, reader: &Agent, topic: &str) {
    let mut probe = reader.subscribe(topic, &[]);
    until("the group has its keys", || {
        // Whoever is cut off subscribes anew by itself, and gives up when that is refused.
        if probe.exit_code().is_some() {
            probe = reader.subscribe(topic, &[]);
        }
        // Refused as long as the writer has no keys. If it was sent before the reader had them, it never comes.
        writer.try_publish(topic, "probe", &[]) && probe.message(PROBE_INTERVAL).is_some()
    });
    let last = unique("joined");
    writer.publish(topic, &last, &[]);
    probe.before(&last);
}

/// How long to wait for a message before the next one is sent, where the first one may be lost. Any time would do.
pub const PROBE_INTERVAL: Duration = Duration::from_millis(500);
