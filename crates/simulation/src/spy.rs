//! Whoever keeps every key that a device has ever had.

use anyhow::{Result, anyhow};
use sealcast_group::EpochKeys;
use sealcast_identity::DeviceId;
use sealcast_ledger::{GroupNumber, LedgerId};
use sealcast_seal::{
    Authenticity, Delivery, DeliveryKind, Epoch, EpochId, EpochSecret, Freshness, GroupKeys, HandOver, LeafIndex,
    Ledger, MAX_RETENTION, Member, Opened, Opener,
};

/// The keys of one device for the one group. They are never wiped: what a removed device could still open.
pub struct Spy(GroupKeys);

/// What is in a frame.
pub struct Inside {
    /// The payload in the clear.
    pub payload: Vec<u8>,
    /// Under which epoch.
    pub epoch: EpochId,
    /// By its sender's clock.
    pub sealed_ms: u64,
    /// A retained message that its publisher has sealed again, under a later epoch.
    pub is_again: bool,
    /// Its sender deletes the topic's retained message.
    pub deletes: bool,
}

impl Spy {
    /// Without keys.
    pub fn new(ledger: LedgerId, group: GroupNumber, device: &DeviceId) -> Self {
        let ledger = Ledger { chain_id: ledger.chain_id, contract: ledger.address };
        Self(GroupKeys::new(ledger, sealcast_seal::GroupNumber(group.get()), "plant", device.clone(), MAX_RETENTION))
    }

    /// The device has these keys now. Those that it had before are kept already.
    pub fn insert(&mut self, keys: &EpochKeys) -> Result<()> {
        let id = EpochId { generation: keys.generation.0, epoch: keys.epoch.0 };
        if self.0.held().any(|held| held >= id) {
            return Ok(());
        }
        let leaf = |leaf| LeafIndex::new(leaf).ok_or_else(|| anyhow!("leaf {leaf} is too large"));
        let member = |(place, (name, key)): (&u32, &(DeviceId, _))| {
            Ok((leaf(*place)?, Member { name: name.clone(), key: *key }))
        };
        let epoch = Epoch {
            id,
            secret: EpochSecret::new(*keys.secret),
            own_leaf: leaf(keys.leaf)?,
            roster: keys.roster.iter().map(member).collect::<Result<_>>()?,
            authenticity: Authenticity::Signature,
            since_ms: 0,
            began_at: None,
        };
        Ok(self.0.insert_epoch(epoch)?)
    }

    /// What these keys make of a frame, however old it is.
    pub fn open(&self, topic: &str, frame: &[u8], now_ms: u64) -> Option<Inside> {
        let freshness = Freshness::unlimited(u64::MAX);
        let as_kind = |kind| {
            let delivery = Delivery { kind, hand_over: HandOver::AtMostOnce, freshness: &freshness };
            match Opener::new().open(&self.0, topic, frame, &delivery, now_ms) {
                Ok(Opened::Message(message) | Opened::Tombstone(message)) => Some(Inside {
                    payload: message.payload().to_vec(),
                    epoch: message.epoch(),
                    sealed_ms: message.sealed_ms(),
                    is_again: kind == DeliveryKind::Retained,
                    deletes: message.is_tombstone(),
                }),
                Ok(Opened::SealedAgain { .. }) | Err(_) => None,
            }
        };
        // Only what was sealed for it opens as a retained message, and only as one does what was sealed again.
        as_kind(DeliveryKind::Live).or_else(|| as_kind(DeliveryKind::Retained))
    }
}
