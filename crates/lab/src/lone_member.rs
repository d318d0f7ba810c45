//! A group that has one member, to measure or to weigh a seal without a hub.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::{Context as _, Result};
use sealcast_identity::{DeviceId, SigningKey};
use sealcast_node::now_ms;
use sealcast_seal::{Authenticity, Epoch, EpochId, EpochSecret, GroupKeys, GroupNumber, LeafIndex, Member, Sealer};

/// Keys of a group with one member, for a bench or a size.
pub fn lone_member(authenticity: Authenticity) -> Result<(GroupKeys, Sealer)> {
    let key = Arc::new(SigningKey::generate()?);
    let device: DeviceId = "1111".parse()?;
    let leaf = LeafIndex::new(0).context("leaf 0")?;
    let mut keys = GroupKeys::new(GroupNumber(1), "hsu0001", device.clone(), 1);
    keys.insert_epoch(Epoch {
        id: EpochId { generation: 0, epoch: 1 },
        secret: EpochSecret::new([7; 32]),
        own_leaf: leaf,
        roster: BTreeMap::from([(leaf, Member { name: device, key: *key.public() })]),
        authenticity,
        since_ms: now_ms(),
    })?;
    let boot = keys.next_boot(None)?.stored();
    let sealer = keys.sealer(boot, &key)?;
    Ok((keys, sealer))
}
