//! `sealcast bench quality`: what reading, converting and judging a message costs, beside sealing it.

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use sealcast_node::{now_ms, output};
use sealcast_operator::progress::Bar;
use sealcast_quality::{Checker, Input, Reported, Reporter, RuleSet, TopicSpec};
use sealcast_reading::{Decoder, Encoder, InputConfig, OutputConfig};
use sealcast_seal::{Authenticity, Content, Purpose, QosClass};
use serde::Serialize;

use crate::lone_member::lone_member;

const TOPIC: &str = "plant/7/temperature";
const INPUT: &str = "format = 'json'\nvalue = '$.main.t'\ntime = '$.ts'\ntime_format = 'ms'\nunit = 'degF'\n\
                     convert_to = 'Cel'\n";
const OUTPUT: &str = "format = 'senml_json'\nname = 'urn:dev:ow:10e2073a01080063'\n";
const RULES: &str = "filter = 'plant/+/temperature'\nrange = { min = -20, max = 120 }\nstep = { max = 10 }\n\
                     spike = { window = 11, floor = 1 }\nstuck = { readings = 50 }\nreport = { dead_band = 0.5 }\n";
/// Readings that are not counted: caches, windows and branch predictors fill.
const WARM_UP: usize = 1_000;
const MAX_ROUNDS: usize = 2_000_000;

#[derive(Serialize)]
struct Row {
    step: &'static str,
    median_us: f64,
    p99_us: f64,
}

/// Measures for `long` and prints a row for each step.
pub fn run(long: Duration, json: bool) -> Result<()> {
    let bar = Bar::waiting("measuring the checks");
    let rows = measure(long)?;
    drop(bar);
    if json {
        return output::json(&rows);
    }
    let cells: Vec<[String; 3]> = rows
        .iter()
        .map(|row| [row.step.to_owned(), format!("{:.2}", row.median_us), format!("{:.2}", row.p99_us)])
        .collect();
    output::table(["STEP", "MEDIAN us", "P99 us"], &cells)
}

#[derive(Default)]
struct Times(Vec<u64>);

impl Times {
    fn row(mut self, step: &'static str) -> Row {
        self.0.sort_unstable();
        let at = |percent: usize| self.0.get(self.0.len() * percent / 100).copied().unwrap_or(0) as f64 / 1e3;
        Row { step, median_us: at(50), p99_us: at(99) }
    }
}

fn measure(long: Duration) -> Result<Vec<Row>> {
    let decoder = Decoder::new(toml::from_str::<InputConfig>(INPUT)?)?;
    let encoder = Encoder::new(toml::from_str::<OutputConfig>(OUTPUT)?)?;
    let rules = Arc::new(RuleSet::new([toml::from_str::<TopicSpec>(RULES)?])?);
    let first_ms = now_ms();
    let mut checker = Checker::new(rules.clone(), first_ms);
    let mut reporter = Reporter::new(rules);
    // A sealer ends with the keys that it is from.
    let (_signed_keys, signed_sealer) = lone_member(Authenticity::Signature)?;
    let (_group_keys, group_sealer) = lone_member(Authenticity::Group)?;
    let mut sealers = [signed_sealer, group_sealer];
    let [mut decode, mut judge, mut both, mut encode, mut changes, mut signed, mut grouped] =
        std::array::from_fn(|_| Times::default());
    let end = Instant::now() + long;
    for round in 0..MAX_ROUNDS + WARM_UP {
        if Instant::now() >= end && both.0.len() >= WARM_UP {
            break;
        }
        let time_ms = first_ms + 1_000 * round as u64;
        // A device's own words: 68.00 to 68.39 degrees, each value other than the last.
        let payload =
            format!("{{\"main\":{{\"t\":68.{:02},\"rh\":41}},\"id\":\"hsu-7\",\"ts\":{time_ms}}}", round * 7 % 40);

        let start = Instant::now();
        let records = decoder.decode(payload.as_bytes(), time_ms)?;
        let decoded = Instant::now();
        for record in &records {
            let (name, reading) = (record.name.as_str(), &record.reading);
            let verdict = checker.handle_reading(&Input::new(TOPIC, name, reading), time_ms);
            let marks = verdict.marks();
            let reported = Reported { topic: TOPIC, name, value: &reading.value, time_ms: reading.time_ms, marks };
            black_box(reporter.handle_reading(&reported, time_ms));
        }
        let judged = Instant::now();
        let sent = black_box(encoder.encode(&records)?);
        let encoded = Instant::now();
        black_box(checker.changes());
        let listed = Instant::now();
        let content = Content {
            purpose: Purpose::Message,
            class: QosClass::AtMostOnce,
            retain: false,
            props: &[],
            payload: &sent,
        };
        let mut sealing = [Duration::ZERO; 2];
        for (sealer, took) in sealers.iter_mut().zip(&mut sealing) {
            let start = Instant::now();
            black_box(sealer.seal(now_ms(), TOPIC, &content)?);
            *took = start.elapsed();
        }
        ensure!(records.len() == 1, "one reading a message");
        if round < WARM_UP {
            continue;
        }
        let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        decode.0.push(nanos(decoded - start));
        judge.0.push(nanos(judged - decoded));
        both.0.push(nanos(judged - start));
        encode.0.push(nanos(encoded - judged));
        changes.0.push(nanos(listed - encoded));
        let [with_signature, without] = sealing;
        signed.0.push(nanos(with_signature));
        grouped.0.push(nanos(without));
    }
    Ok(vec![
        decode.row("read JSON, two paths, Fahrenheit to Celsius"),
        judge.row("judge by four rules, report on change"),
        both.row("both: checks and conversion"),
        encode.row("write SenML"),
        changes.row("state to be stored"),
        signed.row("seal, signed"),
        grouped.row("seal, group"),
    ])
}
