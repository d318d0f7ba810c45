//! The control plane of an agent: its replica of the ledger, its groups, and what they say to the broker and the ledger.
//!
//! [`Control`] ties six parts to the [`Groups`] and to the keyring: `follower` reads the ledger, `submitter` writes to it,
//! `asker` asks the hub for what this device has missed, `outbox` keeps what this device has published, `rollback` notices
//! that the folder is an old copy, `anchorer` has what this device sends anchored on the ledger. It is told what happened as [`Input`]s, and gives [`Step`]s.

mod anchorer;
mod anew;
mod asker;
mod follower;
mod input;
mod keys_seen;
mod outbox;
mod output;
mod restore;
mod rollback;
mod strangers;
mod submitter;
mod taking;

use std::collections::{BTreeSet, VecDeque};

use sealcast_group::{Groups, OutOfOrder, Output};
use sealcast_identity::DeviceId;
use sealcast_ledger::{DatedWelcome, GroupNumber, LedgerId, Replica, WelcomeRoute};
use sealcast_seal::EpochId;
use sealcast_topic::ControlTopic;
use tracing::error;

use self::{
    anchorer::Anchorer, asker::Asker, follower::Follower, keys_seen::key_package, outbox::Outbox, rollback::Rollback,
    submitter::Submitter,
};
pub use self::{
    input::{Input, KeptMessages, Question, QueuedReading, Submitted},
    keys_seen::KeysSeen,
    output::{Effect, Write},
    restore::{RestoreError, Restored, restore},
    rollback::FolderPast,
};
use crate::{AnchorRules, Keyring, Own, SharedKeyring, Step, deadline::Deadline};

/// This device looks after its groups at least this often.
const TICK_MS: u64 = 1_000;

/// See the module.
///
/// The driver tells it what happened with [`Control::handle`], polls it until it gives nothing more, commits each step and
/// does its effects in their order. Times are milliseconds since the Unix epoch.
pub struct Control {
    own: Own,
    groups: Groups,
    follower: Follower,
    asker: Asker,
    submitter: Submitter,
    outbox: Outbox,
    rollback: Rollback,
    anchorer: Anchorer,
    started_ms: u64,
    /// At which height the replica was last written as a snapshot.
    snapshot_at: u64,
    /// The ledger was read to its end since the start.
    caught_up: bool,
    /// The folder turned out to be old in this step.
    began_anew: bool,
    /// Groups whose retained messages have to be sealed again, and when that is tried.
    reseal: BTreeSet<GroupNumber>,
    reseal_at: Deadline,
    tick: Deadline,
    inputs: VecDeque<Input>,
    /// Of the step that is being made.
    writes: Vec<Write>,
    effects: Vec<Effect>,
}

impl Control {
    /// With groups that fit the keyring's replica: see [`restore()`].
    pub fn new(own: Own, groups: Groups, past: FolderPast, now_ms: u64) -> Self {
        Self {
            own,
            groups,
            follower: Follower::new(),
            asker: Asker::default(),
            submitter: Submitter::new(),
            outbox: Outbox::default(),
            rollback: Rollback::new(past, now_ms),
            anchorer: Anchorer::new(None),
            started_ms: now_ms,
            snapshot_at: 0,
            caught_up: false,
            began_anew: false,
            reseal: BTreeSet::new(),
            reseal_at: Deadline::after(now_ms, 0),
            tick: Deadline::after(now_ms, TICK_MS),
            inputs: VecDeque::new(),
            writes: Vec::new(),
            effects: Vec::new(),
        }
    }

    /// There is a snapshot of the replica at this height: [`Restored::snapshot_at`].
    #[must_use]
    pub fn with_snapshot_at(mut self, height: u64) -> Self {
        self.snapshot_at = height;
        self
    }

    /// What this device sends is anchored by these rules.
    #[must_use]
    pub fn with_anchors(self, rules: Option<AnchorRules>) -> Self {
        Self { anchorer: Anchorer::new(rules), ..self }
    }

    /// Takes note of what happened. The next [`Self::poll`] acts on it.
    pub fn handle(&mut self, input: Input) {
        self.inputs.push_back(input);
    }

