//! The list of revoked certificates (CRL, RFC 5280), for those who judge a device's certificate without the ledger.
//!
//! The list says what the ledger says. It is signed again when somebody asks for it and the ledger has revoked a
//! certificate since, or half of the list's time is over.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::Result;
use sealcast_hub_core::SharedReplica;
use sealcast_identity::{Authority, Revoked};
use sealcast_ledger::{Device, Registration, Replica, RevocationCause};

/// From thisUpdate to nextUpdate.
const LIFETIME: Duration = Duration::from_secs(86_400);
const LIFETIME_MS: u64 = 86_400_000;

/// The list that was signed last.
#[derive(Default)]
pub struct Revocations(Mutex<Option<Signed>>);

struct Signed {
    der: Vec<u8>,
    revoked: Vec<Revoked>,
    /// The ledger's, when it was last compared.
    height: u64,
    /// When it was signed.
    at_ms: u64,
}

impl Revocations {
    /// The list at `now_ms`, in DER.
    pub fn list(&self, authority: &Authority, replica: &SharedReplica, now_ms: u64) -> Result<Vec<u8>> {
        let mut signed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_fresh = |signed: &&mut Signed| (signed.at_ms..signed.at_ms + LIFETIME_MS / 2).contains(&now_ms);
        let replica = replica.read().unwrap_or_else(PoisonError::into_inner);
        let height = replica.height();
        if let Some(signed) = signed.as_mut().filter(is_fresh).filter(|signed| signed.height == height) {
            return Ok(signed.der.clone());
        }
        let revoked = revoked(&replica, now_ms);
        drop(replica);
        if let Some(signed) = signed.as_mut().filter(is_fresh).filter(|signed| signed.revoked == revoked) {
            signed.height = height;
            return Ok(signed.der.clone());
        }
        // Of two lists the later one has the higher number, whatever the clock does.
        let at_ms = signed.as_ref().map_or(now_ms, |before| now_ms.max(before.at_ms + 1));
        let der = authority.revocation_list(&revoked, at_ms, LIFETIME)?;
        *signed = Some(Signed { der: der.clone(), revoked, height, at_ms });
        Ok(der)
    }
}

/// All certificates that the ledger revokes. One that has ended is left out once a list has come after its end.
fn revoked(replica: &Replica, now_ms: u64) -> Vec<Revoked> {
    let matters = |registration: &&Registration| registration.not_after_s.saturating_mul(1000) + LIFETIME_MS > now_ms;
    let of = |device: &Device| {
        let registered = device.registrations().iter().filter(matters);
        // One that was registered again counts as it was registered last.
        let last = registered.filter(|found| device.registration_of(&found.certificate) == Some(*found));
        last.filter_map(entry).collect::<Vec<_>>()
    };
    replica.devices().flat_map(of).collect()
}

