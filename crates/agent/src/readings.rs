//! Readings that go to the ledger (`record = "chain"` of a quality rule, or `[[record]]`, in agent.toml): from a published
//! payload to a queue on disk, and from there, oldest first, to the control plane, which signs and submits them.
//!
//! A reading is on disk before its publisher has an acknowledgement, with the sequence number that it will have on the
//! ledger, and leaves the queue in the transaction that stores its record. So it is written once, whatever is killed in
//! between.
//! A full queue refuses the newest: the message is published all the same, a warning is logged, and the sequence number
//! that it would have had is missing on the ledger.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use rusqlite::{OptionalExtension as _, params};
use sealcast_agent_core::{QueuedReading, Write};
use sealcast_ledger::{Body, Number, ReadingTopic, Record};
use sealcast_reading::Decimal;
use tokio::sync::Notify;
use tracing::warn;

use super::store::{DiskFails, Store};
use crate::config::RecordRules;

/// Topics whose readings this device numbers.
const MAX_TOPICS: u64 = 4096;

/// See the module.
pub struct Readings {
    store: Arc<Store>,
    rules: RecordRules,
    news: Notify,
}

impl Readings {
    /// With what the queue holds, less what stands in the stored replica.
    pub fn open(store: Arc<Store>, rules: RecordRules, device: Number) -> Result<Self> {
        // An older version stored a record and took its reading out of the queue one after the other.
        if store.readings_waiting()? > 0 {
            let records = store.records()?;
            let on_ledger = records.iter().map(|bytes| on_ledger(bytes, device)).filter_map(Result::transpose);
            store.commit(&on_ledger.collect::<Result<Vec<_>>>()?)?;
        }
        Ok(Self { store, rules, news: Notify::new() })
    }

    /// Queues what is about to be published on `topic`, if a rule names it: the device's bytes, which came at `now_ms`.
    /// `last` is the sequence number that the ledger had last. What cannot be queued is told, and does not hold up the message.
    ///
    /// # Errors
    /// The disk failed: the message must not go out, as its reading would be missing on the ledger.
    pub fn record(
        &self,
        topic: &str,
        payload: &[u8],
        last: impl FnOnce() -> Option<u64>,
        now_ms: u64,
    ) -> Result<(), DiskFails> {
        let Some(form) = self.rules.of(topic) else { return Ok(()) };
        let last = last().unwrap_or(0);
        let queued = form.read(payload, now_ms).and_then(|values| {
            let topic: ReadingTopic = topic.parse()?;
            let reading = |(value, time_ms): (Decimal, u64)| QueuedReading {
                topic: topic.clone(),
                time_ms,
                sequence: 0,
                value: value.mantissa(),
                decimals: value.decimals(),
            };
            let readings: Vec<QueuedReading> = values.into_iter().map(reading).collect();
            if readings.is_empty() {
                return Ok(());
            }
            let refused = self.store.queue_readings(&readings, last, self.rules.queue)?;
            self.news.notify_one();
            refused.map_or(Ok(()), |reason| Err(anyhow::Error::msg(reason)))
        });
        match queued {
            Ok(()) => {}
            Err(_) if self.store.is_failing() => return Err(DiskFails),
            Err(error) => warn!(topic, "published, but not recorded on the ledger: {error:#}"),
        }
        Ok(())
    }

    /// Resolves when something was queued since the last call.
    pub async fn news(&self) {
        self.news.notified().await;
    }

    /// The oldest waiting reading of each topic, oldest first.
    pub fn oldest(&self) -> Result<Vec<QueuedReading>> {
        self.store.oldest_readings()
    }
}

/// The reading of this device that a record brings onto the ledger.
fn on_ledger(record: &[u8], device: Number) -> Result<Option<Write>> {
    let record = Record::decode(record).context("the agent's copy of the ledger, in agent.sqlite, cannot be read")?;
    Ok(match record.entry.body() {
        Body::Reading(reading) if record.entry.originator() == device => {
            Some(Write::ReadingOnLedger { topic: reading.topic.clone(), sequence: reading.sequence })
        }
        _ => None,
    })
}

impl Store {
    fn readings_waiting(&self) -> Result<u64> {
        self.read(waiting)
    }

    /// Gives each reading the next sequence number of its topic and keeps it, if there are not `most` already. The number
    /// is used up either way. Tells why the last that was not kept was not. One transaction, since a message may hold
    /// thousands of readings.
    fn queue_readings(&self, readings: &[QueuedReading], last: u64, most: u64) -> Result<Option<String>> {
        self.write(|db| {
            let mut left = waiting(db)?;
            let mut refused = None;
            for reading in readings {
                match queue_reading(db, reading, last, left, most)? {
                    Ok(()) => left += 1,
                    Err(reason) => refused = Some(reason),
                }
            }
            Ok(refused)
        })
    }

    fn oldest_readings(&self) -> Result<Vec<QueuedReading>> {
        self.read(|db| {
            let mut query = db.prepare_cached(
                "SELECT topic, time_ms, sequence, value, decimals FROM reading
                 WHERE id IN (SELECT min(id) FROM reading GROUP BY topic) ORDER BY id",
            )?;
            let rows = query.query_map([], |row| {
                // Only names of topics are ever written.
                let topic = row.get::<_, String>(0)?.parse().map_err(|_| rusqlite::Error::InvalidQuery)?;
                Ok(QueuedReading {
                    topic,
                    time_ms: row.get::<_, i64>(1)?.cast_unsigned(),
                    sequence: row.get::<_, i64>(2)?.cast_unsigned(),
                    value: i128::from_be_bytes(row.get(3)?),
                    decimals: row.get(4)?,
                })
            })?;
            rows.collect()
        })
    }
}