    /// What is to be done now.
    ///
    /// A step is one transaction: all records that came since the last step, and all that the groups and the queue of
    /// readings made of them. So what is on disk is always a replica with the groups that belong to it. The step must be
    /// committed before this is called again, because the replica and the groups in memory go on from it: whoever cannot
    /// commit it starts again from the disk.
    ///
    /// # Errors
    /// The replica was changed by somebody else.
    pub fn poll(
        &mut self,
        keyring: &mut impl SharedKeyring,
        now_ms: u64,
    ) -> Result<Option<Step<Write, Effect>>, OutOfOrder> {
        while let Some(input) = self.inputs.pop_front() {
            self.take(keyring, input, now_ms)?;
            // What comes next may let the clients seal again, and the old keys are wiped by an effect of this step.
            if std::mem::take(&mut self.began_anew) {
                break;
            }
        }
        self.look_after(keyring, now_ms);
        self.follow_groups(keyring, now_ms);
        if self.follower.is_up() {
            self.effects.extend(self.follower.poll(keyring, now_ms));
            let outbox = &self.outbox;
            self.effects.extend(self.asker.poll(|| outbox.digests(), now_ms));
            self.anchor(&keyring.replica(), now_ms);
            self.submit(&keyring.replica(), now_ms);
            self.seal_retained(now_ms);
            self.make_checkpoint(keyring, now_ms);
        }
        self.make_snapshot(keyring);
        let step = Step::new(std::mem::take(&mut self.writes), std::mem::take(&mut self.effects));
        Ok((!step.is_empty()).then_some(step))
    }

    /// When to poll again, if nothing happens before.
    pub fn poll_timeout(&self) -> u64 {
        let up = self.follower.is_up();
        let retained = (up && !self.reseal.is_empty()).then(|| self.reseal_at.at_ms());
        let submitter = self.submitter.poll_timeout().filter(|_| up);
        let outbox = self.outbox.poll_timeout().filter(|_| up);
        let anchorer = self.anchorer.poll_timeout().filter(|_| up && self.caught_up);
        let checkpoint = (up && self.caught_up).then(|| self.rollback.due_ms());
        [
            self.groups.poll_timeout(),
            self.follower.poll_timeout(),
            self.asker.poll_timeout(),
            submitter,
            outbox,
            retained,
            anchorer,
            checkpoint,
        ]
        .into_iter()
        .flatten()
        .fold(self.tick.at_ms(), u64::min)
    }

    /// Roots of series go to the ledger with what the groups want there.
    fn anchor(&mut self, replica: &Replica, now_ms: u64) {
        if !self.caught_up {
            return;
        }
        let Self { own, anchorer, submitter, .. } = self;
        let (writes, effect) = anchorer.poll(own, replica, now_ms, |body| submitter.put(body));
        self.writes.extend(writes);
        self.effects.extend(effect);
    }

    /// What time alone brings.
    fn look_after(&mut self, keyring: &mut impl SharedKeyring, now_ms: u64) {
        if self.follower.is_up() {
            let due = self.outbox.due(now_ms);
            self.effects.extend(due.into_iter().map(|(topic, payload)| Effect::Publish { topic, payload }));
        }
        if self.groups.poll_timeout().is_some_and(|at_ms| at_ms <= now_ms) {
            self.groups.handle_timeout(&keyring.replica(), now_ms);
        }
        if self.tick.is_due(now_ms) {
            self.tick = Deadline::after(now_ms, TICK_MS);
            if keyring.read(|keyring| keyring.has_news_to_tell(now_ms)) {
                keyring.change(|keyring| keyring.tell_news(now_ms));
            }
            for group in keyring.read(Keyring::worn_out) {
                self.groups.request_update(&keyring.replica(), group, now_ms);
            }
        }
    }

    /// In one transaction with the records that it stands for.
    fn make_snapshot(&mut self, keyring: &impl SharedKeyring) {
        let replica = keyring.replica();
        let height = replica.height();
        if Replica::is_snapshot_due(self.snapshot_at, height) {
            self.writes.push(Write::Snapshot { height, bytes: replica.snapshot() });
            self.snapshot_at = height;
        }
    }

