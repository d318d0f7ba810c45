//! SUBSCRIBE, SUBACK, UNSUBSCRIBE and UNSUBACK (MQTT 5 3.8 to 3.11).
//!
//! What is noted of them says which of the agent's own messages a client wants. A filter for which a broker would close the
//! connection is taken out and refused here; the others go on. What cannot be read is left to the broker to judge.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{BufMut, Bytes, BytesMut};
use sealcast_topic::matches;

use crate::packets::{Frame, PacketId, ParseError, Reader, Version, encode_frame, put_text};
use crate::topic::{NotCarried, check_filter};

/// Most filters that are noted for one session; further ones get nothing of the agent's own.
pub const MAX_SUBSCRIPTIONS: usize = 1024;
/// Most SUBSCRIBE, and most UNSUBSCRIBE, that wait for their answer and are noted.
const MAX_PENDING: usize = 64;

const FILTER_INVALID: u8 = 0x8F;
const QUOTA_EXCEEDED: u8 = 0x97;
const UNSPECIFIED: u8 = 0x80;
const FAILURE_V311: u8 = 0x80;
const NO_LOCAL: u8 = 0x04;
const SUBACK: u8 = 0x90;
const UNSUBACK: u8 = 0xB0;

/// SUBSCRIBE and UNSUBSCRIBE on their way.
#[derive(Default)]
pub(crate) struct Pending {
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
pub(crate) struct RefusedFilter {
    pub(crate) filter: Box<str>,
    pub(crate) error: NotCarried,
}

/// What to do with a SUBSCRIBE or UNSUBSCRIBE.
pub(crate) struct Judged {
    /// What goes to the broker, if anything is left.
    pub(crate) pass: Option<Bytes>,
    /// The answer to the client, if nothing is left.
    pub(crate) answer: Option<Bytes>,
    pub(crate) refused: Vec<RefusedFilter>,
}

impl Judged {
    fn pass(frame: Frame) -> Self {
        Self { pass: Some(frame.into_bytes()), answer: None, refused: Vec::new() }
    }
}

impl Pending {
    /// Judges and notes a SUBSCRIBE.
    pub(crate) fn subscribe(&mut self, frame: Frame, version: Version) -> Result<Judged, ParseError> {
        let Some(request) = Request::read(&frame, version, true) else { return Ok(Judged::pass(frame)) };
        let shared = |(filter, options): &&(Box<str>, u8)| filter.starts_with("$share/") && options & NO_LOCAL != 0;
        if version == Version::V5
            && let Some((filter, _)) = request.filters.iter().find(shared)
        {
            return Err(ParseError::NoLocalShared(filter.clone()));
        }
        Ok(judge(&mut self.subscribe, frame, request, version, SUBACK))
    }

    /// Judges an UNSUBSCRIBE, and notes it if something is to be put into its answer.
    pub(crate) fn unsubscribe(&mut self, frame: Frame, version: Version) -> Judged {
        match Request::read(&frame, version, false) {
            Some(request) => judge(&mut self.unsubscribe, frame, request, version, UNSUBACK),
            None => Judged::pass(frame),
        }
    }

    /// The SUBACK for the client, and the filters that it grants.
    pub(crate) fn suback(&mut self, frame: Frame, version: Version) -> (Bytes, Vec<Box<str>>) {
        answer(&mut self.subscribe, frame, version)
    }

    /// The UNSUBACK for the client.
    pub(crate) fn unsuback(&mut self, frame: Frame, version: Version) -> Bytes {
        match version {
            // It has no codes.
            Version::V311 => frame.into_bytes(),
            Version::V5 => answer(&mut self.unsubscribe, frame, version).0,
        }
    }
}

/// The filters that an UNSUBSCRIBE ends.
pub(crate) fn ended(frame: &Frame, version: Version) -> Vec<Box<str>> {
    let filters = Request::read(frame, version, false).map(|request| request.filters);
    filters.unwrap_or_default().into_iter().map(|(filter, _)| filter).collect()
}

/// Whether one of `filters` matches (MQTT 5 4.7). Shared subscriptions match nothing: which of their clients a message is
/// for only the broker knows.
pub(crate) fn matches_any(filters: &BTreeSet<Box<str>>, topic: &str) -> bool {
    filters.iter().any(|filter| matches(filter, topic))
}

/// Whether `known` ends with `filter`: it is the same, or a topic that was learnt from it. One that stands for itself too
/// is learnt again when it brings something.
pub(crate) fn covers(filter: &str, known: &str) -> bool {
    filter == known || (!known.contains(['+', '#']) && matches(filter, known))
}

/// A SUBSCRIBE or UNSUBSCRIBE as it was read.
struct Request {
    id: PacketId,
    /// With their length before them; empty in MQTT 3.1.1.
    properties: Bytes,
    /// Each with its subscription options; 0 in UNSUBSCRIBE.
    filters: Vec<(Box<str>, u8)>,
    options: bool,
    /// Nothing of the packet was left out.
    whole: bool,
}

impl Request {
    fn read(frame: &Frame, version: Version, options: bool) -> Option<Self> {
        let (id, properties, mut reader) = head(frame, version)?;
        let mut filters = Vec::new();
        while !reader.is_empty() && filters.len() < MAX_SUBSCRIPTIONS {
            let filter = reader.text("topic filter").ok()?.as_str().into();
            filters.push((filter, if options { reader.u8("subscription options").ok()? } else { 0 }));
        }
        Some(Self { id, properties, filters, options, whole: reader.is_empty() })
    }

