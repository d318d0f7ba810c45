//! The ledger on an EVM network: the experiment, a reorganisation, and a hub that dies beside another one.

use std::{path::Path, process::Command};

use serde_json::{Value, json};

use crate::{
    PATIENCE,
    harness::{Agent, Anvil, Hub, Mosquitto, geth, output, sealcast, succeed, until, until_joined},
};

fn every_step_holds_on(rpc: &str) {
    let out = output(sealcast().args(["demo", "--json", "--rpc", rpc]));
    let said = String::from_utf8_lossy(&out.stderr);
    let report: Value = serde_json::from_slice(&out.stdout).unwrap_or_else(|error| panic!("{error}: {said}"));
    let steps = report["steps"].as_array().unwrap();
    let failed: Vec<_> = steps.iter().filter(|step| step["held"] != true).collect();
    assert!(out.status.success() && failed.is_empty(), "{failed:#?}\n{said}");
    assert!(steps.len() > 50, "{} steps\n{said}", steps.len());
    assert_eq!(report["ledger"]["verified"], true);
}

#[test]
fn the_experiment_on_anvil() {
    every_step_holds_on(&Anvil::start(&[]).url());
}

#[test]
fn the_experiment_on_geth() {
    let dir = tempfile::tempdir().unwrap();
    let Some((_process, port)) = geth(dir.path()) else { return };
    every_step_holds_on(&format!("http://{}", port.address()));
}

/// A hub whose ledger is on `anvil`, with the account of this number, and that is a client of `broker`.
fn hub_on(anvil: &Anvil, account: usize, finality: &str, broker: &str) -> Hub {
    Hub::at_with(broker, |dir| {
        let key = Anvil::key_file(dir, account);
        std::fs::write(dir.join("hub.toml"), ledger_table(&anvil.url(), &key, finality)).unwrap();
    })
}

fn ledger_table(rpc: &str, key: &str, finality: &str) -> String {
    format!("[ledger]\nrpc = ['{rpc}']\nkey_file = '{key}'\nfinality = '{finality}'\n")
}

/// Blocks are taken back during a grant, a revocation and a commit. What has four blocks on top of it stays.
#[test]
fn three_blocks_are_taken_back_during_a_grant_a_revocation_and_a_commit() {
    let (anvil, broker) = (Anvil::start(&["--block-time", "1"]), Mosquitto::plain());
    let hub = hub_on(&anvil, 0, "4", &broker.url());
    let dirs = ["1111", "1112", "1113"].map(|device| hub.enroll(device));
    hub.group("room", "room/#", &["1111", "1112"]);
    let [first, second, third] = dirs.each_ref().map(|dir| Agent::start(dir, &[]));
    until_joined(&first, &second, "room/probe");
    let mut revoked = second.subscribe("room/#", &[]);
    for change in [["grant", "room", "1113"], ["revoke", "room", "1112"]] {
        let (height, mut command) = (block(&anvil), hub.command(&[&["group"], &change[..]].concat()));
        let changing = std::thread::spawn(move || output(&mut command));
        // The entry is in one of these blocks, and so is the commit that follows it in some of those after.
        for reorganisation in 1..=3 {
            until("a few blocks", || block(&anvil) >= height + 3 * reorganisation);
            anvil.reorganise(3);
        }
        let out = changing.join().unwrap();
        // The operator may have been told to ask again, and then learns that it was done.
        if !out.status.success() {
            until(change[0], || {
                let out = output(&mut hub.command(&[&["group"], &change[..]].concat()));
                let said = String::from_utf8_lossy(&out.stderr);
                out.status.success() || said.contains("already granted") || said.contains("not granted")
            });
        }
    }
    until_joined(&first, &third, "room/probe");
    let mut member = third.subscribe("room/secret", &[]);
    first.publish("room/secret", "not for 1112", &[]);
    assert_eq!(member.message(PATIENCE).as_deref(), Some("room/secret not for 1112"));
    third.publish("room/secret", "nor this", &[]);
    assert!(revoked.pending().iter().all(|line| !line.contains("not for 1112") && !line.contains("nor this")));
    let head = |dir: &Path| {
        let shown = succeed(sealcast().args(["ledger", "verify", "--json", "--agent"]).arg(dir));
        serde_json::from_str::<Value>(&shown).unwrap()["head"].clone()
    };
    until("all agents have the same ledger", || head(&dirs[0]) == head(&dirs[1]) && head(&dirs[0]) == head(&dirs[2]));
}

fn block(anvil: &Anvil) -> u64 {
    let number = anvil.ask("eth_blockNumber", &json!([]));
    u64::from_str_radix(number.as_str().unwrap().trim_start_matches("0x"), 16).unwrap()
}

/// Both are clients of one broker, with the same keys, and pay with accounts of their own. They ask the network in two ways.
#[test]
fn one_of_two_hubs_dies_in_the_middle_of_grants_and_traffic() {
    let (anvil, broker) = (Anvil::start(&["--block-time", "1"]), Mosquitto::plain());
    let mut first_hub = hub_on(&anvil, 0, "latest", &broker.url());
    let dirs = ["1111", "1112", "1113", "1114"].map(|device| first_hub.enroll(device));
    let second_hub = Hub::at_with(&broker.url(), |dir| {
        succeed(Command::new("cp").arg("-r").arg(format!("{}/.", first_hub.path().display())).arg(dir));
        let key = Anvil::key_file(dir, 1);
        std::fs::write(dir.join("hub.toml"), ledger_table(&anvil.url().replace("http", "ws"), &key, "latest")).unwrap();
    });
    assert_eq!(first_hub.ready["ledger"], second_hub.ready["ledger"]);
    first_hub.group("room", "room/#", &["1111", "1112"]);
    let [first, second, third, fourth] = dirs.each_ref().map(|dir| Agent::start(dir, &[]));
    until_joined(&first, &second, "room/probe");
    let mut reader = second.subscribe("room/value", &[]);
    let grant = |device: &str| first_hub.command(&["group", "grant", "room", device]);
    let (mut third_grant, mut fourth_grant) = (grant("1113"), grant("1114"));
    let granting = std::thread::spawn(move || output(&mut third_grant));
    first.publish("room/value", "before", &[]);
    first_hub.kill();
    first.publish("room/value", "after", &[]);
    for value in ["before", "after"] {
        assert_eq!(reader.message(PATIENCE).as_deref(), Some(&*format!("room/value {value}")));
    }
    if !granting.join().unwrap().status.success() {
        let mut again = first_hub.command(&["group", "grant", "room", "1113"]);
        until("the grant is on the ledger", || output(&mut again).status.success());
    }
    succeed(&mut fourth_grant);
    for joined in [&third, &fourth] {
        until_joined(&first, joined, "room/probe");
    }
}
