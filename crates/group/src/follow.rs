//! Following the ledger: applying commits, joining by Welcome, leaving, resets.

use std::{collections::BTreeMap, sync::Arc};

use mls_rs::{
    MlsMessage,
    group::{CommitEffect, ReceivedMessage, proposal::Proposal},
};
use sealcast_identity::{DeviceId, PublicKey};
use sealcast_ledger::{Commit, Epoch, Generation, GroupNumber, Hash, Number, Replica};

use crate::{
    EpochKeys, GroupRefusal, Groups, LeftReason, MAX_ADDS, Notice, Output, epochs,
    mls::{self, Leaf, MlsGroup, key_package_hash},
    slot::{CommitInfo, Letters, Slot, WELCOME_WAIT_MS},
    standing::{fault, holder},
    stored::{sha256, short_hex},
    trust::{leaf_der, mls_time},
    wire::{self, CommitHeader},
};

/// A member may still be in the tree that long after its certificate's end: removing it takes a member that is awake.
const EXPIRY_GRACE_S: u64 = 3600;

/// What a commit did to us.
enum Followed {
    Stayed,
    Removed,
}

impl Groups {
    /// A commit is on the ledger.
    pub(crate) fn handle_commit(
        &mut self,
        replica: &Replica,
        body: &Commit,
        originator: Number,
        entry: u64,
        time_s: u64,
        now_ms: u64,
    ) {
        let group = body.group;
        let mut slot = self.slots.remove(&group).unwrap_or_else(|| Slot::new(body.generation.0));
        let parsed = wire::read_commit(&body.commit);
        let (count, tag) = parsed.as_ref().map_or((0, [0; 32]), |(_, header)| (header.count, header.tag));
        let info = CommitInfo { entry, time_s, count, tag, originator: originator.into() };
        slot.note_commit(body.epoch.0, info.clone());
        slot.set_letters(group, None, &mut self.changes);
        slot.update_requested = false;
        slot.followed_ms = now_ms;
        let own = slot.settle(group, &body.commit, &mut self.changes);
        if body.epoch.0 == 0 && own.is_none() {
            // Somebody else founded the group.
            slot.drop_group(group, &mut self.changes);
        }
        if slot.epoch() == Some(body.epoch.0) {
            let mut letters = Vec::new();
            let result = match own {
                Some(own) => {
                    letters.clone_from(&own.welcomes);
                    self.apply_own(replica, &mut slot, &own.secrets, &body.commit, &info)
                }
                None => parsed.and_then(|(message, header)| {
                    self.apply_others(replica, group, &mut slot, body.epoch.0, message, &header, &info)
                }),
            };
            self.finish(replica, group, &mut slot, result, body, now_ms);
            if slot.stopped.is_none() && !letters.is_empty() {
                self.send(replica, group, &letters);
                slot.set_letters(group, Some(Letters { epoch: body.epoch.0 + 1, letters }), &mut self.changes);
            }
        } else if slot.stopped.is_none() {
            if fault(replica, group, &self.certificate).is_none() {
                slot.keep_for_later(group, body.epoch.0, &body.commit, &mut self.changes);
            }
            self.expect_welcome(&mut slot, &body.commit, now_ms);
        }
        slot.save(group, &mut self.changes);
        self.slots.insert(group, slot);
        self.try_join(replica, group, now_ms);
    }

    /// If a commit adds us, a Welcome must come. If we may not be in the group any more, we still have a leaf that others may
    /// leave where it is, should we be granted again.
    fn expect_welcome(&self, slot: &mut Slot, commit: &[u8], now_ms: u64) {
        if slot.group.is_none() && self.adds_us(commit) {
            slot.await_welcome(now_ms + WELCOME_WAIT_MS);
        }
    }

    /// Whether a commit adds this device, by whichever of its key packages.
    fn adds_us(&self, commit: &[u8]) -> bool {
        let Ok(message) = MlsMessage::from_bytes(commit) else { return false };
        message.proposals_by_value().into_iter().any(|proposal| match proposal {
            Proposal::Add(add) => {
                leaf_der(add.key_package().signing_identity()).is_ok_and(|der| sha256(der) == self.certificate)
            }
            _ => false,
        })
    }

