//! Joining a group by a Welcome.

use sealcast_identity::DeviceId;
use sealcast_ledger::{Generation, GroupNumber, Number, Replica};

use crate::{
    GroupRefusal, Groups, Notice, Output,
    inboxes::{Early, MAX_INBOX_BYTES},
    slot::{Invitation, Slot},
    standing::fault,
    wire,
};

impl Groups {
    /// Takes a Welcome: uses it if the ledger has come as far, and else holds it.
    pub(crate) fn take_welcome(
        &mut self,
        replica: &Replica,
        number: GroupNumber,
        committer: &DeviceId,
        payload: &[u8],
        now_ms: u64,
    ) {
        let early = match self.read_welcome(number, payload) {
            Ok(early) => early,
            Err(refusal) => {
                // The hub keeps a Welcome for good and gives it again on each connection, long after it was used.
                let is_spent = refusal == GroupRefusal::NoPrivatePart && !self.is_invited(number);
                if !is_spent {
                    self.notice(Some(self.device.clone()), Some(number), Notice::Refused(refusal));
                }
                return self.output(Output::ClearInbox { group: number, committer: committer.clone() });
            }
        };
        if self.slots.get(&number).is_some_and(|slot| early.leads_to <= slot.present()) {
            self.use_welcome(replica, number, committer, &early, now_ms);
        } else if let Err(refusal) = self.inboxes.hold(number, committer, early) {
            self.notice(Some(self.device.clone()), Some(number), Notice::Refused(refusal));
        }
    }

    /// Whether the ledger has a commit that adds this device, and its Welcome is still to come.
    fn is_invited(&self, number: GroupNumber) -> bool {
        self.slots.get(&number).is_some_and(|slot| slot.group.is_none() && slot.invitation.is_some())
    }

    fn read_welcome(&self, group: GroupNumber, payload: &[u8]) -> Result<Early, GroupRefusal> {
        let refused = |why| GroupRefusal::Inbox { group, why };
        if payload.len() > MAX_INBOX_BYTES {
            return Err(refused("it is longer than 4 MiB"));
        }
        let opened = self.engine.open(wire::read_inbox(payload)?.0)?;
        let context = opened.info.group_context();
        let generation = context.group_id.last_chunk().map(|bytes| Generation(u32::from_be_bytes(*bytes)));
        let generation = generation
            .filter(|generation| self.ledger.mls_group_id(group, *generation) == context.group_id)
            .ok_or_else(|| refused("it is for another group"))?;
        Ok(Early { leads_to: (generation, context.epoch), payload: payload.to_vec() })
    }

    /// Uses the Welcomes that are held, if their time has come.
    pub(crate) fn try_join(&mut self, replica: &Replica, number: GroupNumber, now_ms: u64) {
        let Some(present) = self.slots.get(&number).map(Slot::present) else { return };
        for (committer, early) in self.inboxes.take(number, |early| early.leads_to <= present) {
            self.use_welcome(replica, number, &committer, &early, now_ms);
        }
    }

    fn use_welcome(
        &mut self,
        replica: &Replica,
        number: GroupNumber,
        committer: &DeviceId,
        early: &Early,
        now_ms: u64,
    ) {
        let Some(mut slot) = self.slots.remove(&number) else { return };
        if let Err(refusal) = self.join(replica, number, &mut slot, committer, early, now_ms) {
            self.notice(Some(self.device.clone()), Some(number), Notice::Refused(refusal));
        }
        self.slots.insert(number, slot);
        self.output(Output::ClearInbox { group: number, committer: committer.clone() });
    }

    /// Joins by a Welcome, if it is of any use still.
    fn join(
        &mut self,
        replica: &Replica,
        number: GroupNumber,
        slot: &mut Slot,
        committer: &DeviceId,
        early: &Early,
        now_ms: u64,
    ) -> Result<(), GroupRefusal> {
        let (generation, epoch) = early.leads_to;
        // Each commit that adds this device takes the place of the one before: an older Welcome is of no use.
        let is_for = |invitation: &Invitation| generation == slot.generation() && invitation.epoch == epoch;
        let Some(Invitation { tag, author, has_path, .. }) =
            slot.invitation.clone().filter(|invitation| is_for(invitation) && slot.group.is_none())
        else {
            return Ok(());
        };
        let not_on_ledger = GroupRefusal::NotOnLedger { group: number, epoch };
        if Number::from(author) != self.ledger.number_of(committer) {
            return Err(not_on_ledger);
        }
        let (welcome, tree) = wire::read_inbox(&early.payload)?;
        let opened = self.engine.open(welcome)?;
        if wire::confirmation_tag(&opened.info)? != tag {
            return Err(not_on_ledger);
        }
        // MLS takes a Welcome without it, and then cannot follow the next honest member.
        if has_path && !wire::has_path_secret(welcome)? {
            return Err(GroupRefusal::NoPathSecret { group: number });
        }
        if let Some(fault) = fault(replica.present(), number, &self.certificate_on_ledger(replica)) {
            return Err(fault.why);
        }
        let group = self.engine.join(&opened, tree)?;
        slot.set_group(group)?;
        if let Err(refusal) = self.enter_epoch(replica, number, slot) {
            slot.drop_group(number, &mut self.changes);
            return Err(refusal);
        }
        slot.invitation = None;
        slot.set_fault(None);
        if self.own.current().is_some_and(|key| opened.references.iter().any(|reference| key.is(reference))) {
            self.rotate_keys(now_ms)?;
        }
        self.catch_up(replica, number, slot, Number::from(author));
        slot.save(number, &mut self.changes);
        Ok(())
    }
}
