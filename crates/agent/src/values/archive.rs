//! From the disk to the broker.

use std::collections::BTreeMap;

use anyhow::Result;
use rusqlite::params;
use sealcast_agent_core::values::{Amount, ArchiveMessage, ArchiveOnDisk, Archives, Own};
use sealcast_node::Answer;
use tokio::sync::oneshot::error::TryRecvError;
use tracing::error;

use super::{Values, outlet::Outlet};
use crate::store::Store;

/// Messages that are read at a time.
const BATCH: usize = 64;
/// Answers of the broker are looked for so often.
const LOOK_MS: u64 = 1_000;

/// What the broker will say of the messages that it was handed, by their ids on disk.
#[derive(Default)]
pub(super) struct Answers {
    waiting: BTreeMap<i64, Answer>,
    look_ms: u64,
}

impl Answers {
    /// When they are looked at, Unix ms.
    pub(super) fn poll_timeout(&self) -> Option<u64> {
        (!self.waiting.is_empty()).then_some(self.look_ms)
    }

    fn take(&mut self, now_ms: u64) -> Vec<(i64, Option<Result<(), String>>)> {
        self.look_ms = now_ms.saturating_add(LOOK_MS);
        let mut answers = Vec::new();
        self.waiting.retain(|id, answer| {
            let answer = match answer.try_recv() {
                Err(TryRecvError::Empty) => return true,
                // The connection was cut.
                Err(TryRecvError::Closed) => None,
                Ok(answer) => Some(answer),
            };
            answers.push((*id, answer));
            false
        });
        answers
    }
}

impl Values {
    /// Publishes what waits, and forgets what the broker has taken.
    pub(super) fn send_archives(&self, answers: &mut Answers, out: &Outlet, now_ms: u64) {
        for (id, answer) in answers.take(now_ms) {
            self.with_archives(|archives| archives.answered(id, answer, now_ms));
        }
        if let Err(error) = self.try_send_archives(answers, out, now_ms) {
            if !self.store.is_failing() {
                error!("{error:#}");
            }
            self.with_archives(|archives| archives.failed(now_ms));
        }
    }

    fn try_send_archives(&self, answers: &mut Answers, out: &Outlet, now_ms: u64) -> Result<()> {
        let taken = self.with_archives(|archives| archives.take_off());
        if !taken.is_empty() {
            let amount = self.store.forget_archive(&taken)?;
            self.with_archives(|archives| archives.taken_off(&taken, amount));
        }
        while let Some(last) = self.with_archives(|archives| archives.next_after(now_ms)) {
            let messages = self.store.archive_after(last, BATCH)?;
            let full = messages.len() >= BATCH;
            for ArchiveMessage { id, topic, props, payload } in messages {
                if !self.with_archives(|archives| archives.wants(id, &topic)) {
                    continue;
                }
                let bytes = payload.len();
                let mut own = Own { retain: false, props, payload: payload.into(), recorded: None };
                match self.send_told(out, &topic, &mut own) {
                    Ok(answer) => {
                        answers.waiting.insert(id, answer);
                        self.with_archives(|archives| archives.handed(id, topic, bytes));
                    }
                    Err(error) => {
                        out.note_unsent(&topic, &error);
                        if !self.with_archives(|archives| archives.unsent(id, &topic, &error, now_ms)) {
                            return Ok(());
                        }
                    }
                }
            }
            if !full {
                break;
            }
        }
        Ok(())
    }

    fn with_archives<T>(&self, call: impl FnOnce(&mut Archives) -> T) -> T {
        self.with(|values| call(values.archives()))
    }
}

impl Store {
    /// What the last run left.
    pub(crate) fn archive(&self) -> Result<ArchiveOnDisk> {
        self.read(|db| {
            let waiting = "SELECT count(*), coalesce(sum(length(payload)), 0) FROM archive";
            let waiting = db.query_row(waiting, [], |row| {
                let (messages, bytes): (i64, i64) = (row.get(0)?, row.get(1)?);
                Ok(Amount { messages: messages.cast_unsigned(), bytes: bytes.cast_unsigned() })
            })?;
            let last_id = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'archive'";
            let last_id = db.query_row(last_id, [], |row| row.get(0))?;
            Ok(ArchiveOnDisk { waiting, last_id })
        })
    }

    pub(crate) fn archive_after(&self, id: i64, most: usize) -> Result<Vec<ArchiveMessage>> {
        self.read(|db| {
            let mut query =
                db.prepare_cached("SELECT id, topic, props, payload FROM archive WHERE id > ?1 ORDER BY id LIMIT ?2")?;
            let rows = query.query_map(params![id, most as i64], |row| {
                let props: Vec<u8> = row.get(2)?;
                Ok(ArchiveMessage { id: row.get(0)?, topic: row.get(1)?, props: props.into(), payload: row.get(3)? })
            })?;
            rows.collect()
        })
    }

    /// Tells how much it was.
    pub(crate) fn forget_archive(&self, ids: &[i64]) -> Result<Amount> {
        self.write(|db| {
            let mut query = db.prepare_cached("DELETE FROM archive WHERE id = ?1 RETURNING length(payload)")?;
            let mut forgotten = Amount::default();
            for id in ids {
                for bytes in query.query_map([id], |row| row.get::<_, i64>(0))? {
                    forgotten.add(Amount::of_one(bytes?.cast_unsigned()));
                }
            }
            Ok(forgotten)
        })
    }
}
