//! A trial as a picture.

use std::fmt;

use sealcast_lab::plot::{Ink, Join, Lane, Limit, Line, Mark, Marks, Plot, Span};
use sealcast_quality::{Action, Counts, SilenceEvent, TopicSpec, Trial, Tried};
use sealcast_reading::Value;

use super::window::Window;

/// Up to so many readings, each is drawn; beyond, those that were found and how much was sent.
const DRAWN_ONE_BY_ONE: usize = 400;

/// A trial as a picture. Times are those of arrival, since those never go back.
pub fn picture(title: String, unit: &str, spec: Option<&TopicSpec>, trial: &Trial, windows: &[Window]) -> Plot {
    let counts = trial.counts();
    let one_by_one = counts.readings <= DRAWN_ONE_BY_ONE;
    let reports = spec.is_some_and(|spec| spec.report.is_some());
    let all = || trial.readings.iter();
    let values = |wanted: fn(&Tried) -> bool| {
        all().filter(move |tried| wanted(tried)).map(|tried| (tried.arrival_ms, float(&tried.value))).collect()
    };
    let mut plot = Plot {
        title,
        note: Noted { counts: &counts, reports }.to_string(),
        values: unit.to_owned(),
        lines: vec![Line {
            name: "measured".to_owned(),
            ink: Ink::Value,
            join: Join::Straight,
            points: unbroken(trial),
        }],
        limits: limits(spec),
        ..Plot::default()
    };
    for (at, window) in windows.iter().enumerate() {
        let mut inside = all().filter(|tried| window.holds(tried)).map(|tried| tried.arrival_ms);
        if let Some(from_ms) = inside.next() {
            let to_ms = inside.next_back().unwrap_or(from_ms);
            plot.spans.push(Span { from_ms, to_ms, name: (at + 1).to_string(), ink: Ink::Local });
        }
    }
    plot.spans.extend(silences(trial));
    if one_by_one && reports {
        let points = values(|tried| tried.sent);
        plot.lines.push(Line { name: "as the receiver has it".into(), ink: Ink::Held, join: Join::Steps, points });
    }
    let mut mark = |name: &str, ink, wanted: &dyn Fn(&Tried) -> bool| {
        let points: Vec<Mark> = all().filter(|tried| wanted(tried)).map(marked).collect();
        plot.marks.push(Marks { name: format!("{name} ({})", points.len()), ink, points });
    };
    if one_by_one {
        let passed = |tried: &Tried| tried.verdict.action() == Action::Pass;
        let name = if reports { "sent" } else { "passed" };
        mark(name, Ink::Sent, &|tried| passed(tried) && tried.sent);
        mark("not sent, within the band", Ink::Skipped, &|tried| passed(tried) && !tried.sent);
    }
    mark("flagged", Ink::Flagged, &|tried| tried.verdict.action() == Action::Flag);
    mark("blocked", Ink::Blocked, &|tried| tried.verdict.action() == Action::Block);
    if !one_by_one {
        let mut lane = |name: &str, ink, happened: fn(&Tried) -> bool| {
            let points = all().map(|tried| (tried.arrival_ms, happened(tried))).collect();
            plot.lanes.push(Lane { name: name.to_owned(), legend: String::new(), ink, points });
        };
        lane("flagged", Ink::Flagged, |tried| tried.verdict.action() == Action::Flag);
        lane("blocked", Ink::Blocked, |tried| tried.verdict.action() == Action::Block);
        lane("sent", Ink::Sent, |tried| tried.sent);
    }
    plot
}

/// What was measured, interrupted where a reading was blocked and where several are missing.
fn unbroken(trial: &Trial) -> Vec<(u64, f64)> {
    let neighbours = || trial.readings.iter().zip(trial.readings.iter().skip(1));
    let mut gaps: Vec<u64> = neighbours().map(|(a, b)| b.arrival_ms.saturating_sub(a.arrival_ms)).collect();
    gaps.sort_unstable();
    let longest = gaps.get(gaps.len() / 2).map_or(u64::MAX, |median| median.saturating_mul(3));
    let mut points: Vec<(u64, f64)> = Vec::new();
    for tried in &trial.readings {
        if let Some((last, _)) = points.last().filter(|(last, _)| tried.arrival_ms.saturating_sub(*last) > longest) {
            points.push((*last, f64::NAN));
        }
        let blocked = tried.verdict.action() == Action::Block;
        points.push((tried.arrival_ms, if blocked { f64::NAN } else { float(&tried.value) }));
    }
    points
}

/// A reading that is no number interrupts a line.
pub fn float(value: &Value) -> f64 {
    match value {
        Value::Number(number) => number.to_f64(),
        _ => f64::NAN,
    }
}

fn marked(tried: &Tried) -> Mark {
    Mark { time_ms: tried.arrival_ms, value: float(&tried.value), text: tried.verdict.to_string() }
}

fn limits(spec: Option<&TopicSpec>) -> Vec<Limit> {
    let range = spec.and_then(|spec| spec.range.as_ref());
    let limit = |name: &str, value: Option<_>| {
        value.map(|value: sealcast_reading::Decimal| Limit { value: value.to_f64(), name: format!("{name} {value}") })
    };
    let both = range.map(|range| [limit("range.max", range.max), limit("range.min", range.min)]);
    both.into_iter().flatten().flatten().collect()
}

/// From when each silence was noticed to its end.
fn silences(trial: &Trial) -> Vec<Span> {
    let last = trial.readings.last().map_or(0, |tried| tried.arrival_ms);
    let mut spans: Vec<Span> = Vec::new();
    for (time_ms, event) in &trial.events {
        match event {
            SilenceEvent::Silent { .. } => {
                spans.push(Span { from_ms: *time_ms, to_ms: last, name: "silent".into(), ink: Ink::Flagged });
            }
            SilenceEvent::Heard { .. } => {
                if let Some(span) = spans.last_mut() {
                    span.to_ms = *time_ms;
                }
            }
        }
    }
    spans
}

struct Noted<'a> {
    counts: &'a Counts,
    reports: bool,
}

impl fmt::Display for Noted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { readings, passed, flagged, blocked, sent, .. } = self.counts;
        write!(f, "{readings} readings: {passed} passed, {flagged} flagged, {blocked} blocked")?;
        if self.reports {
            let percent = if *readings == 0 { 0.0 } else { *sent as f64 * 100.0 / *readings as f64 };
            write!(f, "; {sent} sent ({percent:.1} %)")?;
        }
        Ok(())
    }
}
