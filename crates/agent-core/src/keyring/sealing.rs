//! Whether a message may be sealed, and under which key.

use std::sync::Arc;

use sealcast_identity::SigningKey;
use sealcast_ledger::{GroupNumber, Replica};
use sealcast_seal::{Content, SealError, Sealer};

use super::{Denied, Group, Keyring};
use crate::{Cause, Why};

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

    fn seal_batch(
        &mut self,
        key: &Arc<SigningKey>,
        replica: &Replica,
        messages: &[(&str, Content<'_>)],
        now_ms: u64,
    ) -> Vec<Result<Vec<u8>, SealError>> {
        match self.sealer(key, replica) {
            Ok(sealer) => sealer.seal_batch(now_ms, messages),
            Err(error) => vec![Err(error); messages.len()],
        }
    }
}

impl Keyring {
    /// Seals a message of this device's clients for a group.
    ///
    /// # Errors
    /// Why it may not be ([`Self::may_seal`]), or cannot be.
    pub fn seal(
        &mut self,
        group: GroupNumber,
        topic: &str,
        content: &Content<'_>,
        now_ms: u64,
    ) -> Result<Vec<u8>, Denied> {
        let sealed = self.seal_batch(group, &[(topic, *content)], now_ms).pop();
        sealed.unwrap_or_else(|| Err(Denied::Refused(Why::new(Cause::SealFailed, "there is nothing to seal"))))
    }

    /// Seals messages for a group that were published one after the other, each with its topic, and gives what came of each
    /// in the same order. In a group that signs, one signature covers up to [`MAX_BATCH`](sealcast_seal::MAX_BATCH) of them.
    pub fn seal_batch(
        &mut self,
        group: GroupNumber,
        messages: &[(&str, Content<'_>)],
        now_ms: u64,
    ) -> Vec<Result<Vec<u8>, Denied>> {
        let denied = |denied: Denied| vec![Err(denied); messages.len()];
        if let Err(why) = self.may_seal(group, now_ms) {
            return denied(why);
        }
        let (key, replica) = (&self.own.key, &self.replica);
        let Some(own) = self.groups.get_mut(&group) else { return denied(self.why_no_key(group)) };
        let mut frames = own.seal_batch(key, replica, messages, now_ms);
        // A sealer ends after 2^24 messages.
        let ended = frames.iter().position(|frame| matches!(frame, Err(SealError::NeedStart { .. })));
        if let Some((at, rest)) = ended.and_then(|at| Some((at, messages.get(at..)?))) {
            own.sealer = None;
            frames.truncate(at);
            frames.extend(own.seal_batch(key, replica, rest, now_ms));
        }
        let sealed = frames.iter().zip(messages).filter(|(frame, _)| frame.is_ok());
        for (_, (_, content)) in sealed {
            own.sealed += 1;
            own.traffic.add(content.payload.len());
        }
        frames.into_iter().map(|frame| frame.map_err(|error| Denied::Refused(error.into()))).collect()
    }

    /// Whether anything may be sealed for a group: only under the epoch that the ledger is at, only while all who hold its key
    /// are granted the group, and only if the operator's word on the ledger is as new as the group's policy asks for. After a
    /// restart or a commit the keys come a moment later than the ledger's word.
    ///
    /// # Errors
    /// Why not.
    pub fn may_seal(&self, group: GroupNumber, now_ms: u64) -> Result<(), Denied> {
        if self.stalled {
            return Err(Denied::NotYet(Why::new(
                Cause::LedgerStalled,
                "the agent's disk cannot be written, so the agent cannot follow the ledger: nothing is sealed until there is \
                 room",
            )));
        }
        let own = self.groups.get(&group).filter(|own| own.keys.current().is_some());
        let (Some(own), Some(on_ledger)) = (own, self.replica.group(group)) else {
            return Err(self.why_no_key(group));
        };
        let held = own.on_ledger;
        let name = &on_ledger.name;
        if self.caught_up.is_none() {
            return Err(self.why_not_yet(group));
        }
        self.check_hub(now_ms)?;
        if self.missed.is_some() {
            return Err(Denied::NotYet(Why::new(
                Cause::LedgerMissed,
                format!(
                    "the agent's disk could not be written for a while: nothing is sealed for {name} until the ledger was \
                     read to its end"
                ),
            )));
        }
        if (held.generation, held.epoch) != (on_ledger.generation.0, on_ledger.epoch.0) {
            return Err(Denied::NotYet(Why::new(
                Cause::EpochBehind,
                format!(
                    "{name} is at epoch {} of the ledger, but this device is still at epoch {held} and waits for the new keys",
                    on_ledger.epoch
                ),
            )));
        }
        let id = &self.replica.genesis().id;
        match own.roster.iter().find(|member| !self.replica.is_granted(group, id.number_of(member))) {
            Some(gone) => Err(Denied::NotYet(Why::new(
                Cause::Removing,
                format!("{gone} is being removed from {name}: nothing is sealed until it is removed"),
            ))),
            None => self.check_news(on_ledger, now_ms),
        }
    }
}
