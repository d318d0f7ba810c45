//! Puts messages together.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::{Bytes, BytesMut};

use crate::{
    Digest, MARKER,
    part::{Part, digest_of},
};

/// What an unfinished message takes beside its pieces and its topic, about; and so each piece.
const OVERHEAD_BYTES: usize = 128;

/// How much an [`Assembler`] keeps.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Longest message.
    pub message_bytes: usize,
    /// Unfinished messages of one topic, together.
    pub topic_bytes: usize,
    /// Those of all topics.
    pub total_bytes: usize,
    /// How long a message may take from its first part to its last, ms.
    pub age_ms: u64,
}

/// Why a part was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PartError {
    /// It begins as a part does, and is none.
    #[error("a malformed part of a message")]
    Malformed,
    /// Another part of the message says another number of parts.
    #[error("a part that does not fit the others of its message")]
    Misfit,
    /// The message is longer than one may be.
    #[error("parts of a message that is longer than {0} bytes")]
    TooLong(usize),
    /// The whole is not what the parts say: one of them is forged or damaged. All were dropped.
    #[error("parts that do not give the message that they name")]
    Digest,
}

/// Puts the parts of messages together, topic by topic. What would take more than [`Limits`] is dropped, the oldest of the
/// topic that has most: whoever floods one topic does not hold up the others. However many there are, none is looked
/// through for one part.
#[derive(Debug)]
pub struct Assembler {
    limits: Limits,
    topics: BTreeMap<Arc<str>, Topic>,
    /// All topics, each with its bytes: the last one has most.
    by_bytes: BTreeSet<(usize, Arc<str>)>,
    bytes: usize,
    /// Messages begun so far.
    begun: u64,
    /// When old ones are looked for again.
    sweep_ms: u64,
}

/// A topic's unfinished messages.
#[derive(Debug, Default)]
struct Topic {
    unfinished: BTreeMap<Digest, Unfinished>,
    /// In the order in which they were begun.
    order: BTreeMap<u64, Digest>,
    bytes: usize,
}

#[derive(Debug)]
struct Unfinished {
    message: Digest,
    count: u16,
    pieces: BTreeMap<u16, Box<[u8]>>,
    /// With what they take beside.
    bytes: usize,
    /// The later one has the greater number.
    number: u64,
    begun_ms: u64,
}

impl Unfinished {
    fn length(&self) -> usize {
        self.pieces.values().map(|piece| piece.len()).sum()
    }

    fn whole(self) -> Result<Bytes, PartError> {
        let mut whole = BytesMut::with_capacity(self.length());
        self.pieces.values().for_each(|piece| whole.extend_from_slice(piece));
        if digest_of(&whole) == self.message { Ok(whole.freeze()) } else { Err(PartError::Digest) }
    }
}

