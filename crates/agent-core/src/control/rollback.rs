//! Notices a folder that went back in time: one that was restored from a copy, or a copy that runs beside it.
//!
//! Two things show it.
//! - A later [`Checkpoint`]. The agent says how far its folder has come, and the broker keeps the newest of it. Each is on
//!   disk before it leaves, so the broker cannot show one that the folder has not come to, unless the folder is a copy.
//! - An entry of this device on the ledger that the folder does not know. Each is on disk before it is submitted.
//!
//! A folder without a checkpoint is new, or has begun anew. It holds nothing that could be out of date, so that nothing
//! shows anything.

use std::collections::BTreeSet;

use sealcast_identity::KeyError;
use sealcast_ledger::{Checkpoint, Hash, Kind, LedgerId, Record, SignedEntry};
use tracing::debug;

use super::output::Write;
use crate::{Own, deadline::Deadline};

/// While nothing else makes one, the next checkpoint comes after so long. What a copy that is younger lacks may go unnoticed.
const CHECKPOINT_EVERY_MS: u64 = 600_000;

/// What a folder says of its own past.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FolderPast {
    /// Its last checkpoint.
    pub checkpoint: Option<Checkpoint>,
    /// The nonces and digests of entries that may reach the ledger.
    pub submitted: Vec<(u64, Hash)>,
}

/// What shows that the folder went back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Sign {
    #[error("the broker keeps its checkpoint {shown}, and this folder has only come to {own}")]
    Later { shown: u64, own: u64 },
    #[error("the broker keeps another checkpoint {0} of it than this folder has")]
    Other(u64),
    #[error("entry {index} of the ledger ({kind}) is the device's, and this folder knows nothing of it")]
    Entry { index: u64, kind: Kind },
}

/// See the module.
pub(super) struct Rollback {
    /// The folder's last checkpoint.
    last: Option<Checkpoint>,
    /// The greatest number of a checkpoint of this device that the broker has shown.
    shown: u64,
    submitted: BTreeSet<(u64, Hash)>,
    /// When the next checkpoint is made.
    due: Deadline,
}

impl Rollback {
    /// The first checkpoint is due at once.
    pub fn new(past: FolderPast, now_ms: u64) -> Self {
        let FolderPast { checkpoint, submitted } = past;
        Self { last: checkpoint, shown: 0, submitted: submitted.into_iter().collect(), due: Deadline::after(now_ms, 0) }
    }

    /// What the broker keeps as this device's word. One that the device has not signed with its present key, or that is
    /// older than the folder, says nothing: the broker may show any that it ever had.
    pub fn handle_checkpoint(&mut self, own: &Own, ledger: &LedgerId, payload: &[u8]) -> Option<Sign> {
        let shown = match Checkpoint::verify(payload, own.number, own.key.public(), ledger) {
            Ok(shown) => shown,
            Err(error) => {
                debug!(%error, "what the broker keeps as this device's checkpoint is none of it");
                return None;
            }
        };
        self.shown = self.shown.max(shown.number);
        let last = self.last?;
        if shown.number > last.number {
            return Some(Sign::Later { shown: shown.number, own: last.number });
        }
        (shown.number == last.number && shown != last).then_some(Sign::Other(last.number))
    }

    /// An entry of this device is on the ledger, and was signed for the contract `signed_for`. What was submitted with its nonce
    /// is answered.
    pub fn handle_own(
        &mut self,
        own: &Own,
        ledger: &LedgerId,
        signed_for: &LedgerId,
        record: &Record,
    ) -> (Option<Write>, Option<Sign>) {
        let entry = &record.entry;
        let known = self.submitted.contains(&(entry.nonce(), entry.digest(ledger)));
        let waiting = self.submitted.len();
        self.submitted.retain(|(nonce, _)| *nonce > entry.nonce());
        let forget = (self.submitted.len() < waiting).then_some(Write::Answered { nonce: entry.nonce() });
        // Of a former key of the device, no folder of this key knows anything.
        let is_strange = !known && self.last.is_some() && entry.is_signed_by(own.key.public(), signed_for);
        let sign = is_strange.then_some(Sign::Entry { index: record.index, kind: entry.kind() });
        (forget, sign)
    }

    /// An entry is about to be submitted. What is to be on disk before.
    pub fn note_submitted(&mut self, ledger: &LedgerId, entry: &SignedEntry) -> Option<Write> {
        let (nonce, digest) = (entry.nonce(), entry.digest(ledger));
        self.submitted.insert((nonce, digest)).then_some(Write::Submitted { nonce, digest })
    }

    /// Something has happened that a copy made before would not know of.
    pub fn want(&mut self, now_ms: u64) {
        self.due = Deadline::after(now_ms, 0);
    }

    /// When [`Self::next`] has something.
    pub fn due_ms(&self) -> u64 {
        self.due.at_ms()
    }

    /// The next checkpoint, if it is time, signed: to be on disk, and then kept by the broker.
    ///
    /// # Errors
    /// It cannot be made. It is due again later.
    pub fn next(
        &mut self,
        own: &Own,
        ledger: &LedgerId,
        now_ms: u64,
    ) -> Result<Option<(Checkpoint, Vec<u8>)>, KeyError> {
        if !self.due.is_due(now_ms) {
            return Ok(None);
        }
        self.due = Deadline::after(now_ms, CHECKPOINT_EVERY_MS);
        let before = self.last.map_or(0, |last| last.number).max(self.shown);
        // By the clock, so that one who has lost its folder is not behind what it said before, whatever the broker shows.
        let next = Checkpoint::new(now_ms.max(before.saturating_add(1)))?;
        let signed = next.sign(own.number, &own.key, ledger)?;
        self.last = Some(next);
        Ok(Some((next, signed)))
    }

    /// The folder holds nothing any more that could be out of date.
    pub fn begin_anew(&mut self) {
        self.last = None;
    }
}

#[cfg(test)]
mod tests;
