//! What a client subscribes to (MQTT 5 3.8 to 3.11).
//!
//! What is noted of it says which of the agent's own messages a client wants, and how many copies of a message a broker may
//! send. A filter for which a broker would close the connection is taken out and refused here; the others go on. What cannot
//! be read is left to the broker to judge.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::subscriptions::{Subscriptions, is_for};
use crate::packets::{
    EncodeError, Frame, PacketId, ParseError, Properties, Suback, Subscribe, Text, Unsuback, Unsubscribe, Version,
    reason,
};
use crate::topic::{NotCarried, check_filter};

/// Most SUBSCRIBE, and most UNSUBSCRIBE, that wait for their answer and are noted.
const MAX_PENDING: usize = 64;

/// SUBSCRIBE and UNSUBSCRIBE on their way.
#[derive(Default)]
pub(super) struct Pending {
    subscribe: BTreeMap<PacketId, Vec<Asked>>,
    unsubscribe: BTreeMap<PacketId, Vec<Asked>>,
}

/// One filter of a packet.
enum Asked {
    Passed(Box<str>),
    /// Refused here with this reason code.
    Refused(u8),
}

impl Asked {
    fn passed(self) -> Option<Box<str>> {
        if let Self::Passed(filter) = self { Some(filter) } else { None }
    }
}

/// A filter that is refused here.
pub(super) struct RefusedFilter {
    pub(super) filter: Box<str>,
    pub(super) error: NotCarried,
}

/// What to do with a SUBSCRIBE or UNSUBSCRIBE.
pub(super) struct Judged {
    /// What goes to the broker, if anything is left.
    pub(super) pass: Option<Bytes>,
    /// The answer to the client, if nothing is left.
    pub(super) answer: Option<Bytes>,
    pub(super) refused: Vec<RefusedFilter>,
}

impl Judged {
    fn pass(frame: Frame) -> Self {
        Self { pass: Some(frame.into_bytes()), answer: None, refused: Vec::new() }
    }
}

impl Pending {
    /// Judges and notes a SUBSCRIBE.
    pub(super) fn subscribe(&mut self, frame: Frame, version: Version) -> Result<Judged, ParseError> {
        match Subscribe::parse(&frame, version) {
            Ok(request) => Ok(judge(&mut self.subscribe, frame, request, version)),
            Err(error @ ParseError::NoLocalShared(_)) => Err(error),
            Err(_) => Ok(Judged::pass(frame)),
        }
    }

    /// Judges and notes an UNSUBSCRIBE.
    pub(super) fn unsubscribe(&mut self, frame: Frame, version: Version) -> Judged {
        match Unsubscribe::parse(&frame, version) {
            Ok(request) => judge(&mut self.unsubscribe, frame, request, version),
            Err(_) => Judged::pass(frame),
        }
    }

    /// How many filters that match `topic` are asked for and not yet granted.
    pub(super) fn matching(&self, topic: &str, granted: &Subscriptions) -> usize {
        let asked = self.subscribe.values().flatten();
        let filters = asked.filter_map(|one| if let Asked::Passed(filter) = one { Some(filter) } else { None });
        let new: BTreeSet<_> = filters.filter(|filter| is_for(filter, topic) && !granted.has(filter)).collect();
        new.len()
    }

    /// The SUBACK for the client, and what it answers.
    pub(super) fn suback(&mut self, frame: Frame, version: Version) -> (Bytes, Merged) {
        let Ok(suback) = Suback::parse(&frame, version) else { return (frame.into_bytes(), Merged::default()) };
        let Some(asked) = self.subscribe.remove(&suback.packet_id) else {
            return (frame.into_bytes(), Merged::default());
        };
        let whole = all_passed(&asked);
        let merged = merge(asked, &suback.codes);
        if whole {
            return (frame.into_bytes(), merged);
        }
        let changed = Suback { codes: merged.codes.clone(), ..suback }.encode(version);
        (changed.unwrap_or_else(|_| frame.into_bytes()), merged)
    }

    /// The UNSUBACK for the client, and the filters that it ends. That of MQTT 3.1.1 has no codes, and ends all of them.
    pub(super) fn unsuback(&mut self, frame: Frame, version: Version) -> (Bytes, Vec<Box<str>>) {
        let Ok(unsuback) = Unsuback::parse(&frame, version) else { return (frame.into_bytes(), Vec::new()) };
        let Some(asked) = self.unsubscribe.remove(&unsuback.packet_id) else { return (frame.into_bytes(), Vec::new()) };
        if version != Version::V5 {
            return (frame.into_bytes(), asked.into_iter().filter_map(Asked::passed).collect());
        }
        let whole = all_passed(&asked);
        let Merged { codes, granted: ended, .. } = merge(asked, &unsuback.codes);
        if whole {
            return (frame.into_bytes(), ended);
        }
        let changed = Unsuback { codes, ..unsuback }.encode(version);
        (changed.unwrap_or_else(|_| frame.into_bytes()), ended)
    }
}

