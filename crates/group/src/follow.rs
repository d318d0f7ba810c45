//! Following the ledger: commits that count, commits that are void, resets.

use std::{collections::BTreeMap, sync::Arc};

use sealcast_identity::{DeviceId, PublicKey};
use sealcast_ledger::{Commit, Epoch, Generation, GroupNumber, Number, Record, Replica};

use crate::{
    EpochKeys, GroupRefusal, Groups, LeftReason, Notice, Output, epochs,
    judge::{Ruling, judge},
    mls::{self, Leaf},
    public::{Place, Public},
    slot::{Candidate, Fault, Invitation, Later, Letters, Slot, WELCOME_WAIT_MS},
    standing::{fault, holder},
    wire,
};

impl Groups {
    /// There is a new group.
    pub(crate) fn handle_created(&mut self, number: GroupNumber, generation: Generation, entry: u64, time_s: u64) {
        let slot = Slot::new(Public::begin(generation, entry, time_s));
        slot.save(number, &mut self.changes);
        self.slots.insert(number, slot);
    }

    /// A commit is on the ledger.
    pub(crate) fn handle_commit(&mut self, replica: &Replica, commit: &Commit, place: &Place, now_ms: u64) {
        let number = commit.group;
        let Some(mut slot) = self.slots.remove(&number) else { return };
        let own = slot.settle(number, &commit.commit, &mut self.changes);
        match judge(replica, number, &slot.public, &commit.commit, place) {
            Ok(ruling) => self.take_commit(replica, number, &mut slot, ruling, own, place, commit, now_ms),
            Err(why) => self.pass_over(replica, number, &mut slot, why, own.is_some(), place, now_ms),
        }
        slot.save(number, &mut self.changes);
        self.slots.insert(number, slot);
        self.try_join(replica, number, now_ms);
    }

    /// A commit that is void: the ledger's epoch has ended, and the group goes on as it was.
    #[expect(clippy::too_many_arguments, reason = "a commit, why it is void, its place, and the group that goes on")]
    fn pass_over(
        &mut self,
        replica: &Replica,
        number: GroupNumber,
        slot: &mut Slot,
        why: GroupRefusal,
        own: bool,
        place: &Place,
        now_ms: u64,
    ) {
        slot.public.pass_over(place);
        if slot.epoch().is_some_and(|epoch| epoch > 0) {
            let (generation, on_ledger) = (slot.generation(), slot.on_ledger());
            self.output(Output::EpochHolds { group: number, generation, on_ledger });
        }
        if own {
            self.back_off(slot, now_ms);
        } else {
            // Or whoever puts void commits on the ledger would hold up all others.
            (slot.retry_ms, slot.refusals) = (0, 0);
        }
        let device = replica.device(place.author).map(|device| device.id.clone());
        let author = name(replica, place.author);
        self.notice(device, Some(number), Notice::Void { author, why });
    }

