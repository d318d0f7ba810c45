//! The data plane of an agent, shared by its clients' connections: which group a topic belongs to, sealing and opening.
//!
//! The control plane writes the ledger's replica and the epochs into it; whoever waits for a key watches [`DataPlane::changed`].

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::Result;
use sealcast_group::{EpochKeys, LeftReason, Refusal};
use sealcast_identity::{DeviceId, SigningKey};
use sealcast_ledger::{GroupNumber, Hash, Number, Replica, TopicFilter};
use sealcast_seal::{
    Authenticity, Content, Delivery, DeliveryKind, Epoch, EpochId, EpochSecret, Freshness, GroupKeys, LeafIndex,
    Member, Message, OpenError, Opened, Opener, Purpose, Qos, QosClass, SealError, Sealer,
};
use sealcast_topic::is_control;
use tokio::sync::{Notify, watch};
use tracing::{error, info, warn};

use super::store::{Retained, Store};
use crate::config;

/// After an epoch ended, messages that were sealed under it are taken for so long: members hear of the next one at
/// different times.
const EPOCH_GRACE_MS: u64 = 60_000;
/// Old epochs that are kept at least, so that what was sealed while a commit was on its way still opens.
const MIN_RETENTION: u16 = 1;

/// Which way a topic goes.
#[derive(Debug, PartialEq, Eq)]
pub enum Route {
    /// Sealed under this group's keys.
    Group(GroupNumber),
    /// As it is, because the configuration says so.
    Clear,
    /// The agents' own topics, which clients neither write nor read.
    Control,
    /// The broker's own topics, which begin with `$`: nothing is sent there, and nothing from there is handed on.
    Brokers,
    /// Not known before the ledger was read to its end: it may be a group's.
    NotYet(String),
    /// Nowhere.
    Refused(String),
}

/// Why a message cannot be sealed or opened now.
#[derive(Debug)]
pub enum Denied {
    /// The key may be on its way: try again when [`DataPlane::changed`] says so.
    NotYet(String),
    /// The ledger must be read further to tell. The same, but there is news to be had: [`DataPlane::ask_for_news`].
    Behind(String),
    /// It will not be.
    Refused(String),
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::NotYet(reason) | Self::Behind(reason) | Self::Refused(reason)) = self;
        f.write_str(reason)
    }
}

/// What sealed bytes turned out to be.
pub enum Received {
    /// A message for the client.
    Message(Message),
    /// A retained message that was sealed again: the client had it when it was live.
    Repeated,
}

/// Topics, each with a sealed message for it.
pub type Frames = Vec<(String, Vec<u8>)>;

/// How a message came from the broker.
#[derive(Clone, Copy)]
pub struct Arrival {
    /// Its quality of service, and whether the broker says that it is a second try.
    pub qos: Qos,
    /// As a retained message.
    pub retain: bool,
    /// While the client was away, if the broker had kept the session: what was sealed then waited there.
    pub away: Option<Away>,
}

/// When a client was away, by this agent's own notes.
#[derive(Clone, Copy)]
pub struct Away {
    /// When it was last here, Unix ms.
    pub since_ms: u64,
    /// When it came back, Unix ms.
    pub until_ms: u64,
}

/// See the module.
pub struct DataPlane {
    device: DeviceId,
    number: Number,
    certificate: Hash,
    key: Arc<SigningKey>,
    store: Arc<Store>,
    config: Arc<config::Agent>,
    state: Mutex<State>,
    changed: watch::Sender<u64>,
    news_wanted: Notify,
}

/// A reading of the ledger's end; they count up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct ReadingId(u64);

struct State {
    replica: Arc<Replica>,
    groups: BTreeMap<GroupNumber, Group>,
    /// The last reading of the ledger that was begun, and the last that found nothing more. None at first: what the
    /// replica says may be long out of date.
    begun: ReadingId,
    caught_up: Option<ReadingId>,
    /// Nothing is sealed before a later reading than this one has found nothing more.
    missed: Option<ReadingId>,
}

struct Group {
    keys: GroupKeys,
    sealer: Option<Sealer>,
    roster: Vec<DeviceId>,
    /// Messages sealed under the current epoch, all boots of this process.
    sealed: u64,
}

impl DataPlane {
    /// With what the ledger said when the agent last ran, and no keys yet.
    pub fn new(
        device: DeviceId,
        certificate: Hash,
        key: Arc<SigningKey>,
        store: Arc<Store>,
        config: Arc<config::Agent>,
        replica: Replica,
    ) -> Self {
        let number = replica.genesis().id.number_of(&device);
        let state = State {
            replica: Arc::new(replica),
            groups: BTreeMap::new(),
            begun: ReadingId::default(),
            caught_up: None,
            missed: None,
        };
        Self {
            device,
            number,
            certificate,
            key,
            store,
            config,
            state: Mutex::new(state),
            changed: watch::Sender::new(0),
            news_wanted: Notify::new(),
        }
    }

