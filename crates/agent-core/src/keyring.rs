//! The keys of one device: the replica of the ledger, which says who may do what, and the epochs that its groups agreed on.
//!
//! Whether a message may be sealed is decided in [`Keyring::seal`], whether one may be opened in [`Keyring::open`].

mod clear;
mod hearing;
mod news;
mod opening;
mod overdue;
mod overview;
mod sealing;
mod shared;
mod silence;
mod source;
mod standing;
mod sync;
mod watched;

use std::{collections::BTreeMap, sync::Arc};

use sealcast_group::{EpochKeys, LeftReason};
use sealcast_identity::{DeviceId, SigningKey};
use sealcast_ledger::{GroupNumber, Hash, Number, Replica};
use sealcast_seal::{Authenticity, Epoch, EpochId, EpochSecret, GroupKeys, LeafIndex, Ledger, Member, Opener, Sealer};
use sealcast_topic::{Subscription, Wire, overlap};
use tracing::{error, info, warn};

use self::news::News;
pub use self::{
    clear::{ClearFilter, ClearFilterError},
    news::{Doubt, Speaker},
    opening::{Arrival, Away, Received},
    overview::{GroupOverview, Overview, Traffic},
    shared::SharedKeyring,
    source::LedgerSource,
    sync::SyncId,
};
use crate::{AnchorRules, Cause, Freshness, Why};

/// Old epochs that are kept at least, so that what was sealed while a commit was on its way still opens.
const MIN_RETENTION: u16 = 1;

/// Which way a topic goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// Sealed under this group's keys.
    Group(GroupNumber),
    /// As it is, because the configuration says so.
    Clear,
    /// The agents' own topics, which clients neither write nor read.
    Control,
    /// The broker's own topics, which begin with `$`: nothing is sent there, and nothing from there is handed on, unless the
    /// configuration says that they are clear.
    Brokers,
    /// Not known before the ledger was read to its end: it may be a group's. As [`Denied::Behind`].
    Behind(Why),
    /// Nowhere.
    Refused(Why),
}

/// Why a message cannot be sealed or opened now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The key may be on its way: try again when the keyring has changed.
    #[error("{0}")]
    NotYet(Why),
    /// The ledger must be read further to tell. The same, but there is news to be asked for.
    #[error("{0}")]
    Behind(Why),
    /// It will not be.
    #[error("{0}")]
    Refused(Why),
}

impl Denied {
    /// Why.
    pub fn why(&self) -> &Why {
        match self {
            Self::NotYet(why) | Self::Behind(why) | Self::Refused(why) => why,
        }
    }
}

/// Whose keys they are.
#[derive(Debug, Clone)]
pub struct Own {
    /// The device.
    pub device: DeviceId,
    /// Its number on the ledger.
    pub number: Number,
    /// SHA-256 of its certificate.
    pub certificate: Hash,
    /// Its key, for signatures on messages.
    pub key: Arc<SigningKey>,
}

/// See the module.
pub struct Keyring {
    own: Own,
    /// How the agents' own topics are written at the broker.
    wire: Wire,
    /// Topics that pass unsealed.
    clear: Vec<ClearFilter>,
    freshness: Freshness,
    replica: Arc<Replica>,
    groups: BTreeMap<GroupNumber, Group>,
    /// The last sync that was begun, and the last that found nothing more. None at first: what the replica says may be
    /// long out of date.
    begun: SyncId,
    caught_up: Option<SyncId>,
    /// Nothing is sealed before a later sync than this one has found nothing more.
    missed: Option<SyncId>,
    /// The ledger cannot be followed, because the disk does not take its records.
    stalled: bool,
    /// When whoever shows the ledger last answered.
    hub_ms: Option<u64>,
    news: News,
    anchors: Option<AnchorRules>,
}

struct Group {
    keys: GroupKeys,
    /// The ledger's epoch that the current keys are of. Void commits end epochs of the ledger, and not the group's.
    on_ledger: EpochId,
    sealer: Option<Sealer>,
    roster: Vec<DeviceId>,
    /// Messages sealed under the current epoch by this process.
    sealed: u64,
    /// Sealed and opened since the start.
    traffic: Traffic,
    opened: Traffic,
}

