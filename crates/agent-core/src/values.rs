//! Values between the MQTT frames and the seal: at the publishing side decode, check, report on change, convert; at the
//! receiving side convert, verdict, fail-safe. A topic that nothing is said about passes untouched.
//!
//! [`Values`] is fed with what clients publish ([`Values::publish`]) and get ([`Values::arrive`]), with what the agent's own
//! connection brings ([`Values::brought`]), and with the time. After each call look at
//! - [`Values::poll_output`], for the agent's local clients and the log,
//! - [`Values::poll_timeout`], which may have come nearer.
//!
//! **Whoever judged commits before anything that it led to leaves.** What the checks and the reports remember is in
//! [`Values::take_writes`]: until that is on disk, neither the message that was judged nor an answer to it may be written to a
//! socket. If somebody else has taken it along, that write must have ended. What the agent itself publishes comes out of
//! [`Values::take_due`] as the effects of such a [`Step`], so it can be had only with the writes that it depends on.
//! A step whose writes failed goes back by [`Values::put_back`], before the next one is taken: then nothing is lost, and a later
//! success writes all of it.

mod alarm;
mod archive;
mod arrive;
mod fail_safes;
mod findings;
mod guard;
mod handed;
mod marks;
mod measured;
mod output;
mod own;
mod publish;
mod recent;
mod reports;
mod restored;
mod retry;
mod rules;
mod shared;
#[cfg(test)]
mod tests;
mod waiting;
mod watch;
mod will;
mod writes;

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use bytes::Bytes;
use sealcast_identity::DeviceId;
use sealcast_mqtt::Properties;
use sealcast_quality::{Archived, Archiver, Checker, FailSafeOutput, SilenceEvent};
use sealcast_reading::ConfigError;
use sealcast_seal::Opener;
use tracing::{debug, error, info, warn};

#[cfg(test)]
pub(crate) use self::marks::CHECK;
pub(crate) use self::marks::{SENDER, is_notable};
pub use self::{
    alarm::{Alarm, Kind as AlarmKind},
    archive::Archives,
    arrive::{Arrived, Deliver, Incoming},
    marks::{DELETED, MAX_CHECK_BYTES},
    measured::{Measured, MeasuredError, measured},
    output::{Local, Output},
    own::{Due, Own, Unsent},
    publish::{Blocked, Judged},
    restored::Restored,
    rules::{Flagged, Format, FormatError, Receive, ValueRules},
    shared::SharedReading,
    waiting::Brought,
    will::Will,
    writes::{Amount, ArchiveMessage, ArchiveOnDisk, ValueRow, ValueWrite},
};
use self::{
    alarm::{Alarms, Finding},
    fail_safes::FailSafes,
    guard::Said,
    own::What,
    recent::Recent,
    reports::{OWN_CONNECTION, Reports},
    retry::Retry,
    shared::Shared,
    waiting::Waiting,
    writes::{Unwritten, kind},
};
use crate::{Keyring, Step};

/// Longest reason in an alarm, in characters.
const MAX_REASON: usize = 1024;

/// The values of an agent's topics.
pub struct Values {
    device: DeviceId,
    rules: Arc<ValueRules>,
    plain: Arc<Format>,
    checker: Checker,
    reports: Reports,
    archiver: Archiver,
    archives: Archives,
    alarms: Alarms,
    fail_safes: FailSafes,
    opener: Opener,
    waiting: Waiting,
    recent: Recent,
    /// Topics of which the log has said that a message came without a value.
    empty: BTreeSet<String>,
    /// Frames whose flagged values were diverted: each local client has its own copy of the same message.
    diverted: VecDeque<u64>,
    shared: Shared,
    clients: u64,
    outputs: VecDeque<Output>,
    dirty: bool,
    unwritten: Unwritten,
    /// Of what the agent itself publishes, and of writes that failed.
    retry: Retry,
}

impl Values {
    /// With what the last run stored, and what it left for archives.
    ///
    /// # Errors
    /// None that a configuration could cause.
    pub fn new(
        device: DeviceId,
        rules: Arc<ValueRules>,
        rows: &[ValueRow],
        archive: ArchiveOnDisk,
        now_ms: u64,
    ) -> Result<Self, ConfigError> {
        let of = |wanted: u8| writes::of(rows, wanted);
        let quality = rules.quality.clone();
        // Without its past a check is blind for a few readings; an agent that does not start is blind for good.
        let checker = Checker::restore(quality.clone(), of(kind::CHECK), now_ms).unwrap_or_else(|damaged| {
            error!("{damaged}; the checks start without their history");
            Checker::new(quality.clone(), now_ms)
        });
        let archiver = Archiver::restore(quality.clone(), of(kind::ARCHIVE)).unwrap_or_else(|damaged| {
            error!("{damaged}; archives start without their history");
            Archiver::new(quality.clone())
        });
        let mut alarms = Alarms::default();
        for (_, bytes) in of(kind::ALARM) {
            if let Ok(alarm) = serde_json::from_slice::<Alarm>(bytes) {
                let topic = alarm.topic.clone();
                alarms.restore(alarm);
                // Without rules no good value would ever end it.
                if quality.find(&topic).is_none() && rules.publish(&topic).is_none() {
                    alarms.clear(&topic, now_ms);
                }
            }
        }
        Ok(Self {
            device,
            plain: Arc::new(Format::plain()?),
            checker,
            reports: reports::restore(&quality, of(kind::REPORT)),
            archiver,
            archives: Archives::new(archive)?,
            alarms,
            fail_safes: FailSafes::new(quality, now_ms),
            opener: Opener::default(),
            waiting: Waiting::default(),
            recent: Recent::default(),
            empty: BTreeSet::new(),
            diverted: VecDeque::new(),
            shared: Shared::default(),
            clients: 0,
            outputs: VecDeque::new(),
            dirty: false,
            unwritten: Unwritten::default(),
            retry: Retry::default(),
            rules,
        })
    }

