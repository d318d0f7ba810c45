//! A made-up hub, for tests.

use serde_json::{Value, json};

use crate::{
    follow::{Loaded, Update},
    sse::Event,
};

/// Its time.
pub const NOW: u64 = 1_795_365_920_000;

/// A device of it.
pub fn node(id: &str, online: bool, groups: &[&str], alarms: usize) -> Value {
    json!({
        "id": id, "number": format!("0x{id:0>40}"), "state": "active", "online": online, "seen": NOW - 7000,
        "groups": groups, "pending": [], "messages": 12_345, "sealed": 12_340, "opened": 4711, "refused": 3,
        "alarms": alarms, "certificate_ends": NOW + 86_400_000 * 60,
    })
}

/// What is loaded of it.
pub fn loaded() -> Update {
    let state = json!({
        "at": NOW, "event": "5",
        "hub": { "name": "hub.example", "version": "0.1.0", "started": NOW - 3_600_000 * 5,
            "broker": "mqtts://hub.example:8883", "own_broker": true, "operator": true },
        "ledger": { "chain_id": 1, "contract": "0x00", "height": 57, "head": "ab12", "place": "embedded", "last": NOW - 12_000 },
        "totals": { "messages": 24_690, "per_second": 42.14, "sealed": 24_000, "opened": 23_000,
            "refused": { "replay": 2, "value-step": 1 } },
        "nodes": [node("1111", true, &["hsu0001"], 0), node("1112", true, &["hsu0001"], 0), node("1113", false, &[], 1)],
        "groups": [{ "name": "hsu0001", "number": 1, "filters": ["hsu0001/#"], "epoch": 4, "members": ["1111", "1112"],
            "joined": ["1111"], "authenticity": "signed", "state": "waiting", "messages": 20_000, "per_second": 40.0 }],
        "alarms": [{ "id": "away-1113", "level": "warn", "since": NOW - 7_200_000, "node": "1113",
            "text": "1113 has been away for 2 h", "advice": "Look whether its agent runs" }],
        "demo": null,
    });
    let entries = json!([{ "index": 56, "at": NOW - 12_000, "kind": "granted", "by": "operator", "node": "1112",
        "group": "hsu0001", "text": "operator granted hsu0001 to 1112" }]);
    let wire = json!([
        { "id": 8, "at": NOW - 1000, "from": "1111", "topic": "hsu0001/room1", "bytes": 132, "hex": "5ea1ca57", "sealed": true,
            "group": "hsu0001", "retained": false },
        { "id": 7, "at": NOW - 2000, "from": null, "topic": "evil\u{1b}[2J", "bytes": 4, "hex": "00", "sealed": false,
            "retained": true },
    ]);
    Update::Loaded(Box::new(Loaded {
        state: serde_json::from_value(state).unwrap(),
        entries: serde_json::from_value(entries).unwrap(),
        wire: serde_json::from_value(wire).unwrap(),
    }))
}

/// An event of it.
pub fn event(name: &str, data: &Value) -> Update {
    Update::Event(Event { id: "6".into(), name: name.into(), data: data.to_string() })
}