    fn apply_own(
        &mut self,
        replica: &Replica,
        slot: &mut Slot,
        secrets: &[u8],
        commit: &[u8],
        info: &CommitInfo,
    ) -> Result<Followed, GroupRefusal> {
        let mut group = slot.group.take().ok_or(GroupRefusal::Malformed("there is no MLS group for this commit"))?;
        mls::apply_own(&mut group, secrets)?;
        if group.current_epoch() == 1 {
            slot.joined = info.entry;
        }
        let message = MlsMessage::from_bytes(commit)?;
        self.take_up(replica, slot, group, &message, info)?;
        Ok(Followed::Stayed)
    }

    #[expect(clippy::too_many_arguments, reason = "a commit, its place on the ledger, and what it is applied to")]
    fn apply_others(
        &mut self,
        replica: &Replica,
        number: GroupNumber,
        slot: &mut Slot,
        epoch: u64,
        message: MlsMessage,
        header: &CommitHeader,
        info: &CommitInfo,
    ) -> Result<Followed, GroupRefusal> {
        self.judge(replica, number, slot, epoch, &message, header, info)?;
        let mut group = slot.group.take().ok_or(GroupRefusal::Malformed("there is no MLS group for this commit"))?;
        let received = group.process_incoming_message_with_time(message.clone(), mls_time(info.time_s))?;
        let ReceivedMessage::Commit(commit) = received else {
            return Err(GroupRefusal::Malformed("the entry does not hold an MLS commit as a public message"));
        };
        match commit.effect {
            CommitEffect::Removed { .. } => return Ok(Followed::Removed),
            CommitEffect::NewEpoch(_) => (),
            CommitEffect::ReInit(_) => {
                return Err(GroupRefusal::Proposal { group: number, kind: "reinit".to_owned() });
            }
        }
        self.judge_roster(replica, number, &mls::leaves(&group)?, info)?;
        self.take_up(replica, slot, group, &message, info)?;
        Ok(Followed::Stayed)
    }

    /// Whether a commit may be processed at all: everything but MLS's own checks and the resulting roster.
    #[expect(clippy::too_many_arguments, reason = "a commit, its place on the ledger, and what it is applied to")]
    fn judge(
        &self,
        replica: &Replica,
        number: GroupNumber,
        slot: &Slot,
        epoch: u64,
        message: &MlsMessage,
        header: &CommitHeader,
        info: &CommitInfo,
    ) -> Result<(), GroupRefusal> {
        let group_id = self.ledger.mls_group_id(number, Generation(slot.generation));
        if header.group_id != group_id || header.epoch != epoch {
            return Err(GroupRefusal::WrongPlace { group: number, epoch });
        }
        let originator = Number::from(info.originator);
        let sender = header.sender.ok_or(GroupRefusal::External { group: number })?;
        let leaf = slot.leaves.get(&sender).ok_or(GroupRefusal::External { group: number })?;
        if holder(replica, &leaf.certificate).is_none_or(|device| device.number != originator) {
            return Err(GroupRefusal::NotByOriginator { group: number, originator });
        }
        let count = header.count;
        let previous = epoch.checked_sub(1).and_then(|before| slot.commits.get(&before)).map(|before| before.entry);
        // Its maker had seen the commit before, and cannot have seen this one.
        if count > info.entry || previous.is_some_and(|previous| count <= previous) {
            return Err(GroupRefusal::ImpossibleHead { group: number, count });
        }
        if replica.head_at(count).is_some_and(|head| head != Hash::from(header.head)) {
            return Err(GroupRefusal::Equivocation { group: number, originator, count });
        }
        if !message.proposals_by_reference().is_empty() {
            return Err(GroupRefusal::Proposal { group: number, kind: "by reference".to_owned() });
        }
        let mut adds = 0;
        for proposal in message.proposals_by_value() {
            match proposal {
                Proposal::Remove(_) => (),
                Proposal::Add(add) => {
                    adds += 1;
                    self.judge_add(replica, number, add.key_package(), info)
                        .map_err(|why| GroupRefusal::Adds { group: number, why: Box::new(why) })?;
                }
                other => {
                    let kind = format!("type {}", other.proposal_type().raw_value());
                    return Err(GroupRefusal::Proposal { group: number, kind });
                }
            }
        }
        if adds > MAX_ADDS {
            return Err(GroupRefusal::TooManyAdds { group: number, adds });
        }
        Ok(())
    }

