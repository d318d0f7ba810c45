//! The client's own copy of the ledger's state, made from records alone.
//!
//! A record is applied only if it is the next one, its originator's current key signed it, its head continues the chain,
//! and the contract's rules permit it. So whoever delivers the records can withhold them, and nothing else.
//!
//! Beside what the contract needs for its next decision, the replica keeps what held after each earlier record, since
//! whoever made a commit is judged by the ledger that its author knew ([`Past`]). Nothing of that is evicted, or a device
//! could have it evicted by what it writes. It takes:
//!
//! - for each device, all its registrations, and one index for each time that it asked to be added again;
//! - for each group and device, when each grant began and ended;
//! - for each commit of a group's present generation, and each fault reported in it, one index and a few more bytes;
//! - each key package's hash with its device, which the contract keeps too, since it takes none twice.
//!
//! All of that is a small part of the records themselves, which quotas bound. Heads and [`Summary`]s have bounds of their
//! own.

mod describe;
mod event;
mod history;
mod install;
mod past;
mod rules;
mod snapshot;
mod state;
mod topics;

use std::collections::{BTreeMap, VecDeque};

use sealcast_identity::{DeviceId, PublicKey};

use crate::{
    Body, Epoch, Genesis, GroupName, GroupNumber, Hash, LedgerId, Number, ReadingCounts, ReadingTopic, Record, Refusal,
    SignedEntry, Stream, TopicFilter, TopicLimits,
};

pub use event::{Event, FaultOutcome, Former, Summary};
pub use past::{Grant, Past};
pub use snapshot::SnapshotError;
pub use state::{
    Device, DeviceState, Group, KeyPackageState, PublishedKeys, Registration, Report, Revocation, RevocationCause,
};

use history::History;
use topics::Topics;

/// How many of the last heads [`Replica::head_at`] knows.
const HEADS_KEPT: usize = 4096;

/// Why a record was not applied. The replica is as it was before.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplicaError {
    /// Not the next record: an earlier one came again, or some are missing.
    #[error("record {got} is not the next, which is {expected}")]
    Index {
        /// The replica's height.
        expected: u64,
        /// The record's index.
        got: u64,
    },
    /// The contract cannot have taken this entry: whoever delivered it is lying, or has another contract.
    #[error("record {index} breaks the ledger's rules")]
    Refused {
        /// The record's index.
        index: u64,
        /// Which rule.
        source: Refusal,
    },
    /// The head does not continue the chain: the record belongs to another history.
    #[error("record {index} does not continue this ledger: its head should be {expected}, not {got}")]
    Head {
        /// The record's index.
        index: u64,
        /// What the head must be.
        expected: Hash,
        /// What it is in the record.
        got: Hash,
    },
}

/// The state of a ledger after so many records.
#[derive(Debug, Clone)]
pub struct Replica {
    genesis: Genesis,
    /// The contract that the next entry is for.
    current: LedgerId,
    ca: Number,
    operator: Number,
    /// The current keys of the root, the CA and the operator.
    built_in: BTreeMap<Number, PublicKey>,
    head: Hash,
    /// The heads after the last records, the newest at the back.
    heads: VecDeque<Hash>,
    height: u64,
    last_time_s: u64,
    nonces: BTreeMap<Number, u64>,
    devices: BTreeMap<Number, Device>,
    /// Whose each certificate is, or was.
    certificates: BTreeMap<Hash, Number>,
    /// Group `n` at `n - 1`.
    groups: Vec<Group>,
    group_names: BTreeMap<GroupName, GroupNumber>,
    filters: BTreeMap<TopicFilter, GroupNumber>,
    topics: Topics,
    /// Records that have changed who may do what.
    rights_version: u64,
    keys: BTreeMap<Hash, PublishedKeys>,
    /// By who reports what.
    streams: BTreeMap<(Number, GroupNumber, ReadingTopic), Stream>,
    counts: BTreeMap<Number, ReadingCounts>,
    histories: BTreeMap<Subject, History>,
}

