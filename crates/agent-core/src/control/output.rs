//! What the control plane wants.

use sealcast_group::{EpochKeys, LeftReason, Notice};
use sealcast_identity::DeviceId;
use sealcast_ledger::{Checkpoint, GroupNumber, Hash, ReadingTopic, SignedEntry};
use sealcast_seal::EpochId;

use super::input::Question;
use crate::SyncId;

/// A change of what is on disk. Done twice it is the same as done once, since a write that failed may be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Another record of the ledger.
    Record {
        /// Its index, which no other record ever has.
        index: u64,
        /// Its encoding.
        bytes: Vec<u8>,
    },
    /// The replica after the records up to here, in the place of the last one: see [`restore()`](super::restore()).
    Snapshot {
        /// How many records those are.
        height: u64,
        /// [`Replica::snapshot`](sealcast_ledger::Replica::snapshot).
        bytes: Vec<u8>,
    },
    /// Of the groups.
    State(sealcast_group::Write),
    /// This reading of the device is on the ledger: it leaves its queue.
    ReadingOnLedger {
        /// Of what.
        topic: ReadingTopic,
        /// Which.
        sequence: u64,
    },
    /// An entry of this device is about to be submitted.
    Submitted {
        /// Its nonce. Until the ledger has one with it, several may be on their way.
        nonce: u64,
        /// Its digest.
        digest: Hash,
    },
    /// The ledger has an entry of this device with this nonce: those that were submitted with it are forgotten.
    Answered {
        /// The nonce.
        nonce: u64,
    },
    /// Write down a series as it is now, so that its root can be anchored. If it is as it was, nothing is to be done.
    DrawAnchor {
        /// The group's.
        group: GroupNumber,
        /// Messages from before are forgotten as far as a series that was written down begins behind them, Unix ms.
        forget_before_ms: u64,
    },
    /// The ledger has this anchor.
    Anchored {
        /// The group.
        group: GroupNumber,
        /// The series' root.
        root: Hash,
        /// How many messages it had.
        count: u32,
    },
    /// How far the folder has come, in the place of the last one.
    Checkpoint(Checkpoint),
    /// The folder is older than what its device has done: it has no checkpoint any more, and none of the retained messages
    /// from before. Its series begin anew.
    BeginAnew {
        /// Before when, Unix ms.
        before_ms: u64,
    },
}

/// Something to be done, once the writes of its step are on disk.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    /// Publish, retained, with QoS 1. What a lost connection swallows is not missed.
    Publish {
        /// Where.
        topic: String,
        /// What. Nothing clears the topic.
        payload: Vec<u8>,
    },
    /// Ask the ledger for its records, and tell what came of it: [`Input::Records`](super::Input::Records).
    Ask {
        /// The question.
        sync: SyncId,
        /// The first index.
        from: u64,
        /// How many at most.
        most: usize,
    },
    /// Ask the hub for what it keeps for this device, and tell what came of it: [`Input::Kept`](super::Input::Kept).
    AskKept {
        /// The question.
        question: Question,
        /// [`KeptMessages::next`](super::KeptMessages::next) of the last answer.
        after: Option<String>,
        /// Topics and SHA-256 of the messages that the hub should have of this device.
        have: Vec<(String, Hash)>,
    },
    /// Submit an entry to the ledger, and tell what came of it: [`Input::Submitted`](super::Input::Submitted).
    Submit(Box<SignedEntry>),
    /// Tell which readings wait: [`Input::Readings`](super::Input::Readings).
    ListReadings,
    /// Tell how the series are: [`Input::Series`](super::Input::Series).
    ListSeries,
    /// Take an epoch into the keyring.
    InsertEpoch(EpochKeys),
    /// The group's present keys are those of this epoch of the ledger, too: [`Keyring::hold_epoch`](crate::Keyring::hold_epoch).
    HoldEpoch {
        /// Which group's.
        group: GroupNumber,
        /// The ledger's epoch.
        on_ledger: EpochId,
    },
    /// Wipe a group's keys.
    Leave {
        /// Which group's.
        group: GroupNumber,
        /// Why.
        reason: LeftReason,
    },
    /// Seal the retained messages of a group again, under its new epoch, and publish them. If nothing can be sealed yet:
    /// [`Input::NotSealed`](super::Input::NotSealed).
    SealRetained(GroupNumber),
    /// A device broadcasts its keys: [`KeysSeen::note`](super::KeysSeen::note).
    KeysSeen {
        /// Which.
        device: DeviceId,
        /// SHA-256 of its key package; `None` if there is none.
        key_package: Option<Hash>,
    },
    /// For the log.
    Notice {
        /// The device that it is about, if one can be named.
        device: Option<DeviceId>,
        /// The name of the group that it is about, if any.
        group: Option<String>,
        /// What happened.
        notice: Notice,
    },
}
