//! Welcomes that came before the ledger entries that they need.
//!
//! Any member of the network can write into any inbox, so what is held is bounded, and nothing that is held gives way to
//! something that came later for the same group: which of them is good shows when the ledger has come.

use std::collections::BTreeMap;

use crate::{GroupNumber, GroupRefusal};

/// Longest inbox payload: with a certificate chain of two in each leaf, 1,000 members need about 1.5 MiB, nearly all of
/// it the ratchet tree. It is also as much as the hub's broker carries in one message.
pub(crate) const MAX_INBOX_BYTES: usize = 4 * 1024 * 1024;
/// Most bytes that are held for all groups.
const MAX_HELD_BYTES: usize = 16 * 1024 * 1024;
/// Most payloads that are held for one group.
const MAX_HELD: usize = 4;

/// See the module.
#[derive(Default)]
pub(crate) struct Inboxes {
    held: BTreeMap<GroupNumber, Vec<Vec<u8>>>,
}

impl Inboxes {
    /// Keeps a payload. `wanted`: whether this device may be in a group, as far as it knows; the others make room.
    pub fn hold(
        &mut self,
        group: GroupNumber,
        payload: &[u8],
        wanted: impl Fn(GroupNumber) -> bool,
    ) -> Result<(), GroupRefusal> {
        let refused = |why| Err(GroupRefusal::Inbox { group, why });
        if payload.len() > MAX_INBOX_BYTES {
            return refused("it is longer than 4 MiB");
        }
        let of_group = self.held.get(&group).map(Vec::as_slice).unwrap_or_default();
        if of_group.iter().any(|held| held == payload) {
            return Ok(());
        }
        if of_group.len() >= MAX_HELD {
            return refused("four others wait for the ledger already");
        }
        while self.bytes() + payload.len() > MAX_HELD_BYTES {
            let unwanted = self.held.keys().copied().find(|other| wanted(group) && !wanted(*other));
            let Some(unwanted) = unwanted else { return refused("16 MiB of others wait for the ledger already") };
            self.held.remove(&unwanted);
        }
        self.held.entry(group).or_default().push(payload.to_vec());
        Ok(())
    }

    /// Takes out what is held for a group, oldest first.
    pub fn take(&mut self, group: GroupNumber) -> Vec<Vec<u8>> {
        self.held.remove(&group).unwrap_or_default()
    }

    /// Puts back what was taken and cannot be used yet.
    pub fn put_back(&mut self, group: GroupNumber, payloads: Vec<Vec<u8>>) {
        if !payloads.is_empty() {
            self.held.insert(group, payloads);
        }
    }

    /// Forgets what is held for other groups than those that are wanted.
    pub fn keep(&mut self, wanted: impl Fn(GroupNumber) -> bool) {
        self.held.retain(|group, _| wanted(*group));
    }

    fn bytes(&self) -> usize {
        self.held.values().flatten().map(Vec::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(number: u16) -> GroupNumber {
        GroupNumber::new(number).unwrap()
    }

    #[test]
    fn what_is_held_is_bounded_and_stays() {
        let mut inboxes = Inboxes::default();
        let wanted = |number: GroupNumber| number.get() == 1;
        assert!(inboxes.hold(group(1), &vec![0; MAX_INBOX_BYTES + 1], wanted).is_err());
        inboxes.hold(group(1), b"good", wanted).unwrap();
        inboxes.hold(group(1), b"good", wanted).unwrap();
        for other in [b"a", b"b", b"c"] {
            inboxes.hold(group(1), other, wanted).unwrap();
        }
        assert!(inboxes.hold(group(1), b"d", wanted).is_err());
        // Made-up groups fill the rest, and no more than that.
        let taken = (2..1000).filter(|n| inboxes.hold(group(*n), &vec![0; 1 << 20], wanted).is_ok()).count();
        assert_eq!(taken, 15);
        assert!(inboxes.bytes() <= MAX_HELD_BYTES);
        assert_eq!(inboxes.take(group(1)).first().map(Vec::as_slice), Some(&b"good"[..]));
        // A group that this device is in has precedence.
        inboxes.hold(group(1), &vec![1; 3 << 20], wanted).unwrap();
        assert!(inboxes.bytes() <= MAX_HELD_BYTES);
        inboxes.keep(wanted);
        assert_eq!(inboxes.bytes(), 3 << 20);
    }
}
