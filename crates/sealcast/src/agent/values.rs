//! Values between the MQTT frames and the seal: at the publishing side decode, check, report on change, convert; at the
//! receiving side convert, verdict, fail-safe. A topic that nothing is said about passes untouched.
//!
//! What the checks and the reports remember is on disk before anything that depends on it leaves the agent: whoever judges
//! calls [`Values::persist`] before it writes to a socket.

mod alarm;
mod archive;
mod arrive;
mod guard;
mod handed;
mod marks;
mod restored;
mod rules;
mod stored;
#[cfg(test)]
mod tests;
mod watch;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::Result;
use bytes::Bytes;
use sealcast_identity::DeviceId;
use sealcast_mqtt::{Properties, PublishRequest, RefuseCode, TopicName, WillRequest};
use sealcast_quality::{
    Action, Archived, Archiver, Checker, Decision, Event, Input, Marks, Reason, Reported, Reporter, Verdict,
};
use sealcast_reading::{Expected, Record, Special, Value};
use tokio::sync::{Notify, broadcast};
use tracing::{error, info, warn};

pub use self::{
    alarm::{Alarm, Kind as AlarmKind},
    archive::Message,
    arrive::{Arrived, Incoming},
    marks::MAX_CHECK_BYTES,
    restored::Restored,
    rules::{PublishFile, ReceiveFile, ValueRules},
    stored::{Measured, measured},
    watch::{Brought, Outlet},
};
use self::{
    alarm::{Alarms, Finding, Kind},
    archive::Outbox,
    guard::Guard,
    rules::Format,
    watch::{Own, Watch},
};
use super::store::{Store, ValueRow};

/// Topics whose last messages are remembered so that a redelivery is not judged again.
const MAX_RECENT_TOPICS: usize = 1024;
/// How many of each.
const MAX_RECENT: usize = 16;
/// Most messages that wait for the smallest interval between reports.
const MAX_KEPT: usize = 1024;
/// Most topics of which the log says that a message came without a value.
const MAX_EMPTY: usize = 1024;
/// Longest reason in an alarm, in characters.
const MAX_REASON: usize = 1024;
/// How many of the agent's own messages a local client may be behind.
const LOCAL_QUEUE: usize = 256;

/// The agent's own connection, among those that carry reports.
const OWN_CONNECTION: u64 = u64::MAX;

/// What the rows in the agent's database are.
mod kind {
    pub const CHECK: u8 = 0;
    pub const REPORT: u8 = 1;
    pub const ALARM: u8 = 2;
    pub const ARCHIVE: u8 = 3;
}