/// What a history is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Originator(Number),
    Group(GroupNumber),
}

/// Applies all records to a new replica.
pub fn verify(genesis: Genesis, records: impl IntoIterator<Item = Record>) -> Result<Replica, ReplicaError> {
    let mut replica = Replica::new(genesis);
    for record in records {
        replica.apply(&record)?;
    }
    Ok(replica)
}

impl Replica {
    /// A ledger without entries.
    #[must_use]
    pub fn new(genesis: Genesis) -> Self {
        let head = genesis.head();
        let (root, ca, operator) = (genesis.id.root(), genesis.id.ca(), genesis.id.operator());
        Self {
            ca,
            operator,
            built_in: BTreeMap::from([(root, genesis.root), (ca, genesis.ca), (operator, genesis.operator)]),
            current: genesis.id,
            genesis,
            head,
            heads: VecDeque::from([head]),
            height: 0,
            last_time_s: 0,
            nonces: BTreeMap::new(),
            devices: BTreeMap::new(),
            certificates: BTreeMap::new(),
            groups: Vec::new(),
            group_names: BTreeMap::new(),
            filters: BTreeMap::new(),
            topics: Topics::default(),
            rights_version: 0,
            keys: BTreeMap::new(),
            streams: BTreeMap::new(),
            counts: BTreeMap::new(),
            histories: BTreeMap::new(),
        }
    }

    /// Checks a record against everything that the replica knows and makes it part of it. After an error the replica
    /// is unchanged.
    pub fn apply(&mut self, record: &Record) -> Result<Event, ReplicaError> {
        self.apply_if(record, Signatures::Check)
    }

    /// Like [`apply`](Self::apply), but does not verify the signature, which is what takes the time. Only for records
    /// that [`apply`](Self::apply) took before and that come from this client's own storage.
    pub fn apply_without_signature_check(&mut self, record: &Record) -> Result<Event, ReplicaError> {
        self.apply_if(record, Signatures::Trust)
    }

    fn apply_if(&mut self, record: &Record, signatures: Signatures) -> Result<Event, ReplicaError> {
        let index = record.index;
        if index != self.height {
            return Err(ReplicaError::Index { expected: self.height, got: index });
        }
        let event = self
            .decide(&record.entry, record.time_s, signatures)
            .map_err(|source| ReplicaError::Refused { index, source })?;
        let head = Record::next_head(&self.head, index, record.time_s, &record.entry, &self.current);
        if head != record.head {
            return Err(ReplicaError::Head { index, expected: head, got: record.head });
        }
        self.install(record, &event);
        Ok(event)
    }

    /// Whether the contract would take this entry now, at the time of the last record or later.
    pub fn check(&self, entry: &SignedEntry) -> Result<(), Refusal> {
        self.decide(entry, self.last_time_s, Signatures::Check).map(|_| ())
    }

    /// What the contract would say to this body from this originator now, nonce and signature aside.
    pub fn preview(&self, originator: Number, body: &Body) -> Result<Event, Refusal> {
        self.signer(originator)?;
        self.permit(body, originator, self.last_time_s)
    }

    /// What the replica started from.
    #[must_use]
    pub fn genesis(&self) -> &Genesis {
        &self.genesis
    }

    /// The contract that the next entry is signed for. That is [`Genesis::id`] until the ledger moves.
    #[must_use]
    pub fn current_id(&self) -> &LedgerId {
        &self.current
    }

    /// The head after the last record.
    #[must_use]
    pub fn head(&self) -> Hash {
        self.head
    }

    /// How many records were applied, which is also the index of the next.
    #[must_use]
    pub fn height(&self) -> u64 {
        self.height
    }

    /// The time of the last record, seconds since 1970; 0 before the first.
    #[must_use]
    pub fn last_time_s(&self) -> u64 {
        self.last_time_s
    }

