//! Devices whose control planes talk to a broker and a ledger in memory, and that can lose what they did not commit.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use sealcast_group::{EpochKeys, Groups, LeftReason};
use sealcast_ledger::{GroupNumber, Hash, Record, SignedEntry};
use zeroize::Zeroizing;

use crate::{
    Keyring, SyncId, Uncommitted,
    control::{
        Control, Effect, FolderPast, Input, KeptMessages, KeysSeen, Question, QueuedReading, RestoreError, Restored,
        Submitted, Write, restore,
    },
    testing::World,
};

/// What an agent's folder holds.
#[derive(Clone, Default)]
pub struct Disk {
    pub records: Vec<Vec<u8>>,
    pub snapshot: Option<Vec<u8>>,
    pub state: BTreeMap<String, Zeroizing<Vec<u8>>>,
    pub readings: Vec<QueuedReading>,
    pub past: FolderPast,
}

impl Disk {
    fn commit(&mut self, writes: &[Write]) {
        for write in writes {
            match write {
                Write::Record { index, bytes } => match self.records.get(usize::try_from(*index).unwrap()) {
                    Some(known) => assert_eq!(known, bytes, "a record is replaced"),
                    None => {
                        assert_eq!(self.records.len() as u64, *index, "a record is missing");
                        self.records.push(bytes.clone());
                    }
                },
                Write::Snapshot { height, bytes } => {
                    assert_eq!(self.records.len() as u64, *height, "a snapshot stands for other records");
                    self.snapshot = Some(bytes.clone());
                }
                Write::State(sealcast_group::Write { key, value: Some(value) }) => {
                    self.state.insert(key.clone(), value.clone());
                }
                Write::State(sealcast_group::Write { key, value: None }) => drop(self.state.remove(key)),
                Write::ReadingOnLedger { topic, sequence } => {
                    self.readings.retain(|queued| queued.topic != *topic || queued.sequence != *sequence);
                }
                Write::DrawAnchor { .. } | Write::Anchored { .. } => {}
                Write::Submitted { nonce, digest } => self.past.submitted.push((*nonce, *digest)),
                Write::Answered { nonce } => self.past.submitted.retain(|(other, _)| other > nonce),
                Write::Checkpoint(checkpoint) => self.past.checkpoint = Some(*checkpoint),
                Write::BeginAnew { .. } => self.past.checkpoint = None,
            }
        }
    }

    /// What an agent starts with.
    pub fn open(&self, world: &World, device: usize) -> Result<(Control, Keyring), RestoreError> {
        let mut groups = self.groups(world, device);
        let page = |from| {
            let from = usize::try_from(from)?;
            Ok::<_, std::num::TryFromIntError>(self.records.iter().skip(from).take(5).cloned().collect())
        };
        let Restored { replica, snapshot_at } =
            restore(world.genesis, &mut groups, self.snapshot.as_deref(), page, world.now_ms)?;
        let all = restore(world.genesis, &mut groups, None, page, world.now_ms)?.replica;
        assert_eq!(format!("{replica:?}"), format!("{all:?}"));
        let control = Control::new(world.own(device), groups, self.past.clone(), world.now_ms);
        let control = control.with_snapshot_at(snapshot_at);
        Ok((control, world.keyring(device, replica)))
    }

    pub fn groups(&self, world: &World, device: usize) -> Groups {
        Groups::new(world.me(device), &world.genesis, self.state.clone(), world.now_ms).unwrap()
    }
}

/// Where a device dies, counted in steps that write from now on.
#[derive(Debug, Clone, Copy)]
pub struct Crash {
    pub step: usize,
    pub at: Moment,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// The write fails, and nothing of it is on disk.
    WriteLost,
    /// The write fails, and all of it is on disk.
    WritePersisted,
    /// The write succeeds, and so many effects happen.
    AfterEffects(usize),
}

enum Call {
    Ask { sync: SyncId, from: u64 },
    Submit(Box<SignedEntry>),
    Kept { question: Question, have: Vec<(String, Hash)> },
}

pub struct Node {
    pub device: usize,
    pub disk: Disk,
    pub control: Control,
    pub keyring: Keyring,
    pub up: bool,
    calls: VecDeque<Call>,
    pub keys_seen: KeysSeen,
    pub epochs: Vec<EpochKeys>,
    pub left: Vec<(GroupNumber, LeftReason)>,
    pub notices: Vec<String>,
    /// Groups whose retained messages were to be sealed again.
    pub resealed: Vec<GroupNumber>,
    pub crash: Option<Crash>,
    pub crashes: usize,
}

impl Node {
    /// An agent of a device, with this disk.
    pub fn new(world: &World, device: usize, disk: Disk) -> Self {
        let (control, keyring) = disk.open(world, device).unwrap();
        Self {
            device,
            disk,
            control,
            keyring,
            up: false,
            calls: VecDeque::new(),
            keys_seen: KeysSeen::default(),
            epochs: Vec::new(),
            left: Vec::new(),
            notices: Vec::new(),
            resealed: Vec::new(),
            crash: None,
            crashes: 0,
        }
    }
}

