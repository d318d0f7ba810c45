//! What the ledger says of this device's place in a group, in words.

use sealcast_group::GroupRefusal;
use sealcast_ledger::GroupNumber;

use super::{Denied, Keyring};
use crate::{Cause, Why};

impl Keyring {
    /// Why there is no key of `group` now.
    pub(super) fn why_no_key(&self, group: GroupNumber) -> Denied {
        let (name, device) = (self.name(group), &self.own.device);
        if self.replica.is_granted(group, self.own.number) {
            Denied::NotYet(Why::new(
                Cause::KeyAwaited,
                format!("no key yet: {device} is granted {name} and waits until a member adds it"),
            ))
        } else if self.caught_up.is_some() {
            Denied::Refused(Why::new(Cause::NotMember, format!("no key: {device} is not a member of {name}")))
        } else {
            Denied::Behind(Why::new(
                Cause::NotMember,
                format!(
                    "no key: as far as {device} knows, it is not a member of {name}; the ledger is out of reach, is the \
                     hub running?"
                ),
            ))
        }
    }

    /// Why the keys of `group` that are on disk are not used before the ledger was read: this device may have done more since
    /// they were written, if the folder was restored from a copy.
    pub(super) fn why_not_yet(&self, group: GroupNumber) -> Denied {
        let name = self.name(group);
        Denied::Behind(Why::new(
            Cause::LedgerUnread,
            format!("after a start the keys of {name} wait until the ledger was read to its end; is the hub running?"),
        ))
    }

    /// Why nothing is known yet.
    pub(super) fn why_unread(&self) -> Why {
        Why::new(
            Cause::LedgerUnread,
            "the ledger was not read to its end since the start: the hub has not answered, or is about to",
        )
    }

    /// What ended this device's grant, by the ledger, and what to do.
    pub(super) fn why_removed(&self, group: &str, refusal: &GroupRefusal) -> String {
        let GroupRefusal::Revoked { group: number, entry, .. } = refusal else { return refusal.to_string() };
        let device = &self.own.device;
        let about_group = self.replica.about_group(*number);
        let about_device = self.replica.device_by_id(device).map(|device| self.replica.about_originator(device.number));
        let ended = about_group.into_iter().chain(about_device.unwrap_or_default());
        let what = match ended.into_iter().find(|summary| summary.index == *entry) {
            Some(summary) => self.replica.describe(summary),
            None => "its grant ended".to_owned(),
        };
        format!("{what} (ledger entry {entry}); to let it in again: `sealcast group grant {group} {device}`")
    }

    /// A group's name, if the ledger knows it.
    pub(super) fn name(&self, group: GroupNumber) -> String {
        self.replica.group(group).map_or_else(|| format!("group {group}"), |group| group.name.to_string())
    }
}
