//! Welcomes that came before the ledger entries that they need.
//!
//! Each member has one place for each group, as at the broker. What it puts there replaces what it had there, and
//! nothing of anybody else. All places together are bounded. When they are full, whoever has the most in them gives
//! way: so one member alone cannot push out another's Welcome.

use std::collections::BTreeMap;

use sealcast_identity::DeviceId;
use sealcast_ledger::Generation;

use crate::{GroupNumber, GroupRefusal};

/// Longest inbox payload: with a certificate chain of two in each leaf, 1,000 members need about 1.5 MiB, nearly all of
/// it the ratchet tree. It is also as much as the hub's broker carries in one message.
pub(crate) const MAX_INBOX_BYTES: usize = 4 * 1024 * 1024;
/// Most bytes that are held for all groups.
const MAX_HELD_BYTES: usize = 16 * 1024 * 1024;

/// A Welcome that this device can open.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Early {
    /// Where it leads to, as it says: the generation and the MLS epoch.
    pub leads_to: (Generation, u64),
    pub payload: Vec<u8>,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Inboxes {
    held: BTreeMap<(GroupNumber, DeviceId), Early>,
}

impl Inboxes {
    /// Puts a Welcome into its committer's place.
    pub fn hold(&mut self, group: GroupNumber, committer: &DeviceId, early: Early) -> Result<(), GroupRefusal> {
        let place = (group, committer.clone());
        self.held.remove(&place);
        let bytes = early.payload.len();
        while self.bytes(|_| true) + bytes > MAX_HELD_BYTES {
            if !self.take_from_whoever_has_more_than(bytes + self.bytes(|of| of == committer)) {
                return Err(GroupRefusal::Inbox { group, why: "16 MiB of others wait for the ledger already" });
            }
        }
        self.held.insert(place, early);
        Ok(())
    }

    /// Takes out what is held for a group and due.
    pub fn take(&mut self, group: GroupNumber, is_due: impl Fn(&Early) -> bool) -> Vec<(DeviceId, Early)> {
        let due = self.held.extract_if(.., |(of, _), early| *of == group && is_due(early));
        due.map(|((_, committer), early)| (committer, early)).collect()
    }

    /// Forgets what is held for other groups than those that are wanted.
    pub fn keep(&mut self, wanted: impl Fn(GroupNumber) -> bool) {
        self.held.retain(|(group, _), _| wanted(*group));
    }

    /// Empties the largest place of the committer that has the most. `false` if none has more than this.
    fn take_from_whoever_has_more_than(&mut self, bytes: usize) -> bool {
        let mut by_committer: BTreeMap<&DeviceId, usize> = BTreeMap::new();
        for ((_, committer), early) in &self.held {
            *by_committer.entry(committer).or_default() += early.payload.len();
        }
        let most = by_committer.into_iter().filter(|(_, most)| *most > bytes).max_by_key(|(_, most)| *most);
        let of_most = |(committer, _)| self.held.iter().filter(move |((_, of), _)| of == committer);
        let largest = most.and_then(|most| of_most(most).max_by_key(|(_, early)| early.payload.len()));
        let largest = largest.map(|(place, _)| place.clone());
        largest.is_some_and(|place| self.held.remove(&place).is_some())
    }

    fn bytes(&self, of: impl Fn(&DeviceId) -> bool) -> usize {
        self.held.iter().filter(|((_, committer), _)| of(committer)).map(|(_, early)| early.payload.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1024 * 1024;

    fn group(number: u16) -> GroupNumber {
        GroupNumber::new(number).unwrap()
    }

    fn device(name: &str) -> DeviceId {
        name.parse().unwrap()
    }

    fn early(epoch: u64, bytes: usize) -> Early {
        Early { leads_to: (Generation(0), epoch), payload: vec![0; bytes] }
    }

    fn held(inboxes: &Inboxes) -> usize {
        inboxes.bytes(|_| true)
    }

    #[test]
    fn a_committers_welcome_takes_the_place_of_its_last_one_and_of_nobody_elses() {
        let mut inboxes = Inboxes::default();
        for (committer, epoch) in [("1111", 1), ("1112", 2), ("1111", 3), ("1111", 4)] {
            inboxes.hold(group(1), &device(committer), early(epoch, 10)).unwrap();
        }
        inboxes.hold(group(2), &device("1111"), early(5, 10)).unwrap();
        assert_eq!(inboxes.take(group(1), |early| early.leads_to.1 < 4), [(device("1112"), early(2, 10))]);
        assert_eq!(inboxes.take(group(1), |_| true), [(device("1111"), early(4, 10))]);
        inboxes.keep(|number| number != group(2));
        assert_eq!(held(&inboxes), 0);
    }

    #[test]
    fn one_committer_pushes_out_nothing_but_its_own() {
        let mut inboxes = Inboxes::default();
        inboxes.hold(group(1), &device("1111"), early(1, MIB)).unwrap();
        let refused =
            (1..1000).filter(|n| inboxes.hold(group(*n), &device("6666"), early(9, 4 * MIB)).is_err()).count();
        assert_eq!(refused, 999 - 3, "it fills the rest, and no more than that");
        // Honest ones have room all the same.
        for n in 2..=4 {
            inboxes.hold(group(1), &device(&format!("111{n}")), early(1, MIB)).unwrap();
            assert!(held(&inboxes) <= MAX_HELD_BYTES);
        }
        assert_eq!(inboxes.take(group(1), |early| early.leads_to.1 == 1).len(), 4);
    }

    #[test]
    fn all_together_are_bounded_however_many_they_are() {
        let mut inboxes = Inboxes::default();
        let taken = |n: usize, inboxes: &mut Inboxes| inboxes.hold(group(1), &device(&format!("{n}")), early(1, MIB));
        let taken = (1000..1100).filter(|n| taken(*n, &mut inboxes).is_ok()).count();
        assert_eq!((taken, held(&inboxes)), (16, MAX_HELD_BYTES));
    }
}
