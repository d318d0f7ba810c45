//! The writes of the clients' sessions, and the queue of readings for the ledger.

use std::sync::PoisonError;

use anyhow::{Context as _, Result, anyhow};
use rusqlite::{Connection, OptionalExtension as _, params};
use sealcast_agent_core::{Retained, RetainedTopics, control::QueuedReading, session::Write};
use sealcast_ledger::ReadingTopic;
use sealcast_node::files::blocking;
use sealcast_reading::Decimal;
use sealcast_seal::{Changes, Row};

use super::{Store, retained_topics, series, together::NotQueued};

/// Topics whose readings this device numbers.
const MAX_TOPICS: u64 = 4096;

impl Store {
    /// Makes the writes of a step durable, all or none; what is remembered of values is not among them. They may be there
    /// already, from a try that seemed to fail. At most `most` readings wait for the ledger: those beyond are not kept, and
    /// told.
    pub fn commit_session(&self, writes: &[Write], most: u64) -> Result<Vec<NotQueued>> {
        let answer = self.together.add(writes, most);
        blocking(|| {
            let _turn = self.together.turn.lock().unwrap_or_else(PoisonError::into_inner);
            // Whoever had the turn before has taken these along, or they are among those that wait now.
            answer.try_recv().or_else(|_| {
                self.commit_waiting();
                answer.try_recv()
            })
        })
        .context("a write was lost")?
        .map_err(|error| anyhow!("{error}"))
    }

    /// Writes what all sessions wait for, and tells each what became of it.
    fn commit_waiting(&self) {
        let waiting = self.together.take();
        let outcome = self.write(|db| {
            waiting.iter().map(|step| write_step(db, &step.writes, step.most)).collect::<rusqlite::Result<Vec<_>>>()
        });
        for step in &waiting {
            self.settle_retained(&step.writes, outcome.is_ok());
        }
        // Nobody is told who has given up.
        match outcome {
            Ok(all) => waiting.into_iter().zip(all).for_each(|(step, refused)| drop(step.answer.send(Ok(refused)))),
            Err(error) => waiting.into_iter().for_each(|step| drop(step.answer.send(Err(format!("{error:#}"))))),
        }
    }

    /// Counts the topics of retained messages as they are on disk. A write that failed may be there all the same; where the
    /// disk cannot be read either, the count stays as if the write had succeeded.
    fn settle_retained(&self, writes: &[Write], written: bool) {
        let messages =
            writes.iter().filter_map(|write| if let Write::Retained(kept) = write { Some(kept) } else { None });
        for Retained { topic, payload, .. } in messages {
            let on_disk = if written { Ok(!payload.is_empty()) } else { self.has_retained(topic) };
            if let Ok(on_disk) = on_disk {
                self.retained_topics().settle(topic, on_disk);
            }
        }
    }

    /// Counts them anew, after some were forgotten, or may have been. Where the disk cannot be read, the count stays.
    pub(super) fn count_retained(&self) {
        if let Ok(topics) = self.read(retained_topics) {
            *self.retained_topics() = RetainedTopics::new(topics);
        }
    }

    fn has_retained(&self, topic: &str) -> Result<bool> {
        self.read(|db| {
            db.prepare_cached("SELECT EXISTS (SELECT 1 FROM retained WHERE topic = ?1)")?
                .query_row([topic], |row| row.get(0))
        })
    }

    /// How many readings wait.
    pub fn readings_waiting(&self) -> Result<u64> {
        self.read(waiting)
    }

