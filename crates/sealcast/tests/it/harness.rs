//! Processes of a test: started on free ports, waited for by what they print, ended by id when the test ends.

use std::{
    ffi::OsStr,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use serde_json::Value;

pub const PATIENCE: Duration = Duration::from_secs(120);

/// The binary under test.
pub fn sealcast() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sealcast"));
    command.env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

/// Runs a command to its end and gives its standard output; fails the test if it fails.
pub fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    check(command, &output)
}

fn check(command: &Command, output: &Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{out}\n{err}", output.status);
    out.into_owned()
}

/// Runs a `sealcast` command that must fail, and gives what it says.
pub fn refuse<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> String {
    let mut command = sealcast();
    let output = command.args(args).output().unwrap();
    assert!(!output.status.success(), "{command:?} succeeded");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A process that is killed when the test lets go of it.
pub struct Process {
    child: Child,
    lines: mpsc::Receiver<String>,
    /// Lines that were passed over while something else was waited for.
    early: Vec<String>,
}

impl Process {
    /// Starts `command`; its standard output is read line by line.
    pub fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let stdout = child.stdout.take().unwrap();
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).split(b'\n') {
                let Ok(line) = line else { return };
                if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    return;
                }
            }
        });
        Self { child, lines, early: Vec::new() }
    }

    /// The next line that it prints.
    pub fn line(&self) -> String {
        self.line_within(PATIENCE).expect("a line of output in time")
    }

    pub fn line_within(&self, patience: Duration) -> Option<String> {
        self.lines.recv_timeout(patience).ok()
    }

    /// All that it has printed and that nobody has read, without waiting.
    pub fn pending(&mut self) -> Vec<String> {
        self.early.drain(..).chain(self.lines.try_iter()).collect()
    }

    /// SIGTERM, and all that it still prints.
    pub fn end(mut self) -> Vec<String> {
        succeed(Command::new("kill").args(["-TERM", &self.child.id().to_string()]));
        self.child.wait().unwrap();
        self.early.drain(..).chain(self.lines.iter()).collect()
    }

    /// Its exit code, once it has ended by itself.
    pub fn exit_code(&mut self) -> Option<i32> {
        self.child.try_wait().unwrap().and_then(|status| status.code())
    }

    /// SIGKILL: no clean-up of any kind.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A hub in a folder of its own.
pub struct Hub {
    pub dir: tempfile::TempDir,
    pub est: String,
    pub mqtt: String,
    process: Option<Process>,
}

impl Hub {
    pub fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut hub = Self { dir, est: "127.0.0.1:0".into(), mqtt: "127.0.0.1:0".into(), process: None };
        hub.restart();
        hub
    }

    /// Starts it, on the ports that it had before.
    pub fn restart(&mut self) {
        let mut command = sealcast();
        command.arg("up").arg("--dir").arg(self.dir.path()).arg("--json");
        command.args(["--est", &self.est, "--mqtt", &self.mqtt]);
        let process = Process::start(&mut command);
        let ready: Value = serde_json::from_str(&process.line()).expect("the hub says where it listens, as JSON");
        self.est = ready["est"].as_str().unwrap().to_owned();
        self.mqtt = ready["mqtt"].as_str().unwrap().to_owned();
        self.process = Some(process);
    }

    pub fn kill(&mut self) {
        self.process.take().unwrap().kill();
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn mqtt_port(&self) -> &str {
        self.mqtt.rsplit_once(':').unwrap().1
    }

    /// A `sealcast` command of the operator.
    pub fn operate(&self, args: &[&str]) -> String {
        succeed(sealcast().args(args).arg("--hub").arg(self.path()))
    }

    /// Invites a device and writes its token to a file.
    pub fn invite(&self, device: &str) -> PathBuf {
        let token = self.operate(&["device", "add", device]);
        let path = self.path().join(format!("{device}.token"));
        std::fs::write(&path, token).unwrap();
        path
    }

    /// Enrols a device; its folder is inside the hub's temporary one.
    pub fn enroll(&self, device: &str) -> PathBuf {
        let token = self.invite(device);
        let dir = self.path().join("agents").join(device);
        let url = format!("https://{}", self.est);
        succeed(sealcast().args(["enroll", "--hub", &url]).arg("--token-file").arg(token).arg("--dir").arg(&dir));
        dir
    }

    /// Creates a group and grants it to `members`.
    pub fn group(&self, name: &str, filter: &str, members: &[&str]) {
        self.operate(&["group", "create", name, "--filter", filter]);
        let mut args = vec!["group", "grant", name];
        args.extend(members);
        self.operate(&args);
    }
}

