//! What the keyring makes of what others say of the ledger.

use sealcast_ledger::{AttestedHead, Hash};
use sealcast_seal::Message;
use tracing::{error, warn};

use super::{
    Keyring,
    news::{Doubt, Speaker},
};
use crate::{Cause, Why};

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

    /// The hub says how many entries its ledger has, and the head with them. One whose folder was put back from an older copy has
    /// nothing new to show, and would not be noticed otherwise.
    pub fn hear_hub(&mut self, height: u64, head: Hash) {
        let own = self.replica.height();
        let (cause, what) = match self.replica.head_at(height) {
            Some(known) if known != head => (
                Cause::LedgerParted,
                format!("its entry {} is another one than this agent has read", height.saturating_sub(1)),
            ),
            Some(_) if height < own => {
                (Cause::LedgerWithheld, format!("it has {height} entries, and this agent has read {own}"))
            }
            _ => return,
        };
        let why = Why::new(
            cause,
            format!(
                "the hub shows an older ledger or another one: {what}. Was its folder put back from a copy? Then put the newest \
                 one back before anything is written to this one: docs/recovery.md. This agent keeps what it has read"
            ),
        );
        error!(height, own, code = %why.cause, "{why}");
        self.note_alarm(why);
    }

    /// Something of the ledger was told that whoever asks later is to know.
    pub fn note_alarm(&mut self, why: Why) {
        self.news.note_alarm(why);
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
