//! The receiving side: what an application gets of a message, and what that means for the fail-safe.

use std::sync::Arc;

use bytes::Bytes;
use sealcast_identity::DeviceId;
use sealcast_mqtt::TopicName;
use sealcast_quality::{FailSafeOutput, MAX_SERIES};
use sealcast_reading::Record;
use tracing::{info, warn};

use super::{
    Local, State, Values,
    guard::{Guard, Said},
    hash,
    marks::{self, STALE},
    rules::{Flagged, Format},
};

/// Frames that are remembered as diverted.
const MAX_DIVERTED: usize = 1024;

/// A message that was opened.
pub struct Arrived<'a> {
    /// Its topic.
    pub topic: &'a TopicName,
    /// Who sent it.
    pub sender: &'a DeviceId,
    /// How far the members' clocks may be apart, ms.
    pub tolerance_ms: u64,
    /// The sealed bytes, which name it.
    pub frame: &'a [u8],
    /// What was inside.
    pub payload: Bytes,
    /// The properties that were inside, encoded.
    pub props: Bytes,
    /// When it was sealed (first), Unix ms.
    pub sealed_ms: u64,
    /// How long ago that is.
    pub age_ms: u64,
    /// The broker had kept it as the topic's last value.
    pub retained: bool,
    /// It is older than the topic's values may be.
    pub stale: bool,
}

impl Arrived<'_> {
    fn said(&self) -> Said<'_> {
        Said { sender: self.sender, at_ms: self.sealed_ms, tolerance_ms: self.tolerance_ms }
    }
}

/// What becomes of it.
pub enum Incoming {
    /// The application gets it.
    Deliver(Box<Deliver>),
    /// It does not.
    Withhold(String),
    /// It got it, or others did, on another topic.
    Diverted,
    /// It has no value, and it is to be handed on as a value alone.
    Nothing,
}

/// What an application gets.
pub struct Deliver {
    /// The payload.
    pub payload: Bytes,
    /// The sender's properties, encoded.
    pub props: Bytes,
    /// User properties of the agent's own.
    pub extra: Vec<(&'static str, String)>,
    /// The reading's own time, or that of the sealing.
    pub time_ms: u64,
    /// Whether it may be repeated: neither retained nor stale nor an alarm nor part of an archive.
    pub fresh: bool,
    /// The readings, where they are converted.
    pub records: Vec<Record>,
    /// It has no value, so it takes the place of none.
    pub empty: bool,
}

impl Values {
    /// Judges a message for a client that sees what is said of it, or does not: MQTT 3.1.1 has no place for it.
    pub fn arrive(&self, arrived: &Arrived<'_>, sees_flags: bool, now_ms: u64) -> Incoming {
        let topic = arrived.topic.as_str();
        let Ok((said, mut props)) = marks::read(&arrived.props) else {
            return Incoming::Withhold("its sealed properties are malformed".into());
        };
        let mut extra = Vec::new();
        if arrived.retained {
            extra.push(("sealcast-age-ms", arrived.age_ms.to_string()));
        }
        if said.alarm {
            let sender = arrived.sender.as_str();
            if let Some(device) = self.rules.alarm_device(topic).filter(|device| *device != sender) {
                return Incoming::Withhold(format!("an alarm in the name of {device}, which only {device} may raise"));
            }
            extra.push((marks::ALARM, "1".to_owned()));
            let props = props.encode().unwrap_or_default();
            let payload = arrived.payload.clone();
            let (time_ms, records, empty) = (arrived.sealed_ms, Vec::new(), false);
            return Incoming::Deliver(Box::new(Deliver {
                payload,
                props,
                extra,
                time_ms,
                fresh: false,
                records,
                empty,
            }));
        }
        // Points of the past are no value by which a fail-safe begins or ends.
        let bad = || {
            if !said.archive {
                self.bad(topic, arrived.said(), now_ms);
            }
        };
        if said.archive {
            extra.push((marks::ARCHIVE, "1".to_owned()));
        }
        if said.empty {
            extra.push((marks::EMPTY, "1".to_owned()));
        }
        let rule = self.rules.receive(topic);
        if rule.is_some_and(|rule| rule.require_checked) && said.check.is_none() {
            bad();
            return Incoming::Withhold("its sender's agent did not check it, and `require_checked` is set".into());
        }
        let flagged = arrived.stale || said.is_flagged();
        let check = match (said.check.clone(), arrived.stale) {
            (check, false) => check,
            (Some(check), true) if check.starts_with("flag:") => Some(format!("{check},{STALE}")),
            (_, true) => Some(format!("flag:{STALE}")),
        };
        let policy = match (flagged, rule) {
            (true, Some(rule)) if sees_flags => rule.flagged_v5,
            (true, Some(rule)) => rule.flagged,
            _ => Flagged::Deliver,
        };
        // What is held back from clients that could not see that it is flagged is no good value, whoever gets this copy.
        let held_back = flagged && rule.is_some_and(|rule| rule.flagged != Flagged::Deliver);
        let judge = |empty: bool| match held_back {
            true => bad(),
            false if !said.archive && !empty => self.good(topic, arrived, now_ms),
            false => {}
        };
        if let Some(check) = &check {
            extra.push((marks::CHECK, check.clone()));
        }
        let check = check.unwrap_or_default();
        let mut empty = said.empty;
        if policy == Flagged::Drop {
            judge(empty);
            return Incoming::Withhold(format!("{check}: flagged values are dropped here"));
        }
        if arrived.stale && !sees_flags && policy == Flagged::Deliver {
            return Incoming::Withhold("too old for a client that could not see that it is".into());
        }
        let mut payload = arrived.payload.clone();
        let mut records = Vec::new();
        let format = rule.and_then(|rule| rule.format.as_ref()).filter(|_| !said.archive);
        if let Some(Format { decoder, encoder }) = format {
            let encoded =
                decoder.decode(&payload, arrived.sealed_ms).map_err(|error| error.to_string()).and_then(|read| {
                    empty |= read.iter().all(|record| record.reading.is_empty());
                    let encoded =
                        encoder.as_ref().map(|encoder| encoder.encode(&read).map_err(|error| error.to_string()));
                    Ok((encoded.transpose()?, read))
                });
            match encoded {
                Ok((encoded, read)) => {
                    if let Some((encoded, encoder)) = encoded.zip(encoder.as_ref()) {
                        payload = encoded.into();
                        marks::set_type(&mut props, encoder.media_type());
                    }
                    records = read;
                }
                Err(_) if empty => {
                    judge(empty);
                    return Incoming::Nothing;
                }
                Err(error) => {
                    bad();
                    return Incoming::Withhold(format!("it cannot be converted: {error}"));
                }
            }
        }
        judge(empty);
        if let (Flagged::Divert, Some(rule)) = (policy, rule) {
            if self.state().is_new_diversion(hash(&[topic.as_bytes(), arrived.frame]))
                && let Ok(topic) = TopicName::new(&format!("{}/{topic}", rule.divert_to))
            {
                self.give(Local { topic, payload, properties: extra });
            }
            return Incoming::Diverted;
        }
        let time_ms = records.first().and_then(|record| record.reading.time_ms).unwrap_or(arrived.sealed_ms);
        let props = props.encode().unwrap_or_default();
        let fresh = !arrived.retained && !arrived.stale && !said.archive;
        Incoming::Deliver(Box::new(Deliver { payload, props, extra, time_ms, fresh, records, empty }))
    }

