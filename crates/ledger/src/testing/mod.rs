//! A ledger in memory, for tests of what is built on one: the contract's rules without an EVM. And entries at random,
//! good and bad, on which the contract and the replica must agree.

mod workload;

use std::collections::BTreeMap;

use sealcast_identity::{DeviceId, KeyError, SigningKey};

use crate::{
    Body, DeviceRegistered, Genesis, Hash, LedgerId, Number, Record, Refusal, Replica, Serial, SignError, SignedEntry,
};

pub use workload::Workload;

/// Takes entries as the contract does, and keeps the records.
#[derive(Debug, Clone)]
pub struct MemoryLedger {
    replica: Replica,
    records: Vec<Record>,
}

impl MemoryLedger {
    /// A ledger without entries.
    #[must_use]
    pub fn new(genesis: Genesis) -> Self {
        Self { replica: Replica::new(genesis), records: Vec::new() }
    }

    /// Submits an entry in a block of this time (seconds since 1970; taken as the last record's if before that).
    pub fn submit(&mut self, entry: &SignedEntry, time_s: u64) -> Result<Record, Refusal> {
        self.replica.check(entry)?;
        let index = self.replica.height();
        let time_s = time_s.max(self.replica.last_time_s());
        let head = Record::next_head(&self.replica.head(), index, time_s, entry, self.replica.current_id());
        let record = Record { index, time_s, entry: entry.clone(), head };
        match self.replica.apply_without_signature_check(&record) {
            Ok(_) => {
                self.records.push(record.clone());
                Ok(record)
            }
            Err(crate::ReplicaError::Refused { source, .. }) => Err(source),
            Err(other) => unreachable!("a record made by the rules breaks them: {other}"),
        }
    }

    /// All records, in order.
    #[must_use]
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// The state after them.
    #[must_use]
    pub fn replica(&self) -> &Replica {
        &self.replica
    }
}

/// The keys of everybody on a ledger.
#[derive(Debug)]
pub struct Cast {
    /// What a ledger for them starts from.
    pub genesis: Genesis,
    /// By number: the root, the CA, the operator and the devices.
    pub keys: BTreeMap<Number, SigningKey>,
    /// The devices, in the order in which they were named.
    pub devices: Vec<DeviceId>,
}

impl Cast {
    /// A root, a CA, an operator and so many devices (`1111`, `1112`, ...) with new keys. Nothing is on the ledger yet.
    pub fn new(id: LedgerId, devices: usize) -> Result<Self, KeyError> {
        let [root, ca, operator] = [SigningKey::generate()?, SigningKey::generate()?, SigningKey::generate()?];
        let genesis = Genesis { id, root: *root.public(), ca: *ca.public(), operator: *operator.public() };
        let mut keys = BTreeMap::from([(id.root(), root), (id.ca(), ca), (id.operator(), operator)]);
        let devices: Vec<DeviceId> = (1111..).take(devices).filter_map(|n: usize| n.to_string().parse().ok()).collect();
        for device in &devices {
            keys.insert(id.number_of(device), SigningKey::generate()?);
        }
        Ok(Self { genesis, keys, devices })
    }

    /// The number of the device at this place, counted from 0.
    ///
    /// # Panics
    /// If there are fewer devices.
    #[must_use]
    pub fn number(&self, device: usize) -> Number {
        self.genesis.id.number_of(&self.devices[device])
    }

    /// What the CA says to register the device at this place with its key, and a certificate of this hash.
    ///
    /// # Panics
    /// If there are fewer devices.
    #[must_use]
    pub fn registration(&self, device: usize, certificate: Hash) -> Body {
        Body::DeviceRegistered(DeviceRegistered {
            device: self.devices[device].clone(),
            public_key: *self.keys[&self.number(device)].public(),
            certificate,
            serial: Serial::new(&[1, device as u8]).unwrap_or_else(|e| unreachable!("{e}")),
            not_after_s: 4_000_000_000,
        })
    }

    /// Signs for an originator, with the nonce that the replica expects.
    ///
    /// # Panics
    /// If the originator is not in the cast.
    pub fn sign(&self, replica: &Replica, originator: Number, body: &Body) -> Result<SignedEntry, SignError> {
        body.sign(&self.keys[&originator], originator, replica.next_nonce(originator), replica.current_id())
    }
}