    fn judge_add(
        &self,
        replica: &Replica,
        number: GroupNumber,
        package: &mls_rs::KeyPackage,
        info: &CommitInfo,
    ) -> Result<(), GroupRefusal> {
        let identity = package.signing_identity();
        let certificate = sha256(leaf_der(identity)?);
        let verified = self.trust.verify(identity, info.time_s.saturating_mul(1000))?;
        if let Some(fault) = fault(replica, number, &certificate)
            && fault.since < info.count
        {
            return Err(fault.why);
        }
        let Some(device) = holder(replica, &certificate) else {
            let (certificate, subject) = (short_hex(&certificate), verified.id.to_string());
            return Err(GroupRefusal::UnknownCertificate { certificate, subject });
        };
        if device.id != verified.id {
            return Err(GroupRefusal::LeafMismatch { device: device.id.clone() });
        }
        let hash = key_package_hash(package)?;
        let published = replica.keys(&Hash::from(hash)).filter(|keys| keys.device == device.number);
        if published.is_none_or(|keys| keys.certificate != Hash::from(certificate) || keys.at >= info.entry) {
            return Err(GroupRefusal::KeysNotOnLedger { device: device.id.clone(), hash: short_hex(&hash) });
        }
        Ok(())
    }

    /// Whether all of a new epoch's members may be in it, by what the committer must have known.
    fn judge_roster(
        &self,
        replica: &Replica,
        number: GroupNumber,
        leaves: &[Leaf],
        info: &CommitInfo,
    ) -> Result<(), GroupRefusal> {
        let leaves_in = |why| GroupRefusal::LeavesIn { group: number, why: Box::new(why) };
        for leaf in leaves {
            if let Some(fault) = fault(replica, number, &leaf.certificate)
                && fault.since < info.count
            {
                return Err(leaves_in(fault.why));
            }
            let Some(device) = holder(replica, &leaf.certificate) else { continue };
            if device.certificate == Hash::from(leaf.certificate) {
                if device.key.to_uncompressed() != leaf.key.as_slice() {
                    return Err(leaves_in(GroupRefusal::LeafMismatch { device: device.id.clone() }));
                }
                if device.not_after_s.saturating_add(EXPIRY_GRACE_S) < info.time_s {
                    let (device, not_after_s) = (device.id.clone(), device.not_after_s);
                    return Err(leaves_in(GroupRefusal::Expired { device, not_after_s }));
                }
            }
        }
        Ok(())
    }

    /// Takes up the state after a commit and notes whom it added, by which publication of keys.
    fn take_up(
        &self,
        replica: &Replica,
        slot: &mut Slot,
        group: MlsGroup,
        message: &MlsMessage,
        info: &CommitInfo,
    ) -> Result<(), GroupRefusal> {
        let mut added = BTreeMap::new();
        for proposal in message.proposals_by_value() {
            match proposal {
                Proposal::Add(add) => {
                    let certificate = sha256(leaf_der(add.key_package().signing_identity())?);
                    let hash = key_package_hash(add.key_package())?;
                    let entry = replica.keys(&Hash::from(hash)).map_or(info.entry, |keys| keys.at);
                    added.insert(certificate, entry);
                }
                Proposal::Remove(remove) => drop(slot.added.remove(&remove.to_remove())),
                _ => (),
            }
        }
        slot.set_group(group)?;
        for leaf in slot.leaves.values() {
            if let Some(entry) = added.get(&leaf.certificate) {
                slot.added.insert(leaf.index, *entry);
            }
        }
        Ok(())
    }

    /// What follows from having applied a commit, or from having refused it.
    fn finish(
        &mut self,
        replica: &Replica,
        number: GroupNumber,
        slot: &mut Slot,
        result: Result<Followed, GroupRefusal>,
        body: &Commit,
        now_ms: u64,
    ) {
        let entered = result.and_then(|followed| match followed {
            Followed::Stayed => self.enter_epoch(replica, number, slot).map(|()| true),
            Followed::Removed => Ok(false),
        });
        match entered {
            Ok(true) => (),
            Ok(false) => {
                slot.drop_group(number, &mut self.changes);
                let fault = fault(replica, number, &self.certificate);
                let reason = fault.map_or(LeftReason::Replaced, |fault| LeftReason::Removed(fault.why));
                epochs::forget(number, &mut slot.epochs, &mut self.changes);
                self.output(Output::Left { group: number, reason });
                self.expect_welcome(slot, &body.commit, now_ms);
            }
            Err(refusal) => self.stop(replica, number, slot, body.epoch, refusal),
        }
    }

