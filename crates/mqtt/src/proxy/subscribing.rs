//! What a client subscribes to (MQTT 5 3.8 to 3.11).
//!
//! What is noted of it says which of the agent's own messages a client wants. A filter for which a broker would close the
//! connection is taken out and refused here; the others go on. What cannot be read is left to the broker to judge.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use sealcast_topic::matches;

use crate::packets::{
    EncodeError, Frame, PacketId, ParseError, Properties, Suback, Subscribe, Text, Unsuback, Unsubscribe, Version,
    reason,
};
use crate::topic::{NotCarried, check_filter};

/// Most filters that are noted for one session; further ones get nothing of the agent's own.
pub const MAX_SUBSCRIPTIONS: usize = 1024;
/// Most SUBSCRIBE, and most UNSUBSCRIBE, that wait for their answer and are noted.
const MAX_PENDING: usize = 64;

/// SUBSCRIBE and UNSUBSCRIBE on their way.
#[derive(Default)]
pub(super) struct Pending {
    subscribe: BTreeMap<PacketId, Vec<Asked>>,
    /// Only those of which a filter was taken out.
    unsubscribe: BTreeMap<PacketId, Vec<Asked>>,
}

/// One filter of a packet.
enum Asked {
    Passed(Box<str>),
    /// Refused here with this reason code.
    Refused(u8),
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
            Ok(request) => Ok(judge(Some(&mut self.subscribe), frame, request, version)),
            Err(error @ ParseError::NoLocalShared(_)) => Err(error),
            Err(_) => Ok(Judged::pass(frame)),
        }
    }

    /// Judges an UNSUBSCRIBE, and notes it if something is to be put into its answer. That of MQTT 3.1.1 has no codes.
    pub(super) fn unsubscribe(&mut self, frame: Frame, version: Version) -> Judged {
        let noted = if version == Version::V5 { Some(&mut self.unsubscribe) } else { None };
        match Unsubscribe::parse(&frame, version) {
            Ok(request) => judge(noted, frame, request, version),
            Err(_) => Judged::pass(frame),
        }
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

    /// The UNSUBACK for the client.
    pub(super) fn unsuback(&mut self, frame: Frame, version: Version) -> Bytes {
        let Ok(unsuback) = Unsuback::parse(&frame, version) else { return frame.into_bytes() };
        let Some(asked) = self.unsubscribe.remove(&unsuback.packet_id) else { return frame.into_bytes() };
        Unsuback { codes: merge(asked, &unsuback.codes).codes, ..unsuback }
            .encode(version)
            .unwrap_or_else(|_| frame.into_bytes())
    }
}

fn all_passed(asked: &[Asked]) -> bool {
    asked.iter().all(|one| matches!(one, Asked::Passed(_)))
}

/// The filters that an UNSUBSCRIBE ends.
pub(super) fn ended(frame: &Frame, version: Version) -> Vec<Box<str>> {
    let filters = Unsubscribe::parse(frame, version).map(|request| request.filters);
    filters.unwrap_or_default().iter().map(|filter| filter.as_str().into()).collect()
}

/// Whether one of `filters` matches (MQTT 5 4.7). Shared subscriptions match nothing: which of their clients a message is
/// for only the broker knows.
pub(super) fn matches_any(filters: &BTreeSet<Box<str>>, topic: &str) -> bool {
    filters.iter().any(|filter| matches(filter, topic))
}

/// Whether `known` ends with `filter`: it is the same, or a topic that was learnt from it. One that stands for itself too
/// is learnt again when it brings something.
pub(super) fn covers(filter: &str, known: &str) -> bool {
    filter == known || (!known.contains(['+', '#']) && matches(filter, known))
}

/// A SUBSCRIBE or UNSUBSCRIBE.
trait Request: Sized {
    /// What is answered where there is no room to wait for the broker's answer.
    const NO_ROOM: u8;
    /// Whether it is noted also if all of its filters go on.
    const ALWAYS_NOTED: bool;

    fn id(&self) -> PacketId;
    fn filters(&self) -> impl Iterator<Item = &str>;
    /// The frame with the filters only for which `keep` says so.
    fn encode_some(self, keep: impl Iterator<Item = bool>, version: Version) -> Result<Bytes, EncodeError>;
    /// The frame of the answer.
    fn encode_answer(id: PacketId, codes: Bytes, version: Version) -> Result<Bytes, EncodeError>;
}

impl Request for Subscribe {
    const NO_ROOM: u8 = reason::QUOTA_EXCEEDED;
    const ALWAYS_NOTED: bool = true;

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
    const ALWAYS_NOTED: bool = false;

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

/// What becomes of a packet, which is noted in `pending` if there is that.
fn judge<R: Request>(
    pending: Option<&mut BTreeMap<PacketId, Vec<Asked>>>,
    frame: Frame,
    request: R,
    version: Version,
) -> Judged {
    let errors: Vec<Option<NotCarried>> = request.filters().map(|filter| check_filter(filter).err()).collect();
    let unfit = errors.iter().flatten().count();
    let id = request.id();
    let room = pending.as_ref().is_none_or(|noted| noted.len() < MAX_PENDING || noted.contains_key(&id));
    if unfit == 0 && !R::ALWAYS_NOTED {
        return Judged::pass(frame);
    }
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
        if let (Some(pending), true) = (pending, room) {
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
    if let Some(pending) = pending {
        pending.insert(id, asked);
    }
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
