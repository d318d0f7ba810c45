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
    /// When it ends, seconds since 1970.
    pub until_s: u64,
}

impl Package {
    /// Index of the record by which this device published it.
    pub fn published(&self, replica: &Replica, device: &Device) -> Option<u64> {
        let keys = replica.keys(&Hash::from(self.hash))?;
        (keys.device == device.number && keys.certificate == device.certificate).then_some(keys.at)
    }
}

#[derive(Default)]
pub(crate) struct Packages(BTreeMap<DeviceId, Vec<Package>>);

impl Packages {
    /// Takes a key broadcast, if the certificate in it is a device's of this name that leads to our root.
    pub fn take(
        &mut self,
        device: &DeviceId,
        bytes: &[u8],
        trust: &Trust,
        replica: &Replica,
        now_ms: u64,
    ) -> Result<(), GroupRefusal> {
        let (message, chain) = wire::read_keys(bytes)?;
        if message.len() > MAX_BYTES {
            return Err(GroupRefusal::Malformed("the key package is longer than 64 KiB"));
        }
        let hash = sha256(message);
        if self.of(device).iter().any(|package| package.hash == hash) {
            return Ok(());
        }
        let package = MlsMessage::from_bytes(message)
            .ok()
            .and_then(MlsMessage::into_key_package)
            .ok_or(GroupRefusal::Malformed("the key broadcast does not hold an MLS KeyPackage"))?;
        let identity = package.signing_identity();
        let verified = trust.verify(identity, now_ms)?;
        if verified.id != *device || chain.first().copied() != Some(leaf_der(identity)?) {
            return Err(GroupRefusal::LeafMismatch { device: device.clone() });
        }
        let until_s = package.expiration()?.seconds_since_epoch();
        let known = replica.device_by_id(device);
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
        kept.push(Package { hash, message: message.to_vec(), seen_ms: now_ms, until_s });
        Ok(())
    }

    pub fn of(&self, device: &DeviceId) -> &[Package] {
        self.0.get(device).map_or(&[], Vec::as_slice)
    }
}
