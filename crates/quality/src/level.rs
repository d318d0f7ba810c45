//! Step, rate and spike: the rules that compare with what was accepted before, and how a new level is believed.
//!
//! A reading that one of them blocks, or that is a spike, begins a rival run. If the readings after it are consistent with
//! one another, the last of `accept_after` of them is accepted with a flag and is the new level: so a sensor that was
//! moved or repaired is never locked out. A window's worth of spikes in a row, consistent or not, says that the window and
//! not the sensor is wrong, and is believed too.

use std::collections::VecDeque;

use sealcast_reading::Decimal;

use crate::{
    codec::{Reader, StateError, Writer},
    rules::{Spike, TopicRules},
    series::Stored,
    verdict::{Action, Check, Reason, Verdict},
};

/// Scales a median absolute deviation to a standard deviation of normal noise.
const MAD_TO_SIGMA: f64 = 1.4826;
/// Largest window that a rule may have.
const MAX_WINDOW: usize = 255;

/// A value and when it was.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Point {
    pub value: Decimal,
    /// By the device's clock.
    pub stamp_ms: Option<u64>,
    pub arrival_ms: u64,
}

impl Point {
    /// From `earlier` to this: by the device's stamps if they rise, else by arrival. `None` if no time went by.
    fn after_ms(&self, earlier: &Self) -> Option<u64> {
        let stamps = self.stamp_ms.zip(earlier.stamp_ms).and_then(|(to, from)| to.checked_sub(from));
        stamps.filter(|ms| *ms > 0).or_else(|| self.arrival_ms.checked_sub(earlier.arrival_ms)).filter(|ms| *ms > 0)
    }
}

/// The level that readings are compared with.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Level {
    accepted: Option<Point>,
    window: VecDeque<f64>,
    rival: Option<Rival>,
    /// Spikes in a row.
    astray: u32,
}

#[derive(Debug, Clone, PartialEq)]
struct Rival {
    last: Point,
    readings: u32,
    values: VecDeque<f64>,
}

/// What the window says: the median and how far from it is allowed.
struct Allowed {
    median: f64,
    distance: f64,
}

impl Level {
    pub fn accepted(&self) -> Option<Decimal> {
        self.accepted.map(|point| point.value)
    }

    /// Judges one reading. `held` says that another rule blocks it in any case but its level still counts (stuck).
    pub fn judge(
        &mut self,
        rule: &TopicRules,
        point: Point,
        held: bool,
        verdict: &mut Verdict,
        scratch: &mut Vec<f64>,
    ) {
        let allowed = rule.spike.as_ref().and_then(|spike| self.allowed(spike, scratch));
        let mut blocked = false;
        let mut spiked = false;
        if let Some(last) = self.accepted {
            if let Some((max, action)) = rule.step.filter(|(max, _)| !within(point.value, last.value, *max)) {
                verdict.add(Check::Step, action, Reason::Step { value: point.value, last: last.value, max });
                blocked |= action == Action::Block;
            }
            if let Some((max_per_s, action)) = rule.rate
                && let Some(over_ms) = too_fast(max_per_s, &last, &point)
            {
                let reason = Reason::Rate { value: point.value, last: last.value, over_ms, max_per_s };
                verdict.add(Check::Rate, action, reason);
                blocked |= action == Action::Block;
            }
        }
        if let (Some(spike), Some(Allowed { median, distance })) = (&rule.spike, &allowed)
            && exceeds((point.value.to_f64() - median).abs(), *distance)
        {
            let reason =
                Reason::Spike { value: point.value, median: *median, allowed: *distance, window: self.window.len() };
            verdict.add(Check::Spike, spike.action, reason);
            spiked = true;
            blocked |= spike.action == Action::Block;
        }
        if !blocked && !spiked {
            if !held {
                self.accept(rule, point);
            }
            return;
        }
        self.astray = if spiked { self.astray.saturating_add(1) } else { 0 };
        let readings = self.extend_rival(rule, point, allowed.as_ref());
        let only_spikes = !verdict
            .findings()
            .iter()
            .any(|finding| matches!(finding.check, Check::Step | Check::Rate) && finding.action == Action::Block);
        let window_is_wrong =
            only_spikes && rule.spike.as_ref().is_some_and(|spike| self.astray as usize >= spike.window);
        if (readings >= rule.accept_after || window_is_wrong) && !held {
            verdict.retain(|check| !matches!(check, Check::Step | Check::Rate | Check::Spike));
            let last = self.accepted.map_or(point.value, |point| point.value);
            let mut window = self.rival.take().map(|rival| rival.values).unwrap_or_default();
            if readings >= rule.accept_after {
                // Those that agree; what was before them is of no level.
                window.drain(..window.len().saturating_sub(readings as usize));
            }
            let readings = readings.max(if window_is_wrong { self.astray } else { 0 });
            verdict.add(Check::Level, Action::Flag, Reason::NewLevel { value: point.value, last, readings });
            self.window = window;
            self.astray = 0;
            self.accepted = Some(point);
        } else if !blocked && !held {
            // A flagged spike is published: the next step is measured from it, but the window stays clean.
            self.accepted = Some(point);
        }
    }

    fn accept(&mut self, rule: &TopicRules, point: Point) {
        self.accepted = Some(point);
        self.rival = None;
        self.astray = 0;
        if let Some(spike) = &rule.spike {
            while self.window.len() >= spike.window {
                self.window.pop_front();
            }
            self.window.push_back(point.value.to_f64());
        }
    }

