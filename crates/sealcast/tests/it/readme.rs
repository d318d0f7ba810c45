//! Every command in README: the tour's, in their order, as a user's shell runs them; and a place for each of the others.

use std::{collections::VecDeque, path::Path, process::Command};

use crate::harness::{PROBE_INTERVAL, Port, Process, output, sealcast, succeed, until};

const README: &str = include_str!("../../../../README.md");

/// Commands that the tour does not run, and where in `tests/it` they are run, or why they are not.
const ELSEWHERE: [(&str, Place); 20] = [
    ("cargo run --release -- demo", Place::Test("demo.rs")),
    ("scripts/test", Place::Nowhere("it runs this test")),
    ("cargo build --release && export PATH=", Place::Nowhere("cargo has built what this test runs")),
    ("export PATH=", Place::Nowhere("the tour sets the path")),
    ("cargo build --release -p sealcast-agent", Place::Nowhere("cargo builds it for the tests of its crate")),
    ("cargo build --profile device -p sealcast-agent", Place::Nowhere("it takes minutes")),
    ("sealcast bench seal", Place::Test("bench.rs")),
    ("sealcast bench proxy", Place::Test("bench.rs")),
    ("sealcast bench fleet --nodes 10", Place::Test("bench.rs")),
    ("sealcast up --broker mqtt://HOST:PORT", Place::Test("foreign.rs")),
    ("sealcast broker config mosquitto", Place::Test("brokers.rs")),
    ("sealcast demo --broker URL", Place::Test("demo.rs")),
    ("sealcast up --rpc URL", Place::Test("networks.rs")),
    ("sealcast demo --rpc http://127.0.0.1:8545", Place::Test("networks.rs")),
    ("sealcast completions bash", Place::Nowhere("it prints what clap makes")),
    ("sealcast man DIR", Place::Nowhere("the program's own tests write the pages")),
    ("sealcast watch", Place::Test("watch.rs")),
    ("scripts/docs build", Place::Nowhere("`.ci/run` runs it")),
    ("cargo install --locked mdbook", Place::Nowhere("`.ci/run` runs it")),
    ("ps -C sealcast -o rss,args", Place::Nowhere("it measures the machine")),
];