    /// What is configured.
    pub fn rules(&self) -> &Arc<ValueRules> {
        &self.rules
    }

    /// What was published since the last call, of topics that the hub's console may show.
    pub fn take_shared(&mut self) -> Vec<SharedReading> {
        self.shared.take()
    }

    /// Names a client's connection.
    pub fn next_client(&mut self) -> u64 {
        self.clients += 1;
        self.clients
    }

    /// A message that was to be sent was not.
    pub fn not_sent(&mut self, topic: &str) {
        self.reports.unsettle(topic);
    }

    /// A client's connection ended in the middle: what it carried last may not have arrived.
    pub fn cut(&mut self, client: u64) {
        self.reports.cut(client);
    }

    /// The agent's own connection to the broker is new: what the one before carried last may not have arrived.
    pub fn link_up(&mut self) {
        self.alarms.tell_again();
        self.reports.cut(OWN_CONNECTION);
        self.archives.link_up();
        self.retry.end();
    }

    /// The broker refused something that the agent itself published.
    pub fn link_refused(&mut self) {
        self.reports.cut(OWN_CONNECTION);
    }

    /// The alarms that stand.
    pub fn alarms(&self) -> impl Iterator<Item = &Alarm> {
        self.alarms.standing()
    }

    /// The fail-safe values that stand now, for a client that has just subscribed.
    pub fn standing(&self) -> Vec<Local> {
        self.fail_safes.standing()
    }

    /// What follows at once, one after the other.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Values::handle_timeout`] is to be called, and then [`Values::take_due`], Unix ms.
    pub fn poll_timeout(&self) -> Option<u64> {
        let engines = [self.checker.poll_timeout(), self.reports.poll_timeout(), self.archiver.poll_timeout()];
        let others = [self.fail_safes.poll_timeout(), self.waiting.poll_timeout(), self.archives.poll_timeout()];
        let undone = (self.reports.is_late() || !self.unwritten.is_empty()).then_some(0);
        let retried = [undone, self.alarms.poll_timeout()].map(|due_ms| Some(self.retry.not_before(due_ms?)));
        engines.into_iter().chain(others).chain(retried).flatten().min()
    }

    /// Looks for what has become due: silence, fail-safes, points of archives, reports, messages that wait for a key.
    pub fn handle_timeout(&mut self, keyring: &Keyring, now_ms: u64) {
        self.try_waiting(keyring, now_ms);
        self.dirty |= self.archiver.poll_timeout().is_some_and(|due_ms| due_ms <= now_ms);
        self.archiver.handle_timeout(now_ms);
        self.checker.handle_timeout(now_ms);
        self.note_events(now_ms);
        for (topic, output) in self.fail_safes.handle_timeout(now_ms) {
            self.act(&topic, Some(output));
        }
        self.dirty |= self.reports.handle_timeout(now_ms);
    }

    /// As [`Values::take_writes`]; once they are on disk, the agent is to publish what follows. Each of it is answered by
    /// [`Values::sent`] or [`Values::not_sent_own`] before the next call.
    pub fn take_due(&mut self, now_ms: u64) -> Step<ValueWrite, Due> {
        if self.retry.is_too_early(now_ms) {
            return self.take_writes();
        }
        self.retry.end();
        let reports = self.reports.take_late().into_iter();
        let reports = reports.map(|(topic, message)| Due { topic, message, what: What::Report });
        let due = reports.chain(self.alarms.due(now_ms).into_iter().map(|alarm| self.tell(alarm))).collect();
        Step::new(self.writes(), due)
    }

    /// What was judged since the last call, and what failed before: to be written before anything that it led to leaves.
    pub fn take_writes(&mut self) -> Step<ValueWrite, Due> {
        Step::new(self.writes(), Vec::new())
    }

