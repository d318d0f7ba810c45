//! A hub that shows one agent less of the ledger than the others.

use std::process::Command;

use serde_json::Value;

use crate::harness::{Agent, Hub, PROBE_INTERVAL, Process, Relay, configure, output, sealcast, until, until_joined};

/// `sealcast ledger attest`, each second.
fn attest(hub: &Hub) -> Process {
    Process::start(sealcast().args(["ledger", "attest", "--every", "1", "--operator"]).arg(hub.operator()))
}

/// Two members of `home`, the second one behind a relay.
fn behind_relay(hub: &Hub, config: &str) -> (Agent, Agent, Relay) {
    let [first, second] = hub.members("home", ["", config]);
    let relay = Relay::start(&second, hub);
    let (agent, behind) = (Agent::start(&first, &[]), Agent::start(&second, &["--upstream", &relay.url()]));
    until_joined(&agent, &behind, "home/probe");
    (agent, behind, relay)
}

#[test]
fn a_member_learns_from_the_others_messages_that_the_ledger_is_withheld_from_it() {
    let hub = Hub::start();
    let (agent, behind, relay) = behind_relay(&hub, "");
    assert!(behind.log.lines(&["withheld"]).is_empty());
    relay.set_withholds(true);
    hub.operate(&["group", "create", "other", "--filter", "other/#"]);
    let mut reader = behind.subscribe("home/t", &[]);
    until("what the other one says is doubted", || {
        agent.publish("home/t", "21", &[]);
        assert!(reader.message(PROBE_INTERVAL).is_some(), "one member's word stops nothing");
        !behind.log.lines(&[" WARN ", "may be withheld", "1111 has read more entries"]).is_empty()
    });
    // The operator says so too.
    let attest = attest(&hub);
    behind.log.until(&[" WARN ", "may be withheld", "the operator has read more entries"]);
    attest.kill();
    // Whoever gets all of the ledger doubts nobody.
    assert!(agent.log.lines(&["withheld"]).is_empty());
}

#[test]
fn an_agent_tells_that_the_operators_word_does_not_come_any_more() {
    let hub = Hub::start();
    let (agent, behind, _relay) = behind_relay(&hub, "ledger.max_age_ms = 3000");
    let first = attest(&hub);
    assert!(first.line().contains(" entries, head 0x"));
    first.kill();
    behind.log.until(&[" WARN ", "older than ledger.max_age_ms"]);
    // A device that takes away what the broker keeps of it, or replaces it, would have all agents warn.
    let mut forge = Command::new("mosquitto_pub");
    forge.args(["-V", "mqttv5", "-p", hub.mqtt_port(), "-t", "sealcast/v1/head", "-m", "forged", "-r", "-q", "1"]);
    forge.arg("--cafile").arg(hub.path().join("root.pem"));
    forge.arg("--cert").arg(agent.dir.join("device.pem")).arg("--key").arg(agent.dir.join("device.key"));
    let said = String::from_utf8(output(&mut forge).stderr).unwrap();
    assert!(said.contains("Not authorized"), "{said}");
    let _second = attest(&hub);
    behind.log.until(&[" INFO ", "the operator's word on the ledger comes again"]);
}

#[test]
fn a_group_that_asks_for_it_seals_only_while_the_operator_says_how_far_the_ledger_is() {
    let hub = Hub::start();
    let members = ["1111", "1112"];
    let dirs = members.map(|device| hub.enroll(device));
    // What the first one's clients publish waits, what the second one's publish is refused.
    for (dir, config) in dirs.iter().zip(["key_wait_ms = 600000", "key_wait_ms = 0"]) {
        configure(dir, config);
    }
    hub.operate(&["group", "create", "home", "--filter", "home/#", "--ledger-max-age", "4"]);
    hub.operate(&["group", "grant", "home", members[0], members[1]]);
    let shown: Value = serde_json::from_str(&hub.operate(&["group", "show", "home", "--json"])).unwrap();
    assert_eq!(shown["group"]["ledger_max_age_s"], 4);
    let [agent, reader] = dirs.map(|dir| Agent::start(&dir, &[]));
    for agent in [&agent, &reader] {
        agent.log.until(&[" WARN ", "nothing is sealed for the group", "has not come since this agent was started"]);
    }
    let first = attest(&hub);
    agent.log.until(&[" INFO ", "as new again as the group asks for"]);
    until_joined(&agent, &reader, "home/probe");
    first.kill();
    agent.log.until(&[" WARN ", "nothing is sealed for the group", " s old, and"]);
    reader.log.until(&[" WARN ", "nothing is sealed for the group", " s old, and"]);
    let said = reader.refusal("home/t", "20", &[]);
    assert!(said.contains("seal nothing when it is older than 4 s"), "{said}");
    let mut arrivals = reader.subscribe("home/t", &[]);
    let mut publish = Command::new("mosquitto_pub");
    publish.args(["-V", "mqttv5", "-p", agent.port(), "-t", "home/t", "-m", "21", "-q", "1"]);
    let _publish = Process::start(&mut publish);
    let _second = attest(&hub);
    assert_eq!(arrivals.before("home/t 21"), [""; 0]);
}
