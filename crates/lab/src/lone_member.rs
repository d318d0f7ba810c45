//! A group that has one member, to measure or to weigh a seal without a hub.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::{Context as _, Result};
use sealcast_identity::{DeviceId, SigningKey};
use sealcast_node::now_ms;
use sealcast_seal::{
    Authenticity, Epoch, EpochId, EpochSecret, GroupKeys, GroupNumber, LeafIndex, Ledger, Member, Sealer,
};

/// Keys of a group with one member, for a bench or a size.
pub fn lone_member(authenticity: Authenticity) -> Result<(GroupKeys, Sealer)> {
    let key = Arc::new(SigningKey::generate()?);
    let device: DeviceId = "1111".parse()?;
    let leaf = LeafIndex::new(0).context("leaf 0")?;
    let ledger = Ledger { chain_id: 5318, contract: [7; 20] };
    let mut keys = GroupKeys::new(ledger, GroupNumber(1), "hsu0001", device.clone(), 1);
    keys.insert_epoch(Epoch {
        id: EpochId { generation: 0, epoch: 1 },
        secret: EpochSecret::new([7; 32]),
        own_leaf: leaf,
        roster: BTreeMap::from([(leaf, Member { name: device, key: *key.public() })]),
        authenticity,
        since_ms: now_ms(),
        began_at: Some(1),
    })?;
    let mut sealer = keys.sealer(&key)?;
    sealer.follow_ledger(10, |_| Some([7; 32]));
    Ok((keys, sealer))
}