impl Keyring {
    /// With what the ledger said when the agent last ran, and no keys yet.
    pub fn new(own: Own, clear: Vec<ClearFilter>, freshness: Freshness, replica: Replica) -> Self {
        Self {
            own,
            wire: Wire::default(),
            clear,
            freshness,
            replica: Arc::new(replica),
            groups: BTreeMap::new(),
            begun: SyncId::default(),
            caught_up: None,
            missed: None,
            stalled: false,
            hub_ms: None,
            news: News::default(),
            anchors: None,
        }
    }

    /// What is sent is anchored by these rules; without, it is not.
    #[must_use]
    pub fn with_anchors(self, anchors: Option<AnchorRules>) -> Self {
        Self { anchors, ..self }
    }

    /// How what is sent is anchored, if it is.
    pub fn anchors(&self) -> Option<&AnchorRules> {
        self.anchors.as_ref()
    }

    /// Where the agents' own topics are written in another way than at the hub's broker.
    #[must_use]
    pub fn with_wire(self, wire: Wire) -> Self {
        Self { wire, ..self }
    }

    /// Where the ledger's records come from, if not from the hub.
    #[must_use]
    pub fn with_source(mut self, source: LedgerSource) -> Self {
        self.news.source = source;
        self
    }

    /// Whether the ledger's records come from its network, and none from the hub.
    pub fn reads_network(&self) -> bool {
        matches!(self.news.source, LedgerSource::Network { .. })
    }

    /// Whether the broker is somebody else's, which enforces none of the hub's rules.
    pub fn is_at_foreign_broker(&self) -> bool {
        self.wire.prefix().is_some()
    }

    /// The device whose keys they are.
    pub fn device(&self) -> &DeviceId {
        &self.own.device
    }

    /// How old a message may be.
    pub fn freshness(&self) -> &Freshness {
        &self.freshness
    }

    /// What the ledger says. Whoever keeps it for long makes the next change copy it.
    pub fn replica(&self) -> &Arc<Replica> {
        &self.replica
    }

    /// To give it the next record.
    pub fn replica_mut(&mut self) -> &mut Replica {
        Arc::make_mut(&mut self.replica)
    }

    /// The ledger is about to be asked for what it has beyond the replica.
    pub fn begin_sync(&mut self) -> SyncId {
        self.begun.0 += 1;
        self.begun
    }

    /// The last sync that was begun. A message is not to be kept waiting for news for longer than until
    /// [`Self::is_caught_up_after`] it.
    pub fn last_sync(&self) -> SyncId {
        self.begun
    }

    /// That sync found nothing more: when it was begun the replica had all. False if it cannot have had, since not even
    /// this device's own registration is there.
    pub fn set_caught_up(&mut self, sync: SyncId) -> bool {
        // The ledger may have a newer certificate for the same key, which is still on its way.
        let registered = self.replica.device(self.own.number).is_some_and(|own| {
            own.key == *self.own.key.public() && own.registration_of(&self.own.certificate).is_some()
        });
        if registered {
            self.caught_up = Some(sync);
            self.missed = self.missed.filter(|missed| sync <= *missed);
        }
        registered
    }

    /// Whether the ledger was read to its end by a sync that was begun after this one.
    pub fn is_caught_up_after(&self, sync: SyncId) -> bool {
        self.caught_up.is_some_and(|last| last > sync)
    }

    /// The disk does not take what the ledger says, so the ledger cannot be followed: nothing is sealed until
    /// [`Self::resume`]. Whoever was revoked meanwhile must not get what is sealed next.
    pub fn stall(&mut self) {
        self.stalled = true;
    }

    /// The disk takes records again: nothing is sealed until a sync that begins now has read the ledger to its end. `false`
    /// if it was not stalled.
    pub fn resume(&mut self) -> bool {
        if std::mem::take(&mut self.stalled) {
            self.missed = Some(self.begun);
            return true;
        }
        false
    }