fn entry(registration: &Registration) -> Option<Revoked> {
    let revocation = registration.revocation?;
    Some(Revoked {
        serial: registration.serial.as_bytes().to_vec(),
        since_s: revocation.time_s,
        superseded: revocation.cause == RevocationCause::OtherKey,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, RwLock};

    use sealcast_identity::{Root, SigningKey};
    use sealcast_ledger::{
        Body, DeviceRegistered, DeviceRevoked, Genesis, Hash, LedgerId, Number, Serial, testing::MemoryLedger,
    };

    use super::*;

    const NOW_MS: u64 = 1_767_225_600_000;

    struct Bench {
        authority: Authority,
        operator: SigningKey,
        ledger: MemoryLedger,
        replica: SharedReplica,
        revocations: Revocations,
    }

    impl Bench {
        fn new() -> Result<Self> {
            let decade = Duration::from_secs(3_650 * 86_400);
            let root = Root::create("test", NOW_MS, decade)?;
            let authority = root.create_authority("test", NOW_MS, decade)?;
            let operator = SigningKey::generate()?;
            let id = LedgerId { chain_id: 1, address: [1; 20] };
            let genesis =
                Genesis { id, root: *root.key().public(), ca: *authority.key().public(), operator: *operator.public() };
            let replica = Arc::new(RwLock::new(Replica::new(genesis)));
            let revocations = Revocations::default();
            Ok(Self { authority, operator, ledger: MemoryLedger::new(genesis), replica, revocations })
        }

        fn submit(&mut self, originator: Number, body: Body) -> Result<()> {
            let id = self.ledger.replica().genesis().id;
            let nonce = self.ledger.replica().next_nonce(originator);
            let key = if originator == id.ca() { self.authority.key() } else { &self.operator };
            let entry = body.sign(key, originator, nonce, &id)?;
            let record = self.ledger.submit(&entry, NOW_MS / 1000)?.clone();
            self.replica.write().unwrap_or_else(PoisonError::into_inner).apply(&record)?;
            Ok(())
        }

        /// Registers a certificate with this serial number for the device, which ends at `not_after_s`.
        fn register(&mut self, device: &str, key: &SigningKey, serial: u8, not_after_s: u64) -> Result<()> {
            let entry = Body::DeviceRegistered(DeviceRegistered {
                device: device.parse()?,
                public_key: *key.public(),
                certificate: Hash::of(&[serial]),
                serial: Serial::new(&[serial])?,
                not_after_s,
            });
            self.submit(self.ledger.replica().genesis().id.ca(), entry)
        }

        fn revoke(&mut self, device: &str) -> Result<()> {
            let id = self.ledger.replica().genesis().id;
            let body = DeviceRevoked { device: id.number_of(&device.parse()?), reason: "lost".parse()? };
            self.submit(id.operator(), Body::DeviceRevoked(body))
        }

        fn list(&self, now_ms: u64) -> Result<Vec<u8>> {
            self.revocations.list(&self.authority, &self.replica, now_ms)
        }

        fn revoked(&self, now_ms: u64) -> Vec<(u8, bool)> {
            let replica = self.replica.read().unwrap_or_else(PoisonError::into_inner);
            revoked(&replica, now_ms).iter().map(|revoked| (revoked.serial[0], revoked.superseded)).collect()
        }
    }

    #[test]
    fn what_the_ledger_revokes_is_on_the_list_until_after_its_end() -> Result<()> {
        let mut bench = Bench::new()?;
        let (first, second, other) = (SigningKey::generate()?, SigningKey::generate()?, SigningKey::generate()?);
        let end_s = NOW_MS / 1000 + 3_600;
        bench.register("1111", &first, 1, end_s)?;
        bench.register("1111", &first, 2, end_s + 86_400)?;
        bench.register("1112", &other, 3, end_s)?;
        assert_eq!(bench.revoked(NOW_MS), [], "a renewal revokes nothing");
        bench.register("1111", &second, 4, end_s + 86_400)?;
        assert_eq!(bench.revoked(NOW_MS), [(1, true), (2, true)]);
        bench.revoke("1111")?;
        assert_eq!(bench.revoked(NOW_MS), [(1, true), (2, true), (4, false)]);
        bench.register("1111", &second, 5, end_s + 86_400)?;
        assert_eq!(bench.revoked(NOW_MS), [(1, true), (2, true), (4, false)], "the new one is good");
        assert_eq!(bench.revoked(end_s * 1000 + 1), [(1, true), (2, true), (4, false)]);
        assert_eq!(bench.revoked(end_s * 1000 + LIFETIME_MS), [(2, true), (4, false)]);
        Ok(())
    }

    #[test]
    fn the_list_is_signed_anew_at_a_revocation_and_long_before_its_end() -> Result<()> {
        let mut bench = Bench::new()?;
        let key = SigningKey::generate()?;
        bench.register("1111", &key, 1, NOW_MS / 1000 + 86_400)?;
        let first = bench.list(NOW_MS)?;
        bench.register("1112", &SigningKey::generate()?, 2, NOW_MS / 1000 + 86_400)?;
        assert_eq!(bench.list(NOW_MS + 1)?, first, "nothing was revoked");
        bench.revoke("1111")?;
        let second = bench.list(NOW_MS + 2)?;
        assert_ne!(second, first);
        assert_eq!(bench.list(NOW_MS + LIFETIME_MS / 2)?, second);
        assert_ne!(bench.list(NOW_MS + 2 + LIFETIME_MS / 2)?, second);
        Ok(())
    }
}
