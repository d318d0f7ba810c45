//! When a device's series of sent messages is anchored on the ledger, and what of it is kept: see `sealcast_audit`.

use sealcast_ledger::{GroupNumber, Hash};
use sealcast_seal::Purpose;

/// Of all groups of the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnchorRules {
    /// A series is anchored when it has so many messages more than at its last anchor.
    pub every_messages: u64,
    /// Or when the first of them was sealed so long ago.
    pub every_ms: u64,
    /// Messages are kept for proofs for so long.
    pub keep_ms: u64,
    /// Whether their payloads are kept, too, or only their digests.
    pub payloads: bool,
}

/// A group's series, as it is on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeriesState {
    /// Which group's.
    pub group: GroupNumber,
    /// How many messages it has more than when its root was drawn last.
    pub new: u64,
    /// When the first of these was sealed, Unix ms.
    pub first_ms: Option<u64>,
    /// The root that was drawn last, with the number of messages below it, unless the ledger has it.
    pub drawn: Option<(Hash, u32)>,
}

impl AnchorRules {
    /// When a series' root is to be drawn, Unix ms; `None` while it has nothing new.
    pub(crate) fn due_ms(&self, series: &SeriesState) -> Option<u64> {
        let first_ms = series.first_ms.filter(|_| series.new > 0)?;
        Some(if series.new >= self.every_messages { 0 } else { first_ms.saturating_add(self.every_ms) })
    }
}

/// What a sealed message is in its series. `None`: nothing new.
pub(crate) fn kind(purpose: Purpose, retain: bool) -> Option<sealcast_audit::SentKind> {
    use sealcast_audit::SentKind;
    match purpose {
        Purpose::Message if retain => Some(SentKind::Retained),
        Purpose::Message => Some(SentKind::Message),
        Purpose::Tombstone => Some(SentKind::Deletion),
        Purpose::Will => Some(SentKind::Will),
        Purpose::Reseal { .. } => None,
    }
}
