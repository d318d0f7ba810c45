//! Joining a group by a Welcome.

use sealcast_ledger::{GroupNumber, Number, Replica};

use crate::{
    GroupRefusal, Groups, Notice, Output,
    slot::{Invitation, Slot},
    standing::fault,
    wire,
};

/// What became of a Welcome.
enum Joined {
    /// Used, or no longer useful.
    Done,
    /// The ledger has to come first.
    NotYet,
}

impl Groups {
    /// Uses the Welcomes that are held, if their time has come.
    pub(crate) fn try_join(&mut self, replica: &Replica, number: GroupNumber, now_ms: u64) {
        let Some(mut slot) = self.slots.remove(&number) else { return };
        let mut waiting = Vec::new();
        for payload in self.inboxes.take(number) {
            match self.join(replica, number, &mut slot, &payload, now_ms) {
                Ok(Joined::NotYet) => waiting.push(payload),
                Ok(Joined::Done) => self.output(Output::ClearInbox { group: number }),
                Err(refusal) => {
                    self.notice(Some(self.device.clone()), Some(number), Notice::Refused(refusal));
                    self.output(Output::ClearInbox { group: number });
                }
            }
        }
        self.inboxes.put_back(number, waiting);
        self.slots.insert(number, slot);
    }

    fn join(
        &mut self,
        replica: &Replica,
        number: GroupNumber,
        slot: &mut Slot,
        payload: &[u8],
        now_ms: u64,
    ) -> Result<Joined, GroupRefusal> {
        let (welcome, tree) = wire::read_inbox(payload)?;
        let opened = self.engine.open(welcome)?;
        let context = opened.info.group_context();
        let epoch = context.epoch;
        let ours = self.ledger.mls_group_id(number, slot.generation());
        if context.group_id != ours {
            let later = context.group_id.split_last_chunk::<4>().is_some_and(|(prefix, generation)| {
                ours.starts_with(prefix) && u32::from_be_bytes(*generation) > slot.public.generation
            });
            return Ok(if later { Joined::NotYet } else { Joined::Done });
        }
        if epoch > slot.public.epoch {
            return Ok(Joined::NotYet);
        }
        // Each commit that adds this device takes the place of the one before: an older Welcome is of no use.
        let Some(Invitation { tag, author, has_path, .. }) =
            slot.invitation.clone().filter(|invitation| invitation.epoch == epoch && slot.group.is_none())
        else {
            return Ok(Joined::Done);
        };
        if wire::confirmation_tag(&opened.info)? != tag {
            return Err(GroupRefusal::NotOnLedger { group: number, epoch });
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
        Ok(Joined::Done)
    }
}
