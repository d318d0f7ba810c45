//! A hub that shows one agent less of the ledger than the others.

use std::process::Command;

use crate::harness::{Agent, Hub, PROBE_INTERVAL, Process, Relay, output, sealcast, until, until_joined};

/// `sealcast ledger attest`, each second.
fn attest(hub: &Hub) -> Process {
    Process::start(sealcast().args(["ledger", "attest", "--every", "1", "--operator"]).arg(hub.operator()))
}

/// Two members of `home`, the second one behind a relay.
fn behind_relay(hub: &Hub, config: &str) -> (Agent, Agent, Relay) {
    let [first, second] = hub.members("home", ["", config]);
    let relay = Relay::start(&second, &hub.mqtt);
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
