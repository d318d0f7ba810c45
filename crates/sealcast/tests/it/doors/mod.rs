//! The agent's doors beside MQTT, with peers that nobody here wrote.

mod coap;
mod http;
mod modbus;

use crate::harness::{Agent, Hub, until_joined};

/// Two members of a group; the first one's agent has `config`.
fn pair(hub: &Hub, config: &str) -> [Agent; 2] {
    let agents = hub.members("hsu0001", [config, ""]).map(|dir| Agent::start(&dir, &[]));
    until_joined(&agents[0], &agents[1], "hsu0001/probe");
    until_joined(&agents[1], &agents[0], "hsu0001/probe");
    agents
}
