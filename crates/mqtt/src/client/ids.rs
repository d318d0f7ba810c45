//! Packet identifiers in use (MQTT 5 2.2.1). Only those take memory.

use std::collections::BTreeSet;

use crate::packets::PacketId;

#[derive(Default)]
pub(super) struct PacketIds {
    used: BTreeSet<PacketId>,
    last: u16,
}

impl PacketIds {
    /// One that is free; `None` if all are in use. Each is used again as late as possible.
    pub(super) fn take(&mut self) -> Option<PacketId> {
        if self.used.len() >= usize::from(u16::MAX) {
            return None;
        }
        loop {
            self.last = self.last.wrapping_add(1);
            if let Some(id) = PacketId::new(self.last)
                && self.used.insert(id)
            {
                return Some(id);
            }
        }
    }

    pub(super) fn release(&mut self, id: PacketId) {
        self.used.remove(&id);
    }
}
