//! A CA, an operator, a ledger in memory, and devices: what the tests of this crate are about, and with the feature
//! `testing` those of its driver.
#![allow(clippy::unwrap_used, clippy::new_without_default, missing_docs, reason = "for tests only")]

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use sealcast_group::{EpochKeys, Me};
use sealcast_identity::{Authority, DeviceId, Root, SigningKey, TrustAnchor};
use sealcast_ledger::{
    AttestedHead, Authenticity, Body, Commit, DeviceRegistered, DeviceRevoked, Epoch, Generation, Genesis, Granted,
    GroupCreated, GroupNumber, Hash, LedgerId, Limits, LimitsSet, Number, Policy, Record, Refusal, Replica, Reporters,
    Revoked, SequenceRule, SignedEntry, testing::MemoryLedger,
};
use sealcast_mqtt::{
    Connack, Connect, Output, PacketId, Properties, Proxy, ProxyConfig, Publish, PublishRequest, Qos, SessionState,
    Text, TopicName, Version, WillAnswer,
};
use sealcast_quality::RuleFilter;
use zeroize::Zeroizing;

use crate::{ByFilter, Freshness, Keyring, MaxAge, Own, Stale};

pub const START_MS: u64 = 1_767_225_600_000;
const DAY: Duration = Duration::from_secs(86_400);
/// Of a group that nothing else is said of.
pub const POLICY: Policy = Policy {
    epoch_max_age_s: None,
    epoch_max_messages: None,
    retention: 3,
    authenticity: Authenticity::Signature,
    ledger_max_age_s: None,
};

pub struct Device {
    pub id: DeviceId,
    pub key: Arc<SigningKey>,
    pub chain: Vec<Vec<u8>>,
    pub certificate: Hash,
}

pub struct World {
    root: Root,
    authority: Authority,
    operator: SigningKey,
    pub genesis: Genesis,
    pub ledger: MemoryLedger,
    pub devices: Vec<Device>,
    pub now_ms: u64,
}

impl World {
    pub fn new() -> Self {
        let root = Root::create("test", START_MS, 3650 * DAY).unwrap();
        let authority = root.create_authority("test", START_MS, 3000 * DAY).unwrap();
        let operator = SigningKey::generate().unwrap();
        let id = LedgerId { chain_id: 5318, address: [7; 20] };
        let (root_key, ca_key) = (*root.certificate().public_key(), *authority.key().public());
        let genesis = Genesis { id, root: root_key, ca: ca_key, operator: *operator.public() };
        let ledger = MemoryLedger::new(genesis);
        Self { root, authority, operator, genesis, ledger, devices: Vec::new(), now_ms: START_MS }
    }

    /// With so many devices, and one group that covers `plant/#` and has them all.
    pub fn with_group(devices: usize) -> (Self, GroupNumber) {
        let mut world = Self::new();
        let group = world.group("plant");
        for place in 0..devices {
            world.device(&(1111 + place).to_string());
            world.grant(group, place);
        }
        (world, group)
    }

    /// A new device with a certificate of a year, registered.
    pub fn device(&mut self, name: &str) -> usize {
        let id: DeviceId = name.parse().unwrap();
        let key = SigningKey::generate().unwrap();
        let issued = self.authority.issue_device(&id, key.public(), self.now_ms, 365 * DAY).unwrap();
        let certificate = Hash::of(issued.certificate.der());
        let body = DeviceRegistered::new(id.clone(), &issued.certificate).unwrap();
        let chain = vec![issued.certificate.der().to_vec(), issued.issuer.der().to_vec()];
        self.devices.push(Device { id, key: Arc::new(key), chain, certificate });
        let ca = self.authority.key().clone();
        self.say(self.genesis.id.ca(), &ca, &Body::DeviceRegistered(body));
        self.devices.len() - 1
    }

    /// A group that covers all topics below its name.
    pub fn group(&mut self, name: &str) -> GroupNumber {
        self.group_of(name, POLICY)
    }

    /// The same, with another policy.
    pub fn group_of(&mut self, name: &str, policy: Policy) -> GroupNumber {
        let filters = vec![format!("{name}/#").parse().unwrap()];
        self.operate(&Body::GroupCreated(GroupCreated { name: name.parse().unwrap(), filters, policy }));
        self.ledger.replica().groups().last().unwrap().number
    }

    pub fn grant(&mut self, group: GroupNumber, device: usize) {
        let device = self.number(device);
        self.operate(&Body::Granted(Granted { group, device }));
    }

    pub fn revoke(&mut self, group: GroupNumber, device: usize) {
        let (device, reason) = (self.number(device), "lost".parse().unwrap());
        self.operate(&Body::Revoked(Revoked { group, device, reason }));
    }

    pub fn revoke_device(&mut self, device: usize) {
        let (device, reason) = (self.number(device), "lost".parse().unwrap());
        self.operate(&Body::DeviceRevoked(DeviceRevoked { device, reason }));
    }

    pub fn limit(&mut self, group: GroupNumber, topic: &str) -> Record {
        let limits = Limits {
            min: -1_000,
            max: 1_000,
            max_step: None,
            decimals: 1,
            unit: "bar".parse().unwrap(),
            sequence: SequenceRule::Increasing,
            reporters: Reporters::Granted,
        };
        self.operate(&Body::LimitsSet(LimitsSet { group, topic: topic.parse().unwrap(), limits }))
    }

