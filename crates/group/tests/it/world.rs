//! A CA, a ledger in memory, retained MQTT messages, and devices that can lose what they did not persist.

#![allow(dead_code, missing_docs, reason = "shared by two test programs")]

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use sealcast_group::{EpochKeys, Groups, LeftReason, Me, Notice, Output};
use sealcast_identity::{Authority, DeviceId, Issued, Root, SigningKey, TrustAnchor};
use sealcast_ledger::{
    Authenticity, Body, DeviceRegistered, DeviceRevoked, Epoch, Genesis, Granted, GroupCreated, GroupNumber,
    GroupReset, LedgerId, Number, Policy, Record, Replica, Revoked, testing::MemoryLedger,
};
use zeroize::Zeroizing;

pub const START_MS: u64 = 1_767_225_600_000;
const DAY: Duration = Duration::from_secs(86_400);

pub type Store = BTreeMap<String, Zeroizing<Vec<u8>>>;

/// Of an inbox: the device, the group, the committer.
pub type Place = (DeviceId, GroupNumber, DeviceId);

pub struct Ca {
    pub root: Root,
    pub authority: Authority,
}

impl Ca {
    pub fn new() -> Self {
        let root = Root::create("test", START_MS, 3650 * DAY).unwrap();
        let authority = root.create_authority("test", START_MS, 3000 * DAY).unwrap();
        Self { root, authority }
    }

    pub fn anchor(&self) -> TrustAnchor {
        TrustAnchor::new(self.root.certificate().clone()).unwrap()
    }

    pub fn issue(&self, device: &DeviceId, key: &SigningKey, now_ms: u64, lifetime: Duration) -> Issued {
        self.authority.issue_device(device, key.public(), now_ms, lifetime).unwrap()
    }
}

pub fn chain(issued: &Issued) -> Vec<Vec<u8>> {
    vec![issued.certificate.der().to_vec(), issued.issuer.der().to_vec()]
}

pub struct Node {
    pub id: DeviceId,
    pub pkcs8: Zeroizing<Vec<u8>>,
    pub chain: Vec<Vec<u8>>,
    pub store: Store,
    pub groups: Option<Groups>,
    /// As far as its groups have heard.
    pub replica: Replica,
    /// Whether records and messages reach it.
    pub online: bool,
    /// By (group, generation, MLS epoch), all that it was ever handed.
    pub epochs: BTreeMap<(u16, u32, u64), EpochKeys>,
    /// The ledger's epoch that its newest keys of a group are of.
    pub on_ledger: BTreeMap<GroupNumber, Epoch>,
    pub left: Vec<(GroupNumber, LeftReason)>,
    /// For each Welcome that it sent, the epoch that it was handed last.
    pub welcomed: Vec<Option<Epoch>>,
    pub notices: Vec<(Option<DeviceId>, Notice)>,
    pub writes: u64,
    /// Crash instead of doing the n-th next output.
    pub crash_after: Option<u64>,
}

impl Node {
    pub fn key(&self) -> SigningKey {
        SigningKey::from_pkcs8_der(&self.pkcs8).unwrap()
    }

    /// The newest epoch that it was handed of a group.
    pub fn newest(&self, group: GroupNumber) -> Option<&EpochKeys> {
        self.epochs.range((group.get(), 0, 0)..=(group.get(), u32::MAX, u64::MAX)).next_back().map(|(_, keys)| keys)
    }

    pub fn has_notice(&self, text: &str) -> bool {
        self.notices.iter().any(|(_, notice)| notice.to_string().contains(text))
    }
}

