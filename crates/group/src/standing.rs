//! What the ledger says of a leaf: whose it is, and whether it may be in a group.
//!
//! Each call gets the replica as it is after the record that is being processed, and no further: groups and replica go in
//! step. What was true earlier is told by the indices that the replica keeps.

use sealcast_ledger::{Device, DeviceState, GroupNumber, Hash, Replica};

use crate::{GroupRefusal, stored::short_hex};

/// Why a device may not be in a group, and from which entry on.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    pub since: u64,
    pub why: GroupRefusal,
}

/// The device whose leaf has this certificate.
pub(crate) fn holder<'a>(replica: &'a Replica, certificate: &[u8; 32]) -> Option<&'a Device> {
    replica.device_by_certificate(&Hash::from(*certificate))
}

/// Whether there is such a group, and a leaf with this certificate may be in it.
pub(crate) fn may_be_in(replica: &Replica, group: GroupNumber, certificate: &[u8; 32]) -> bool {
    replica.group(group).is_some() && fault(replica, group, certificate).is_none()
}

/// Why a leaf with this certificate may not be in the group; `None` if it may.
pub(crate) fn fault(replica: &Replica, group: GroupNumber, certificate: &[u8; 32]) -> Option<Fault> {
    let Some(device) = holder(replica, certificate) else {
        let (certificate, subject) = (short_hex(certificate), "unknown".to_owned());
        return Some(Fault { since: 0, why: GroupRefusal::UnknownCertificate { certificate, subject } });
    };
    let name = || device.id.clone();
    let certificate = Hash::from(*certificate);
    let mut faults = Vec::new();
    if let DeviceState::Revoked { at, .. } = device.state {
        faults.push(Fault { since: at, why: GroupRefusal::DeviceRevoked { device: name(), entry: at } });
    }
    if device.certificate != certificate {
        let entry = device.replaced_at(&certificate).unwrap_or(0);
        faults.push(Fault { since: entry, why: GroupRefusal::SupersededCertificate { device: name(), entry } });
    }
    if !replica.is_granted(group, device.number) {
        faults.push(match replica.group(group).and_then(|known| known.revoked_at(device.number)) {
            None => Fault { since: 0, why: GroupRefusal::NotGranted { device: name(), group } },
            Some(entry) => Fault { since: entry, why: GroupRefusal::Revoked { device: name(), group, entry } },
        });
    }
    faults.into_iter().min_by_key(|fault| fault.since)
}

/// Index of the entry by which a device last said that it holds no group state.
pub(crate) fn rejoined(replica: &Replica, device: &Device) -> Option<u64> {
    replica.publications(device.number).find(|published| published.rejoin).map(|published| published.at)
}