pub struct Plant {
    pub world: World,
    pub nodes: Vec<Node>,
    /// Retained messages by topic.
    pub retained: BTreeMap<String, Vec<u8>>,
    /// Topics that the broker refuses to take.
    pub refused: BTreeSet<String>,
    /// The broker says nothing of what it is sent, as one that is slow.
    pub mute: bool,
}

impl Plant {
    pub fn new(world: World) -> Self {
        let nodes = (0..world.devices.len()).map(|device| Node::new(&world, device, Disk::default())).collect();
        Self { world, nodes, retained: BTreeMap::new(), refused: BTreeSet::new(), mute: false }
    }

    /// The device's process dies, and starts again from its disk.
    pub fn restart(&mut self, node: usize) {
        let n = &mut self.nodes[node];
        let height = n.disk.records.len() as u64;
        assert_eq!(n.disk.groups(&self.world, n.device).next_entry(), height, "the groups do not fit the replica");
        let (control, keyring) = n.disk.open(&self.world, n.device).unwrap();
        (n.control, n.keyring, n.up) = (control, keyring, false);
        n.calls.clear();
        n.epochs.clear();
    }

    pub fn connect(&mut self, node: usize) {
        self.nodes[node].up = true;
        self.nodes[node].control.handle(Input::Up);
        for (topic, payload) in self.retained.clone() {
            self.deliver(node, &topic, &payload);
        }
    }

    pub fn disconnect(&mut self, node: usize) {
        self.nodes[node].up = false;
        self.nodes[node].calls.clear();
        self.nodes[node].control.handle(Input::Down);
    }

    /// What the hub keeps for a device: here it is what the broker retains.
    fn kept(&self, node: usize, have: Vec<(String, Hash)>) -> KeptMessages {
        let retained = |topic: &str| self.retained.get(topic).map(|payload| Hash::of(payload));
        let messages = self.retained.iter().filter(|(topic, _)| self.is_for(node, topic));
        KeptMessages {
            messages: messages.map(|(topic, payload)| (topic.clone(), payload.clone().into())).collect(),
            next: String::new(),
            more: false,
            lacks: have
                .into_iter()
                .filter(|(topic, hash)| retained(topic) != Some(*hash))
                .map(|(topic, _)| topic)
                .collect(),
        }
    }

    fn is_for(&self, node: usize, topic: &str) -> bool {
        let id = &self.world.devices[self.nodes[node].device].id;
        topic.starts_with("sealcast/v1/keys/")
            || topic.starts_with(&format!("sealcast/v1/inbox/{id}/"))
            || topic == format!("sealcast/v1/checkpoint/{id}")
    }

    fn deliver(&mut self, node: usize, topic: &str, payload: &[u8]) {
        if self.nodes[node].up && self.is_for(node, topic) {
            let (topic, payload) = (topic.to_owned(), payload.to_vec().into());
            self.nodes[node].control.handle(Input::Message { topic, payload });
        }
    }

    /// Pushes a record to a device.
    pub fn push(&mut self, node: usize, record: &Record) {
        let (topic, payload) = ("sealcast/v1/ledger".to_owned(), record.encode().into());
        self.nodes[node].control.handle(Input::Message { topic, payload });
    }

    /// Does a device's next step, and gives its writes with what followed. `None` if there is none.
    pub fn step(&mut self, node: usize) -> Option<(Vec<Write>, Vec<String>)> {
        let n = &mut self.nodes[node];
        let step = n.control.poll(&mut n.keyring, self.world.now_ms).unwrap()?;
        let crash = n.crash.as_mut().and_then(|crash| match crash.step.checked_sub(1) {
            Some(left) => {
                crash.step = left;
                None
            }
            None => Some(crash.at),
        });
        let mut written = Vec::new();
        let outcome = step.commit(|writes| {
            written = writes.to_vec();
            if crash != Some(Moment::WriteLost) {
                n.disk.commit(writes);
            }
            if matches!(crash, Some(Moment::WriteLost | Moment::WritePersisted)) { Err("disk") } else { Ok(()) }
        });
        let mut effects = match outcome {
            Ok(effects) => effects,
            Err(Uncommitted { error, .. }) => {
                assert_eq!(error, "disk");
                Vec::new()
            }
        };
        if let Some(Moment::AfterEffects(most)) = crash {
            effects.truncate(most);
        }
        let names = effects.iter().map(|effect| format!("{effect:?}")).collect();
        effects.into_iter().for_each(|effect| self.perform(node, effect));
        if crash.is_some() {
            (self.nodes[node].crash, self.nodes[node].crashes) = (None, self.nodes[node].crashes + 1);
            self.restart(node);
            self.connect(node);
        }
        Some((written, names))
    }

