//! What the keyring makes of what others say of the ledger.

use sealcast_ledger::AttestedHead;
use sealcast_seal::Message;
use tracing::warn;

use super::{
    Keyring,
    news::{Doubt, Speaker},
};
use crate::Why;

impl Keyring {
    /// A message that opened also says what its sender has read of the ledger. `true` if the hub is to be asked for news.
    ///
    /// # Errors
    /// Its sender has read another ledger. That has been told, unless it was a while ago.
    pub fn hear(&mut self, message: &Message, now_ms: u64) -> Result<bool, Doubt> {
        let Some(report) = message.ledger() else { return Ok(false) };
        let speaker = || Speaker::Member(message.sender().clone());
        let agrees = |head: &[u8; 32]| report.agrees_with(head);
        let compared = self.news.compare(speaker, report.height(), agrees, &self.replica, self.begun, now_ms);
        compared.inspect_err(|doubt| _ = self.news.tell(doubt, now_ms))
    }

    /// What the broker keeps as the operator's word on the ledger. `true` if the hub is to be asked for news.
    ///
    /// # Errors
    /// As of [`Self::hear`].
    pub fn hear_operator(&mut self, statement: &[u8], now_ms: u64) -> Result<bool, Doubt> {
        let id = self.replica.genesis().id;
        let key = self.replica.key_of(id.operator());
        let Some(said) = key.and_then(|key| AttestedHead::verify(statement, key, &id).ok()) else {
            // The operator may have a new key, of which this device has not read.
            self.news.pending = Some(statement.to_vec());
            return Ok(true);
        };
        let ahead_ms = said.time_ms.saturating_sub(now_ms);
        if ahead_ms > self.freshness.clock_tolerance_ms {
            warn!(
                ahead_ms,
                "the operator's word on the ledger is ignored, because it is of the future: check the clocks"
            );
            return Ok(false);
        }
        let told = self.news.note_word(said.time_ms, said.height, self.freshness.clock_tolerance_ms);
        told.inspect_err(|doubt| _ = self.news.tell(doubt, now_ms))?;
        let agrees = |head: &[u8; 32]| head == said.head.as_bytes();
        let compared = self.news.compare(|| Speaker::Operator, said.height, agrees, &self.replica, self.begun, now_ms);
        let ask = compared.inspect_err(|doubt| _ = self.news.tell(doubt, now_ms))?;
        if said.height > self.replica.height() {
            self.news.pending = Some(statement.to_vec());
        } else if self.replica.head_at(said.height).is_some() {
            // One that is too old to be compared is no news.
            self.news.attested_ms = self.news.attested_ms.max(Some(said.time_ms));
        }
        Ok(ask)
    }

    /// What was told of the ledger since this was called last, for those who ask later.
    pub fn take_alarms(&mut self) -> Vec<Why> {
        self.news.take_alarms()
    }

    /// The ledger was read to its end: judges what others have said meanwhile. Gives what was told
    /// of it.
    pub fn settle_news(&mut self, now_ms: u64) -> Vec<Doubt> {
        let Some(sync) = self.caught_up else { return Vec::new() };
        if let Some(statement) = self.news.pending.take() {
            // A doubt is told there.
            drop(self.hear_operator(&statement, now_ms));
        }
        let mut doubts = self.news.settle(self.replica.height(), sync, now_ms);
        doubts.retain(|doubt| self.news.tell(doubt, now_ms));
        doubts
    }
}
