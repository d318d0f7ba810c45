//! What the ledger said at an earlier time.

use super::{
    Replica,
    state::{Device, PublishedKeys, Registration, Report, Revocation},
};
use crate::{GroupNumber, Hash, Number};

/// The ledger after its first records, as a replica that has more of them remembers it.
#[derive(Debug, Clone, Copy)]
pub struct Past<'a> {
    replica: &'a Replica,
    height: u64,
}

/// A device's place in a group at some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grant {
    /// It might be a member.
    Granted,
    /// Not any longer, because of the record of this index.
    Ended {
        /// The index.
        at: u64,
    },
    /// Not yet, or there was no such group.
    Never,
}

impl Replica {
    /// The ledger as it was after its first `height` records. Beyond the replica's own height it is as it is now.
    #[must_use]
    pub fn past(&self, height: u64) -> Past<'_> {
        Past { replica: self, height: height.min(self.height) }
    }

    /// The ledger as it is now.
    #[must_use]
    pub fn present(&self) -> Past<'_> {
        self.past(self.height)
    }
}

impl<'a> Past<'a> {
    /// How many records the ledger had.
    #[must_use]
    pub fn height(&self) -> u64 {
        self.height
    }

    /// The device that had this certificate, then or before.
    #[must_use]
    pub fn holder(&self, certificate: &Hash) -> Option<&'a Device> {
        let device = self.replica.device_by_certificate(certificate)?;
        let had = |registration: &&Registration| registration.certificate == *certificate && self.has(registration.at);
        device.registrations.iter().find(had).map(|_| device)
    }

    /// What the CA had last said of a device.
    #[must_use]
    pub fn registration(&self, device: Number) -> Option<&'a Registration> {
        let device = self.replica.device(device)?;
        device.registrations.iter().rev().find(|registration| self.has(registration.at))
    }

    /// What the CA said of a device when it last registered this certificate.
    #[must_use]
    pub fn registration_of(&self, device: Number, certificate: &Hash) -> Option<&'a Registration> {
        let registrations = self.replica.device(device)?.registrations.iter().rev();
        registrations.filter(|registration| self.has(registration.at)).find(|found| found.certificate == *certificate)
    }

    /// Why a certificate that the CA had registered could not be used any more.
    #[must_use]
    pub fn revocation(&self, registration: &Registration) -> Option<Revocation> {
        registration.revocation.filter(|revocation| self.has(revocation.at))
    }

    /// Whether the device might be a member of the group. Whoever is revoked as a device has no grants.
    #[must_use]
    pub fn grant(&self, group: GroupNumber, device: Number) -> Grant {
        let Some(group) = self.replica.group(group) else { return Grant::Never };
        if group.grants.get(&device).is_some_and(|from| self.has(*from)) {
            return Grant::Granted;
        }
        let ended = group.ended.get(&device).into_iter().flatten().rev().find(|grant| self.has(grant.from));
        match ended {
            Some(grant) if self.has(grant.until) => Grant::Ended { at: grant.until },
            Some(_) => Grant::Granted,
            None => Grant::Never,
        }
    }

    /// Who had published a key package, and when.
    #[must_use]
    pub fn keys(&self, key_package: &Hash) -> Option<&'a PublishedKeys> {
        self.replica.keys(key_package).filter(|keys| self.has(keys.at))
    }

    /// Index of the record by which a device had last said that it has lost its group state.
    #[must_use]
    pub fn rejoin(&self, device: Number) -> Option<u64> {
        self.replica.device(device)?.rejoins.iter().rev().copied().find(|at| self.has(*at))
    }

    /// What a device had last reported of a group in its present generation, and the index of the record.
    #[must_use]
    pub fn report(&self, group: GroupNumber, device: Number) -> Option<(u64, &'a Report)> {
        let reports = self.replica.group(group)?.reports.get(&device)?;
        reports.iter().rev().find(|(at, _)| self.has(*at)).map(|(at, report)| (*at, report))
    }

    fn has(&self, index: u64) -> bool {
        index < self.height
    }
}
