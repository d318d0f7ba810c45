//! The benches run, and say what they should. How fast is nobody's business here.

use serde_json::Value;

use super::harness::{sealcast, succeed};

#[test]
fn a_fleet_agrees() {
    let out = succeed(sealcast().args(["bench", "fleet", "--nodes", "2,4", "--json"]));
    let rows: Vec<Value> = serde_json::from_str(&out).unwrap();
    assert_eq!(rows.iter().map(|row| row["nodes"].as_u64().unwrap()).collect::<Vec<_>>(), [2, 4]);
    for row in &rows {
        for figure in ["keys_agree_ms", "group_ms", "grant_to_readable_ms", "revoke_to_unreadable_ms", "messages_per_s"]
        {
            assert!(row[figure].as_f64().unwrap() > 0.0, "{figure}: {row}");
        }
    }
}

#[test]
fn checks_are_measured() {
    let out = succeed(sealcast().args(["bench", "quality", "--millis", "50", "--json"]));
    let rows: Vec<Value> = serde_json::from_str(&out).unwrap();
    assert_eq!(rows.len(), 7);
    assert!(rows.iter().all(|row| row["median_us"].as_f64().unwrap() > 0.0), "{rows:?}");
}
