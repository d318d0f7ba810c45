//! What the ledger said of a leaf at some time: whose it is, and whether it may be in a group.

use sealcast_ledger::{Device, DeviceState, Grant, GroupNumber, Hash, Past, Replica, Revocation};

use crate::{GroupRefusal, stored::short_hex};

/// Why a device may not be in a group, and from which entry on.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    pub since: u64,
    pub why: GroupRefusal,
}

/// The device whose leaf has this certificate.
pub(crate) fn holder<'a>(past: Past<'a>, certificate: &[u8; 32]) -> Option<&'a Device> {
    past.holder(&Hash::from(*certificate))
}

/// Whether there is such a group, and a leaf with this certificate may be in it now.
pub(crate) fn may_be_in(replica: &Replica, group: GroupNumber, certificate: &[u8; 32]) -> bool {
    fault(replica.present(), group, certificate).is_none()
}

/// Why a leaf with this certificate might not be in the group; `None` if it might.
pub(crate) fn fault(past: Past<'_>, group: GroupNumber, certificate: &[u8; 32]) -> Option<Fault> {
    let Some(device) = holder(past, certificate) else {
        let (certificate, subject) = (short_hex(certificate), "unknown".to_owned());
        return Some(Fault { since: 0, why: GroupRefusal::UnknownCertificate { certificate, subject } });
    };
    let name = || device.id.clone();
    let certificate = Hash::from(*certificate);
    let mut faults = Vec::new();
    if let DeviceState::Revoked { at, .. } = device.state
        && at < past.height()
    {
        faults.push(Fault { since: at, why: GroupRefusal::DeviceRevoked { device: name(), entry: at } });
    }
    // A leaf follows the certificate when its device commits. Until then it has an older one, for the same key.
    let registered = past.registration_of(device.number, &certificate);
    if let Some(Revocation { at: entry, .. }) = registered.and_then(|registered| past.revocation(registered)) {
        faults.push(Fault { since: entry, why: GroupRefusal::SupersededCertificate { device: name(), entry } });
    }
    match past.grant(group, device.number) {
        Grant::Granted => (),
        Grant::Never => faults.push(Fault { since: 0, why: GroupRefusal::NotGranted { device: name(), group } }),
        Grant::Ended { at } => {
            faults.push(Fault { since: at, why: GroupRefusal::Revoked { device: name(), group, entry: at } });
        }
    }
    faults.into_iter().min_by_key(|fault| fault.since)
}
