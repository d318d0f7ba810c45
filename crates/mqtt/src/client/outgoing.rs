//! Published messages: those that wait for the server's answer, and those that wait to be sent.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::packets::PacketId;

/// Both, in the order they were published. `P` are the caller's tokens.
pub(super) struct Outgoing<P> {
    queue: VecDeque<Queued<P>>,
    queued_bytes: usize,
    in_flight: BTreeMap<PacketId, P>,
}

pub(super) struct Queued<P> {
    pub(super) frame: Bytes,
    /// QoS 1.
    pub(super) id: Option<PacketId>,
    pub(super) token: P,
}

impl<P> Default for Outgoing<P> {
    fn default() -> Self {
        Self { queue: VecDeque::new(), queued_bytes: 0, in_flight: BTreeMap::new() }
    }
}

impl<P> Outgoing<P> {
    /// Whether one more may wait.
    pub(super) fn has_room(&self, max: usize, max_bytes: usize) -> bool {
        self.queue.len() < max && self.queued_bytes < max_bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.in_flight.is_empty()
    }

    pub(super) fn push(&mut self, queued: Queued<P>) {
        self.queued_bytes += queued.frame.len();
        self.queue.push_back(queued);
    }

    /// The next frame to be sent, while fewer than `window` wait for their answer. A message of QoS 0 is over with that, and
    /// its token comes back.
    pub(super) fn next(&mut self, window: u16) -> Option<(Bytes, Option<P>)> {
        let full = self.in_flight.len() >= usize::from(window);
        let Queued { frame, id, token } = self.queue.pop_front_if(|queued| queued.id.is_none() || !full)?;
        self.queued_bytes -= frame.len();
        let over = match id {
            None => Some(token),
            Some(id) => {
                self.in_flight.insert(id, token);
                None
            }
        };
        Some((frame, over))
    }

    /// The server has answered.
    pub(super) fn answered(&mut self, id: PacketId) -> Option<P> {
        self.in_flight.remove(&id)
    }

    /// The tokens of what may have arrived or not, and of what was not sent.
    pub(super) fn end(&mut self) -> (impl Iterator<Item = P> + use<P>, impl Iterator<Item = P> + use<P>) {
        let Self { queue, in_flight, .. } = std::mem::take(self);
        (in_flight.into_values(), queue.into_iter().map(|queued| queued.token))
    }
}
