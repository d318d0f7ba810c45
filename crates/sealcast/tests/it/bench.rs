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
fn agents_are_compared_with_brokers() {
    let out = succeed(sealcast().args([
        "bench",
        "proxy",
        "--messages",
        "1000",
        "--rounds",
        "1",
        "--bytes",
        "100",
        "--connections",
        "20",
        "--json",
    ]));
    let report: Value = serde_json::from_str(&out).unwrap();
    assert!(report["idle"]["rss_mib"].as_f64().unwrap() > 0.0, "{report}");
    let rows = report["loads"].as_array().unwrap();
    let ways = ["direct TLS", "group", "signed", "direct plain", "direct TLS", "group", "signed"];
    let modes: Vec<&str> = rows.iter().map(|row| row["mode"].as_str().unwrap()).collect();
    assert_eq!(modes, ways.repeat(4), "at QoS 0 and 1, to one and to ten clients");
    for row in rows {
        assert!(row["messages_per_s"].as_f64().unwrap() > 0.0, "{row}");
        assert_eq!(row["p50_ms"].is_number(), row["subscribers"] == 1, "{row}");
        let servers = row["servers"].as_array().unwrap();
        assert!(!servers.is_empty() && servers.iter().all(|server| server["rss_mib"].as_f64().unwrap() > 0.0), "{row}");
    }
}

#[test]
fn sealing_is_measured() {
    let out = succeed(sealcast().args(["bench", "seal", "--millis", "50", "--json"]));
    let rows: Vec<Value> = serde_json::from_str(&out).unwrap();
    let added = |row: &Value| row["frame_bytes"].as_u64().unwrap() - row["payload_bytes"].as_u64().unwrap();
    let most = [100, 326, 36, 100, 326, 36];
    assert_eq!(rows.len(), most.len());
    // A start with leading zeros is shorter.
    assert!(rows.iter().map(added).zip(most).all(|(added, most)| (most - 3..=most).contains(&added)), "{rows:?}");
}

#[test]
fn checks_are_measured() {
    let out = succeed(sealcast().args(["bench", "quality", "--millis", "50", "--json"]));
    let rows: Vec<Value> = serde_json::from_str(&out).unwrap();
    assert_eq!(rows.len(), 7);
    assert!(rows.iter().all(|row| row["median_us"].as_f64().unwrap() > 0.0), "{rows:?}");
}