    /// Counts what may let a waiting message pass.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Reads the replica.
    pub fn with_replica<T>(&self, read: impl FnOnce(&Replica) -> T) -> T {
        read(&self.state().replica)
    }

    /// The replica as it is now, for whoever reads it for long. Let go of it before the next update, which copies it
    /// otherwise.
    pub fn replica(&self) -> Arc<Replica> {
        self.state().replica.clone()
    }

    /// Changes the replica, and wakes whoever waits.
    pub fn update_replica<T>(&self, update: impl FnOnce(&mut Replica) -> T) -> T {
        let value = update(Arc::make_mut(&mut self.state().replica));
        self.changed.send_modify(|count| *count += 1);
        value
    }

    /// The ledger is about to be asked for what it has beyond the replica.
    pub fn begin_reading(&self) -> ReadingId {
        let mut state = self.state();
        state.begun.0 += 1;
        state.begun
    }

    /// That reading found nothing more: when it was begun the replica had all. False if it cannot have had, since not
    /// even this device's own registration is there.
    pub fn set_caught_up(&self, reading: ReadingId) -> bool {
        let mut state = self.state();
        let registered = state.replica.device(self.number).is_some_and(|own| own.certificate == self.certificate);
        if registered {
            state.caught_up = Some(reading);
            state.missed = state.missed.filter(|missed| reading <= *missed);
        }
        drop(state);
        self.changed.send_modify(|count| *count += 1);
        registered
    }

    /// Wants the ledger read to its end once more. A message is not to be kept waiting for longer than until
    /// [`Self::is_caught_up_after`] what this gives.
    pub fn ask_for_news(&self) -> ReadingId {
        self.news_wanted.notify_one();
        self.state().begun
    }

    /// Whether the ledger was read to its end by a reading that was begun after this one.
    pub fn is_caught_up_after(&self, reading: ReadingId) -> bool {
        self.state().caught_up.is_some_and(|last| last > reading)
    }

    /// The control task has waited for the disk. Whoever was revoked meanwhile must not get what is sealed next, so the
    /// ledger has to be read to its end first. `false` if it has not waited.
    pub fn note_wait(&self) -> bool {
        if !self.store.is_behind() {
            return false;
        }
        let mut state = self.state();
        state.missed = Some(state.begun);
        self.store.caught_up();
        true
    }

    /// Resolves when somebody asked for news.
    pub async fn news_wanted(&self) {
        self.news_wanted.notified().await;
    }

    /// Which way `topic` goes.
    pub fn route(&self, topic: &str) -> Route {
        if is_control(topic) {
            return Route::Control;
        }
        if topic.starts_with('$') {
            return Route::Brokers;
        }
        let state = self.state();
        if let Some(group) = state.replica.group_for_topic(topic) {
            return Route::Group(group);
        }
        if state.caught_up.is_none() {
            return Route::NotYet(format!(
                "the ledger is out of reach, so nobody knows whether a group covers {topic}: is the hub running?"
            ));
        }
        drop(state);
        if self.config.clear.iter().any(|filter: &TopicFilter| filter.matches(topic)) {
            return Route::Clear;
        }
        Route::Refused(format!(
            "no group covers {topic}: create a group with a filter that matches it, or list it under `clear`"
        ))
    }

    /// The sequence number of this device's last reading of `topic` on the ledger, as far as the replica knows.
    pub fn last_sequence(&self, group: GroupNumber, topic: &str) -> Option<u64> {
        let topic = topic.parse().ok()?;
        self.state().replica.last_sequence(self.number, group, &topic)
    }

    /// Whose agent this is.
    pub fn device(&self) -> &DeviceId {
        &self.device
    }

