//! Proposing rules from a recording, each with the numbers behind it. A proposal flags and does not block: whoever knows
//! the machine decides what is impossible rather than unusual.

use std::fmt::Write as _;

use sealcast_reading::{Decimal, Value};
use serde::Serialize;

use crate::{
    level::{median, within},
    recording::Recording,
    rules::MAX_MS,
    verdict::{Short, Span},
};

/// Fewest numbers that rules are learnt from.
pub const MIN_READINGS: usize = 50;
/// How many readings the proposed spike rule looks back at.
const WINDOW: usize = 11;

/// One proposed rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Proposed {
    /// Its key in the rules file.
    pub key: &'static str,
    /// Its value, as TOML.
    pub toml: String,
    /// The numbers behind it, in words.
    pub because: String,
}

/// Rules for one topic filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// The topic filter.
    pub filter: String,
    /// What they were learnt from, in words.
    pub from: String,
    /// The rules.
    pub rules: Vec<Proposed>,
}

/// A recording that is too short to learn from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("only {found} of {readings} readings have a usable number; rules are learnt from at least {MIN_READINGS}")]
pub struct LearnError {
    /// How many can be used.
    pub found: usize,
    /// How many there are.
    pub readings: usize,
}

impl Proposal {
    /// One `[[quality]]` table, with the numbers as comments. Reads back as [`TopicSpec`](crate::TopicSpec).
    pub fn to_toml(&self) -> String {
        let mut out = format!("# Learnt from {}.\n[[quality]]\nfilter = {}\n", self.from, quoted(&self.filter));
        for rule in &self.rules {
            // Writing to a String can't fail.
            let _ = write!(out, "# {}\n{} = {}\n", rule.because, rule.key, rule.toml);
        }
        out
    }
}

/// A TOML basic string.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Proposes rules for `filter` from a recording of normal operation.
///
/// # Errors
/// [`LearnError`] if there is too little in it.
pub fn learn(filter: &str, recording: &Recording) -> Result<Proposal, LearnError> {
    let numbers: Vec<Decimal> = recording.readings.iter().filter_map(|reading| number(&reading.value)).collect();
    let sentinels = found_sentinels(&numbers);
    let values: Vec<Decimal> = numbers.iter().copied().filter(|value| !sentinels.contains(value)).collect();
    if values.len() < MIN_READINGS {
        return Err(LearnError { found: values.len(), readings: recording.readings.len() });
    }
    let floats: Vec<f64> = values.iter().map(|value| value.to_f64()).collect();
    let data = Data::new(&floats);
    let mut rules: Vec<Proposed> = range(&data).into_iter().collect();
    rules.extend(step(&data));
    rules.extend(spike(&data));
    rules.extend(stuck(&values));
    let (silent, time) = timing(recording, &mut rules, &data);
    rules.extend(silent);
    rules.extend(time);
    rules.push(sentinel_rule(&data, &sentinels, recording.readings.len() - numbers.len()));
    rules.extend(report(&values, &data, recording.period_ms()));
    let period = recording.period_ms().map_or_else(|| "no period".to_owned(), |ms| format!("one in {}", Span(ms)));
    Ok(Proposal { filter: filter.to_owned(), from: format!("{} readings, {period}", recording.readings.len()), rules })
}

fn number(value: &Value) -> Option<Decimal> {
    match value {
        Value::Number(number) => Some(*number),
        _ => None,
    }
}

/// What several rules are made from.
struct Data<'a> {
    values: &'a [f64],
    sorted: Vec<f64>,
    /// Sorted differences of neighbours.
    steps: Vec<f64>,
    min: f64,
    max: f64,
}

impl<'a> Data<'a> {
    fn new(values: &'a [f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        let mut steps: Vec<f64> = values.iter().zip(values.iter().skip(1)).map(|(a, b)| (b - a).abs()).collect();
        steps.sort_unstable_by(f64::total_cmp);
        let (min, max) = (quantile(&sorted, 0.0), quantile(&sorted, 1.0));
        Self { values, sorted, steps, min, max }
    }

    fn span(&self) -> f64 {
        self.max - self.min
    }
}

fn quantile(sorted: &[f64], part: f64) -> f64 {
    let at = (sorted.len().saturating_sub(1) as f64 * part).round() as usize;
    sorted.get(at).copied().unwrap_or(0.0)
}

/// One or two digits, up or down: a learnt limit is no exact number.
fn round_to(value: f64, size: f64, up: bool) -> f64 {
    if size <= 0.0 || !size.is_finite() {
        return value;
    }
    let unit = 10f64.powf((size.log10() - 1.0).floor());
    let steps = value / unit;
    let rounded = (if up { steps.ceil() } else { steps.floor() }) * unit;
    // Powers of ten are no exact floats: cut what the multiplication added.
    format!("{rounded:.13e}").parse().unwrap_or(rounded)
}

