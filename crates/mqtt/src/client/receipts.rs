//! Received messages whose PUBACK has not left. PUBACKs leave in the order that the messages came in, in whatever order they
//! are acknowledged (MQTT 5 4.6).
//!
//! The server counts a message until it has the PUBACK (MQTT 5 3.3.4). So a message counts here until then too, and PUBACKs
//! that cannot be written take no more room than the messages that may come.

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

    /// Whether the next one waits for the caller, not for the server.
    pub(super) fn waits_for_caller(&self) -> bool {
        self.waiting.front().is_some_and(|(_, acknowledged)| !acknowledged)
    }

    /// The next one to be told to the server.
    pub(super) fn next(&mut self) -> Option<PacketId> {
        let (id, _) = self.waiting.pop_front_if(|(_, acknowledged)| *acknowledged)?;
        self.first += 1;
        Some(id)
    }

    /// No more messages come, and none can be acknowledged any more. What can be told to the server still waits for that.
    pub(super) fn end(&mut self) {
        let told = self.waiting.iter().take_while(|(_, acknowledged)| *acknowledged).count();
        self.waiting.truncate(told);
    }
}
