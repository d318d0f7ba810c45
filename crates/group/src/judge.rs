//! Whether a commit counts, by what everybody can see: the ledger, and the commit's public part.
//!
//! A commit is judged by the ledger as its author knew it: as of the head that the commit names, which is later than the
//! group's last commit. What happened between that head and the commit's own record is for the next commit. Where time
//! matters it is that of the commit's record.
//!
//! A commit that breaks a rule is void for everybody. The rules here need no MLS state, so that whoever joins later, and
//! the hub, judges alike. What MLS itself demands beyond them (its tags, its signature over the group's state, the secrets
//! of the path) each member finds out when it follows a commit that counts.

use std::collections::{BTreeMap, BTreeSet};

use mls_rs::{KeyPackage, MlsMessage, group::proposal::Proposal, identity::SigningIdentity};
use sealcast_ledger::{Generation, GroupNumber, Hash, Number, Past, Registration, Replica};

use crate::{
    GroupRefusal, MAX_ADDS, MAX_COMMIT_BYTES, MIN_EPOCH_AGE_S,
    mls::key_package_hash,
    public::{Place, Public, Seat},
    standing::{fault, holder},
    stored::{sha256, short_hex},
    trust::{leaf_der, leaf_name},
    wire,
};

/// A member that asks to be added again is, if it has had its leaf for so long.
pub(crate) const MIN_SEAT_AGE_S: u64 = 30;
/// Whoever was not let in by a member, or whose generation ended so, is for the others to let in for so long.
pub(crate) const TURN_S: u64 = 300;
/// A member may still have its leaf that long after its certificate's end: removing it takes a member that is awake.
const EXPIRY_GRACE_S: u64 = 3600;

/// A commit that counts.
pub(crate) struct Ruling {
    pub message: MlsMessage,
    /// Its confirmation tag, which names the epoch that it leads to.
    pub tag: [u8; 32],
    /// Who has which leaf in that epoch.
    pub seats: BTreeMap<u32, Seat>,
    /// Whether new members get secrets of the tree with it.
    pub has_path: bool,
}

/// Judges the commit that ended the group's epoch on the ledger.
///
/// # Errors
/// Why it is void.
pub(crate) fn judge(
    replica: &Replica,
    group: GroupNumber,
    public: &Public,
    commit: &[u8],
    place: &Place,
) -> Result<Ruling, GroupRefusal> {
    if commit.len() > MAX_COMMIT_BYTES {
        return Err(GroupRefusal::TooLarge { group, bytes: commit.len() });
    }
    let (message, header) = wire::read_commit(commit)?;
    if header.group_id != replica.genesis().id.mls_group_id(group, Generation(public.generation))
        || header.epoch != public.epoch
    {
        return Err(GroupRefusal::WrongPlace { group, epoch: public.epoch });
    }
    let count = header.count;
    // Its author had seen the commit before, and cannot have seen this one.
    if !(public.least_height..=place.entry).contains(&count) {
        return Err(GroupRefusal::ImpossibleHead { group, count });
    }
    match replica.head_at(count) {
        Some(head) if head == Hash::from(header.head) => (),
        Some(_) => return Err(GroupRefusal::Equivocation { group, author: place.author, count }),
        None => return Err(GroupRefusal::ImpossibleHead { group, count }),
    }
    let sender = header.sender.ok_or(GroupRefusal::External { group })?;
    let bench = Bench { replica, past: replica.past(count), group, public, place };
    let commit = bench.read(&message, sender)?;
    let seats = bench.seats_after(&commit, count)?;
    bench.judge_seats(&seats)?;
    bench.judge_cause(&commit)?;
    let has_path = commit.path.is_some();
    Ok(Ruling { tag: header.tag, seats, has_path, message })
}

/// What a commit is judged by.
struct Bench<'a> {
    replica: &'a Replica,
    /// The ledger as its author knew it.
    past: Past<'a>,
    group: GroupNumber,
    public: &'a Public,
    place: &'a Place,
}

