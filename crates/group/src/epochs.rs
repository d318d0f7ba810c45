//! The epoch keys that are handed to the data plane, and stored for as long as the group's policy retains them.

use std::{collections::BTreeMap, sync::Arc};

use mls_rs::mls_rs_codec::{self, MlsDecode, MlsEncode, MlsSize};
use sealcast_identity::PublicKey;
use sealcast_ledger::{Epoch, Generation, GroupNumber};
use zeroize::{Zeroize, Zeroizing};

use crate::{
    EpochKeys,
    stored::{Changes, RestoreError, Stored, decode, encode},
};

#[derive(MlsSize, MlsEncode, MlsDecode)]
struct EpochRow {
    generation: u32,
    epoch: u64,
    began_at: u64,
    leaf: u32,
    secret: [u8; 32],
    roster: BTreeMap<u32, (String, [u8; 64])>,
}

impl Drop for EpochRow {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

/// All stored epochs of a group, oldest first. `voids`: how many commits were void.
pub(crate) fn restore(group: GroupNumber, voids: u64, stored: &Stored) -> Result<Vec<EpochKeys>, RestoreError> {
    let mut all = Vec::new();
    for (key, bytes) in stored.under(&format!("epoch/{group}/")) {
        let row: EpochRow = decode(key, bytes)?;
        let mut roster = BTreeMap::new();
        for (leaf, (device, public)) in &row.roster {
            let device = device.parse().map_err(|_| RestoreError::corrupt(key))?;
            let public = PublicKey::from_xy(*public).map_err(|_| RestoreError::corrupt(key))?;
            roster.insert(*leaf, (device, public));
        }
        all.push(EpochKeys {
            group,
            generation: Generation(row.generation),
            epoch: Epoch(row.epoch),
            on_ledger: Epoch(row.epoch + voids),
            began_at: row.began_at,
            secret: Zeroizing::new(row.secret),
            leaf: row.leaf,
            roster: Arc::new(roster),
        });
    }
    all.sort_by_key(|keys| keys.epoch);
    Ok(all)
}

/// Stores one more epoch and forgets those beyond the retention. `known`: epochs that are stored, oldest first.
pub(crate) fn store(keys: &EpochKeys, retention: u16, known: &mut Vec<u64>, changes: &mut Changes) {
    let roster = keys.roster.iter().map(|(leaf, (device, key))| (*leaf, (device.to_string(), *key.xy()))).collect();
    let row = EpochRow {
        generation: keys.generation.0,
        epoch: keys.epoch.0,
        began_at: keys.began_at,
        leaf: keys.leaf,
        secret: *keys.secret,
        roster,
    };
    changes.put(key(keys.group, keys.epoch.0), encode(&row));
    known.push(keys.epoch.0);
    while known.len() > usize::from(retention) + 1 {
        changes.delete(key(keys.group, known.remove(0)));
    }
}

/// Forgets all of a group's epochs.
pub(crate) fn forget(group: GroupNumber, known: &mut Vec<u64>, changes: &mut Changes) {
    for epoch in known.drain(..) {
        changes.delete(key(group, epoch));
    }
}

fn key(group: GroupNumber, epoch: u64) -> String {
    format!("epoch/{group}/{epoch:020}")
}
