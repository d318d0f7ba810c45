//! What the control plane must know of the ledger: devices, groups, grants, published keys and recent heads.
//!
//! It is fed record by record and stored beside the groups' own state, so that a commit is judged by the ledger as it
//! was when the commit came, whether the replica is still there or already further on.

use std::collections::{BTreeMap, VecDeque};

use mls_rs::mls_rs_codec::{self, MlsDecode, MlsEncode, MlsSize};
use sealcast_identity::{DeviceId, PublicKey};

use crate::{
    GroupNumber, Number, Refusal,
    stored::{Changes, RestoreError, Stored, decode, encode, short_hex},
};

/// Heads of that many last entries are kept, to compare with those that commits name.
const HEADS: u64 = 4096;
/// So many last publications of a device are remembered.
const PUBLICATIONS: usize = 16;
/// So many last certificates of a device are remembered.
const CERTIFICATES: usize = 8;

/// SHA-256 of something.
pub(crate) type Hash = [u8; 32];

/// One ledger entry in the terms of this crate.
pub(crate) enum Fact {
    DeviceRegistered { device: Number, id: DeviceId, key: PublicKey, certificate: Hash, not_after_s: u64 },
    DeviceRevoked { device: Number },
    KeysPublished { device: Number, key_package: Hash, certificate: Hash, rejoin: bool },
    GroupCreated { group: GroupNumber, epoch_max_age_s: u32, retention: u16 },
    Granted { group: GroupNumber, device: Number },
    Revoked { group: GroupNumber, device: Number },
    Commit { group: GroupNumber, epoch: u64 },
    GroupReset { group: GroupNumber },
    Other,
}

/// A publication of a key package.
#[derive(Clone, MlsSize, MlsEncode, MlsDecode)]
pub(crate) struct Published {
    pub hash: Hash,
    pub certificate: Hash,
    pub entry: u64,
    pub rejoin: bool,
}

/// A certificate that has been replaced.
#[derive(Clone, MlsSize, MlsEncode, MlsDecode)]
struct Replaced {
    certificate: Hash,
    entry: u64,
}

#[derive(MlsSize, MlsEncode, MlsDecode)]
struct DeviceRow {
    id: String,
    key: [u8; 64],
    certificate: Hash,
    not_after_s: u64,
    active: bool,
    changed: u64,
    published: Vec<Published>,
    replaced: Vec<Replaced>,
}

/// A device as the ledger knows it.
#[derive(Clone)]
pub(crate) struct Device {
    pub id: DeviceId,
    pub key: PublicKey,
    pub certificate: Hash,
    pub not_after_s: u64,
    active: bool,
    /// Entry that last registered or revoked it.
    changed: u64,
    published: Vec<Published>,
    replaced: Vec<Replaced>,
}

impl Device {
    fn row(&self) -> DeviceRow {
        DeviceRow {
            id: self.id.to_string(),
            key: *self.key.xy(),
            certificate: self.certificate,
            not_after_s: self.not_after_s,
            active: self.active,
            changed: self.changed,
            published: self.published.clone(),
            replaced: self.replaced.clone(),
        }
    }

    fn from_row(row: DeviceRow) -> Option<Self> {
        Some(Self {
            id: row.id.parse().ok()?,
            key: PublicKey::from_xy(row.key).ok()?,
            certificate: row.certificate,
            not_after_s: row.not_after_s,
            active: row.active,
            changed: row.changed,
            published: row.published,
            replaced: row.replaced,
        })
    }

    /// Its publications under its present certificate, newest first.
    pub fn publications(&self) -> impl Iterator<Item = &Published> {
        self.published.iter().rev().filter(|published| published.certificate == self.certificate)
    }

    /// Index of the entry by which it last said that it holds no group state.
    pub fn rejoined(&self) -> Option<u64> {
        self.publications().find(|published| published.rejoin).map(|published| published.entry)
    }

    /// Whether it published this key package under this certificate before an entry.
    pub fn has_published_before(&self, hash: &Hash, certificate: &Hash, entry: u64) -> bool {
        let found = |p: &Published| p.hash == *hash && p.certificate == *certificate && p.entry < entry;
        self.published.iter().any(found)
    }

