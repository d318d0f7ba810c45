//! Archives: the points that the swinging doors let out become SenML messages on a topic of their own.
//!
//! They are written to disk together with the doors' state, before the messages that they came from are answered, and stay
//! there until the broker has acknowledged them. So each arrives at least once, whatever is killed or refused for a while;
//! one that arrives twice is the same point.

use sealcast_mqtt::Properties;
use sealcast_quality::{Archived, Marks};
use sealcast_reading::{ConfigError, Encoder, NamedReading, OutputConfig, Reading, SenmlOutput};
use tracing::warn;

use super::{
    handed::Handed,
    marks,
    own::Unsent,
    retry::Retry,
    rules::ValueRules,
    writes::{Amount, ArchiveMessage, ArchiveOnDisk},
};
use crate::Cause;

/// What waits on disk; what comes while there is so much is not archived.
const MAX_WAITING: Amount = Amount { messages: 100_000, bytes: 64 << 20 };
/// Points in one message.
const MAX_POINTS: usize = 64;
/// SenML takes earlier times as relative to now (RFC 8428 §4.5.3): a clock that stands so is not set.
const FIRST_MS: u64 = (1 << 28) * 1_000;

/// Makes the messages, counts those that wait on disk, and decides which of them is handed to the agent's connection when.
/// Whoever drives it looks at [`Archives::take_off`] first, and then at [`Archives::next_after`] until it gives `None`.
pub struct Archives {
    encoder: Encoder,
    waiting: Amount,
    /// Of the newest message.
    last_id: i64,
    handed: Handed,
    retry: Retry,
}

impl Archives {
    /// With what the last run left.
    pub(super) fn new(ArchiveOnDisk { waiting, last_id }: ArchiveOnDisk) -> Result<Self, ConfigError> {
        let encoder = Encoder::new(OutputConfig::SenmlJson(SenmlOutput::default()))?;
        Ok(Self { encoder, waiting, last_id, handed: Handed::default(), retry: Retry::default() })
    }

    /// The messages for `points`, as many as there is room for. They count as waiting from now on: never more wait than
    /// are counted, but for those that a write which failed has put on disk all the same.
    pub(super) fn messages(&mut self, rules: &ValueRules, points: &[Archived]) -> Vec<ArchiveMessage> {
        let mut messages = Vec::new();
        for points in points.chunk_by(|a, b| a.topic == b.topic).flat_map(|points| points.chunks(MAX_POINTS)) {
            let Some(first) = points.first() else { continue };
            let waiting = self.waiting;
            if is_full(waiting) {
                warn!(
                    code = %Cause::ArchiveFull,
                    topic = first.topic,
                    waiting.messages, waiting.bytes, "not archived, because so much already waits to be sent"
                );
                continue;
            }
            match self.message(rules, &first.topic, points) {
                Ok(message) => {
                    self.last_id = message.id;
                    self.waiting.add(Amount::of_one(message.payload.len() as u64));
                    messages.push(message);
                }
                Err(error) => warn!(code = %Cause::Unreadable, topic = first.topic, "not archived: {error}"),
            }
        }
        messages
    }

    fn message(&self, rules: &ValueRules, topic: &str, points: &[Archived]) -> Result<ArchiveMessage, String> {
        let record = |archived: &Archived| {
            let point = &archived.point;
            let (value, unit, time_ms) = (point.value.clone(), point.unit.clone(), Some(point.time_ms));
            let reading = Reading { value, unit, time_ms, sequence: None };
            NamedReading { name: senml_name(topic, &archived.name), reading }
        };
        let records: Vec<_> = points.iter().map(record).collect();
        let payload = self.encoder.encode(&records).map_err(|error| error.to_string())?;
        let mut props = Properties::new();
        marks::add(&mut props, marks::ARCHIVE, "1");
        marks::set_type(&mut props, self.encoder.media_type());
        if rules.quality.find(topic).is_some_and(|rules| rules.has_checks()) {
            let all = points.iter().fold(Marks::NONE, |all, archived| Marks(all.0 | archived.point.marks.0));
            marks::add(&mut props, marks::CHECK, &marks::text(all));
        }
        let props = props.encode().map_err(|error| error.to_string())?;
        Ok(ArchiveMessage { id: self.last_id + 1, topic: rules.archive_topic(topic), props, payload })
    }

    /// So much waits on disk at most.
    pub fn waiting(&self) -> Amount {
        self.waiting
    }

    /// What the broker says of a message: taken, or why it is refused. `None` if the connection was cut before.
    pub fn answered(&mut self, id: i64, answer: Option<Result<(), String>>, now_ms: u64) {
        match answer {
            Some(Ok(())) => self.handed.taken(id),
            Some(Err(reason)) => {
                if let Some(topic) = self.handed.answered_refused(id, now_ms) {
                    say_refused(&topic, Cause::BrokerRefused, &reason);
                }
            }
            None => self.handed.cut(id, now_ms),
        }
    }

    /// The messages that can be taken off the disk, because the broker has them.
    pub fn take_off(&self) -> Vec<i64> {
        self.handed.on_disk_still()
    }

    /// They are off the disk; so much of them was there.
    pub fn taken_off(&mut self, ids: &[i64], amount: Amount) {
        self.handed.forgotten(ids);
        self.waiting.remove(amount);
    }

    /// The messages behind this one are to be read from the disk. `None` if none is to be handed over now.
    pub fn next_after(&mut self, now_ms: u64) -> Option<i64> {
        if self.waiting.messages == 0 || self.retry.is_too_early(now_ms) {
            return None;
        }
        self.retry.end();
        self.handed.next_after(now_ms)
    }

    /// Whether a message that was read is to be handed over now.
    pub fn wants(&mut self, id: i64, topic: &str) -> bool {
        self.handed.wants(id, topic)
    }

