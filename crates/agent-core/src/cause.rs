//! Why a message is not sent, or not handed on: one code for each cause. `docs/reasons.md` explains them all.

use sealcast_identity::DeviceId;
use sealcast_mqtt::codes;
use sealcast_seal::{HeaderError, OpenError, SealError};

use crate::TooManyRetained;

codes! {
    /// What keeps a message from where it is to go.
    pub enum Cause {
        /// No group covers the topic.
        NoGroup = "topic-no-group",
        /// The topic is for the agents themselves.
        ControlTopic = "topic-control",
        /// The topic begins with `$`.
        BrokersTopic = "topic-brokers",
        /// Nobody knows yet whether a group covers the topic.
        TopicUnknown = "topic-unknown",
        /// A broker may close the connection over the topic or filter.
        TopicUnfit = "topic-unfit",

        /// This device is not granted the group.
        NotMember = "key-not-member",
        /// This device is granted the group and waits to be added.
        KeyAwaited = "key-awaited",
        /// After a start the keys wait for the end of the ledger.
        LedgerUnread = "key-ledger-unread",
        /// The disk could not be written, and the ledger was not read since.
        LedgerMissed = "key-ledger-missed",
        /// The disk cannot be written, so the ledger cannot be followed.
        LedgerStalled = "key-ledger-stalled",
        /// The group has a new epoch, whose key is not there yet.
        EpochBehind = "key-epoch-behind",
        /// Somebody who holds the key is no longer granted.
        Removing = "key-removing",
        /// The hub answers nothing.
        HubSilent = "key-hub-silent",
        /// The endpoints that show the ledger answer nothing.
        EndpointsSilent = "key-endpoints-silent",
        /// The operator's word on the ledger is too old.
        OperatorSilent = "key-operator-silent",

        /// Somebody has read more of the ledger than this device is shown.
        LedgerWithheld = "ledger-withheld",
        /// Somebody reads another ledger than this device.
        LedgerParted = "ledger-parted",
        /// An old word of the operator on the ledger came again.
        LedgerReplayed = "ledger-replayed",

        /// The epoch has no numbers left for messages of this device.
        SealUsedUp = "seal-used-up",
        /// The group knows this device by another key.
        SealOtherKey = "seal-other-key",
        /// The message is too large, or its topic too long, to be sealed.
        SealTooLarge = "seal-too-large",
        /// The crypto library failed, or was misused.
        SealFailed = "seal-failed",

        /// The message is not sealed.
        NotSealed = "open-not-sealed",
        /// The message is sealed in another version of the envelope.
        Version = "open-version",
        /// The envelope's header is damaged.
        BadHeader = "open-bad-header",
        /// The message is sealed under an epoch that is still to come here.
        EpochAhead = "open-epoch-ahead",
        /// The message is sealed under an epoch whose key is gone.
        EpochRetired = "open-epoch-retired",
        /// Nobody sat on the sender's leaf.
        UnknownSender = "open-unknown-sender",
        /// The sender was removed.
        SenderRemoved = "open-sender-removed",
        /// The tag does not fit.
        Undecryptable = "open-undecryptable",
        /// The sender uses features that this agent does not know.
        UnknownFeature = "open-unknown-feature",
        /// What is inside the seal is malformed.
        BadContent = "open-bad-content",
        /// The message is not signed, and its group signs.
        Unsigned = "open-unsigned",
        /// The signature is not the sender's.
        Forged = "open-forged",
        /// The message was delivered before.
        Replayed = "open-replayed",
        /// The retained message is older than one that was seen.
        RolledBack = "open-rolled-back",
        /// The broker keeps what was not published to be kept.
        NotRetained = "open-not-retained",
        /// The message is too old.
        TooOld = "open-too-old",
        /// The message comes from the future.
        Future = "open-future",
        /// The message was sealed long after its epoch ended.
        EpochEnded = "open-epoch-ended",
        /// The client has too many senders.
        TooManySenders = "open-too-many-senders",
        /// The crypto library failed.
        OpenFailed = "open-failed",
        /// The retained message was deleted, and no member has said so.
        Deleted = "open-deleted",

        /// A rule blocks the value.
        Blocked = "value-blocked",
        /// The value cannot be read.
        Unreadable = "value-unreadable",
        /// The value has not changed.
        Unchanged = "value-unchanged",
        /// The value waits for the shortest time between two reports.
        TooSoon = "value-too-soon",
        /// There is no value to write.
        NoValue = "value-none",
        /// The value is flagged, and flagged values are dropped.
        FlaggedDropped = "value-flagged",
        /// The value is flagged, and goes to another topic.
        FlaggedDiverted = "value-diverted",
        /// The value is too old, and the client could not see it.
        Stale = "value-stale",
        /// The sender's agent did not check the value.
        Unchecked = "value-unchecked",
        /// An alarm in the name of another device.
        ForeignAlarm = "value-foreign-alarm",
        /// Too many points wait for the archive.
        ArchiveFull = "value-archive-full",

        /// Too many retained messages.
        RetainedFull = "retained-full",
        /// The message is larger than the broker takes.
        TooLargeForBroker = "size-broker",
        /// The message is larger than the client takes.
        TooLargeForClient = "size-client",
        /// The message is larger than the agent takes.
        TooLargeForAgent = "size-agent",

        /// The broker cannot be reached.
        BrokerAway = "broker-away",
        /// The broker refused the client's connection.
        BrokerRefusedClient = "broker-refused-client",
        /// The broker refused the message.
        BrokerRefused = "broker-refused",
        /// The broker ended the connection.
        BrokerClosed = "broker-closed",
        /// The broker broke MQTT's rules.
        BrokerMalformed = "broker-malformed",
        /// The client broke MQTT's rules.
        ClientMalformed = "client-malformed",
        /// The client does not read what it is sent.
        ClientSlow = "client-slow",
        /// The client's connection was refused by the agent.
        ClientRefused = "client-refused",
        /// As many clients are connected as the agent takes.
        TooManyClients = "client-too-many",
        /// The agent's disk cannot be written.
        DiskFails = "disk-fails",
    }
}

