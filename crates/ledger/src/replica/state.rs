//! What the replica knows, and how a permitted record changes it.

use std::collections::{BTreeMap, VecDeque};

use sealcast_identity::{DeviceId, PublicKey};

use super::{Event, HEADS_KEPT, Replica, Subject, Summary};
use crate::{
    Body, Epoch, Generation, GroupName, GroupNumber, Hash, Number, Policy, Reason, Record, Serial, Stream, TopicFilter,
    TopicLimits, TopicName,
};

/// How many summaries a history keeps of records about devices, groups and keys.
const CONTROL_KEPT: usize = 64;
/// How many summaries a history keeps of readings and anchors.
const DATA_KEPT: usize = 16;

/// A device, as the CA last registered it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Device {
    /// Its id.
    pub id: DeviceId,
    /// Its number, which follows from the id.
    pub number: Number,
    /// Its key: certificate, MLS leaf and ledger entries.
    pub key: PublicKey,
    /// SHA-256 of its certificate's DER.
    pub certificate: Hash,
    /// The certificate's serial number.
    pub serial: Serial,
    /// When the certificate ends, seconds since 1970.
    pub not_after_s: u64,
    /// Whether it may do anything.
    pub state: DeviceState,
    /// Index of the record that last registered it.
    pub registered_at: u64,
    pub(super) latest_keys: Option<Hash>,
}

/// Whether a device may do anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceState {
    /// Registered and not revoked since.
    Active,
    /// Revoked: its entries are refused and all its grants are void.
    Revoked {
        /// Why.
        reason: Reason,
        /// Index of the record that says so.
        at: u64,
    },
}

impl Device {
    /// Whether it is registered and not revoked since.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.state == DeviceState::Active
    }
}

/// A group.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Group {
    /// Its number.
    pub number: GroupNumber,
    /// Its name.
    pub name: GroupName,
    /// Its topics.
    pub filters: Vec<TopicFilter>,
    /// How its keys are handled.
    pub policy: Policy,
    /// Who made it and says who is in it: the operator.
    pub owner: Number,
    /// How often it was reset.
    pub generation: Generation,
    /// Where its next commit must be made.
    pub epoch: Epoch,
    /// The devices that may be members, each with the index of the record that grants it.
    pub grants: BTreeMap<Number, u64>,
    /// What readings must keep to, by topic. Others than of these topics are no entries.
    pub limits: BTreeMap<TopicName, TopicLimits>,
    /// Index of the record that made it.
    pub created_at: u64,
    /// The commits of this generation: the one made in epoch `n` has its record's index at `n`.
    pub(super) commits: Vec<u64>,
}

/// A key package on the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PublishedKeys {
    /// Whose.
    pub device: Number,
    /// SHA-256 of the MLS message.
    pub key_package: Hash,
    /// SHA-256 of the certificate that goes with it.
    pub certificate: Hash,
    /// Whether the device had lost its group state.
    pub rejoin: bool,
    /// Index of the record.
    pub at: u64,
}

/// Whether a key package may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyPackageState {
    /// Its device's last, for the certificate that the device is registered with.
    Current,
    /// The device published another since, got another certificate, or was revoked.
    Superseded,
    /// Not on the ledger.
    Unknown,
}

/// The newest summaries about one subject.
#[derive(Debug, Clone, Default)]
pub(super) struct History {
    control: VecDeque<Summary>,
    data: VecDeque<Summary>,
}

impl History {
    fn push(&mut self, summary: Summary) {
        let (queue, kept) = match summary.event {
            Event::Reading { .. } | Event::Anchored { .. } => (&mut self.data, DATA_KEPT),
            _ => (&mut self.control, CONTROL_KEPT),
        };
        if queue.len() == kept {
            queue.pop_front();
        }
        queue.push_back(summary);
    }

    pub(super) fn in_order(&self) -> Vec<&Summary> {
        let mut all: Vec<_> = self.control.iter().chain(&self.data).collect();
        all.sort_by_key(|summary| summary.index);
        all
    }
}

impl Replica {
    /// Makes a record that was decided on part of the state. Cannot fail.
    pub(super) fn install(&mut self, record: &Record, event: &Event) {
        let originator = record.entry.originator();
        self.height = record.index + 1;
        self.last_time_s = record.time_s;
        self.head = record.head;
        if self.heads.len() == HEADS_KEPT {
            self.heads.pop_front();
        }
        self.heads.push_back(record.head);
        self.nonces.insert(originator, record.entry.nonce() + 1);
        self.install_body(record.entry.body(), event, originator, record.index);

        let summary = Summary { index: record.index, time_s: record.time_s, originator, event: event.clone() };
        let about = event.device().filter(|device| *device != originator).map(Subject::Originator);
        let by = Some(Subject::Originator(originator));
        for subject in [by, about, event.group().map(Subject::Group)].into_iter().flatten() {
            self.histories.entry(subject).or_default().push(summary.clone());
        }
    }