    /// Seals a message of this device's clients.
    pub fn seal(&self, group: GroupNumber, topic: &str, content: &Content<'_>, now_ms: u64) -> Result<Vec<u8>, Denied> {
        let mut state = self.state();
        let waiting = state.waiting(group, &self.number, &self.device);
        if self.store.is_behind() {
            return Err(Denied::NotYet(
                "the agent's disk cannot be written, so the agent cannot follow the ledger: nothing is sealed until there is \
                 room"
                    .into(),
            ));
        }
        state.may_seal(group)?;
        let Some(own) = state.groups.get_mut(&group) else { return Err(waiting) };
        // A sealer ends with its epoch, and after 2^24 messages; the next one needs a boot that was stored.
        for _ in 0..2 {
            if own.sealer.is_none() {
                own.sealer = match self.new_sealer(&mut own.keys) {
                    Ok(sealer) => Some(sealer),
                    Err(error) if matches!(error.downcast_ref(), Some(SealError::NotMember { .. })) => {
                        return Err(waiting);
                    }
                    // The disk fails: it may be mended.
                    Err(error) if self.store.is_failing() => return Err(Denied::NotYet(format!("{error:#}"))),
                    Err(error) => return Err(Denied::Refused(format!("{error:#}"))),
                };
            }
            let Some(sealer) = &mut own.sealer else { break };
            match sealer.seal(now_ms, topic, content) {
                Ok(frame) => {
                    own.sealed += 1;
                    return Ok(frame);
                }
                Err(SealError::EpochEnded { .. } | SealError::NeedBoot { .. }) => own.sealer = None,
                Err(error) => return Err(Denied::Refused(error.to_string())),
            }
        }
        Err(waiting)
    }

    fn new_sealer(&self, keys: &mut GroupKeys) -> Result<Sealer> {
        let group = keys.group().0;
        let stored = match keys.current() {
            Some(id) => self.store.last_boot(group, id.generation, id.epoch)?,
            None => None,
        };
        let pending = keys.next_boot(stored)?;
        let id = pending.epoch();
        self.store.save_boot(group, id.generation, id.epoch, pending.number())?;
        Ok(keys.sealer(pending.stored(), &self.key)?)
    }

    /// Opens what came from the broker for one client, whose `opener` remembers what it has seen.
    pub fn open(
        &self,
        opener: &mut Opener,
        group: GroupNumber,
        topic: &str,
        frame: &[u8],
        arrival: Arrival,
        now_ms: u64,
    ) -> Result<Received, Denied> {
        let state = self.state();
        let waiting = state.waiting(group, &self.number, &self.device);
        let Some(own) = state.groups.get(&group) else { return Err(waiting) };
        let age = self.config.freshness.of(topic);
        let freshness = Freshness {
            live_max_age_ms: age.live_ms,
            retained_max_age_ms: age.retained_ms,
            offline_max_age_ms: age.offline_ms,
            clock_tolerance_ms: self.config.freshness.clock_tolerance_ms,
            epoch_grace_ms: Some(EPOCH_GRACE_MS),
        };
        let mut attempt = |kind| {
            let delivery = Delivery { kind, qos: arrival.qos, freshness: &freshness };
            opener.open(&own.keys, topic, frame, &delivery, now_ms)
        };
        let outcome = if arrival.retain { attempt(DeliveryKind::Retained) } else { attempt(DeliveryKind::Live) };
        let outcome = match (outcome, arrival.away) {
            // Too old for a live message. It waited in the session's queue if it was sealed while the client was away;
            // what was sealed before that it should have had then.
            (Err(OpenError::TooOld { age_ms, .. }), Some(away)) if !arrival.retain => {
                let sealed_ms = now_ms.saturating_sub(age_ms);
                let on_its_way_ms =
                    age.live_ms.unwrap_or(u64::MAX).saturating_add(self.config.freshness.clock_tolerance_ms);
                let waited = away.since_ms.saturating_sub(on_its_way_ms)..=away.until_ms;
                attempt(if waited.contains(&sealed_ms) { DeliveryKind::Offline } else { DeliveryKind::Live })
            }
            // What the broker kept may be handed on although it is too old, where it is marked so.
            (Err(OpenError::TooOld { .. }), _) if arrival.retain && age.stale == config::Stale::Flag => {
                let freshness = Freshness { retained_max_age_ms: None, ..freshness };
                let delivery = Delivery { kind: DeliveryKind::Retained, qos: arrival.qos, freshness: &freshness };
                opener.open(&own.keys, topic, frame, &delivery, now_ms)
            }
            (outcome, _) => outcome,
        };
        match outcome {
            Ok(Opened::Message(message)) => Ok(Received::Message(message)),
            Ok(Opened::SealedAgain { .. }) => Ok(Received::Repeated),
            Err(OpenError::NotMember { .. }) => Err(waiting),
            Err(error) if error.is_worth_waiting() => Err(match waiting {
                Denied::Refused(reason) => Denied::Refused(reason),
                Denied::NotYet(_) | Denied::Behind(_) => Denied::Behind(error.to_string()),
            }),
            Err(error) => Err(Denied::Refused(error.to_string())),
        }
    }

