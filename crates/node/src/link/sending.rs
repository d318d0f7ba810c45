//! What a link has taken over to publish: cut into parts, and counted until the broker has taken each of them.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use sealcast_mqtt::{Properties, Qos, TopicName, client::Message};
use sealcast_parts::cut;

/// A message on its way, or a part of one.
pub(super) struct Piece {
    /// What it belongs to, for [`Sending::taken`] and [`Sending::refused`].
    pub(super) whole: u64,
    pub(super) message: Message,
}

/// See the module. `O` is whose a message is.
pub(super) struct Sending<O> {
    /// Not yet handed to the connection.
    waiting: VecDeque<Piece>,
    /// Owner, and how many pieces the broker has not taken yet.
    under_way: BTreeMap<u64, (O, usize)>,
    next: u64,
}

impl<O> Default for Sending<O> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), under_way: BTreeMap::new(), next: 0 }
    }
}

impl<O> Sending<O> {
    /// Takes a message over, to be cut into payloads of at most `max_payload_bytes`, if that is given. Parts are not retained: the broker keeps one
    /// message for each topic.
    ///
    /// # Errors
    /// The owner, and why its message cannot be sent.
    pub(super) fn put(
        &mut self,
        topic: TopicName,
        retain: bool,
        payload: Bytes,
        max_payload_bytes: Option<usize>,
        owner: O,
    ) -> Result<(), (O, String)> {
        let parts = match max_payload_bytes.map_or_else(|| Ok(vec![payload.clone()]), |max| cut(payload.clone(), max)) {
            Ok(parts) => parts,
            Err(error) => return Err((owner, error.to_string())),
        };
        let whole = self.next;
        self.next += 1;
        let retain = retain && parts.len() == 1;
        self.under_way.insert(whole, (owner, parts.len()));
        self.waiting
            .extend(parts.into_iter().map(|payload| Piece { whole, message: message(&topic, retain, payload) }));
        Ok(())
    }

    /// Whether pieces wait to be handed to the connection.
    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The next piece.
    pub(super) fn next(&mut self) -> Option<Piece> {
        self.waiting.pop_front()
    }

    /// The broker has taken a piece. Gives the owner when it was the last one.
    pub(super) fn taken(&mut self, whole: u64) -> Option<O> {
        let (_, left) = self.under_way.get_mut(&whole)?;
        *left -= 1;
        (*left == 0).then(|| self.under_way.remove(&whole)).flatten().map(|(owner, _)| owner)
    }

    /// The broker has refused a piece: the others are of no use. Gives the owner, once.
    pub(super) fn refused(&mut self, whole: u64) -> Option<O> {
        let (owner, _) = self.under_way.remove(&whole)?;
        self.waiting.retain(|piece| piece.whole != whole);
        Some(owner)
    }
}

fn message(topic: &TopicName, retain: bool, payload: Bytes) -> Message {
    Message { topic: topic.clone(), qos: Qos::AtLeastOnce, retain, properties: Properties::new(), payload }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn put(sending: &mut Sending<&'static str>, owner: &'static str, bytes: usize) -> Vec<Piece> {
        let topic = TopicName::new("t").unwrap();
        sending.put(topic, true, vec![0; bytes].into(), Some(100), owner).unwrap();
        std::iter::from_fn(|| sending.next()).collect()
    }

    #[test]
    fn a_message_is_taken_with_its_last_part_and_only_a_whole_one_is_retained() {
        let mut sending = Sending::default();
        let whole = put(&mut sending, "short", 100);
        let parts = put(&mut sending, "long", 101);
        let retained = |pieces: &[Piece]| pieces.iter().map(|piece| piece.message.retain).collect::<Vec<_>>();
        assert_eq!((retained(&whole), retained(&parts)), (vec![true], vec![false, false]));
        assert_eq!(sending.taken(parts[1].whole), None);
        assert_eq!(sending.taken(whole[0].whole), Some("short"));
        assert_eq!(sending.taken(parts[0].whole), Some("long"));
        assert_eq!(sending.taken(parts[0].whole), None);
    }

    #[test]
    fn a_message_is_refused_once_and_the_rest_of_it_stays_here() {
        let mut sending = Sending::default();
        let topic = TopicName::new("t").unwrap();
        sending.put(topic, false, vec![0; 500].into(), Some(100), "long").unwrap();
        let first = sending.next().unwrap();
        assert_eq!(sending.refused(first.whole), Some("long"));
        assert!(!sending.is_waiting());
        assert_eq!((sending.refused(first.whole), sending.taken(first.whole)), (None, None));
    }
}
