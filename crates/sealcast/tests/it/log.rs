//! Standard error is a file on a full disk: nothing of the log can be written, and nothing else suffers.

use std::process::Command;

use crate::harness::{Agent, Hub, PATIENCE, Process, configure, sealcast_after, until_joined};

/// The log's size, and the limit for all files: those of SQLite stay far below.
const BYTES: u64 = 64 << 20;

/// The binary with such a standard error, in the folder that is its third argument.
fn without_log() -> Command {
    sealcast_after("trap '' XFSZ; truncate -s 64M \"$3/full\"; ulimit -f 65536; exec 2>>\"$3/full\"")
}

#[test]
fn hub_and_agents_go_on_and_the_fail_safe_value_comes_when_the_log_cannot_be_written() {
    let mut hub = Hub::start();
    let policy = "
        [[quality]]
        filter = 'hsu0001/t'
        fail_safe = { on_silence = { after_ms = 300, publish = 'open', topic = 'hsu0001/valve' } }";
    let dirs = hub.members("hsu0001", ["", ""]);
    configure(&dirs[1], policy);
    hub.kill();
    let mut process = Process::start(&mut hub.up(without_log()));
    process.line();
    let mut agents = dirs.each_ref().map(|dir| Agent::start_by(without_log, dir, &["--log", "debug"]));
    let [sender, receiver] = &agents;
    until_joined(sender, receiver, "hsu0001/probe");

    let mut valve = receiver.subscribe("hsu0001/valve", &[]);
    for _ in 0..2 {
        // A good value ends it, silence begins it again; the log would have a line for each.
        sender.publish("hsu0001/t", "20", &[]);
        assert_eq!(valve.message(PATIENCE).as_deref(), Some("hsu0001/valve open"));
    }
    // The log would have a line for this refusal.
    assert!(!sender.refusal("nobodys/t", "x", &[]).is_empty());
    // Control tasks and hub follow the ledger.
    hub.group("hsu0002", "hsu0002/#", &["1111", "1112"]);
    until_joined(sender, receiver, "hsu0002/probe");

    for agent in &mut agents {
        agent.kill();
    }
    assert_eq!(process.exit_code(), None);
    process.kill();
    for dir in dirs.iter().map(std::path::PathBuf::as_path).chain([hub.path()]) {
        assert_eq!(std::fs::metadata(dir.join("full")).unwrap().len(), BYTES, "{}", dir.display());
    }
}
