//! The replica's state as bytes: a client that kept them need not apply all records again.
//!
//! Version 2: the version (u8), the genesis's head (32), then the fields of [`Replica`] in the order of
//! [`Replica::snapshot`], and SHA-256 of all that (32). Integers are big-endian, a collection has its length (u32) before its
//! items. What follows from other fields is not in it.
//!
//! Whoever changes what the replica keeps, or what a record makes of it, raises `VERSION`: then the records are applied
//! once more.

mod event;
mod state;
mod stored;

use std::collections::BTreeMap;

use super::{
    Replica, Summary,
    history::History,
    state::{Device, Group, PublishedKeys, Registration},
};
use crate::{Genesis, Hash, Number, codec::Reader};

pub use stored::SnapshotError;

use stored::{Stored, VERSION};

const DIGEST_BYTES: usize = 32;
/// The least number of records between two snapshots.
const LEAST: u64 = 16;
/// A snapshot is made when the ledger has grown by this part of its height. So a start applies at most that part of the records,
/// and what is written in snapshots is bounded by some times what the last one has.
const PART: u64 = 4;

impl Replica {
    /// All that the replica knows, for this client's own storage: about as long as what [`Replica`] says that it keeps.
    #[must_use]
    pub fn snapshot(&self) -> Vec<u8> {
        let Self {
            genesis,
            current,
            built_in,
            heads,
            height,
            last_time_s,
            nonces,
            devices,
            groups,
            rights_version,
            keys,
            streams,
            counts,
            histories,
            // These follow from the others.
            ca: _,
            operator: _,
            head: _,
            certificates: _,
            group_names: _,
            filters: _,
            topics: _,
        } = self;
        let mut out = vec![VERSION];
        genesis.head().put(&mut out);
        current.put(&mut out);
        built_in.put(&mut out);
        heads.put(&mut out);
        height.put(&mut out);
        last_time_s.put(&mut out);
        nonces.put(&mut out);
        stored::put_length(devices.len(), &mut out);
        devices.values().for_each(|device| state::put_device(device, &mut out));
        groups.put(&mut out);
        rights_version.put(&mut out);
        stored::put_all(keys.values(), &mut out);
        streams.put(&mut out);
        counts.put(&mut out);
        // Up to three subjects share a summary.
        let summaries: BTreeMap<u64, &Summary> =
            histories.values().flat_map(History::all).map(|summary| (summary.index, summary)).collect();
        stored::put_all(summaries.into_values(), &mut out);
        let digest = Hash::of(&out);
        digest.put(&mut out);
        out
    }

    /// Whether another snapshot is made at this height, when the last one was made at `last` (0: none).
    #[must_use]
    pub fn is_snapshot_due(last: u64, height: u64) -> bool {
        height >= last.saturating_add(LEAST.max(last / PART))
    }

    /// The replica that [`snapshot`](Self::snapshot) was called on. Only for bytes that come from this client's own storage:
    /// no signature says who made them.
    ///
    /// # Errors
    /// They are damaged, of another version of this program or of another ledger. Apply the records, then.
    pub fn from_snapshot(genesis: Genesis, bytes: &[u8]) -> Result<Self, SnapshotError> {
        let version = *bytes.first().ok_or(SnapshotError::Damaged)?;
        if version != VERSION {
            return Err(SnapshotError::Version { got: version });
        }
        let (content, digest) = bytes.split_last_chunk::<DIGEST_BYTES>().ok_or(SnapshotError::Damaged)?;
        if Hash::of(content).as_bytes() != digest {
            return Err(SnapshotError::Damaged);
        }
        let mut reader = Reader::new(content);
        reader.version(VERSION)?;
        if Hash::read(&mut reader)? != genesis.head() {
            return Err(SnapshotError::OtherLedger);
        }
        let replica = Self::read(genesis, &mut reader)?;
        reader.end()?;
        Ok(replica)
    }

    fn read(genesis: Genesis, reader: &mut Reader<'_>) -> Result<Self, SnapshotError> {
        let mut replica = Self {
            current: Stored::read(reader)?,
            built_in: Stored::read(reader)?,
            heads: Stored::read(reader)?,
            height: Stored::read(reader)?,
            last_time_s: Stored::read(reader)?,
            nonces: Stored::read(reader)?,
            ..Self::new(genesis)
        };
        replica.head = *replica.heads.back().ok_or(SnapshotError::Value("head"))?;
        for _ in 0..u32::read(reader)? {
            let device = state::read_device(reader, &genesis.id)?;
            replica.devices.insert(device.number, device);
        }
        replica.certificates = certificates(&replica.devices);
        let groups: Vec<Group> = Stored::read(reader)?;
        groups.into_iter().try_for_each(|group| replica.put_group(group))?;
        replica.rights_version = Stored::read(reader)?;
        let keys: Vec<PublishedKeys> = Stored::read(reader)?;
        replica.keys = keys.into_iter().map(|keys| (keys.key_package, keys)).collect();
        replica.streams = Stored::read(reader)?;
        replica.counts = Stored::read(reader)?;
        // Each history gets its newest ones again: what another history has kept beside them is older.
        let summaries: Vec<Summary> = Stored::read(reader)?;
        summaries.iter().for_each(|summary| replica.remember(summary));
        Ok(replica)
    }

    fn put_group(&mut self, group: Group) -> Result<(), SnapshotError> {
        if usize::from(group.number.get()) != self.groups.len() + 1 {
            return Err(SnapshotError::Value("group in its place"));
        }
        self.index_group(&group.name, &group.filters, group.number);
        self.groups.push(group);
        Ok(())
    }
}

/// Whose each certificate is, or was: if it was two devices', of the one that was registered with it last.
fn certificates(devices: &BTreeMap<Number, Device>) -> BTreeMap<Hash, Number> {
    let mut newest: BTreeMap<Hash, (u64, Number)> = BTreeMap::new();
    for device in devices.values() {
        for Registration { at, certificate, .. } in &device.registrations {
            let found = newest.entry(*certificate).or_insert((*at, device.number));
            *found = (*found).max((*at, device.number));
        }
    }
    newest.into_iter().map(|(certificate, (_, device))| (certificate, device)).collect()
}
