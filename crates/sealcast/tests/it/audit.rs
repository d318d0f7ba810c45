//! A device proves what it has sent to somebody who has three files, or two and an endpoint, and none of its groups' keys.

use std::{path::Path, process::Command};

use serde_json::Value;

use crate::harness::{Agent, Anvil, Hub, Mosquitto, output, refuse, sealcast, succeed, until};

/// The first message is anchored after ten seconds at most, and five at once.
const ANCHOR: &str = "[anchor]\nevery_messages = 5\nevery_s = 10\n";

fn prove(agent: &Agent, out: &Path, args: &[&str]) -> Command {
    let mut command = sealcast();
    command.args(["audit", "prove", "--out"]).arg(out).arg("--dir").arg(&agent.dir).args(args);
    command
}

fn verify(dir: &Path, args: &[&str]) -> Command {
    let mut command = sealcast();
    command.args(["audit", "verify", "proof", "--root", "root.pem", "--json"]).args(args).current_dir(dir);
    command
}

fn report(command: &mut Command) -> Value {
    serde_json::from_str(&succeed(command)).unwrap()
}

/// The topics and the payloads that a proof shows, by their places.
fn shown(report: &Value) -> Vec<(u64, String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let rows = report["messages"].as_array().unwrap().iter();
    rows.map(|row| (row["place"].as_u64().unwrap(), text(&row["topic"]), text(&row["payload"]))).collect()
}

/// Proves until the proof shows the payload, which waits for its anchor.
fn prove_until(agent: &Agent, dir: &Path, args: &[&str], payload: &str) {
    let proof = dir.join("proof");
    until("the last message is anchored and proven", || {
        output(&mut prove(agent, &proof, args)).status.success()
            && report(verify(dir, &["--ledger"]).arg(&agent.dir)).to_string().contains(payload)
    });
}

fn publish(agent: &Agent, numbers: std::ops::Range<u32>) {
    for number in numbers {
        let topic = if number % 2 == 0 { "room/temperature" } else { "room/door" };
        agent.publish(topic, &format!("reading {number}"), &[]);
    }
}

#[test]
fn a_stranger_with_three_files_verifies_what_was_sent_and_no_changed_byte() {
    let mut hub = Hub::start_with(&[], |dir| {
        std::fs::write(dir.join("hub.toml"), "[ledger]\nlisten = '127.0.0.1:0'\n").unwrap();
    });
    let rpc = format!("http://{}", hub.ready["ledger_rpc"].as_str().unwrap());
    let [mut agent, reader] = hub.pair("room", [ANCHOR, ""]);
    publish(&agent, 0..6);
    // Killed between two messages, nothing is missing and nothing is there twice.
    agent.kill();
    agent.restart();
    until("the agent seals again", || agent.try_publish("room/probe", "again", &[]));
    publish(&agent, 6..12);

    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(agent.dir.join("root.pem"), dir.path().join("root.pem")).unwrap();
    prove_until(&agent, dir.path(), &["--topic", "room/temperature"], "reading 10");
    agent.log.until(&["INFO", "can be proven up to message"]);
    let file = dir.path().join("ledger");
    hub.operate(&["ledger", "export", file.to_str().unwrap()]);
    let by_rpc = report(&mut verify(dir.path(), &["--rpc", &rpc]));
    // The embedded ledger has no headers with a state.
    assert_eq!(by_rpc["block"], Value::Null);
    agent.end();
    hub.kill();
    drop(reader);

    let told = report(&mut verify(dir.path(), &["--ledger", "ledger"]));
    assert_eq!((&told["device"], &told["group"], &told["revoked"]), (&"1111".into(), &"room".into(), &false.into()));
    assert_eq!(shown(&told), shown(&by_rpc));
    let even = (0..12).step_by(2).map(|number| format!("reading {number}"));
    let payloads: Vec<String> = shown(&told).into_iter().map(|(.., payload)| payload).collect();
    assert_eq!(payloads, even.collect::<Vec<_>>());
    assert!(shown(&told).iter().all(|(_, topic, _)| topic == "room/temperature"));
    let bytes = std::fs::read(dir.path().join("proof")).unwrap();
    assert!(!bytes.windows(9).any(|part| part == b"room/door"), "other topics are not shown");

    no_changed_byte(dir.path(), &bytes);
    choices(&agent, dir.path());
}

