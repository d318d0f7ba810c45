//! Whether a message may be sealed, and under which key.

use sealcast_ledger::GroupNumber;
use sealcast_seal::{Boot, Content, PendingBoot, SealError};

use super::{Denied, Keyring};

/// Why nothing was sealed.
#[derive(Debug, thiserror::Error)]
pub enum Unsealed {
    /// This boot number has to be on disk first: store it, give it to [`Keyring::begin_boot`], and try again.
    #[error("boot {} has to be stored first", .0.number())]
    NeedsBoot(PendingBoot),
    /// It may not be, now or at all.
    #[error(transparent)]
    Denied(#[from] Denied),
}

impl Keyring {
    /// Seals a message of this device's clients for a group.
    ///
    /// It may be sealed only under the epoch that the ledger is at, only while all who hold that epoch's key are granted
    /// the group, and only under a boot number that is on disk, so that no nonce is used twice.
    ///
    /// # Errors
    /// Why it may not be. The keyring is as before then: a boot number that is asked for is the same until one was taken up.
    pub fn seal(
        &mut self,
        group: GroupNumber,
        topic: &str,
        content: &Content<'_>,
        now_ms: u64,
    ) -> Result<Vec<u8>, Unsealed> {
        let waiting = self.why_no_key(group);
        self.may_seal(group)?;
        let Some(own) = self.groups.get_mut(&group) else { return Err(waiting.into()) };
        if let Some(sealer) = &mut own.sealer {
            match sealer.seal(now_ms, topic, content) {
                Ok(frame) => {
                    own.sealed += 1;
                    return Ok(frame);
                }
                // A sealer ends with its epoch, and after 2^24 messages.
                Err(SealError::EpochEnded { .. } | SealError::NeedBoot { .. }) => own.sealer = None,
                Err(error) => return Err(Denied::Refused(error.to_string()).into()),
            }
        }
        let Some(epoch) = own.keys.current() else { return Err(waiting.into()) };
        if let Some(broken) = &own.broken {
            return Err(Denied::Refused(broken.clone()).into());
        }
        // The same one until it was taken up, which `GroupKeys` counts: a write that fails, or is another's too, uses no
        // other number up.
        let last = self.boots.get(&(group.get(), epoch)).copied();
        match own.keys.next_boot(last) {
            Ok(pending) => Err(Unsealed::NeedsBoot(pending)),
            Err(error) => Err(Denied::Refused(error.to_string()).into()),
        }
    }

    /// Takes up a boot number that is on disk. If nothing can be sealed under it, the next try to seal says why.
    pub fn begin_boot(&mut self, boot: Boot) {
        let own = self.groups.iter_mut().find(|(group, _)| group.get() == boot.group().0);
        let Some((group, own)) = own else { return };
        let (of, number) = ((group.get(), boot.epoch()), boot.number());
        match own.keys.sealer(boot, &self.own.key) {
            Ok(sealer) => {
                own.sealer = Some(sealer);
                self.boots.insert(of, number);
            }
            // The epoch turned, or somebody else's boot came first: the next try takes another.
            Err(SealError::BootOfOther { .. } | SealError::BootUsed { .. } | SealError::NotMember { .. }) => {}
            Err(error) => own.broken = Some(error.to_string()),
        }
    }

    /// Only under the epoch that the ledger is at, and only while all who hold its key are granted. After a restart or a
    /// commit the keys come a moment later than the ledger's word.
    fn may_seal(&self, group: GroupNumber) -> Result<(), Denied> {
        if self.stalled {
            return Err(Denied::NotYet(
                "the agent's disk cannot be written, so the agent cannot follow the ledger: nothing is sealed until there is \
                 room"
                    .into(),
            ));
        }
        let (Some(own), Some(on_ledger)) = (self.groups.get(&group), self.replica.group(group)) else { return Ok(()) };
        let Some(held) = own.keys.current() else { return Ok(()) };
        let name = &on_ledger.name;
        if self.missed.is_some() {
            return Err(Denied::NotYet(format!(
                "the agent's disk could not be written for a while: nothing is sealed for {name} until the ledger was read \
                 to its end"
            )));
        }
        if (held.generation, held.epoch) != (on_ledger.generation.0, on_ledger.epoch.0) {
            return Err(Denied::NotYet(format!(
                "{name} is at epoch {}, but this device is still at epoch {held} and waits for the new keys",
                on_ledger.epoch
            )));
        }
        let id = &self.replica.genesis().id;
        match own.roster.iter().find(|member| !self.replica.is_granted(group, id.number_of(member))) {
            Some(gone) => Err(Denied::NotYet(format!(
                "{gone} is being removed from {name}: nothing is sealed until it is removed"
            ))),
            None => Ok(()),
        }
    }
}
