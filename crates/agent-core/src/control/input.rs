//! What the control plane is told.

use bytes::Bytes;
use sealcast_ledger::{GroupNumber, Hash, ReadingTopic, Record, Refusal};

use crate::{SeriesState, SyncId};

/// Something that happened.
#[derive(Debug, Clone)]
pub enum Input {
    /// The connection to the broker is there, and what the broker retains comes.
    Up,
    /// It is gone, and what was sent on it may have arrived or not.
    Down,
    /// The broker has taken a message of the control plane.
    Taken {
        /// The message's topic.
        topic: String,
    },
    /// The broker refused a message of the control plane.
    Refused {
        /// The message's topic.
        topic: String,
        /// Why, for a person.
        reason: String,
    },
    /// A message on one of Sealcast's own topics.
    Message {
        /// The topic.
        topic: String,
        /// The bytes.
        payload: Bytes,
    },
    /// What came of [`Effect::Ask`](super::Effect::Ask).
    Records {
        /// The question.
        sync: SyncId,
        /// Records in their order, none if the ledger has no more; or why there is no answer.
        answer: Result<Vec<Record>, String>,
    },
    /// How far the hub says that its ledger is.
    HubLedger {
        /// How many entries it has.
        height: u64,
        /// The head with them.
        head: Hash,
    },
    /// What came of [`Effect::AskKept`](super::Effect::AskKept).
    Kept {
        /// The question.
        question: Question,
        /// What the hub keeps, or why there is no answer.
        answer: Result<KeptMessages, String>,
    },
    /// What came of [`Effect::Submit`](super::Effect::Submit).
    Submitted(Submitted),
    /// A reading was queued for the ledger.
    ReadingQueued,
    /// The oldest waiting reading of each topic, oldest first: what came of
    /// [`Effect::ListReadings`](super::Effect::ListReadings).
    Readings(Vec<QueuedReading>),
    /// A series of what this device sends has something new.
    SeriesChanged,
    /// The series of the device's groups: what came of [`Effect::ListSeries`](super::Effect::ListSeries).
    Series(Vec<SeriesState>),
    /// This device has got another certificate for its key: the chain, DER, leaf first, without the root.
    Renewed {
        /// The chain.
        chain: Vec<Vec<u8>>,
    },
    /// Somebody waits for what the ledger says now.
    NewsWanted,
    /// Nothing could be sealed for [`Effect::SealRetained`](super::Effect::SealRetained).
    NotSealed(GroupNumber),
    /// A step was written, after the disk had refused it for a while and the keyring was
    /// [stalled](crate::Keyring::stall).
    Resumed,
}

/// A question to the hub for what it keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question(pub(super) u64);

/// Part of what the hub keeps for this device.
#[derive(Debug, Clone)]
pub struct KeptMessages {
    /// Topics and payloads.
    pub messages: Vec<(String, Bytes)>,
    /// What to ask with for those behind them.
    pub next: String,
    /// There are some already.
    pub more: bool,
    /// Topics of this device's own messages that the hub does not keep as they are.
    pub lacks: Vec<String>,
}

/// What became of an entry.
#[derive(Debug, Clone)]
pub enum Submitted {
    /// It is on the ledger, with this record.
    Taken(Box<Record>),
    /// The ledger does not take it.
    Refused(Refusal),
    /// The relay does not submit it, because nobody would follow it. Why, for a person.
    Rejected(String),
    /// It is not on the ledger: the relay's quotas have no room for it now.
    Later {
        /// Which quota, for a person.
        reason: String,
        /// When to submit it again, as the relay says.
        wait_ms: Option<u64>,
    },
    /// It may be on the ledger or not. Why, for a person.
    Failed(String),
}

/// A reading that waits for the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuedReading {
    /// What it is a reading of.
    pub topic: ReadingTopic,
    /// When it was taken, Unix ms.
    pub time_ms: u64,
    /// This device's count on the topic.
    pub sequence: u64,
    /// The digits.
    pub value: i128,
    /// How many of them stand after the point.
    pub decimals: u8,
}
