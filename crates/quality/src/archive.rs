//! Swinging-door compression for archives: between two archived readings every other one is at most `deviation` from the
//! straight line between them, and each reading is represented after a bounded delay.
//!
//! The door is the cone of lines from the last archived reading that pass all since within the deviation. Other than the
//! original, which checks only that the cone is not empty, a reading is kept as a possible end of the line only if its own
//! line lies in the cone: so the bound is the deviation and not twice that.

use crate::{
    codec::{Reader, StateError, Writer},
    rules::Archive,
};

/// A reading to be archived.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample<T> {
    /// When it was, Unix ms.
    pub time_ms: u64,
    /// Its value.
    pub value: f64,
    /// What belongs to it (its digits, its message).
    pub item: T,
}

/// Compresses one topic.
#[derive(Debug, Clone)]
pub struct SwingingDoor<T> {
    rule: Archive,
    pivot: Option<(u64, f64)>,
    /// The newest reading, not archived yet.
    held: Option<Sample<T>>,
    /// When the first reading after the pivot came.
    since_ms: u64,
    lowest: f64,
    highest: f64,
}

impl<T> SwingingDoor<T> {
    /// Without a past: the first reading is archived.
    pub fn new(rule: Archive) -> Self {
        Self { rule, pivot: None, held: None, since_ms: 0, lowest: f64::NEG_INFINITY, highest: f64::INFINITY }
    }

    /// A reading came at `now_ms`. Gives what is to be archived now, at most two, in their order: the one held back if the
    /// new one ends its line, and the new one if it can't wait (the first, no number, or a clock that went back).
    pub fn handle_reading(&mut self, sample: Sample<T>, now_ms: u64) -> [Option<Sample<T>>; 2]
    where
        T: Clone,
    {
        let rises = self.newest_ms().is_none_or(|newest| sample.time_ms > newest);
        let Some(pivot) = self.pivot.filter(|_| rises && sample.value.is_finite()) else {
            let held = self.held.take();
            self.turn(sample.time_ms, sample.value);
            return [held, Some(sample)];
        };
        let slope = slope(pivot, &sample);
        let fits = self.held.is_none() || (self.lowest <= slope && slope <= self.highest);
        let mut out = None;
        if !fits && let Some(held) = self.held.take() {
            self.turn(held.time_ms, held.value);
            out = Some(held);
        }
        if self.held.is_none() {
            self.since_ms = now_ms;
        }
        self.narrow(&sample);
        self.held = Some(sample);
        [out, None]
    }

    /// When the reading held back must be archived, Unix ms.
    pub fn poll_timeout(&self) -> Option<u64> {
        self.held.as_ref().map(|_| self.since_ms.saturating_add(self.rule.max_delay_ms))
    }

    /// What must be archived at `now_ms`.
    pub fn handle_timeout(&mut self, now_ms: u64) -> Option<Sample<T>> {
        self.poll_timeout().filter(|due| *due <= now_ms)?;
        self.flush()
    }

    /// What is held back, at the end of the recording or of the process.
    pub fn flush(&mut self) -> Option<Sample<T>> {
        let held = self.held.take()?;
        self.turn(held.time_ms, held.value);
        Some(held)
    }

    /// Goes on by another rule. Gives what must be archived now: what is held was judged by the rule of before.
    pub(crate) fn follow(&mut self, rule: Archive) -> Option<Sample<T>> {
        if self.rule == rule {
            return None;
        }
        self.rule = rule;
        self.flush()
    }

    pub(crate) fn write(&self, out: &mut Writer, item: impl FnOnce(&mut Writer, &T)) {
        out.f64(self.rule.deviation);
        out.varint(self.rule.max_delay_ms);
        out.option(self.pivot, |out, (time_ms, value)| {
            out.varint(time_ms);
            out.f64(value);
        });
        out.option(self.held.as_ref(), |out, held| {
            out.varint(held.time_ms);
            out.f64(held.value);
            item(out, &held.item);
        });
        out.varint(self.since_ms);
        // Stored floats are finite: without a bound there is none.
        for bound in [self.lowest, self.highest] {
            out.option(bound.is_finite().then_some(bound), Writer::f64);
        }
    }

    pub(crate) fn read(
        bytes: &mut Reader<'_>,
        item: impl FnOnce(&mut Reader<'_>) -> Result<T, StateError>,
    ) -> Result<Self, StateError> {
        let rule = Archive { deviation: bytes.f64()?, max_delay_ms: bytes.varint()? };
        let pivot = bytes.option(|bytes| Ok((bytes.varint()?, bytes.f64()?)))?;
        let held =
            bytes.option(|bytes| Ok(Sample { time_ms: bytes.varint()?, value: bytes.f64()?, item: item(bytes)? }))?;
        let since_ms = bytes.varint()?;
        let lowest = bytes.option(Reader::f64)?.unwrap_or(f64::NEG_INFINITY);
        let highest = bytes.option(Reader::f64)?.unwrap_or(f64::INFINITY);
        Ok(Self { rule, pivot, held, since_ms, lowest, highest })
    }

    fn newest_ms(&self) -> Option<u64> {
        self.held.as_ref().map(|held| held.time_ms).or(self.pivot.map(|(time_ms, _)| time_ms))
    }

    /// A new line begins there.
    fn turn(&mut self, time_ms: u64, value: f64) {
        // A line can't begin at NaN: the next reading begins one.
        self.pivot = value.is_finite().then_some((time_ms, value));
        self.lowest = f64::NEG_INFINITY;
        self.highest = f64::INFINITY;
    }

    fn narrow(&mut self, sample: &Sample<T>) {
        let Some((time_ms, value)) = self.pivot else { return };
        let over = sample.time_ms.saturating_sub(time_ms) as f64;
        self.lowest = self.lowest.max((sample.value - self.rule.deviation - value) / over);
        self.highest = self.highest.min((sample.value + self.rule.deviation - value) / over);
    }
}

fn slope<T>((time_ms, value): (u64, f64), sample: &Sample<T>) -> f64 {
    (sample.value - value) / sample.time_ms.saturating_sub(time_ms) as f64
}