    /// The packet with these filters only.
    fn encode<'a>(&self, first: u8, filters: impl Iterator<Item = &'a (Box<str>, u8)>) -> Option<Bytes> {
        let mut out = BytesMut::new();
        out.put_u16(self.id.value());
        out.put_slice(&self.properties);
        for (filter, options) in filters {
            put_text(&mut out, filter.as_bytes(), "topic filter").ok()?;
            if self.options {
                out.put_u8(*options);
            }
        }
        encode_frame(first, &[&out]).ok()
    }
}

fn judge(
    pending: &mut BTreeMap<PacketId, Vec<Asked>>,
    frame: Frame,
    request: Request,
    version: Version,
    answer: u8,
) -> Judged {
    let code = |v5: u8| if version == Version::V5 { v5 } else { FAILURE_V311 };
    let errors: Vec<Option<NotCarried>> =
        request.filters.iter().map(|(filter, _)| check_filter(filter).err()).collect();
    let unfit = errors.iter().flatten().count();
    let room = pending.len() < MAX_PENDING || pending.contains_key(&request.id);
    // A packet of more filters than are noted is one that a broker refuses as a whole.
    if unfit == 0 || !request.whole {
        if answer == SUBACK && room {
            let asked = request.filters.into_iter().map(|(filter, _)| Asked::Passed(filter)).collect();
            pending.insert(request.id, asked);
        }
        return Judged::pass(frame);
    }
    let refused = request.filters.iter().zip(&errors);
    let refused = refused
        .filter_map(|((filter, _), error)| Some(RefusedFilter { filter: filter.clone(), error: (*error)? }))
        .collect();
    // MQTT 3.1.1's UNSUBACK has no codes to be put in.
    let noted = answer == SUBACK || version == Version::V5;
    if unfit == request.filters.len() || (noted && !room) {
        let no_room = if answer == SUBACK { QUOTA_EXCEEDED } else { UNSPECIFIED };
        let codes = errors.iter().map(|error| code(if error.is_some() { FILTER_INVALID } else { no_room }));
        let bytes = encode_answer(answer, request.id, version, &[0], codes);
        return Judged { pass: None, answer: bytes, refused };
    }
    let fit = request.filters.iter().zip(&errors).filter(|(_, error)| error.is_none()).map(|(filter, _)| filter);
    let pass = request.encode(frame.bytes().first().copied().unwrap_or_default(), fit);
    if noted {
        let asked = request.filters.into_iter().zip(errors);
        let asked = asked.map(|((filter, _), error)| match error {
            None => Asked::Passed(filter),
            Some(_) => Asked::Refused(code(FILTER_INVALID)),
        });
        pending.insert(request.id, asked.collect());
    }
    Judged { pass, answer: None, refused }
}

/// The answer of the broker with the codes of what was refused here put in, and the filters that it grants.
fn answer(pending: &mut BTreeMap<PacketId, Vec<Asked>>, frame: Frame, version: Version) -> (Bytes, Vec<Box<str>>) {
    let Some((id, properties, reader)) = head(&frame, version) else { return (frame.into_bytes(), Vec::new()) };
    let Some(asked) = pending.remove(&id) else { return (frame.into_bytes(), Vec::new()) };
    let whole = !asked.iter().any(|one| matches!(one, Asked::Refused(_)));
    let mut given = reader.rest().into_iter();
    let (mut codes, mut granted) = (Vec::with_capacity(asked.len()), Vec::new());
    for one in asked {
        match one {
            Asked::Refused(code) => codes.push(code),
            Asked::Passed(filter) => {
                let Some(code) = given.next() else { break };
                codes.push(code);
                if code < 0x80 {
                    granted.push(filter);
                }
            }
        }
    }
    let first = frame.bytes().first().copied().unwrap_or_default();
    let changed = if whole { None } else { encode_answer(first, id, version, &properties, codes.into_iter()) };
    (changed.unwrap_or_else(|| frame.into_bytes()), granted)
}

fn encode_answer(
    first: u8,
    id: PacketId,
    version: Version,
    properties: &[u8],
    codes: impl Iterator<Item = u8>,
) -> Option<Bytes> {
    let mut out = BytesMut::new();
    out.put_u16(id.value());
    if version == Version::V5 {
        out.put_slice(properties);
    }
    if version == Version::V5 || first == SUBACK {
        codes.for_each(|code| out.put_u8(code));
    }
    encode_frame(first, &[&out]).ok()
}

/// Packet identifier, properties with their length, and what follows them.
fn head(frame: &Frame, version: Version) -> Option<(PacketId, Bytes, Reader)> {
    let mut reader = Reader::new(frame.content());
    let id = PacketId::read(&mut reader).ok()?;
    if version == Version::V311 {
        return Some((id, Bytes::new(), reader));
    }
    let rest = reader.rest();
    let mut reader = Reader::new(rest.clone());
    let len = reader.varint("property length").ok()?;
    reader.take(usize::try_from(len).ok()?, "properties").ok()?;
    let remaining = reader.rest();
    let properties = rest.slice(..rest.len() - remaining.len());
    Some((id, properties, Reader::new(remaining)))
}
