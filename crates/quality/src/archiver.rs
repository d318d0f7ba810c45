//! The archives of all topics: a [`SwingingDoor`] for each topic and name, whose state can be stored after each reading.

use std::{collections::VecDeque, sync::Arc};

use sealcast_reading::{Reading, Unit, Value};

use crate::{
    archive::{Sample, SwingingDoor},
    codec::{Reader, StateError, Writer},
    rules::RuleSet,
    series::{MAX_SERIES, Row, SeriesMap, Stored, name_of, topic_of},
    verdict::Marks,
};

/// Most points that wait for [`Archiver::poll_archived`]; beyond it the oldest is lost. A driver that asks after each call
/// never gets there.
pub const MAX_ARCHIVED: usize = 2 * MAX_SERIES;

/// A reading of an archive.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// When it was measured, Unix ms: by the device's clock, else when it came.
    pub time_ms: u64,
    /// Its value.
    pub value: Value,
    /// Its unit, if it is known.
    pub unit: Option<Unit>,
    /// What the checks found in it.
    pub marks: Marks,
}

/// A point that is to be archived now.
#[derive(Debug, Clone, PartialEq)]
pub struct Archived {
    /// The topic that it is a reading of.
    pub topic: String,
    /// Its name within the topic's messages.
    pub name: String,
    /// The reading.
    pub point: Point,
}

/// Compresses the topics that have an `archive` rule.
///
/// Between two archived points of a series every reading given in between is at most the rule's deviation from the straight
/// line, in time order of their stamps. What is no number has no line: it is archived as it comes; a NaN, an infinity or a
/// null is not archived and ends the line before it.
#[derive(Debug)]
pub struct Archiver {
    rules: Arc<RuleSet>,
    series: SeriesMap<State>,
    out: VecDeque<Archived>,
    /// Not later than the earliest deadline.
    wake_ms: Option<u64>,
}

#[derive(Debug)]
struct State(SwingingDoor<Point>);

impl Archiver {
    /// Without a past: the first reading of each topic is archived.
    pub fn new(rules: Arc<RuleSet>) -> Self {
        Self { rules, series: SeriesMap::new(), out: VecDeque::new(), wake_ms: None }
    }

    /// With the past of stored rows, in any order. Rules may have changed since: what is held of a topic that is no longer
    /// archived is forgotten.
    ///
    /// # Errors
    /// [`StateError`] if a row is damaged.
    pub fn restore<'a>(
        rules: Arc<RuleSet>,
        rows: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    ) -> Result<Self, StateError> {
        let series = SeriesMap::from_rows(rows)?;
        // 0: the first timeout looks what is due.
        Ok(Self { rules, series, out: VecDeque::new(), wake_ms: Some(0) })
    }

    /// A reading that was not blocked came at `now_ms`; nothing happens where no rule says `archive`. Ask
    /// [`Archiver::poll_archived`] afterwards.
    pub fn handle_reading(&mut self, topic: &str, name: &str, reading: &Reading, marks: Marks, now_ms: u64) {
        let Some(rule) = self.rules.find(topic).and_then(|rules| rules.archive) else { return };
        let State(door) = self.series.touch(topic, name, || State(SwingingDoor::new(rule)));
        let time_ms = reading.time_ms.unwrap_or(now_ms);
        let value = reading.number().map_or(f64::NAN, |number| number.to_f64());
        let item = Point { time_ms, value: reading.value.clone(), unit: reading.unit.clone(), marks };
        let before = door.follow(rule);
        let now = door.handle_reading(Sample { time_ms, value, item }, now_ms);
        if let Some(due) = door.poll_timeout() {
            self.wake_ms = Some(self.wake_ms.map_or(due, |wake| wake.min(due)));
        }
        for sample in before.into_iter().chain(now.into_iter().flatten()) {
            push(&mut self.out, topic, name, sample.item);
        }
    }

    /// When [`Archiver::handle_timeout`] wants to be called, Unix ms. May be earlier than needed.
    pub fn poll_timeout(&self) -> Option<u64> {
        self.wake_ms
    }

    /// Looks for points that have been held for as long as they may.
    pub fn handle_timeout(&mut self, now_ms: u64) {
        if self.wake_ms.is_none_or(|wake| now_ms < wake) {
            return;
        }
        let Self { rules, series, out, wake_ms } = self;
        *wake_ms = None;
        series.sweep(|key, State(door)| {
            let Some(rule) = rules.find(topic_of(key)).and_then(|rules| rules.archive) else { return false };
            let due = door.follow(rule).or_else(|| door.handle_timeout(now_ms));
            if let Some(next) = door.poll_timeout() {
                *wake_ms = Some(wake_ms.map_or(next, |wake| wake.min(next)));
            }
            let Some(sample) = due else { return false };
            push(out, topic_of(key), name_of(key), sample.item);
            true
        });
    }

    /// The next point to archive. Call until `None`.
    pub fn poll_archived(&mut self) -> Option<Archived> {
        self.out.pop_front()
    }

    /// What to store since the last call, together with the points to archive: then a crash loses none and repeats none.
    pub fn changes(&mut self) -> Vec<Row> {
        self.series.changes()
    }
}

fn push(out: &mut VecDeque<Archived>, topic: &str, name: &str, point: Point) {
    if matches!(point.value, Value::Special(_)) {
        return;
    }
    if out.len() >= MAX_ARCHIVED {
        out.pop_front();
    }
    out.push_back(Archived { topic: topic.to_owned(), name: name.to_owned(), point });
}

impl Stored for State {
    fn write(&self, out: &mut Writer) {
        self.0.write(out, |out, point| {
            // What is held is a number.
            out.option(if let Value::Number(number) = point.value { Some(number) } else { None }, Writer::decimal);
            out.option(point.unit.as_ref(), |out, unit| out.bytes(unit.as_str().as_bytes()));
            out.varint(point.marks.0.into());
            out.varint(point.time_ms);
        });
    }

    fn read(bytes: &mut Reader<'_>) -> Result<Self, StateError> {
        let item = |bytes: &mut Reader<'_>| {
            let number = bytes.option(Reader::decimal)?.ok_or(StateError)?;
            let unit = bytes.option(|bytes| Unit::new(bytes.text()?).map_err(|_| StateError))?;
            let marks = Marks(bytes.varint()?.try_into().map_err(|_| StateError)?);
            Ok(Point { time_ms: bytes.varint()?, value: Value::Number(number), unit, marks })
        };
        Ok(Self(SwingingDoor::read(bytes, item)?))
    }
}
