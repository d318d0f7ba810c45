//! What there is to do: found a group, bring its roster in line with the grants, renew its keys, publish our own.

use std::collections::BTreeSet;

use sealcast_ledger::{Device, Generation, Group, GroupNumber, Hash, Number, Replica};

use crate::{
    GroupRefusal, Groups, MAX_ADDS, MAX_COMMIT_BYTES, Notice,
    slot::{Candidate, Letter, Slot, WELCOME_WAIT_MS},
    standing::{fault, holder, may_be_in, rejoined},
    stored::short_hex,
    wire,
};

/// Each member waits that much longer than the one with the next lower leaf, so that one acts and not all.
const STEP_MS: u64 = 2_000;
/// After a commit, what only adds waits so long for each member, so that grants which come one after the other share the
/// next commit: each costs every member its work. The first grant after a pause waits for nothing.
const GATHER_MS: u64 = 20;
/// And at most so long.
const MAX_GATHER_MS: u64 = 1_500;
/// Members from this place on wait no longer than the one at it.
const MAX_RANK: u64 = 30;
/// After that time without an answer an entry is submitted again.
const RESUBMIT_MS: u64 = 30_000;
/// How long the members may take to answer a request to be added again.
const PATIENT_WAIT_MS: u64 = 600_000;
/// Between two requests to be added again: at first, and at most.
const REJOIN_WAIT_MS: u64 = 60_000;
const MAX_REJOIN_WAIT_MS: u64 = 3_600_000;
/// Between a refusal by the ledger and the next try: at first, and at most.
const RETRY_MS: u64 = 3_000;
const MAX_RETRY_MS: u64 = 60_000;
/// A device whose certificate ends within this time is not added any more.
const EXPIRY_MARGIN_S: u64 = 300;
/// Key packages beyond this size wait for the next commit: with the update path it has to fit into a ledger entry.
const MAX_ADD_BYTES: usize = 60 * 1024;
/// So long may a key package precede its ledger entry before somebody is told.
const PATIENCE_MS: u64 = 30_000;
/// That many refused key packages are remembered.
const MAX_BAD: usize = 4096;

/// What a commit of this device should do.
struct Work {
    adds: Vec<(Number, Vec<u8>)>,
    removes: Vec<u32>,
    /// Our leaf gets our present certificate.
    renew: bool,
    /// Place among those who could do it.
    rank: u64,
}

impl Work {
    fn only_adds(&self) -> bool {
        !self.adds.is_empty() && self.removes.is_empty() && !self.renew
    }
}

impl Groups {
    /// Looks at everything again.
    pub(crate) fn evaluate(&mut self, replica: &Replica, now_ms: u64) {
        debug_assert_eq!(replica.height(), self.next_entry(), "groups and replica go in step");
        self.timeout_ms = None;
        if !self.live {
            return;
        }
        let certificate = self.certificate;
        self.inboxes.keep(|group| may_be_in(replica, group, &certificate));
        if let Err(refusal) = self.evaluate_own_keys(replica, now_ms) {
            self.notice(Some(self.device.clone()), None, Notice::Refused(refusal));
        }
        for known in replica.groups() {
            let number = known.number;
            let mut slot = self.slots.remove(&number).unwrap_or_else(|| Slot::new(known.generation.0));
            if let Err(refusal) = self.evaluate_group(replica, known, &mut slot, now_ms) {
                self.notice(Some(self.device.clone()), Some(number), Notice::Refused(refusal));
                self.back_off(&mut slot, now_ms);
            }
            self.slots.insert(number, slot);
        }
    }

    fn back_off(&mut self, slot: &mut Slot, now_ms: u64) {
        let wait = RETRY_MS.saturating_mul(1 << slot.refusals.min(8)).min(MAX_RETRY_MS);
        slot.refusals = slot.refusals.saturating_add(1);
        slot.retry_ms = now_ms + wait;
        self.wake_at(slot.retry_ms);
    }

    // ------------------------------------------------------------------------------------------ our own keys