    fn install_body(&mut self, body: &Body, event: &Event, originator: Number, index: u64) {
        match body {
            Body::DeviceRegistered(b) => {
                let number = self.genesis.id.number_of(&b.device);
                let known = self.devices.get(&number);
                let mut latest_keys = known.and_then(|device| device.latest_keys);
                if known.is_some_and(|device| device.key != b.public_key) {
                    // What it was granted was granted to whoever holds the key before.
                    latest_keys = None;
                    for group in &mut self.groups {
                        group.grants.remove(&number);
                    }
                }
                let device = Device {
                    id: b.device.clone(),
                    number,
                    key: b.public_key,
                    certificate: b.certificate,
                    serial: b.serial.clone(),
                    not_after_s: b.not_after_s,
                    state: DeviceState::Active,
                    registered_at: index,
                    latest_keys,
                };
                self.devices.insert(number, device);
            }
            Body::DeviceRevoked(b) => {
                if let Some(device) = self.devices.get_mut(&b.device) {
                    device.state = DeviceState::Revoked { reason: b.reason.clone(), at: index };
                    device.latest_keys = None;
                }
                for group in &mut self.groups {
                    group.grants.remove(&b.device);
                }
            }
            Body::KeysPublished(b) => {
                let keys = PublishedKeys {
                    device: originator,
                    key_package: b.key_package,
                    certificate: b.certificate,
                    rejoin: b.rejoin,
                    at: index,
                };
                self.keys.insert(b.key_package, keys);
                if let Some(device) = self.devices.get_mut(&originator) {
                    device.latest_keys = Some(b.key_package);
                }
            }
            Body::GroupCreated(b) => {
                if let Event::GroupCreated { group: number, .. } = event {
                    self.group_names.insert(b.name.clone(), *number);
                    self.filters.extend(b.filters.iter().map(|filter| (filter.clone(), *number)));
                    self.groups.push(Group {
                        number: *number,
                        name: b.name.clone(),
                        filters: b.filters.clone(),
                        policy: b.policy,
                        owner: originator,
                        generation: Generation(0),
                        epoch: Epoch(0),
                        grants: BTreeMap::new(),
                        limits: BTreeMap::new(),
                        created_at: index,
                        commits: Vec::new(),
                    });
                }
            }
            Body::Granted(b) => self.change_group(b.group, |group| {
                group.grants.insert(b.device, index);
            }),
            Body::Revoked(b) => self.change_group(b.group, |group| {
                group.grants.remove(&b.device);
            }),
            Body::Commit(b) => self.change_group(b.group, |group| {
                group.epoch = Epoch(b.epoch.0 + 1);
                group.commits.push(index);
            }),
            Body::Reading(b) => {
                let stream = self.stream(originator, b.group, &b.topic);
                let limits = self.group(b.group).and_then(|group| group.limits.get(&b.topic));
                let Some((verdict, stream)) = limits.map(|limits| limits.judge(&stream, originator, b)) else { return };
                self.streams.insert((originator, b.group, b.topic.clone()), stream);
                let counts = self.counts.entry(originator).or_default();
                let counter = if verdict.is_accepted() { &mut counts.accepted } else { &mut counts.refused };
                *counter = counter.saturating_add(1);
            }
            Body::Anchor(_) => {}
            Body::LimitsSet(b) => self.change_group(b.group, |group| {
                let version = group.limits.get(&b.topic).map_or(0, |limits| limits.version) + 1;
                let limits = TopicLimits { limits: b.limits.clone(), version, set_at: index };
                group.limits.insert(b.topic.clone(), limits);
            }),
            Body::GroupReset(b) => self.change_group(b.group, |group| {
                group.generation = Generation(group.generation.0 + 1);
                group.epoch = Epoch(0);
                group.commits.clear();
            }),
        }
    }

    pub(super) fn stream(&self, device: Number, group: GroupNumber, topic: &TopicName) -> Stream {
        self.streams.get(&(device, group, topic.clone())).copied().unwrap_or_default()
    }

    fn change_group(&mut self, number: GroupNumber, change: impl FnOnce(&mut Group)) {
        if let Some(group) = self.groups.get_mut(usize::from(number.get()) - 1) {
            change(group);
        }
    }
}