pub struct World {
    pub ca: Ca,
    pub operator: SigningKey,
    pub ledger: MemoryLedger,
    pub genesis: Genesis,
    pub now_ms: u64,
    pub nodes: Vec<Node>,
    pub keys: BTreeMap<DeviceId, Vec<u8>>,
    /// By device, group and committer.
    pub inboxes: BTreeMap<Place, Vec<u8>>,
    /// All that was ever published, in order.
    pub old_keys: Vec<(DeviceId, Vec<u8>)>,
    pub old_inboxes: Vec<(Place, Vec<u8>)>,
    /// Number of messages published.
    pub sent: u64,
    /// Deliver retained messages at once.
    pub deliver: bool,
    /// Entries that the ledger took from nodes, with their submitter's place.
    pub accepted: Vec<(usize, Record)>,
    pub refused: u64,
    /// Submissions that go nowhere.
    pub lose_submissions: BTreeSet<usize>,
    /// Devices whose Welcomes the broker refuses, and which their drivers still have to deliver.
    pub refuse_welcomes: BTreeSet<usize>,
    /// Devices that send no Welcomes, and believe they do.
    pub swallow_welcomes: BTreeSet<usize>,
    pub undelivered: BTreeMap<(usize, GroupNumber), (DeviceId, Vec<u8>)>,
}

impl World {
    pub fn new() -> Self {
        let ca = Ca::new();
        let operator = SigningKey::generate().unwrap();
        let id = LedgerId { chain_id: 5318, address: [7; 20] };
        let (root_key, ca_key) = (*ca.root.certificate().public_key(), *ca.authority.key().public());
        let genesis = Genesis { id, root: root_key, ca: ca_key, operator: *operator.public() };
        Self {
            ca,
            operator,
            ledger: MemoryLedger::new(genesis),
            genesis,
            now_ms: START_MS,
            nodes: Vec::new(),
            keys: BTreeMap::new(),
            inboxes: BTreeMap::new(),
            old_keys: Vec::new(),
            old_inboxes: Vec::new(),
            sent: 0,
            deliver: true,
            accepted: Vec::new(),
            refused: 0,
            lose_submissions: BTreeSet::new(),
            refuse_welcomes: BTreeSet::new(),
            swallow_welcomes: BTreeSet::new(),
            undelivered: BTreeMap::new(),
        }
    }

    pub fn submit(&mut self, originator: Number, key: &SigningKey, body: Body) -> Result<Record, String> {
        let nonce = self.ledger.replica().next_nonce(originator);
        let entry = body.sign(key, originator, nonce, &self.genesis.id).map_err(|e| e.to_string())?;
        self.ledger.submit(&entry, self.now_ms / 1000).map_err(|e| e.to_string())
    }

    pub fn as_operator(&mut self, body: Body) -> Result<Record, String> {
        let key = self.operator.clone();
        self.submit(self.genesis.id.operator(), &key, body)
    }

    pub fn as_ca(&mut self, body: Body) -> Result<Record, String> {
        let key = self.ca.authority.key().clone();
        self.submit(self.genesis.id.ca(), &key, body)
    }

    pub fn number(&self, node: usize) -> Number {
        self.genesis.id.number_of(&self.nodes[node].id)
    }

    pub fn register(&mut self, id: &DeviceId, issued: &Issued) {
        let body = DeviceRegistered::new(id.clone(), &issued.certificate).unwrap();
        self.as_ca(Body::DeviceRegistered(body)).unwrap();
    }

    /// A new device with a certificate of a year, registered and started.
    pub fn device(&mut self, name: &str) -> usize {
        self.device_for(name, 365 * DAY)
    }

    pub fn device_for(&mut self, name: &str, lifetime: Duration) -> usize {
        let id: DeviceId = name.parse().unwrap();
        let key = SigningKey::generate().unwrap();
        let issued = self.ca.issue(&id, &key, self.now_ms, lifetime);
        self.register(&id, &issued);
        let node = self.add_node(id, &key, chain(&issued));
        self.start(node);
        node
    }

    pub fn add_node(&mut self, id: DeviceId, key: &SigningKey, chain: Vec<Vec<u8>>) -> usize {
        self.nodes.push(Node {
            id,
            pkcs8: key.to_pkcs8_der().unwrap().clone(),
            chain,
            store: Store::new(),
            groups: None,
            replica: Replica::new(self.genesis),
            online: true,
            epochs: BTreeMap::new(),
            on_ledger: BTreeMap::new(),
            left: Vec::new(),
            welcomed: Vec::new(),
            notices: Vec::new(),
            writes: 0,
            crash_after: None,
        });
        self.nodes.len() - 1
    }

