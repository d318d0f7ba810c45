//! Readings on the ledger: what was acknowledged is there whatever was killed, once, in order and judged.

use std::{
    collections::BTreeSet,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use serde_json::Value;

use crate::harness::{Agent, Hub, refuse, sealcast, succeed, until};

const TOPIC: &str = "hsu0001/count";

/// Publishes 0, 1, 2 … one after the other and remembers which were acknowledged.
fn publish(port: String, stop: Arc<AtomicBool>) -> thread::JoinHandle<BTreeSet<u32>> {
    thread::spawn(move || {
        let mut acknowledged = BTreeSet::new();
        for number in 0.. {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let mut command = Command::new("timeout");
            command.args(["3", "mosquitto_pub", "-h", "127.0.0.1", "-p", &port, "-t", TOPIC, "-q", "1"]);
            command.args(["-m", &number.to_string()]).stderr(std::process::Stdio::null());
            if command.status().is_ok_and(|status| status.success()) {
                acknowledged.insert(number);
            } else {
                thread::sleep(Duration::from_millis(100));
            }
        }
        acknowledged
    })
}

fn show(hub: &Hub) -> Value {
    serde_json::from_str(&hub.operate(&["readings", "show", "1111", "--topic", TOPIC, "--json"])).unwrap()
}

fn values(shown: &Value) -> Vec<(u64, String, bool)> {
    let readings = shown["readings"].as_array().unwrap();
    let row = |row: &Value| {
        assert_eq!(row["unit"], "Cel");
        let value = row["value"].as_str().unwrap().to_owned();
        (row["sequence"].as_u64().unwrap(), value, row["accepted"].as_bool().unwrap())
    };
    readings.iter().map(row).collect()
}

#[test]
fn nothing_acknowledged_is_missing_from_the_ledger_whatever_is_killed() {
    let mut hub = Hub::start();
    let dir = hub.enroll("1111");
    hub.group("hsu0001", "hsu0001/#", &["1111"]);
    std::fs::write(dir.join("agent.toml"), format!("[[record]]\nfilter = '{TOPIC}'\ndecimals = 1\n")).unwrap();
    let mut agent = Agent::start(&dir, &[]);
    until("the group has its keys", || {
        let mut command = Command::new("mosquitto_pub");
        command.args(["-h", "127.0.0.1", "-p", agent.port(), "-t", "hsu0001/probe", "-m", "x", "-q", "1"]);
        command.status().unwrap().success()
    });
    let stop = Arc::new(AtomicBool::new(false));
    let publisher = publish(agent.port().to_owned(), stop.clone());

    // Without limits nothing is written, and nothing is lost.
    thread::sleep(Duration::from_millis(700));
    assert_eq!(values(&show(&hub)), []);
    let limits = ["group", "limits", "hsu0001", "--topic", TOPIC, "--min", "0", "--max", "1e6", "--unit", "Cel"];
    hub.operate(&[&limits[..], &["--decimals", "1", "--max-step", "100000", "--gapless"]].concat());

    let mut seen = 0;
    let mut more = |hub: &Hub| {
        let goal = seen + 5;
        until("readings arrive", || {
            seen = values(&show(hub)).len();
            seen >= goal
        });
    };
    more(&hub);
    for pause in [0, 130] {
        thread::sleep(Duration::from_millis(pause));
        agent.kill();
        agent.restart();
        more(&hub);
        thread::sleep(Duration::from_millis(pause));
        hub.kill();
        thread::sleep(Duration::from_millis(300));
        hub.restart();
        more(&hub);
        hub.kill();
        agent.kill();
        hub.restart();
        agent.restart();
        more(&hub);
    }

    stop.store(true, Ordering::Relaxed);
    let acknowledged: BTreeSet<String> = publisher.join().unwrap().iter().map(|n| format!("{n}.0")).collect();
    assert!(acknowledged.len() > 30, "{}", acknowledged.len());
    let mut shown = Vec::new();
    until("all that was acknowledged is on the ledger", || {
        shown = values(&show(&hub));
        let there: BTreeSet<String> = shown.iter().map(|(_, value, _)| value.clone()).collect();
        acknowledged.is_subset(&there)
    });
    // Each once: a reading that was submitted twice would be refused, and so would one after a gap.
    let wrong: Vec<_> = shown.iter().filter(|(.., accepted)| !accepted).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    assert!(shown.iter().zip(1..).all(|((sequence, ..), expected)| *sequence == expected), "{shown:?}");

    // What breaks a limit is there too, counted, and does not count as the last value.
    agent.publish(TOPIC, "-5", &[]);
    agent.publish(TOPIC, "950000", &[]);
    agent.publish(TOPIC, "not a number", &[]);
    agent.publish(TOPIC, "7", &[]);
    let total = shown.len() + 3;
    until("the last ones are judged", || values(&show(&hub)).len() == total);
    let shown = show(&hub);
    let last: Vec<_> = values(&shown).into_iter().skip(total - 3).map(|(_, value, ok)| (value, ok)).collect();
    let expected = [("-5.0", false), ("950000.0", false), ("7.0", true)];
    assert_eq!(last, expected.map(|(value, accepted)| (value.to_owned(), accepted)));
    assert_eq!(shown["counts"][0]["refused"], 2);
    assert_eq!(shown["counts"][0]["accepted"], total as u64 - 2);
    let text = hub.operate(&["readings", "show", "1111"]);
    assert!(text.contains("refused: below the smallest value, 0.0"), "{text}");
    assert!(text.contains("refused: more than 100000.0 from the last accepted value"), "{text}");

    // The agent's own replica says the same, without the hub.
    let own = || succeed(sealcast().args(["readings", "show", "1111", "--json", "--agent"]).arg(&dir));
    until("the agent's replica has it", || {
        let own: Value = serde_json::from_str(&own()).unwrap();
        own["readings"] == shown["readings"] && own["counts"] == shown["counts"]
    });

    let hub_dir = hub.path().to_str().unwrap();
    let outside = ["group", "limits", "hsu0001", "--topic", "other/x", "--max", "1", "--hub", hub_dir];
    assert!(refuse(outside).contains("none of its filters matches"));
    assert!(hub.operate(&["group", "show", "hsu0001"]).contains("gapless"));
}
