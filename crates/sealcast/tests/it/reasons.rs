//! Why a message did not arrive: a code in the log, in `sealcast why` and in `docs/reasons.md`.

use std::{collections::BTreeSet, process::Command};

use serde_json::Value;

use crate::harness::{Agent, Hub, PATIENCE, output, refuse, sealcast, succeed, until};

const REASONS: &str = include_str!("../../../../docs/reasons.md");

#[test]
fn every_code_is_explained_and_every_explanation_is_of_a_code() {
    let agents = sealcast_agent::Cause::ALL.iter().map(|cause| cause.code());
    let hubs = sealcast_hub::Cause::ALL.iter().map(|cause| cause.code());
    let codes: Vec<&str> = agents.chain(hubs).collect();
    let explained: Vec<&str> =
        REASONS.lines().filter_map(|line| line.strip_prefix("### `")?.strip_suffix('`')).collect();
    let [known, said] = [&codes, &explained].map(|all| all.iter().copied().collect::<BTreeSet<_>>());
    assert_eq!((known.len(), said.len()), (codes.len(), explained.len()), "each only once");
    assert_eq!(known.difference(&said).collect::<Vec<_>>(), [""; 0].iter().collect::<Vec<_>>(), "not explained");
    assert_eq!(said.difference(&known).collect::<Vec<_>>(), [""; 0].iter().collect::<Vec<_>>(), "explains nothing");
    let sections = REASONS.split("\n### `").skip(1);
    for section in sections {
        let (code, words) = section.split_once('`').unwrap();
        let words = words.split("\n## ").next().unwrap().trim();
        assert!(words.len() >= 20, "{code} is not explained: {words:?}");
    }
}

/// What the agent of the device in `dir` noted of `topic`, as code and count.
fn why(agent: &Agent, topic: &str) -> Vec<Value> {
    let mut command = sealcast();
    command.args(["why", topic, "--json", "--dir"]).arg(&agent.dir);
    serde_json::from_str(&succeed(&mut command)).unwrap()
}

fn count(rows: &[Value], code: &str, client: &str) -> u64 {
    let of = rows.iter().filter(|row| row["code"] == code && row["client"] == client);
    of.map(|row| row["count"].as_u64().unwrap()).sum()
}

#[test]
fn an_agent_says_why_while_it_runs_and_afterwards() {
    let hub = Hub::start();
    let [sender, mut receiver] = hub.pair("hsu0001", ["", ""]);
    assert_eq!(why(&receiver, "hsu0001/t"), Vec::<Value>::new());

    let mut reader = receiver.subscribe("hsu0001/#", &["-i", "panel"]);
    sender.publish("hsu0001/t", "sealed", &[]);
    assert_eq!(reader.message(PATIENCE).as_deref(), Some("hsu0001/t sealed"));
    // Whoever has the device's key can write to the broker without its agent.
    let mut unsealed = Command::new("mosquitto_pub");
    unsealed.args(["-h", "localhost", "-p", hub.mqtt_port(), "-t", "hsu0001/t", "-m", "x", "-q", "1"]);
    unsealed.arg("--cafile").arg(hub.path().join("root.pem"));
    unsealed.arg("--cert").arg(sender.dir.join("device.pem")).arg("--key").arg(sender.dir.join("device.key"));
    for _ in 0..2 {
        assert!(output(&mut unsealed).status.success());
    }
    receiver.log.until(&[" WARN ", "delivery refused", "panel", "hsu0001/t", "code=open-not-sealed"]);
    until("both are noted", || count(&why(&receiver, "hsu0001/+"), "open-not-sealed", "panel") == 2);
    assert_eq!(why(&receiver, "hsu0001/other"), Vec::<Value>::new(), "another topic");

    let said = sender.refusal("elsewhere/t", "x", &["-i", "pump", "-q", "1"]);
    assert!(said.contains("no group covers elsewhere/t"), "{said}");
    sender.log.until(&[" WARN ", "publish refused", "pump", "elsewhere/t", "code=topic-no-group"]);
    until("it is noted", || count(&why(&sender, "elsewhere/t"), "topic-no-group", "pump") == 1);

    // It is there when the agent is not, and counts on when it is back.
    receiver.end();
    let rows = why(&receiver, "#");
    assert_eq!(count(&rows, "open-not-sealed", "panel"), 2, "{rows:?}");
    receiver.restart();
    let mut reader = receiver.subscribe("hsu0001/#", &["-i", "panel"]);
    sender.publish("hsu0001/t", "again", &[]);
    assert_eq!(reader.message(PATIENCE).as_deref(), Some("hsu0001/t again"));
    assert!(output(&mut unsealed).status.success());
    until("the third is noted", || count(&why(&receiver, "hsu0001/t"), "open-not-sealed", "panel") == 3);
    let table = succeed(sealcast().args(["why", "hsu0001/t", "--dir"]).arg(&receiver.dir));
    assert!(table.contains("open-not-sealed") && table.contains("its publisher has no agent"), "{table}");
    let refused = refuse(["why", "a/#/b", "--dir", receiver.dir.to_str().unwrap()]);
    assert!(refused.contains('#'), "{refused}");
}
