//! An agent process, and what clients do at it.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use super::{Port, Process, log::Log, mosquitto_sub, output, sealcast, succeed, unique};

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

    fn mosquitto_pub(&self, topic: &str, payload: &str, extra: &[&str]) -> Command {
        let mut command = Command::new("mosquitto_pub");
        command.args(["-h", "127.0.0.1", "-p", self.port(), "-t", topic, "-m", payload, "-q", "1"]).args(extra);
        command
    }
}
