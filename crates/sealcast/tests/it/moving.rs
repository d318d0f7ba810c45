//! A fleet grows out of one machine: the ledger goes on at a contract on another network.

use std::path::Path;

use serde_json::Value;

use crate::{
    PATIENCE,
    harness::{Agent, Anvil, Hub, configure, output, sealcast, succeed, until, until_joined},
};

/// What `sealcast ledger verify` says of the agent's copy.
fn verified(agent: &Path) -> Value {
    let shown = succeed(sealcast().args(["ledger", "verify", "--json", "--agent"]).arg(agent));
    serde_json::from_str(&shown).unwrap()
}

fn epoch(hub: &Hub) -> Value {
    let shown: Value = serde_json::from_str(&hub.operate(&["group", "list", "--json"])).unwrap();
    shown[0]["epoch"].clone()
}

fn heard(from: &Agent, to: &Agent, text: &str) {
    let mut reader = to.subscribe("room/value", &[]);
    from.publish("room/value", text, &[]);
    assert_eq!(reader.message(PATIENCE).as_deref(), Some(&*format!("room/value {text}")));
}

#[test]
fn a_ledger_moves_to_a_network_and_groups_go_on_without_a_new_key() {
    let anvil = Anvil::start(&[]);
    let mut hub = Hub::start_with(&[], |dir| {
        std::fs::write(dir.join("hub.toml"), "[ledger]\nlisten = '127.0.0.1:0'\n").unwrap();
    });
    // The second agent reads the ledger's network by itself.
    let served = hub.ready["ledger_rpc"].as_str().unwrap();
    let reads_itself = format!("[ledger]\nrpc = ['http://{served}']\nfinality = 'latest'\n");
    let dirs = hub.members("room", ["", &reads_itself, ""]);
    let [first, mut second, mut away] = dirs.each_ref().map(|dir| Agent::start(dir, &[]));
    until_joined(&first, &second, "room/probe");
    until_joined(&first, &away, "room/probe");
    away.end();
    let before = epoch(&hub);

    let config = hub.path().join("there.toml");
    let key = Anvil::key_file(hub.path(), 0);
    let there = format!("[ledger]\nrpc = ['{}']\nkey_file = '{key}'\nfinality = 'latest'\n", anvil.url());
    std::fs::write(&config, &there).unwrap();
    let file = hub.path().join("exported");
    let import = || {
        let mut command = sealcast();
        command.args(["ledger", "import"]).arg(&file).arg("--hub").arg(hub.path()).arg("--config").arg(&config);
        command
    };
    hub.operate(&["ledger", "export", file.to_str().unwrap()]);
    let said = succeed(&mut import());
    let contract = said.split(' ').nth(1).unwrap().to_owned();
    assert!(contract.starts_with("31337:0x"), "{said}");
    // Nothing is left to do, and no other contract is deployed.
    assert!(succeed(&mut import()).contains(&format!("contract {contract} has")));

    // A wrong address would be the end of the ledger.
    let rpc = anvil.url();
    let to = |contract: &str| hub.command(&["ledger", "move", contract, "--rpc", &rpc, "--finality", "latest"]);
    let nowhere = output(&mut to(&format!("31337:0x{}", "7".repeat(40))));
    let words = String::from_utf8_lossy(&nowhere.stderr).into_owned();
    assert!(!nowhere.status.success() && words.contains("there is no contract at 0x7777"), "{words}");
    succeed(&mut to(&contract));
    assert!(succeed(&mut to(&contract)).contains("has moved"), "it is no error to ask again");
    until("the agents know", || {
        verified(&dirs[0])["contract"] == contract && verified(&dirs[1])["contract"] == contract
    });
    second
        .log
        .until(&[" ERROR ", &format!("the ledger is at the contract {contract}, and this agent reads it at 7526:0x")]);
    heard(&first, &second, "meanwhile");
    let closed = output(&mut hub.command(&["group", "revoke", "room", "1112"]));
    let words = String::from_utf8_lossy(&closed.stderr).into_owned();
    assert!(!closed.status.success() && words.contains("moved"), "{words}");

    hub.operate(&["ledger", "export", file.to_str().unwrap()]);
    let running = output(&mut import());
    let words = String::from_utf8_lossy(&running.stderr).into_owned();
    assert!(!running.status.success() && words.contains("stop it, and run this again"), "{words}");
    let mut import = import();
    hub.kill();
    let complete = succeed(&mut import);
    assert!(complete.contains("complete there"), "{complete}");
    std::fs::write(hub.path().join("hub.toml"), &there).unwrap();
    hub.restart();
    assert_eq!(epoch(&hub), before, "no new key");
    heard(&second, &first, "afterwards");
    let report: Value = serde_json::from_str(&hub.operate(&["ledger", "verify", "--json"])).unwrap();
    assert_eq!(report["contract"], contract);
    assert_ne!(report["ledger"], contract, "it is called as it was");

    // Grants and revocations go on, for a device that was away and one that has never seen the former contract.
    away.restart();
    until_joined(&first, &away, "room/probe");
    assert_eq!(epoch(&hub), before, "it has missed nothing");
    // An agent that reads the network by itself finds the contract by the entries that it has; one without any is told it.
    let read_there = format!("[ledger]\nrpc = ['{rpc}']\nfinality = 'latest'\n");
    configure(&dirs[1], &read_there);
    second.end();
    second.restart();
    until_joined(&first, &second, "room/probe");
    let new = hub.enroll("1114");
    configure(&new, &format!("{read_there}contract = '{contract}'\n"));
    hub.operate(&["group", "grant", "room", "1114"]);
    let joined = Agent::start(&new, &[]);
    until_joined(&first, &joined, "room/probe");
    let mut revoked = second.subscribe("room/secret", &[]);
    hub.operate(&["group", "revoke", "room", "1112"]);
    until("the revocation is followed", || epoch(&hub).as_u64() > before.as_u64().map(|epoch| epoch + 1));
    let mut member = joined.subscribe("room/secret", &[]);
    first.publish("room/secret", "not for 1112", &[]);
    assert_eq!(member.message(PATIENCE).as_deref(), Some("room/secret not for 1112"));
    let heard = revoked.pending();
    assert!(heard.iter().all(|line| !line.contains("not for 1112")), "{heard:?}");
    until("all have the same ledger", || {
        let head = verified(&new)["head"].clone();
        [&dirs[0], &dirs[2]].iter().all(|dir| verified(dir)["head"] == head)
    });
}
