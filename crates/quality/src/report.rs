//! Report on change: which readings need not be sent, so that a receiver that holds the last one is never farther from
//! the truth than the dead band. Nothing is delayed: a reading is sent when it comes, or not.

use std::sync::Arc;

use sealcast_reading::{Decimal, Special, Value};

use crate::{
    codec::{Reader, StateError, Writer},
    cycle::Cycle,
    level::within,
    rules::{DeadBand, Report, RuleSet},
    series::{Row, SeriesMap, Stored, name_of, topic_of},
    verdict::Marks,
};

/// Whether a reading is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Send it now. A message kept because of an earlier [`Decision::Keep`] of this series is forgotten.
    Send(Cause),
    /// It need not be sent: the receiver's last value is within the band. A kept message is forgotten.
    Skip,
    /// It is outside the band but comes too early after the last one sent: keep this message in place of any kept before,
    /// and send it when [`Reporter::poll_kept`] names its series.
    Keep {
        /// When that will be, Unix ms.
        until_ms: u64,
    },
}

/// Why a reading is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// The topic has no rule for report on change.
    NoRule,
    /// The first one.
    First,
    /// Outside the dead band.
    Change,
    /// The checks found something else than for the last one sent.
    Verdict,
    /// Its stamp is not after that of the last reading.
    Clock,
    /// Nothing was sent for the heartbeat, or would be when the next one comes.
    Heartbeat,
    /// Kept until the smallest interval was over.
    Interval,
}

/// What was sent and what was saved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Saved {
    /// Readings that came.
    pub seen: u64,
    /// Those that were sent.
    pub sent: u64,
    /// Those of `sent` that say no more than that nothing changed.
    pub heartbeats: u64,
}

impl Saved {
    /// The part that was sent: 0 to 1, and 1 if nothing came yet.
    pub fn sent_part(&self) -> f64 {
        if self.seen == 0 { 1.0 } else { self.sent as f64 / self.seen as f64 }
    }
}

/// One reading that may be sent: one that was not blocked.
#[derive(Debug, Clone, Copy)]
pub struct Reported<'a> {
    /// MQTT topic.
    pub topic: &'a str,
    /// Name within the message. A message of several readings is sent if any of them is to be.
    pub name: &'a str,
    /// Its value.
    pub value: &'a Value,
    /// The device's stamp.
    pub time_ms: Option<u64>,
    /// What the checks found.
    pub marks: Marks,
}

/// Decides for each reading of the topics that have a `report` rule.
#[derive(Debug)]
pub struct Reporter {
    rules: Arc<RuleSet>,
    series: SeriesMap<State>,
    wake_ms: Option<u64>,
}

#[derive(Debug, Clone, Default)]
struct State {
    cycle: Cycle,
    sent: Option<Sent>,
    last_stamp_ms: Option<u64>,
    kept: Option<Sent>,
    saved: Saved,
}

#[derive(Debug, Clone, Copy)]
struct Sent {
    /// `None` for what is no number.
    value: Option<Decimal>,
    at_ms: u64,
    marks: Marks,
}

impl Reporter {
    /// Without a past: the first reading of each topic is sent.
    pub fn new(rules: Arc<RuleSet>) -> Self {
        Self { rules, series: SeriesMap::new(), wake_ms: None }
    }

    /// With the past that [`Reporter::export`] wrote. What was kept back when it was written is gone: the next reading is
    /// judged against what was sent.
    ///
    /// # Errors
    /// [`StateError`] if the bytes are damaged.
    pub fn import(rules: Arc<RuleSet>, bytes: &[u8]) -> Result<Self, StateError> {
        Ok(Self { rules, series: SeriesMap::import(bytes)?, wake_ms: None })
    }

