//! What the replica knows of devices, groups and key packages.

use std::collections::BTreeMap;

use sealcast_identity::{DeviceId, PublicKey};

use crate::{
    Epoch, Generation, GroupName, GroupNumber, Hash, Number, Policy, ReadingTopic, Reason, Serial, TopicFilter,
    TopicLimits,
};

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
    /// Whether it ever published a key package.
    pub(super) has_published: bool,
    /// Indices of the records by which it said that it has lost its group state.
    pub(super) rejoins: Vec<u64>,
    /// All that the CA said of it, oldest first; the last is what it is now.
    pub(super) registrations: Vec<Registration>,
}

/// What the CA said of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Registration {
    /// Index of the record.
    pub at: u64,
    /// The device's key from then on.
    pub key: PublicKey,
    /// SHA-256 of its certificate's DER.
    pub certificate: Hash,
    /// The certificate's serial number.
    pub serial: Serial,
    /// When the certificate ends, seconds since 1970.
    pub not_after_s: u64,
    /// Why the certificate must not be used any more. A newer one for the same key is no reason.
    pub revocation: Option<Revocation>,
}

/// The end of a certificate before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revocation {
    /// Index of the record that ended it.
    pub at: u64,
    /// The time of that record, seconds since 1970.
    pub time_s: u64,
    /// What the record did.
    pub cause: RevocationCause,
}

/// What ends a certificate before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RevocationCause {
    /// The device was revoked.
    DeviceRevoked,
    /// The device was registered with another key.
    OtherKey,
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

    /// All that the CA said of it, oldest first; the last is what it is now.
    #[must_use]
    pub fn registrations(&self) -> &[Registration] {
        &self.registrations
    }

    /// What the CA said when it last registered this certificate for the device.
    #[must_use]
    pub fn registration_of(&self, certificate: &Hash) -> Option<&Registration> {
        self.registrations.iter().rev().find(|registration| registration.certificate == *certificate)
    }

    /// Whether it ever published a key package.
    #[must_use]
    pub fn has_published(&self) -> bool {
        self.has_published
    }

    pub(super) fn publish(&mut self, key_package: Hash, rejoin: bool, index: u64) {
        (self.latest_keys, self.has_published) = (Some(key_package), true);
        if rejoin {
            self.rejoins.push(index);
        }
    }

    /// From now on none of its certificates may be used.
    pub(super) fn end_certificates(&mut self, revocation: Revocation) {
        for registration in &mut self.registrations {
            registration.revocation.get_or_insert(revocation);
        }
    }

    /// Takes over what is remembered of the time before this registration.
    pub(super) fn succeed(&mut self, mut before: Self) {
        if self.key == before.key {
            self.latest_keys = before.latest_keys;
        }
        before.registrations.append(&mut self.registrations);
        self.registrations = before.registrations;
        (self.has_published, self.rejoins) = (before.has_published, before.rejoins);
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
    /// The grants that are over, by device, oldest first.
    pub(super) ended: BTreeMap<Number, Vec<EndedGrant>>,
    /// The commits of this generation: the one made in epoch `n` at `n`.
    pub(super) commits: Vec<CommitMade>,
    /// The faults reported in this generation by device, oldest first, each with its record's index.
    pub(super) reports: BTreeMap<Number, Vec<(u64, Report)>>,
    /// Whose commits ended the generation before this one, if it ended by reports of faults.
    pub distrusted: Option<Number>,
}

/// A commit on the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CommitMade {
    /// Index of its record.
    pub at: u64,
    /// Who put it there.
    pub by: Number,
}

/// What a device said of a group that it has no keys of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// Whose commit it reported.
    pub author: Number,
    /// When, seconds since 1970.
    pub time_s: u64,
    /// Whether it could have followed the commit, and got no keys.
    pub kept_out: bool,
}

impl Group {
    /// Index of the record that took the device's last grant away: the grant's own revocation, the device's, or its new
    /// key. `None` for a device that is granted or never was.
    #[must_use]
    pub fn revoked_at(&self, device: Number) -> Option<u64> {
        if self.grants.contains_key(&device) {
            return None;
        }
        self.ended.get(&device)?.last().map(|grant| grant.until)
    }

    /// The commit of this generation that ended this epoch.
    pub(super) fn commit(&self, epoch: Epoch) -> Option<&CommitMade> {
        self.commits.get(usize::try_from(epoch.0).ok()?)
    }

    /// The fault that a device last reported in this generation, and the index of the record.
    #[must_use]
    pub fn report(&self, device: Number) -> Option<(u64, &Report)> {
        self.reports.get(&device)?.last().map(|(at, report)| (*at, report))
    }

    /// The next generation begins.
    pub(super) fn found_anew(&mut self, distrusted: Option<Number>) {
        (self.generation, self.epoch) = (Generation(self.generation.0 + 1), Epoch(0));
        self.commits.clear();
        self.reports.clear();
        self.distrusted = distrusted;
    }

    pub(super) fn grant(&mut self, device: Number, index: u64) {
        self.grants.insert(device, index);
    }

    pub(super) fn revoke(&mut self, device: Number, index: u64) {
        if let Some(from) = self.grants.remove(&device) {
            self.ended.entry(device).or_default().push(EndedGrant { from, until: index });
        }
    }
}

/// A grant that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EndedGrant {
    /// Index of the record that gave it.
    pub from: u64,
    /// Index of the record that ended it.
    pub until: u64,
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
    /// Time of the record, seconds since 1970.
    pub time_s: u64,
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
