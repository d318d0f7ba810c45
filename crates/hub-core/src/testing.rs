//! A CA, an operator and their ledger, for this crate's tests.

use std::time::Duration;

use sealcast_identity::{Authority, Certificate, Root, SigningKey};
use sealcast_ledger::{
    Authenticity, Body, DeviceRegistered, Genesis, Granted, GroupCreated, GroupNumber, LedgerId, Number, Policy,
    Record, Replica, testing::MemoryLedger,
};

pub const NOW_MS: u64 = 1_767_225_600_000;
const DAY: Duration = Duration::from_secs(86_400);

/// Whoever may write to the ledger besides devices. Each entry gives its record, for tests that have a replica of their own.
pub struct Site {
    authority: Authority,
    pub operator: SigningKey,
    ledger: MemoryLedger,
}

impl Site {
    pub fn new() -> Self {
        let root = Root::create("test", NOW_MS, 3650 * DAY).unwrap();
        let authority = root.create_authority("test", NOW_MS, 3000 * DAY).unwrap();
        let operator = SigningKey::generate().unwrap();
        let id = LedgerId { chain_id: 5318, address: [7; 20] };
        let (root, ca) = (*root.certificate().public_key(), *authority.key().public());
        let ledger = MemoryLedger::new(Genesis { id, root, ca, operator: *operator.public() });
        Self { authority, operator, ledger }
    }

    pub fn replica(&self) -> &Replica {
        self.ledger.replica()
    }

    pub fn id(&self) -> LedgerId {
        self.replica().genesis().id
    }

    pub fn number(&self, device: &str) -> Number {
        self.id().number_of(&device.parse().unwrap())
    }

    pub fn submit(&mut self, body: &Body, by: Number, key: &SigningKey) -> Record {
        let entry = body.sign(key, by, self.replica().next_nonce(by), &self.id()).unwrap();
        self.ledger.submit(&entry, NOW_MS / 1000).unwrap()
    }

    pub fn operate(&mut self, body: &Body) -> Record {
        let key = self.operator.clone();
        self.submit(body, self.id().operator(), &key)
    }

    /// Registers a device with a new key, also one that has one.
    pub fn register(&mut self, device: &str) -> (SigningKey, Certificate, Record) {
        let (id, key) = (device.parse().unwrap(), SigningKey::generate().unwrap());
        let certificate = self.authority.issue_device(&id, key.public(), NOW_MS, 365 * DAY).unwrap().certificate;
        let body = Body::DeviceRegistered(DeviceRegistered::new(id, &certificate).unwrap());
        let ca = self.authority.key().clone();
        let record = self.submit(&body, self.id().ca(), &ca);
        (key, certificate, record)
    }

    pub fn group(&mut self, name: &str, filter: &str) -> Record {
        let policy = Policy {
            epoch_max_age_s: None,
            epoch_max_messages: None,
            retention: 1,
            authenticity: Authenticity::Signature,
            ledger_max_age_s: None,
        };
        let filters = vec![filter.parse().unwrap()];
        self.operate(&Body::GroupCreated(GroupCreated { name: name.parse().unwrap(), filters, policy }))
    }

    pub fn grant(&mut self, group: GroupNumber, device: &str) -> Record {
        let device = self.number(device);
        self.operate(&Body::Granted(Granted { group, device }))
    }
}
