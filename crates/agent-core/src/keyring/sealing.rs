//! Whether a message may be sealed, and under which key.

use std::sync::Arc;

use sealcast_identity::SigningKey;
use sealcast_ledger::{GroupNumber, Replica};
use sealcast_seal::{Content, SealError, Sealer};

use super::{Denied, Group, Keyring};

impl Group {
    /// The sealer of the current epoch, which reports how far `replica` has read the ledger.
    fn sealer(&mut self, key: &Arc<SigningKey>, replica: &Replica) -> Result<&mut Sealer, SealError> {
        let sealer = match self.sealer.take() {
            Some(sealer) => sealer,
            None => self.keys.sealer(key)?,
        };
        let sealer = self.sealer.insert(sealer);
        sealer.follow_ledger(replica.height(), |height| replica.head_at(height).map(|head| *head.as_bytes()));
        Ok(sealer)
    }
}

impl Keyring {
    /// Seals a message of this device's clients for a group.
    ///
    /// It may be sealed only under the epoch that the ledger is at, and only while all who hold that epoch's key are granted
    /// the group.
    ///
    /// # Errors
    /// Why it may not be.
    pub fn seal(
        &mut self,
        group: GroupNumber,
        topic: &str,
        content: &Content<'_>,
        now_ms: u64,
    ) -> Result<Vec<u8>, Denied> {
        let waiting = self.why_no_key(group);
        self.may_seal(group)?;
        let (key, replica) = (&self.own.key, &self.replica);
        let Some(own) = self.groups.get_mut(&group).filter(|own| own.keys.current().is_some()) else {
            return Err(waiting);
        };
        let seal = |own: &mut Group| own.sealer(key, replica)?.seal(now_ms, topic, content);
        let sealed = match seal(own) {
            // A sealer ends after 2^24 messages.
            Err(SealError::NeedStart { .. }) => {
                own.sealer = None;
                seal(own)
            }
            sealed => sealed,
        };
        let frame = sealed.map_err(|error| Denied::Refused(error.to_string()))?;
        own.sealed += 1;
        Ok(frame)
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
        if own.keys.current().is_none() {
            return Ok(());
        }
        let held = own.on_ledger;
        let name = &on_ledger.name;
        if self.missed.is_some() {
            return Err(Denied::NotYet(format!(
                "the agent's disk could not be written for a while: nothing is sealed for {name} until the ledger was read \
                 to its end"
            )));
        }
        if (held.generation, held.epoch) != (on_ledger.generation.0, on_ledger.epoch.0) {
            return Err(Denied::NotYet(format!(
                "{name} is at epoch {} of the ledger, but this device is still at epoch {held} and waits for the new keys",
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
