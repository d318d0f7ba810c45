//! Who may do what at the hub's broker, by the ledger as it is now.
//!
//! Application topics are open to every active device: who can read them is decided by keys, not by the broker. The
//! control topics are not, so that nobody can flood or replace what belongs to another.

use std::sync::{Arc, PoisonError, RwLock};

use sealcast_broker::{Attempt, Policy, Refusal};
use sealcast_identity::{Certificate, DeviceId, OPERATOR_NAME};
use sealcast_ledger::{Hash, Replica};
use tracing::warn;

/// The hub's copy of the ledger, shared with the task that follows it.
pub type SharedReplica = Arc<RwLock<Replica>>;

/// The broker's rules.
pub struct LedgerPolicy {
    /// The hub's own replica.
    pub replica: SharedReplica,
    /// The one certificate that is the operator's.
    pub operator: Certificate,
}

impl LedgerPolicy {
    fn is_active(&self, device: &DeviceId) -> bool {
        let replica = self.replica.read().unwrap_or_else(PoisonError::into_inner);
        replica.device_by_id(device).is_some_and(sealcast_ledger::Device::is_active)
    }

    fn judge(&self, certificate: &Certificate) -> Result<Arc<str>, (Refusal, &'static str)> {
        if certificate.fingerprint() == self.operator.fingerprint() {
            return Ok(OPERATOR_NAME.into());
        }
        let id = certificate.device().map_err(|_| (Refusal::NotAuthorized, "the certificate is no device's"))?;
        let replica = self.replica.read().unwrap_or_else(PoisonError::into_inner);
        match replica.device_by_id(&id) {
            None => Err((Refusal::NotAuthorized, "the ledger does not know the device")),
            Some(device) if !device.is_active() => Err((Refusal::Banned, "the device is revoked")),
            Some(device) if device.certificate != Hash::from(certificate.fingerprint().0) => {
                Err((Refusal::NotAuthorized, "the device has a newer certificate"))
            }
            Some(_) => Ok(id.as_str().into()),
        }
    }
}

impl Policy for LedgerPolicy {
    fn connect(&self, attempt: &Attempt<'_>) -> Result<Arc<str>, Refusal> {
        let peer = attempt.certificate.ok_or(Refusal::NotAuthorized)?;
        let certificate = Certificate::from_der(peer.der()).map_err(|_| Refusal::NotAuthorized)?;
        self.judge(&certificate).map_err(|(refusal, reason)| {
            warn!(name = certificate.common_name(), client = attempt.client_id, reason, "connection refused");
            refusal
        })
    }

    fn may_publish(&self, device: &str, topic: &str) -> bool {
        let Some(rest) = control(topic) else { return device == OPERATOR_NAME || self.known(device) };
        let parts: Vec<&str> = rest.split('/').collect();
        match *parts {
            ["rpc", node, "request"] => node == device,
            ["keys", node] => node == device && self.known(device),
            ["inbox", _, _] => self.known(device),
            _ => false,
        }
    }

    fn may_subscribe(&self, device: &str, filter: &str) -> bool {
        let Some(rest) = control(filter) else { return true };
        let parts: Vec<&str> = rest.split('/').collect();
        match *parts {
            ["ledger"] | ["keys", _] => true,
            ["rpc", node, "response"] | ["inbox", node, _] => node == device,
            _ => false,
        }
    }
}

impl LedgerPolicy {
    fn known(&self, device: &str) -> bool {
        device.parse().is_ok_and(|device| self.is_active(&device))
    }
}

/// What follows `sealcast/v1/`, or an empty text for other topics and filters that reach into `sealcast/`.
fn control(topic: &str) -> Option<&str> {
    let first = topic.split('/').next().unwrap_or_default();
    (first == "sealcast").then(|| topic.strip_prefix("sealcast/v1/").unwrap_or_default())
}
