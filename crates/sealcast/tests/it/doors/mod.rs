//! The agent's doors beside MQTT, with peers that nobody here wrote.

mod coap;
mod http;
mod modbus;

use crate::harness::{Agent, Hub, until_joined};

/// Two members of a group that read each other; the first one's agent has `config`.
fn pair(hub: &Hub, config: &str) -> [Agent; 2] {
    let agents = hub.pair("hsu0001", [config, ""]);
    until_joined(&agents[1], &agents[0], "hsu0001/probe");
    agents
}