    /// A message was handed over, with so many bytes of payload: its answer comes.
    pub fn handed(&mut self, id: i64, topic: String, bytes: usize) {
        self.handed.put(id, topic, bytes);
    }

    /// A message could not be. `false` if nothing can be for now.
    pub fn unsent(&mut self, id: i64, topic: &str, error: &Unsent, now_ms: u64) -> bool {
        match error {
            Unsent::Refused(why) => {
                if self.handed.refused(id, topic, now_ms) {
                    say_refused(topic, why.cause, &why.text);
                }
                true
            }
            Unsent::NoKeyYet(_) => {
                self.handed.no_key_yet(id, topic, now_ms);
                true
            }
            Unsent::NotYet(_) => {
                self.retry.begin(now_ms);
                false
            }
        }
    }

    /// The disk could not be read or written.
    pub fn failed(&mut self, now_ms: u64) {
        self.retry.begin(now_ms);
    }

    /// The agent's own connection is new.
    pub(super) fn link_up(&mut self) {
        self.retry.end();
    }

    /// When something is handed over again, Unix ms.
    pub(super) fn poll_timeout(&self) -> Option<u64> {
        self.retry.at_ms().or(self.handed.poll_timeout()).filter(|_| self.waiting.messages > 0)
    }
}

fn say_refused(topic: &str, code: Cause, reason: &str) {
    warn!(%code, topic, reason, "the archive waits on disk, because its messages are refused for now");
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
pub(super) fn dated(reading: &Reading, now_ms: u64) -> Reading {
    Reading { time_ms: reading.time_ms.filter(|time_ms| *time_ms >= FIRST_MS).or(Some(now_ms)), ..reading.clone() }
}

/// Whether no more may be added. The last message may exceed the bytes.
fn is_full(waiting: Amount) -> bool {
    waiting.messages >= MAX_WAITING.messages || waiting.bytes >= MAX_WAITING.bytes
}

#[cfg(test)]
mod tests {
    use sealcast_quality::Point;
    use sealcast_reading::Value;

    use super::{
        super::{retry::RETRY_MS, tests::rules},
        *,
    };
    use crate::Why;

    fn on_disk(waiting: Amount) -> ArchiveOnDisk {
        ArchiveOnDisk { waiting, last_id: 3 }
    }

    #[test]
    fn nothing_is_handed_over_before_the_retry_and_then_what_is_due() {
        let mut archives = Archives::new(on_disk(Amount { messages: 3, bytes: 30 })).unwrap();
        assert_eq!(archives.next_after(1_000), Some(0));
        assert!(archives.wants(1, "t"));
        archives.handed(1, "t".into(), 10);
        assert!(
            archives.unsent(2, "other", &Unsent::Refused(Why::new(Cause::NoGroup, "no group covers it")), 1_000),
            "only this topic"
        );
        assert!(archives.wants(3, "t"));
        assert!(!archives.unsent(3, "t", &Unsent::NotYet(Why::new(Cause::NoGroup, "no connection")), 1_000));
        assert_eq!(archives.next_after(1_500), None);
        archives.answered(1, None, 1_500);
        assert_eq!(archives.poll_timeout(), Some(1_000 + RETRY_MS), "what was cut waits for the retry too");
        assert_eq!(archives.next_after(1_000 + RETRY_MS), Some(0), "from the first one on");
        archives.handed(1, "t".into(), 10);
        archives.answered(1, Some(Ok(())), 2_000);
        assert_eq!(archives.take_off(), [1]);
        archives.failed(2_000);
        assert_eq!(archives.take_off(), [1], "until the disk lets go of it");
        archives.link_up();
        archives.taken_off(&[1], Amount::of_one(10));
        let left = Amount { messages: 2, bytes: 20 };
        assert_eq!((archives.waiting(), archives.next_after(2_100)), (left, Some(1)));
        archives.taken_off(&[2, 3], left);
        assert_eq!((archives.waiting(), archives.next_after(2_100)), (Amount::default(), None));
    }

    #[test]
    fn a_topic_without_a_key_stops_no_other() {
        let mut archives = Archives::new(on_disk(Amount { messages: 2, bytes: 20 })).unwrap();
        assert_eq!(archives.next_after(1_000), Some(0));
        assert!(archives.unsent(1, "t", &Unsent::NoKeyYet(Why::new(Cause::NoGroup, "no key yet")), 1_000));
        assert!(archives.wants(2, "other"));
        archives.handed(2, "other".into(), 10);
        assert_eq!(archives.next_after(1_000), Some(2), "no retry of all is waited for");
    }

    #[test]
    fn what_waits_on_disk_is_bounded_in_messages_and_in_bytes() {
        let rules = rules("").unwrap();
        let point = |topic: &str| {
            let value = Value::Text("x".repeat(1000));
            let point = Point { time_ms: FIRST_MS, value, unit: None, marks: Marks::NONE };
            Archived { topic: topic.into(), name: String::new(), point }
        };
        let two = [point("t"), point("u")];
        for full in [Amount { bytes: 0, ..MAX_WAITING }, Amount { messages: 1, ..MAX_WAITING }] {
            let mut archives = Archives::new(on_disk(full)).unwrap();
            assert!(archives.messages(&rules, &two).is_empty());
            assert_eq!(archives.waiting(), full);
            archives.taken_off(&[1], Amount::of_one(1));
            let mut waiting = archives.waiting();
            let messages = archives.messages(&rules, &two);
            assert_eq!(messages.len(), 1, "the first one fills it");
            assert!(messages[0].payload.len() > 1000);
            waiting.add(Amount::of_one(messages[0].payload.len() as u64));
            assert_eq!(archives.waiting(), waiting);
        }
    }

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
