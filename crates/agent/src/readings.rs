//! Readings that go to the ledger (`record = "chain"` of a quality rule, or `[[record]]`, in agent.toml): from a published
//! payload to a queue on disk, and from there, oldest first, to the control plane, which signs and submits them.
//!
//! A reading is on disk before its publisher has an acknowledgement, with the sequence number that it will have on the
//! ledger, and leaves the queue in the transaction that stores its record. So it is written once, whatever is killed in
//! between.
//! A full queue refuses the newest: the message is published all the same, a warning is logged, and the sequence number
//! that it would have had is missing on the ledger.

use std::sync::Arc;

use anyhow::Result;
use sealcast_agent_core::session;
use tokio::sync::Notify;
use tracing::warn;

use super::{series::SeriesNews, store::Store};

/// See the module.
pub struct Readings {
    store: Arc<Store>,
    /// Most that wait.
    most: u64,
    news: Notify,
    series: Arc<SeriesNews>,
}

impl Readings {
    /// With what the queue holds. At most `most` readings wait, and a series is looked at when it has `every` messages more.
    pub fn new(store: Arc<Store>, most: u64, every: u64) -> Self {
        Self { store, most, news: Notify::new(), series: Arc::new(SeriesNews::new(every)) }
    }

    /// What is new of the series of what this device sends.
    pub fn series(&self) -> &Arc<SeriesNews> {
        &self.series
    }

    /// Makes the writes of one step durable, readings for the ledger among them. A reading that finds no room in the queue is
    /// told, and does not hold up the message that it came with.
    ///
    /// # Errors
    /// The disk failed: the message must not go out, as its reading would be missing on the ledger.
    pub fn commit(&self, writes: &[session::Write]) -> Result<()> {
        for (topic, reason) in self.store.commit_session(writes, self.most)? {
            warn!(%topic, "published, but not recorded on the ledger: {reason}");
        }
        if writes.iter().any(|write| matches!(write, session::Write::Readings { .. })) {
            self.news.notify_one();
        }
        self.series.note(writes);
        Ok(())
    }

    /// Resolves when something was queued since the last call.
    pub async fn news(&self) {
        self.news.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use sealcast_agent_core::{RecordRules, control};

    use super::*;

    /// The queue of a folder, and what goes into it.
    fn open(dir: &std::path::Path, text: &str) -> Result<(Readings, RecordRules)> {
        let config = toml::from_str::<crate::config::AgentFile>(text)?.validate()?;
        Ok((Readings::new(Arc::new(Store::create(dir)?), config.record_queue, 1), config.record))
    }

    /// A message goes out, with what has to be written before.
    fn publish(of: &(Readings, RecordRules), topic: &str, payload: &[u8], last: u64, now_ms: u64) -> Result<()> {
        let writes: Vec<_> = session::Write::readings(&of.1, topic, payload, last, now_ms).into_iter().collect();
        of.0.commit(&writes)
    }

    fn waiting((readings, _): &(Readings, RecordRules)) -> Result<Vec<(String, u64, i128, u8)>> {
        let oldest = readings.store.oldest_readings()?;
        Ok(oldest.into_iter().map(|q| (q.topic.to_string(), q.sequence, q.value, q.decimals)).collect())
    }

    /// Its record is on disk.
    fn take((readings, _): &(Readings, RecordRules), topic: &str, sequence: u64) -> Result<()> {
        Ok(readings.store.commit(&[control::Write::ReadingOnLedger { topic: topic.parse()?, sequence }])?)
    }

    #[test]
    fn the_queue_keeps_order_and_numbers_across_restarts_and_refuses_the_newest() -> Result<()> {
        const RULES: &str = "record_queue = 3\n[[record]]\nfilter = 'a/#'\ndecimals = 1";
        let dir = tempfile::tempdir()?;
        let readings = open(dir.path(), RULES)?;
        for (topic, payload) in
            [("a/x", "21.46"), ("b", "1"), ("a/x", "warm"), ("a/y", "-3"), ("a/x", " 22 "), ("a/x", "23")]
        {
            publish(&readings, topic, payload.as_bytes(), 0, 7)?;
        }
        assert_eq!(waiting(&readings)?, [("a/x".to_owned(), 1, 215, 1), ("a/y".into(), 1, -30, 1)]);
        drop(readings);

        let readings = open(dir.path(), RULES)?;
        take(&readings, "a/x", 1)?;
        assert_eq!(waiting(&readings)?, [("a/y".to_owned(), 1, -30, 1), ("a/x".into(), 2, 220, 1)]);
        // The fourth found no place; its number is gone, so that the ledger shows that one is missing.
        publish(&readings, "a/x", b"24", 0, 7)?;
        take(&readings, "a/x", 2)?;
        assert_eq!(waiting(&readings)?.last(), Some(&("a/x".into(), 4, 240, 1)));
        // A device that lost its folder goes on where the ledger is.
        publish(&readings, "a/z", b"1", 70, 7)?;
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
        publish(&readings, "a", format!("[{}]", records.join(",")).as_bytes(), 0, 1_700_000_001_000)?;
        assert_eq!(readings.0.store.readings_waiting()?, 3000);
        assert_eq!(waiting(&readings)?, [("a".to_owned(), 1, 0, 0)]);
        take(&readings, "a", 1)?;
        publish(&readings, "a", b"[{\"n\":\"x\",\"v\":7}]", 0, 1_700_000_002_000)?;
        assert_eq!(readings.0.store.readings_waiting()?, 3000);
        let last: i64 =
            readings.0.store.read(|db| db.query_row("SELECT max(sequence) FROM reading", [], |row| row.get(0)))?;
        assert_eq!(last, 4001, "numbers of what found no place are used up");
        Ok(())
    }
}