    /// Whether `device` may say something of `topic`: it is granted the group that covers it.
    pub fn may_speak_of(&self, device: &DeviceId, topic: &str) -> bool {
        let state = self.state();
        let replica = &state.replica;
        let group = replica.group_for_topic(topic);
        group.is_some_and(|group| replica.is_granted(group, replica.genesis().id.number_of(device)))
    }

    /// How far the members' clocks may be apart, ms.
    pub fn clock_tolerance_ms(&self) -> u64 {
        self.config.freshness.clock_tolerance_ms
    }

    /// Whether a retained message that was opened is older than its topic's may be.
    pub fn is_stale(&self, topic: &str, retained: bool, age_ms: u64) -> bool {
        let freshness = &self.config.freshness;
        let limit = freshness.of(topic).retained_ms.filter(|_| retained);
        limit.is_some_and(|limit_ms| age_ms > limit_ms.saturating_add(freshness.clock_tolerance_ms))
    }

    /// Takes in an epoch that the control plane agreed on.
    pub fn insert_epoch(&self, epoch: EpochKeys, now_ms: u64) {
        let mut state = self.state();
        let number = epoch.group;
        let Some(on_ledger) = state.replica.group(number) else { return };
        let name = on_ledger.name.to_string();
        let policy = on_ledger.policy;
        let authenticity = match policy.authenticity {
            sealcast_ledger::Authenticity::Signature => Authenticity::Signature,
            sealcast_ledger::Authenticity::Group => Authenticity::Group,
        };
        let own = state.groups.entry(number).or_insert_with(|| Group {
            keys: GroupKeys::new(
                sealcast_seal::GroupNumber(number.get()),
                &name,
                self.device.clone(),
                policy.retention.max(MIN_RETENTION),
            ),
            sealer: None,
            roster: Vec::new(),
            sealed: 0,
        });
        let roster: Vec<DeviceId> = epoch.roster.values().map(|(device, _)| device.clone()).collect();
        let id = EpochId { generation: epoch.generation.0, epoch: epoch.epoch.0 };
        let members = epoch
            .roster
            .iter()
            .filter_map(|(leaf, (name, key))| Some((LeafIndex::new(*leaf)?, Member { name: name.clone(), key: *key })))
            .collect();
        let Some(own_leaf) = LeafIndex::new(epoch.leaf) else {
            return error!(
                group = name,
                leaf = epoch.leaf,
                "the group is too large for the message format: this device cannot use it"
            );
        };
        let before = own.keys.current();
        let taken = own.keys.insert_epoch(Epoch {
            id,
            secret: EpochSecret::new(*epoch.secret),
            own_leaf,
            roster: members,
            authenticity,
            since_ms: now_ms,
        });
        match taken {
            Ok(()) => {
                // Who is gone still knows the epochs before this one.
                if let Some(before) = before {
                    for gone in own.roster.iter().filter(|device| !roster.contains(device)) {
                        own.keys.forget_member(gone, before);
                    }
                }
                own.sealer = None;
                own.sealed = 0;
                own.roster = roster;
                info!(group = name, epoch = %id, members = own.roster.len(), "keys agreed");
            }
            Err(error) => error!(group = name, "{error}"),
        }
        drop(state);
        self.changed.send_modify(|count| *count += 1);
    }

    /// This device left a group: its keys are wiped.
    pub fn leave(&self, group: GroupNumber, reason: &LeftReason) {
        let mut state = self.state();
        let name = state.name(group);
        if let Some(own) = state.groups.get_mut(&group) {
            own.keys.forget();
            own.sealer = None;
            own.roster.clear();
            match reason {
                LeftReason::Removed(refusal) => {
                    let why = state.why_removed(&self.device, &name, refusal);
                    warn!(group = name, "this device has left the group and can no longer read it: {why}");
                }
                // A notice with the reason and what to do comes beside a stop.
                reason => info!(group = name, "this device has left the group for now: {reason}"),
            }
        }
        drop(state);
        self.changed.send_modify(|count| *count += 1);
    }

    /// A group's name and number, as far as the ledger is known.
    pub fn name_of(&self, group: GroupNumber) -> String {
        format!("{} (number {group})", self.state().name(group))
    }

    /// Groups whose policy wants a new epoch because of the number of messages.
    pub fn worn_out(&self) -> Vec<GroupNumber> {
        let state = self.state();
        let limit = |group: &GroupNumber| Some(state.replica.group(*group)?.policy.epoch_max_messages?.get());
        state
            .groups
            .iter()
            .filter(|(group, own)| limit(group).is_some_and(|limit| own.sealed >= u64::from(limit)))
            .map(|(group, _)| *group)
            .collect()
    }

