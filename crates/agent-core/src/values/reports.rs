//! Report on change: what may be left out because the broker has the last report, and what waits for its smallest interval.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use sealcast_quality::{Decision, MAX_SERIES, Marks, Reported, Reporter, RuleSet};
use sealcast_reading::NamedReading;

use super::own::Own;

/// Most messages that wait for the smallest interval between reports.
const MAX_KEPT: usize = 1024;

/// The agent's own connection, among those that carry reports.
pub(super) const OWN_CONNECTION: u64 = u64::MAX;

/// See the module.
pub(super) struct Reports {
    pub reporter: Reporter,
    /// Topics whose last report has, as far as is known, reached the broker, and the connection that it went over.
    settled: HashMap<String, u64>,
    /// The newest message of a topic that comes too early after the last one sent.
    kept: BTreeMap<String, Own>,
    /// Topics of those whose time has come and that could not be sent yet.
    late: BTreeSet<String>,
}

impl Reports {
    pub fn new(reporter: Reporter) -> Self {
        Self { reporter, settled: HashMap::new(), kept: BTreeMap::new(), late: BTreeSet::new() }
    }

    /// A message is sent if one of its readings is to be.
    pub fn decide(
        &mut self,
        topic: &str,
        records: &[NamedReading],
        marks: Marks,
        again: bool,
        now_ms: u64,
    ) -> Decision {
        // Nobody knows whether the broker has what was sent last: in another run, over a connection that was cut, or
        // (says the client) this very message.
        let unknown = again || !self.settled.contains_key(topic);
        let mut all = Decision::Skip;
        for record in records.iter().filter(|record| !record.reading.is_empty()) {
            if unknown {
                self.reporter.forget_sent(topic, &record.name);
            }
            let reading = &record.reading;
            let reported =
                Reported { topic, name: &record.name, value: &reading.value, time_ms: reading.time_ms, marks };
            all = match (all, self.reporter.handle_reading(&reported, now_ms)) {
                (Decision::Send(cause), _) | (_, Decision::Send(cause)) => Decision::Send(cause),
                (Decision::Keep { until_ms }, _) | (_, Decision::Keep { until_ms }) => Decision::Keep { until_ms },
                (Decision::Skip, Decision::Skip) => Decision::Skip,
            };
        }
        all
    }

    /// A message is sent over this connection.
    pub fn send(&mut self, topic: &str, carrier: u64) {
        self.kept.remove(topic);
        self.settle(topic, carrier);
    }

    /// A message says nothing new, nor does the one that waited.
    pub fn skip(&mut self, topic: &str) {
        self.kept.remove(topic);
    }

    /// A message waits. `false` if there are too many.
    pub fn keep(&mut self, topic: &str, message: Own) -> bool {
        if self.kept.len() >= MAX_KEPT && !self.kept.contains_key(topic) {
            return false;
        }
        self.kept.insert(topic.to_owned(), message);
        self.late.remove(topic);
        true
    }

    /// What was sent last may not have arrived: the next one is sent whatever it is.
    pub fn unsettle(&mut self, topic: &str) {
        self.settled.remove(topic);
    }

    /// The same for all that this connection carried last.
    pub fn cut(&mut self, carrier: u64) {
        self.settled.retain(|_, last| *last != carrier);
    }

    /// When the next message has waited for long enough, Unix ms.
    pub fn poll_timeout(&self) -> Option<u64> {
        self.reporter.poll_timeout()
    }

    /// Whether a message waits whose time has come.
    pub fn is_late(&self) -> bool {
        !self.late.is_empty()
    }

    /// Looks for messages that have waited for long enough. `true` if there are any.
    pub fn handle_timeout(&mut self, now_ms: u64) -> bool {
        let mut found = false;
        while let Some((topic, _)) = self.reporter.poll_kept(now_ms) {
            self.late.insert(topic);
            found = true;
        }
        found
    }

    /// Those, as sent over the agent's own connection: a cut is after that.
    pub fn take_late(&mut self) -> Vec<(String, Own)> {
        let late = std::mem::take(&mut self.late);
        let kept: Vec<_> = late.into_iter().filter_map(|topic| self.kept.remove_entry(&topic)).collect();
        kept.iter().for_each(|(topic, _)| self.settle(topic, OWN_CONNECTION));
        kept
    }

    /// One of them was not sent. It waits on, unless a newer one came meanwhile.
    pub fn put_back(&mut self, topic: String, message: Own) {
        if self.forget_own(&topic) && !self.kept.contains_key(&topic) {
            self.kept.insert(topic.clone(), message);
            self.late.insert(topic);
        }
    }

    /// One of them will never be sent. `false` if a newer one has been sent meanwhile.
    pub fn forget_own(&mut self, topic: &str) -> bool {
        let newest = self.settled.get(topic) == Some(&OWN_CONNECTION);
        if newest {
            self.settled.remove(topic);
        }
        newest
    }

    fn settle(&mut self, topic: &str, carrier: u64) {
        if self.settled.len() >= MAX_SERIES && !self.settled.contains_key(topic) {
            self.settled.clear();
        }
        self.settled.insert(topic.to_owned(), carrier);
    }
}

/// Without its past, report on change sends a few readings too many.
pub(super) fn restore<'a>(quality: &Arc<RuleSet>, rows: impl Iterator<Item = (&'a str, &'a [u8])>) -> Reports {
    Reports::new(Reporter::restore(quality.clone(), rows).unwrap_or_else(|damaged| {
        tracing::error!("{damaged}; reports on change start without their history");
        Reporter::new(quality.clone())
    }))
}