/// How much a cause is worth in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// Somebody has to know of it.
    Warning,
    /// It is as it should be, and may surprise.
    Note,
    /// It happens all the time, because a rule says so.
    Routine,
}

impl Cause {
    /// How much it is worth in the log.
    pub const fn weight(self) -> Weight {
        match self {
            Self::BrokersTopic => Weight::Note,
            Self::Unchanged | Self::TooSoon | Self::NoValue | Self::FlaggedDiverted => Weight::Routine,
            _ => Weight::Warning,
        }
    }
}

/// Why one message was not sent, or not handed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Why {
    /// What it is called.
    pub cause: Cause,
    /// In whose name the message is, as far as that is known. Not proven where it did not open.
    pub sender: Option<DeviceId>,
    /// In words, with what to do.
    pub text: String,
}

impl Why {
    /// Of a message whose sender is not known, or is this device.
    pub fn new(cause: Cause, text: impl Into<String>) -> Self {
        Self { cause, sender: None, text: text.into() }
    }

    /// Of a message of `sender`, which the words name first.
    pub fn about(sender: &DeviceId, cause: Cause, text: &str) -> Self {
        Self { cause, sender: Some(sender.clone()), text: format!("{sender}: {text}") }
    }
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<OpenError> for Why {
    fn from(error: OpenError) -> Self {
        Self { cause: Cause::from(&error), sender: error.sender().cloned(), text: error.to_string() }
    }
}

impl From<SealError> for Why {
    fn from(error: SealError) -> Self {
        Self::new(Cause::from(&error), error.to_string())
    }
}

impl From<TooManyRetained> for Why {
    fn from(error: TooManyRetained) -> Self {
        Self::new(Cause::RetainedFull, error.to_string())
    }
}

impl From<&OpenError> for Cause {
    fn from(error: &OpenError) -> Self {
        match error {
            OpenError::Header(HeaderError::NotSealed) => Self::NotSealed,
            OpenError::Header(HeaderError::Version(_)) => Self::Version,
            OpenError::Header(HeaderError::Malformed(_)) => Self::BadHeader,
            OpenError::NotMember { .. } => Self::NotMember,
            OpenError::EpochAhead { .. } => Self::EpochAhead,
            OpenError::EpochRetired { .. } => Self::EpochRetired,
            OpenError::UnknownSender { .. } => Self::UnknownSender,
            OpenError::Removed { .. } => Self::SenderRemoved,
            OpenError::Undecryptable { .. } => Self::Undecryptable,
            OpenError::Flags { .. } => Self::UnknownFeature,
            OpenError::Malformed { .. } => Self::BadContent,
            OpenError::Unsigned { .. } => Self::Unsigned,
            OpenError::BadSignature { .. } => Self::Forged,
            OpenError::Replay { .. } => Self::Replayed,
            OpenError::RetainedOlder { .. } => Self::RolledBack,
            OpenError::NotRetained { .. } => Self::NotRetained,
            OpenError::TooOld { .. } => Self::TooOld,
            OpenError::Future { .. } => Self::Future,
            OpenError::EpochEnded { .. } => Self::EpochEnded,
            OpenError::TooManySenders { .. } => Self::TooManySenders,
            OpenError::Library => Self::OpenFailed,
        }
    }
}

impl From<&SealError> for Cause {
    fn from(error: &SealError) -> Self {
        match error {
            SealError::NotMember { .. } => Self::NotMember,
            SealError::EpochEnded { .. } => Self::EpochBehind,
            SealError::NeedStart { .. } | SealError::NeedEpoch { .. } => Self::SealUsedUp,
            SealError::Key { .. } => Self::SealOtherKey,
            SealError::Topic(_) | SealError::TooLarge(_) => Self::SealTooLarge,
            SealError::StartUsed { .. } | SealError::Tombstone | SealError::Library => Self::SealFailed,
        }
    }
}