/// The next number with at most two digits before its zeros: 720012 ms was measured, 730000 ms is said.
fn two_digits_up(value: u64) -> u64 {
    let unit = 10_u64.pow(value.checked_ilog10().unwrap_or(0).saturating_sub(1));
    value.div_ceil(unit).saturating_mul(unit)
}

/// A float as TOML: always with a point or exponent.
fn toml_float(value: f64) -> String {
    format!("{value:?}")
}

/// A number as TOML, in quotes if a float does not give these digits back.
fn toml_decimal(value: Decimal) -> String {
    let float = value.to_f64();
    if Decimal::from_f64(float) == Ok(value) { toml_float(float) } else { format!("\"{value}\"") }
}

/// `None` if a limit has more digits than the rules file takes.
fn range(data: &Data<'_>) -> Option<Proposed> {
    let margin = if data.span() > 0.0 { data.span() / 2.0 } else { (data.max.abs() / 10.0).max(1.0) };
    let min = round_to(data.min - margin, margin, false);
    let max = round_to(data.max + margin, margin, true);
    Decimal::from_f64(min).and(Decimal::from_f64(max)).ok()?;
    Some(Proposed {
        key: "range",
        toml: format!("{{ min = {}, max = {}, action = \"flag\" }}", toml_float(min), toml_float(max)),
        because: format!(
            "smallest {}, median {}, largest {}; half of that span is added on each side",
            Short(data.min),
            Short(quantile(&data.sorted, 0.5)),
            Short(data.max)
        ),
    })
}

fn step(data: &Data<'_>) -> Option<Proposed> {
    let largest = quantile(&data.steps, 1.0);
    (largest > 0.0).then(|| Proposed {
        key: "step",
        toml: format!("{{ max = {}, action = \"flag\" }}", toml_float(round_to(2.0 * largest, largest, true))),
        because: format!(
            "steps: median {}, 99 % below {}, largest {}; twice the largest is allowed",
            Short(quantile(&data.steps, 0.5)),
            Short(quantile(&data.steps, 0.99)),
            Short(largest)
        ),
    })
}

fn spike(data: &Data<'_>) -> Option<Proposed> {
    let mut scratch = Vec::with_capacity(WINDOW);
    let windows = data.values.windows(WINDOW + 1).filter_map(|window| {
        let (last, before) = window.split_last()?;
        scratch.clear();
        scratch.extend_from_slice(before);
        Some((last - median(&mut scratch)?).abs())
    });
    let mut distances: Vec<f64> = windows.collect();
    distances.sort_unstable_by(f64::total_cmp);
    let floor = round_to(2.0 * quantile(&distances, 0.999), quantile(&distances, 0.999), true);
    (floor > 0.0).then(|| Proposed {
        key: "spike",
        toml: format!("{{ window = {WINDOW}, sigmas = 4.0, floor = {}, action = \"flag\" }}", toml_float(floor)),
        because: format!(
            "distance from the median of the {WINDOW} readings before: half below {}, 99.9 % below {}; the floor is twice the \
             latter",
            Short(quantile(&distances, 0.5)),
            Short(quantile(&distances, 0.999))
        ),
    })
}

fn stuck(values: &[Decimal]) -> Option<Proposed> {
    let mut longest = 0_usize;
    let mut run = 0_usize;
    let mut before = None;
    for value in values {
        run = if before == Some(value) { run + 1 } else { 1 };
        longest = longest.max(run);
        before = Some(value);
    }
    // What rests for a good part of the recording rests by nature.
    (longest * 4 <= values.len()).then(|| Proposed {
        key: "stuck",
        toml: format!("{{ readings = {}, action = \"flag\" }}", (3 * longest).max(10)),
        because: match longest {
            1 => "no two readings in a row are equal; the limit is at least 10".to_owned(),
            _ => format!("at most {longest} equal readings in a row; the limit is three times that, and at least 10"),
        },
    })
}

