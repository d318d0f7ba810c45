//! Who may sign in by a client certificate.

use std::collections::BTreeSet;

use sealcast_hub_core::{Holder, holder_of};
use sealcast_identity::{Certificate, DeviceId};
use sealcast_ledger::Replica;

use super::Role;

/// What the owner of a certificate may do at `now_ms`, Unix ms: the operator, and the devices in `readers`. That the CA has
/// issued it is for the caller to check.
///
/// # Errors
/// Why they may not sign in by it.
pub fn role_of(
    replica: &Replica,
    readers: &BTreeSet<DeviceId>,
    certificate: &Certificate,
    now_ms: u64,
) -> Result<Role, &'static str> {
    // A connection can last longer than the certificate that it began with.
    if certificate.not_after_s().saturating_mul(1000) < now_ms {
        return Err("it has ended");
    }
    match holder_of(replica, certificate).map_err(|refusal| refusal.reason())? {
        Holder::Operator => Ok(Role::Operator),
        Holder::Device(device) if readers.contains(&device.id) => Ok(Role::Reader),
        Holder::Device(_) => Err("hub.toml does not name it: certificates in [console]"),
    }
}
