//! Other devices' key packages, as they were broadcast.

use std::collections::BTreeMap;

use mls_rs::MlsMessage;
use sealcast_identity::DeviceId;
use sealcast_ledger::{Device, Hash, Replica};

use crate::{
    refusal::GroupRefusal,
    stored::sha256,
    trust::{Trust, leaf_der},
    wire,
};

/// Longest KeyPackage message that is kept.
const MAX_BYTES: usize = 64 * 1024;
/// That many are kept of one device: the one that the ledger names, its successor, and one that may be a forgery.
const PER_DEVICE: usize = 3;
/// That many devices are remembered that the ledger does not know yet.
const STRANGERS: usize = 256;

pub(crate) struct Package {
    pub hash: [u8; 32],
    pub message: Vec<u8>,
    pub seen_ms: u64,
    /// When it ends, seconds since 1970; `None` before it was verified.
    pub until_s: Option<u64>,
    /// SHA-256 of the certificate that came with it.
    leaf_sha256: [u8; 32],
}

impl Package {
    /// Index of the record by which this device published it.
    pub fn published(&self, replica: &Replica, device: &Device) -> Option<u64> {
        let keys = replica.keys(&Hash::from(self.hash))?;
        (keys.device == device.number && keys.certificate == device.certificate).then_some(keys.at)
    }

    /// Whether it is a key package of `device`, whose certificate leads to our root.
    fn verify(&mut self, device: &DeviceId, trust: &Trust, now_ms: u64) -> Result<(), GroupRefusal> {
        let package = MlsMessage::from_bytes(&self.message)
            .ok()
            .and_then(MlsMessage::into_key_package)
            .ok_or(GroupRefusal::Malformed("the key broadcast does not hold an MLS KeyPackage"))?;
        let identity = package.signing_identity();
        let verified = trust.verify(identity, now_ms)?;
        if verified.id != *device || self.leaf_sha256 != sha256(leaf_der(identity)?) {
            return Err(GroupRefusal::LeafMismatch { device: device.clone() });
        }
        self.until_s = Some(package.expiration()?.seconds_since_epoch());
        Ok(())
    }
}

#[derive(Default)]
pub(crate) struct Packages(BTreeMap<DeviceId, Vec<Package>>);

impl Packages {
    /// Takes a key broadcast. One that the ledger does not have is held, and is not verified before the ledger has it: the
    /// quotas there bound how much work a device makes for all others. A device that the ledger does not know has its
    /// certificate to show for itself. `true` if there is something new to add the device by.
    pub fn take(
        &mut self,
        device: &DeviceId,
        bytes: &[u8],
        trust: &Trust,
        replica: &Replica,
        now_ms: u64,
    ) -> Result<bool, GroupRefusal> {
        let (message, chain) = wire::read_keys(bytes)?;
        if message.len() > MAX_BYTES {
            return Err(GroupRefusal::Malformed("the key package is longer than 64 KiB"));
        }
        let hash = sha256(message);
        if self.of(device).iter().any(|package| package.hash == hash) {
            return Ok(false);
        }
        let known = replica.device_by_id(device);
        let published = replica.keys(&Hash::from(hash));
        if published.is_some_and(|keys| known.is_none_or(|known| known.number != keys.device)) {
            return Err(GroupRefusal::LeafMismatch { device: device.clone() });
        }
        let leaf_sha256 = sha256(chain.first().copied().unwrap_or_default());
        let mut package = Package { hash, message: message.to_vec(), seen_ms: now_ms, until_s: None, leaf_sha256 };
        if known.is_none() || published.is_some() {
            package.verify(device, trust, now_ms)?;
        }
        if known.is_none() && self.0.keys().filter(|id| replica.device_by_id(id).is_none()).count() >= STRANGERS {
            return Err(GroupRefusal::Malformed("too many devices publish keys that the ledger does not know"));
        }
        let kept = self.0.entry(device.clone()).or_default();
        if kept.len() >= PER_DEVICE {
            // Those on the ledger stay, so that a flood of forgeries cannot push them out; of these, the newest.
            let at = |package: &Package| known.and_then(|known| package.published(replica, known));
            let out = (0..kept.len()).min_by_key(|place| kept.get(*place).and_then(at)).unwrap_or(0);
            kept.remove(out);
        }
        kept.push(package);
        Ok(published.is_some())
    }

    /// The ledger has a key package of `device` now: it is verified, if it was broadcast before.
    pub fn settle(
        &mut self,
        device: &DeviceId,
        key_package: &Hash,
        trust: &Trust,
        now_ms: u64,
    ) -> Result<(), GroupRefusal> {
        let hash = key_package.as_bytes();
        let Some(kept) = self.0.get_mut(device) else { return Ok(()) };
        let held = kept.iter_mut().find(|package| package.hash == *hash && package.until_s.is_none());
        let outcome = held.map_or(Ok(()), |package| package.verify(device, trust, now_ms));
        if outcome.is_err() {
            kept.retain(|package| package.hash != *hash);
        }
        outcome
    }

    pub fn of(&self, device: &DeviceId) -> &[Package] {
        self.0.get(device).map_or(&[], Vec::as_slice)
    }
}