    /// (Re)starts a device from what it persisted.
    pub fn start(&mut self, node: usize) {
        self.start_with(node, vec![self.ca.anchor()]);
    }

    pub fn start_with(&mut self, node: usize, anchors: Vec<TrustAnchor>) {
        let n = &mut self.nodes[node];
        let me = Me { device: n.id.clone(), key: n.key(), chain: n.chain.clone(), anchors };
        let groups = Groups::new(me, &self.genesis, n.store.clone(), self.now_ms).unwrap();
        n.replica = Replica::new(self.genesis);
        for record in &self.ledger.records()[..usize::try_from(groups.next_entry()).unwrap()] {
            n.replica.apply_without_signature_check(record).unwrap();
        }
        (n.groups, n.crash_after) = (Some(groups), None);
    }

    /// Has a device's groups do something, if it runs. What they want done waits for [`Self::pump`].
    pub fn with_groups(&mut self, node: usize, act: impl FnOnce(&mut Groups, &Replica)) {
        let n = &mut self.nodes[node];
        if let Some(groups) = &mut n.groups {
            act(groups, &n.replica);
        }
    }

    pub fn request_update(&mut self, node: usize, group: GroupNumber) {
        let now_ms = self.now_ms;
        self.with_groups(node, |groups, replica| groups.request_update(replica, group, now_ms));
        self.pump(node);
    }

    pub fn group(&mut self, name: &str, max_age_s: u32) -> GroupNumber {
        let policy = Policy {
            epoch_max_age_s: std::num::NonZeroU32::new(max_age_s),
            epoch_max_messages: None,
            retention: 3,
            authenticity: Authenticity::Signature,
            ledger_max_age_s: None,
        };
        let filters = vec![format!("{name}/#").parse().unwrap()];
        self.as_operator(Body::GroupCreated(GroupCreated { name: name.parse().unwrap(), filters, policy })).unwrap();
        self.ledger.replica().groups().last().unwrap().number
    }

    pub fn grant(&mut self, group: GroupNumber, node: usize) {
        let device = self.number(node);
        self.as_operator(Body::Granted(Granted { group, device })).unwrap();
    }

    pub fn revoke(&mut self, group: GroupNumber, node: usize) {
        let device = self.number(node);
        let reason = "test".parse().unwrap();
        self.as_operator(Body::Revoked(Revoked { group, device, reason })).unwrap();
    }

    pub fn revoke_device(&mut self, node: usize) {
        let device = self.number(node);
        let reason = "test".parse().unwrap();
        self.as_operator(Body::DeviceRevoked(DeviceRevoked { device, reason })).unwrap();
    }

    pub fn reset(&mut self, group: GroupNumber) {
        self.as_operator(Body::GroupReset(GroupReset { group, reason: "test".parse().unwrap() })).unwrap();
    }

    /// Hands a device its next records, at most so many.
    pub fn some_records(&mut self, node: usize, most: usize) {
        let Some(groups) = &self.nodes[node].groups else { return };
        let next = usize::try_from(groups.next_entry()).unwrap();
        let records: Vec<Record> = self.ledger.records()[next..].iter().take(most).cloned().collect();
        for record in &records {
            self.hear(node, record);
            self.pump(node);
        }
    }

    /// Brings a device up to the ledger's end, then lets it say what it has to say.
    pub fn catch_up(&mut self, node: usize) {
        let records: Vec<Record> = match &self.nodes[node].groups {
            Some(groups) => self.ledger.records()[usize::try_from(groups.next_entry()).unwrap()..].to_vec(),
            None => return,
        };
        for record in &records {
            self.hear(node, record);
        }
        let now_ms = self.now_ms;
        self.with_groups(node, |groups, replica| groups.set_live(replica, true, now_ms));
        self.pump(node);
    }

    /// Gives a device's replica and groups the next record, if it runs.
    fn hear(&mut self, node: usize, record: &Record) {
        let n = &mut self.nodes[node];
        if let Some(groups) = &mut n.groups {
            n.replica.apply_without_signature_check(record).unwrap();
            groups.handle_record(&n.replica, record, self.now_ms).unwrap();
        }
    }

