//! Under systemd: what hub and agent tell it, and the units.

use std::{os::unix::net::UnixDatagram, path::Path, process::Command, time::Duration};

use crate::harness::{Agent, Hub, PATIENCE, output, sealcast};

/// A supervisor's socket, which outlives the processes that talk to it.
struct Supervisor {
    socket: UnixDatagram,
    path: String,
    _dir: tempfile::TempDir,
}

impl Supervisor {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify").to_str().unwrap().to_owned();
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, path, _dir: dir }
    }

    fn environment(&self, watchdog: Duration) -> Vec<(String, String)> {
        let microseconds = watchdog.as_micros().to_string();
        vec![("NOTIFY_SOCKET".into(), self.path.clone()), ("WATCHDOG_USEC".into(), microseconds)]
    }

    /// Reads until something begins so.
    fn until(&self, beginning: &str) -> String {
        let mut others = Vec::new();
        let mut bytes = [0; 4096];
        loop {
            let received = self.socket.recv(&mut bytes).unwrap_or_else(|_| panic!("no {beginning}, but {others:?}"));
            let said = String::from_utf8(bytes[..received].to_vec()).unwrap();
            if said.starts_with(beginning) {
                return said;
            }
            others.push(said);
        }
    }
}

#[test]
fn hub_and_agent_tell_their_supervisor_how_they_are() {
    let (of_hub, of_agent) = (Supervisor::new(), Supervisor::new());
    let mut hub = Hub::start_with(&of_hub.environment(Duration::from_secs(3)), |_| {});
    of_hub.until("READY=1");
    of_hub.until("STATUS=ready");
    of_hub.until("WATCHDOG=1");
    let dir = hub.enroll("1111");

    let environment = of_agent.environment(Duration::from_secs(3));
    let binary = move || {
        let mut command = sealcast();
        command.envs(environment.iter().cloned());
        command
    };
    let mut agent = Agent::start_by(binary, &dir, &[]);
    of_agent.until("READY=1");
    of_agent.until("STATUS=ready");
    of_agent.until("WATCHDOG=1");
    // It waits for the hub, and lives.
    hub.kill();
    let status = of_agent.until("STATUS=waiting: ");
    assert!(status.contains("no control connection to the hub"), "{status}");
    of_agent.until("WATCHDOG=1");
    agent.end();
    of_agent.until("STOPPING=1");
}

/// The units name the programs where a package puts them, so those of this build are put in their place.
#[test]
fn systemd_takes_the_units() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        eprintln!("systemd-analyze is not here: the units are not checked");
        return;
    }
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/systemd");
    let dir = tempfile::tempdir().unwrap();
    let program = sealcast().get_program().to_str().unwrap().to_owned();
    for (unit, credential) in [("sealcast-hub.service", true), ("sealcast-agent@.service", false)] {
        let text = std::fs::read_to_string(units.join(unit)).unwrap();
        assert!(text.contains("Type=notify\n") && text.contains("WatchdogSec="), "{unit}");
        let text = text.replace("/usr/bin/sealcast-agent", &program).replace("/usr/bin/sealcast", &program);
        let path = dir.path().join(unit);
        std::fs::write(&path, text).unwrap();
        if credential {
            let beside = dir.path().join(format!("{unit}.d"));
            std::fs::create_dir(&beside).unwrap();
            std::fs::copy(units.join("passphrase.conf"), beside.join("passphrase.conf")).unwrap();
        }
        let checked = output(Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&path));
        let said = String::from_utf8_lossy(&checked.stderr);
        assert!(checked.status.success() && !said.contains(unit.trim_end_matches(".service")), "{unit}: {said}");
    }
}
