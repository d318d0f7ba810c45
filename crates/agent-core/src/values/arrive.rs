//! The receiving side: what an application gets of a message, and what that means for the fail-safe.

use bytes::Bytes;
use sealcast_identity::DeviceId;
use sealcast_mqtt::{Properties, TopicName};
use sealcast_reading::NamedReading;
use sealcast_seal::Message;

use super::{
    Values,
    guard::Said,
    marks::{self, STALE},
    output::{Local, Output},
    recent::hash,
    rules::{Flagged, Format, Receive},
};
use crate::{Cause, Freshness, Why};

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

impl<'a> Arrived<'a> {
    /// What was in `frame`, as the topic's limits on age see it.
    pub fn new(
        topic: &'a TopicName,
        frame: &'a [u8],
        message: &'a Message,
        retained: bool,
        freshness: &Freshness,
    ) -> Self {
        Self {
            topic,
            sender: message.sender(),
            tolerance_ms: freshness.clock_tolerance_ms,
            frame,
            payload: Bytes::copy_from_slice(message.payload()),
            props: Bytes::copy_from_slice(message.props()),
            sealed_ms: message.sealed_ms(),
            age_ms: message.age_ms(),
            retained,
            stale: freshness.is_stale(topic.as_str(), retained, message.age_ms()),
        }
    }

    fn said(&self) -> Said<'_> {
        Said { sender: self.sender, at_ms: self.sealed_ms, tolerance_ms: self.tolerance_ms }
    }

    /// The verdict, and that of this agent on its age.
    fn check(&self, said: &marks::Said) -> Option<String> {
        match (said.check.clone(), self.stale) {
            (check, false) => check,
            (Some(check), true) if check.starts_with("flag:") => Some(format!("{check},{STALE}")),
            (_, true) => Some(format!("flag:{STALE}")),
        }
    }

    fn extra(&self) -> Vec<(&'static str, String)> {
        self.retained.then(|| (marks::AGE, self.age_ms.to_string())).into_iter().collect()
    }
}

/// What becomes of it.
#[derive(Debug)]
pub enum Incoming {
    /// The application gets it.
    Deliver(Box<Deliver>),
    /// It does not.
    Withhold(Why),
    /// It got it, or others did, on another topic.
    Diverted,
    /// It has no value, and it is to be handed on as a value alone.
    Nothing,
}

/// What an application gets.
#[derive(Debug)]
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
    pub records: Vec<NamedReading>,
    /// It has no value, so it takes the place of none.
    pub empty: bool,
}

/// What it is for the fail-safe of its topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Worth {
    Good,
    Bad,
    /// It says nothing of the topic's value now.
    None,
}

/// What is made of a message by what stands in it, before anything is changed by it.
struct Judgement {
    worth: Worth,
    incoming: Incoming,
    /// What goes to the topic for flagged values, if it was not there yet.
    diverted: Option<Local>,
}

impl Judgement {
    fn withhold(worth: Worth, sender: &DeviceId, cause: Cause, text: &str) -> Self {
        Self { worth, incoming: Incoming::Withhold(Why::about(sender, cause, text)), diverted: None }
    }
}

impl Values {
    /// Judges a message for a client that sees what is said of it, or does not: MQTT 3.1.1 has no place for it.
    pub fn arrive(&mut self, arrived: &Arrived<'_>, sees_flags: bool, now_ms: u64) -> Incoming {
        let topic = arrived.topic.as_str();
        let Ok((said, props)) = marks::read(&arrived.props) else {
            return bad_properties(arrived);
        };
        if said.alarm {
            return self.alarm(arrived, &props);
        }
        let Judgement { worth, incoming, diverted } =
            judge(arrived, &said, props, self.rules.receive(topic), sees_flags);
        match worth {
            // Points of the past are no value by which a fail-safe begins or ends.
            _ if said.archive => {}
            Worth::Good => {
                let output = self.fail_safes.good(topic, arrived.said(), arrived.age_ms, arrived.stale, now_ms);
                self.act(topic, output);
            }
            Worth::Bad => self.bad(topic, arrived.said(), now_ms),
            Worth::None => {}
        }
        if let Some(diverted) = diverted
            && self.is_new_diversion(hash(&[topic.as_bytes(), arrived.frame]))
        {
            self.outputs.push_back(Output::Local(diverted));
        }
        incoming
    }

    /// Its sender has deleted the topic's retained message. That is no value, neither good nor bad.
    pub fn deleted(arrived: &Arrived<'_>) -> Incoming {
        let Ok((_, props)) = marks::read(&arrived.props) else {
            return bad_properties(arrived);
        };
        deliver_unjudged(arrived, &props, (marks::DELETED, "sender"), true)
    }