/// An agent process.
pub struct Agent {
    pub dir: PathBuf,
    pub listen: String,
    /// What it said of itself when it was ready.
    pub ready: Value,
    extra: Vec<String>,
    process: Option<Process>,
}

impl Agent {
    pub fn start(dir: &Path, extra: &[&str]) -> Self {
        let extra = extra.iter().map(|arg| (*arg).to_owned()).collect();
        let mut agent =
            Self { dir: dir.to_owned(), listen: "127.0.0.1:0".into(), ready: Value::Null, extra, process: None };
        agent.restart();
        agent
    }

    pub fn restart(&mut self) {
        let mut command = sealcast();
        command.arg("agent").arg("--dir").arg(&self.dir).args(["--listen", &self.listen, "--json"]).args(&self.extra);
        let process = Process::start(&mut command);
        let ready: Value = serde_json::from_str(&process.line()).expect("the agent says where it listens, as JSON");
        self.listen = ready["listen"].as_str().unwrap().to_owned();
        self.ready = ready;
        self.process = Some(process);
    }

    pub fn kill(&mut self) {
        self.process.take().unwrap().kill();
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
        let mut command = Command::new("mosquitto_pub");
        command.args(["-h", "127.0.0.1", "-p", self.port(), "-t", topic, "-m", payload, "-q", "1"]).args(extra);
        succeed(&mut command);
    }
}

/// A `mosquitto_sub` that has its subscription. Lines are `topic payload`, the payload as text.
pub fn mosquitto_sub(port: &str, topic: &str, extra: &[&str]) -> Process {
    // Its output is not a terminal: without stdbuf it comes in blocks.
    let mut command = Command::new("stdbuf");
    command
        .args(["-oL", "mosquitto_sub", "-h", "127.0.0.1", "-p", port, "-t", topic, "-q", "1", "-d", "-F", "%t %p"])
        .args(extra);
    command.stderr(Stdio::null());
    let mut process = Process::start(&mut command);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let line = process.line_within(deadline.saturating_duration_since(Instant::now())).expect("a SUBACK in time");
        if line.starts_with("Subscribed (mid:") {
            return process;
        }
        // What a session kept comes before the acknowledgement of its subscription.
        process.early.push(line);
    }
}

impl Process {
    /// The next message that a [`mosquitto_sub`] printed, past its debug lines.
    pub fn message(&mut self, patience: Duration) -> Option<String> {
        let deadline = Instant::now() + patience;
        let mut early = std::mem::take(&mut self.early).into_iter();
        loop {
            let line = match early.next() {
                Some(line) => line,
                None => self.line_within(deadline.saturating_duration_since(Instant::now()))?,
            };
            if !line.starts_with("Client ") && !line.starts_with("Subscribed") {
                self.early = early.collect();
                return Some(line);
            }
        }
    }
}

/// Waits until `reached`, looking again and again; fails the test after two minutes.
pub fn until(what: &str, mut reached: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !reached() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Waits until `reader` reads what `writer` publishes: a device that is granted reads nothing from before it has joined.
pub fn until_joined(writer: &Agent, reader: &Agent, topic: &str) {
    let mut probe = reader.subscribe(topic, &[]);
    until("the group has its keys", || {
        writer.publish(topic, "probe", &[]);
        probe.message(Duration::from_millis(500)).is_some()
    });
}
