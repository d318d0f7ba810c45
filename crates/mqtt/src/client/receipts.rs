//! Received messages that are not acknowledged yet. PUBACKs leave in the order that the messages came in, in whatever order
//! they are acknowledged (MQTT 5 4.6).

use std::collections::VecDeque;

use super::types::Receipt;
use crate::packets::PacketId;

#[derive(Default)]
pub(super) struct Receipts {
    /// The number of the first that waits.
    first: u64,
    waiting: VecDeque<(PacketId, Acknowledged)>,
}

type Acknowledged = bool;

impl Receipts {
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn push(&mut self, id: PacketId) -> Receipt {
        let number = self.first + self.waiting.len() as u64;
        self.waiting.push_back((id, false));
        Receipt(number)
    }

    pub(super) fn acknowledge(&mut self, receipt: Receipt) {
        let place = receipt.0.checked_sub(self.first).and_then(|place| usize::try_from(place).ok());
        if let Some((_, acknowledged)) = place.and_then(|place| self.waiting.get_mut(place)) {
            *acknowledged = true;
        }
    }

    /// The next one to be told to the server.
    pub(super) fn next(&mut self) -> Option<PacketId> {
        let (id, _) = self.waiting.pop_front_if(|(_, acknowledged)| *acknowledged)?;
        self.first += 1;
        Some(id)
    }

    pub(super) fn end(&mut self) {
        self.first += self.waiting.len() as u64;
        self.waiting.clear();
    }
}
