//! What there is to do for the groups: found one, bring its roster in line with the grants, renew its keys.

use std::collections::{BTreeMap, BTreeSet};

use sealcast_ledger::{Body, Device, Epoch, FaultReported, Group, GroupNumber, Number, Replica};

use crate::{
    GroupRefusal, Groups, MAX_ADDS, MIN_EPOCH_AGE_S, Notice, Output,
    build::{Add, RESUBMIT_MS, Work},
    judge::{MIN_SEAT_AGE_S, TURN_S, asks_to_rejoin, may_bring_back, may_found},
    packages::Package,
    slot::{Fault, Slot, WELCOME_WAIT_MS},
    standing::{fault, holder, may_be_in},
    stored::short_hex,
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
/// How long the members may take to let a device in that is granted, or that asks to be added again: at first.
const PATIENT_WAIT_MS: u64 = 600_000;
/// And at most, when they have not answered several.
const MAX_PATIENT_WAIT_MS: u64 = 3_600_000;
/// So often a device says that it cannot follow a commit, before it says only that it gets no keys.
const STUBBORN: u32 = 3;
/// Between a refusal by the ledger and the next try: at first, and at most.
const RETRY_MS: u64 = 3_000;
const MAX_RETRY_MS: u64 = 60_000;
/// A device whose certificate ends within this time is not added any more: it might end before the commit is on the
/// ledger, which would be void then.
const EXPIRY_MARGIN_S: u64 = 10;
/// Key packages beyond this size wait for the next commit: with the update path it has to fit into a ledger entry.
const MAX_ADD_BYTES: usize = 60 * 1024;
/// So long may a key package precede its ledger entry before somebody is told.
const PATIENCE_MS: u64 = 30_000;
/// That many refused key packages are remembered.
const MAX_BAD: usize = 4096;

/// A group's members, by what is to be done with them.
#[derive(Default)]
struct Sorted {
    members: BTreeSet<Number>,
    /// Leaves that have to go.
    removes: Vec<u32>,
    /// The leaves of devices that ask to be added again.
    lost: BTreeMap<Number, u32>,
    /// How many members come before us.
    before_us: u64,
}

impl Groups {
    /// Looks at everything again.
    pub(crate) fn evaluate(&mut self, replica: &Replica, now_ms: u64) {
        debug_assert_eq!(replica.height(), self.next_entry(), "groups and replica go in step");
        self.timeout_ms = None;
        if !self.live {
            return;
        }
        let certificate = self.certificate_on_ledger(replica);
        self.inboxes.keep(|group| may_be_in(replica, group, &certificate));
        self.forget_superseded_keys(replica, now_ms);
        if let Err(refusal) = self.evaluate_own_keys(replica, now_ms) {
            self.notice(Some(self.device.clone()), None, Notice::Refused(refusal));
        }
        for known in replica.groups() {
            let number = known.number;
            let Some(mut slot) = self.slots.remove(&number) else { continue };
            if let Err(refusal) = self.evaluate_group(replica, known, &mut slot, now_ms) {
                self.notice(Some(self.device.clone()), Some(number), Notice::Refused(refusal));
                self.back_off(&mut slot, now_ms);
            }
            self.slots.insert(number, slot);
        }
    }

    pub(crate) fn back_off(&mut self, slot: &mut Slot, now_ms: u64) {
        let wait = RETRY_MS.saturating_mul(1 << slot.refusals.min(8)).min(MAX_RETRY_MS);
        slot.refusals = slot.refusals.saturating_add(1);
        slot.retry_ms = now_ms + wait;
        self.wake_at(slot.retry_ms);
    }

    fn evaluate_group(
        &mut self,
        replica: &Replica,
        known: &Group,
        slot: &mut Slot,
        now_ms: u64,
    ) -> Result<(), GroupRefusal> {
        let number = known.number;
        if !may_be_in(replica, number, &self.certificate_on_ledger(replica)) {
            slot.work_since_ms = None;
            // Others may still have its leaf when it is granted again: then it waits anew.
            slot.set_fault(None);
            return Ok(());
        }
        if slot.epoch().unwrap_or(0) != slot.public.epoch {
            self.wait_outside(replica, number, slot, now_ms);
            return Ok(());
        }
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
                self.submit_commit(number, slot, commit);
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
            let id = self.ledger.mls_group_id(number, slot.generation());
            slot.set_group(self.engine.found(id, now_ms / 1000)?)?;
            slot.save_group(number, &self.engine, &mut self.changes)?;
        }
        self.commit(replica, number, slot, work, now_ms)
    }

    /// There are keys of the group, and we have none. After a while we say so on the ledger, which is a reason to add us
    /// again; and again if that is of no use.
    fn wait_outside(&mut self, replica: &Replica, number: GroupNumber, slot: &mut Slot, now_ms: u64) {
        let said = |fault: &Fault| {
            let known = replica.group(number).and_then(|group| group.report(self.number));
            known.is_some_and(|(at, _)| at >= fault.since)
        };
        if let Some(fault) = slot.fault.filter(|fault| !said(fault)) {
            let due = slot.fault_submitted_ms.map_or(now_ms, |at| at + RESUBMIT_MS);
            if now_ms >= due {
                slot.fault_submitted_ms = Some(now_ms);
                let (generation, epoch) = (slot.generation(), Epoch(fault.epoch));
                let report = FaultReported { group: number, generation, epoch, kept_out: fault.kept_out };
                self.output(Output::Submit(Body::FaultReported(report)));
            }
            slot.welcome_due_ms = None;
            self.wake_at(due.max(now_ms + RESUBMIT_MS));
            return;
        }
        let seat = self.own_seat(replica, slot);
        let wait = match slot.fault {
            None if seat.is_some() => WELCOME_WAIT_MS,
            _ => PATIENT_WAIT_MS.saturating_mul(1 << slot.faults_said.min(3)).min(MAX_PATIENT_WAIT_MS),
        };
        let due = *slot.welcome_due_ms.get_or_insert(now_ms + wait);
        if now_ms < due {
            self.wake_at(due);
            return;
        }
        let (epoch, since) = (slot.on_ledger().0.saturating_sub(1), replica.height());
        let fault = match slot.fault {
            Some(fault) if !fault.kept_out && slot.faults_said < STUBBORN => Fault { since, ..fault },
            // All who get no keys name the last commit: so they are counted together.
            _ => Fault { epoch, kept_out: true, since },
        };
        slot.faults_said = slot.faults_said.saturating_add(1);
        slot.set_fault(Some(fault));
        slot.save(number, &mut self.changes);
        self.notice(Some(self.device.clone()), Some(number), Notice::KeptOut);
        self.wait_outside(replica, number, slot, now_ms);
    }

    /// What this device should commit, if anything.
    fn work(&mut self, replica: &Replica, known: &Group, slot: &Slot, now_ms: u64) -> Option<Work> {
        let number = known.number;
        let own_leaf = slot.group.as_ref().map(|group| group.current_member_index());
        let roster = self.sort_seats(replica, number, slot, own_leaf, now_ms)?;
        let founding = slot.group.is_none();
        let mut rank = roster.before_us;
        if founding {
            if !may_found(replica, number, &slot.public, self.number, self.ledger_now_s(replica, now_ms)) {
                self.wake_at_ledger_s(replica, slot.public.since_s + TURN_S);
                return None;
            }
            rank += replica.granted_devices(number).filter(|device| device.number < self.number).count() as u64;
        }
        let adds = self.adds(replica, number, &roster, now_ms);
        let renew = self.is_registered(replica)
            && own_leaf
                .and_then(|own| slot.public.seats.get(&own))
                .is_some_and(|seat| seat.certificate != self.certificate);
        let update = slot.public.epoch > 0 && self.is_due(replica, known, slot, now_ms);
        if slot.update_requested || renew {
            rank = 0;
        }
        let any = renew || update || slot.public.epoch == 0 || !adds.is_empty() || !roster.removes.is_empty();
        any.then_some(Work { adds, removes: roster.removes, renew, rank })
    }

    /// `None` if we have to be removed ourselves: nothing that we commit would count.
    fn sort_seats(
        &mut self,
        replica: &Replica,
        number: GroupNumber,
        slot: &Slot,
        own_leaf: Option<u32>,
        now_ms: u64,
    ) -> Option<Sorted> {
        let (past, now_s) = (replica.present(), self.ledger_now_s(replica, now_ms));
        let mut sorted = Sorted::default();
        for (leaf, seat) in &slot.public.seats {
            let device = holder(past, &seat.certificate);
            let expired = device.is_none_or(|device| device.not_after_s <= now_s);
            if Some(*leaf) == own_leaf {
                // What we commit gives our leaf our present certificate.
                let own = if self.is_registered(replica) { &self.certificate } else { &seat.certificate };
                if expired || fault(past, number, own).is_some() {
                    return None;
                }
                sorted.members.extend(device.map(|device| device.number));
                continue;
            }
            if expired || fault(past, number, &seat.certificate).is_some() {
                sorted.removes.push(*leaf);
                continue;
            }
            let Some(device) = device else { continue };
            if !asks_to_rejoin(past, number, seat) {
                sorted.before_us += u64::from(own_leaf.is_some_and(|own| *leaf < own));
                sorted.members.insert(device.number);
            } else if seat.since_s + MIN_SEAT_AGE_S > now_s {
                sorted.members.insert(device.number);
                self.wake_at_ledger_s(replica, seat.since_s + MIN_SEAT_AGE_S);
            } else if !may_bring_back(replica, past, number, &slot.public, seat, self.number, now_s) {
                sorted.members.insert(device.number);
                self.wake_at_ledger_s(replica, now_s + TURN_S);
            } else {
                sorted.lost.insert(device.number, *leaf);
            }
        }
        Some(sorted)
    }

    /// The devices to be added, as many as one commit takes.
    fn adds(&mut self, replica: &Replica, number: GroupNumber, roster: &Sorted, now_ms: u64) -> Vec<Add> {
        let now_s = (now_ms / 1000).max(self.ledger_now_s(replica, now_ms));
        let (mut adds, mut bytes, mut complaints) = (Vec::new(), 0, Vec::new());
        // Without a Welcome that arrives nobody is better off.
        let delivers = !self.undelivered.contains(&number);
        for device in replica.granted_devices(number).filter(|_| delivers) {
            if device.number == self.number
                || roster.members.contains(&device.number)
                || device.not_after_s <= now_s + EXPIRY_MARGIN_S
            {
                continue;
            }
            match self.usable(replica, device) {
                Some(package) if adds.len() < MAX_ADDS && bytes + package.message.len() <= MAX_ADD_BYTES => {
                    bytes += package.message.len();
                    let lost = roster.lost.get(&device.number).copied();
                    adds.push(Add { device: device.number, package: package.message.clone(), lost });
                }
                Some(_) => (),
                None => complaints.extend(self.unusable(replica, device, now_ms)),
            }
        }
        for (hash, device, refusal) in complaints {
            if self.mark_bad(hash) {
                self.notice(Some(device), Some(number), Notice::Refused(refusal));
            }
        }
        adds
    }

    /// Whether the group's policy, or whoever counts its messages, wants a new epoch now; if not yet, wakes up when it may.
    fn is_due(&mut self, replica: &Replica, known: &Group, slot: &Slot, now_ms: u64) -> bool {
        let max_age_s = known.policy.epoch_max_age_s.map(|most| u64::from(most.get()));
        let wanted_s = slot.update_requested.then(|| MIN_EPOCH_AGE_S.min(max_age_s.unwrap_or(u64::MAX)));
        let Some(age_s) = wanted_s.or(max_age_s) else { return false };
        let due_s = slot.public.since_s.saturating_add(age_s);
        if self.ledger_now_s(replica, now_ms) >= due_s {
            return true;
        }
        self.wake_at_ledger_s(replica, due_s);
        false
    }

    /// The newest key package of the device that a commit may add it with.
    fn usable(&self, replica: &Replica, device: &Device) -> Option<&Package> {
        let lost = replica.present().rejoin(device.number).unwrap_or(0);
        let packages = self.packages.of(&device.id).iter();
        packages
            .filter(|package| !self.bad.contains(&package.hash))
            .filter(|package| package.until_s.is_some_and(|until_s| until_s >= device.not_after_s))
            .filter_map(|package| Some((package.published(replica, device).filter(|at| *at >= lost)?, package)))
            .max_by_key(|(at, _)| *at)
            .map(|(_, package)| package)
    }

    /// Key packages of a device that nobody may add it with, and why not.
    fn unusable(
        &self,
        replica: &Replica,
        device: &Device,
        now_ms: u64,
    ) -> Vec<([u8; 32], sealcast_identity::DeviceId, GroupRefusal)> {
        let why = |package: &Package| {
            let id = device.id.clone();
            if package.published(replica, device).is_none() {
                let is_late = package.seen_ms + PATIENCE_MS <= now_ms;
                let hash = short_hex(&package.hash);
                return is_late.then_some(GroupRefusal::KeysNotOnLedger { device: id, hash });
            }
            let (until_s, not_after_s) = (package.until_s?, device.not_after_s);
            (until_s < not_after_s).then_some(GroupRefusal::ShortLived { device: id, until_s, not_after_s })
        };
        let packages = self.packages.of(&device.id).iter();
        packages.filter_map(|package| Some((package.hash, device.id.clone(), why(package)?))).collect()
    }

    /// `true` if it is news.
    pub(crate) fn mark_bad(&mut self, hash: [u8; 32]) -> bool {
        if self.bad.len() >= MAX_BAD {
            self.bad.pop_first();
        }
        self.bad.insert(hash)
    }
}
