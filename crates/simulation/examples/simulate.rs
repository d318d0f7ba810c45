//! Simulates for as long as one likes: `cargo run --release -p sealcast-simulation --example simulate -- --seconds 60`.
#![expect(clippy::print_stdout, reason = "it is for a person at a terminal")]

use std::{
    collections::BTreeMap,
    process::ExitCode,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use sealcast_simulation::{Report, events, run, shrink};

const USAGE: &str = "simulate [--seconds N] [--seed FIRST] [--steps N]";

struct Options {
    seconds: u64,
    seed: u64,
    steps: usize,
}

fn options() -> Option<Options> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_secs());
    let mut options = Options { seconds: 60, seed: now * 1_000, steps: 600 };
    let mut args = std::env::args().skip(1);
    while let Some(name) = args.next() {
        let value = args.next()?;
        match name.as_str() {
            "--seconds" => options.seconds = value.parse().ok()?,
            "--seed" => options.seed = value.parse().ok()?,
            "--steps" => options.steps = value.parse().ok()?,
            _ => return None,
        }
    }
    Some(options)
}

fn main() -> ExitCode {
    let Some(Options { seconds, seed, steps }) = options() else {
        println!("{USAGE}");
        return ExitCode::from(2);
    };
    let (start, mut total, mut runs) = (Instant::now(), Report::default(), 0);
    for seed in seed.. {
        if start.elapsed() >= Duration::from_secs(seconds) {
            break;
        }
        runs += 1;
        match run(&events(seed, steps)) {
            Ok(report) => add(&mut total, &report),
            Err(failure) => {
                println!("seed {seed}, --steps {steps}: {failure}\nlooking for fewer events that fail alike");
                println!("{}", shrink(*failure));
                return ExitCode::FAILURE;
            }
        }
    }
    let Report { steps, events, faults, sealed, delivered, acknowledged, noticed, records } = total;
    println!("{runs} seeds from {seed} on, {steps} steps in {} s; no invariant was broken", start.elapsed().as_secs());
    println!(
        "{sealed} messages sealed, {delivered} delivered, {acknowledged} acknowledged; {noticed} copies noticed; {records} ledger records"
    );
    table("events", &events);
    table("faults", &faults);
    ExitCode::SUCCESS
}

fn table(name: &str, counts: &BTreeMap<String, u64>) {
    println!("{name}:");
    counts.iter().for_each(|(name, count)| println!("  {count:>9} {name}"));
}

fn add(total: &mut Report, report: &Report) {
    total.steps += report.steps;
    total.sealed += report.sealed;
    total.delivered += report.delivered;
    total.acknowledged += report.acknowledged;
    total.noticed += report.noticed;
    total.records += report.records;
    for (sum, counts) in [(&mut total.events, &report.events), (&mut total.faults, &report.faults)] {
        counts.iter().for_each(|(name, count)| *sum.entry(name.clone()).or_default() += count);
    }
}
