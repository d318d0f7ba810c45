//! Programs that a test runs: to their end within a time, or beside it until the test lets go of them.

use std::{
    ffi::OsStr,
    io::Read,
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{Arc, Mutex, PoisonError, mpsc},
    time::{Duration, Instant},
};

use super::log::{Log, Shared};

/// How long anything may take that has to happen. Waits end as soon as it happens, so this costs time in failing tests
/// only. It is long because a build may run beside the tests, with the processor and the disk to itself for seconds.
pub const PATIENCE: Duration = Duration::from_secs(240);
/// The same for a command: the demo and the benches do many things.
const LONG_PATIENCE: Duration = Duration::from_secs(1_200);
/// How long the pipes of a process that has ended may take to be read to their end.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// The binary under test.
pub fn sealcast() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sealcast"));
    command.env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

/// The same, run by a shell that does `first` before. What `first` sets for the process holds for the binary.
pub fn sealcast_after(first: &str) -> Command {
    let mut command = Command::new("bash");
    command.args(["-c", &format!("{first}; exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_sealcast")]);
    command.env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

/// Runs a command to its end and gives its standard output; fails the test if it fails.
pub fn succeed(command: &mut Command) -> String {
    let output = output(command);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{out}\n{err}", output.status);
    out.into_owned()
}

/// Runs a `sealcast` command that must fail, and gives what it says.
pub fn refuse<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> String {
    let mut command = sealcast();
    let output = output(command.args(args));
    assert!(!output.status.success(), "{command:?} succeeded");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs a command to its end, however it ends. Fails the test if it does not end within [`LONG_PATIENCE`].
pub fn output(command: &mut Command) -> Output {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let deadline = Instant::now() + LONG_PATIENCE;
    let out = Collector::start(child.stdout.take().unwrap());
    let err = Collector::start(child.stderr.take().unwrap());
    let ended = out.ends_before(deadline) && err.ends_before(deadline);
    let status = ended.then(|| wait(&mut child, deadline)).flatten();
    let Some(status) = status else {
        let _ = child.kill();
        let _ = child.wait();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        panic!(
            "{command:?} did not end within {LONG_PATIENCE:?}; it said\n{}\n{}",
            text(out.bytes()),
            text(err.bytes())
        );
    };
    Output { status, stdout: out.bytes(), stderr: err.bytes() }
}

/// A pipe that is read on a thread of its own.
struct Collector {
    bytes: Arc<Mutex<Vec<u8>>>,
    end: mpsc::Receiver<()>,
}

impl Collector {
    fn start(mut pipe: impl Read + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let (sender, end) = mpsc::channel();
        let taken = bytes.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 8 << 10];
            while let Ok(count @ 1..) = pipe.read(&mut buffer) {
                taken.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&buffer[..count]);
            }
            let _ = sender.send(());
        });
        Self { bytes, end }
    }

    fn ends_before(&self, deadline: Instant) -> bool {
        self.end.recv_timeout(deadline.saturating_duration_since(Instant::now())).is_ok()
    }

    fn bytes(&self) -> Vec<u8> {
        std::mem::take(&mut *self.bytes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// How a process ended, if it ends before `deadline`.
fn wait(child: &mut Child, deadline: Instant) -> Option<ExitStatus> {
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A process that is killed when the test lets go of it. What it says on both its outputs is printed if the test fails.
pub struct Process {
    child: Child,
    lines: mpsc::Receiver<String>,
    /// Lines that were passed over while something else was waited for.
    early: Vec<String>,
    /// What it said on both its outputs.
    pub log: Shared,
    /// Unless somebody keeps the log for longer than this process lives.
    own_log: Option<Log>,
}

impl Process {
    /// Starts `command`; its standard output is read line by line.
    pub fn start(command: &mut Command) -> Self {
        let log = Log::new(format!("{command:?}").replace('"', ""));
        let mut process = Self::logged(command, log.share());
        process.own_log = Some(log);
        process
    }

    /// The same; what it says goes to a log that outlives it.
    pub(super) fn logged(command: &mut Command, log: Shared) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        log.note(&format!("started as process {}", child.id()));
        let (sender, lines) = mpsc::channel();
        log.read("out", child.stdout.take().unwrap(), move |line| drop(sender.send(line)));
        log.read("err", child.stderr.take().unwrap(), drop);
        Self { child, lines, early: Vec::new(), log, own_log: None }
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

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its exit code, once it has ended by itself.
    pub fn exit_code(&mut self) -> Option<i32> {
        let status = self.child.try_wait().unwrap()?;
        self.log.wait_for_end(LAST_WORDS);
        status.code()
    }

    /// SIGTERM, and all that it still prints.
    pub fn end(mut self) -> Vec<String> {
        self.log.note("SIGTERM");
        succeed(Command::new("kill").args(["-TERM", &self.child.id().to_string()]));
        self.ended();
        self.early.drain(..).chain(self.lines.try_iter()).collect()
    }

    /// SIGKILL: no clean-up of any kind.
    pub fn kill(mut self) {
        self.log.note("SIGKILL");
        self.child.kill().unwrap();
        self.ended();
    }

    fn ended(&mut self) -> ExitStatus {
        let status = wait(&mut self.child, Instant::now() + PATIENCE);
        let status = status.unwrap_or_else(|| panic!("process {} did not end", self.child.id()));
        self.log.wait_for_end(LAST_WORDS);
        self.log.note(&status.to_string());
        status
    }

    /// Passes a line over that somebody will ask for later.
    pub(super) fn put_back(&mut self, line: String) {
        self.early.push(line);
    }

    /// The next line: of those passed over before, or a new one.
    pub(super) fn next_within(&mut self, patience: Duration) -> Option<String> {
        if self.early.is_empty() { self.line_within(patience) } else { Some(self.early.remove(0)) }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // By its handle: a process of another test that got its number in the meantime is not meant.
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            self.log.note("the test lets go of it");
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            self.log.wait_for_end(LAST_WORDS);
        }
    }
}
