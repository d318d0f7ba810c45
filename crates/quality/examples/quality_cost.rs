//! What the checks cost for one JSON reading with four rules: decode, judge, report on change.
//!
//! `cargo run --release -p sealcast-quality --example quality_cost`
#![allow(clippy::print_stdout)]

use std::{error::Error, hint::black_box, sync::Arc, time::Instant};

use sealcast_quality::{Checker, Input, Reported, Reporter, RuleSet, TopicSpec};
use sealcast_reading::{Decimal, Reading, Value};

const ROUNDS: u64 = 200_000;

fn main() -> Result<(), Box<dyn Error>> {
    let spec: TopicSpec = toml::from_str(
        "filter = \"plant/+/temperature\"\nrange = { min = -20, max = 120 }\nstep = { max = 10 }\n\
         spike = { window = 11, floor = 1 }\nstuck = { readings = 50 }\nreport = { dead_band = 0.5 }",
    )?;
    let rules = Arc::new(RuleSet::new([spec])?);
    let mut checker = Checker::new(rules.clone(), 0);
    let mut reporter = Reporter::new(rules);
    let topic = "plant/7/temperature";
    let mut nanos = Vec::with_capacity(ROUNDS as usize);
    for round in 0..ROUNDS {
        let now_ms = round * 1000;
        let payload = format!("{{\"t\":{},\"unit\":\"C\"}}", Decimal::new(2000 + i128::from(round * 7 % 40), 2));
        let start = Instant::now();
        let document: serde_json::Value = serde_json::from_str(&payload)?;
        let text = document.get("t").ok_or("t is missing")?.to_string();
        let reading =
            Reading { value: Value::Number(text.parse()?), unit: None, time_ms: Some(now_ms), sequence: Some(round) };
        let input = Input { document: Some(&document), ..Input::new(topic, "", &reading) };
        let verdict = checker.handle_reading(&input, now_ms);
        let reported =
            Reported { topic, name: "", value: &reading.value, time_ms: reading.time_ms, marks: verdict.marks() };
        black_box(reporter.handle_reading(&reported, now_ms));
        nanos.push(start.elapsed().as_nanos() as u64);
    }
    nanos.sort_unstable();
    let at = |part: usize| nanos.get(nanos.len() * part / 100).copied().unwrap_or(0);
    println!("decode, judge by four rules, report: p50 {} ns, p99 {} ns", at(50), at(99));
    let start = Instant::now();
    let rows = checker.changes();
    let bytes = rows.iter().filter_map(|row| row.value.as_ref()).map(Vec::len).sum::<usize>();
    println!("state of the topic: {bytes} bytes, written in {} ns", start.elapsed().as_nanos());
    Ok(())
}