    /// This generation of the group can no longer be followed, because of the commit made in `epoch`.
    ///
    /// The epoch before it is given up as well: whoever made the commit knows its keys, and no commit can remove it now. Nor
    /// is the commit passed over. That members find it bad depends on their MLS state and not on the ledger alone (a
    /// path secret that is wrong for one of them, say), so some would pass it over and others not.
    fn stop(&mut self, replica: &Replica, number: GroupNumber, slot: &mut Slot, epoch: Epoch, refusal: GroupRefusal) {
        slot.stopped = Some(refusal.to_string());
        slot.drop_group(number, &mut self.changes);
        slot.clear_backlog(number, &mut self.changes);
        epochs::forget(number, &mut slot.epochs, &mut self.changes);
        self.output(Output::Left { group: number, reason: LeftReason::Stopped(refusal.to_string()) });
        let originator = slot.commits.get(&epoch.0).map(|info| Number::from(info.originator));
        let device = originator.and_then(|number| replica.device(number)).map(|device| device.id.clone());
        let originator = match (&device, originator) {
            (Some(device), _) => format!("device {device}"),
            (None, Some(number)) => number.to_string(),
            (None, None) => "an unknown device".to_owned(),
        };
        self.notice(device, Some(number), Notice::Stopped { originator, why: refusal });
    }

    /// Stores and hands out the group's present epoch.
    fn enter_epoch(&mut self, replica: &Replica, number: GroupNumber, slot: &mut Slot) -> Result<(), GroupRefusal> {
        slot.save_group(number, &self.engine, &mut self.changes)?;
        let Some(group) = &slot.group else { return Ok(()) };
        let mut roster = BTreeMap::new();
        for leaf in slot.leaves.values() {
            if let Some(member) = member(replica, leaf) {
                roster.insert(leaf.index, member);
            }
        }
        let keys = EpochKeys {
            group: number,
            generation: Generation(slot.generation),
            epoch: Epoch(group.current_epoch()),
            secret: mls::exporter_secret(group)?,
            leaf: group.current_member_index(),
            roster: Arc::new(roster),
        };
        let retention = replica.group(number).map_or(0, |known| known.policy.retention);
        epochs::store(&keys, retention, &mut slot.epochs, &mut self.changes);
        self.output(Output::Epoch(keys));
        Ok(())
    }

    /// Uses the Welcomes that are held, if their time has come.
    pub(crate) fn try_join(&mut self, replica: &Replica, number: GroupNumber, now_ms: u64) {
        let Some(mut slot) = self.slots.remove(&number) else { return };
        let mut waiting = Vec::new();
        for payload in self.inboxes.take(number) {
            match self.join(replica, number, &mut slot, &payload, now_ms) {
                Ok(Joined::NotYet) => waiting.push(payload),
                Ok(Joined::Done) => self.output(Output::ClearInbox { group: number }),
                Err(refusal) => {
                    self.notice(Some(self.device.clone()), Some(number), Notice::Refused(refusal));
                    self.output(Output::ClearInbox { group: number });
                }
            }
        }
        self.inboxes.put_back(number, waiting);
        self.slots.insert(number, slot);
    }

