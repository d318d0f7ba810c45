//! Whoever shows different ledgers to different agents, or repeats what the operator said once, is found out at the next message.
//! `withheld.rs` has those that hide entries, `endpoints.rs` the endpoints of a network.

use std::path::Path;

use serde_json::Value;

use crate::harness::{Agent, Hub, PATIENCE, PROBE_INTERVAL, Process, Relay, sealcast, succeed, until, until_joined};

/// Two members of `home`, the second one behind a relay.
fn behind_relay(hub: &Hub) -> (Agent, Agent, Relay) {
    let [first, second] = hub.members("home", ["", ""]);
    let relay = Relay::start(&second, hub);
    let (agent, behind) = (Agent::start(&first, &[]), Agent::start(&second, &["--upstream", &relay.url()]));
    until_joined(&agent, &behind, "home/probe");
    (agent, behind, relay)
}

/// What the agent in this folder has of the ledger: how many entries, and the head.
fn read(dir: &Path) -> (u64, String) {
    let shown = succeed(sealcast().args(["ledger", "verify", "--json", "--agent"]).arg(dir));
    let shown: Value = serde_json::from_str(&shown).unwrap();
    (shown["height"].as_u64().unwrap(), shown["head"].as_str().unwrap().to_owned())
}

/// The other ledger has the same entries, with the same signatures. Their times are others, so the agent cannot tell by itself.
#[test]
fn agents_that_are_shown_different_ledgers_tell_the_entry_where_they_part() {
    let hub = Hub::start();
    let (agent, behind, relay) = behind_relay(&hub);
    until("both have the same", || read(&agent.dir) == read(&behind.dir));
    let mut readers = [agent.subscribe("home/t", &[]), behind.subscribe("home/t", &[])];
    for sender in [&agent, &behind] {
        sender.publish("home/t", "with the same ledger", &[]);
        assert!(readers.iter_mut().all(|reader| reader.message(PATIENCE).is_some()));
    }
    let (index, _) = read(&agent.dir);
    relay.fork();
    hub.operate(&["group", "create", "other", "--filter", "other/#"]);
    until("both have read on", || read(&agent.dir).0 > index && read(&behind.dir).0 > index);
    assert_ne!(read(&agent.dir).1, read(&behind.dir).1);
    let told = format!("they part from entry {index} on");
    // A message carries a small piece of the head, which may be the same by chance.
    until("both tell it", || {
        for sender in [&agent, &behind] {
            sender.publish("home/t", "with another one", &[]);
        }
        readers.iter_mut().for_each(|reader| drop(reader.message(PROBE_INTERVAL)));
        [&agent, &behind]
            .iter()
            .all(|agent| !agent.log.lines(&[" ERROR ", "has read another ledger", &told]).is_empty())
    });
    until("it is noted", || {
        let noted = succeed(sealcast().args(["why", "home/t", "--json", "--dir"]).arg(&behind.dir));
        noted.contains("ledger-parted") && noted.contains(&told)
    });
}

#[test]
fn an_old_word_of_the_operator_that_comes_again_is_told_and_not_believed() {
    let hub = Hub::start();
    let (_agent, behind, relay) = behind_relay(&hub);
    let mut attest = sealcast();
    attest.args(["ledger", "attest", "--every", "1", "--operator"]).arg(hub.operator());
    let _attest = Process::start(&mut attest);
    until("the operator has spoken for a while", || relay.words() >= 6);
    relay.replay();
    behind.log.until(&[" WARN ", "an old word of the operator on the ledger", "replays it"]);
}