    /// The head when the ledger had `height` records. `None` if that is in the future, or more than 4,095 records ago:
    /// then it stands in the stored record `height - 1`.
    #[must_use]
    pub fn head_at(&self, height: u64) -> Option<Hash> {
        let back = usize::try_from(self.height.checked_sub(height)?).ok()?;
        let position = self.heads.len().checked_sub(back + 1)?;
        self.heads.get(position).copied()
    }

    /// The nonce of the originator's next entry.
    #[must_use]
    pub fn next_nonce(&self, originator: Number) -> u64 {
        self.nonces.get(&originator).copied().unwrap_or(0)
    }

    /// The key that must sign the originator's next entry. `None` for a device that is unknown or revoked.
    #[must_use]
    pub fn key_of(&self, originator: Number) -> Option<&PublicKey> {
        self.signer(originator).ok()
    }

    /// What people call an originator: `root`, `ca`, `operator` or a device id.
    #[must_use]
    pub fn name_of(&self, originator: Number) -> Option<&str> {
        match self.devices.get(&originator) {
            Some(device) => Some(device.id.as_str()),
            None if originator == self.ca => Some("ca"),
            None if originator == self.operator => Some("operator"),
            None if originator == self.genesis.id.root() => Some("root"),
            None => None,
        }
    }

    /// All devices that were ever registered, by number.
    pub fn devices(&self) -> impl Iterator<Item = &Device> {
        self.devices.values()
    }

    /// A device by its number.
    #[must_use]
    pub fn device(&self, number: Number) -> Option<&Device> {
        self.devices.get(&number)
    }

    /// A device by its id.
    #[must_use]
    pub fn device_by_id(&self, id: &DeviceId) -> Option<&Device> {
        self.device(self.genesis.id.number_of(id))
    }

    /// The device that has this certificate, or had it.
    #[must_use]
    pub fn device_by_certificate(&self, certificate: &Hash) -> Option<&Device> {
        self.certificates.get(certificate).and_then(|number| self.device(*number))
    }

    /// All groups, by number.
    pub fn groups(&self) -> impl Iterator<Item = &Group> {
        self.groups.iter()
    }

    /// A group by its number.
    #[must_use]
    pub fn group(&self, number: GroupNumber) -> Option<&Group> {
        self.groups.get(usize::from(number.get()) - 1)
    }

    /// A group by its name.
    #[must_use]
    pub fn group_by_name(&self, name: &GroupName) -> Option<&Group> {
        self.group_names.get(name).and_then(|number| self.group(*number))
    }

    /// Whether the device may be a member of the group now.
    #[must_use]
    pub fn is_granted(&self, group: GroupNumber, device: Number) -> bool {
        self.group(group).is_some_and(|group| group.grants.contains_key(&device))
    }

    /// The devices that may be members of the group now, by number. Empty if there is no such group.
    pub fn granted_devices(&self, group: GroupNumber) -> impl Iterator<Item = &Device> {
        self.group(group).into_iter().flat_map(|group| group.grants.keys()).filter_map(|number| self.device(*number))
    }

    /// Whether this originator may grant, revoke and reset in the group: its owner, who is the operator.
    #[must_use]
    pub fn may_administer(&self, group: GroupNumber, originator: Number) -> bool {
        self.group(group).is_some_and(|group| group.owner == originator)
    }

    /// What readings of a topic must keep to in a group. `None` if that was never said: then they are no entries.
    #[must_use]
    pub fn limits(&self, group: GroupNumber, topic: &ReadingTopic) -> Option<&TopicLimits> {
        self.group(group)?.limits.get(topic)
    }

    /// How many readings of a device the ledger has.
    #[must_use]
    pub fn reading_counts(&self, device: Number) -> ReadingCounts {
        self.counts.get(&device).copied().unwrap_or_default()
    }

    /// What a device has reported, by group and topic.
    pub fn streams(&self, device: Number) -> impl Iterator<Item = (GroupNumber, &ReadingTopic, &Stream)> {
        let all = self.streams.iter().filter(move |((reporter, ..), _)| *reporter == device);
        all.map(|((_, group, topic), stream)| (*group, topic, stream))
    }