    /// The entry by which it published this key package.
    pub fn published_at(&self, hash: &Hash) -> Option<u64> {
        self.published.iter().find(|published| published.hash == *hash).map(|published| published.entry)
    }

    /// Whether it ever published a key package, under whichever certificate.
    pub fn has_published(&self) -> bool {
        !self.published.is_empty()
    }

    pub fn is_active(&self) -> bool {
        self.active
    }
}

/// A group as the ledger knows it.
#[derive(Clone, MlsSize, MlsEncode, MlsDecode)]
pub(crate) struct LedgerGroup {
    pub generation: u32,
    pub epoch: u64,
    pub epoch_max_age_s: u32,
    pub retention: u16,
}

#[derive(Clone, Copy, MlsSize, MlsEncode, MlsDecode)]
struct Grant {
    granted: bool,
    changed: u64,
}

/// Why a device may not be in a group, and from which entry on.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    pub since: u64,
    pub why: Refusal,
}

/// See the module.
#[derive(Default)]
pub(crate) struct View {
    /// Number of entries seen.
    count: u64,
    time_s: u64,
    devices: BTreeMap<Number, Device>,
    by_certificate: BTreeMap<Hash, Number>,
    by_id: BTreeMap<DeviceId, Number>,
    groups: BTreeMap<GroupNumber, LedgerGroup>,
    grants: BTreeMap<GroupNumber, BTreeMap<Number, Grant>>,
    /// `(count, head after so many entries)`, ascending.
    heads: VecDeque<(u64, Hash)>,
}

impl View {
    pub fn restore(stored: &Stored, genesis: Hash) -> Result<Self, RestoreError> {
        let mut view = Self::default();
        if let Some(bytes) = stored.get("ledger/cursor") {
            (view.count, view.time_s) = decode("ledger/cursor", bytes)?;
        }
        for (key, bytes) in stored.under("ledger/device/") {
            let number = parse_number(key, key.trim_start_matches("ledger/device/"))?;
            let device = Device::from_row(decode(key, bytes)?).ok_or_else(|| RestoreError::corrupt(key))?;
            view.index(number, &device);
            view.devices.insert(number, device);
        }
        for (key, bytes) in stored.under("ledger/group/") {
            let group = parse_group(key, key.trim_start_matches("ledger/group/"))?;
            view.groups.insert(group, decode(key, bytes)?);
        }
        for (key, bytes) in stored.under("ledger/grant/") {
            let (group, number) =
                key.trim_start_matches("ledger/grant/").split_once('/').ok_or_else(|| RestoreError::corrupt(key))?;
            let (group, number) = (parse_group(key, group)?, parse_number(key, number)?);
            view.grants.entry(group).or_default().insert(number, decode(key, bytes)?);
        }
        let mut heads = Vec::new();
        for (key, bytes) in stored.under("ledger/head/") {
            let (count, head): (u64, Hash) = decode(key, bytes)?;
            // A slot that was not overwritten yet still holds the head before the last round.
            if count <= view.count && count + HEADS > view.count {
                heads.push((count, head));
            }
        }
        heads.sort_unstable();
        view.heads = heads.into();
        if view.count == 0 {
            view.heads = VecDeque::from([(0, genesis)]);
        }
        Ok(view)
    }

    fn index(&mut self, number: Number, device: &Device) {
        for old in &device.replaced {
            self.by_certificate.insert(old.certificate, number);
        }
        self.by_certificate.insert(device.certificate, number);
        self.by_id.insert(device.id.clone(), number);
    }