    /// Hands a device all retained messages.
    pub fn deliver_retained(&mut self, node: usize) {
        let now_ms = self.now_ms;
        let n = &mut self.nodes[node];
        let Some(groups) = &mut n.groups else { return };
        for (device, bytes) in &self.keys {
            groups.handle_keys(&n.replica, device, bytes, now_ms);
        }
        for ((device, group, committer), bytes) in &self.inboxes {
            if *device == n.id {
                groups.handle_inbox(&n.replica, *group, committer, bytes, now_ms);
            }
        }
        self.pump(node);
    }

    /// The Welcome that the broker retains for a device, and whose it is.
    pub fn welcome(&self, node: usize, group: GroupNumber) -> (DeviceId, Vec<u8>) {
        let mut of_device =
            self.inboxes.iter().filter(|((device, of, _), _)| *device == self.nodes[node].id && *of == group);
        let ((.., committer), bytes) = of_device.next().unwrap();
        (committer.clone(), bytes.clone())
    }

    /// Hands a device what a committer has put into its inbox.
    pub fn deliver_welcome(&mut self, node: usize, group: GroupNumber, committer: &DeviceId, bytes: &[u8]) {
        let now_ms = self.now_ms;
        self.with_groups(node, |groups, replica| groups.handle_inbox(replica, group, committer, bytes, now_ms));
        self.pump(node);
    }

    /// Does what a device wants done. `false` if it crashed.
    pub fn pump(&mut self, node: usize) -> bool {
        loop {
            let Some(groups) = &mut self.nodes[node].groups else { return false };
            let Some(output) = groups.poll_output() else { return true };
            let n = &mut self.nodes[node];
            if let Some(left) = &mut n.crash_after {
                if *left == 0 {
                    n.groups = None;
                    return false;
                }
                *left -= 1;
            }
            match output {
                Output::Persist(writes) => {
                    n.writes += 1;
                    for write in writes {
                        match write.value {
                            Some(value) => drop(n.store.insert(write.key, value)),
                            None => drop(n.store.remove(&write.key)),
                        }
                    }
                }
                Output::Submit(body) => self.submit_for(node, body),
                Output::PublishKeys { bytes } => {
                    let id = n.id.clone();
                    self.old_keys.push((id.clone(), bytes.clone()));
                    self.keys.insert(id, bytes);
                    self.sent += 1;
                }
                Output::PublishInbox { .. } if self.swallow_welcomes.contains(&node) => (),
                Output::PublishInbox { device, group, bytes } if self.refuse_welcomes.contains(&node) => {
                    self.undelivered.insert((node, group), (device, bytes));
                    self.tell_undelivered(node);
                }
                Output::PublishInbox { device, group, bytes } => {
                    let epoch = n.newest(group).map(|keys| keys.epoch);
                    n.welcomed.push(epoch);
                    let place = (device, group, n.id.clone());
                    self.old_inboxes.push((place.clone(), bytes.clone()));
                    self.inboxes.insert(place, bytes);
                    self.sent += 1;
                }
                Output::ClearInbox { group, committer } => {
                    let id = n.id.clone();
                    self.inboxes.remove(&(id, group, committer));
                }
                Output::EpochHolds { group, on_ledger, .. } => drop(n.on_ledger.insert(group, on_ledger)),
                Output::Epoch(mut keys) => {
                    n.on_ledger.insert(keys.group, keys.on_ledger);
                    keys.on_ledger = keys.epoch;
                    let place = (keys.group.get(), keys.generation.0, keys.epoch.0);
                    if let Some(known) = n.epochs.insert(place, keys.clone()) {
                        assert_eq!(known, keys, "an epoch is what it was");
                    }
                }
                Output::Left { group, reason } => n.left.push((group, reason)),
                Output::Notice { device, notice, .. } => n.notices.push((device, notice)),
            }
        }
    }

