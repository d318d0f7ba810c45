//! `sealcast watch` on a real hub: in a terminal, as lines and as JSON.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::harness::{Hub, PATIENCE, Port, Process, output, refuse, sealcast, secret_file, succeed, until};

/// The reader's token of the hub, in a file.
fn token(hub: &Hub) -> PathBuf {
    let path = hub.dir.path().join("reader.token");
    secret_file(&path, hub.ready["console_token"].as_str().unwrap());
    path
}

fn url(hub: &Hub) -> &str {
    hub.ready["console"].as_str().unwrap()
}

fn watch(hub: &Hub, token: &Path, more: &[&str]) -> Command {
    let mut command = sealcast();
    command.arg("watch").arg(url(hub)).arg("--token-file").arg(token).args(more);
    command
}

fn signal(process: u32, name: &str) {
    succeed(Command::new("kill").args([name, &process.to_string()]));
}

/// The view in a terminal of 80 columns and 24 lines, which `script` makes and records.
struct Screen {
    script: Child,
    record: PathBuf,
    id: PathBuf,
}

impl Screen {
    fn start(hub: &Hub, token: &Path, name: &str) -> Self {
        let [record, id] = ["record", "id"].map(|part| hub.dir.path().join(format!("{name}.{part}")));
        let program = env!("CARGO_BIN_EXE_sealcast");
        // `exec`, so that the shell's id is the view's.
        let (url, token, id_path) = (url(hub), token.display(), id.display());
        let shell =
            format!("stty cols 80 rows 24; echo $$ > {id_path}; exec {program} watch {url} --token-file {token}");
        let mut command = Command::new("script");
        command
            .args(["-q", "-e", "-f", "-c", &shell])
            .arg(&record)
            .env("TERM", "xterm-256color")
            .env("SHELL", "/bin/sh");
        let script = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        Self { script, record, id }
    }

    fn shown(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.record).unwrap_or_default()).into_owned()
    }

    fn until_shown(&self, text: &str) {
        until(&format!("{text:?} is on the screen"), || self.shown().contains(text));
    }

    fn press(&mut self, keys: &str) {
        self.script.stdin.as_mut().unwrap().write_all(keys.as_bytes()).unwrap();
    }

    fn process(&self) -> u32 {
        fs::read_to_string(&self.id).unwrap().trim().parse().unwrap()
    }

    /// Its exit code, once it has ended, and that the terminal has its own picture and cursor back.
    fn ended(mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.script.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "it has not ended: {}", self.shown());
            std::thread::sleep(Duration::from_millis(20));
        };
        let shown = self.shown();
        let back = shown.rfind("\u{1b}[?1049l").expect("the terminal is given back");
        assert!(back > shown.rfind("\u{1b}[?1049h").unwrap(), "{shown}");
        status.code()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.script.kill();
        let _ = self.script.wait();
    }
}

#[test]
fn in_a_terminal_it_shows_the_hub_until_q_or_a_signal() {
    let hub = Hub::start();
    let token = token(&hub);
    let mut screen = Screen::start(&hub, &token, "first");
    screen.until_shown("Nothing needs you.");
    screen.press("2");
    screen.until_shown("No node");
    // Not the device that the empty view names as an example.
    hub.enroll("4711");
    screen.until_shown("4711");
    screen.press("q");
    assert_eq!(screen.ended(), Some(0));

    for name in ["-INT", "-TERM"] {
        let screen = Screen::start(&hub, &token, name.trim_start_matches('-'));
        screen.until_shown("needs you.");
        signal(screen.process(), name);
        assert_eq!(screen.ended(), Some(0), "{name}");
    }
}

#[test]
fn as_lines_it_goes_on_when_the_hub_has_started_again() {
    let mut hub = Hub::start();
    let (token, port) = (token(&hub), Port::reserve());
    hub.console_at(&port.address(), "");
    let mut lines = Process::start(&mut watch(&hub, &token, &[]));
    assert!(lines.line().contains("0 nodes, 0 groups"));
    let objects = Process::start(&mut watch(&hub, &token, &["--json"]));
    let first: Value = serde_json::from_str(&objects.line()).unwrap();
    assert_eq!((&first["event"], &first["data"]["hub"]["name"]), (&"state".into(), &"localhost".into()));
    hub.enroll("1111");
    let next = || serde_json::from_str::<Value>(&objects.line()).unwrap();
    let entry = std::iter::repeat_with(next).find(|object| object["event"] == "entry").unwrap();
    assert_eq!(entry["data"]["node"], "1111");
    let until_said = |text: &str| std::iter::repeat_with(|| lines.line()).find(|line| line.contains(text)).unwrap();
    until_said("entry ");
    hub.kill();
    until_said("connection lost");
    hub.restart();
    until_said("hub localhost: 1 node, 0 groups");
    until_said("connection is back");
    signal(lines.id(), "-INT");
    until("it has ended", || lines.exit_code() == Some(0));
}

#[test]
fn it_signs_out_when_nobody_reads_its_lines_any_more() {
    let hub = Hub::start();
    let command = format!(
        "{} watch {} --json --token-file {} | head -1",
        env!("CARGO_BIN_EXE_sealcast"),
        url(&hub),
        token(&hub).display()
    );
    let first: Value = serde_json::from_str(&succeed(Command::new("sh").args(["-c", &command]))).unwrap();
    assert_eq!(first["event"], "state");
    hub.log.until(&["signed out of the console"]);
}

#[test]
fn what_it_cannot_do_it_says() {
    let hub = Hub::start();
    let wrong = hub.dir.path().join("wrong.token");
    secret_file(&wrong, &"0".repeat(40));
    let said = output(&mut watch(&hub, &wrong, &[]));
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.contains("no reader's token") && said.contains("sealcast console token"), "{said}");
    let said = refuse(["watch", url(&hub)]);
    assert!(said.contains("--token-file"), "{said}");
    let said = refuse(["watch", "http://hub.example.org:8088"]);
    assert!(said.contains("https://"), "{said}");
}
