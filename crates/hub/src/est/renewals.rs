//! How often a device renews its certificate: each renewal is an entry on the ledger, which is kept for ever.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use sealcast_identity::{Certificate, DeviceId};
use sealcast_ledger::{Device, Hash};
use tokio::sync::OwnedMutexGuard;

/// The certificates that were issued to renew others since the hub was started, and who is at it. One for each device that
/// has renewed.
#[derive(Default)]
pub struct Renewals(Mutex<BTreeMap<DeviceId, Last>>);

#[derive(Default)]
struct Last {
    turn: Arc<tokio::sync::Mutex<()>>,
    certificate: Option<Certificate>,
}

/// What a device gets.
#[derive(Debug, PartialEq, Eq)]
pub enum Decided {
    /// A new certificate.
    New,
    /// The one that the ledger has of it already: the answer which it came with was lost.
    Again(Certificate),
    /// Nothing yet.
    TooEarly {
        /// From when on, seconds since 1970.
        due_s: u64,
    },
}

impl Renewals {
    /// A device renews once at a time: held until it is dropped.
    pub async fn turn(&self, device: &DeviceId) -> OwnedMutexGuard<()> {
        let turn = self.all().entry(device.clone()).or_default().turn.clone();
        turn.lock_owned().await
    }

    /// What `device` gets for the certificate that it has shown, which is good.
    pub fn decide(&self, device: &Device, shown: &Certificate, now_ms: u64) -> Decided {
        let is_on_ledger = |certificate: &Certificate| device.certificate == Hash::from(certificate.fingerprint().0);
        // The hub's replica may be behind the ledger.
        let is_ahead =
            |certificate: &Certificate| device.registration_of(&Hash::from(certificate.fingerprint().0)).is_none();
        let last = self.all().get(&device.id).and_then(|last| last.certificate.clone());
        let last = last.as_ref().filter(|last| is_on_ledger(last) || is_ahead(last));
        let present = last.or(Some(shown).filter(|shown| is_on_ledger(shown)));
        // After a restart the hub has only the present certificate's fingerprint.
        let Some(present) = present else { return Decided::New };
        let due_s = present.issued_s().midpoint(present.not_after_s());
        if now_ms / 1000 >= due_s {
            Decided::New
        } else if present == shown {
            Decided::TooEarly { due_s }
        } else {
            Decided::Again(present.clone())
        }
    }

    /// The ledger has this certificate of the device.
    pub fn keep(&self, device: DeviceId, certificate: Certificate) {
        self.all().entry(device).or_default().certificate = Some(certificate);
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<DeviceId, Last>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
