use std::error::Error as _;

use serde_json::{Value, json};

use super::*;

/// One event of each name, as the page gets it.
fn events() -> Vec<(&'static str, Value)> {
    let hub = json!({ "name": "hub", "version": "0.1.0", "started": 1, "broker": "mqtts://hub", "own_broker": true,
        "operator": false });
    let ledger = json!({ "chain_id": 1, "contract": "0x00", "height": 2, "head": "ab", "place": "network", "last": 3 });
    let totals = json!({ "messages": 4, "per_second": 0.5, "sealed": 5, "opened": 6, "refused": { "replay": 7 } });
    let node = json!({ "id": "1111", "number": "0x1", "state": "active", "online": null, "seen": 8, "groups": ["a"],
        "pending": [], "messages": 9, "sealed": 10, "opened": null, "refused": null, "alarms": 1, "certificate_ends": 11 });
    let group = json!({ "name": "a", "number": 1, "filters": ["a/#"], "epoch": 2, "members": ["1111"], "joined": [],
        "authenticity": "signed", "state": "waiting", "messages": 12, "per_second": 1.5 });
    let alarm = json!({ "id": "x", "level": "warn", "since": 13, "node": "1111", "text": "t", "advice": "a" });
    let entry = json!({ "index": 14, "at": 15, "kind": "granted", "by": "operator", "node": "1111", "text": "t" });
    let wire = json!({ "id": 16, "at": 17, "from": null, "topic": "a/b", "bytes": 18, "hex": "00", "sealed": true,
        "retained": false, "read": { "1111": null } });
    let point = json!({ "at": 19, "value": 27.5, "verdict": "blocked", "reason": "too high" });
    vec![
        ("totals", json!({ "at": 20, "totals": totals, "ledger": ledger, "hub": hub })),
        ("node", node),
        ("group", group),
        ("alarms", json!([alarm])),
        ("entry", entry),
        ("wire", json!({ "messages": [wire] })),
        ("links", json!({ "at": 21, "links": [{ "from": "1111", "group": null, "topic": "a/b", "count": 22 }] })),
        (
            "value",
            json!({ "node": "1111", "topic": "a/b", "name": "", "group": "a", "source": "node", "point": point }),
        ),
        ("verify", json!({ "state": "running", "done": 23, "of": 24, "text": "" })),
        ("action", json!({ "id": "00", "state": "refused", "text": "why" })),
        ("demo", json!({ "steps": [], "valve": null, "done": false, "total": 25 })),
    ]
}

#[test]
fn every_event_is_read_as_it_was_written() {
    let names: Vec<&str> = events().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, FeedEvent::NAMES);
    for (name, data) in events() {
        let event = FeedEvent::parse(name, &data.to_string()).unwrap();
        assert_eq!(event.name(), name);
        let written = event.data().unwrap();
        assert_eq!(serde_json::from_str::<Value>(&written).unwrap(), data, "{name}");
        let again = FeedEvent::parse(name, &written).unwrap();
        assert_eq!(format!("{again:?}"), format!("{event:?}"), "{name}");
    }
}

#[test]
fn what_cannot_be_read_says_that_the_hub_is_of_another_version() {
    for (name, data) in [("new", "{}"), ("entry", "{}"), ("alarms", "no JSON")] {
        let error = FeedEvent::parse(name, data).unwrap_err();
        assert!(error.to_string().starts_with("the hub is of another version") && error.to_string().contains(name));
        assert_eq!(error.source().is_some(), name != "new", "{name}");
    }
}