    /// Which way `topic` goes.
    pub fn route(&self, topic: &str) -> Route {
        if self.wire.is_control(topic) {
            return Route::Control;
        }
        // No group covers such a topic, whatever the ledger says.
        if topic.starts_with('$') {
            return if self.is_clear(topic) { Route::Clear } else { Route::Brokers };
        }
        if let Some(group) = self.replica.group_for_topic(topic) {
            return Route::Group(group);
        }
        if self.caught_up.is_none() {
            return Route::Behind(Why::new(
                Cause::TopicUnknown,
                format!(
                    "the ledger is out of reach, so nobody knows whether a group covers {topic}: is the hub running?"
                ),
            ));
        }
        if self.is_clear(topic) {
            return Route::Clear;
        }
        Route::Refused(Why::new(
            Cause::NoGroup,
            format!(
                "no group covers {topic}: create a group with a filter that matches it, or list it under `clear` in agent.toml"
            ),
        ))
    }

    /// Whether the ledger was read, so that it is known which groups there are.
    pub fn knows_groups(&self) -> bool {
        self.caught_up.is_some()
    }

    /// Why nothing can come to a client that has subscribed to `filter`, which may be shared: no group covers a topic that it
    /// matches, and `clear` has none. `None` also where it is about topics of the broker's or of the agents' own.
    pub fn uncovered(&self, filter: &str) -> Option<Why> {
        let filter = Subscription::parse(filter).ok()?.filter;
        if filter.starts_with('$') || self.wire.is_control(filter) {
            return None;
        }
        let mut groups = self.replica.groups().flat_map(|group| &group.filters);
        let is_covered =
            groups.any(|of| overlap(of.as_str(), filter)) || self.clear.iter().any(|clear| clear.overlaps(filter));
        let why = || {
            format!(
                "no group covers a topic that {filter} matches, so nothing comes to the client: create a group with a filter \
                 that matches, or list the filter under `clear`"
            )
        };
        (!is_covered).then(|| Why::new(Cause::NoGroup, why()))
    }

    fn is_clear(&self, topic: &str) -> bool {
        self.clear.iter().any(|filter| filter.matches(topic))
    }

    /// The sequence number of this device's last reading of `topic` on the ledger, as far as the replica knows.
    pub fn last_sequence(&self, group: GroupNumber, topic: &str) -> Option<u64> {
        let topic = topic.parse().ok()?;
        self.replica.last_sequence(self.own.number, group, &topic)
    }

    /// Whether `device` may say something of `topic`: it is granted the group that covers it.
    pub fn may_speak_of(&self, device: &DeviceId, topic: &str) -> bool {
        let group = self.replica.group_for_topic(topic);
        group.is_some_and(|group| self.replica.is_granted(group, self.replica.genesis().id.number_of(device)))
    }