    fn evaluate_own_keys(&mut self, replica: &Replica, now_ms: u64) -> Result<(), GroupRefusal> {
        let certificate = self.certificate;
        let Some(device) = replica.device(self.number) else { return Ok(()) };
        if !device.is_active() || device.certificate != Hash::from(certificate) {
            return Ok(());
        }
        if self.own.current().is_none_or(|key| key.certificate != certificate) {
            // A device that has published before and has no keys has lost its state.
            let rejoin = device.has_published() && self.own.current().is_none();
            self.own.make(&self.engine, certificate, rejoin, now_ms / 1000, &mut self.changes)?;
            self.publish_keys();
        } else if self.own.rejoin_wanted {
            if now_ms < self.own.rejoin_after_ms {
                self.wake_at(self.own.rejoin_after_ms);
            } else {
                let wait = REJOIN_WAIT_MS.saturating_mul(1 << self.own.rejoins.min(6)).min(MAX_REJOIN_WAIT_MS);
                self.own.rejoins = self.own.rejoins.saturating_add(1);
                (self.own.rejoin_wanted, self.own.rejoin_after_ms) = (false, now_ms + wait);
                self.own.make(&self.engine, certificate, true, now_ms / 1000, &mut self.changes)?;
                self.publish_keys();
                self.notice(Some(self.device.clone()), None, Notice::Rejoining);
            }
        }
        let hash = self.own.current().map(|key| Hash::from(key.hash()));
        if !replica.publications(self.number).any(|published| Some(published.key_package) == hash) {
            let due = self.own.submitted_ms.map_or(now_ms, |at| at + RESUBMIT_MS);
            if now_ms >= due {
                self.submit_keys(now_ms);
            }
            self.wake_at(due.max(now_ms + RESUBMIT_MS));
        }
        Ok(())
    }

    /// Replaces our key package by a fresh one.
    pub(crate) fn rotate_keys(&mut self, now_ms: u64) -> Result<(), GroupRefusal> {
        self.own.make(&self.engine, self.certificate, false, now_ms / 1000, &mut self.changes)?;
        self.own.rejoins = 0;
        self.publish_keys();
        Ok(())
    }

    // ------------------------------------------------------------------------------------------------ groups

    fn evaluate_group(
        &mut self,
        replica: &Replica,
        known: &Group,
        slot: &mut Slot,
        now_ms: u64,
    ) -> Result<(), GroupRefusal> {
        let number = known.number;
        if slot.stopped.is_some() || fault(replica, number, &self.certificate).is_some() {
            slot.work_since_ms = None;
            // Others may still have its leaf when it is granted again: then it waits anew.
            slot.welcome_due_ms = None;
            return Ok(());
        }
        let epoch = match slot.epoch() {
            Some(epoch) if epoch == known.epoch.0 => epoch,
            None if known.epoch.0 == 0 => 0,
            _ => return self.await_welcome(replica, slot, now_ms),
        };
        if slot.is_full() && now_ms >= slot.retry_ms {
            slot.revive();
        }
        // One commit at a time: as long as the ledger has said nothing, it is asked for the same one.
        if let Some(candidate) = slot.candidates.values_mut().find(|candidate| !candidate.refused) {
            let mut due = candidate.submitted_ms + RESUBMIT_MS;
            if now_ms >= due {
                candidate.submitted_ms = now_ms;
                due = now_ms + RESUBMIT_MS;
                let commit = candidate.commit.clone();
                self.submit_commit(number, slot.generation, epoch, commit);
            }
            self.wake_at(due);
            return Ok(());
        }
        if slot.is_full() {
            self.wake_at(slot.retry_ms);
            return Ok(());
        }
        let Some(work) = self.work(replica, known, slot, now_ms) else {
            slot.work_since_ms = None;
            return Ok(());
        };
        let since = *slot.work_since_ms.get_or_insert(now_ms);
        let ready = if work.only_adds() {
            let gather = GATHER_MS.saturating_mul(slot.leaves.len() as u64).min(MAX_GATHER_MS);
            since.max(slot.followed_ms.saturating_add(gather))
        } else {
            since
        };
        let due = (ready + work.rank.min(MAX_RANK) * STEP_MS).max(slot.retry_ms);
        if now_ms < due {
            self.wake_at(due);
            return Ok(());
        }
        if slot.group.is_none() {
            let id = self.ledger.mls_group_id(number, Generation(slot.generation));
            slot.set_group(self.engine.found(id, now_ms / 1000)?)?;
            slot.save_group(number, &self.engine, &mut self.changes)?;
        }
        self.commit(replica, number, slot, epoch, work, now_ms)
    }

