//! What the keyring tells whoever watches the agent from outside.

use crate::Why;

/// How much was sealed, or opened, since the agent was started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Messages.
    pub messages: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
}

impl Traffic {
    pub(super) fn add(&mut self, payload_bytes: usize) {
        self.messages += 1;
        self.bytes += payload_bytes as u64;
    }
}

/// What [`super::Keyring::overview`] gives.
#[derive(Debug)]
pub struct Overview {
    /// Entries of the ledger that were read.
    pub height: u64,
    /// How old the operator's newest word on the ledger is, ms; `None` if none came since the agent was started.
    pub operator_word_age_ms: Option<u64>,
    /// How many others have read more of the ledger than is shown to this device, and have for a while.
    pub withheld_by: usize,
    /// This ledger and another one that somebody reads part between these numbers of entries: with the first one the heads were
    /// the same.
    pub parted: Option<(u64, u64)>,
    /// The groups whose keys this device holds or has held.
    pub groups: Vec<GroupOverview>,
    /// Why messages of a group that is granted to this device cannot be sealed now; of the ledger too.
    pub missing: Vec<Why>,
}

/// One group of an [`Overview`].
#[derive(Debug, PartialEq, Eq)]
pub struct GroupOverview {
    /// Its name.
    pub name: String,
    /// The generation and the epoch on the ledger that the keys here are of.
    pub generation: u64,
    /// See `generation`.
    pub epoch: u64,
    /// Members in that epoch; 0 where this device holds no keys.
    pub members: usize,
    /// What was sealed.
    pub sealed: Traffic,
    /// What was opened.
    pub opened: Traffic,
}
