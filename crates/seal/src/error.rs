//! Why a frame was not handed on, in words for the person on shift.

use std::sync::Arc;

use sealcast_identity::DeviceId;

use crate::{
    epoch::EpochId,
    header::{HeaderError, LeafIndex},
};

/// Why a frame was not handed on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Not a frame, or none that this version reads.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// This device holds no key of the group.
    #[error("no key: {device} is not a member of {group}; grant it, or wait until it has joined")]
    NotMember {
        /// This device.
        device: DeviceId,
        /// The group's name.
        group: Arc<str>,
    },
    /// Sealed under an epoch that this device has not reached: wait for the ledger and try again.
    #[error(
        "no key yet: sealed under epoch {frame} of {group}, this device is at epoch {held} and waits for news from the \
         ledger"
    )]
    EpochAhead {
        /// The group's name.
        group: Arc<str>,
        /// The current epoch here.
        held: u64,
        /// The frame's epoch, as its low 10 bits suggest.
        frame: u64,
    },
    /// Sealed under an epoch that is older than the group's retention.
    #[error(
        "no key left: sealed under epoch {frame} of {group}, only epochs from {oldest} on are kept (the group's \
         retention)"
    )]
    EpochRetired {
        /// The group's name.
        group: Arc<str>,
        /// The frame's epoch, as its low 10 bits suggest.
        frame: u64,
        /// Oldest epoch that is held.
        oldest: u64,
    },
    /// Nobody sat on the sender's leaf in that epoch.
    #[error("unknown sender: nobody is on leaf {leaf} of {group} in epoch {epoch}")]
    UnknownSender {
        /// The group's name.
        group: Arc<str>,
        /// The frame's epoch.
        epoch: EpochId,
        /// The empty leaf.
        leaf: LeafIndex,
    },
    /// The sender was removed from the group.
    #[error("{sender} was removed from {group} after epoch {epoch}: its messages are refused")]
    Removed {
        /// Who was removed.
        sender: DeviceId,
        /// The group's name.
        group: Arc<str>,
        /// The frame's epoch.
        epoch: EpochId,
    },
    /// The authentication tag does not fit.
    #[error(
        "cannot be opened: a message in the name of {sender} ({group}) was changed on its way, or moved to {topic} \
         from another topic; or its publisher's ledger is out of date, and it is sealed for another group"
    )]
    Undecryptable {
        /// Whom the header names; not proven.
        sender: DeviceId,
        /// The group's name.
        group: Arc<str>,
        /// Where it arrived.
        topic: String,
    },
    /// Sealed with features that this version does not know.
    #[error("{sender} seals with features that this agent does not know (flags {flags:#04x}): update this agent")]
    Flags {
        /// Who sealed it.
        sender: DeviceId,
        /// All its flags.
        flags: u8,
    },
    /// Decrypted, but not laid out as a plaintext.
    #[error("a message in the name of {sender} ({group}) is malformed inside its seal: update or check its agent")]
    Malformed {
        /// Who sealed it.
        sender: DeviceId,
        /// The group's name.
        group: Arc<str>,
    },
    /// Unsigned, in a group whose messages are signed.
    #[error(
        "unsigned: {group} accepts only signed messages; this one, in the name of {sender}, may be from any member"
    )]
    Unsigned {
        /// Whom the header names; not proven.
        sender: DeviceId,
        /// The group's name.
        group: Arc<str>,
    },
    /// The signature is not the sender's: whoever sealed it knows the group's key.
    #[error("forged: a member of {group} wrote a message in the name of {sender}; its signature is not that device's")]
    BadSignature {
        /// In whose name.
        sender: DeviceId,
        /// The group's name.
        group: Arc<str>,
    },
    /// Seen before, or too far back to tell.
    #[error("replayed: message {counter} of {sender} on {topic} was delivered before, or is older than the last {window} messages", window = crate::replay::WINDOW)]
    Replay {
        /// Who sealed it.
        sender: DeviceId,
        /// Where it arrived.
        topic: String,
        /// Its number under the sender's key.
        counter: u32,
    },
    /// The client has seen a newer message of the topic.
    #[error(
        "rolled back: the retained message on {topic}, sealed at {sealed_ms} ms by {sender}, is older than one seen \
         before (sealed at {newest_ms} ms)"
    )]
    RetainedOlder {
        /// Who sealed it.
        sender: DeviceId,
        /// Where it arrived.
        topic: String,
        /// Its time, Unix ms.
        sealed_ms: u64,
        /// Time of the newest, Unix ms.
        newest_ms: u64,
    },
    /// Delivered as retained, published without RETAIN.
    #[error(
        "the broker delivered a message of {sender} as the retained one of {topic}, but it was not published as a \
         retained message"
    )]
    NotRetained {
        /// Who sealed it.
        sender: DeviceId,
        /// Where it arrived.
        topic: String,
    },
    /// Older than the topic's limit.
    #[error(
        "too old: {sender} sealed it {age_ms} ms ago, but {topic} accepts messages of up to {limit_ms} ms: it was held \
         back, or a clock is wrong"
    )]
    TooOld {
        /// Who sealed it.
        sender: DeviceId,
        /// Where it arrived.
        topic: String,
        /// Its age, ms.
        age_ms: u64,
        /// The limit for this kind of delivery, ms, without the clock tolerance.
        limit_ms: u64,
    },
    /// Sealed later than now.
    #[error(
        "from the future: {sender} sealed it {ahead_ms} ms ahead of this clock, but {tolerance_ms} ms are tolerated: \
         check both clocks"
    )]
    Future {
        /// Who sealed it.
        sender: DeviceId,
        /// How far ahead, ms.
        ahead_ms: u64,
        /// The tolerance, ms.
        tolerance_ms: u64,
    },
    /// Sealed under an old epoch, long after the next one began.
    #[error(
        "{sender} sealed it under epoch {epoch} of {group}, {late_ms} ms after that epoch ended: its agent has no news \
         from the ledger, check its connection to the hub"
    )]
    EpochEnded {
        /// Who sealed it.
        sender: DeviceId,
        /// The group's name.
        group: Arc<str>,
        /// The ended epoch.
        epoch: EpochId,
        /// How long after, ms.
        late_ms: u64,
    },
    /// More senders than are kept track of.
    #[error("too many senders for one client ({max}): {sender} is refused, because a replay could not be detected", max = crate::replay::MAX_SENDERS)]
    TooManySenders {
        /// Who sealed it.
        sender: DeviceId,
    },
    /// The crypto library refused, which it does only when it is out of memory.
    #[error("the crypto library failed")]
    Library,
}

impl OpenError {
    /// In whose name the frame is, as far as that is known. Not proven where the frame did not open.
    pub fn sender(&self) -> Option<&DeviceId> {
        match self {
            Self::Removed { sender, .. }
            | Self::Undecryptable { sender, .. }
            | Self::Flags { sender, .. }
            | Self::Malformed { sender, .. }
            | Self::Unsigned { sender, .. }
            | Self::BadSignature { sender, .. }
            | Self::Replay { sender, .. }
            | Self::RetainedOlder { sender, .. }
            | Self::NotRetained { sender, .. }
            | Self::TooOld { sender, .. }
            | Self::Future { sender, .. }
            | Self::EpochEnded { sender, .. }
            | Self::TooManySenders { sender } => Some(sender),
            Self::Header(_)
            | Self::NotMember { .. }
            | Self::EpochAhead { .. }
            | Self::EpochRetired { .. }
            | Self::UnknownSender { .. }
            | Self::Library => None,
        }
    }

    /// Whether the same frame may open once the ledger was read further.
    pub fn is_worth_waiting(&self) -> bool {
        matches!(self, Self::EpochAhead { .. })
    }
}
