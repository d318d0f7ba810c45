//! Archives: the points that the swinging doors let out become SenML messages on a topic of their own.
//!
//! They are written to disk together with the doors' state, before the messages that they came from are answered, and stay
//! there until the broker has acknowledged them. So each arrives at least once, whatever is killed or refused for a while;
//! one that arrives twice is the same point.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use anyhow::Result;
use bytes::Bytes;
use rusqlite::params;
use sealcast_mqtt::Properties;
use sealcast_quality::{Archived, Marks};
use sealcast_reading::{Encoder, OutputConfig, Reading, Record, SenmlOutput};
use tracing::{error, warn};

use super::{
    Values,
    handed::Handed,
    marks,
    rules::ValueRules,
    watch::{Outlet, Own, Unsent},
};
use crate::agent::store::Store;

/// Messages that wait on disk; what comes while there are so many is not archived.
const MAX_WAITING: u64 = 100_000;
/// Points in one message.
const MAX_POINTS: usize = 64;
/// Messages that are read at a time.
const BATCH: usize = 64;
/// SenML takes earlier times as relative to now (RFC 8428 §4.5.3): a clock that stands so is not set.
const FIRST_MS: u64 = (1 << 28) * 1_000;

/// A message for an archive, as it waits on disk.
pub struct Message {
    /// Its topic.
    pub topic: String,
    /// Properties to be sealed.
    pub props: Bytes,
    /// A SenML pack.
    pub payload: Vec<u8>,
}

/// What waits on disk, and what of it has been handed to the connection.
pub struct Outbox {
    encoder: Encoder,
    waiting: AtomicU64,
    handed: Mutex<Handed>,
}

impl Outbox {
    /// With what the last run left.
    pub fn open(store: &Store) -> Result<Self> {
        let waiting = AtomicU64::new(store.archive_waiting()?);
        let encoder = Encoder::new(OutputConfig::SenmlJson(SenmlOutput::default()))?;
        Ok(Self { encoder, waiting, handed: Mutex::default() })
    }

    /// The messages for `points`, as many as there is room for.
    pub fn messages(&self, rules: &ValueRules, points: &[Archived]) -> Vec<Message> {
        let mut messages = Vec::new();
        for points in points.chunk_by(|a, b| a.topic == b.topic).flat_map(|points| points.chunks(MAX_POINTS)) {
            let Some(first) = points.first() else { continue };
            if self.waiting.load(Ordering::Relaxed) + messages.len() as u64 >= MAX_WAITING {
                warn!(
                    topic = first.topic,
                    "not archived, because {MAX_WAITING} archive messages already wait to be sent"
                );
                continue;
            }
            match self.message(rules, &first.topic, points) {
                Ok(message) => messages.push(message),
                Err(error) => warn!(topic = first.topic, "not archived: {error:#}"),
            }
        }
        messages
    }

    fn message(&self, rules: &ValueRules, topic: &str, points: &[Archived]) -> Result<Message> {
        let record = |archived: &Archived| {
            let point = &archived.point;
            let (value, unit, time_ms) = (point.value.clone(), point.unit.clone(), Some(point.time_ms));
            let reading = Reading { value, unit, time_ms, sequence: None };
            Record { name: senml_name(topic, &archived.name), reading }
        };
        let payload = self.encoder.encode(&points.iter().map(record).collect::<Vec<_>>())?;
        let mut props = Properties::new();
        marks::add(&mut props, marks::ARCHIVE, "1");
        marks::set_type(&mut props, self.encoder.media_type());
        if rules.quality.find(topic).is_some_and(|rules| rules.has_checks()) {
            let all = points.iter().fold(Marks::NONE, |all, archived| Marks(all.0 | archived.point.marks.0));
            marks::add(&mut props, marks::CHECK, &marks::text(all));
        }
        Ok(Message { topic: rules.archive_topic(topic), props: props.encode()?, payload })
    }

