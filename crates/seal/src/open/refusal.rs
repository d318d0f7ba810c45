//! Why a frame is not opened, in words.

use super::message::Delivery;
use crate::{
    error::OpenError,
    header::Header,
    keys::{GroupKeys, HeldEpoch},
    plaintext::PlaintextError,
};

/// Why a frame that was decrypted is refused. Small, and put into words apart ([`Self::explain`]), so that frames which
/// open do not pay for the room of an [`OpenError`] at each check.
#[derive(Debug, Clone, Copy)]
pub(super) enum OpenRefusal {
    Removed,
    Flags(u8),
    Malformed,
    TooManySenders,
    Replay,
    NotRetained,
    RetainedOlder { sealed_ms: u64, newest_ms: u64 },
    Unsigned,
    BadSignature,
    EpochEnded { late_ms: u64 },
    TooOld { age_ms: u64, limit_ms: u64 },
    Future { ahead_ms: u64 },
}

impl From<PlaintextError> for OpenRefusal {
    fn from(error: PlaintextError) -> Self {
        match error {
            PlaintextError::Flags(flags) => Self::Flags(flags),
            PlaintextError::Malformed => Self::Malformed,
        }
    }
}

impl OpenRefusal {
    #[cold]
    pub(super) fn explain(
        self,
        keys: &GroupKeys,
        held: &HeldEpoch,
        header: Header,
        topic: &str,
        delivery: &Delivery<'_>,
    ) -> OpenError {
        let (group, topic, epoch) = (keys.label(), topic.to_owned(), held.id);
        let Some(sender) = held.sender(header.key_id.leaf()).map(|sender| sender.name.clone()) else {
            return OpenError::UnknownSender { group, epoch, leaf: header.key_id.leaf() };
        };
        match self {
            Self::Removed => OpenError::Removed { sender, group, epoch },
            Self::Flags(flags) => OpenError::Flags { sender, flags },
            Self::Malformed => OpenError::Malformed { sender, group },
            Self::TooManySenders => OpenError::TooManySenders { sender },
            Self::Replay => OpenError::Replay { sender, topic, counter: header.counter },
            Self::NotRetained => OpenError::NotRetained { sender, topic },
            Self::RetainedOlder { sealed_ms, newest_ms } => {
                OpenError::RetainedOlder { sender, topic, sealed_ms, newest_ms }
            }
            Self::Unsigned => OpenError::Unsigned { sender, group },
            Self::BadSignature => OpenError::BadSignature { sender, group },
            Self::EpochEnded { late_ms } => OpenError::EpochEnded { sender, group, epoch, late_ms },
            Self::TooOld { age_ms, limit_ms } => OpenError::TooOld { sender, topic, age_ms, limit_ms },
            Self::Future { ahead_ms } => {
                OpenError::Future { sender, ahead_ms, tolerance_ms: delivery.freshness.clock_tolerance_ms }
            }
        }
    }
}

/// Why no held epoch opened a frame.
#[cold]
pub(super) fn not_decrypted(keys: &GroupKeys, topic: &str, header: Header) -> OpenError {
    let key_id = header.key_id;
    let mut reason = None;
    for held in keys.tagged(key_id.epoch_tag()) {
        match held.sender(key_id.leaf()) {
            Some(sender) => {
                reason = Some(OpenError::Undecryptable {
                    sender: sender.name.clone(),
                    group: keys.label(),
                    topic: topic.to_owned(),
                });
            }
            None => {
                reason.get_or_insert_with(|| OpenError::UnknownSender {
                    group: keys.label(),
                    epoch: held.id,
                    leaf: key_id.leaf(),
                });
            }
        }
    }
    reason.unwrap_or_else(|| keys.untagged(key_id.epoch_tag()))
}