/// `silent` and `time`, and `rate` too if the cycle is not regular enough for `step` to say the same.
fn timing(recording: &Recording, rules: &mut Vec<Proposed>, data: &Data<'_>) -> (Option<Proposed>, Option<Proposed>) {
    let Some(period_ms) = recording.period_ms() else { return (None, None) };
    let pairs = || recording.readings.iter().zip(recording.readings.iter().skip(1));
    let mut gaps: Vec<u64> = pairs().map(|(a, b)| b.time_ms.saturating_sub(a.time_ms)).collect();
    let back = pairs().filter(|(a, b)| b.time_ms < a.time_ms).count();
    gaps.sort_unstable();
    let longest_ms = gaps.last().copied().unwrap_or(period_ms);
    let irregular = gaps.iter().filter(|gap| gap.abs_diff(period_ms) > period_ms / 4).count();
    if irregular * 20 > gaps.len() && data.span() > 0.0 {
        let rates = pairs().filter_map(|(a, b)| {
            let over_ms = b.time_ms.checked_sub(a.time_ms).filter(|ms| *ms > 0)?;
            let change = number(&b.value)?.to_f64() - number(&a.value)?.to_f64();
            Some(change.abs() * 1000.0 / over_ms as f64)
        });
        let fastest = rates.fold(0.0, f64::max);
        if fastest > 0.0 && fastest.is_finite() {
            rules.push(Proposed {
                key: "rate",
                toml: format!(
                    "{{ max_per_s = {}, action = \"flag\" }}",
                    toml_float(round_to(2.0 * fastest, fastest, true))
                ),
                because: format!(
                    "the cycle is not regular; fastest change {}/s; twice that is allowed",
                    Short(fastest)
                ),
            });
        }
    }
    let periods = (longest_ms as f64 / period_ms as f64).ceil();
    let words = format!("period {}, longest gap {}", Span(period_ms), Span(longest_ms));
    let limit = (2.0 * periods).clamp(5.0, 10_000.0);
    let silent = Proposed { key: "silent", toml: format!("{{ periods = {limit:?} }}"), because: words.clone() };
    let gap = (periods + 1.5).clamp(2.5, 10_000.0);
    let time = Proposed {
        key: "time",
        toml: format!("{{ gap_periods = {gap:?}, action = \"flag\" }}"),
        because: match back {
            0 => words,
            1 => format!("{words}; the clock went back once"),
            _ => format!("{words}; the clock went back {back} times"),
        },
    };
    (Some(silent), Some(time))
}

/// The usual "no value" numbers.
const USUAL: [i64; 3] = [65_535, -32_768, 85];

/// Those in the recording that lie far from all the rest.
fn found_sentinels(numbers: &[Decimal]) -> Vec<Decimal> {
    let mut sorted: Vec<f64> = numbers.iter().map(|value| value.to_f64()).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let (low, high) = (quantile(&sorted, 0.05), quantile(&sorted, 0.95));
    let far = 5.0 * (high - low).max(1.0);
    let is_far = |value: f64| value < low - far || value > high + far;
    USUAL.iter().map(|value| Decimal::from(*value)).filter(|v| is_far(v.to_f64()) && numbers.contains(v)).collect()
}

fn sentinel_rule(data: &Data<'_>, found: &[Decimal], no_numbers: usize) -> Proposed {
    let outside = |value: &&i64| (**value as f64) < data.min - data.span() || (**value as f64) > data.max + data.span();
    let values: Vec<String> = USUAL.iter().filter(outside).map(i64::to_string).collect();
    let plausible: Vec<String> = USUAL.iter().filter(|value| !outside(value)).map(i64::to_string).collect();
    let found: Vec<String> = found.iter().map(Decimal::to_string).collect();
    let mut because = match found.as_slice() {
        [] => "none of these numbers is in the recording".to_owned(),
        [one] => format!("{one} is in the recording"),
        several => format!("{} are in the recording", several.join(", ")),
    };
    because += &match no_numbers {
        0 => "; all its readings are numbers".to_owned(),
        1 => "; 1 of its readings is not a number".to_owned(),
        several => format!("; {several} of its readings are not numbers"),
    };
    match plausible.as_slice() {
        [] => {}
        [one] => because += &format!("; {one} is left out, because it could be a reading here"),
        several => because += &format!("; {} are left out, because they could be readings here", several.join(", ")),
    }
    Proposed {
        key: "sentinels",
        toml: format!("{{ values = [{}], near = 0, action = \"block\" }}", values.join(", ")),
        because,
    }
}

fn report(values: &[Decimal], data: &Data<'_>, period_ms: Option<u64>) -> Option<Proposed> {
    let band_of = |part: f64| {
        let step = quantile(&data.steps, part);
        Decimal::from_f64(round_to(step, step, true)).ok().filter(|band| !band.is_zero())
    };
    let part = |band: Decimal| {
        let mut last: Option<Decimal> = None;
        let mut sent = 0_usize;
        for value in values {
            if last.is_none_or(|last| !within(last, *value, band)) {
                last = Some(*value);
                sent += 1;
            }
        }
        sent as f64 * 100.0 / values.len() as f64
    };
    let band = band_of(0.9)?;
    let others = [band_of(0.5), Some(band), band_of(0.99)];
    let words: Vec<String> =
        others.into_iter().flatten().map(|band| format!("{} % at {band}", Short(part(band)))).collect();
    let heartbeat =
        period_ms.map(|ms| format!(", heartbeat_ms = {}", two_digits_up(ms.saturating_mul(12)).min(MAX_MS)));
    Some(Proposed {
        key: "report",
        toml: format!("{{ dead_band = {}{} }}", toml_decimal(band), heartbeat.unwrap_or_default()),
        because: format!(
            "readings sent, without those of the heartbeat: {}; 90 % of the steps are below the proposed band",
            words.join(", ")
        ),
    })
}