    /// The writes of a step failed: they go with the next ones. Nothing of it was published.
    pub fn put_back(&mut self, step: Step<ValueWrite, Due>, now_ms: u64) {
        let (writes, due) = step.into_parts();
        self.unwritten.put_back(writes);
        for due in due {
            // An alarm stays due until it was told.
            if let What::Report = due.what {
                self.reports.put_back(due.topic, due.message);
            }
        }
        self.retry.begin(now_ms);
    }

    /// A message of the agent's own was handed to its connection.
    pub fn sent(&mut self, due: Due, now_ms: u64) {
        if let What::Alarm(alarm) = due.what {
            self.alarms.told(&alarm, now_ms);
        }
    }

    /// A message of the agent's own was not.
    pub fn not_sent_own(&mut self, due: Due, error: &Unsent, now_ms: u64) {
        let Due { topic, message, what } = due;
        match (what, error) {
            (What::Report, Unsent::Refused(why)) => {
                warn!(code = %why.cause, topic, reason = why.text, "a reading that waited for min_interval_ms was not sent");
                self.reports.forget_own(&topic);
                return;
            }
            (What::Report, Unsent::NotYet(why) | Unsent::NoKeyYet(why)) => {
                debug!(code = %why.cause, topic, reason = why.text, "a reading that waited for min_interval_ms has to wait longer");
                self.reports.put_back(topic, message);
            }
            (What::Alarm(_), error) => debug!(topic, %error, "an alarm waits"),
        }
        self.retry.begin(now_ms);
    }

    /// The archives on their way from the disk to the broker.
    pub fn archives(&mut self) -> &mut Archives {
        &mut self.archives
    }

    /// The cycles that were learnt and what report on change has saved, to the log.
    pub fn log_savings(&self) {
        let reporter = &self.reports.reporter;
        for (topic, name, saved) in reporter.saved() {
            let period_ms = reporter.cycle(topic, name).and_then(sealcast_quality::Cycle::period_ms);
            let percent = (saved.sent_part() * 1000.0).round() / 10.0;
            info!(topic, name, period_ms, seen = saved.seen, sent = saved.sent, percent, "report on change");
        }
    }

    fn writes(&mut self) -> Vec<ValueWrite> {
        if !std::mem::take(&mut self.dirty) && self.unwritten.is_empty() {
            return Vec::new();
        }
        let row = |kind| move |row: sealcast_quality::Row| ValueRow { kind, key: row.key.into(), value: row.value };
        let mut rows: Vec<ValueRow> = self.checker.changes().into_iter().map(row(kind::CHECK)).collect();
        rows.extend(self.reports.reporter.changes().into_iter().map(row(kind::REPORT)));
        let alarm = |(key, value)| ValueRow { kind: kind::ALARM, key, value };
        rows.extend(self.alarms.changes().into_iter().map(alarm));
        rows.extend(self.archiver.changes().into_iter().map(row(kind::ARCHIVE)));
        let points: Vec<Archived> = std::iter::from_fn(|| self.archiver.poll_archived()).collect();
        let messages = self.archives.messages(&self.rules, &points);
        self.unwritten.take_with(rows, messages)
    }

    /// The message of an alarm, or of its end.
    fn tell(&self, alarm: Alarm) -> Due {
        let topic = self.rules.alarm_topic(self.device.as_str(), &alarm.topic);
        let payload = Bytes::from(serde_json::to_vec(&alarm).unwrap_or_default());
        let mut props = Properties::new();
        marks::add(&mut props, marks::ALARM, "1");
        marks::set_type(&mut props, "application/json");
        let props = props.encode().unwrap_or_default();
        let message = Own { retain: alarm.over_ms.is_none(), props, payload, recorded: None };
        Due { topic, message, what: What::Alarm(Box::new(alarm)) }
    }

    fn raise(&mut self, topic: &str, kind: AlarmKind, reason: &str, checks: Vec<Finding>, now_ms: u64) {
        let reason = reason.chars().take(MAX_REASON).collect();
        self.alarms.raise(&self.device, topic, kind, reason, checks, now_ms);
        self.dirty = true;
    }

    /// Silence and its end.
    fn note_events(&mut self, now_ms: u64) {
        while let Some(event) = self.checker.poll_event() {
            match &event {
                SilenceEvent::Silent { topic, .. } => {
                    warn!("{event}");
                    self.raise(topic, AlarmKind::Silent, &event.to_string(), Vec::new(), now_ms);
                }
                SilenceEvent::Heard { .. } => info!("{event}"),
            }
            self.dirty = true;
        }
    }

    /// A value that the application does not get.
    fn bad(&mut self, topic: &str, said: Said<'_>, now_ms: u64) {
        let output = self.fail_safes.bad(topic, said, now_ms);
        self.act(topic, output);
    }

    fn act(&mut self, topic: &str, output: Option<FailSafeOutput>) {
        let Some(output) = output else { return };
        if let FailSafeOutput::Publish { fallback, .. } = &output {
            self.outputs.extend(fail_safes::message(topic, fallback).map(Output::Local));
        }
        self.outputs.push_back(Output::FailSafe { topic: topic.to_owned(), output });
    }
}