    /// So many are about to be on disk: never fewer wait than are counted.
    pub fn add(&self, count: usize) {
        self.waiting.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// When answers of the broker are looked for, or something is handed over again, Unix ms.
    pub fn poll_timeout(&self) -> Option<u64> {
        if self.waiting.load(Ordering::Relaxed) == 0 {
            return None;
        }
        self.handed.lock().unwrap_or_else(PoisonError::into_inner).poll_timeout()
    }
}

/// SenML's name of a reading: its own, or that of its topic, with `_` for what a name may not have (RFC 8428 §4.5.1).
fn senml_name(topic: &str, name: &str) -> String {
    let name = if name.is_empty() { topic } else { name };
    let allowed = |c: char| if c.is_ascii_alphanumeric() || "-:./_".contains(c) { c } else { '_' };
    let name: String = name.chars().map(allowed).collect();
    let name = name.trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
    if name.is_empty() { "reading".to_owned() } else { name.to_owned() }
}

/// The device's reading with a time that SenML can carry.
pub fn dated(reading: &Reading, now_ms: u64) -> Reading {
    Reading { time_ms: reading.time_ms.filter(|time_ms| *time_ms >= FIRST_MS).or(Some(now_ms)), ..reading.clone() }
}

impl Values {
    /// Publishes what waits, and forgets what the broker has taken. `true` if something must be tried again.
    pub(super) fn send_archives(&self, out: &Outlet, now_ms: u64) -> bool {
        if self.outbox.waiting.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let mut handed = self.outbox.handed.lock().unwrap_or_else(PoisonError::into_inner);
        self.try_send_archives(&mut handed, out, now_ms).unwrap_or_else(|error| {
            if !self.store.is_failing() {
                error!("{error:#}");
            }
            true
        })
    }

    fn try_send_archives(&self, handed: &mut Handed, out: &Outlet, now_ms: u64) -> Result<bool> {
        let (taken, refused) = handed.take_answers(now_ms);
        refused.iter().for_each(|(topic, reason)| say_refused(topic, reason));
        if let Some(first) = taken.first() {
            let forgotten = self.store.forget_archive(&taken).inspect_err(|_| handed.again(now_ms, *first))?;
            self.outbox.waiting.fetch_sub(forgotten, Ordering::Relaxed);
        }
        while handed.has_room() {
            let messages = self.store.archive_after(handed.last(), BATCH)?;
            let full = messages.len() >= BATCH;
            for (id, Message { topic, props, payload }) in messages {
                if !handed.wants(id, &topic, now_ms) {
                    continue;
                }
                let mut own = Own { retain: false, props, payload: payload.into(), recorded: None };
                match self.send_told(out, &topic, &mut own) {
                    Ok(answer) => handed.put(id, topic, answer),
                    Err(Unsent::Refused(reason)) => {
                        if handed.refused(id, &topic, now_ms) {
                            say_refused(&topic, &reason);
                        }
                    }
                    Err(Unsent::NotYet(_)) => return Ok(true),
                }
            }
            if !full {
                break;
            }
        }
        Ok(false)
    }
}

fn say_refused(topic: &str, reason: &str) {
    warn!(topic, reason, "the archive waits on disk, because its messages are refused for now");
}

impl Store {
    fn archive_waiting(&self) -> Result<u64> {
        self.read(|db| db.query_row("SELECT count(*) FROM archive", [], |row| row.get::<_, i64>(0)))
            .map(i64::cast_unsigned)
    }

    fn archive_after(&self, id: i64, most: usize) -> Result<Vec<(i64, Message)>> {
        self.read(|db| {
            let mut query =
                db.prepare_cached("SELECT id, topic, props, payload FROM archive WHERE id > ?1 ORDER BY id LIMIT ?2")?;
            let rows = query.query_map(params![id, most as i64], |row| {
                let props: Vec<u8> = row.get(2)?;
                Ok((row.get(0)?, Message { topic: row.get(1)?, props: props.into(), payload: row.get(3)? }))
            })?;
            rows.collect()
        })
    }

    /// Tells how many there were.
    fn forget_archive(&self, ids: &[i64]) -> Result<u64> {
        self.write(|db| {
            let mut query = db.prepare_cached("DELETE FROM archive WHERE id = ?1")?;
            ids.iter().map(|id| Ok(query.execute([id])? as u64)).sum()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_senml_names() {
        for (topic, name, expected) in [
            ("plant/1/temp", "", "plant/1/temp"),
            ("/plant/°C", "", "plant/_C"),
            ("t", "urn:dev:ow:10e2073a01080063", "urn:dev:ow:10e2073a01080063"),
            ("°", "", "reading"),
        ] {
            assert_eq!(senml_name(topic, name), expected);
        }
    }
}