    fn tell_undelivered(&mut self, node: usize) {
        let of_node = |key: &&(usize, GroupNumber)| key.0 == node;
        let groups = self.undelivered.keys().filter(of_node).map(|(_, group)| *group).collect();
        let now_ms = self.now_ms;
        self.with_groups(node, |state, replica| state.set_undelivered(replica, groups, now_ms));
    }

    /// The broker takes the Welcomes that it has refused so far.
    pub fn deliver_welcomes(&mut self) {
        self.refuse_welcomes.clear();
        for ((node, group), (device, bytes)) in std::mem::take(&mut self.undelivered) {
            self.inboxes.insert((device, group, self.nodes[node].id.clone()), bytes);
            self.tell_undelivered(node);
        }
        self.settle();
    }

    fn submit_for(&mut self, node: usize, body: Body) {
        if self.lose_submissions.contains(&node) {
            return;
        }
        let (number, key) = (self.number(node), self.nodes[node].key());
        match self.submit(number, &key, body.clone()) {
            Ok(record) => self.accepted.push((node, record)),
            Err(reason) => {
                self.refused += 1;
                let now_ms = self.now_ms;
                self.with_groups(node, |groups, replica| groups.handle_refused(replica, &body, &reason, now_ms));
            }
        }
    }

    /// Everybody online hears everything until nothing changes any more, without time passing.
    pub fn settle(&mut self) {
        for _ in 0..100 {
            let before = (self.ledger.records().len(), self.sent, self.refused);
            for node in 0..self.nodes.len() {
                if self.nodes[node].online {
                    self.catch_up(node);
                    if self.deliver {
                        self.deliver_retained(node);
                    }
                }
            }
            if before == (self.ledger.records().len(), self.sent, self.refused) {
                return;
            }
        }
        panic!("it never settles");
    }

    /// Lets time pass second by second, with all that happens meanwhile.
    pub fn run(&mut self, seconds: u64) {
        self.settle();
        for _ in 0..seconds {
            self.now_ms += 1000;
            let mut any = false;
            for node in 0..self.nodes.len() {
                let now_ms = self.now_ms;
                let n = &mut self.nodes[node];
                if let (true, Some(groups)) = (n.online, &mut n.groups)
                    && groups.poll_timeout().is_some_and(|at| at <= now_ms)
                {
                    groups.handle_timeout(&n.replica, now_ms);
                    self.pump(node);
                    any = true;
                }
            }
            if any {
                self.settle();
            }
        }
    }

    /// Asserts that exactly these devices share the group's present epoch, and know each other by it. Gives the ledger's
    /// epoch.
    pub fn assert_members(&self, group: GroupNumber, members: &[usize]) -> u64 {
        let known = self.ledger.replica().group(group).unwrap();
        let mut first: Option<&EpochKeys> = None;
        for &node in members {
            let n = &self.nodes[node];
            let keys = n.newest(group).unwrap_or_else(|| panic!("{} has no keys; {:?}", n.id, n.notices));
            assert_eq!(n.on_ledger.get(&group), Some(&known.epoch), "{} is at the wrong epoch; {:?}", n.id, n.notices);
            assert_eq!(keys.generation, known.generation, "{}", n.id);
            let (device, key) = &keys.roster[&keys.leaf];
            assert_eq!((device, key), (&n.id, n.key().public()));
            let ids: BTreeSet<_> = keys.roster.values().map(|(id, _)| id.clone()).collect();
            let wanted: BTreeSet<_> = members.iter().map(|&m| self.nodes[m].id.clone()).collect();
            assert_eq!(ids, wanted, "{}'s roster", n.id);
            let first = first.get_or_insert(keys);
            assert_eq!(first.secret, keys.secret, "{} and {}", n.id, self.nodes[members[0]].id);
        }
        let present = first.map_or(0, |keys| keys.epoch.0);
        for (node, n) in self.nodes.iter().enumerate() {
            if !members.contains(&node) {
                let place = (group.get(), known.generation.0, present);
                assert!(!n.epochs.contains_key(&place), "{} has keys of the present epoch", n.id);
            }
        }
        known.epoch.0
    }
}
