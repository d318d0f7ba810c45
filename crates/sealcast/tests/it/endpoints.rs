//! Agents that read the ledger from its network, whatever hub and broker show, and endpoints that lie or are behind.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::harness::{
    Agent, Answers, Anvil, Endpoint, Hub, Mosquitto, PROBE_INTERVAL, configure, sealcast, succeed, until, until_joined,
};

/// A hub whose ledger is on `anvil`, with the account of this number, and that is a client of the broker at this URL. `prepare`
/// puts something into its folder before.
pub fn hub_on(anvil: &Anvil, account: usize, broker: &str, prepare: impl FnOnce(&Path)) -> Hub {
    Hub::at_with(broker, |dir| {
        prepare(dir);
        let key = Anvil::key_file(dir, account);
        let table = format!("[ledger]\nrpc = ['{}']\nkey_file = '{key}'\nfinality = 'latest'\n", anvil.url());
        std::fs::write(dir.join("hub.toml"), table).unwrap();
    })
}

/// Agents that read from these endpoints, all of them members of `room`; the first one is heard by all.
fn agents<const N: usize>(hub: &Hub, endpoints: [&[String]; N]) -> [Agent; N] {
    let devices: [String; N] = std::array::from_fn(|at| (1111 + at).to_string());
    let dirs: [PathBuf; N] = devices.each_ref().map(|device| hub.enroll(device));
    for (dir, endpoints) in dirs.iter().zip(endpoints) {
        configure(dir, &format!("[ledger]\nrpc = {endpoints:?}\nfinality = 'latest'"));
    }
    hub.group("room", "room/#", &devices.each_ref().map(String::as_str));
    let agents = dirs.map(|dir| Agent::start(&dir, &[]));
    for other in &agents[1..] {
        until_joined(&agents[0], other, "room/probe");
    }
    agents
}

/// The hub of the agents is dead. The operator revokes a device at another one, which is at another broker.
#[test]
fn agents_without_a_hub_learn_of_a_revocation_and_seal_nothing_for_the_revoked_device() {
    let (anvil, broker, elsewhere) = (Anvil::start(&["--block-time", "1"]), Mosquitto::plain(), Mosquitto::plain());
    let mut hub = hub_on(&anvil, 0, &broker.url(), |_| {});
    let url = [anvil.url()];
    let [first, second, revoked] = agents(&hub, [&url, &url, &url]);
    let mut reader = revoked.subscribe("room/#", &[]);
    first.publish("room/t", "while it is a member", &[]);
    assert!(reader.message(crate::PATIENCE).is_some());
    let copy = |from: PathBuf, to: &Path| {
        succeed(Command::new("cp").arg("-r").arg(from).arg(to));
    };
    let other_hub = hub_on(&anvil, 1, &elsewhere.url(), |dir| {
        copy(hub.path().join("."), dir);
        copy(hub.operator(), &dir.with_file_name("hub-operator"));
    });
    hub.kill();
    other_hub.operate(&["device", "revoke", "1113", "--reason", "stolen"]);
    for agent in [&first, &second] {
        until("the revocation is known", || {
            agent.refusal("room/t", "before it is known", &[]).contains("1113") || why(agent).contains("key-removing")
        });
    }
    // Nobody can commit without a hub, so nothing is sealed that the revoked device could read.
    assert!(!first.publish_within(2, "room/secret", "not for 1113", &[]));
    assert!(reader.pending().iter().all(|line| !line.contains("not for 1113")));
    // With a hub again the group goes on without it.
    hub.restart();
    until_joined(&first, &second, "room/after");
    first.publish("room/secret", "among members", &[]);
    assert!(reader.pending().iter().all(|line| !line.contains("among members")));
}

fn why(agent: &Agent) -> String {
    succeed(sealcast().args(["why", "room/#", "--json", "--dir"]).arg(&agent.dir))
}

/// Two endpoints, of which one shows what nobody has signed, wherever it stands.
#[test]
fn an_endpoint_that_lies_beside_another_one_is_named_and_not_believed() {
    let (anvil, broker) = (Anvil::start(&[]), Mosquitto::plain());
    let hub = hub_on(&anvil, 0, &broker.url(), |_| {});
    let liar = Endpoint::before(&anvil);
    let pair = |one: String, other: String| [one, other];
    let (before, after) = (pair(liar.url(), anvil.url()), pair(anvil.url(), liar.url()));
    let [first, second] = agents(&hub, [&before, &after]);
    liar.set(Answers::False);
    hub.operate(&["group", "create", "other", "--filter", "other/#"]);
    hub.operate(&["group", "grant", "other", "1111", "1112"]);
    until_joined(&first, &second, "other/probe");
    for agent in [&first, &second] {
        agent.log.until(&[" ERROR ", "shows an entry that does not verify: it lies", &liar.url()]);
    }
}

/// An endpoint that goes on showing an old state: alone, and beside another one.
#[test]
fn a_stale_endpoint_is_noticed_by_what_members_and_other_endpoints_have_read() {
    let (anvil, broker) = (Anvil::start(&[]), Mosquitto::plain());
    let hub = hub_on(&anvil, 0, &broker.url(), |_| {});
    let stale = Endpoint::before(&anvil);
    let alone = [stale.url()];
    let beside = [stale.url(), anvil.url()];
    let [first, behind, third] = agents(&hub, [&[anvil.url()], &alone, &beside]);
    let block = anvil.ask("eth_blockNumber", &serde_json::json!([]));
    stale.set(Answers::Stale(u64::from_str_radix(&block.as_str().unwrap()[2..], 16).unwrap()));
    hub.operate(&["group", "create", "other", "--filter", "other/#"]);
    let mut reader = behind.subscribe("room/t", &[]);
    until("what the first one has read is missed", || {
        first.publish("room/t", "21", &[]);
        reader.message(PROBE_INTERVAL);
        !behind.log.lines(&[" WARN ", "1111 has read more entries than the ledger's endpoints show"]).is_empty()
    });
    until("it is noted", || why(&behind).contains("ledger-withheld"));
    third.log.until(&[" WARN ", "does not show what another one has shown for a minute", &stale.url()]);
    assert!(third.log.lines(&["has read more entries"]).is_empty(), "it has all from the other one");
}