    /// The oldest waiting reading of each topic, oldest first.
    pub fn oldest_readings(&self) -> Result<Vec<QueuedReading>> {
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

/// Makes the writes of one step. At most `most` readings wait for the ledger: those beyond are not kept, and told.
fn write_step(db: &Connection, writes: &[Write], most: u64) -> rusqlite::Result<Vec<NotQueued>> {
    let mut not_queued = Vec::new();
    for write in writes {
        match write {
            Write::Client { id, changes, seen_ms } => save_client(db, id, changes, *seen_ms)?,
            Write::Subscriptions { id, filters } => save_subscriptions(db, id, filters)?,
            Write::Retained(message) => keep_retained(db, message)?,
            Write::Readings { topic, values, last } => {
                let reason = queue_readings(db, topic, values, *last, most)?;
                not_queued.extend(reason.map(|reason| (topic.clone(), reason)));
            }
            Write::Sent { group, message } => series::append(db, *group, message)?,
            Write::Values => {}
        }
    }
    Ok(not_queued)
}

/// Saves that a local client was here, and what changed of its replay windows.
fn save_client(db: &Connection, client: &str, changes: &Changes, seen_ms: u64) -> rusqlite::Result<()> {
    db.execute(
        "INSERT OR REPLACE INTO client (client, seen_ms) VALUES (?1, ?2)",
        params![client, seen_ms.cast_signed()],
    )?;
    if changes.replace_all {
        db.execute("DELETE FROM window WHERE client = ?1", [client])?;
    }
    for Row { key, value } in &changes.rows {
        match value {
            Some(value) => db.execute(
                "INSERT OR REPLACE INTO window (client, key, value) VALUES (?1, ?2, ?3)",
                params![client, key, value],
            )?,
            None => db.execute("DELETE FROM window WHERE client = ?1 AND key = ?2", params![client, key])?,
        };
    }
    Ok(())
}

/// Saves what a local client is subscribed to.
fn save_subscriptions(db: &Connection, client: &str, filters: &[String]) -> rusqlite::Result<()> {
    db.execute("DELETE FROM subscription WHERE client = ?1", [client])?;
    let mut insert = db.prepare_cached("INSERT INTO subscription (client, filter) VALUES (?1, ?2)")?;
    filters.iter().try_for_each(|filter| insert.execute([client, filter]).map(drop))
}

/// Keeps a retained message of this device's clients; an empty payload forgets it, as the broker does.
fn keep_retained(db: &Connection, message: &Retained) -> rusqlite::Result<()> {
    if message.payload.is_empty() {
        db.execute("DELETE FROM retained WHERE topic = ?1", [&message.topic])?;
    } else {
        db.execute(
            "INSERT OR REPLACE INTO retained (topic, time_ms, props, payload) VALUES (?1, ?2, ?3, ?4)",
            params![message.topic, message.time_ms.cast_signed(), message.props, *message.payload],
        )?;
    }
    Ok(())
}

/// Gives each reading the next sequence number of its topic and keeps it, if there are not `most` already. The number is used
/// up either way. Tells why the last that was not kept was not.
fn queue_readings(
    db: &Connection,
    topic: &ReadingTopic,
    values: &[(Decimal, u64)],
    last: u64,
    most: u64,
) -> rusqlite::Result<Option<String>> {
    let mut left = waiting(db)?;
    let mut refused = None;
    for (value, time_ms) in values {
        match queue_reading(db, topic.as_str(), *value, *time_ms, last, left, most)? {
            Ok(()) => left += 1,
            Err(reason) => refused = Some(reason),
        }
    }
    Ok(refused)
}

fn queue_reading(
    db: &Connection,
    topic: &str,
    value: Decimal,
    time_ms: u64,
    last: u64,
    waiting: u64,
    most: u64,
) -> rusqlite::Result<Result<(), String>> {
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
    let values =
        params![topic, time_ms.cast_signed(), sequence.cast_signed(), value.mantissa().to_be_bytes(), value.decimals()];
    db.prepare_cached("INSERT INTO reading (topic, time_ms, sequence, value, decimals) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(values)?;
    Ok(Ok(()))
}

fn waiting(db: &Connection) -> rusqlite::Result<u64> {
    db.query_row("SELECT count(*) FROM reading", [], |row| row.get::<_, i64>(0)).map(i64::cast_unsigned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(client: &str, bytes: usize) -> Write {
        let row = Row { key: b"k".to_vec(), value: Some(vec![7; bytes]) };
        Write::Client { id: client.into(), changes: Changes { replace_all: false, rows: vec![row] }, seen_ms: 1 }
    }

    #[test]
    fn steps_that_wait_are_written_at_once_and_fail_at_once() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let store = Store::create(dir.path())?;
        let clients = ["pump", "valve", "door"];
        let answers = clients.map(|client| store.together.add(&[window(client, 9)], 0));
        assert!(answers.iter().all(|answer| answer.try_recv().is_err()), "nobody had the turn yet");
        assert!(store.commit_session(&[window("fan", 9)], 0)?.is_empty(), "and this one takes them along");
        assert!(answers.iter().all(|answer| matches!(answer.try_recv(), Ok(Ok(refused)) if refused.is_empty())));
        for client in clients {
            assert!(store.client(client)?.is_some_and(|client| client.windows.len() == 1), "{client}");
        }

        store.limit_pages(1)?;
        let answers = clients.map(|client| store.together.add(&[window(client, 100_000)], 0));
        assert!(store.commit_session(&[window("fan", 9)], 0).is_err());
        assert!(answers.iter().all(|answer| matches!(answer.try_recv(), Ok(Err(_)))));
        assert!(store.is_failing());
        Ok(())
    }
}
