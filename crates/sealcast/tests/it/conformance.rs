//! MQTT as clients see it, case by case: directly on a broker and through agents, with packets that are built by hand, paho
//! and mqtt.js. What differs is a fault, or stands with its reason in the table of `docs/mqtt.md`.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::Command,
};

use serde_json::{Value, json};

use crate::{
    harness::{Agent, Hub, Mosquitto, succeed},
    node::modules,
    python::python,
};

/// The group's topics, and cases that run at a time.
const TOPICS: &str = "home";
const JOBS: usize = 12;
const TABLE: &str = include_str!("../../../../docs/mqtt.md");

/// What the clients of each case saw, by the way they were connected.
type Seen = BTreeMap<String, BTreeMap<String, Value>>;

/// A part of the names of the cases to run; all are run without it.
fn only() -> String {
    std::env::var("SEALCAST_TEST_CASES").unwrap_or_default()
}

/// Runs every case both ways. `direct` and `agents` say where the publishers and the other clients connect.
fn run(direct: [Value; 2], agents: [Value; 2]) -> Seen {
    let only = only();
    let ways = json!({ "direct": direct, "agent": agents });
    let settings = json!({ "ways": ways, "topics": TOPICS, "jobs": JOBS, "only": only, "modules": modules() });
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/conformance");
    let mut seen = Seen::new();
    for (program, script) in [(python(), "run.py"), (Path::new("node"), "mqttjs.mjs")] {
        let mut command = Command::new(program);
        command.env("PYTHONDONTWRITEBYTECODE", "1").arg(dir.join(script)).arg(settings.to_string());
        for line in succeed(&mut command).lines() {
            let result: Value = serde_json::from_str(line).unwrap();
            let text = |key: &str| result[key].as_str().unwrap_or_default().to_owned();
            let failed = text("failed");
            assert!(failed.is_empty(), "{} {}: {failed}\n{}", text("case"), text("way"), result["saw"]);
            seen.entry(text("case")).or_default().insert(text("way"), result["saw"].clone());
        }
    }
    assert!(!only.is_empty() || seen.len() >= 100, "{} cases", seen.len());
    seen
}

/// The cases that the table of the documentation says differ on `broker`. A name in it stands for all that begin with it.
fn expected<'a>(broker: &str, seen: &'a Seen) -> BTreeSet<&'a str> {
    let rows = TABLE.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" | "));
    let rows = rows.filter(|(_, rest)| [broker, "both"].iter().any(|name| rest.starts_with(&format!("{name} | "))));
    let names = rows.flat_map(|(cases, _)| cases.split(", ").map(|case| case.trim_matches('`')));
    let mut cases = BTreeSet::new();
    for name in names {
        let named: Vec<&str> = seen.keys().map(String::as_str).filter(|case| is_named(name, case)).collect();
        assert!(!named.is_empty() || !only().is_empty(), "docs/mqtt.md: no case {name}");
        cases.extend(named);
    }
    cases
}

fn is_named(name: &str, case: &str) -> bool {
    case.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

#[allow(clippy::print_stdout, reason = "the table is what this test is for")]
fn check(broker: &str, seen: &Seen) -> Vec<String> {
    let expected = expected(broker, seen);
    let mut faults = Vec::new();
    for (case, ways) in seen {
        let (direct, agent) = (&ways["direct"], &ways["agent"]);
        match (direct == agent, expected.contains(case.as_str())) {
            (true, false) | (false, true) => {}
            (false, false) => faults.push(format!("{broker}: {case}\n  direct {direct}\n  agent  {agent}")),
            (true, true) => faults.push(format!("{broker}: {case} does not differ, as docs/mqtt.md says")),
        }
        let same = if direct == agent { "same" } else { "differs" };
        println!("{broker:10} {same:8} {case}");
    }
    println!("{broker}: {} cases, {} differ", seen.len(), expected.len());
    faults
}

/// A client of the hub's broker with the certificate of the agent's device.
fn with_certificate(hub: &Hub, agent: &Agent) -> Value {
    let [cert, key] = ["device.pem", "device.key"].map(|name| agent.dir.join(name));
    json!({ "port": hub.mqtt_port().parse::<u16>().unwrap(), "ca": hub.path().join("root.pem"), "cert": cert, "key": key })
}

fn plain(port: &str) -> Value {
    json!({ "port": port.parse::<u16>().unwrap() })
}

#[test]
fn clients_see_the_same_directly_and_through_agents() {
    let mut hub = Hub::start();
    let agents = hub.pair(TOPICS, ["clear = ['$SYS/#']"; 2]);
    let through = || agents.each_ref().map(|agent| plain(agent.port()));
    let on_hub = run(agents.each_ref().map(|agent| with_certificate(&hub, agent)), through());
    // They have their keys, and have read the ledger: from here on they have another broker.
    hub.kill();
    let mosquitto = Mosquitto::in_place_of(&hub);
    let on_mosquitto = run([plain(&mosquitto.port()), plain(&mosquitto.port())], through());
    drop(mosquitto);
    let faults = [check("hub", &on_hub), check("mosquitto", &on_mosquitto)].concat();
    assert!(faults.is_empty(), "{} differences:\n{}", faults.len(), faults.join("\n"));
}