    /// Seals the retained messages of `group` again, under its current epoch. `None` if nothing can be sealed now.
    pub fn seal_retained_again(&self, group: GroupNumber, now_ms: u64) -> Result<Option<Frames>> {
        let mut frames = Vec::new();
        for Retained { topic, time_ms, props, payload } in self.store.retained()? {
            if self.route(&topic) != Route::Group(group) {
                continue;
            }
            let purpose = Purpose::Reseal { sealed_ms: time_ms };
            let content =
                Content { purpose, class: QosClass::Acknowledged, retain: true, props: &props, payload: &payload };
            match self.seal(group, &topic, &content, now_ms) {
                Ok(frame) => frames.push((topic, frame)),
                Err(Denied::NotYet(_) | Denied::Behind(_)) => return Ok(None),
                // This device is no longer a member.
                Err(Denied::Refused(_)) => return Ok(Some(Vec::new())),
            }
        }
        Ok(Some(frames))
    }

    /// Drops what a client remembers of epochs that are gone.
    pub fn forget_old_epochs(&self, opener: &mut Opener) {
        for own in self.state().groups.values() {
            opener.retain_epochs(&own.keys);
        }
    }

    /// The members of a group's current epoch.
    pub fn members(&self, group: GroupNumber) -> Vec<DeviceId> {
        self.state().groups.get(&group).map(|own| own.roster.clone()).unwrap_or_default()
    }

    /// The groups whose keys this device holds, with their epochs.
    pub fn epochs(&self) -> Vec<(GroupNumber, EpochId)> {
        let state = self.state();
        state.groups.iter().filter_map(|(group, own)| Some((*group, own.keys.current()?))).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// What ended this device's grant, by the ledger, and what to do.
    fn why_removed(&self, device: &DeviceId, group: &str, refusal: &Refusal) -> String {
        let Refusal::Revoked { group: number, entry, .. } = refusal else { return refusal.to_string() };
        let about_group = self.replica.about_group(*number);
        let about_device = self.replica.device_by_id(device).map(|device| self.replica.about_originator(device.number));
        let ended = about_group.into_iter().chain(about_device.unwrap_or_default());
        let what = match ended.into_iter().find(|summary| summary.index == *entry) {
            Some(summary) => self.replica.describe(summary),
            None => "its grant ended".to_owned(),
        };
        format!("{what} (ledger entry {entry}); to let it in again: sealcast group grant {group} {device}")
    }

    fn name(&self, group: GroupNumber) -> String {
        self.replica.group(group).map_or_else(|| format!("group {group}"), |group| group.name.to_string())
    }

    /// Whether something may be sealed for `group` now: only under the epoch that the ledger is at, and only while all who
    /// hold its key are granted. After a restart or a commit the keys come a moment later than the ledger's word.
    fn may_seal(&self, group: GroupNumber) -> Result<(), Denied> {
        let (Some(own), Some(on_ledger)) = (self.groups.get(&group), self.replica.group(group)) else { return Ok(()) };
        let Some(held) = own.keys.current() else { return Ok(()) };
        let name = &on_ledger.name;
        if self.missed.is_some() {
            return Err(Denied::NotYet(format!(
                "the agent's disk could not be written for a while: nothing is sealed for {name} until the ledger was read \
                 to its end"
            )));
        }
        if (held.generation, held.epoch) != (on_ledger.generation.0, on_ledger.epoch.0) {
            return Err(Denied::NotYet(format!(
                "{name} is at epoch {}, but this device is still at epoch {held} and waits for the new keys",
                on_ledger.epoch
            )));
        }
        let id = &self.replica.genesis().id;
        match own.roster.iter().find(|member| !self.replica.is_granted(group, id.number_of(member))) {
            Some(gone) => Err(Denied::NotYet(format!(
                "{gone} is being removed from {name}: nothing is sealed until it is removed"
            ))),
            None => Ok(()),
        }
    }

    /// Why there is no key of `group` now.
    fn waiting(&self, group: GroupNumber, number: &Number, device: &DeviceId) -> Denied {
        let name = self.name(group);
        if self.replica.is_granted(group, *number) {
            Denied::NotYet(format!("no key yet: {device} is granted {name} and waits until a member adds it"))
        } else if self.caught_up.is_some() {
            Denied::Refused(format!("no key: {device} is not a member of {name}"))
        } else {
            Denied::Behind(format!(
                "no key: as far as {device} knows, it is not a member of {name}; the ledger is out of reach, is the \
                 hub running?"
            ))
        }
    }
}
