//! How often a device gets a certificate: each one is an entry of the CA on the ledger, which has no quota and is kept for
//! ever.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use sealcast_identity::{Certificate, DeviceId, PublicKey, StoredToken};
use sealcast_ledger::{Device, Hash, Replica};
use tokio::sync::OwnedMutexGuard;

/// The certificates that were issued since the hub was started, and who is at it. One for each device that has enrolled or
/// renewed.
#[derive(Default)]
pub struct Certificates(Mutex<BTreeMap<DeviceId, Last>>);

#[derive(Default)]
struct Last {
    turn: Arc<tokio::sync::Mutex<()>>,
    certificate: Option<Certificate>,
    /// SHA-256 of the token that the device last enrolled with.
    token_sha256: Option<[u8; 32]>,
}

/// What a device gets that renews.
#[derive(Debug, PartialEq, Eq)]
pub enum Renewal {
    /// A new certificate.
    New,
    /// The one that the ledger has of it already: the answer which it came with was lost.
    Again(Certificate),
    /// Nothing yet.
    TooEarly {
        /// From when on, seconds since 1970.
        due_s: u64,
    },
    /// Nothing: it has enrolled another key, which the hub's replica does not know yet.
    OtherKey,
}

impl Certificates {
    /// A device enrols or renews once at a time: held until it is dropped.
    pub async fn turn(&self, device: &DeviceId) -> OwnedMutexGuard<()> {
        let turn = self.all().entry(device.clone()).or_default().turn.clone();
        turn.lock_owned().await
    }

    /// The certificate that was registered for this token and key, whose answer was lost; none if it is good no more.
    pub fn enrolled(&self, token: &StoredToken, key: &PublicKey, replica: &Replica) -> Option<Certificate> {
        let all = self.all();
        let last = all.get(&token.device).filter(|last| last.token_sha256 == Some(token.secret_sha256))?;
        let certificate = last.certificate.as_ref().filter(|certificate| certificate.public_key() == key)?;
        let device = replica.device_by_id(&token.device);
        let registered = device.and_then(|device| device.registration_of(&fingerprint(certificate)));
        // The hub's replica may be behind the ledger, and not know it yet.
        let is_good = registered.is_none_or(|registered| registered.revocation.is_none());
        is_good.then(|| certificate.clone())
    }

    /// What `device` gets for the certificate that it has shown, which is good.
    pub fn renewal(&self, device: &Device, shown: &Certificate, now_ms: u64) -> Renewal {
        let is_on_ledger = |certificate: &Certificate| device.certificate == fingerprint(certificate);
        // The hub's replica may be behind the ledger.
        let is_ahead = |certificate: &Certificate| device.registration_of(&fingerprint(certificate)).is_none();
        let last = self.all().get(&device.id).and_then(|last| last.certificate.clone());
        let last = last.as_ref().filter(|last| is_on_ledger(last) || is_ahead(last));
        let present = last.or(Some(shown).filter(|shown| is_on_ledger(shown)));
        // After a restart the hub has only the present certificate's fingerprint.
        let Some(present) = present else { return Renewal::New };
        let due_s = present.issued_s().midpoint(present.not_after_s());
        if present.public_key() != shown.public_key() {
            Renewal::OtherKey
        } else if now_ms / 1000 >= due_s {
            Renewal::New
        } else if present == shown {
            Renewal::TooEarly { due_s }
        } else {
            Renewal::Again(present.clone())
        }
    }

    /// The ledger has this certificate of the device, which has enrolled with `token` or renewed.
    pub fn keep(&self, device: DeviceId, certificate: Certificate, token: Option<&StoredToken>) {
        let mut all = self.all();
        let last = all.entry(device).or_default();
        last.certificate = Some(certificate);
        if let Some(token) = token {
            last.token_sha256 = Some(token.secret_sha256);
        }
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<DeviceId, Last>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn fingerprint(certificate: &Certificate) -> Hash {
    Hash::from(certificate.fingerprint().0)
}
