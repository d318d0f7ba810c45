//! From the disk to the broker.

use anyhow::Result;
use rusqlite::params;
use sealcast_agent_core::values::{ArchiveMessage, Own, Unsent};
use tracing::{error, warn};

use super::{Values, handed::Handed, outlet::Outlet};
use crate::store::Store;

/// Messages that are read at a time.
const BATCH: usize = 64;
/// What could not be sent is tried again after so long.
const RETRY_MS: u64 = 1_000;

/// What of the archives was handed to the agent's own connection.
#[derive(Default)]
pub(super) struct Archives {
    handed: Handed,
    retry_ms: Option<u64>,
}

impl Archives {
    /// When answers of the broker are looked for, or something is handed over again, Unix ms.
    pub(super) fn poll_timeout(&self) -> Option<u64> {
        [self.handed.poll_timeout(), self.retry_ms].into_iter().flatten().min()
    }
}

impl Values {
    /// Publishes what waits, and forgets what the broker has taken.
    pub(super) fn send_archives(&self, archives: &mut Archives, out: &Outlet, now_ms: u64) {
        archives.retry_ms = None;
        if self.with(|values| values.archive_waiting()) == 0 {
            return;
        }
        let again = self.try_send_archives(&mut archives.handed, out, now_ms).unwrap_or_else(|error| {
            if !self.store.is_failing() {
                error!("{error:#}");
            }
            true
        });
        archives.retry_ms = again.then(|| now_ms.saturating_add(RETRY_MS));
    }

    /// `true` if something must be tried again.
    fn try_send_archives(&self, handed: &mut Handed, out: &Outlet, now_ms: u64) -> Result<bool> {
        let (taken, refused) = handed.take_answers(now_ms);
        refused.iter().for_each(|(topic, reason)| say_refused(topic, reason));
        if let Some(first) = taken.first() {
            let forgotten = self.store.forget_archive(&taken).inspect_err(|_| handed.again(now_ms, *first))?;
            self.with(|values| values.archive_forgotten(forgotten));
        }
        while handed.has_room() {
            let messages = self.store.archive_after(handed.last(), BATCH)?;
            let full = messages.len() >= BATCH;
            for (id, ArchiveMessage { topic, props, payload }) in messages {
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
    /// How many wait.
    pub(super) fn archive_waiting(&self) -> Result<u64> {
        self.read(|db| db.query_row("SELECT count(*) FROM archive", [], |row| row.get::<_, i64>(0)))
            .map(i64::cast_unsigned)
    }

    fn archive_after(&self, id: i64, most: usize) -> Result<Vec<(i64, ArchiveMessage)>> {
        self.read(|db| {
            let mut query =
                db.prepare_cached("SELECT id, topic, props, payload FROM archive WHERE id > ?1 ORDER BY id LIMIT ?2")?;
            let rows = query.query_map(params![id, most as i64], |row| {
                let props: Vec<u8> = row.get(2)?;
                Ok((row.get(0)?, ArchiveMessage { topic: row.get(1)?, props: props.into(), payload: row.get(3)? }))
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
