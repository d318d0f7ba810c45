//! Other devices' key packages, as they were broadcast.

use std::collections::BTreeMap;

use mls_rs::MlsMessage;
use sealcast_identity::DeviceId;
use sealcast_ledger::{Hash, Replica};

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
        let known = replica.device_by_id(device);
        if known.is_none() && self.0.keys().filter(|id| replica.device_by_id(id).is_none()).count() >= STRANGERS {
            return Err(GroupRefusal::Malformed("too many devices publish keys that the ledger does not know"));
        }
        let kept = self.0.entry(device.clone()).or_default();
        if kept.len() >= PER_DEVICE {
            // Those on the ledger stay, so that a flood of forgeries cannot push them out.
            let published: Vec<_> = known.into_iter().flat_map(|known| replica.publications(known.number)).collect();
            let is = |package: &Package, hash: Hash| Hash::from(package.hash) == hash;
            let named = |package: &&Package| published.iter().any(|published| is(package, published.key_package));
            let newest = published
                .iter()
                .find_map(|published| kept.iter().position(|package| is(package, published.key_package)));
            let out = kept.iter().position(|package| !named(&package));
            let out = out.or_else(|| (0..kept.len()).find(|at| Some(*at) != newest)).unwrap_or(0);
            kept.remove(out);
        }
        kept.push(Package { hash, message: message.to_vec(), seen_ms: now_ms });
        Ok(())
    }

    pub fn of(&self, device: &DeviceId) -> &[Package] {
        self.0.get(device).map_or(&[], Vec::as_slice)
    }
}