    /// Takes in what the groups ask for, in their order.
    fn follow_groups(&mut self, keyring: &mut impl SharedKeyring, now_ms: u64) {
        while let Some(output) = self.groups.poll_output() {
            match output {
                Output::Persist(writes) => self.writes.extend(writes.into_iter().map(Write::State)),
                Output::Submit(body) => self.submitter.put(body),
                Output::PublishKeys { bytes } => {
                    let topic = keys_topic(&self.own.device);
                    self.outbox.put(topic.clone(), bytes.clone(), None);
                    self.see_keys(self.own.device.clone(), &bytes);
                    self.publish(topic, bytes);
                }
                Output::PublishInbox { device, group, bytes } => {
                    let ledger = ledger_of(keyring);
                    let (addressee, committer) = (ledger.number_of(&device), self.own.number);
                    let route = WelcomeRoute { group, addressee, committer };
                    let dated = DatedWelcome { height: keyring.replica().height(), welcome: &bytes };
                    match route.sign(dated, &self.own.key, &ledger) {
                        Ok(bytes) => {
                            let topic = inbox(&device, group, &self.own.device);
                            self.outbox.put(topic.clone(), bytes.clone(), Some(group));
                            self.publish(topic, bytes);
                        }
                        // It says so on the ledger, and another member adds it.
                        Err(error) => error!(%group, %device, %error, "the Welcome for a new member cannot be signed"),
                    }
                }
                Output::ClearInbox { group, committer } => {
                    self.publish(inbox(&self.own.device, group, &committer), Vec::new());
                }
                Output::Epoch(keys) => {
                    // A Welcome is for one epoch: once that is over, its addressee may need a newer one.
                    self.outbox.forget(keys.group);
                    self.tell_undelivered(keyring, now_ms);
                    self.reseal.insert(keys.group);
                    self.reseal_at = Deadline::after(now_ms, 0);
                    self.rollback.want(now_ms);
                    self.effects.push(Effect::InsertEpoch(keys));
                }
                Output::EpochHolds { group, generation, on_ledger } => {
                    let on_ledger = EpochId { generation: generation.0, epoch: on_ledger.0 };
                    self.effects.push(Effect::HoldEpoch { group, on_ledger });
                }
                Output::Left { group, reason } => {
                    // The broker takes no Welcome from whoever is not a member.
                    self.outbox.forget(group);
                    self.tell_undelivered(keyring, now_ms);
                    self.effects.push(Effect::Leave { group, reason });
                }
                Output::Notice { device, group, notice } => {
                    let group = group.map(|group| keyring.read(|keyring| keyring.name_of(group)));
                    self.effects.push(Effect::Notice { device, group, notice });
                }
            }
        }
    }

    fn publish_again(&mut self, now_ms: u64) {
        let keys = keys_topic(&self.own.device);
        for (topic, payload) in self.outbox.handle_up(now_ms) {
            if topic == keys {
                self.see_keys(self.own.device.clone(), &payload);
            }
            self.publish(topic, payload);
        }
    }

    /// While the broker refuses a Welcome, this device adds nobody to its group: each try would be a new epoch with a
    /// Welcome that does not arrive either.
    fn tell_undelivered(&mut self, keyring: &impl SharedKeyring, now_ms: u64) {
        self.groups.set_undelivered(&keyring.replica(), self.outbox.undelivered(), now_ms);
    }

    /// Those that cannot be sealed now keep their turn ([`Input::NotSealed`]).
    fn seal_retained(&mut self, now_ms: u64) {
        if self.reseal_at.is_due(now_ms) {
            self.effects.extend(std::mem::take(&mut self.reseal).into_iter().map(Effect::SealRetained));
        }
    }

    fn see_keys(&mut self, device: DeviceId, payload: &[u8]) {
        self.effects.push(Effect::KeysSeen { device, key_package: key_package(payload) });
    }

    fn publish(&mut self, topic: String, payload: Vec<u8>) {
        self.effects.push(Effect::Publish { topic, payload });
    }
}

fn ledger_of(keyring: &impl SharedKeyring) -> LedgerId {
    keyring.read(|keyring| keyring.replica().genesis().id)
}

fn keys_topic(device: &DeviceId) -> String {
    ControlTopic::Keys { device: device.as_str() }.to_string()
}

fn inbox(device: &DeviceId, group: GroupNumber, committer: &DeviceId) -> String {
    let (device, group, committer) = (device.as_str(), &group.to_string(), committer.as_str());
    ControlTopic::Inbox { device, group, committer }.to_string()
}

#[cfg(test)]
mod tests;
