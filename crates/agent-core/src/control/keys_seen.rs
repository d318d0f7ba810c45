//! Which keys the devices broadcast.

use std::collections::BTreeMap;

use sealcast_identity::DeviceId;
use sealcast_ledger::Hash;

/// Broadcasts of so many devices are remembered.
const MAX_KEYS_SEEN: usize = 65_536;

/// SHA-256 of the key package that each device broadcasts, as seen on MQTT.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeysSeen(BTreeMap<DeviceId, Hash>);

impl KeysSeen {
    /// Notes what a device broadcasts now.
    pub fn note(&mut self, device: DeviceId, key_package: Option<Hash>) {
        match key_package {
            Some(hash) if self.0.len() < MAX_KEYS_SEEN || self.0.contains_key(&device) => {
                self.0.insert(device, hash);
            }
            _ => {
                self.0.remove(&device);
            }
        }
    }

    /// By device.
    pub fn by_device(&self) -> &BTreeMap<DeviceId, Hash> {
        &self.0
    }
}

/// The key package in a broadcast: `u32 length || KeyPackage || certificates`.
pub(super) fn key_package(payload: &[u8]) -> Option<Hash> {
    let (length, rest) = payload.split_first_chunk::<4>()?;
    let key_package = rest.get(..usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    Some(Hash::of(key_package))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_broadcast_counts_and_one_without_keys_is_none() {
        let device: DeviceId = "1111".parse().unwrap();
        let mut seen = KeysSeen::default();
        for (payload, noted) in [
            (&b"\0\0\0\x03keycertificates"[..], Some(Hash::of(b"key"))),
            (b"\0\0\0\x03yek", Some(Hash::of(b"yek"))),
            (b"\0\0\0\x04yek", None),
            (b"\0\0\0\x00", Some(Hash::of(b""))),
            (b"", None),
        ] {
            seen.note(device.clone(), key_package(payload));
            assert_eq!(seen.by_device().get(&device).copied(), noted, "{payload:?}");
        }
    }
}