    /// The greatest sequence number that a device has used for a topic under its present limits; `None` if it has used
    /// none yet.
    #[must_use]
    pub fn last_sequence(&self, device: Number, group: GroupNumber, topic: &ReadingTopic) -> Option<u64> {
        let version = self.limits(group, topic)?.version;
        let stream = self.streams.get(&(device, group, topic.clone()))?;
        (stream.version == version).then_some(stream.sequence)
    }

    /// The commits of the group's present generation from `epoch` on: the epoch that each was made in, and the index of
    /// its record.
    pub fn commits_from(&self, group: GroupNumber, epoch: Epoch) -> impl Iterator<Item = (Epoch, u64)> {
        let commits = self.group(group).map_or(&[][..], |group| &group.commits);
        (0..)
            .map(Epoch)
            .zip(commits.iter().map(|commit| commit.at))
            .skip(usize::try_from(epoch.0).unwrap_or(usize::MAX))
    }

    /// The commit of the group's present generation that is the record of this index, and the epoch that it was made in.
    #[must_use]
    pub fn commit_at(&self, group: GroupNumber, index: u64) -> Option<(Epoch, Number)> {
        let commits = &self.group(group)?.commits;
        let place = commits.binary_search_by_key(&index, |commit| commit.at).ok()?;
        Some((Epoch(place as u64), commits.get(place)?.by))
    }

    /// Who published a key package, and when.
    #[must_use]
    pub fn keys(&self, key_package: &Hash) -> Option<&PublishedKeys> {
        self.keys.get(key_package)
    }

    /// What a device published last; `None` if nothing since it was last revoked or got another key.
    #[must_use]
    pub fn latest_keys(&self, device: Number) -> Option<&PublishedKeys> {
        self.device(device)?.latest_keys.as_ref().and_then(|hash| self.keys.get(hash))
    }

    /// Whether a key package may be used to add its device.
    #[must_use]
    pub fn key_package_state(&self, key_package: &Hash) -> KeyPackageState {
        let Some(keys) = self.keys(key_package) else { return KeyPackageState::Unknown };
        match self.device(keys.device) {
            Some(device)
                if device.is_active()
                    && device.latest_keys == Some(*key_package)
                    && device.certificate == keys.certificate =>
            {
                KeyPackageState::Current
            }
            _ => KeyPackageState::Superseded,
        }
    }

    /// The group that a topic belongs to, `None` if it is in clear or reserved.
    ///
    /// Of the groups with a matching filter, the one whose filter is most specific. A narrower filter takes topics out of a
    /// group, so only the operator creates groups.
    ///
    /// A caller with many messages keeps the answers, until the next [`Event::GroupCreated`].
    #[must_use]
    pub fn group_for_topic(&self, topic: &str) -> Option<GroupNumber> {
        if crate::topic::is_reserved(topic) {
            return None;
        }
        self.topics.find(topic)
    }

    /// Changes with each record about which devices there are, by which certificates, what groups there are, and who is
    /// granted them. Whoever keeps answers to such questions asks again when it has changed.
    #[must_use]
    pub fn rights_version(&self) -> u64 {
        self.rights_version
    }

    /// What the ledger's newest records say of, or by, an originator, oldest first: up to 64 about devices, groups and
    /// keys, and up to 16 readings and anchors.
    #[must_use]
    pub fn about_originator(&self, originator: Number) -> Vec<&Summary> {
        self.histories.get(&Subject::Originator(originator)).map(History::in_order).unwrap_or_default()
    }

    /// What the ledger's newest records say of a group, bounded like [`about_originator`](Self::about_originator).
    #[must_use]
    pub fn about_group(&self, group: GroupNumber) -> Vec<&Summary> {
        self.histories.get(&Subject::Group(group)).map(History::in_order).unwrap_or_default()
    }
}

/// Whether signatures are verified.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Signatures {
    Check,
    Trust,
}

#[cfg(test)]
mod tests;
