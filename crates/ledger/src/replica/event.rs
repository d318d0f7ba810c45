//! What a record did, in a form for people and drivers.

use sealcast_identity::{DeviceId, PublicKey};

use crate::{
    Epoch, Generation, GroupName, GroupNumber, Hash, LedgerId, LimitVerdict, Number, ReadingTopic, Reason, UnitText,
};

/// What comes of a reported fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultOutcome {
    /// The group goes on; the device is to be added again.
    Noted,
    /// More than half of those that are granted say so of this author: the group is founded anew.
    FoundedAnew,
    /// And more than half could not follow its commits: it has lost its grant.
    AuthorOut,
}

/// What the ledger had of a device when it was registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Former {
    /// Nothing: it is new.
    Nothing,
    /// A certificate for the same key.
    SameKey,
    /// A certificate for another key.
    OtherKey,
}

/// What an applied record did. The originator and a commit's bytes are in the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A device is new, or has a new key or certificate. With a new key it has lost all grants.
    DeviceRegistered {
        /// Its number.
        device: Number,
        /// Its id.
        id: DeviceId,
        /// Whether it was registered before, and for which key.
        former: Former,
        /// SHA-256 of the certificate.
        certificate: Hash,
        /// When that ends, seconds since 1970.
        not_after_s: u64,
    },
    /// A device may no longer do anything, and has lost all grants.
    DeviceRevoked {
        /// Its number.
        device: Number,
        /// Why.
        reason: Reason,
    },
    /// A device can be added with this key package.
    KeysPublished {
        /// Its number.
        device: Number,
        /// SHA-256 of the MLS message.
        key_package: Hash,
        /// Whether it must first be removed where it is a member.
        rejoin: bool,
    },
    /// There is a new group.
    GroupCreated {
        /// Its number.
        group: GroupNumber,
        /// Its name.
        name: GroupName,
    },
    /// A device may be a member.
    Granted {
        /// The group.
        group: GroupNumber,
        /// The device.
        device: Number,
    },
    /// A device may no longer be a member.
    Revoked {
        /// The group.
        group: GroupNumber,
        /// The device.
        device: Number,
        /// Why.
        reason: Reason,
    },
    /// An epoch ended by this commit.
    Committed {
        /// The group.
        group: GroupNumber,
        /// The generation it was made in.
        generation: Generation,
        /// The epoch it was made in: the group is now in the next.
        epoch: Epoch,
        /// The length of the MLS message.
        commit_bytes: usize,
    },
    /// A value was written, accepted or refused.
    Reading {
        /// The group.
        group: GroupNumber,
        /// What it is a reading of.
        topic: ReadingTopic,
        /// The digits.
        value: i128,
        /// How many of them stand after the point.
        decimals: u8,
        /// What it is in, by the topic's limits.
        unit: UnitText,
        /// When it was taken, milliseconds since 1970, by the device's clock.
        time_ms: u64,
        /// The device's own count.
        sequence: u64,
        /// What the limits say of it.
        verdict: LimitVerdict,
    },
    /// Messages were anchored.
    Anchored {
        /// The group.
        group: GroupNumber,
        /// The Merkle root of their digests.
        root: Hash,
        /// How many.
        count: u32,
    },
    /// A group starts again.
    GroupReset {
        /// The group.
        group: GroupNumber,
        /// The generation that begins.
        generation: Generation,
        /// Why.
        reason: Reason,
    },
    /// A device has no keys of a group since a commit, and asks to be added again.
    FaultReported {
        /// The group.
        group: GroupNumber,
        /// The generation of the commit.
        generation: Generation,
        /// The epoch that the commit was made in.
        epoch: Epoch,
        /// Who put the commit on the ledger.
        author: Number,
        /// Whether the device could have followed the commit, and got no keys.
        kept_out: bool,
        /// What comes of it.
        outcome: FaultOutcome,
    },
    /// Readings of a topic must keep to new limits.
    LimitsSet {
        /// The group.
        group: GroupNumber,
        /// The topic.
        topic: ReadingTopic,
        /// How often they were set.
        version: u64,
    },
    /// The CA or the operator has another key from the next record on.
    KeyRotated {
        /// Which.
        whose: Number,
        /// The new key.
        public_key: PublicKey,
    },
    /// The ledger is at another contract from the next record on.
    Moved {
        /// Which.
        to: LedgerId,
    },
}

impl Event {
    /// Whether it changes which devices and groups there are, and who is granted what.
    pub(super) fn changes_rights(&self) -> bool {
        matches!(
            self,
            Self::DeviceRegistered { .. }
                | Self::DeviceRevoked { .. }
                | Self::GroupCreated { .. }
                | Self::Granted { .. }
                | Self::Revoked { .. }
        )
    }

    /// The device, or the built-in originator, that it is about, other than as its originator.
    #[must_use]
    pub fn device(&self) -> Option<Number> {
        match self {
            Self::DeviceRegistered { device, .. }
            | Self::DeviceRevoked { device, .. }
            | Self::KeysPublished { device, .. }
            | Self::Granted { device, .. }
            | Self::Revoked { device, .. }
            | Self::FaultReported { author: device, outcome: FaultOutcome::AuthorOut, .. } => Some(*device),
            Self::KeyRotated { whose, .. } => Some(*whose),
            _ => None,
        }
    }

    /// The group that it is about.
    #[must_use]
    pub fn group(&self) -> Option<GroupNumber> {
        match self {
            Self::GroupCreated { group, .. }
            | Self::Granted { group, .. }
            | Self::Revoked { group, .. }
            | Self::Committed { group, .. }
            | Self::Reading { group, .. }
            | Self::Anchored { group, .. }
            | Self::GroupReset { group, .. }
            | Self::FaultReported { group, .. }
            | Self::LimitsSet { group, .. } => Some(*group),
            _ => None,
        }
    }
}

/// A record without its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The record's index.
    pub index: u64,
    /// The time of its block, seconds since 1970.
    pub time_s: u64,
    /// Who signed it.
    pub originator: Number,
    /// What it did.
    pub event: Event,
}