    fn await_welcome(&mut self, replica: &Replica, slot: &mut Slot, now_ms: u64) -> Result<(), GroupRefusal> {
        if !slot.waiting {
            return Ok(());
        }
        let due = *slot.welcome_due_ms.get_or_insert(now_ms + WELCOME_WAIT_MS);
        if now_ms < due {
            self.wake_at(due);
            return Ok(());
        }
        slot.welcome_due_ms = Some(now_ms + PATIENT_WAIT_MS);
        self.wake_at(now_ms + PATIENT_WAIT_MS);
        self.own.rejoin_wanted = true;
        self.evaluate_own_keys(replica, now_ms)
    }

    /// What this device should commit, if anything.
    fn work(&mut self, replica: &Replica, known: &Group, slot: &Slot, now_ms: u64) -> Option<Work> {
        let (number, now_s) = (known.number, now_ms / 1000);
        let delivers = !self.undelivered.contains(&number);
        let mut removes = BTreeSet::new();
        let mut members = BTreeSet::new();
        let (mut rank, mut renew) = (0, false);
        let own_leaf = slot.group.as_ref().map(|group| group.current_member_index());
        for leaf in slot.leaves.values() {
            let device = holder(replica, &leaf.certificate);
            let expired = device.is_none_or(|device| device.not_after_s <= now_s);
            let faulty = expired || fault(replica, number, &leaf.certificate).is_some();
            // Without a Welcome that arrives it is no better off.
            let lost = device.filter(|_| delivers && Some(leaf.index) != own_leaf).is_some_and(|device| {
                rejoined(replica, device).is_some_and(|entry| {
                    entry > slot.added_at(leaf.index) && self.usable(replica, device, entry).is_some()
                })
            });
            if Some(leaf.index) == own_leaf {
                if expired || fault(replica, number, &self.certificate).is_some() {
                    // Others have to remove us; nothing that we commit would be accepted.
                    return None;
                }
                renew = leaf.certificate != self.certificate;
                members.extend(device.map(|device| device.number));
            } else if faulty || lost {
                removes.insert(leaf.index);
            } else {
                members.extend(device.map(|device| device.number));
                rank += u64::from(own_leaf.is_some_and(|own| leaf.index < own));
            }
        }
        let founding = slot.group.is_none();
        let mut adds = Vec::new();
        let mut bytes = 0;
        let mut complaints = Vec::new();
        for device in replica.granted_devices(number) {
            let candidate = device.number;
            if founding && candidate < self.number {
                rank += 1;
            }
            if !delivers
                || candidate == self.number
                || members.contains(&candidate)
                || device.not_after_s <= now_s + EXPIRY_MARGIN_S
            {
                continue;
            }
            match self.usable(replica, device, rejoined(replica, device).unwrap_or(0)) {
                Some(message) if adds.len() < MAX_ADDS && bytes + message.len() <= MAX_ADD_BYTES => {
                    bytes += message.len();
                    adds.push((candidate, message.to_vec()));
                }
                Some(_) => (),
                None => complaints.extend(self.unpublished(replica, device, now_ms)),
            }
        }
        for (hash, refusal) in complaints {
            if self.mark_bad(hash)
                && let GroupRefusal::KeysNotOnLedger { device, .. } = &refusal
            {
                self.notice(Some(device.clone()), Some(number), Notice::Refused(refusal));
            }
        }
        let update =
            slot.epoch().is_some_and(|epoch| epoch > 0) && (slot.update_requested || self.is_old(known, slot, now_s));
        if slot.update_requested || renew {
            rank = 0;
        }
        let unfounded = slot.epoch().is_none_or(|epoch| epoch == 0);
        let any = renew || update || unfounded || !adds.is_empty() || !removes.is_empty();
        any.then(|| Work { adds, removes: removes.into_iter().collect(), renew, rank })
    }

    /// Whether the group's policy wants a new epoch; if not yet, wakes up when it does.
    fn is_old(&mut self, known: &Group, slot: &Slot, now_s: u64) -> bool {
        let Some(max_age_s) = known.policy.epoch_max_age_s else { return false };
        let Some((_, last)) = slot.commits.last_key_value() else { return false };
        let due_s = last.time_s.saturating_add(u64::from(max_age_s.get()));
        if now_s < due_s {
            self.wake_at(due_s.saturating_mul(1000));
        }
        now_s >= due_s
    }