    fn join(
        &mut self,
        replica: &Replica,
        number: GroupNumber,
        slot: &mut Slot,
        payload: &[u8],
        now_ms: u64,
    ) -> Result<Joined, GroupRefusal> {
        let (welcome, tree) = wire::read_inbox(payload)?;
        let opened = self.engine.open(welcome)?;
        let context = opened.info.group_context();
        let epoch = context.epoch;
        let ours = self.ledger.mls_group_id(number, Generation(slot.generation));
        let known = replica.group(number);
        let later_generation = || {
            let (prefix, generation) = context.group_id.split_last_chunk::<4>()?;
            (ours.starts_with(prefix) && u32::from_be_bytes(*generation) > slot.generation).then_some(())
        };
        if known.is_none() || later_generation().is_some() {
            return Ok(Joined::NotYet);
        }
        if context.group_id != ours || epoch == 0 || slot.stopped.is_some() {
            return Ok(Joined::Done);
        }
        if slot.epoch().is_some_and(|current| current >= epoch) {
            return Ok(Joined::Done);
        }
        if known.is_some_and(|known| known.epoch.0 < epoch) || slot.group.is_some() {
            return Ok(Joined::NotYet);
        }
        let not_on_ledger = GroupRefusal::NotOnLedger { group: number, epoch };
        let Some(info) = slot.commits.get(&(epoch - 1)).cloned() else {
            slot.await_welcome(now_ms);
            return Err(not_on_ledger);
        };
        if wire::confirmation_tag(&opened.info)? != info.tag {
            return Err(not_on_ledger);
        }
        if let Some(fault) = fault(replica, number, &self.certificate) {
            return Err(fault.why);
        }
        let group = self.engine.join(&opened, tree, info.time_s)?;
        self.judge_roster(replica, number, &mls::leaves(&group)?, &info)?;
        slot.set_group(group)?;
        slot.joined = info.entry;
        (slot.waiting, slot.welcome_due_ms) = (false, None);
        slot.added.clear();
        self.enter_epoch(replica, number, slot)?;
        if self.own.current().is_some_and(|key| opened.references.iter().any(|reference| key.is(reference))) {
            self.rotate_keys(now_ms)?;
        }
        self.catch_up(replica, number, slot, now_ms);
        Ok(Joined::Done)
    }

    /// Applies the commits that came before the Welcome did.
    fn catch_up(&mut self, replica: &Replica, number: GroupNumber, slot: &mut Slot, now_ms: u64) {
        let backlog = std::mem::take(&mut slot.backlog);
        for (epoch, bytes) in backlog {
            self.changes.delete(format!("backlog/{number}/{epoch}"));
            if slot.epoch() != Some(epoch) {
                continue;
            }
            let Some(info) = slot.commits.get(&epoch).cloned() else { break };
            let result = wire::read_commit(&bytes)
                .and_then(|(message, header)| self.apply_others(replica, number, slot, epoch, message, &header, &info));
            let (generation, place) = (Generation(slot.generation), Epoch(epoch));
            let body = Commit { group: number, generation, epoch: place, commit: bytes };
            self.finish(replica, number, slot, result, &body, now_ms);
        }
        let latest = replica.group(number).map(|known| known.epoch.0);
        if slot.group.is_some() && slot.epoch() != latest {
            // Some commits in between are gone.
            slot.drop_group(number, &mut self.changes);
            epochs::forget(number, &mut slot.epochs, &mut self.changes);
            slot.await_welcome(now_ms);
        }
        slot.save(number, &mut self.changes);
    }

    /// The group starts again.
    pub(crate) fn handle_reset(&mut self, replica: &Replica, number: GroupNumber, reason: &str) {
        let generation = replica.group(number).map_or(0, |known| known.generation.0);
        let Some(mut slot) = self.slots.remove(&number) else { return };
        let was_member = slot.epoch().is_some_and(|epoch| epoch > 0) || slot.stopped.is_some();
        slot.settle(number, &[], &mut self.changes);
        slot.set_letters(number, None, &mut self.changes);
        slot.clear_backlog(number, &mut self.changes);
        slot.drop_group(number, &mut self.changes);
        epochs::forget(number, &mut slot.epochs, &mut self.changes);
        let fresh = Slot::new(generation);
        fresh.save(number, &mut self.changes);
        self.slots.insert(number, fresh);
        if was_member {
            let reason = LeftReason::Reset(reason.to_owned());
            self.output(Output::Left { group: number, reason });
        }
    }
}

fn member(replica: &Replica, leaf: &Leaf) -> Option<(DeviceId, PublicKey)> {
    let device = holder(replica, &leaf.certificate)?;
    Some((device.id.clone(), PublicKey::from_uncompressed(&leaf.key).ok()?))
}

/// What became of a Welcome.
enum Joined {
    /// Used, or no longer useful.
    Done,
    /// The ledger has to come first.
    NotYet,
}