/// What a commit does.
struct Content<'a> {
    sender: u32,
    adds: Vec<&'a KeyPackage>,
    removes: BTreeSet<u32>,
    /// Its author's leaf from now on, if it has a path.
    path: Option<&'a SigningIdentity>,
    /// Whether that leaf has another certificate than before.
    renews: bool,
}

impl<'a> Bench<'a> {
    fn is_founding(&self) -> bool {
        self.public.epoch == 0
    }

    fn read<'m>(&self, message: &'m MlsMessage, sender: u32) -> Result<Content<'m>, GroupRefusal> {
        let group = self.group;
        if !message.proposals_by_reference().is_empty() {
            return Err(GroupRefusal::Proposal { group, kind: "by reference".to_owned() });
        }
        let (mut adds, mut removes) = (Vec::new(), BTreeSet::new());
        for proposal in message.proposals_by_value() {
            match proposal {
                Proposal::Add(add) => adds.push(add.key_package()),
                Proposal::Remove(remove) => {
                    let leaf = remove.to_remove();
                    if leaf == sender || !removes.insert(leaf) {
                        return Err(GroupRefusal::NoSuchLeaf { group, leaf });
                    }
                }
                other => {
                    let kind = format!("type {}", other.proposal_type().raw_value());
                    return Err(GroupRefusal::Proposal { group, kind });
                }
            }
        }
        if adds.len() > MAX_ADDS {
            return Err(GroupRefusal::TooManyAdds { group, adds: adds.len() });
        }
        let path = message.commit_path_leaf_node().map(|leaf| &leaf.signing_identity);
        if path.is_none() && (self.is_founding() || adds.is_empty() || !removes.is_empty()) {
            return Err(GroupRefusal::NoPath { group });
        }
        let renews = self.judge_author(sender, path)?;
        Ok(Content { sender, adds, removes, path, renews })
    }

    /// Whether the commit is of the member that put it on the ledger. The entry's signature is by the device's key, and so
    /// is the leaf's.
    fn judge_author(&self, sender: u32, path: Option<&SigningIdentity>) -> Result<bool, GroupRefusal> {
        let (group, author) = (self.group, self.place.author);
        let by_another = GroupRefusal::NotByAuthor { group, author };
        let present = self.past.registration(author).ok_or(by_another.clone())?;
        let before = match self.public.seats.get(&sender) {
            Some(seat) => Some(Hash::from(seat.certificate)),
            None if self.is_founding() && sender == 0 => {
                if !may_found(self.replica, group, self.public, author, self.place.time_s) {
                    return Err(GroupRefusal::NotItsTurn { group, author, device: None });
                }
                None
            }
            None => return Err(GroupRefusal::External { group }),
        };
        if let Some(before) = before {
            let registered = self.past.registration_of(author, &before);
            if registered.is_none_or(|registered| registered.key != present.key) {
                return Err(by_another);
            }
        }
        let Some(path) = path else { return Ok(false) };
        let after = Hash::from(sha256(leaf_der(path)?));
        if before != Some(after) {
            self.judge_identity(path, author, present)?;
        }
        Ok(before.is_some_and(|before| before != after))
    }

    /// Whether a leaf is of this device, by its certificate of that time.
    fn judge_identity(
        &self,
        identity: &SigningIdentity,
        device: Number,
        registered: &Registration,
    ) -> Result<(), GroupRefusal> {
        let (certificate, name) = (sha256(leaf_der(identity)?), leaf_name(identity)?);
        let id = holder(self.past, &certificate).filter(|holder| holder.number == device).map(|holder| &holder.id);
        match id {
            None => Err(GroupRefusal::UnknownCertificate { certificate: short_hex(&certificate), subject: name }),
            Some(id)
                if registered.certificate != Hash::from(certificate)
                    || registered.key.to_uncompressed() != identity.signature_key.as_ref()
                    || name != id.as_str() =>
            {
                Err(GroupRefusal::LeafMismatch { device: id.clone() })
            }
            Some(_) => Ok(()),
        }
    }

    /// Who has which leaf after the commit: a new member gets the leftmost that is free (RFC 9420 section 7.7).
    fn seats_after(&self, commit: &Content<'_>, count: u64) -> Result<BTreeMap<u32, Seat>, GroupRefusal> {
        let mut added = Vec::with_capacity(commit.adds.len());
        for package in &commit.adds {
            let seat =
                self.judge_add(package).map_err(|why| GroupRefusal::Adds { group: self.group, why: Box::new(why) })?;
            added.push(seat);
        }
        let mut seats = self.public.seats.clone();
        for leaf in &commit.removes {
            let seat = seats.remove(leaf).ok_or(GroupRefusal::NoSuchLeaf { group: self.group, leaf: *leaf })?;
            self.judge_remove(&seat, &added)?;
        }
        if let Some(path) = commit.path {
            let certificate = sha256(leaf_der(path)?);
            let Place { time_s, entry, .. } = *self.place;
            let seat = seats.entry(commit.sender);
            let founder = || Seat { certificate, epoch: self.public.epoch, since_s: time_s, at: entry, keys_at: count };
            seat.and_modify(|seat| seat.certificate = certificate).or_insert_with(founder);
        }
        let mut leaf = 0;
        for seat in added {
            while seats.contains_key(&leaf) {
                leaf += 1;
            }
            seats.insert(leaf, seat);
        }
        Ok(seats)
    }

    fn judge_add(&self, package: &KeyPackage) -> Result<Seat, GroupRefusal> {
        let identity = package.signing_identity();
        let certificate = sha256(leaf_der(identity)?);
        if let Some(fault) = fault(self.past, self.group, &certificate) {
            return Err(fault.why);
        }
        let device = holder(self.past, &certificate);
        let registered = device.and_then(|device| Some((device, self.past.registration(device.number)?)));
        let Some((device, registered)) = registered else {
            let (certificate, subject) = (short_hex(&certificate), leaf_name(identity)?);
            return Err(GroupRefusal::UnknownCertificate { certificate, subject });
        };
        self.judge_identity(identity, device.number, registered)?;
        let (id, not_after_s) = (|| device.id.clone(), registered.not_after_s);
        if not_after_s <= self.place.time_s {
            return Err(GroupRefusal::Expired { device: id(), not_after_s });
        }
        let until_s = package.expiration()?.seconds_since_epoch();
        if until_s < not_after_s {
            return Err(GroupRefusal::ShortLived { device: id(), until_s, not_after_s });
        }
        let hash = key_package_hash(package)?;
        let published = self.past.keys(&Hash::from(hash)).filter(|keys| {
            keys.device == device.number
                && keys.certificate == registered.certificate
                // What it published before it lost its state is of no use to it.
                && self.past.rejoin(device.number).is_none_or(|lost| lost <= keys.at)
        });
        let Some(published) = published else {
            return Err(GroupRefusal::KeysNotOnLedger { device: id(), hash: short_hex(&hash) });
        };
        let Place { entry, time_s, .. } = *self.place;
        Ok(Seat { certificate, epoch: self.public.epoch, since_s: time_s, at: entry, keys_at: published.at })
    }

    /// Whether the ledger gives a reason to remove a member. One that asks to be added again must be in the same commit.
    fn judge_remove(&self, seat: &Seat, added: &[Seat]) -> Result<(), GroupRefusal> {
        let device = |seat: &Seat| holder(self.past, &seat.certificate);
        if fault(self.past, self.group, &seat.certificate).is_some() || self.is_expired(seat, 0) {
            return Ok(());
        }
        // By another certificate, if it has renewed its own meanwhile.
        let number = device(seat).map(|device| device.number);
        let comes_back = added.iter().any(|new| device(new).map(|device| device.number) == number);
        let device = device(seat).map(|device| device.id.clone());
        if comes_back
            && asks_to_rejoin(self.past, self.group, seat)
            && seat.since_s + MIN_SEAT_AGE_S <= self.place.time_s
        {
            let Place { author, time_s, .. } = *self.place;
            if may_bring_back(self.replica, self.past, self.group, self.public, seat, author, time_s) {
                return Ok(());
            }
            return Err(GroupRefusal::NotItsTurn { group: self.group, author, device });
        }
        Err(GroupRefusal::Needless { group: self.group, device })
    }

    /// Whether all who have a leaf now may have one, by what the author knew.
    fn judge_seats(&self, seats: &BTreeMap<u32, Seat>) -> Result<(), GroupRefusal> {
        let leaves_in = |why| GroupRefusal::LeavesIn { group: self.group, why: Box::new(why) };
        let mut devices = BTreeSet::new();
        for seat in seats.values() {
            if let Some(fault) = fault(self.past, self.group, &seat.certificate) {
                return Err(leaves_in(fault.why));
            }
            let Some(device) = holder(self.past, &seat.certificate) else { continue };
            if self.is_expired(seat, EXPIRY_GRACE_S) {
                let not_after_s = self.past.registration(device.number).map_or(0, |found| found.not_after_s);
                return Err(leaves_in(GroupRefusal::Expired { device: device.id.clone(), not_after_s }));
            }
            if !devices.insert(device.number) {
                return Err(GroupRefusal::Twice { group: self.group, device: device.id.clone() });
            }
        }
        Ok(())
    }

    fn is_expired(&self, seat: &Seat, grace_s: u64) -> bool {
        let device = holder(self.past, &seat.certificate);
        let registered = device.and_then(|device| self.past.registration(device.number));
        registered.is_some_and(|registered| registered.not_after_s.saturating_add(grace_s) <= self.place.time_s)
    }

    /// Whether the ledger gives a cause to end the epoch, or it has lasted long enough to be ended without one.
    fn judge_cause(&self, commit: &Content<'_>) -> Result<(), GroupRefusal> {
        let age_s = self.place.time_s.saturating_sub(self.public.since_s);
        let max_age_s = self.replica.group(self.group).and_then(|group| group.policy.epoch_max_age_s);
        let due_s = max_age_s.map_or(MIN_EPOCH_AGE_S, |most| MIN_EPOCH_AGE_S.min(most.get().into()));
        let changes = self.is_founding() || commit.renews || !commit.adds.is_empty() || !commit.removes.is_empty();
        if changes || age_s >= due_s { Ok(()) } else { Err(GroupRefusal::TooSoon { group: self.group, age_s }) }
    }
}

