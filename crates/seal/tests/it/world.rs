//! A group of three, and what each needs to send and receive.

use std::{collections::BTreeMap, error::Error, sync::Arc};

use sealcast_identity::{DeviceId, SigningKey};
use sealcast_seal::{
    Authenticity, Content, Delivery, DeliveryKind, Epoch, EpochId, EpochSecret, Freshness, GroupKeys, GroupNumber,
    HandOver, LeafIndex, Ledger, Member, Message, OpenError, Opened, Opener, Purpose, QosClass, Sealer,
};

pub type Outcome = Result<(), Box<dyn Error>>;

pub const NOW: u64 = 1_795_366_800_000;
pub const TOPIC: &str = "hsu/0001/temperature";
pub const GROUP: GroupNumber = GroupNumber(1);
pub const LEDGER: Ledger = Ledger { chain_id: 5318, contract: [7; 20] };
/// Entries on the ledger with the commit of each epoch.
pub const BEGAN_AT: u64 = 40;
/// Limits of one minute live, one hour offline, one day retained; clocks within two seconds.
pub const FRESHNESS: Freshness = Freshness {
    live_max_age_ms: Some(60_000),
    retained_max_age_ms: Some(86_400_000),
    offline_max_age_ms: Some(3_600_000),
    clock_tolerance_ms: 2_000,
    epoch_grace_ms: Some(30_000),
};
pub const LIVE: Delivery<'static> =
    Delivery { kind: DeliveryKind::Live, hand_over: HandOver::AtMostOnce, freshness: &FRESHNESS };
pub const QOS1: Delivery<'static> =
    Delivery { kind: DeliveryKind::Live, hand_over: HandOver::Acknowledged { dup: false }, freshness: &FRESHNESS };
pub const DUP: Delivery<'static> =
    Delivery { kind: DeliveryKind::Live, hand_over: HandOver::Acknowledged { dup: true }, freshness: &FRESHNESS };
pub const RETAINED: Delivery<'static> =
    Delivery { kind: DeliveryKind::Retained, hand_over: HandOver::AtMostOnce, freshness: &FRESHNESS };
pub const OFFLINE: Delivery<'static> =
    Delivery { kind: DeliveryKind::Offline, hand_over: HandOver::Acknowledged { dup: false }, freshness: &FRESHNESS };

/// Members 1111, 1112 and 1113 on leaves 0, 1 and 2.
pub struct World {
    pub keys: Vec<Arc<SigningKey>>,
    pub authenticity: Authenticity,
    pub retention: u16,
}

impl World {
    pub fn new(authenticity: Authenticity) -> Result<Self, Box<dyn Error>> {
        let keys = (0..3).map(|_| SigningKey::generate().map(Arc::new)).collect::<Result<_, _>>()?;
        Ok(Self { keys, authenticity, retention: 2 })
    }

    pub fn signed() -> Result<Self, Box<dyn Error>> {
        Self::new(Authenticity::Signature)
    }

    /// What the control plane hands to the device on `leaf`.
    pub fn epoch(&self, leaf: usize, generation: u32, epoch: u64) -> Result<Epoch, Box<dyn Error>> {
        let mut secret = [generation as u8; 32];
        secret[..8].copy_from_slice(&epoch.to_be_bytes());
        let mut roster = BTreeMap::new();
        for (place, key) in self.keys.iter().enumerate() {
            roster.insert(leaf_at(place)?, Member { name: device(place)?, key: *key.public() });
        }
        Ok(Epoch {
            id: EpochId { generation, epoch },
            secret: EpochSecret::new(secret),
            own_leaf: leaf_at(leaf)?,
            roster,
            authenticity: self.authenticity,
            since_ms: NOW,
            began_at: Some(BEGAN_AT),
        })
    }

    /// The device on `leaf`, at epoch `epoch` of generation 0.
    pub fn device(&self, leaf: usize, epoch: u64) -> Result<GroupKeys, Box<dyn Error>> {
        let mut keys = GroupKeys::new(LEDGER, GROUP, "hsu0001", device(leaf)?, self.retention);
        keys.insert_epoch(self.epoch(leaf, 0, epoch)?)?;
        Ok(keys)
    }

    pub fn sealer(&self, keys: &mut GroupKeys, leaf: usize) -> Result<Sealer, Box<dyn Error>> {
        Ok(keys.sealer(&self.keys[leaf])?)
    }

    /// What the member on leaf `thief` seals in the name of the one on leaf `victim` with: it knows the group's secret, and
    /// not the other's key.
    pub fn impostor(&self, victim: usize, thief: usize) -> Result<Sealer, Box<dyn Error>> {
        let mut epoch = self.epoch(victim, 0, 1)?;
        epoch.roster.get_mut(&leaf_at(victim)?).ok_or("a victim")?.key = *self.keys[thief].public();
        let mut keys = GroupKeys::new(LEDGER, GROUP, "hsu0001", device(victim)?, 0);
        keys.insert_epoch(epoch)?;
        let sealer = keys.sealer(&self.keys[thief])?;
        std::mem::forget(keys);
        Ok(sealer)
    }

    /// A sealer of the device on leaf 0 and the keys of the one on leaf 1, both at epoch 1.
    pub fn pair(&self) -> Result<(Sealer, GroupKeys), Box<dyn Error>> {
        let mut sender = self.device(0, 1)?;
        let sealer = self.sealer(&mut sender, 0)?;
        // A sealer stops with its group's keys, so those must outlive it.
        std::mem::forget(sender);
        Ok((sealer, self.device(1, 1)?))
    }
}

pub fn leaf_at(place: usize) -> Result<LeafIndex, Box<dyn Error>> {
    LeafIndex::new(u32::try_from(place)?).ok_or_else(|| "a leaf".into())
}

pub fn device(place: usize) -> Result<DeviceId, Box<dyn Error>> {
    Ok(format!("{}", 1111 + place).parse()?)
}

pub fn content(payload: &[u8]) -> Content<'_> {
    Content { purpose: Purpose::Message, retain: false, class: QosClass::AtMostOnce, props: &[], payload }
}

pub fn qos1(payload: &[u8]) -> Content<'_> {
    Content { class: QosClass::Acknowledged, ..content(payload) }
}

pub fn retained(payload: &[u8]) -> Content<'_> {
    Content { retain: true, ..content(payload) }
}

/// Opens what must be a message.
pub fn message(opened: Result<Opened, OpenError>) -> Result<Message, Box<dyn Error>> {
    match opened? {
        Opened::Message(message) => Ok(message),
        Opened::SealedAgain { .. } => Err("sealed again".into()),
        Opened::Tombstone(_) => Err("a tombstone".into()),
    }
}

/// Opens what must be a message, and hands it on.
pub fn deliver(
    opener: &mut Opener,
    keys: &GroupKeys,
    frame: &[u8],
    delivery: &Delivery<'_>,
) -> Result<Message, Box<dyn Error>> {
    let message = message(opener.open(keys, TOPIC, frame, delivery, NOW))?;
    opener.mark_delivered(&message.receipt());
    Ok(message)
}
