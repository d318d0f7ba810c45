//! The console's page in a browser: before a real hub with its devices, and alone before a stand-in for the hub.

use std::{path::PathBuf, process::Command, sync::OnceLock};

use crate::harness::{Agent, Hub, PATIENCE, Process, succeed, until_joined};

/// The folder of the browser's tests, with what they take from npm.
fn web_tests() -> PathBuf {
    static READY: OnceLock<PathBuf> = OnceLock::new();
    READY
        .get_or_init(|| {
            let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../console/web-tests");
            let missing = Command::new("npm").args(["ls", "--silent"]).current_dir(&dir).output().unwrap();
            if !missing.status.success() {
                succeed(Command::new("npm").args(["ci", "--silent"]).current_dir(&dir));
            }
            dir
        })
        .clone()
}

/// A person before the console of `hub`.
fn at(hub: &Hub, operator: &str) -> Command {
    let mut command = Command::new("node");
    command.current_dir(web_tests());
    let text = |key: &str| hub.ready[key].as_str().unwrap().to_owned();
    command.env("CONSOLE_URL", text("console")).env("CONSOLE_READER_TOKEN", text("console_token"));
    command.env("CONSOLE_OPERATOR_TOKEN", operator);
    command
}

#[test]
fn nodes_appear_as_they_enrol_and_a_grant_on_the_page_makes_messages_readable() {
    let hub = Hub::start();
    let process = Process::start(&mut hub.command(&["operator", "--json"]));
    let ready: serde_json::Value = serde_json::from_str(&process.line()).unwrap();
    let operator = ready["token"].as_str().unwrap();

    let watcher = Process::start(at(&hub, operator).args(["live.mjs", "appear"]));
    assert_eq!(watcher.line(), "no nodes");
    let dirs = ["1111", "1112", "1113", "1114"].map(|device| {
        let dir = hub.enroll(device);
        assert_eq!(watcher.line(), device);
        dir
    });
    assert_eq!(watcher.line(), "done");

    hub.group("hsu0001", "hsu0001/#", &["1111", "1112"]);
    let agents = dirs.map(|dir| Agent::start(&dir, &[]));
    until_joined(&agents[0], &agents[1], "hsu0001/probe");
    let refused = agents[2].refusal("hsu0001/room1", "not yet", &[]);
    assert!(refused.contains("not a member"), "{refused}");

    succeed(at(&hub, operator).args(["live.mjs", "grant"]));
    until_joined(&agents[0], &agents[2], "hsu0001/probe");
    let mut reader = agents[2].subscribe("hsu0001/room1", &[]);
    agents[0].publish("hsu0001/room1", "27.0 degrees", &[]);
    assert_eq!(reader.message(PATIENCE).as_deref(), Some("hsu0001/room1 27.0 degrees"));

    succeed(at(&hub, operator).args(["live.mjs", "revoke"]));
    let refused = agents[2].refusal("hsu0001/room1", "not any more", &[]);
    assert!(refused.contains("not a member"), "{refused}");

    // Everything else that a person does there.
    succeed(at(&hub, operator).args(["--test", "tests/page.test.mjs"]));
}