/// A message of the agent's own for its local clients.
#[derive(Debug)]
pub struct Local {
    /// Its topic.
    pub topic: TopicName,
    /// Its payload.
    pub payload: Bytes,
    /// User properties for MQTT 5 clients.
    pub properties: Vec<(&'static str, String)>,
}

/// What becomes of a message that a client publishes.
#[derive(Debug, PartialEq)]
pub enum Judged {
    /// Seal it; payload and properties are what is to be sealed.
    Send,
    /// It need not be sent now: the client is told that it has been taken.
    Acknowledge,
    /// It must not be sent.
    Blocked(Blocked),
}

/// What is sealed of a will.
#[derive(Debug, PartialEq)]
pub struct Will {
    /// The payload, converted if the topic's messages are.
    pub payload: Bytes,
    /// The encoded properties.
    pub props: Bytes,
}

/// Why a message was blocked.
#[derive(Debug, PartialEq)]
pub struct Blocked {
    /// The nearest reason code.
    pub code: RefuseCode,
    /// For the person at the device, with the numbers.
    pub reason: String,
    /// For the log: without what may be a part of the payload.
    pub summary: String,
}

/// The values of an agent's topics.
pub struct Values {
    device: DeviceId,
    rules: Arc<ValueRules>,
    plain: Format,
    store: Arc<Store>,
    state: Mutex<State>,
    /// Held while rows are being written: whoever has nothing to write still waits for what others took along.
    writing: Mutex<Unwritten>,
    wake: Notify,
    local: broadcast::Sender<Arc<Local>>,
    clients: AtomicU64,
    watch: Mutex<Watch>,
    outbox: Outbox,
}

/// What a disk that failed did not take.
#[derive(Default)]
struct Unwritten {
    rows: BTreeMap<(u8, String), Option<Vec<u8>>>,
    archive: Vec<Message>,
}

struct State {
    checker: Checker,
    reporter: Reporter,
    archiver: Archiver,
    alarms: Alarms,
    /// Topics whose last report has, as far as is known, reached the broker, and the connection that it went over.
    settled: HashMap<String, u64>,
    /// The newest message of a topic that comes too early after the last one sent.
    kept: BTreeMap<String, Own>,
    /// Topics of those whose time has come and that could not be sent yet.
    late: BTreeSet<String>,
    recent: HashMap<String, VecDeque<(u64, Option<String>)>>,
    /// Topics of which the log has said that a message came without a value.
    empty: BTreeSet<String>,
    fail_safes: BTreeMap<String, Guard>,
    /// Frames whose flagged values were diverted: each local client has its own copy of the same message.
    diverted: VecDeque<u64>,
    dirty: bool,
}

impl Values {
    /// With what the last run stored.
    pub fn new(device: DeviceId, rules: Arc<ValueRules>, store: Arc<Store>, now_ms: u64) -> Result<Self> {
        let rows = store.values()?;
        let of = |wanted: u8| {
            let rows = rows.iter().filter(move |row| row.kind == wanted);
            rows.filter_map(|row| Some((row.key.as_str(), row.value.as_deref()?)))
        };
        let quality = rules.quality.clone();
        // Without its past a check is blind for a few readings; an agent that does not start is blind for good.
        let checker = Checker::restore(quality.clone(), of(kind::CHECK), now_ms).unwrap_or_else(|damaged| {
            error!("{damaged}; the checks start without their history");
            Checker::new(quality.clone(), now_ms)
        });
        let reporter = Reporter::restore(quality.clone(), of(kind::REPORT)).unwrap_or_else(|damaged| {
            error!("{damaged}; reports on change start without their history");
            Reporter::new(quality.clone())
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
        let fail_safes = quality
            .iter()
            .filter(|rules| !rules.filter().as_str().contains(['+', '#']))
            .filter_map(|rules| Some((rules.filter().to_string(), Guard::new(rules.fail_safe()?.clone(), now_ms))))
            .collect();
        let state = State {
            checker,
            reporter,
            archiver,
            alarms,
            settled: HashMap::new(),
            kept: BTreeMap::new(),
            late: BTreeSet::new(),
            recent: HashMap::new(),
            empty: BTreeSet::new(),
            fail_safes,
            diverted: VecDeque::new(),
            dirty: false,
        };
        Ok(Self {
            device,
            rules,
            plain: Format::plain()?,
            outbox: Outbox::open(&store)?,
            store,
            state: Mutex::new(state),
            writing: Mutex::default(),
            wake: Notify::new(),
            local: broadcast::Sender::new(LOCAL_QUEUE),
            clients: AtomicU64::new(0),
            watch: Mutex::default(),
        })
    }

    /// What is configured.
    pub fn rules(&self) -> &ValueRules {
        &self.rules
    }

    /// Names a client's connection.
    pub fn next_client(&self) -> u64 {
        self.clients.fetch_add(1, Ordering::Relaxed)
    }

    /// Messages of the agent's own from now on.
    pub fn local(&self) -> broadcast::Receiver<Arc<Local>> {
        self.local.subscribe()
    }

    /// Judges what `client` publishes to a topic of a group; what is to be sealed stands in `request` afterwards. Call once
    /// for each message, and [`Self::persist`] before its consequences leave the agent.
    pub fn publish(&self, request: &mut PublishRequest, client: u64, now_ms: u64) -> Judged {
        let mut props = match marks::parse(&request.sealed_properties) {
            Ok(props) => props,
            Err(error) => return blocked(RefuseCode::PayloadFormatInvalid, error.to_string(), "malformed properties"),
        };
        // An empty retained message deletes what the broker keeps: it is no value.
        let judged = if request.retain && request.payload.is_empty() {
            Judged::Send
        } else {
            self.judge(request, &mut props, client, now_ms)
        };
        // Every value was read from the wire or is short.
        request.sealed_properties = props.encode().unwrap_or_default();
        judged
    }

    fn judge(&self, request: &mut PublishRequest, props: &mut Properties, client: u64, now_ms: u64) -> Judged {
        let topic = request.topic.as_str();
        let quality = self
            .rules
            .quality
            .find(topic)
            .filter(|rules| rules.has_checks() || rules.report().is_some() || rules.archive().is_some());
        let format = self.rules.publish(topic);
        if quality.is_none() && format.is_none() {
            return Judged::Send;
        }
        let format = format.unwrap_or(&self.plain);
        let mut state = self.state();
        let records = match format.decoder.decode(&request.payload, now_ms) {
            Ok(records) => records,
            Err(error) => return self.unreadable(&mut state, topic, error.to_string(), now_ms),
        };
        let empty = records.iter().all(|record| record.reading.is_empty());
        let hash = hash(&[&request.payload]);
        let known = if request.dup { state.recall(topic, hash) } else { None };
        let (check, marks) = match known {
            // It was judged when it came first; judged again it would be a repetition.
            Some(check) => (check, None),
            None => {
                let document = quality
                    .filter(|rules| rules.wants_document())
                    .and_then(|_| serde_json::from_slice(&request.payload).ok());
                let verdict = state.check(topic, &records, format.decoder.expects(), document.as_ref(), now_ms);
                self.note_events(&mut state, now_ms);
                if let Some(verdict) = verdict.iter().find(|verdict| verdict.action() == Action::Block) {
                    let (kind, checks) = (Kind::Blocked, Finding::of(verdict));
                    self.raise(&mut state, topic, kind, verdict.to_string(), checks, now_ms);
                    let summary = blocked_by(verdict);
                    return blocked(RefuseCode::ImplementationSpecific, verdict.to_string(), &summary);
                }
                let mut all = Marks::NONE;
                verdict.iter().flat_map(|verdict| verdict.marks().iter()).for_each(|check| all.insert(check));
                let checked = verdict.iter().any(Verdict::is_checked);
                (checked.then(|| marks::text(all)), Some(all))
            }
        };
        let payload = match &format.encoder {
            Some(encoder) => match encoder.encode(&records) {
                Ok(payload) => {
                    marks::set_type(props, encoder.media_type());
                    Some(Bytes::from(payload))
                }
                Err(_) if empty => None,
                Err(error) => return self.unreadable(&mut state, topic, error.to_string(), now_ms),
            },
            None => None,
        };
        if !empty && state.alarms.clear(topic, now_ms) {
            // Also within the dead band: by this value the receivers' fail-safes end.
            state.settled.remove(topic);
            state.dirty = true;
            info!(topic, "alarm over: a good value came");
            self.wake.notify_one();
        }
        state.remember(topic, hash, check.clone());
        if let Some(marks) = marks.filter(|_| quality.is_some_and(|rules| rules.archive().is_some())) {
            let before = state.archiver.poll_timeout();
            for record in records.iter().filter(|record| record.reading.value != Value::Special(Special::Absent)) {
                let reading = archive::dated(&record.reading, now_ms);
                state.archiver.handle_reading(topic, &record.name, &reading, marks, now_ms);
            }
            if state.archiver.poll_timeout().is_some_and(|due| before.is_none_or(|before| due < before)) {
                self.wake.notify_one();
            }
        }
        if let Some(check) = &check {
            marks::add(props, marks::CHECK, check);
        }
        if empty {
            marks::add(props, marks::EMPTY, "1");
            let unwritten = format.encoder.is_some() && payload.is_none();
            state.note_empty(topic, unwritten);
            request.payload = payload.unwrap_or_else(|| request.payload.clone());
            return if unwritten { Judged::Acknowledge } else { Judged::Send };
        }
        let decision = state.report(topic, &records, marks.unwrap_or_default(), request.dup, now_ms);
        let original = request.payload.clone();
        if let Some(payload) = payload {
            request.payload = payload;
        }
        match decision {
            Decision::Send(_) => {
                state.kept.remove(topic);
                state.settle(topic, client);
                Judged::Send
            }
            Decision::Skip => {
                state.kept.remove(topic);
                Judged::Acknowledge
            }
            Decision::Keep { .. } => {
                let props = props.encode().unwrap_or_default();
                let (payload, retain) = (request.payload.clone(), request.retain);
                let kept = Own { payload, props, retain, recorded: Some((original, now_ms)) };
                if state.kept.len() >= MAX_KEPT && !state.kept.contains_key(topic) {
                    // Sent early rather than not at all.
                    state.settle(topic, client);
                    return Judged::Send;
                }
                state.kept.insert(topic.to_owned(), kept);
                state.late.remove(topic);
                self.wake.notify_one();
                Judged::Acknowledge
            }
        }
    }

    /// What is to be sealed of a client's will, or why it may not be left with the broker. Nobody knows what will have been
    /// before it, so it is judged as a first reading is, says nothing of checks, and leaves no trace.
    pub fn will(&self, will: &WillRequest, now_ms: u64) -> Result<Will, Blocked> {
        let refuse = |summary: &str, reason: String| Blocked {
            code: RefuseCode::PayloadFormatInvalid,
            reason,
            summary: summary.to_owned(),
        };
        let mut props =
            marks::parse(&will.sealed_properties).map_err(|error| refuse("malformed properties", error.to_string()))?;
        let topic = will.topic.as_str();
        let quality = self.rules.quality.find(topic).filter(|rules| rules.has_checks());
        let format = self.rules.publish(topic);
        let mut payload = will.payload.clone();
        // An empty retained message deletes what the broker keeps: it is no value.
        if (quality.is_some() || format.is_some()) && !(will.retain && payload.is_empty()) {
            let unreadable = |error: String| refuse("it cannot be read as its format says", error);
            let format = format.unwrap_or(&self.plain);
            let records = format.decoder.decode(&payload, now_ms).map_err(|error| unreadable(error.to_string()))?;
            let document = quality
                .filter(|rules| rules.wants_document())
                .and_then(|_| serde_json::from_slice::<serde_json::Value>(&payload).ok());
            let mut checker = Checker::new(self.rules.quality.clone(), now_ms);
            let (document, expected) = (document.as_ref(), format.decoder.expects());
            for Record { name, reading } in &records {
                let verdict = checker.handle_reading(&Input { topic, name, reading, document, expected }, now_ms);
                if verdict.action() == Action::Block {
                    let code = RefuseCode::ImplementationSpecific;
                    let summary = blocked_by(&verdict);
                    return Err(Blocked { code, reason: verdict.to_string(), summary });
                }
            }
            if let Some(encoder) = &format.encoder {
                payload = encoder.encode(&records).map_err(|error| unreadable(error.to_string()))?.into();
                marks::set_type(&mut props, encoder.media_type());
            }
            if records.iter().all(|record| record.reading.is_empty()) {
                marks::add(&mut props, marks::EMPTY, "1");
            }
        }
        Ok(Will { payload, props: props.encode().unwrap_or_default() })
    }

    /// A message that was to be sent was not.
    pub fn not_sent(&self, topic: &str) {
        self.state().settled.remove(topic);
    }

    /// A connection ended in the middle: what it carried last may not have arrived.
    pub fn cut(&self, client: u64) {
        self.state().settled.retain(|_, carrier| *carrier != client);
    }

    /// Writes down what was judged since the last call that succeeded, by anybody.
    pub fn persist(&self) -> Result<()> {
        let mut unwritten = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let (rows, points) = {
            let mut state = self.state();
            if !std::mem::take(&mut state.dirty) && unwritten.rows.is_empty() && unwritten.archive.is_empty() {
                return Ok(());
            }
            let row = |kind| move |row: sealcast_quality::Row| ValueRow { kind, key: row.key.into(), value: row.value };
            let mut rows: Vec<ValueRow> = state.checker.changes().into_iter().map(row(kind::CHECK)).collect();
            rows.extend(state.reporter.changes().into_iter().map(row(kind::REPORT)));
            let alarm = |(key, value)| ValueRow { kind: kind::ALARM, key, value };
            rows.extend(state.alarms.changes().into_iter().map(alarm));
            rows.extend(state.archiver.changes().into_iter().map(row(kind::ARCHIVE)));
            let points: Vec<Archived> = std::iter::from_fn(|| state.archiver.poll_archived()).collect();
            (rows, points)
        };
        let messages = self.outbox.messages(&self.rules, &points);
        self.outbox.add(messages.len());
        let Unwritten { rows: earlier, archive } = std::mem::take(&mut *unwritten);
        let earlier = earlier.into_iter().map(|((kind, key), value)| ValueRow { kind, key, value });
        let (rows, archive): (Vec<_>, Vec<_>) =
            (earlier.chain(rows).collect(), archive.into_iter().chain(messages).collect());
        if let Err(error) = self.store.write_values(&rows, &archive) {
            let rows = rows.into_iter().map(|row| ((row.kind, row.key), row.value)).collect();
            *unwritten = Unwritten { rows, archive };
            return Err(error);
        }
        if !archive.is_empty() {
            self.wake.notify_one();
        }
        Ok(())
    }

    /// The cycles that were learnt and what report on change has saved, to the log.
    pub fn log_savings(&self) {
        let state = self.state();
        for (topic, name, saved) in state.reporter.saved() {
            let period_ms = state.reporter.cycle(topic, name).and_then(sealcast_quality::Cycle::period_ms);
            let percent = (saved.sent_part() * 1000.0).round() / 10.0;
            info!(topic, name, period_ms, seen = saved.seen, sent = saved.sent, percent, "report on change");
        }
    }

    fn unreadable(&self, state: &mut State, topic: &str, reason: String, now_ms: u64) -> Judged {
        self.raise(state, topic, Kind::Unreadable, reason.clone(), Vec::new(), now_ms);
        blocked(RefuseCode::PayloadFormatInvalid, reason, "it cannot be read as its format says")
    }

    fn raise(&self, state: &mut State, topic: &str, kind: Kind, reason: String, checks: Vec<Finding>, now_ms: u64) {
        let reason = reason.chars().take(MAX_REASON).collect();
        state.alarms.raise(&self.device, topic, kind, reason, checks, now_ms);
        state.dirty = true;
        self.wake.notify_one();
    }

    /// Silence and its end.
    fn note_events(&self, state: &mut State, now_ms: u64) {
        while let Some(event) = state.checker.poll_event() {
            match &event {
                Event::Silent { topic, .. } => {
                    warn!("{event}");
                    let topic = topic.clone();
                    self.raise(state, &topic, Kind::Silent, event.to_string(), Vec::new(), now_ms);
                }
                Event::Heard { .. } => info!("{event}"),
            }
            state.dirty = true;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What blocks, with the numbers that were compared. Where a finding may quote a text of the payload, its check is named.
fn blocked_by(verdict: &Verdict) -> String {
    let blocking = verdict.findings().iter().filter(|finding| finding.action == Action::Block);
    let words = blocking.map(|finding| match &finding.reason {
        Reason::Schema { .. } | Reason::NotNumber { .. } => finding.check.as_str().to_owned(),
        _ => finding.to_string(),
    });
    format!("blocked by {}", words.collect::<Vec<_>>().join("; "))
}

fn blocked(code: RefuseCode, reason: String, summary: &str) -> Judged {
    Judged::Blocked(Blocked { code, reason, summary: summary.to_owned() })
}

fn hash(parts: &[&[u8]]) -> u64 {
    let mut hasher = DefaultHasher::new();
    parts.hash(&mut hasher);
    hasher.finish()
}

impl State {
    fn check(
        &mut self,
        topic: &str,
        records: &[Record],
        expected: Expected,
        document: Option<&serde_json::Value>,
        now_ms: u64,
    ) -> Vec<Verdict> {
        self.dirty = true;
        let judge = |record: &Record| {
            let input = Input { topic, name: &record.name, reading: &record.reading, document, expected };
            self.checker.handle_reading(&input, now_ms)
        };
        records.iter().map(judge).collect()
    }

    /// A path that is misspelt lets everything pass: whoever looks at the log must see it.
    fn note_empty(&mut self, topic: &str, unwritten: bool) {
        if self.empty.len() >= MAX_EMPTY || !self.empty.insert(topic.to_owned()) {
            return;
        }
        let what =
            if unwritten { "acknowledged and not published: `output` has nothing to write" } else { "published" };
        info!(
            topic,
            "a message without the value that `input` reads was {what}; `missing` and `null` of [[quality]] decide about \
             such messages (this is logged once for each topic)"
        );
    }

    /// A message is sent if one of its readings is to be.
    fn report(&mut self, topic: &str, records: &[Record], marks: Marks, again: bool, now_ms: u64) -> Decision {
        self.dirty = true;
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

    fn settle(&mut self, topic: &str, client: u64) {
        if let Some(carrier) = self.settled.get_mut(topic) {
            *carrier = client;
            return;
        }
        if self.settled.len() >= sealcast_quality::MAX_SERIES {
            self.settled.clear();
        }
        self.settled.insert(topic.to_owned(), client);
    }

    fn remember(&mut self, topic: &str, hash: u64, check: Option<String>) {
        if !self.recent.contains_key(topic) {
            if self.recent.len() >= MAX_RECENT_TOPICS {
                self.recent.clear();
            }
            self.recent.insert(topic.to_owned(), VecDeque::new());
        }
        let Some(recent) = self.recent.get_mut(topic) else { return };
        if recent.len() >= MAX_RECENT {
            recent.pop_front();
        }
        recent.push_back((hash, check));
    }

    fn recall(&self, topic: &str, hash: u64) -> Option<Option<String>> {
        let recent = self.recent.get(topic)?;
        recent.iter().rev().find(|(known, _)| *known == hash).map(|(_, check)| check.clone())
    }
}
