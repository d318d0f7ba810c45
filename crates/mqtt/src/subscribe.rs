//! SUBSCRIBE, SUBACK and UNSUBSCRIBE (MQTT 5 3.8 to 3.10), read in passing: they go on byte for byte, and what is noted of
//! them says which of the agent's own messages a client wants. What cannot be read is left to the broker to judge.

use std::collections::{BTreeMap, BTreeSet};

use crate::frame::{Frame, Version};
use crate::publish::PacketId;
use crate::wire::Reader;

/// Most filters that are noted for one session; further ones get nothing of the agent's own.
pub const MAX_SUBSCRIPTIONS: usize = 1024;
/// Most SUBSCRIBE packets that wait for their SUBACK and are noted.
const MAX_PENDING: usize = 64;

/// SUBSCRIBE packets on their way.
#[derive(Default)]
pub(crate) struct Pending(BTreeMap<PacketId, Vec<Box<str>>>);

impl Pending {
    /// Notes a SUBSCRIBE.
    pub(crate) fn note(&mut self, frame: &Frame, version: Version) {
        let Some((id, filters)) = filters(frame, version, true) else { return };
        if self.0.len() < MAX_PENDING || self.0.contains_key(&id) {
            self.0.insert(id, filters);
        }
    }

    /// The filters that a SUBACK grants.
    pub(crate) fn granted(&mut self, frame: &Frame, version: Version) -> Vec<Box<str>> {
        let Some((id, reader)) = head(frame, version) else { return Vec::new() };
        let Some(asked) = self.0.remove(&id) else { return Vec::new() };
        let codes = reader.rest();
        asked.into_iter().zip(codes).filter(|(_, code)| *code < 0x80).map(|(filter, _)| filter).collect()
    }
}

/// The filters that an UNSUBSCRIBE ends.
pub(crate) fn ended(frame: &Frame, version: Version) -> Vec<Box<str>> {
    filters(frame, version, false).map(|(_, filters)| filters).unwrap_or_default()
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

fn matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut levels = topic.split('/');
    for pattern in filter.split('/') {
        match (pattern, levels.next()) {
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (literal, Some(level)) if literal == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

fn head(frame: &Frame, version: Version) -> Option<(PacketId, Reader)> {
    let mut reader = Reader::new(frame.content());
    let id = PacketId::read(&mut reader).ok()?;
    if version == Version::V5 {
        let len = reader.varint("property length").ok()?;
        reader.take(usize::try_from(len).ok()?, "properties").ok()?;
    }
    Some((id, reader))
}

fn filters(frame: &Frame, version: Version, options: bool) -> Option<(PacketId, Vec<Box<str>>)> {
    let (id, mut reader) = head(frame, version)?;
    let mut filters = Vec::new();
    while !reader.is_empty() && filters.len() < MAX_SUBSCRIPTIONS {
        filters.push(reader.text("topic filter").ok()?.as_str().into());
        if options {
            reader.u8("subscription options").ok()?;
        }
    }
    Some((id, filters))
}
