//! A ledger on a temporary file, with keys for its originators.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use sealcast_chain::{Engine, EngineConfig, Ledger, Node, Wallet};
use sealcast_identity::{DeviceId, PublicKey, SigningKey};
use sealcast_ledger::{
    Authenticity, Body, Commit, DeviceRegistered, Epoch, Generation, Genesis, Granted, GroupCreated, GroupNumber, Hash,
    LedgerId, Number, Policy, Record, Replica, SignedEntry,
};
use sealcast_ledger_client::SubmitError;

/// How long anything may take that has to happen, on a machine that has other work. A wait ends as soon as it happens.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Kept out of the struct: whoever reopens the file needs the same.
pub struct Keys {
    pub root: SigningKey,
    pub ca: SigningKey,
    pub operator: SigningKey,
}

impl Keys {
    pub fn generate() -> Self {
        let [root, ca, operator] = std::array::from_fn(|_| SigningKey::generate().unwrap());
        Self { root, ca, operator }
    }

    /// As the contract's constructor takes them.
    pub fn public(&self) -> [&PublicKey; 3] {
        [&self.root, &self.ca, &self.operator].map(SigningKey::public)
    }
}

pub struct World {
    pub directory: tempfile::TempDir,
    pub engine: Engine,
    pub ledger: Ledger,
    pub keys: Keys,
}

pub fn file(directory: &Path) -> PathBuf {
    directory.join("ledger.sqlite")
}

impl World {
    pub async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let wallet = Wallet::generate();
        let config = EngineConfig { funded: vec![wallet.address()], ..EngineConfig::default() };
        let engine = Engine::open(file(directory.path()), &config).unwrap();
        let keys = Keys::generate();
        let ledger = Ledger::deploy(Node::embedded(&engine), wallet, keys.public()).await.unwrap();
        Self { directory, engine, ledger, keys }
    }

    pub fn id(&self) -> LedgerId {
        self.ledger.id()
    }

    pub fn genesis(&self) -> Genesis {
        let [root, ca, operator] = self.keys.public().map(|key| *key);
        Genesis { id: self.id(), root, ca, operator }
    }

    /// Signs with the originator's next nonce.
    pub async fn sign(&self, body: Body, key: &SigningKey, originator: Number) -> SignedEntry {
        let nonce = self.ledger.nonce_of(originator).await.unwrap();
        body.sign(key, originator, nonce, &self.id()).unwrap()
    }

    pub async fn by_ca(&self, body: Body) -> Result<Record, SubmitError> {
        let entry = self.sign(body, &self.keys.ca, self.id().ca()).await;
        self.ledger.submit(&entry).await
    }

    pub async fn by_operator(&self, body: Body) -> Result<Record, SubmitError> {
        let entry = self.sign(body, &self.keys.operator, self.id().operator()).await;
        self.ledger.submit(&entry).await
    }

    pub async fn register(&self, name: &str) -> Device {
        let key = SigningKey::generate().unwrap();
        self.by_ca(registration(name, &key)).await.unwrap();
        Device { number: self.id().number_of(&name.parse().unwrap()), key }
    }

    /// A group with these devices granted.
    pub async fn group(&self, name: &str, devices: &[&Device]) -> GroupNumber {
        self.by_operator(group(name, &[&format!("{name}/#")])).await.unwrap();
        let replica = self.replica().await;
        let number = replica.group_by_name(&name.parse().unwrap()).unwrap().number;
        for device in devices {
            self.by_operator(Body::Granted(Granted { group: number, device: device.number })).await.unwrap();
        }
        number
    }

    pub async fn submit(&self, device: &Device, body: Body) -> Result<Record, SubmitError> {
        let entry = self.sign(body, &device.key, device.number).await;
        self.ledger.submit(&entry).await
    }

    /// All records, verified.
    pub async fn replica(&self) -> Replica {
        sealcast_ledger::verify(self.genesis(), all(&self.ledger).await).unwrap()
    }
}

pub async fn all(ledger: &Ledger) -> Vec<Record> {
    let mut records = Vec::new();
    loop {
        let page = ledger.records(records.len() as u64, 1000).await.unwrap();
        if page.is_empty() {
            return records;
        }
        records.extend(page);
    }
}

pub struct Device {
    pub number: Number,
    pub key: SigningKey,
}

pub fn registration(name: &str, key: &SigningKey) -> Body {
    Body::DeviceRegistered(DeviceRegistered {
        device: name.parse::<DeviceId>().unwrap(),
        public_key: *key.public(),
        certificate: Hash::of(key.public().xy()),
        serial: sealcast_ledger::Serial::new(&[1, 2, 3]).unwrap(),
        not_after_s: 4_000_000_000,
    })
}

pub fn group(name: &str, filters: &[&str]) -> Body {
    Body::GroupCreated(GroupCreated {
        name: name.parse().unwrap(),
        filters: filters.iter().map(|filter| filter.parse().unwrap()).collect(),
        policy: Policy {
            epoch_max_age_s: None,
            epoch_max_messages: None,
            retention: 3,
            authenticity: Authenticity::Signature,
            ledger_max_age_s: None,
        },
    })
}

pub fn commit(group: GroupNumber, epoch: u64, bytes: usize) -> Body {
    Body::Commit(Commit { group, generation: Generation(0), epoch: Epoch(epoch), commit: vec![0xa5; bytes] })
}