    /// A commit that counts.
    #[expect(clippy::too_many_arguments, reason = "a commit, what it does, its place, and the group that it changes")]
    fn take_commit(
        &mut self,
        replica: &Replica,
        number: GroupNumber,
        slot: &mut Slot,
        ruling: Ruling,
        own: Option<Candidate>,
        place: &Place,
        commit: &Commit,
        now_ms: u64,
    ) {
        let Ruling { message, tag, seats, has_path } = ruling;
        let epoch = slot.public.epoch;
        slot.public.advance(place, seats);
        slot.set_letters(number, None, &mut self.changes);
        slot.rest(now_ms);
        let seat = self.own_seat(replica, slot).map(|seat| seat.epoch == epoch);
        if epoch == 0 && own.is_none() {
            // Somebody else founded the group.
            slot.drop_group(number, &mut self.changes);
        }
        let follows = slot.epoch() == Some(epoch);
        match seat {
            // Who founds a group has the leaf since then, and no Welcome to wait for.
            Some(is_new) if follows && (!is_new || epoch == 0) => {
                let letters = own.as_ref().map(|own| own.welcomes.clone()).unwrap_or_default();
                let followed = self.follow(slot, message, own.as_ref().map(|own| own.secrets.as_slice()));
                if let Err(why) = followed.and_then(|()| self.enter_epoch(replica, number, slot)) {
                    let fault = Fault { epoch: commit.epoch.0, kept_out: false, since: replica.height() };
                    self.falter(replica, number, slot, fault, place.author, why);
                } else if !letters.is_empty() {
                    self.send(replica, number, &letters);
                    slot.set_letters(number, Some(Letters { epoch: epoch + 1, letters }), &mut self.changes);
                }
            }
            Some(true) => {
                self.leave(replica, number, slot);
                slot.clear_backlog(number, &mut self.changes);
                slot.invitation = Some(Invitation { epoch: epoch + 1, tag, author: place.author.into(), has_path });
                slot.set_fault(None);
                slot.welcome_due_ms = Some(now_ms + WELCOME_WAIT_MS);
            }
            Some(false) => {
                let (commit, on_ledger) = (commit.commit.clone(), commit.epoch.0);
                let later = Later { commit, on_ledger, author: place.author.into() };
                slot.keep_for_later(number, epoch, later, &mut self.changes);
            }
            None => {
                self.leave(replica, number, slot);
                slot.clear_backlog(number, &mut self.changes);
                slot.invitation = None;
                slot.set_fault(None);
            }
        }
    }

    /// Applies a commit that counts to the MLS group.
    pub(crate) fn follow(
        &mut self,
        slot: &mut Slot,
        message: mls_rs::MlsMessage,
        secrets: Option<&[u8]>,
    ) -> Result<(), GroupRefusal> {
        let mut group = slot.group.take().ok_or(GroupRefusal::Malformed("there is no MLS group for this commit"))?;
        match secrets {
            Some(secrets) => mls::apply_own(&mut group, secrets)?,
            None => mls::apply(&mut group, message)?,
        }
        slot.set_group(group)
    }

    /// This device has no leaf in the group any more, or has another one.
    fn leave(&mut self, replica: &Replica, number: GroupNumber, slot: &mut Slot) {
        if slot.group.is_none() {
            return;
        }
        slot.drop_group(number, &mut self.changes);
        epochs::forget(number, &mut slot.epochs, &mut self.changes);
        let fault = fault(replica.present(), number, &self.certificate_on_ledger(replica));
        let reason = fault.map_or(LeftReason::Replaced, |fault| LeftReason::Removed(fault.why));
        self.output(Output::Left { group: number, reason });
    }

    /// This device cannot follow a commit that counts: it leaves the group, and says so on the ledger, which asks the
    /// others to add it again. They may have followed the commit, since a commit's path is encrypted for each part of the
    /// group apart.
    pub(crate) fn falter(
        &mut self,
        replica: &Replica,
        number: GroupNumber,
        slot: &mut Slot,
        fault: Fault,
        author: Number,
        why: GroupRefusal,
    ) {
        slot.drop_group(number, &mut self.changes);
        slot.clear_backlog(number, &mut self.changes);
        epochs::forget(number, &mut slot.epochs, &mut self.changes);
        slot.invitation = None;
        slot.set_fault(Some(fault));
        self.output(Output::Left { group: number, reason: LeftReason::Behind(why.to_string()) });
        let author = name(replica, author);
        self.notice(Some(self.device.clone()), Some(number), Notice::Behind { author, why });
    }

