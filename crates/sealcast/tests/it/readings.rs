//! Readings on the ledger: what was acknowledged is there whatever was killed, once, in order and judged.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::harness::{Agent, Hub, Publisher, refuse, sealcast, succeed, until};

const TOPIC: &str = "hsu0001/count";
/// Recorded from the beginning. An agent records in the order in which readings came.
const MARKER: &str = "hsu0001/marker";

fn show(hub: &Hub, topic: &str) -> Value {
    serde_json::from_str(&hub.operate(&["readings", "show", "1111", "--topic", topic, "--json"])).unwrap()
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
    let record = |topic: &str| format!("[[record]]\nfilter = '{topic}'\ndecimals = 1\n");
    std::fs::write(dir.join("agent.toml"), record(TOPIC) + &record(MARKER)).unwrap();
    let mut agent = Agent::start(&dir, &[]);
    until("the group has its keys", || agent.try_publish("hsu0001/probe", "x", &[]));
    let limits = |topic: &str| {
        let limits = ["group", "limits", "hsu0001", "--topic", topic, "--min", "0", "--max", "1e6", "--unit", "Cel"];
        hub.operate(&[&limits[..], &["--decimals", "1", "--max-step", "100000", "--gapless"]].concat());
    };
    limits(MARKER);
    let publisher = Publisher::start(agent.port(), TOPIC);

    // Without limits nothing is written, and nothing is lost.
    publisher.until_more(5);
    agent.publish(MARKER, "1", &[]);
    until("the marker is recorded", || !values(&show(&hub, MARKER)).is_empty());
    assert_eq!(values(&show(&hub, TOPIC)), []);
    limits(TOPIC);

    let mut seen = 0;
    let mut more = |hub: &Hub| {
        let goal = seen + 5;
        until("readings arrive", || {
            seen = values(&show(hub, TOPIC)).len();
            seen >= goal
        });
    };
    more(&hub);
    for published_between in [0, 3] {
        publisher.until_more(published_between);
        agent.kill();
        agent.restart();
        more(&hub);
        publisher.until_more(published_between);
        hub.kill();
        hub.restart();
        more(&hub);
        hub.kill();
        agent.kill();
        hub.restart();
        agent.restart();
        more(&hub);
    }

    let acknowledged: BTreeSet<String> = publisher.finish().iter().map(|n| format!("{n}.0")).collect();
    assert!(acknowledged.len() > 30, "{}", acknowledged.len());
    let mut shown = Vec::new();
    until("all that was acknowledged is on the ledger", || {
        shown = values(&show(&hub, TOPIC));
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
    until("the last ones are judged", || values(&show(&hub, TOPIC)).len() == total);
    let shown = show(&hub, TOPIC);
    let last: Vec<_> = values(&shown).into_iter().skip(total - 3).map(|(_, value, ok)| (value, ok)).collect();
    let expected = [("-5.0", false), ("950000.0", false), ("7.0", true)];
    assert_eq!(last, expected.map(|(value, accepted)| (value.to_owned(), accepted)));
    assert_eq!(shown["counts"][0]["refused"], 2);
    assert_eq!(shown["counts"][0]["accepted"], total as u64 - 2);
    let text = hub.operate(&["readings", "show", "1111"]);
    assert!(text.contains("refused: below the smallest value, 0.0"), "{text}");
    assert!(text.contains("refused: more than 100000.0 from the last accepted value"), "{text}");

    // The agent's own replica says the same, without the hub.
    let show = ["readings", "show", "1111", "--topic", TOPIC, "--json", "--agent"];
    let own = || succeed(sealcast().args(show).arg(&dir));
    until("the agent's replica has it", || {
        let own: Value = serde_json::from_str(&own()).unwrap();
        own["readings"] == shown["readings"] && own["counts"] == shown["counts"]
    });

    let operator = hub.operator();
    let limits = ["group", "limits", "hsu0001", "--topic", "other/x", "--max", "1", "--operator"];
    let outside = limits.into_iter().chain(operator.to_str());
    assert!(refuse(outside).contains("none of its filters matches"));
    assert!(hub.operate(&["group", "show", "hsu0001"]).contains("gapless"));
}
