//! What the keyring counts, and what it says of itself.

use sealcast_ledger::GroupNumber;

use super::{GroupOverview, Keyring, Overview};
use crate::Why;

impl Keyring {
    /// A message of a group was opened, and came to where its content is judged.
    pub fn note_opened(&mut self, group: GroupNumber, payload_bytes: usize) {
        if let Some(own) = self.groups.get_mut(&group) {
            own.opened.add(payload_bytes);
        }
    }

    /// How the keyring is now.
    pub fn overview(&self, now_ms: u64) -> Overview {
        let groups = self.groups.iter().map(|(number, own)| GroupOverview {
            name: self.name(*number),
            generation: own.on_ledger.generation.into(),
            epoch: own.on_ledger.epoch,
            members: own.roster.len(),
            sealed: own.traffic,
            opened: own.opened,
        });
        let (withheld_by, parted) = self.news.doubted(now_ms);
        Overview {
            withheld_by,
            parted,
            height: self.replica.height(),
            operator_word_age_ms: self.news.age_ms(now_ms),
            groups: groups.collect(),
            missing: self.missing(now_ms),
        }
    }

    fn missing(&self, now_ms: u64) -> Vec<Why> {
        if self.caught_up.is_none() {
            return vec![self.why_unread()];
        }
        let granted = self.replica.groups().filter(|group| self.replica.is_granted(group.number, self.own.number));
        granted
            .filter_map(|group| self.may_seal(group.number, now_ms).err())
            .map(|denied| denied.why().clone())
            .collect()
    }
}
