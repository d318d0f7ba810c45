//! Trying rules on a recording before they are switched on.

use std::{collections::BTreeMap, sync::Arc};

use sealcast_reading::{Reading, Value};

use crate::{
    checker::{Checker, Input, SilenceEvent},
    recording::Recording,
    report::{Decision, Reported, Reporter, Saved},
    rules::RuleSet,
    verdict::{Action, Check, Verdict},
};

/// What would have become of one reading.
#[derive(Debug, Clone, PartialEq)]
pub struct Tried {
    /// The device's stamp.
    pub time_ms: u64,
    /// When it would have come.
    pub arrival_ms: u64,
    /// Its value.
    pub value: Value,
    /// What the checks say.
    pub verdict: Verdict,
    /// What report on change says; `None` if it was blocked before.
    pub decision: Option<Decision>,
    /// Whether it was sent, at once or after the smallest interval.
    pub sent: bool,
}

/// What would have become of a recording.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Trial {
    /// One for each reading, in their order.
    pub readings: Vec<Tried>,
    /// Silences, and when they were noticed.
    pub events: Vec<(u64, SilenceEvent)>,
    /// What report on change saved; blocked readings are not in it.
    pub saved: Saved,
}

/// How many readings had which verdict.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// All.
    pub readings: usize,
    /// Neither flagged nor blocked.
    pub passed: usize,
    /// Flagged.
    pub flagged: usize,
    /// Blocked.
    pub blocked: usize,
    /// Sent.
    pub sent: usize,
    /// Readings that a check found something in, by check.
    pub by_check: BTreeMap<Check, usize>,
}

impl Counts {
    /// The part that was flagged or blocked, 0 to 1.
    pub fn found_part(&self) -> f64 {
        if self.readings == 0 { 0.0 } else { (self.flagged + self.blocked) as f64 / self.readings as f64 }
    }
}

impl Trial {
    /// Counts over all readings.
    pub fn counts(&self) -> Counts {
        self.counts_where(|_| true)
    }

    /// Counts over those readings that `wanted` says.
    pub fn counts_where(&self, wanted: impl Fn(&Tried) -> bool) -> Counts {
        let mut counts = Counts::default();
        for tried in self.readings.iter().filter(|tried| wanted(tried)) {
            counts.readings += 1;
            match tried.verdict.action() {
                Action::Pass => counts.passed += 1,
                Action::Flag => counts.flagged += 1,
                Action::Block => counts.blocked += 1,
            }
            counts.sent += usize::from(tried.sent);
            for check in tried.verdict.marks().iter() {
                *counts.by_check.entry(check).or_default() += 1;
            }
        }
        counts
    }
}

/// Runs the rules of `topic` over a recording, as an agent would have. Arrivals are those of
/// [`Recording::arrivals_ms`]. Schema rules are left out: a recording has values, not messages.
pub fn try_rules(rules: &Arc<RuleSet>, topic: &str, recording: &Recording) -> Trial {
    let arrivals = recording.arrivals_ms();
    let rules = Arc::new(rules.without_schemas());
    let mut checker = Checker::new(rules.clone(), arrivals.first().copied().unwrap_or(0));
    let mut reporter = Reporter::new(rules.clone());
    let mut trial = Trial::default();
    let mut kept = None;
    for (recorded, arrival_ms) in recording.readings.iter().zip(arrivals) {
        // More than once: a wake-up may be earlier than needed.
        while let Some(due) = checker.poll_timeout().filter(|due| *due < arrival_ms) {
            checker.handle_timeout(due);
            while let Some(event) = checker.poll_event() {
                trial.events.push((due, event));
            }
        }
        if reporter.poll_kept(arrival_ms).is_some() {
            mark_sent(&mut trial.readings, &mut kept);
        }
        let reading =
            Reading { value: recorded.value.clone(), unit: None, time_ms: Some(recorded.time_ms), sequence: None };
        let verdict = checker.handle_reading(&Input::new(topic, "", &reading), arrival_ms);
        while let Some(event) = checker.poll_event() {
            trial.events.push((arrival_ms, event));
        }
        let decision = (verdict.action() != Action::Block).then(|| {
            let reported =
                Reported { topic, name: "", value: &reading.value, time_ms: reading.time_ms, marks: verdict.marks() };
            reporter.handle_reading(&reported, arrival_ms)
        });
        match decision {
            Some(Decision::Keep { .. }) => kept = Some(trial.readings.len()),
            Some(_) => kept = None,
            None => {}
        }
        trial.readings.push(Tried {
            time_ms: recorded.time_ms,
            arrival_ms,
            value: reading.value,
            verdict,
            sent: matches!(decision, Some(Decision::Send(_))),
            decision,
        });
    }
    if reporter.poll_timeout().is_some_and(|due| reporter.poll_kept(due).is_some()) {
        mark_sent(&mut trial.readings, &mut kept);
    }
    trial.saved = reporter.saved().map(|(_, _, saved)| saved).next().unwrap_or_default();
    trial
}

fn mark_sent(readings: &mut [Tried], kept: &mut Option<usize>) {
    if let Some(tried) = kept.take().and_then(|at| readings.get_mut(at)) {
        tried.sent = true;
    }
}
