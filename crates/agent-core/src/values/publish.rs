//! The publishing side: decode, check, archive, report on change, convert.

use std::fmt::Display;

use bytes::Bytes;
use sealcast_mqtt::{Properties, PublishRequest, RefuseCode};
use sealcast_quality::{Action, Decision, Input, Marks, TopicRules, Verdict};
use sealcast_reading::{NamedReading, Special, Value};
use tracing::info;

use super::{
    Format, Values,
    alarm::{Finding, Kind},
    archive,
    findings::blocked_by,
    marks,
    own::Own,
    recent::hash,
};
use crate::Cause;

/// Most topics of which the log says that a message came without a value.
const MAX_EMPTY: usize = 1024;

/// What becomes of a message that a client publishes.
#[derive(Debug, PartialEq)]
pub enum Judged {
    /// Seal it; payload and properties are what is to be sealed.
    Send,
    /// It need not be sent now, for this cause: the client is told that it has been taken.
    Acknowledge(Cause),
    /// It must not be sent.
    Blocked(Blocked),
}

/// Why a message was blocked.
#[derive(Debug, PartialEq)]
pub struct Blocked {
    /// What it is called.
    pub cause: Cause,
    /// The nearest reason code.
    pub code: RefuseCode,
    /// For the person at the device, with the numbers.
    pub reason: String,
    /// For the log: without what may be a part of the payload.
    pub summary: String,
}

/// What the checks say of a message.
#[derive(Default)]
struct Checked {
    /// As it travels, if a check looked at the message.
    check: Option<String>,
    /// `None` of a redelivery, which is not checked again.
    marks: Option<Marks>,
}

/// A message that was read.
struct Message<'a> {
    topic: &'a str,
    rules: Option<&'a TopicRules>,
    format: &'a Format,
    records: &'a [NamedReading],
    original: &'a Bytes,
    now_ms: u64,
}

impl Values {
    /// Judges what `client` publishes to a topic of a group; what is to be sealed stands in `request` afterwards. Call once
    /// for each message, and commit [`Self::take_writes`] before its consequences leave the agent.
    pub fn publish(&mut self, request: &mut PublishRequest, client: u64, now_ms: u64) -> Judged {
        let mut props = match marks::parse(&request.sealed_properties) {
            Ok(props) => props,
            Err(error) => return Judged::Blocked(Blocked::malformed(&error)),
        };
        // An empty retained message deletes what the broker keeps: it is no value.
        let judged = if request.retain && request.payload.is_empty() {
            Judged::Send
        } else {
            self.judge(request, &mut props, client, now_ms).unwrap_or_else(Judged::Blocked)
        };
        // Every value was read from the wire or is short.
        request.sealed_properties = props.encode().unwrap_or_default();
        judged
    }

    fn judge(
        &mut self,
        request: &mut PublishRequest,
        props: &mut Properties,
        client: u64,
        now_ms: u64,
    ) -> Result<Judged, Blocked> {
        let (all, plain) = (self.rules.clone(), self.plain.clone());
        let topic = request.topic.as_str();
        let (rules, format) = (all.judging(topic), all.publish(topic));
        if rules.is_none() && format.is_none() {
            if all.is_shared(topic)
                && let Ok(records) = plain.decoder.decode(&request.payload, now_ms)
            {
                let unchecked = Verdict::UNCHECKED;
                self.shared.put(topic, None, records.iter().map(|record| (record, &unchecked)), now_ms);
            }
            return Ok(Judged::Send);
        }
        let format = format.unwrap_or(&plain);
        let original = request.payload.clone();
        let records = format.decoder.decode(&original, now_ms);
        let records = records.map_err(|error| self.note_unreadable(topic, &error, now_ms))?;
        let message = Message { topic, rules, format, records: &records, original: &original, now_ms };
        let hash = hash(&[&original]);
        let checked = match self.recent.recall(topic, hash).filter(|_| request.dup) {
            // It was judged when it came first; judged again it would be a repetition.
            Some(check) => Checked { check, marks: None },
            None => self.check(&message)?,
        };
        let empty = records.iter().all(|record| record.reading.is_empty());
        let converted = self.convert(&message, empty, props)?;
        if !empty {
            self.end_alarm(topic, now_ms);
        }
        self.recent.remember(topic, hash, checked.check.clone());
        self.archive(&message, checked.marks);
        if let Some(check) = &checked.check {
            marks::add(props, marks::CHECK, check);
        }
        let unwritten = format.encoder.is_some() && converted.is_none();
        request.payload = converted.unwrap_or_else(|| original.clone());
        if empty {
            marks::add(props, marks::EMPTY, "1");
            self.note_empty(topic, unwritten);
            return Ok(if unwritten { Judged::Acknowledge(Cause::NoValue) } else { Judged::Send });
        }
        self.dirty = true;
        Ok(match self.reports.decide(topic, &records, checked.marks.unwrap_or_default(), request.dup, now_ms) {
            Decision::Send(_) => {
                self.reports.send(topic, client);
                Judged::Send
            }
            Decision::Skip => {
                self.reports.skip(topic);
                Judged::Acknowledge(Cause::Unchanged)
            }
            Decision::Keep { .. } => {
                let (props, payload, retain) =
                    (props.encode().unwrap_or_default(), request.payload.clone(), request.retain);
                let kept = Own { payload, props, retain, recorded: Some((original, now_ms)) };
                if self.reports.keep(topic, kept) {
                    Judged::Acknowledge(Cause::TooSoon)
                } else {
                    // Sent early rather than not at all.
                    self.reports.send(topic, client);
                    Judged::Send
                }
            }
        })
    }