    /// Stores and hands out the group's present epoch.
    pub(crate) fn enter_epoch(
        &mut self,
        replica: &Replica,
        number: GroupNumber,
        slot: &mut Slot,
    ) -> Result<(), GroupRefusal> {
        let Some(group) = &slot.group else { return Ok(()) };
        let epoch = group.current_epoch();
        if epoch == slot.public.epoch && !agree(&slot.public, &slot.leaves) {
            return Err(GroupRefusal::OtherRoster { group: number, epoch });
        }
        let Some(began_at) = slot.public.began_at.get(&epoch).copied() else {
            return Err(GroupRefusal::NotOnLedger { group: number, epoch });
        };
        let roster = slot.leaves.values().filter_map(|leaf| Some((leaf.index, member(replica, leaf)?))).collect();
        let keys = EpochKeys {
            group: number,
            generation: slot.generation(),
            epoch: Epoch(epoch),
            on_ledger: Epoch(epoch + slot.public.voids),
            began_at,
            secret: mls::exporter_secret(group)?,
            leaf: group.current_member_index(),
            roster: Arc::new(roster),
        };
        slot.save_group(number, &self.engine, &mut self.changes)?;
        let retention = replica.group(number).map_or(0, |known| known.policy.retention);
        epochs::store(&keys, retention, &mut slot.epochs, &mut self.changes);
        self.output(Output::Epoch(keys));
        Ok(())
    }

    /// Applies the commits that came before the Welcome did.
    pub(crate) fn catch_up(&mut self, replica: &Replica, number: GroupNumber, slot: &mut Slot, inviter: Number) {
        let backlog = std::mem::take(&mut slot.backlog);
        let mut author = inviter;
        for (epoch, Later { commit, on_ledger, author: by }) in backlog {
            author = Number::from(by);
            self.changes.delete(format!("backlog/{number}/{epoch}"));
            if slot.epoch() != Some(epoch) {
                continue;
            }
            let followed = wire::read_commit(&commit).and_then(|(message, _)| self.follow(slot, message, None));
            if let Err(why) = followed.and_then(|()| self.enter_epoch(replica, number, slot)) {
                let fault = Fault { epoch: on_ledger, kept_out: false, since: replica.height() };
                return self.falter(replica, number, slot, fault, author, why);
            }
        }
        if slot.epoch() != Some(slot.public.epoch) {
            let why = GroupRefusal::Malformed("some of the commits since this device was added are gone");
            let epoch = slot.on_ledger().0.saturating_sub(1);
            let fault = Fault { epoch, kept_out: true, since: replica.height() };
            self.falter(replica, number, slot, fault, author, why);
        }
    }

    /// A device has no keys of a group. If it is one too many, the group starts again.
    pub(crate) fn handle_report(&mut self, replica: &Replica, number: GroupNumber, record: &Record) {
        let generation = self.slots.get(&number).map(Slot::generation);
        let Some(known) = replica.group(number).filter(|known| generation != Some(known.generation)) else { return };
        let author = known.distrusted.map_or_else(|| "one author".to_owned(), |author| name(replica, author));
        let reason = format!("more than half of its devices cannot follow {author}, or get no keys from there");
        self.handle_reset(replica, number, &reason, record);
    }

    /// The group starts again.
    pub(crate) fn handle_reset(&mut self, replica: &Replica, number: GroupNumber, reason: &str, record: &Record) {
        let Some(known) = replica.group(number) else { return };
        let Some(mut slot) = self.slots.remove(&number) else { return };
        let was_member = slot.epoch().is_some_and(|epoch| epoch > 0);
        slot.forget(number, &mut self.changes);
        self.handle_created(number, known.generation, record.index, record.time_s);
        if was_member {
            let reason = LeftReason::Reset(reason.to_owned());
            self.output(Output::Left { group: number, reason });
        }
    }
}

/// What people call an originator.
pub(crate) fn name(replica: &Replica, originator: Number) -> String {
    match replica.device(originator) {
        Some(device) => format!("device {}", device.id),
        None => originator.to_string(),
    }
}

/// Whether the MLS group has the members that the ledger shows.
fn agree(public: &Public, leaves: &BTreeMap<u32, Leaf>) -> bool {
    let ours = leaves.iter().map(|(index, leaf)| (index, &leaf.certificate));
    ours.eq(public.seats.iter().map(|(index, seat)| (index, &seat.certificate)))
}

fn member(replica: &Replica, leaf: &Leaf) -> Option<(DeviceId, PublicKey)> {
    let device = holder(replica.present(), &leaf.certificate)?;
    Some((device.id.clone(), PublicKey::from_uncompressed(&leaf.key).ok()?))
}