impl Assembler {
    /// One that keeps nothing yet.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, topics: BTreeMap::new(), by_bytes: BTreeSet::new(), bytes: 0, begun: 0, sweep_ms: 0 }
    }

    /// What its unfinished messages take, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// A payload has come on `topic`. Gives the message that it is, or that it completes. A repeated part of a complete
    /// message begins it anew, and is forgotten with time.
    ///
    /// # Errors
    /// [`PartError`]: what came is of no use.
    pub fn take(&mut self, topic: &str, payload: Bytes, now_ms: u64) -> Result<Option<Bytes>, PartError> {
        if payload.first() != Some(&MARKER) {
            return Ok(Some(payload));
        }
        self.sweep(now_ms);
        let part = Part::read(&payload).ok_or(PartError::Malformed)?;
        let mut unfinished = self.remove(topic, &part.message).unwrap_or_else(|| Unfinished {
            message: part.message,
            count: part.count,
            pieces: BTreeMap::new(),
            // Whoever may choose topics could have more of them kept than of messages.
            bytes: OVERHEAD_BYTES + topic.len(),
            number: self.begun,
            begun_ms: now_ms,
        });
        self.begun += 1;
        let outcome = self.add(&mut unfinished, &part);
        if outcome.is_ok() && unfinished.pieces.len() == usize::from(unfinished.count) {
            return unfinished.whole().map(Some);
        }
        if outcome != Err(PartError::TooLong(self.limits.message_bytes)) && !unfinished.pieces.is_empty() {
            self.insert(topic, unfinished);
        }
        outcome.map(|()| None)
    }

    fn add(&self, unfinished: &mut Unfinished, part: &Part<'_>) -> Result<(), PartError> {
        if part.count != unfinished.count {
            return Err(PartError::Misfit);
        }
        // The first one stays: a second that differs would spoil the message either way.
        if unfinished.pieces.contains_key(&part.index) {
            return Ok(());
        }
        if unfinished.length() + part.piece.len() > self.limits.message_bytes {
            return Err(PartError::TooLong(self.limits.message_bytes));
        }
        unfinished.bytes += part.piece.len() + OVERHEAD_BYTES;
        unfinished.pieces.insert(part.index, part.piece.into());
        Ok(())
    }

    fn insert(&mut self, topic: &str, unfinished: Unfinished) {
        let topic = self.topics.get_key_value(topic).map_or_else(|| Arc::from(topic), |(topic, _)| topic.clone());
        let of = self.topics.entry(topic.clone()).or_default();
        self.by_bytes.remove(&(of.bytes, topic.clone()));
        of.bytes += unfinished.bytes;
        self.bytes += unfinished.bytes;
        self.by_bytes.insert((of.bytes, topic.clone()));
        of.order.insert(unfinished.number, unfinished.message);
        of.unfinished.insert(unfinished.message, unfinished);
        while self.topics.get(&topic).is_some_and(|of| of.bytes > self.limits.topic_bytes) {
            self.drop_oldest(&topic);
        }
        while self.bytes > self.limits.total_bytes {
            let Some((_, most)) = self.by_bytes.last().cloned() else { return };
            self.drop_oldest(&most);
        }
    }

    fn remove(&mut self, topic: &str, message: &Digest) -> Option<Unfinished> {
        let name = self.topics.get_key_value(topic)?.0.clone();
        let of = self.topics.get_mut(topic)?;
        let unfinished = of.unfinished.remove(message)?;
        of.order.remove(&unfinished.number);
        self.by_bytes.remove(&(of.bytes, name.clone()));
        of.bytes -= unfinished.bytes;
        self.bytes -= unfinished.bytes;
        if of.unfinished.is_empty() {
            self.topics.remove(topic);
        } else {
            self.by_bytes.insert((of.bytes, name));
        }
        Some(unfinished)
    }

    fn drop_oldest(&mut self, topic: &str) {
        let oldest = self.topics.get(topic).and_then(|of| of.order.first_key_value()).map(|(_, message)| *message);
        if let Some(message) = oldest {
            self.remove(topic, &message);
        }
    }

    /// Drops those that took too long. Looks for them now and then only.
    fn sweep(&mut self, now_ms: u64) {
        if now_ms < self.sweep_ms {
            return;
        }
        let age_ms = self.limits.age_ms;
        self.sweep_ms = now_ms.saturating_add(age_ms / 4);
        let is_late = |unfinished: &Unfinished| now_ms.saturating_sub(unfinished.begun_ms) > age_ms;
        let late: Vec<(Arc<str>, Digest)> = self
            .topics
            .iter()
            .flat_map(|(topic, of)| of.unfinished.values().map(move |unfinished| (topic, unfinished)))
            .filter(|(_, unfinished)| is_late(unfinished))
            .map(|(topic, unfinished)| (topic.clone(), unfinished.message))
            .collect();
        for (topic, message) in late {
            self.remove(&topic, &message);
        }
    }
}

#[cfg(test)]
mod tests;
