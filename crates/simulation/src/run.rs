//! A run of a list of events, and the shortest list that still fails.

use std::{
    collections::BTreeMap,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
};

use crate::{
    event::{Event, events},
    ghost::Violation,
    world::{World, chain},
};

/// What a run came to.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Events that happened.
    pub steps: usize,
    /// How often each kind of event happened.
    pub events: BTreeMap<String, u64>,
    /// How often each kind of fault happened.
    pub faults: BTreeMap<String, u64>,
    /// Messages that were sealed, handed to clients, and acknowledged at QoS 1 and 2.
    pub sealed: u64,
    /// See [`Self::sealed`].
    pub delivered: u64,
    /// See [`Self::sealed`].
    pub acknowledged: u64,
    /// How often an agent noticed that its folder is a copy.
    pub noticed: u64,
    /// Records on the ledger.
    pub records: u64,
}

/// A run that went wrong.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What does not hold.
    pub violation: Violation,
    /// The events up to there.
    pub events: Vec<Event>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LAST: usize = 40;
        let Self { violation, events } = self;
        writeln!(f, "{}: {}", violation.invariant, violation.what)?;
        let skipped = events.len().saturating_sub(LAST);
        if skipped > 0 {
            writeln!(f, "after {skipped} events and these:")?;
        }
        events[skipped..].iter().try_for_each(|event| writeln!(f, "    {event:?},"))
    }
}

/// Runs events in a new world.
///
/// # Errors
/// The first invariant that does not hold, with the events so far.
pub fn run(events: &[Event]) -> Result<Report, Box<Failure>> {
    let mut report = Report::default();
    let failed = |steps: usize, invariant, what| {
        let violation = Violation { invariant, what };
        Box::new(Failure { violation, events: events[..steps].to_vec() })
    };
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let mut world = World::new().map_err(|error| failed(0, "no part is broken", chain(&error)))?;
        for event in events {
            report.steps += 1;
            count(&mut report, event);
            world.apply(*event).map_err(|error| failed(report.steps, "no part is broken", chain(&error)))?;
            if let Some(violation) = world.violations().first() {
                return Err(failed(report.steps, violation.invariant, violation.what.clone()));
            }
        }
        let [_, lost, persisted] = world.writes();
        let deaths = [
            ("an agent died at a write", world.deaths),
            ("a write failed", lost),
            ("a write failed and was there", persisted),
        ];
        report.faults.extend(deaths.map(|(name, count)| (name.to_owned(), count)));
        report.sealed = world.ghost.sealed;
        report.delivered = world.ghost.delivered;
        report.acknowledged = world.ghost.acknowledged() as u64;
        report.noticed = world.ghost.noticed;
        report.records = world.records();
        Ok(())
    }));
    match outcome {
        Ok(Ok(())) => Ok(report),
        Ok(Err(failure)) => Err(failure),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic");
            Err(failed(report.steps, "nothing panics", text.to_owned()))
        }
    }
}

fn count(report: &mut Report, event: &Event) {
    let counts = if event.is_fault() { &mut report.faults } else { &mut report.events };
    *counts.entry(event.name()).or_default() += 1;
}

/// Runs what a seed chooses.
///
/// # Errors
/// As [`run`], with a list of events that was made as short as it may be.
pub fn run_seed(seed: u64, steps: usize) -> Result<Report, Box<Failure>> {
    run(&events(seed, steps)).map_err(|failure| Box::new(shrink(*failure)))
}

/// Leaves out events as long as the same invariant is broken: halves first, then smaller and smaller parts.
pub fn shrink(mut failure: Failure) -> Failure {
    let mut part = failure.events.len().div_ceil(2);
    while part > 0 {
        let mut from = 0;
        while from < failure.events.len() {
            let until = (from + part).min(failure.events.len());
            let fewer = [&failure.events[..from], &failure.events[until..]].concat();
            match run(&fewer) {
                Err(again) if again.violation.invariant == failure.violation.invariant => failure = *again,
                _ => from = until,
            }
        }
        part /= 2;
    }
    failure
}
