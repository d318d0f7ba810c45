//! The agent's doors beside MQTT, with peers that nobody here wrote.

mod coap;
mod http;
mod modbus;

use std::path::Path;

use crate::harness::{Agent, Hub, until_joined};

/// Two members of a group; the first one's agent has `config`.
fn pair(hub: &Hub, config: &str) -> [Agent; 2] {
    let dirs = ["1111", "1112"].map(|device| hub.enroll(device));
    hub.group("hsu0001", "hsu0001/#", &["1111", "1112"]);
    configure(&dirs[0], config);
    let agents = dirs.each_ref().map(|dir| Agent::start(dir, &[]));
    until_joined(&agents[0], &agents[1], "hsu0001/probe");
    until_joined(&agents[1], &agents[0], "hsu0001/probe");
    agents
}

fn configure(dir: &Path, config: &str) {
    std::fs::write(dir.join("agent.toml"), config).unwrap();
}
