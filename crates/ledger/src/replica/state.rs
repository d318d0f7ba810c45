//! What the replica knows of devices, groups and key packages.

use std::collections::{BTreeMap, VecDeque};

use sealcast_identity::{DeviceId, PublicKey};

use crate::{
    Epoch, Generation, GroupName, GroupNumber, Hash, Number, Policy, ReadingTopic, Reason, Serial, TopicFilter,
    TopicLimits,
};

/// How many of a device's former certificates the replica remembers.
const CERTIFICATES_KEPT: usize = 8;
/// How many of a device's publications stand in the order in which they came.
const PUBLICATIONS_KEPT: usize = 16;

/// A device, as the CA last registered it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Device {
    /// Its id.
    pub id: DeviceId,
    /// Its number, which follows from the id.
    pub number: Number,
    /// Its key: certificate, MLS leaf and ledger entries.
    pub key: PublicKey,
    /// SHA-256 of its certificate's DER.
    pub certificate: Hash,
    /// The certificate's serial number.
    pub serial: Serial,
    /// When the certificate ends, seconds since 1970.
    pub not_after_s: u64,
    /// Whether it may do anything.
    pub state: DeviceState,
    /// Index of the record that last registered it.
    pub registered_at: u64,
    pub(super) latest_keys: Option<Hash>,
    /// The key packages that it published last, oldest first, whatever became of the device since.
    pub(super) published: VecDeque<Hash>,
    /// The certificates that it had before, oldest first, each with the index of the record that replaced it.
    pub(super) replaced: VecDeque<(Hash, u64)>,
}

/// Whether a device may do anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceState {
    /// Registered and not revoked since.
    Active,
    /// Revoked: its entries are refused and all its grants are void.
    Revoked {
        /// Why.
        reason: Reason,
        /// Index of the record that says so.
        at: u64,
    },
}

impl Device {
    /// Whether it is registered and not revoked since.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.state == DeviceState::Active
    }

    /// Index of the record that replaced this certificate of the device by another. `None` for its present one, and for
    /// those that it did not have or had more than eight certificates ago.
    #[must_use]
    pub fn replaced_at(&self, certificate: &Hash) -> Option<u64> {
        self.replaced.iter().find(|(replaced, _)| replaced == certificate).map(|(_, at)| *at)
    }

    /// Whether it ever published a key package.
    #[must_use]
    pub fn has_published(&self) -> bool {
        !self.published.is_empty()
    }

    pub(super) fn publish(&mut self, key_package: Hash) {
        self.latest_keys = Some(key_package);
        if self.published.len() == PUBLICATIONS_KEPT {
            self.published.pop_front();
        }
        self.published.push_back(key_package);
    }

    /// Takes over what is remembered of the registration before, which ends with the record `index`. Returns the
    /// certificate that is too long ago to be remembered, if there is one.
    pub(super) fn succeed(&mut self, before: Self, index: u64) -> Option<Hash> {
        if self.key == before.key {
            self.latest_keys = before.latest_keys;
        }
        (self.published, self.replaced) = (before.published, before.replaced);
        if before.certificate != self.certificate {
            self.replaced.retain(|(certificate, _)| *certificate != self.certificate);
            self.replaced.push_back((before.certificate, index));
        }
        let forgotten = self.replaced.len() > CERTIFICATES_KEPT;
        forgotten.then(|| self.replaced.pop_front()).flatten().map(|(certificate, _)| certificate)
    }
}

/// A group.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Group {
    /// Its number.
    pub number: GroupNumber,
    /// Its name.
    pub name: GroupName,
    /// Its topics.
    pub filters: Vec<TopicFilter>,
    /// How its keys are handled.
    pub policy: Policy,
    /// Who made it and says who is in it: the operator.
    pub owner: Number,
    /// How often it was reset.
    pub generation: Generation,
    /// Where its next commit must be made.
    pub epoch: Epoch,
    /// The devices that may be members, each with the index of the record that grants it.
    pub grants: BTreeMap<Number, u64>,
    /// What readings must keep to, by topic. Others than of these topics are no entries.
    pub limits: BTreeMap<ReadingTopic, TopicLimits>,
    /// Index of the record that made it.
    pub created_at: u64,
    /// The devices that were granted and no longer are, each with the index of the record that ended it.
    pub(super) revoked: BTreeMap<Number, u64>,
    /// The commits of this generation: the one made in epoch `n` has its record's index at `n`.
    pub(super) commits: Vec<u64>,
}

impl Group {
    /// Index of the record that took the device's last grant away: the grant's own revocation, the device's, or its new
    /// key. `None` for a device that is granted or never was.
    #[must_use]
    pub fn revoked_at(&self, device: Number) -> Option<u64> {
        self.revoked.get(&device).copied()
    }

    pub(super) fn grant(&mut self, device: Number, index: u64) {
        self.revoked.remove(&device);
        self.grants.insert(device, index);
    }

    pub(super) fn revoke(&mut self, device: Number, index: u64) {
        if self.grants.remove(&device).is_some() {
            self.revoked.insert(device, index);
        }
    }
}

/// A key package on the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PublishedKeys {
    /// Whose.
    pub device: Number,
    /// SHA-256 of the MLS message.
    pub key_package: Hash,
    /// SHA-256 of the certificate that goes with it.
    pub certificate: Hash,
    /// Whether the device had lost its group state.
    pub rejoin: bool,
    /// Index of the record.
    pub at: u64,
}

/// Whether a key package may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyPackageState {
    /// Its device's last, for the certificate that the device is registered with.
    Current,
    /// The device published another since, got another certificate, or was revoked.
    Superseded,
    /// Not on the ledger.
    Unknown,
}