/// Each is refused with its claim, or as no proof. The tests of the crate `audit` change every byte.
fn no_changed_byte(dir: &Path, bytes: &[u8]) {
    for at in (0..bytes.len()).step_by(bytes.len() / 40) {
        let mut changed = bytes.to_vec();
        changed[at] ^= 1 << (at % 8);
        std::fs::write(dir.join("proof"), &changed).unwrap();
        let out = output(&mut verify(dir, &["--ledger", "ledger"]));
        let said = String::from_utf8_lossy(&out.stderr);
        let named = said.contains("does not hold") || said.contains("is no proof, or was changed");
        assert!(!out.status.success() && named, "byte {at}: {said}");
    }
    std::fs::write(dir.join("proof"), bytes).unwrap();
    // Another root, and a ledger that is cut.
    let ledger = std::fs::read(dir.join("ledger")).unwrap();
    std::fs::write(dir.join("cut"), &ledger[..ledger.len() - 1]).unwrap();
    let said = output(&mut verify(dir, &["--ledger", "cut"])).stderr;
    assert!(String::from_utf8_lossy(&said).contains("cannot be read after"), "{said:?}");
}

/// What a proof can be asked to show, without the hub and the agent.
fn choices(agent: &Agent, dir: &Path) {
    let proof = dir.join("proof");
    let ledger = ["--ledger", "ledger"];
    succeed(&mut prove(agent, &proof, &["--topic", "room/temperature", "--complete"]));
    let all = shown(&report(&mut verify(dir, &ledger)));
    let places: Vec<u64> = all.iter().map(|(place, ..)| *place).collect();
    assert!(places.windows(2).all(|pair| pair[1] == pair[0] + 1), "none in between is missing: {places:?}");
    assert!(all.iter().any(|(_, topic, payload)| topic == "room/door" && payload.is_empty()), "{all:?}");

    let payload = dir.join("payload");
    std::fs::write(&payload, "reading 7").unwrap();
    succeed(prove(agent, &proof, &["--payload"]).arg(&payload));
    let one = shown(&report(&mut verify(dir, &ledger)));
    assert!(matches!(&one[..], [(_, topic, payload)] if topic == "room/door" && payload == "reading 7"), "{one:?}");

    let args = ["audit", "prove", "--out", "x", "--dir"].into_iter().chain(agent.dir.to_str());
    assert!(refuse(args.clone().chain(["--to", "2020-01-01"])).contains("no message that is kept and anchored"));
    assert!(refuse(args.clone().chain(["--from", "soon"])).contains("--from"));
    assert!(refuse(args.chain(["--group", "hall"])).contains("no group hall"));
}

/// Where nodes prove their state, the anchor is checked against a block's header.
#[test]
fn an_anchor_on_a_network_is_checked_against_a_header() {
    let (anvil, broker) = (Anvil::start(&[]), Mosquitto::plain());
    let hub = Hub::at_with(&broker.url(), |dir| {
        let key = Anvil::key_file(dir, 0);
        let table = format!("[ledger]\nrpc = ['{}']\nkey_file = '{key}'\nfinality = 'latest'\n", anvil.url());
        std::fs::write(dir.join("hub.toml"), table).unwrap();
    });
    let [agent, _reader] = hub.pair("room", [&format!("{ANCHOR}payloads = false\n"), ""]);
    publish(&agent, 0..6);
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(agent.dir.join("root.pem"), dir.path().join("root.pem")).unwrap();
    let payload = dir.path().join("payload");
    std::fs::write(&payload, "reading 4").unwrap();
    prove_until(&agent, dir.path(), &["--payload", payload.to_str().unwrap()], "reading 4");
    let told = report(&mut verify(dir.path(), &["--rpc", &anvil.url()]));
    let number = told["block"]["number"].as_u64().unwrap();
    let block = anvil.ask("eth_getBlockByNumber", &serde_json::json!([format!("{number:#x}"), false]));
    assert_eq!(told["block"]["hash"], block["hash"]);
    // Without payloads, the digests are there.
    succeed(&mut prove(&agent, &dir.path().join("proof"), &["--topic", "room/door"]));
    let told = report(&mut verify(dir.path(), &["--rpc", &anvil.url()]));
    let rows = told["messages"].as_array().unwrap();
    assert!(!rows.is_empty() && rows.iter().all(|row| row["payload"].is_null() && row["sha256"].is_string()), "{told}");
}