fn all_passed(asked: &[Asked]) -> bool {
    asked.iter().all(|one| matches!(one, Asked::Passed(_)))
}

/// A SUBSCRIBE or UNSUBSCRIBE.
trait Request: Sized {
    /// What is answered where there is no room to wait for the broker's answer.
    const NO_ROOM: u8;

    fn id(&self) -> PacketId;
    fn filters(&self) -> impl Iterator<Item = &str>;
    /// The frame with the filters only for which `keep` says so.
    fn encode_some(self, keep: impl Iterator<Item = bool>, version: Version) -> Result<Bytes, EncodeError>;
    /// The frame of the answer.
    fn encode_answer(id: PacketId, codes: Bytes, version: Version) -> Result<Bytes, EncodeError>;
}

impl Request for Subscribe {
    const NO_ROOM: u8 = reason::QUOTA_EXCEEDED;

    fn id(&self) -> PacketId {
        self.packet_id
    }

    fn filters(&self) -> impl Iterator<Item = &str> {
        self.filters.iter().map(|(filter, _)| filter.as_str())
    }

    fn encode_some(mut self, keep: impl Iterator<Item = bool>, version: Version) -> Result<Bytes, EncodeError> {
        self.filters = kept(self.filters, keep);
        self.encode(version)
    }

    fn encode_answer(packet_id: PacketId, codes: Bytes, version: Version) -> Result<Bytes, EncodeError> {
        Suback { packet_id, properties: Properties::new(), codes }.encode(version)
    }
}

impl Request for Unsubscribe {
    const NO_ROOM: u8 = reason::UNSPECIFIED;

    fn id(&self) -> PacketId {
        self.packet_id
    }

    fn filters(&self) -> impl Iterator<Item = &str> {
        self.filters.iter().map(Text::as_str)
    }

    fn encode_some(mut self, keep: impl Iterator<Item = bool>, version: Version) -> Result<Bytes, EncodeError> {
        self.filters = kept(self.filters, keep);
        self.encode(version)
    }

    fn encode_answer(packet_id: PacketId, codes: Bytes, version: Version) -> Result<Bytes, EncodeError> {
        Unsuback { packet_id, properties: Properties::new(), codes }.encode(version)
    }
}

fn kept<T>(all: Vec<T>, keep: impl Iterator<Item = bool>) -> Vec<T> {
    all.into_iter().zip(keep).filter_map(|(one, keep)| keep.then_some(one)).collect()
}

/// What becomes of a packet, which is noted in `pending`.
fn judge<R: Request>(
    pending: &mut BTreeMap<PacketId, Vec<Asked>>,
    frame: Frame,
    request: R,
    version: Version,
) -> Judged {
    let errors: Vec<Option<NotCarried>> = request.filters().map(|filter| check_filter(filter).err()).collect();
    let unfit = errors.iter().flatten().count();
    let id = request.id();
    let room = pending.len() < MAX_PENDING || pending.contains_key(&id);
    let code = |code| reason::suback(code, version);
    let asked: Vec<Asked> = request
        .filters()
        .zip(&errors)
        .map(|(filter, error)| match error {
            None => Asked::Passed(filter.into()),
            Some(_) => Asked::Refused(code(reason::TOPIC_FILTER_INVALID)),
        })
        .collect();
    if unfit == 0 {
        if room {
            pending.insert(id, asked);
        }
        return Judged::pass(frame);
    }
    let refused = request.filters().zip(&errors);
    let refused =
        refused.filter_map(|(filter, error)| Some(RefusedFilter { filter: filter.into(), error: (*error)? })).collect();
    if unfit == errors.len() || !room {
        let codes = errors.iter().map(|error| match error {
            Some(_) => code(reason::TOPIC_FILTER_INVALID),
            None => code(R::NO_ROOM),
        });
        let answer = R::encode_answer(id, codes.collect(), version).ok();
        return Judged { pass: None, answer, refused };
    }
    pending.insert(id, asked);
    let pass = request.encode_some(errors.iter().map(Option::is_none), version).ok();
    Judged { pass, answer: None, refused }
}

/// An answer of the broker, together with what was refused here.
#[derive(Default)]
pub(super) struct Merged {
    /// For the client.
    codes: Bytes,
    /// Filters that the broker granted.
    pub(super) granted: Vec<Box<str>>,
    /// Filters that it refused.
    pub(super) refused: Vec<Box<str>>,
}

fn merge(asked: Vec<Asked>, given: &Bytes) -> Merged {
    let mut given = given.iter();
    let mut codes = Vec::with_capacity(asked.len());
    let (mut granted, mut refused) = (Vec::new(), Vec::new());
    for one in asked {
        match one {
            Asked::Refused(code) => codes.push(code),
            Asked::Passed(filter) => {
                let Some(code) = given.next() else { break };
                codes.push(*code);
                if *code < reason::FIRST_FAILURE { granted.push(filter) } else { refused.push(filter) }
            }
        }
    }
    Merged { codes: codes.into(), granted, refused }
}