    /// The fail-safe values that stand now, for a client that has just subscribed.
    pub fn standing(&self) -> Vec<Local> {
        let state = self.state();
        let standing = state.fail_safes.iter().filter_map(|(topic, fail_safe)| {
            let fallback = fail_safe.active()?;
            let topic = TopicName::new(fallback.topic.as_deref().unwrap_or(topic)).ok()?;
            Some(fail_safe_message(topic, &fallback.publish))
        });
        standing.collect()
    }

    fn good(&self, topic: &str, arrived: &Arrived<'_>, now_ms: u64) {
        let mut state = self.state();
        let Some(fail_safe) = state.fail_safe(self, topic, now_ms) else { return };
        let silence_ms =
            self.rules.quality.find(topic).and_then(|rules| Some(rules.fail_safe()?.on_silence.as_ref()?.after_ms));
        // What the broker kept, as retained or for an absent client, is good only while a silence of that length would be.
        if arrived.stale || silence_ms.is_some_and(|after_ms| arrived.age_ms > after_ms) {
            return;
        }
        let output = fail_safe.handle_good(arrived.said(), arrived.age_ms, now_ms);
        drop(state);
        self.act(topic, output);
        self.wake.notify_one();
    }

    /// A value that the application does not get.
    pub(super) fn bad(&self, topic: &str, said: Said<'_>, now_ms: u64) {
        let mut state = self.state();
        let Some(fail_safe) = state.fail_safe(self, topic, now_ms) else { return };
        let output = fail_safe.handle_blocked(said, now_ms);
        drop(state);
        self.act(topic, output);
        self.wake.notify_one();
    }

    pub(super) fn act(&self, topic: &str, output: Option<FailSafeOutput>) {
        let Some(output) = output else { return };
        match &output {
            // The valve first, and then the log.
            FailSafeOutput::Publish { fallback, .. } => {
                if let Ok(topic) = TopicName::new(fallback.topic.as_deref().unwrap_or(topic)) {
                    self.give(fail_safe_message(topic, &fallback.publish));
                }
                warn!(topic, "{output}");
            }
            FailSafeOutput::Ended { .. } => info!(topic, "{output}"),
        }
    }

    /// Hands a message to the local clients that subscribed to its topic. An error says that there are none.
    pub(super) fn give(&self, message: Local) {
        let _ = self.local.send(Arc::new(message));
    }
}

fn fail_safe_message(topic: TopicName, payload: &str) -> Local {
    let payload = Bytes::copy_from_slice(payload.as_bytes());
    Local { topic, payload, properties: vec![("sealcast-fail-safe", "1".to_owned())] }
}

impl State {
    /// The fail-safe of a topic, made when the first message of a topic comes that a rule with wildcards is for.
    fn fail_safe(&mut self, values: &Values, topic: &str, now_ms: u64) -> Option<&mut Guard> {
        if !self.fail_safes.contains_key(topic) {
            let rules = values.rules.quality.find(topic)?.fail_safe()?.clone();
            if self.fail_safes.len() >= MAX_SERIES {
                return None;
            }
            self.fail_safes.insert(topic.to_owned(), Guard::new(rules, now_ms));
        }
        self.fail_safes.get_mut(topic)
    }

    fn is_new_diversion(&mut self, frame: u64) -> bool {
        if self.diverted.contains(&frame) {
            return false;
        }
        if self.diverted.len() >= MAX_DIVERTED {
            self.diverted.pop_front();
        }
        self.diverted.push_back(frame);
        true
    }
}