fn queue_reading(
    db: &rusqlite::Connection,
    reading: &QueuedReading,
    last: u64,
    waiting: u64,
    most: u64,
) -> rusqlite::Result<Result<(), String>> {
    let topic = reading.topic.as_str();
    let known: Option<i64> = db
        .prepare_cached("SELECT last FROM reading_sequence WHERE topic = ?1")?
        .query_row([topic], |row| row.get(0))
        .optional()?;
    if known.is_none() {
        let topics: i64 = db.query_row("SELECT count(*) FROM reading_sequence", [], |row| row.get(0))?;
        if topics.cast_unsigned() >= MAX_TOPICS {
            return Ok(Err(format!(
                "{MAX_TOPICS} topics are already recorded, which is the limit: use narrower filters"
            )));
        }
    }
    let sequence = known.unwrap_or(0).cast_unsigned().max(last).saturating_add(1);
    db.prepare_cached("INSERT OR REPLACE INTO reading_sequence (topic, last) VALUES (?1, ?2)")?
        .execute(params![topic, sequence.cast_signed()])?;
    if waiting >= most {
        return Ok(Err(format!("{waiting} readings already wait for the ledger, which is the limit (`record_queue`)")));
    }
    let values = params![
        topic,
        reading.time_ms.cast_signed(),
        sequence.cast_signed(),
        reading.value.to_be_bytes(),
        reading.decimals
    ];
    db.prepare_cached("INSERT INTO reading (topic, time_ms, sequence, value, decimals) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(values)?;
    Ok(Ok(()))
}

fn waiting(db: &rusqlite::Connection) -> rusqlite::Result<u64> {
    db.query_row("SELECT count(*) FROM reading", [], |row| row.get::<_, i64>(0)).map(i64::cast_unsigned)
}

#[cfg(test)]
mod tests {
    use sealcast_ledger::LedgerId;

    use super::*;

    fn rules(text: &str) -> Result<RecordRules> {
        Ok(toml::from_str::<crate::config::AgentFile>(text)?.validate()?.record)
    }

    fn open(dir: &std::path::Path, text: &str) -> Result<Readings> {
        let number = LedgerId { chain_id: 1, address: [0; 20] }.operator();
        Readings::open(Arc::new(Store::create(dir)?), rules(text)?, number)
    }

    fn waiting(readings: &Readings) -> Result<Vec<(String, u64, i128, u8)>> {
        let oldest = readings.oldest()?;
        Ok(oldest.into_iter().map(|q| (q.topic.to_string(), q.sequence, q.value, q.decimals)).collect())
    }

    /// Its record is on disk.
    fn take(readings: &Readings, topic: &str, sequence: u64) -> Result<()> {
        Ok(readings.store.commit(&[Write::ReadingOnLedger { topic: topic.parse()?, sequence }])?)
    }

    #[test]
    fn the_queue_keeps_order_and_numbers_across_restarts_and_refuses_the_newest() -> Result<()> {
        const RULES: &str = "record_queue = 3\n[[record]]\nfilter = 'a/#'\ndecimals = 1";
        let dir = tempfile::tempdir()?;
        let readings = open(dir.path(), RULES)?;
        for (topic, payload) in
            [("a/x", "21.46"), ("b", "1"), ("a/x", "warm"), ("a/y", "-3"), ("a/x", " 22 "), ("a/x", "23")]
        {
            readings.record(topic, payload.as_bytes(), || None, 7)?;
        }
        assert_eq!(waiting(&readings)?, [("a/x".to_owned(), 1, 215, 1), ("a/y".into(), 1, -30, 1)]);
        drop(readings);

        let readings = open(dir.path(), RULES)?;
        take(&readings, "a/x", 1)?;
        assert_eq!(waiting(&readings)?, [("a/y".to_owned(), 1, -30, 1), ("a/x".into(), 2, 220, 1)]);
        // The fourth found no place; its number is gone, so that the ledger shows that one is missing.
        readings.record("a/x", b"24", || None, 7)?;
        take(&readings, "a/x", 2)?;
        assert_eq!(waiting(&readings)?.last(), Some(&("a/x".into(), 4, 240, 1)));
        // A device that lost its folder goes on where the ledger is.
        readings.record("a/z", b"1", || Some(70), 7)?;
        assert_eq!(waiting(&readings)?.last(), Some(&("a/z".into(), 71, 10, 1)));
        Ok(())
    }

    #[test]
    fn a_message_of_many_readings_is_one_transaction() -> Result<()> {
        const RULES: &str = "record_queue = 3000\n[[record]]\nfilter = 'a'\ninput = { format = 'senml_json' }";
        let dir = tempfile::tempdir()?;
        let readings = open(dir.path(), RULES)?;
        let records: Vec<String> =
            (0..4000).map(|at| format!("{{\"n\":\"x\",\"v\":{at},\"t\":1700000000.{at:04}}}")).collect();
        readings.record("a", format!("[{}]", records.join(",")).as_bytes(), || None, 1_700_000_001_000)?;
        assert_eq!(readings.store.readings_waiting()?, 3000);
        assert_eq!(waiting(&readings)?, [("a".to_owned(), 1, 0, 0)]);
        take(&readings, "a", 1)?;
        readings.record("a", b"[{\"n\":\"x\",\"v\":7}]", || None, 1_700_000_002_000)?;
        assert_eq!(readings.store.readings_waiting()?, 3000);
        let last: i64 =
            readings.store.read(|db| db.query_row("SELECT max(sequence) FROM reading", [], |row| row.get(0)))?;
        assert_eq!(last, 4001, "numbers of what found no place are used up");
        Ok(())
    }
}