    /// As [`Reporter::import`], from stored rows in any order.
    ///
    /// # Errors
    /// [`StateError`] if a row is damaged.
    pub fn restore<'a>(
        rules: Arc<RuleSet>,
        rows: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    ) -> Result<Self, StateError> {
        let series = SeriesMap::from_rows(rows)?;
        Ok(Self { rules, series, wake_ms: None })
    }

    /// Decides about one reading that came at `now_ms`. What is no number is sent when it has no number before it. A message
    /// without a value is always sent, for what else it says, and counts as no report.
    pub fn handle_reading(&mut self, reading: &Reported<'_>, now_ms: u64) -> Decision {
        let Some(rule) = self.rules.find(reading.topic).and_then(|rule| rule.report.as_ref()) else {
            return Decision::Send(Cause::NoRule);
        };
        if matches!(reading.value, Value::Special(Special::Null | Special::Absent)) {
            return Decision::Send(Cause::NoRule);
        }
        let state = self.series.touch(reading.topic, reading.name, State::default);
        state.cycle.observe(now_ms);
        state.saved.seen = state.saved.seen.saturating_add(1);
        let value = match reading.value {
            Value::Number(value) => Some(*value),
            _ => None,
        };
        let now = Sent { value, at_ms: now_ms, marks: reading.marks };
        let clock_back = reading.time_ms.zip(state.last_stamp_ms).is_some_and(|(time, last)| time <= last);
        state.last_stamp_ms = reading.time_ms;
        let Some(cause) = state.cause(rule, &now, clock_back) else {
            state.kept = None;
            return Decision::Skip;
        };
        if let Some(sent) = &state.sent
            && cause == Cause::Change
        {
            let until_ms = sent.at_ms.saturating_add(rule.min_interval_ms);
            // A clock that was set back must not hold anything for longer than the interval.
            if now_ms < until_ms && sent.at_ms <= now_ms {
                state.kept = Some(now);
                self.wake_ms = Some(self.wake_ms.map_or(until_ms, |wake| wake.min(until_ms)));
                return Decision::Keep { until_ms };
            }
        }
        state.send(now, cause);
        Decision::Send(cause)
    }

    /// What was last sent of a series may not have arrived: its next reading is sent whatever it is.
    pub fn forget_sent(&mut self, topic: &str, name: &str) {
        if self.series.peek(topic, name).is_some() {
            let state = self.series.touch(topic, name, State::default);
            state.sent = None;
            state.kept = None;
        }
    }

    /// When a kept message is due, Unix ms. May be earlier than needed.
    pub fn poll_timeout(&self) -> Option<u64> {
        self.wake_ms
    }

    /// Topic and name of the next kept message that is due: send it now. Call until `None`.
    pub fn poll_kept(&mut self, now_ms: u64) -> Option<(String, String)> {
        if self.wake_ms.is_none_or(|wake| now_ms < wake) {
            return None;
        }
        let rules = &self.rules;
        let mut due = None;
        let mut wake_ms: Option<u64> = None;
        self.series.sweep(|key, state| {
            let Some(kept) = state.kept else { return false };
            let interval =
                rules.find(topic_of(key)).and_then(|rule| rule.report.as_ref()).map_or(0, |r| r.min_interval_ms);
            let until_ms = state.sent.map_or(0, |sent| sent.at_ms.saturating_add(interval));
            if due.is_none() && until_ms <= now_ms {
                state.kept = None;
                state.send(Sent { at_ms: now_ms, ..kept }, Cause::Interval);
                due = Some((topic_of(key).to_owned(), name_of(key).to_owned()));
                return true;
            }
            wake_ms = Some(wake_ms.map_or(until_ms, |wake| wake.min(until_ms)));
            false
        });
        self.wake_ms = wake_ms;
        due
    }

    /// The cycle in which readings of a topic come.
    pub fn cycle(&self, topic: &str, name: &str) -> Option<&Cycle> {
        self.series.peek(topic, name).map(|state| &state.cycle)
    }

    /// What was saved, for each topic and name.
    pub fn saved(&self) -> impl Iterator<Item = (&str, &str, Saved)> {
        self.series.iter().map(|(key, state)| (topic_of(key), name_of(key), state.saved))
    }

    /// What to store since the last call. Store it before sending, or after: a reading sent twice does no harm.
    pub fn changes(&mut self) -> Vec<Row> {
        self.series.changes()
    }

    /// All state as one piece, of at most [`MAX_SERIES`](crate::MAX_SERIES) series.
    pub fn export(&self) -> Vec<u8> {
        self.series.export()
    }
}

impl State {
    fn cause(&self, rule: &Report, now: &Sent, clock_back: bool) -> Option<Cause> {
        let Some(sent) = &self.sent else { return Some(Cause::First) };
        // Before the band: the receiver's times and marks would be wrong whatever the value is.
        if clock_back {
            return Some(Cause::Clock);
        }
        if sent.marks != now.marks {
            return Some(Cause::Verdict);
        }
        match (sent.value, now.value) {
            (Some(last), Some(value)) if rule.band.holds(last, value) => {}
            (None, None) => {}
            _ => return Some(Cause::Change),
        }
        let quiet_ms = now.at_ms.saturating_sub(sent.at_ms);
        let next_ms = quiet_ms.saturating_add(self.cycle.period_ms().unwrap_or(0));
        // If the next one would come after the heartbeat, this one is it. A period longer than the heartbeat sends all.
        rule.heartbeat_ms.filter(|heartbeat| next_ms > *heartbeat).map(|_| Cause::Heartbeat)
    }

    fn send(&mut self, now: Sent, cause: Cause) {
        self.sent = Some(now);
        self.kept = None;
        self.saved.sent = self.saved.sent.saturating_add(1);
        self.saved.heartbeats = self.saved.heartbeats.saturating_add(u64::from(cause == Cause::Heartbeat));
    }
}

impl DeadBand {
    /// Whether `value` is within the band around `last`, by their digits.
    pub fn holds(&self, last: Decimal, value: Decimal) -> bool {
        match self {
            Self::Absolute(band) => within(last, value, *band),
            Self::Percent(percent) => {
                // |value - last| * 100 <= |last| * percent, exactly if there is room for the digits.
                let change =
                    value.checked_sub(last).and_then(|change| change.abs().checked_mul(Decimal::from(100_i64)));
                match change.zip(last.abs().checked_mul(*percent)) {
                    Some((change, limit)) => change <= limit,
                    None => (value.to_f64() - last.to_f64()).abs() * 100.0 <= last.to_f64().abs() * percent.to_f64(),
                }
            }
        }
    }
}

impl Stored for State {
    fn write(&self, out: &mut Writer) {
        self.cycle.write(out);
        out.option(self.sent, |out, sent| {
            out.option(sent.value, Writer::decimal);
            out.varint(sent.at_ms);
            out.varint(sent.marks.0.into());
        });
        out.option(self.last_stamp_ms, Writer::varint);
        out.varint(self.saved.seen);
        out.varint(self.saved.sent);
        out.varint(self.saved.heartbeats);
    }

    fn read(bytes: &mut Reader<'_>) -> Result<Self, StateError> {
        Ok(Self {
            cycle: Cycle::read(bytes)?,
            sent: bytes.option(|bytes| {
                Ok(Sent {
                    value: bytes.option(Reader::decimal)?,
                    at_ms: bytes.varint()?,
                    marks: Marks(bytes.varint()?.try_into().map_err(|_| StateError)?),
                })
            })?,
            last_stamp_ms: bytes.option(Reader::varint)?,
            kept: None,
            saved: Saved { seen: bytes.varint()?, sent: bytes.varint()?, heartbeats: bytes.varint()? },
        })
    }
}