    /// How many consistent readings the rival run has with this one.
    fn extend_rival(&mut self, rule: &TopicRules, point: Point, allowed: Option<&Allowed>) -> u32 {
        let keep = rule.spike.as_ref().map_or(0, |spike| spike.window);
        let consistent = self.rival.as_ref().is_some_and(|rival| {
            let distance = (point.value.to_f64() - rival.last.value.to_f64()).abs();
            rule.step.is_none_or(|(max, _)| within(point.value, rival.last.value, max))
                && rule.rate.is_none_or(|(max, _)| too_fast(max, &rival.last, &point).is_none())
                && allowed.is_none_or(|allowed| !exceeds(distance, allowed.distance))
        });
        let rival = match &mut self.rival {
            Some(rival) if consistent => {
                rival.readings = rival.readings.saturating_add(1);
                rival.last = point;
                rival
            }
            // Values stay for the case that the window is wrong and is replaced by them.
            Some(rival) => {
                rival.readings = 1;
                rival.last = point;
                rival
            }
            None => self.rival.insert(Rival { last: point, readings: 1, values: VecDeque::new() }),
        };
        rival.values.push_back(point.value.to_f64());
        // After an inconsistent reading the older values no longer help once there are enough new ones.
        while rival.values.len() > keep {
            rival.values.pop_front();
        }
        rival.readings
    }

    fn allowed(&self, spike: &Spike, scratch: &mut Vec<f64>) -> Option<Allowed> {
        if self.window.len() < (spike.window / 2).max(3) {
            return None;
        }
        scratch.clear();
        scratch.extend(&self.window);
        let median = median(scratch)?;
        for value in scratch.iter_mut() {
            *value = (*value - median).abs();
        }
        let sigma = self::median(scratch)? * MAD_TO_SIGMA;
        let distance = (spike.sigmas * sigma).max(spike.floor);
        // All equal, and nothing said of the noise: any change would be a spike.
        (distance > 0.0).then_some(Allowed { median, distance })
    }
}

/// The median, which reorders the values; of an even number the mean of the middle two.
pub(crate) fn median(values: &mut [f64]) -> Option<f64> {
    let middle = values.len() / 2;
    let even = values.len().is_multiple_of(2);
    if values.is_empty() {
        return None;
    }
    let (below, upper, _) = values.select_nth_unstable_by(middle, f64::total_cmp);
    let upper = *upper;
    if !even {
        return Some(upper);
    }
    let lower = below.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    Some(lower + (upper - lower) / 2.0)
}

/// Whether two numbers are at most `max` apart, by their digits.
pub(crate) fn within(a: Decimal, b: Decimal, max: Decimal) -> bool {
    match a.checked_sub(b) {
        Some(difference) => difference.abs() <= max,
        None => (a.to_f64() - b.to_f64()).abs() <= max.to_f64(),
    }
}

/// `value > limit`, but not for what binary fractions add: 0.5 is not above 0.5.
fn exceeds(value: f64, limit: f64) -> bool {
    value > limit * (1.0 + 1e-12)
}

fn too_fast(max_per_s: f64, from: &Point, to: &Point) -> Option<u64> {
    let over_ms = to.after_ms(from)?;
    let change = (to.value.to_f64() - from.value.to_f64()).abs();
    exceeds(change * 1000.0, max_per_s * over_ms as f64).then_some(over_ms)
}

impl Stored for Point {
    fn write(&self, out: &mut Writer) {
        out.decimal(self.value);
        out.option(self.stamp_ms, Writer::varint);
        out.varint(self.arrival_ms);
    }

    fn read(bytes: &mut Reader<'_>) -> Result<Self, StateError> {
        Ok(Self { value: bytes.decimal()?, stamp_ms: bytes.option(Reader::varint)?, arrival_ms: bytes.varint()? })
    }
}

impl Stored for Level {
    fn write(&self, out: &mut Writer) {
        out.option(self.accepted, |out, point| point.write(out));
        write_values(out, &self.window);
        out.option(self.rival.as_ref(), |out, rival| {
            rival.last.write(out);
            out.varint(rival.readings.into());
            write_values(out, &rival.values);
        });
        out.varint(self.astray.into());
    }

    fn read(bytes: &mut Reader<'_>) -> Result<Self, StateError> {
        Ok(Self {
            accepted: bytes.option(Point::read)?,
            window: read_values(bytes)?,
            rival: bytes.option(|bytes| {
                Ok(Rival { last: Point::read(bytes)?, readings: bytes.u32()?, values: read_values(bytes)? })
            })?,
            astray: bytes.u32()?,
        })
    }
}

fn write_values(out: &mut Writer, values: &VecDeque<f64>) {
    out.varint(values.len() as u64);
    for value in values {
        out.f64(*value);
    }
}

fn read_values(bytes: &mut Reader<'_>) -> Result<VecDeque<f64>, StateError> {
    let count = bytes.varint()?;
    if count > MAX_WINDOW as u64 {
        return Err(StateError);
    }
    (0..count).map(|_| bytes.f64()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        let check = |values: &[f64], expected: Option<f64>| assert_eq!(median(&mut values.to_vec()), expected);
        check(&[], None);
        check(&[3.0], Some(3.0));
        check(&[4.0, 1.0], Some(2.5));
        check(&[9.0, 1.0, 2.0], Some(2.0));
    }
}