    /// The ledger takes a commit of this device, whatever is in it.
    pub fn commit(&mut self, group: GroupNumber, device: usize) {
        let on_ledger = self.ledger.replica().group(group).unwrap();
        let (generation, epoch) = (on_ledger.generation, on_ledger.epoch);
        let body = Body::Commit(Commit { group, generation, epoch, commit: vec![1, 2, 3] });
        let key = self.devices[device].key.clone();
        self.say(self.number(device), &key, &body);
    }

    /// The keys of an epoch, as these devices agreed on them; `device` is whose.
    pub fn keys(&self, group: GroupNumber, device: usize, epoch: u64, members: &[usize]) -> EpochKeys {
        let leaf = |place: usize| u32::try_from(place).unwrap();
        let roster: BTreeMap<_, _> = members
            .iter()
            .map(|place| {
                let member = &self.devices[*place];
                (leaf(*place), (member.id.clone(), *member.key.public()))
            })
            .collect();
        // In this world no commit is void.
        let commit = self.ledger.replica().commits_from(group, Epoch(epoch - 1)).next();
        EpochKeys {
            group,
            generation: Generation(0),
            epoch: Epoch(epoch),
            on_ledger: Epoch(epoch),
            began_at: commit.map_or(0, |(_, index)| index + 1),
            secret: Zeroizing::new([u8::try_from(epoch).unwrap(); 32]),
            leaf: leaf(device),
            roster: Arc::new(roster),
        }
    }

    pub fn number(&self, device: usize) -> Number {
        self.genesis.id.number_of(&self.devices[device].id)
    }

    pub fn own(&self, device: usize) -> Own {
        let Device { id, key, certificate, .. } = &self.devices[device];
        Own { device: id.clone(), number: self.number(device), certificate: *certificate, key: key.clone() }
    }

    pub fn me(&self, device: usize) -> Me {
        let Device { id, key, chain, .. } = &self.devices[device];
        let key = SigningKey::clone(key);
        let anchor = TrustAnchor::new(self.root.certificate().clone()).unwrap();
        Me { device: id.clone(), key, chain: chain.clone(), anchors: vec![anchor] }
    }

    /// A device's keyring with this replica. `open/#` is in the clear.
    pub fn keyring(&self, device: usize, replica: Replica) -> Keyring {
        let clear = ["open/#", "plant/door", "$SYS/open/#"].map(|filter| filter.parse().unwrap()).into();
        Keyring::new(self.own(device), clear, freshness(), replica)
    }

    pub fn operate(&mut self, body: &Body) -> Record {
        let operator = self.operator.clone();
        self.say(self.genesis.id.operator(), &operator, body)
    }

    /// The operator's statement on a ledger, signed.
    pub fn attest(&self, said: &AttestedHead) -> Vec<u8> {
        said.sign(&self.operator, &self.genesis.id).unwrap()
    }

    /// What the ledger says to an entry.
    pub fn submit(&mut self, entry: &SignedEntry) -> Result<Record, Refusal> {
        self.ledger.submit(entry, self.now_ms / 1000)
    }

    /// Something that the ledger must take.
    pub fn say(&mut self, originator: Number, key: &SigningKey, body: &Body) -> Record {
        let nonce = self.ledger.replica().next_nonce(originator);
        let entry = body.sign(key, originator, nonce, &self.genesis.id).unwrap();
        self.submit(&entry).unwrap()
    }
}

/// Live messages up to a minute, ten while the client was away, retained ones up to an hour; of `plant/old/#` for ever.
fn freshness() -> Freshness {
    let default =
        MaxAge { live_ms: Some(60_000), offline_ms: Some(600_000), retained_ms: Some(3_600_000), stale: Stale::Refuse };
    let old = ("plant/old/#".parse::<RuleFilter>().unwrap(), MaxAge { stale: Stale::Flag, ..default });
    Freshness { clock_tolerance_ms: 1_000, ledger_ms: Some(600_000), default, topics: ByFilter::new(vec![old]) }
}

/// A keyring that has read nothing of the ledger.
pub fn keyring() -> Keyring {
    let mut world = World::new();
    let device = world.device("1111");
    world.keyring(device, Replica::new(world.genesis))
}

/// What a client's PUBLISH becomes in a proxy.
pub fn request(payload: String, dup: bool) -> PublishRequest {
    let mut proxy = Proxy::new(ProxyConfig::default());
    let connect = Connect::new(Version::V311, Text::new("x").unwrap());
    proxy.handle_client(&connect.encode().unwrap());
    while proxy.poll().is_some() {}
    proxy.accept(WillAnswer::AsIs, SessionState::default()).unwrap();
    let connack = Connack { session_present: false, code: 0, properties: Properties::new() };
    proxy.handle_broker(&connack.encode(Version::V311).unwrap());
    let publish = Publish {
        dup,
        qos: Qos::AtLeastOnce,
        retain: false,
        topic: Some(TopicName::new("t").unwrap()),
        packet_id: PacketId::new(1),
        properties: Properties::new(),
        payload: payload.into(),
    };
    proxy.handle_client(&publish.encode(Version::V311).unwrap());
    std::iter::from_fn(|| proxy.poll())
        .find_map(|output| if let Output::Publish(request) = output { Some(request) } else { None })
        .unwrap()
}