    /// The device's newest key package that it published at or after `entry` and that we have.
    fn usable(&self, replica: &Replica, device: &Device, entry: u64) -> Option<&[u8]> {
        let packages = self.packages.of(&device.id);
        replica.publications(device.number).take_while(|published| published.at >= entry).find_map(|published| {
            let found = packages.iter().find(|package| Hash::from(package.hash) == published.key_package);
            found.filter(|package| !self.bad.contains(&package.hash)).map(|package| package.message.as_slice())
        })
    }

    /// Key packages of a device that the ledger does not name although they have been here for a while.
    fn unpublished(&self, replica: &Replica, device: &Device, now_ms: u64) -> Vec<([u8; 32], GroupRefusal)> {
        let packages = self.packages.of(&device.id).iter();
        packages
            .filter(|package| package.seen_ms + PATIENCE_MS <= now_ms)
            .filter(|package| {
                let hash = Hash::from(package.hash);
                replica.publications(device.number).all(|published| published.key_package != hash)
            })
            .map(|package| {
                let hash = short_hex(&package.hash);
                (package.hash, GroupRefusal::KeysNotOnLedger { device: device.id.clone(), hash })
            })
            .collect()
    }

    /// `true` if it is news.
    fn mark_bad(&mut self, hash: [u8; 32]) -> bool {
        if self.bad.len() >= MAX_BAD {
            self.bad.pop_first();
        }
        self.bad.insert(hash)
    }

    /// Builds a commit, stores it, and submits it.
    fn commit(
        &mut self,
        replica: &Replica,
        number: GroupNumber,
        slot: &mut Slot,
        epoch: u64,
        mut work: Work,
        now_ms: u64,
    ) -> Result<(), GroupRefusal> {
        let now_s = now_ms / 1000;
        let head = wire::write_ledger_head(replica.height(), replica.head().as_bytes());
        loop {
            let Some(group) = &mut slot.group else { return Ok(()) };
            let built = match self.engine.commit(group, &work.adds, &work.removes, work.renew, head.clone(), now_s) {
                Ok(built) => built,
                Err(refusal) if work.adds.is_empty() => return Err(refusal),
                Err(_) => {
                    // One of the key packages is at fault: each shows alone whether it is.
                    let mut good = Vec::new();
                    for add in std::mem::take(&mut work.adds) {
                        match self.engine.commit(
                            group,
                            std::slice::from_ref(&add),
                            &work.removes,
                            work.renew,
                            head.clone(),
                            now_s,
                        ) {
                            Ok(_) => good.push(add),
                            Err(refusal) => {
                                self.mark_bad(crate::stored::sha256(&add.1));
                                let device = replica.device(add.0).map(|device| device.id.clone());
                                self.notice(device, Some(number), Notice::Refused(refusal));
                            }
                        }
                    }
                    work.adds = good;
                    if work.adds.is_empty() && work.removes.is_empty() && epoch > 0 {
                        return Ok(());
                    }
                    continue;
                }
            };
            let bytes = built.commit.len();
            if bytes > MAX_COMMIT_BYTES {
                if work.adds.is_empty() {
                    return Err(GroupRefusal::TooLarge { group: number, bytes });
                }
                work.adds.truncate(work.adds.len() / 2);
                continue;
            }
            let letter = |(to, welcome): (Number, Vec<u8>)| Letter {
                to: to.into(),
                payload: wire::write_inbox(&welcome, &built.tree),
            };
            let candidate = Candidate {
                commit: built.commit.clone(),
                secrets: built.secrets.to_vec(),
                welcomes: built.welcomes.into_iter().map(letter).collect(),
                epoch,
                submitted_ms: now_ms,
                refused: false,
            };
            slot.add_candidate(number, candidate, &mut self.changes);
            slot.save(number, &mut self.changes);
            self.submit_commit(number, slot.generation, epoch, built.commit);
            self.wake_at(now_ms + RESUBMIT_MS);
            return Ok(());
        }
    }

    /// The ledger refused a commit of ours.
    pub(crate) fn commit_refused(&mut self, number: GroupNumber, commit: &[u8], now_ms: u64) {
        let Some(mut slot) = self.slots.remove(&number) else { return };
        if slot.refuse(number, commit, &mut self.changes) {
            self.back_off(&mut slot, now_ms);
        }
        self.slots.insert(number, slot);
    }
}