    /// Takes the next entry; its index must be [`count`](Self::count).
    pub fn apply(&mut self, fact: &Fact, head: Hash, time_s: u64, changes: &mut Changes) {
        let entry = self.count;
        self.count += 1;
        self.time_s = time_s;
        self.heads.push_back((self.count, head));
        while self.heads.len() as u64 > HEADS {
            self.heads.pop_front();
        }
        changes.put(format!("ledger/head/{}", self.count % HEADS), encode(&(self.count, head)));
        changes.put("ledger/cursor".to_owned(), encode(&(self.count, time_s)));
        match fact {
            Fact::DeviceRegistered { device, id, key, certificate, not_after_s } => {
                if self.devices.get(device).is_some_and(|known| known.key != *key) {
                    // What it was granted was granted to whoever holds the key before.
                    self.void_grants(device, entry, changes);
                }
                let known = self.devices.remove(device);
                let mut replaced = known.as_ref().map(|known| known.replaced.clone()).unwrap_or_default();
                if let Some(known) = &known
                    && known.certificate != *certificate
                {
                    replaced.push(Replaced { certificate: known.certificate, entry });
                }
                replaced.retain(|old| old.certificate != *certificate);
                while replaced.len() > CERTIFICATES {
                    self.by_certificate.remove(&replaced.remove(0).certificate);
                }
                let fresh = Device {
                    id: id.clone(),
                    key: *key,
                    certificate: *certificate,
                    not_after_s: *not_after_s,
                    active: true,
                    changed: entry,
                    published: known.map(|known| known.published).unwrap_or_default(),
                    replaced,
                };
                self.index(*device, &fresh);
                self.devices.insert(*device, fresh);
                self.save_device(device, changes);
            }
            Fact::DeviceRevoked { device } => {
                if let Some(known) = self.devices.get_mut(device) {
                    known.active = false;
                    known.changed = entry;
                }
                self.save_device(device, changes);
                // Its grants are void, also if it is registered again.
                self.void_grants(device, entry, changes);
            }
            Fact::KeysPublished { device, key_package, certificate, rejoin } => {
                if let Some(known) = self.devices.get_mut(device) {
                    let (hash, certificate, rejoin) = (*key_package, *certificate, *rejoin);
                    known.published.push(Published { hash, certificate, entry, rejoin });
                    if known.published.len() > PUBLICATIONS {
                        known.published.remove(0);
                    }
                }
                self.save_device(device, changes);
            }
            Fact::GroupCreated { group, epoch_max_age_s, retention } => {
                let (epoch_max_age_s, retention) = (*epoch_max_age_s, *retention);
                self.groups.insert(*group, LedgerGroup { generation: 0, epoch: 0, epoch_max_age_s, retention });
                self.save_group(*group, changes);
            }
            Fact::Granted { group, device } => self.save_grant(*group, *device, true, entry, changes),
            Fact::Revoked { group, device } => self.save_grant(*group, *device, false, entry, changes),
            Fact::Commit { group, epoch } => {
                if let Some(known) = self.groups.get_mut(group) {
                    known.epoch = epoch.saturating_add(1);
                }
                self.save_group(*group, changes);
            }
            Fact::GroupReset { group } => {
                if let Some(known) = self.groups.get_mut(group) {
                    known.generation = known.generation.saturating_add(1);
                    known.epoch = 0;
                }
                self.save_group(*group, changes);
            }
            Fact::Other => (),
        }
    }

    fn void_grants(&mut self, device: &Number, entry: u64, changes: &mut Changes) {
        let granted = |grants: &BTreeMap<Number, Grant>| grants.get(device).is_some_and(|grant| grant.granted);
        let groups: Vec<_> = self.grants.iter().filter(|(_, g)| granted(g)).map(|(group, _)| *group).collect();
        for group in groups {
            self.save_grant(group, *device, false, entry, changes);
        }
    }

    fn save_device(&self, number: &Number, changes: &mut Changes) {
        if let Some(device) = self.devices.get(number) {
            changes.put(format!("ledger/device/{}", hex::encode(number)), encode(&device.row()));
        }
    }

    fn save_group(&self, number: GroupNumber, changes: &mut Changes) {
        if let Some(group) = self.groups.get(&number) {
            changes.put(format!("ledger/group/{number}"), encode(group));
        }
    }

    fn save_grant(&mut self, group: GroupNumber, device: Number, granted: bool, entry: u64, changes: &mut Changes) {
        let grant = Grant { granted, changed: entry };
        self.grants.entry(group).or_default().insert(device, grant);
        changes.put(format!("ledger/grant/{group}/{}", hex::encode(device)), encode(&grant));
    }