    fn perform(&mut self, node: usize, effect: Effect) {
        let now_ms = self.world.now_ms;
        let n = &mut self.nodes[node];
        match effect {
            Effect::Publish { topic, payload } if n.up => self.publish(node, &topic, payload),
            Effect::Publish { .. } => {}
            Effect::Ask { sync, from, .. } => n.calls.push_back(Call::Ask { sync, from }),
            Effect::AskKept { question, have, .. } => n.calls.push_back(Call::Kept { question, have }),
            Effect::Submit(entry) => n.calls.push_back(Call::Submit(entry)),
            Effect::ListSeries => n.control.handle(Input::Series(Vec::new())),
            Effect::ListReadings => n.control.handle(Input::Readings(n.disk.readings.clone())),
            Effect::InsertEpoch(keys) => {
                n.keyring.insert_epoch(&keys, now_ms);
                n.epochs.push(keys);
            }
            Effect::HoldEpoch { group, on_ledger } => n.keyring.hold_epoch(group, on_ledger),
            Effect::Leave { group, reason } => {
                n.keyring.leave(group, &reason);
                n.left.push((group, reason));
            }
            Effect::SealRetained(group) => n.resealed.push(group),
            Effect::KeysSeen { device, key_package } => n.keys_seen.note(device, key_package),
            Effect::Notice { device, group, notice } => n.notices.push(format!("{device:?} {group:?} {notice}")),
        }
    }

    fn publish(&mut self, node: usize, topic: &str, payload: Vec<u8>) {
        if self.mute {
            return;
        }
        if self.refused.contains(topic) {
            let (topic, reason) = (topic.to_owned(), "not now".to_owned());
            return self.nodes[node].control.handle(Input::Refused { topic, reason });
        }
        self.nodes[node].control.handle(Input::Taken { topic: topic.to_owned() });
        match payload.is_empty() {
            true => drop(self.retained.remove(topic)),
            false => drop(self.retained.insert(topic.to_owned(), payload.clone())),
        }
        for node in 0..self.nodes.len() {
            self.deliver(node, topic, &payload);
        }
    }

    /// Answers a device's oldest call. `false` if there is none.
    pub fn answer(&mut self, node: usize) -> bool {
        let Some(call) = self.nodes[node].calls.pop_front() else { return false };
        let input = match call {
            Call::Ask { sync, from } => {
                let records = self.world.ledger.records().iter().skip(usize::try_from(from).unwrap()).cloned();
                Input::Records { sync, answer: Ok(records.collect()) }
            }
            Call::Kept { question, have } => Input::Kept { question, answer: Ok(self.kept(node, have)) },
            Call::Submit(entry) => Input::Submitted(match self.world.submit(&entry) {
                Ok(record) => {
                    (0..self.nodes.len()).filter(|other| *other != node).for_each(|other| self.push(other, &record));
                    Submitted::Taken(Box::new(record))
                }
                Err(refusal) => Submitted::Refused(refusal),
            }),
        };
        self.nodes[node].control.handle(input);
        true
    }

    /// Everything happens that happens without time.
    pub fn settle(&mut self) {
        for _ in 0..1_000 {
            let mut any = false;
            for node in 0..self.nodes.len() {
                while self.step(node).is_some() {
                    any = true;
                }
                any |= self.answer(node);
            }
            if !any {
                return;
            }
        }
        panic!("it never settles");
    }

    /// Time passes, from one thing that is due to the next.
    pub fn run(&mut self, seconds: u64) {
        let end_ms = self.world.now_ms + seconds * 1_000;
        self.settle();
        while self.world.now_ms < end_ms {
            let next_ms = self.nodes.iter().map(|node| node.control.poll_timeout()).min().unwrap();
            self.world.now_ms = next_ms.clamp(self.world.now_ms + 1, end_ms);
            self.settle();
        }
    }

    /// Asserts that exactly these devices share the group's present epoch.
    pub fn assert_members(&self, group: GroupNumber, members: &[usize]) {
        let wanted: BTreeSet<_> =
            members.iter().map(|node| self.world.devices[self.nodes[*node].device].id.clone()).collect();
        let on_ledger = self.world.ledger.replica().group(group).unwrap();
        let mut secret = None;
        for node in members {
            let Node { epochs, notices, keyring, .. } = &self.nodes[*node];
            let keys = epochs.iter().rfind(|keys| keys.group == group);
            let keys = keys.unwrap_or_else(|| panic!("{node} has no keys: {notices:?}"));
            assert_eq!((keys.generation, keys.epoch), (on_ledger.generation, on_ledger.epoch), "{node}: {notices:?}");
            assert_eq!(keyring.members(group).into_iter().collect::<BTreeSet<_>>(), wanted, "{node}");
            assert_eq!(*secret.get_or_insert_with(|| keys.secret.clone()), keys.secret, "{node}");
        }
    }
}