    fn alarm(&self, arrived: &Arrived<'_>, props: &Properties) -> Incoming {
        let device = self.rules.alarm_device(arrived.topic.as_str());
        if let Some(device) = device.filter(|device| *device != arrived.sender.as_str()) {
            let text = format!("an alarm in the name of {device}, which only {device} may raise");
            return Incoming::Withhold(Why::about(arrived.sender, Cause::ForeignAlarm, &text));
        }
        deliver_unjudged(arrived, props, (marks::ALARM, "1"), false)
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

fn bad_properties(arrived: &Arrived<'_>) -> Incoming {
    Incoming::Withhold(Why::about(arrived.sender, Cause::BadContent, "its sealed properties are malformed"))
}

/// What is no value, and is handed on with a property that says so. `empty`: it takes the place of none.
fn deliver_unjudged(arrived: &Arrived<'_>, props: &Properties, said: (&'static str, &str), empty: bool) -> Incoming {
    let mut extra = arrived.extra();
    extra.push((said.0, said.1.to_owned()));
    Incoming::Deliver(Box::new(Deliver {
        payload: arrived.payload.clone(),
        props: props.encode().unwrap_or_default(),
        extra,
        time_ms: arrived.sealed_ms,
        fresh: false,
        records: Vec::new(),
        empty,
    }))
}

/// Reads a message that is no alarm.
fn judge(
    arrived: &Arrived<'_>,
    said: &marks::Said,
    mut props: Properties,
    rule: Option<&Receive>,
    sees_flags: bool,
) -> Judgement {
    let withhold = |worth, cause, text: &str| Judgement::withhold(worth, arrived.sender, cause, text);
    if rule.is_some_and(|rule| rule.require_checked) && said.check.is_none() {
        let reason = "its sender's agent did not check it, and `require_checked` is set";
        return withhold(Worth::Bad, Cause::Unchecked, reason);
    }
    let flagged = arrived.stale || said.is_flagged();
    let policy = match (flagged, rule) {
        (true, Some(rule)) if sees_flags => rule.flagged_v5,
        (true, Some(rule)) => rule.flagged,
        _ => Flagged::Deliver,
    };
    // What is held back from clients that could not see that it is flagged is no good value, whoever gets this copy.
    let held_back = flagged && rule.is_some_and(|rule| rule.flagged != Flagged::Deliver);
    let worth = |empty: bool| match (held_back, empty) {
        (true, _) => Worth::Bad,
        (false, false) => Worth::Good,
        (false, true) => Worth::None,
    };
    let check = arrived.check(said);
    if policy == Flagged::Drop {
        let check = check.unwrap_or_default();
        let text = format!("{check}: flagged values are dropped here");
        return withhold(worth(said.empty), Cause::FlaggedDropped, &text);
    }
    if arrived.stale && !sees_flags && policy == Flagged::Deliver {
        return withhold(Worth::None, Cause::Stale, "too old for a client that could not see that it is");
    }
    let format = rule.and_then(|rule| rule.format.as_ref()).filter(|_| !said.archive);
    let (payload, records, empty) = match convert(arrived, said.empty, format, &mut props) {
        Converted::Payload { payload, records, empty } => (payload, records, empty),
        Converted::Nothing => {
            return Judgement { worth: worth(true), incoming: Incoming::Nothing, diverted: None };
        }
        Converted::Unreadable(error) => {
            return withhold(Worth::Bad, Cause::Unreadable, &format!("it cannot be converted: {error}"));
        }
    };
    let mut extra = arrived.extra();
    let own = [(said.archive, marks::ARCHIVE), (said.empty, marks::EMPTY)];
    extra.extend(own.into_iter().filter(|(is_said, _)| *is_said).map(|(_, name)| (name, "1".to_owned())));
    extra.extend(check.map(|check| (marks::CHECK, check)));
    let worth = worth(empty);
    if let (Flagged::Divert, Some(rule)) = (policy, rule) {
        let topic = TopicName::new(&format!("{}/{}", rule.divert_to, arrived.topic)).ok();
        let diverted = topic.map(|topic| Local { topic, payload, properties: extra });
        return Judgement { worth, incoming: Incoming::Diverted, diverted };
    }
    let deliver = Deliver {
        payload,
        props: props.encode().unwrap_or_default(),
        extra,
        time_ms: records.first().and_then(|record| record.reading.time_ms).unwrap_or(arrived.sealed_ms),
        fresh: !arrived.retained && !arrived.stale && !said.archive,
        records,
        empty,
    };
    Judgement { worth, incoming: Incoming::Deliver(Box::new(deliver)), diverted: None }
}

enum Converted {
    Payload {
        payload: Bytes,
        records: Vec<NamedReading>,
        empty: bool,
    },
    /// It has no value, and nothing can be written of it.
    Nothing,
    Unreadable(String),
}

/// The payload as it is handed on, with its readings if it is read at all. `empty`: its sender says that it has no value.
fn convert(arrived: &Arrived<'_>, mut empty: bool, format: Option<&Format>, props: &mut Properties) -> Converted {
    let payload = arrived.payload.clone();
    let Some(Format { decoder, encoder }) = format else {
        return Converted::Payload { payload, records: Vec::new(), empty };
    };
    let records = match decoder.decode(&payload, arrived.sealed_ms) {
        Ok(records) => records,
        Err(_) if empty => return Converted::Nothing,
        Err(error) => return Converted::Unreadable(error.to_string()),
    };
    empty |= records.iter().all(|record| record.reading.is_empty());
    let Some(encoder) = encoder else { return Converted::Payload { payload, records, empty } };
    match encoder.encode(&records) {
        Ok(payload) => {
            marks::set_type(props, encoder.media_type());
            Converted::Payload { payload: payload.into(), records, empty }
        }
        Err(_) if empty => Converted::Nothing,
        Err(error) => Converted::Unreadable(error.to_string()),
    }
}
