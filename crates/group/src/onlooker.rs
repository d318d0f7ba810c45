//! The groups as they look to whoever is in none of them.

use std::collections::{BTreeMap, BTreeSet};

use sealcast_ledger::{Body, Commit, FaultReported, Group, GroupNumber, GroupReset, Hash, Number, Record, Replica};

use crate::{
    GroupRefusal,
    judge::{Ruling, judge},
    public::{Place, Public, Seat},
    stored::{decode, encode},
};

/// All groups, for whoever is in none of them: the hub refuses commits that would be void.
#[derive(Debug, Default)]
pub struct PublicGroups(BTreeMap<GroupNumber, Public>);

impl PublicGroups {
    #[cfg(test)]
    pub(crate) fn group(&self, group: GroupNumber) -> Option<&Public> {
        self.0.get(&group)
    }

    /// All that it knows, for its owner's own storage.
    #[must_use]
    pub fn snapshot(&self) -> Vec<u8> {
        let groups: BTreeMap<u16, Public> =
            self.0.iter().map(|(number, public)| (number.get(), public.clone())).collect();
        encode(&groups).to_vec()
    }

    /// The groups that [`snapshot`](Self::snapshot) was called on; `None` for other bytes. Only for bytes that come from its
    /// owner's own storage.
    #[must_use]
    pub fn from_snapshot(bytes: &[u8]) -> Option<Self> {
        let groups: BTreeMap<u16, Public> = decode("groups", bytes).ok()?;
        let numbered = |(number, public)| GroupNumber::new(number).map(|number| (number, public));
        groups.into_iter().map(numbered).collect::<Option<_>>().map(Self)
    }

    /// Takes the next record, which the replica has just accepted. Each must come once, from the first on.
    pub fn handle_record(&mut self, replica: &Replica, record: &Record) {
        let entry = record.index;
        match record.entry.body() {
            Body::GroupCreated(_) => {
                if let Some(created) = replica.groups().last() {
                    self.begin(created, record);
                }
            }
            Body::GroupReset(GroupReset { group, .. }) | Body::FaultReported(FaultReported { group, .. }) => {
                // A reported fault begins a generation if it is the one too many.
                let before = self.0.get(group).map(|public| public.generation);
                if let Some(known) = replica.group(*group).filter(|known| before != Some(known.generation.0)) {
                    self.begin(known, record);
                }
            }
            Body::Commit(commit) => {
                let Some(public) = self.0.get_mut(&commit.group) else { return };
                let place = Place { entry, time_s: record.time_s, author: record.entry.originator() };
                match judge(replica, commit.group, public, &commit.commit, &place) {
                    Ok(Ruling { seats, .. }) => public.advance(&place, seats),
                    Err(_) => public.pass_over(&place),
                }
            }
            _ => (),
        }
    }

    fn begin(&mut self, group: &Group, record: &Record) {
        self.0.insert(group.number, Public::begin(group.generation, record.index, record.time_s));
    }

    /// The devices with a leaf in a group's tree.
    pub fn members(&self, replica: &Replica, group: GroupNumber) -> BTreeSet<Number> {
        let seats = self.0.get(&group).into_iter().flat_map(|public| public.seats.values());
        let device = |seat: &Seat| replica.device_by_certificate(&Hash::from(seat.certificate)).map(|it| it.number);
        seats.filter_map(device).collect()
    }

    /// How many commits of a group's present generation were void.
    pub fn voids(&self, group: GroupNumber) -> u64 {
        self.0.get(&group).map_or(0, |public| public.voids)
    }

    /// Whether a commit is for a later epoch of the ledger than these records lead to: then there are more of them.
    pub fn is_behind(&self, commit: &Commit) -> bool {
        let place = |public: &Public| (public.generation, public.on_ledger());
        self.0.get(&commit.group).is_none_or(|public| place(public) < (commit.generation.0, commit.epoch.0))
    }

    /// Whether a commit would count if it were the ledger's next entry, at this time.
    ///
    /// # Errors
    /// Why it would be void. A commit for another epoch than the ledger's is the contract's to refuse, and passes.
    pub fn check(&self, replica: &Replica, author: Number, commit: &Commit, time_s: u64) -> Result<(), GroupRefusal> {
        let Some(public) = self.0.get(&commit.group) else { return Ok(()) };
        if (commit.generation.0, commit.epoch.0) != (public.generation, public.on_ledger()) {
            return Ok(());
        }
        let place = Place { entry: replica.height(), time_s, author };
        judge(replica, commit.group, public, &commit.commit, &place).map(drop)
    }
}