    /// Takes in an epoch that the control plane agreed on.
    pub fn insert_epoch(&mut self, epoch: &EpochKeys, now_ms: u64) {
        let number = epoch.group;
        let Some(on_ledger) = self.replica.group(number) else { return };
        let (name, policy) = (on_ledger.name.to_string(), on_ledger.policy);
        let Some(own_leaf) = LeafIndex::new(epoch.leaf) else {
            return error!(
                group = name,
                leaf = epoch.leaf,
                "the group is too large for the message format: this device cannot use it"
            );
        };
        let seal_number = sealcast_seal::GroupNumber(number.get());
        let id = self.replica.genesis().id;
        let ledger = Ledger { chain_id: id.chain_id, contract: id.address };
        let own = self.groups.entry(number).or_insert_with(|| Group {
            keys: GroupKeys::new(
                ledger,
                seal_number,
                &name,
                self.own.device.clone(),
                policy.retention.max(MIN_RETENTION),
            ),
            on_ledger: EpochId { generation: 0, epoch: 0 },
            sealer: None,
            roster: Vec::new(),
            sealed: 0,
            traffic: Traffic::default(),
            opened: Traffic::default(),
        });
        let roster: Vec<DeviceId> = epoch.roster.values().map(|(device, _)| device.clone()).collect();
        let id = EpochId { generation: epoch.generation.0, epoch: epoch.epoch.0 };
        let members = epoch
            .roster
            .iter()
            .filter_map(|(leaf, (name, key))| Some((LeafIndex::new(*leaf)?, Member { name: name.clone(), key: *key })))
            .collect();
        let before = own.keys.current();
        let taken = own.keys.insert_epoch(Epoch {
            id,
            secret: EpochSecret::new(*epoch.secret),
            own_leaf,
            roster: members,
            authenticity: match policy.authenticity {
                sealcast_ledger::Authenticity::Signature => Authenticity::Signature,
                sealcast_ledger::Authenticity::Group => Authenticity::Group,
            },
            since_ms: now_ms,
            began_at: Some(epoch.began_at),
        });
        if let Err(error) = taken {
            return error!(group = name, "{error}");
        }
        // Who is gone still knows the epochs before this one.
        if let Some(before) = before {
            for gone in own.roster.iter().filter(|device| !roster.contains(device)) {
                own.keys.forget_member(gone, before);
            }
        }
        own.on_ledger = EpochId { generation: epoch.generation.0, epoch: epoch.on_ledger.0 };
        own.sealer = None;
        own.sealed = 0;
        own.roster = roster;
        info!(group = name, epoch = %id, members = own.roster.len(), "keys agreed");
    }

    /// The commit that ended the ledger's last epoch was void: the group's keys hold in this one, too.
    pub fn hold_epoch(&mut self, group: GroupNumber, on_ledger: EpochId) {
        if let Some(own) = self.groups.get_mut(&group) {
            own.on_ledger = on_ledger;
        }
    }

    /// This device left a group: its keys are wiped.
    pub fn leave(&mut self, group: GroupNumber, reason: &LeftReason) {
        let name = self.name(group);
        let why = match reason {
            LeftReason::Removed(refusal) => Some(self.why_removed(&name, refusal)),
            _ => None,
        };
        let Some(own) = self.groups.get_mut(&group) else { return };
        own.keys.forget();
        own.sealer = None;
        own.roster.clear();
        match why {
            Some(why) => {
                warn!(group = name, "this device has left the group and can no longer read it: {why}");
            }
            // A notice with the reason and what to do comes beside a stop.
            None => info!(group = name, "this device has left the group for now: {reason}"),
        }
    }

    /// A group's name and number, as far as the ledger is known.
    pub fn name_of(&self, group: GroupNumber) -> String {
        format!("{} (number {group})", self.name(group))
    }

    /// Groups whose policy wants a new epoch because of the number of messages.
    pub fn worn_out(&self) -> Vec<GroupNumber> {
        let limit = |group: &GroupNumber| Some(self.replica.group(*group)?.policy.epoch_max_messages?.get());
        self.groups
            .iter()
            .filter(|(group, own)| limit(group).is_some_and(|limit| own.sealed >= u64::from(limit)))
            .map(|(group, _)| *group)
            .collect()
    }

    /// Drops what a client remembers of epochs that are gone.
    pub fn forget_old_epochs(&self, opener: &mut Opener) {
        for own in self.groups.values() {
            opener.retain_epochs(&own.keys);
        }
    }

    /// The members of a group's current epoch.
    pub fn members(&self, group: GroupNumber) -> Vec<DeviceId> {
        self.groups.get(&group).map(|own| own.roster.clone()).unwrap_or_default()
    }

    fn has_keys(&self, group: GroupNumber) -> bool {
        self.groups.get(&group).is_some_and(|own| own.keys.current().is_some())
    }

    /// The groups whose keys this device holds, with the ledger's epochs that they are of.
    pub fn epochs(&self) -> Vec<(GroupNumber, EpochId)> {
        self.groups.iter().filter_map(|(group, own)| own.keys.current().map(|_| (*group, own.on_ledger))).collect()
    }
}

#[cfg(test)]
mod tests;
