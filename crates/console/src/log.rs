//! What the ledger's records have said, in the form that the console shows: the newest entries, each group's newest epochs,
//! and the readings.
//!
//! It takes each record when the hub's replica does, from the first on: what a reading's verdict was, or who was added by a
//! commit, cannot be asked of the replica later.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use sealcast_group::PublicGroups;
use sealcast_identity::PublicKey;
use sealcast_ledger::{Event, GroupNumber, LedgerId, Number, Record, Replica, Summary};

use crate::{
    model::{Entry, Epoch, ValueEvent},
    names::name,
    values::Values,
};

/// Entries that are kept. The command line shows older ones.
const MAX_ENTRIES: usize = 20_000;
/// Epochs that are kept of a group.
const MAX_EPOCHS: usize = 256;

/// See the module.
#[derive(Default)]
pub struct Log {
    entries: VecDeque<Entry>,
    groups: BTreeMap<GroupNumber, Epochs>,
    /// The readings.
    pub values: Values,
    /// Keys that the CA and the operator got by entries.
    rotated: Vec<(Number, PublicKey)>,
    /// The contracts that the ledger has moved to.
    moved: Vec<LedgerId>,
}

#[derive(Default)]
struct Epochs {
    newest: VecDeque<Epoch>,
    members: BTreeSet<Number>,
    voids: u64,
}

/// Which entries are asked for.
#[derive(Debug, Default)]
pub struct Filter {
    /// Older than this one.
    pub before: Option<u64>,
    /// At most so many.
    pub limit: usize,
    /// Of this kind.
    pub kind: Option<String>,
    /// By this device, or about it.
    pub node: Option<String>,
    /// About this group.
    pub group: Option<String>,
}

impl Log {
    /// Takes a record, which the replica and then the groups have just taken. Gives what is new to show.
    pub fn observe(
        &mut self,
        replica: &Replica,
        groups: &PublicGroups,
        record: &Record,
        event: Event,
    ) -> (Entry, Option<ValueEvent>) {
        let originator = record.entry.originator();
        let by = name(replica, originator);
        let summary = Summary { index: record.index, time_s: record.time_s, originator, event };
        let entry = Entry {
            index: record.index,
            at: record.time_s.saturating_mul(1000),
            kind: record.entry.kind().to_string(),
            node: summary
                .event
                .device()
                .or(Some(originator))
                .and_then(|it| replica.device(it))
                .map(|it| it.id.to_string()),
            group: summary.event.group().and_then(|number| replica.group(number)).map(|group| group.name.to_string()),
            text: replica.describe(&summary),
            by,
        };
        let value = match &summary.event {
            Event::Committed { group, epoch, .. } => {
                let cause = self.cause(replica, groups, *group, epoch.0);
                let (epoch, index, at) = (epoch.0 + 1, entry.index, entry.at);
                let newest = &mut self.groups.entry(*group).or_default().newest;
                newest.push_front(Epoch { epoch, index, author: entry.by.clone(), cause, at });
                newest.truncate(MAX_EPOCHS);
                None
            }
            Event::KeyRotated { whose, public_key } => {
                self.rotated.push((*whose, *public_key));
                None
            }
            Event::Moved { to, .. } => {
                self.moved.push(*to);
                None
            }
            _ => self.values.observe(replica, &summary),
        };
        if self.entries.len() == MAX_ENTRIES {
            self.entries.pop_front();
        }
        self.entries.push_back(entry.clone());
        (entry, value)
    }

    /// What a commit did, by who has a leaf now and before.
    fn cause(&mut self, replica: &Replica, groups: &PublicGroups, group: GroupNumber, epoch: u64) -> String {
        let known = self.groups.entry(group).or_default();
        let voids = groups.voids(group);
        if voids > std::mem::replace(&mut known.voids, voids) {
            return "void: no member follows it".to_owned();
        }
        let members = groups.members(replica, group);
        let before = std::mem::replace(&mut known.members, members);
        if epoch == 0 {
            return "created".to_owned();
        }
        let added = known.members.difference(&before).map(|number| format!("added {}", name(replica, *number)));
        let removed = before.difference(&known.members).map(|number| {
            let why = reason(replica, group, *number).map(|reason| format!(": {reason}")).unwrap_or_default();
            format!("removed {}{why}", name(replica, *number))
        });
        let all: Vec<String> = removed.chain(added).collect();
        if all.is_empty() { "renewed".to_owned() } else { all.join(", ") }
    }

    /// The newest entries that the filter lets through, newest first, and whether there are more.
    pub fn entries(&self, filter: &Filter) -> (Vec<Entry>, bool) {
        let is = |asked: &Option<String>, text: Option<&str>| asked.as_deref().is_none_or(|asked| text == Some(asked));
        let mut found = self.entries.iter().rev().filter(|entry| {
            filter.before.is_none_or(|before| entry.index < before)
                && is(&filter.kind, Some(&entry.kind))
                && (is(&filter.node, entry.node.as_deref()) || is(&filter.node, Some(&entry.by)))
                && is(&filter.group, entry.group.as_deref())
        });
        let entries = found.by_ref().take(filter.limit).cloned().collect();
        (entries, found.next().is_some())
    }

    /// The entry of this index, if it is kept.
    pub fn entry(&self, index: u64) -> Option<&Entry> {
        let first = self.entries.front()?.index;
        self.entries.get(usize::try_from(index.checked_sub(first)?).ok()?)
    }

    /// A group's newest epochs, newest first.
    pub fn epochs(&self, group: GroupNumber) -> Vec<Epoch> {
        self.groups.get(&group).map(|group| group.newest.iter().cloned().collect()).unwrap_or_default()
    }

    /// Each contract that the ledger is or was in.
    pub fn ids<'a>(&'a self, replica: &'a Replica) -> impl Iterator<Item = &'a LedgerId> {
        std::iter::once(&replica.genesis().id).chain(&self.moved)
    }

    /// Each key that an originator has or had.
    pub fn keys_of(&self, replica: &Replica, originator: Number) -> Vec<PublicKey> {
        let genesis = replica.genesis();
        let first = [
            (genesis.id.root(), genesis.root),
            (genesis.id.ca(), genesis.ca),
            (genesis.id.operator(), genesis.operator),
        ];
        let built_in = self.rotated.iter().copied().chain(first).filter(|(whose, _)| *whose == originator);
        let device = replica.device(originator).into_iter().flat_map(|device| device.registrations());
        let all = replica.key_of(originator).copied().into_iter().chain(built_in.map(|(_, key)| key));
        all.chain(device.map(|registration| registration.key)).collect()
    }
}

/// Why a device may no longer be in a group, if somebody said it.
fn reason(replica: &Replica, group: GroupNumber, device: Number) -> Option<String> {
    let about = replica.about_originator(device);
    let reason = about.iter().rev().find_map(|summary| match &summary.event {
        Event::Revoked { group: of, device: whose, reason } if *of == group && *whose == device => Some(reason),
        Event::DeviceRevoked { device: whose, reason } if *whose == device => Some(reason),
        _ => None,
    })?;
    Some(reason.to_string()).filter(|reason| !reason.is_empty())
}
