//! Reports as agents make them, at their bounds and beyond.

use sealcast_identity::SigningKey;
use sealcast_ledger::Number;
use sealcast_ledger_client::{NodeReport, SharedPoint, SharedSeries, SharedVerdict, SignedReport, ValueAlarm};

use crate::body::LEDGER;

type Failure = Box<dyn std::error::Error>;

fn series(topic: &str, points: u64, value: f64) -> SharedSeries {
    let reason = |at| (at % 2 == 1).then(|| "é".repeat(80));
    let point = |at| SharedPoint { at_ms: at, value, verdict: SharedVerdict::Flagged, reason: reason(at) };
    let (topic, name, unit) = (topic.into(), "temp".into(), "Cel".into());
    SharedSeries {
        topic,
        name,
        unit,
        min: Some(-20.0),
        max: None,
        step: Some(2.5),
        points: (0..points).map(point).collect(),
    }
}

fn report(entries: usize, text: usize, shared: Vec<SharedSeries>) -> NodeReport {
    let text = "t".repeat(text);
    let alarm =
        |rules| ValueAlarm { topic: text.clone(), is_silent: false, rules: vec![text.clone(); rules], since_ms: 7 };
    let alarms = (0..entries).map(|at| alarm(if at == 0 { entries } else { 1 })).collect();
    NodeReport {
        at_ms: 1_767_225_600_000,
        sealed: 3,
        opened: 4,
        refused: vec![(text.clone(), 5); entries],
        alarms,
        missing: vec![(text.clone(), text); entries],
        shared,
    }
}

pub fn seeds() -> Result<Vec<(String, Vec<u8>)>, Failure> {
    let reports = [
        ("none", NodeReport::default()),
        ("plain", report(1, 12, vec![series("plant/1", 2, 21.5)])),
        ("few-large", report(2, 600, vec![series("plant/1", 1, 1e13)])),
        ("many", report(130, 8, vec![series("plant/1", 70, 21.5), series("plant/2", 70, -1e12)])),
        ("long", report(24, 500, vec![series(&"t".repeat(600), 1, 0.0)])),
    ];
    let mut seeds = Vec::new();
    for (name, report) in reports {
        let signed = SignedReport::sign(&report, Number::from([3; 20]), &SigningKey::generate()?, &LEDGER)?;
        seeds.push((format!("seed-{name}-by-another"), [vec![0], serde_json::to_vec(&signed)?].concat()));
        for (what, way) in [(1, "signed"), (2, "told")] {
            seeds.push((format!("seed-{name}-{way}"), [vec![what], serde_json::to_vec(&report)?].concat()));
        }
    }
    seeds.push(("seed-no-report".into(), b"\x01{\"at_ms\":1e400}".to_vec()));
    Ok(seeds)
}