/// Whether a member has said that it has no keys of the group since it was added, or that it lost all its group state
/// since it published the keys that it was added with.
pub(crate) fn asks_to_rejoin(past: Past<'_>, group: GroupNumber, seat: &Seat) -> bool {
    let Some(device) = holder(past, &seat.certificate) else { return false };
    past.rejoin(device.number).is_some_and(|lost| lost > seat.keys_at)
        || past.report(group, device.number).is_some_and(|(said, _)| said > seat.at)
}

/// Whether `by` may add a member again that asks for it. If `by` made the commit that the member could not follow, or added
/// the member last, the others come first: it could put the member out again and again.
pub(crate) fn may_bring_back(
    replica: &Replica,
    past: Past<'_>,
    group: GroupNumber,
    public: &Public,
    seat: &Seat,
    by: Number,
    time_s: u64,
) -> bool {
    let report = holder(past, &seat.certificate).and_then(|device| past.report(group, device.number));
    let Some((_, report)) = report.filter(|(said, _)| *said > seat.at) else { return true };
    let added_by = replica.commit_at(group, seat.at).map(|(_, author)| author);
    let others = public.seats.values().filter(|other| {
        !asks_to_rejoin(past, group, other)
            && holder(past, &other.certificate).is_some_and(|device| device.number != by)
    });
    let is_blamed = report.author == by || added_by == Some(by);
    !is_blamed || report.time_s + TURN_S <= time_s || others.count() == 0
}

/// Whether `by` may found the group. If the generation before ended because of it, the others come first.
pub(crate) fn may_found(replica: &Replica, group: GroupNumber, public: &Public, by: Number, time_s: u64) -> bool {
    let distrusted = replica.group(group).and_then(|group| group.distrusted);
    distrusted != Some(by)
        || public.since_s + TURN_S <= time_s
        || !replica.granted_devices(group).any(|device| device.number != by)
}