    /// Number of entries seen; also the index of the next.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The head after all entries seen.
    pub fn head(&self) -> Hash {
        self.heads.back().map(|(_, head)| *head).unwrap_or_default()
    }

    /// The head after `count` entries, if it is still kept.
    pub fn head_at(&self, count: u64) -> Option<&Hash> {
        let first = self.heads.front()?.0;
        let position = usize::try_from(count.checked_sub(first)?).ok()?;
        self.heads.get(position).filter(|(found, _)| *found == count).map(|(_, head)| head)
    }

    pub fn device(&self, number: &Number) -> Option<&Device> {
        self.devices.get(number)
    }

    pub fn number_of(&self, id: &DeviceId) -> Option<Number> {
        self.by_id.get(id).copied()
    }

    pub fn by_certificate(&self, certificate: &Hash) -> Option<Number> {
        self.by_certificate.get(certificate).copied()
    }

    pub fn group(&self, number: GroupNumber) -> Option<&LedgerGroup> {
        self.groups.get(&number)
    }

    /// The number that the next group gets; `None` when all are taken, and the contract refuses more.
    pub fn next_group(&self) -> Option<GroupNumber> {
        u16::try_from(self.groups.len() + 1).ok().and_then(GroupNumber::new)
    }

    pub fn group_numbers(&self) -> Vec<GroupNumber> {
        self.groups.keys().copied().collect()
    }

    /// Devices that are granted the group and active, by number.
    pub fn granted(&self, group: GroupNumber) -> impl Iterator<Item = (Number, &Device)> {
        self.grants.get(&group).into_iter().flatten().filter(|(_, grant)| grant.granted).filter_map(|(number, _)| {
            self.devices.get(number).filter(|device| device.active).map(|device| (*number, device))
        })
    }

    /// Whether there is such a group, and a leaf with this certificate may be in it.
    pub fn may_be_in(&self, group: GroupNumber, certificate: &Hash) -> bool {
        self.groups.contains_key(&group) && self.fault(group, certificate).is_none()
    }

    /// Why a leaf with this certificate may not be in the group, by the ledger; `None` if it may.
    pub fn fault(&self, group: GroupNumber, certificate: &Hash) -> Option<Fault> {
        let known = self.by_certificate(certificate).and_then(|number| Some((number, self.devices.get(&number)?)));
        let Some((number, device)) = known else {
            let (certificate, subject) = (short_hex(certificate), "unknown".to_owned());
            return Some(Fault { since: 0, why: Refusal::UnknownCertificate { certificate, subject } });
        };
        let name = || device.id.clone();
        let mut faults = Vec::new();
        if !device.active {
            let why = Refusal::DeviceRevoked { device: name(), entry: device.changed };
            faults.push(Fault { since: device.changed, why });
        }
        if device.certificate != *certificate {
            let entry = device.replaced.iter().find(|old| old.certificate == *certificate).map_or(0, |old| old.entry);
            faults.push(Fault { since: entry, why: Refusal::SupersededCertificate { device: name(), entry } });
        }
        match self.grants.get(&group).and_then(|grants| grants.get(&number)) {
            None => faults.push(Fault { since: 0, why: Refusal::NotGranted { device: name(), group } }),
            Some(Grant { granted: false, changed }) => {
                let why = Refusal::Revoked { device: name(), group, entry: *changed };
                faults.push(Fault { since: *changed, why });
            }
            Some(_) => (),
        }
        faults.into_iter().min_by_key(|fault| fault.since)
    }
}

fn parse_number(key: &str, hex: &str) -> Result<Number, RestoreError> {
    let bytes = hex::decode(hex).map_err(|_| RestoreError::corrupt(key))?;
    <[u8; 20]>::try_from(bytes).map(Number::from).map_err(|_| RestoreError::corrupt(key))
}

fn parse_group(key: &str, text: &str) -> Result<GroupNumber, RestoreError> {
    text.parse().map_err(|_| RestoreError::corrupt(key))
}