enum Place {
    Test(&'static str),
    Nowhere(&'static str),
}

/// The commands in README's blocks: one for each line, with the lines that continue it.
fn blocks() -> VecDeque<String> {
    let mut commands = VecDeque::new();
    for block in README.split("\n```sh\n").skip(1) {
        let mut lines = block.split_once("\n```").expect("the block's end").0.lines();
        while let Some(line) = lines.next() {
            let mut command = line.to_owned();
            while command.ends_with('\\') {
                command = format!("{command}\n{}", lines.next().expect("what continues the command"));
            }
            if command.contains("<<'END'") {
                for line in lines.by_ref().take_while(|line| *line != "END") {
                    command = format!("{command}\n{line}");
                }
                command += "\nEND";
            }
            commands.push_back(command);
        }
    }
    commands
}

/// The commands within README's sentences.
fn in_text() -> Vec<String> {
    let prose = README.split("\n```").step_by(2).collect::<String>();
    let quoted = prose.split('`').skip(1).step_by(2).map(|code| code.split_whitespace().collect::<Vec<_>>().join(" "));
    let programs = ["sealcast ", "sealcast-agent ", "cargo ", "scripts/", "mosquitto_", "ps ", "export "];
    quoted
        .filter(|code| programs.iter().any(|program| code.starts_with(program)))
        .filter(|code| code.contains([' ', '/']))
        .collect()
}

/// README's commands, those that are still to be run, and where they are run.
struct Tour {
    left: VecDeque<String>,
    dir: tempfile::TempDir,
    ports: [(&'static str, Port); 4],
}

impl Tour {
    fn new() -> Self {
        let ports = ["8443", "8883", "18831", "18832"].map(|port| (port, Port::reserve()));
        let mut left = blocks();
        left.extend(in_text());
        Self { left, dir: tempfile::tempdir().unwrap(), ports }
    }

    /// Takes the next command that begins so off the list.
    fn take(&mut self, begins: &str) -> String {
        let at = self.left.iter().position(|command| command.starts_with(begins));
        let at = at.unwrap_or_else(|| panic!("README has no command (any more) that begins with: {begins}"));
        self.left.remove(at).unwrap()
    }

    /// A shell that runs it in the tour's folder, on the ports of this test.
    fn shell(&self, command: &str) -> Command {
        let mut command = command.to_owned();
        for (port, own) in &self.ports {
            command = command.replace(port, &own.number());
        }
        // What is no terminal gets output in blocks otherwise.
        let mut shell = Command::new("stdbuf");
        shell.args(["-oL", "bash", "-euo", "pipefail", "-c", &command]).current_dir(self.dir.path());
        let program = sealcast();
        let path = std::env::join_paths(
            [Path::new(program.get_program()).parent().unwrap().to_owned()]
                .into_iter()
                .chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
        );
        shell.env("PATH", path.unwrap()).env("NO_COLOR", "1").stdin(std::process::Stdio::null());
        shell.env("SEALCAST_EST", self.ports[0].1.address()).env("SEALCAST_MQTT", self.ports[1].1.address());
        shell
    }

    fn run(&mut self, begins: &str) -> String {
        let command = self.take(begins);
        succeed(&mut self.shell(&command))
    }

    /// In a terminal of its own.
    fn terminal(&mut self, begins: &str) -> Process {
        let command = self.take(begins);
        self.start(&command)
    }

    fn start(&self, command: &str) -> Process {
        Process::start(&mut self.shell(&format!("exec {command}")))
    }

    /// Publishes until `reader` reads it: keys may be on their way, and a client may not be connected again.
    fn publish_until_read(&mut self, begins: &str, reader: &mut Process, wanted: &str) -> Vec<String> {
        let command = self.take(begins);
        let mut lines = Vec::new();
        until(wanted, || {
            output(&mut self.shell(&command));
            while let Some(line) = reader.message(PROBE_INTERVAL) {
                lines.push(line);
                if lines.last().is_some_and(|line| line == wanted) {
                    return true;
                }
            }
            false
        });
        lines
    }

    /// The hub, two devices with a group, and their agents.
    fn set_up(&mut self) -> (Process, [String; 2]) {
        let hub = self.terminal("sealcast up");
        until("the hub has its folders", || self.dir.path().join("hub-operator/network.json").exists());
        for device in ["1111", "1112"] {
            self.run(&format!("sealcast device add {device}"));
        }
        for device in ["1111", "1112"] {
            let enrol = self.take("sealcast enroll");
            assert!(enrol.ends_with(device), "{enrol}");
            until("the hub answers", || output(&mut self.shell(&enrol)).status.success());
        }
        let listed = self.run("sealcast device list");
        assert!(listed.contains("1111") && listed.contains("1112"), "{listed}");
        self.run("sealcast group create");
        self.run("sealcast group grant");
        (hub, ["1111", "1112"].map(|device| self.take(&format!("sealcast agent --dir {device}"))))
    }

    fn measure(&mut self) {
        let latency = self.dir.path().join("latency.txt");
        let subscribe = self.take("mosquitto_sub -p 18832 -q 1 -t hsu0001/t -F '%U %p' -C 200 > latency.txt &");
        let subscribed = self.start(subscribe.trim_end_matches('&'));
        let publish = self.take("for i in $(seq 200)");
        until("the messages came", || {
            succeed(&mut self.shell(&publish));
            std::fs::read_to_string(&latency).unwrap().lines().count() >= 100
        });
        drop(subscribed);
        let median = self.run("awk ");
        let number = median.trim().strip_suffix(" ms").and_then(|number| number.parse::<f64>().ok());
        assert!(number.is_some_and(|number| number > 0.0), "{median}");
    }
}

#[test]
fn every_command_of_the_tour_does_what_readme_says() {
    let mut tour = Tour::new();
    let (_hub, agents) = tour.set_up();
    let start = |tour: &Tour| {
        let running = agents.each_ref().map(|agent| tour.start(agent));
        for agent in &running {
            assert!(agent.line().contains("MQTT clients connect to"));
        }
        running
    };
    let running = start(&tour);

    let mut reader = tour.terminal("mosquitto_sub -p 18832 -t 'hsu0001/#' -v");
    let mut observer = tour.terminal("mosquitto_sub -p 8883");
    tour.publish_until_read("mosquitto_pub -p 18831", &mut reader, "hsu0001/room1 temperature 27.0");
    observer.before("hsu0001/room1 fd");

    running.into_iter().for_each(|agent| drop(agent.end()));
    for device in ["1111", "1112"] {
        tour.run(&format!("cat > {device}/agent.toml"));
    }
    let mut running = start(&tour);
    let good = "hsu0001/temperature 21.5";
    let mut seen = tour.publish_until_read("mosquitto_pub -p 18831", &mut reader, good);
    let bad = tour.take("mosquitto_pub -p 18831");
    let said = output(&mut tour.shell(&bad));
    let said = String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).into_owned();
    assert!(said.contains("RC:131"), "{said}");
    let alarm = "hsu0001/alarm/1111/hsu0001/temperature";
    seen.extend(reader.before(alarm));
    // On a machine that is slow enough, silence has opened the valve before.
    if !seen.iter().any(|line| line == "hsu0001/valve open") {
        reader.before("hsu0001/valve open");
    }
    tour.measure();
    let why = tour.run("sealcast why '#' --dir 1111");
    assert!(why.contains("value-blocked"), "{why}");
    let checked = tour.run("sealcast doctor --dir 1111");
    assert!(checked.contains("hsu0001: 2 of 2 granted devices are members"), "{checked}");

    tour.run("sealcast group revoke");
    tour.run("mosquitto_pub -p 18831");
    let shown = tour.run("sealcast group show");
    assert!(shown.contains("sold"), "{shown}");
    tour.run("sealcast ledger show");
    tour.run("sealcast ledger verify");
    assert!(reader.pending().iter().all(|line| !line.contains("not for 1112")));
    assert!(running.iter_mut().all(|agent| agent.exit_code().is_none()));

    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it");
    for (begins, place) in ELSEWHERE {
        match place {
            Place::Test(file) => assert!(tests.join(file).exists(), "{file}"),
            Place::Nowhere(why) => assert!(!why.is_empty()),
        }
        tour.left.retain(|command| !command.starts_with(begins));
    }
    assert!(tour.left.is_empty(), "README has commands that have no place in this test: {:#?}", tour.left);
}