    fn check(&mut self, message: &Message<'_>) -> Result<Checked, Blocked> {
        let &Message { topic, format, records, now_ms, .. } = message;
        self.dirty = true;
        let document = document(message.rules, message.original);
        let (document, expected) = (document.as_ref(), format.decoder.expects());
        let judge = |NamedReading { name, reading }: &NamedReading| {
            self.checker.handle_reading(&Input { topic, name, reading, document, expected }, now_ms)
        };
        let verdicts: Vec<Verdict> = records.iter().map(judge).collect();
        self.note_events(now_ms);
        if self.rules.is_shared(topic) {
            self.shared.put(topic, message.rules, records.iter().zip(&verdicts), now_ms);
        }
        if let Some(verdict) = verdicts.iter().find(|verdict| verdict.action() == Action::Block) {
            let (reason, checks) = (verdict.to_string(), Finding::of(verdict));
            self.raise(topic, Kind::Blocked, &reason, checks, now_ms);
            let (cause, code) = (Cause::Blocked, RefuseCode::ImplementationSpecific);
            return Err(Blocked { cause, code, reason, summary: blocked_by(verdict) });
        }
        let mut all = Marks::NONE;
        verdicts.iter().flat_map(|verdict| verdict.marks().iter()).for_each(|check| all.insert(check));
        let checked = verdicts.iter().any(Verdict::is_checked);
        Ok(Checked { check: checked.then(|| marks::text(all)), marks: Some(all) })
    }

    /// The payload as it is published, if it is converted and there is something to write.
    fn convert(
        &mut self,
        message: &Message<'_>,
        empty: bool,
        props: &mut Properties,
    ) -> Result<Option<Bytes>, Blocked> {
        let Some(encoder) = &message.format.encoder else { return Ok(None) };
        match encoder.encode(message.records) {
            Ok(payload) => {
                marks::set_type(props, encoder.media_type());
                Ok(Some(payload.into()))
            }
            Err(_) if empty => Ok(None),
            Err(error) => Err(self.note_unreadable(message.topic, &error, message.now_ms)),
        }
    }

    fn end_alarm(&mut self, topic: &str, now_ms: u64) {
        if self.alarms.clear(topic, now_ms) {
            // Also within the dead band: by this value the receivers' fail-safes end.
            self.reports.unsettle(topic);
            self.dirty = true;
            info!(topic, "alarm over: a good value came");
        }
    }

    fn archive(&mut self, message: &Message<'_>, marks: Option<Marks>) {
        let Some(marks) = marks.filter(|_| message.rules.is_some_and(|rules| rules.archive().is_some())) else {
            return;
        };
        let there = |record: &&NamedReading| record.reading.value != Value::Special(Special::Absent);
        for record in message.records.iter().filter(there) {
            let reading = archive::dated(&record.reading, message.now_ms);
            self.archiver.handle_reading(message.topic, &record.name, &reading, marks, message.now_ms);
        }
    }

    fn note_unreadable(&mut self, topic: &str, error: &dyn Display, now_ms: u64) -> Blocked {
        let blocked = unreadable(error);
        self.raise(topic, Kind::Unreadable, &blocked.reason, Vec::new(), now_ms);
        blocked
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
}

impl Blocked {
    pub(super) fn malformed(error: &dyn Display) -> Self {
        let summary = "malformed properties".to_owned();
        Self { cause: Cause::Unreadable, code: RefuseCode::PayloadFormatInvalid, reason: error.to_string(), summary }
    }
}

pub(super) fn unreadable(error: &dyn Display) -> Blocked {
    let summary = "it cannot be read as its format says".to_owned();
    Blocked { cause: Cause::Unreadable, code: RefuseCode::PayloadFormatInvalid, reason: error.to_string(), summary }
}

/// The payload as JSON, for rules that look at all of it.
pub(super) fn document(rules: Option<&TopicRules>, payload: &[u8]) -> Option<serde_json::Value> {
    rules.filter(|rules| rules.wants_document()).and_then(|_| serde_json::from_slice(payload).ok())
}
