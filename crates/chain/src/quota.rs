//! How much devices may put on the ledger: what is on it stays for ever, and every member reads all of it.
//!
//! Each quota is a token bucket. A device has two, for its entries and their bytes. A group has two, for its commits and
//! their bytes. Of a group's buckets one device can empty no more than half, so that it does not keep the others from
//! committing: the commit that removes it, above all.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use sealcast_ledger::{Body, GroupNumber, Number, SignedEntry};

/// Buckets that are counted. Only those that are not full need be; beyond this the one that is full soonest is forgotten.
const MAX_COUNTED: usize = 16_384;
const HOUR_US: u64 = 3_600_000_000;

/// So much at once, and then so much an hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// What the bucket holds.
    pub burst: u64,
    /// What flows into it in an hour; at least 1.
    pub per_hour: u64,
}

/// What the relay takes from devices. The CA and the operator, who say who is a device at all, have no quotas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelayLimits {
    /// Entries of one device.
    pub device_entries: Quota,
    /// Bytes of them.
    pub device_bytes: Quota,
    /// Commits of one group.
    pub group_commits: Quota,
    /// Bytes of them.
    pub group_bytes: Quota,
}

impl Default for RelayLimits {
    /// A device writes 64 entries and 2 MiB at once, then two entries a second and 2 MiB an hour. A group has 256 commits
    /// and 8 MiB at once, then one commit a second and 4 MiB an hour.
    fn default() -> Self {
        Self {
            device_entries: Quota { burst: 64, per_hour: 7_200 },
            device_bytes: Quota { burst: 2 << 20, per_hour: 2 << 20 },
            group_commits: Quota { burst: 256, per_hour: 3_600 },
            group_bytes: Quota { burst: 8 << 20, per_hour: 4 << 20 },
        }
    }
}

/// An entry that a quota has no room for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct OverQuota {
    bucket: Bucket,
    quota: Quota,
    /// When to come again.
    pub wait_ms: u64,
}

/// Whose, and of what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Bucket {
    DeviceEntries(Number),
    DeviceBytes(Number),
    GroupCommits(GroupNumber),
    GroupBytes(GroupNumber),
    /// One device's half of a group's.
    ShareOfCommits(GroupNumber, Number),
    ShareOfBytes(GroupNumber, Number),
}

/// What an entry takes of one bucket.
struct Charge {
    bucket: Bucket,
    quota: Quota,
    units: u64,
}

/// The buckets (as GCRA: one time for each).
#[derive(Debug)]
pub(crate) struct Quotas {
    limits: RelayLimits,
    /// When the bucket will be full again, in microseconds.
    full_at_us: Mutex<BTreeMap<Bucket, u64>>,
}

impl Quotas {
    pub(crate) fn new(limits: RelayLimits) -> Self {
        Self { limits, full_at_us: Mutex::default() }
    }

    /// Whether there is room for a device's entry now.
    pub(crate) fn check(&self, entry: &SignedEntry, now_ms: u64) -> Result<(), OverQuota> {
        room(&self.full_at_us(), &self.charges(entry), now_ms)
    }

    /// Takes the room. For an entry of which it is known that its originator signed it: anybody can send one in another's
    /// name.
    pub(crate) fn take(&self, entry: &SignedEntry, now_ms: u64) -> Result<(), OverQuota> {
        let charges = self.charges(entry);
        let mut full_at_us = self.full_at_us();
        room(&full_at_us, &charges, now_ms)?;
        for charge in charges {
            make_room_for(&charge.bucket, &mut full_at_us, now_ms);
            let full = full_at_us.entry(charge.bucket).or_default();
            *full = (*full).max(now_us(now_ms)).saturating_add(charge.cost_us());
        }
        Ok(())
    }

    /// Gives it back: the ledger did not take the entry, or had it already.
    pub(crate) fn give_back(&self, entry: &SignedEntry) {
        let mut full_at_us = self.full_at_us();
        for charge in self.charges(entry) {
            if let Some(full) = full_at_us.get_mut(&charge.bucket) {
                *full = full.saturating_sub(charge.cost_us());
            }
        }
    }

    fn charges(&self, entry: &SignedEntry) -> Vec<Charge> {
        let RelayLimits { device_entries, device_bytes, group_commits, group_bytes } = self.limits;
        let (device, bytes) = (entry.originator(), entry.encode().len() as u64);
        let charge = |bucket, quota, units| Charge { bucket, quota, units };
        let mut charges = vec![
            charge(Bucket::DeviceEntries(device), device_entries, 1),
            charge(Bucket::DeviceBytes(device), device_bytes, bytes),
        ];
        if let Body::Commit(commit) = entry.body() {
            let group = commit.group;
            charges.extend([
                charge(Bucket::ShareOfCommits(group, device), group_commits.half(), 1),
                charge(Bucket::ShareOfBytes(group, device), group_bytes.half(), bytes),
                charge(Bucket::GroupCommits(group), group_commits, 1),
                charge(Bucket::GroupBytes(group), group_bytes, bytes),
            ]);
        }
        charges
    }

    fn full_at_us(&self) -> MutexGuard<'_, BTreeMap<Bucket, u64>> {
        self.full_at_us.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether every bucket has enough; else the one that takes longest to have it.
fn room(full_at_us: &BTreeMap<Bucket, u64>, charges: &[Charge], now_ms: u64) -> Result<(), OverQuota> {
    let short = |charge: &Charge| {
        let debt_us = full_at_us.get(&charge.bucket).map_or(0, |full| full.saturating_sub(now_us(now_ms)));
        let wait_us = debt_us.saturating_add(charge.cost_us()).saturating_sub(charge.quota.burst_us());
        (wait_us > 0).then(|| OverQuota {
            bucket: charge.bucket,
            quota: charge.quota,
            wait_ms: wait_us.div_ceil(1_000),
        })
    };
    charges.iter().filter_map(short).max_by_key(|over| over.wait_ms).map_or(Ok(()), Err)
}

/// Keeps the number of buckets within its bound.
fn make_room_for(bucket: &Bucket, full_at_us: &mut BTreeMap<Bucket, u64>, now_ms: u64) {
    if full_at_us.len() < MAX_COUNTED || full_at_us.contains_key(bucket) {
        return;
    }
    full_at_us.retain(|_, full| *full > now_us(now_ms));
    if full_at_us.len() >= MAX_COUNTED
        && let Some(soonest) = full_at_us.iter().min_by_key(|(_, full)| **full).map(|(soonest, _)| *soonest)
    {
        full_at_us.remove(&soonest);
    }
}

fn now_us(now_ms: u64) -> u64 {
    now_ms.saturating_mul(1_000)
}

impl Quota {
    fn half(self) -> Self {
        Self { burst: self.burst.div_ceil(2), per_hour: self.per_hour.div_ceil(2) }
    }

    fn us_of(self, units: u64) -> u64 {
        units.saturating_mul(HOUR_US) / self.per_hour.max(1)
    }

    fn burst_us(self) -> u64 {
        self.us_of(self.burst)
    }
}

impl Charge {
    fn cost_us(&self) -> u64 {
        self.quota.us_of(self.units)
    }
}

impl fmt::Display for OverQuota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Quota { burst, per_hour } = self.quota;
        let (whose, what, key) = match self.bucket {
            Bucket::DeviceEntries(device) => (format!("device {device}"), "entries", "device_entries"),
            Bucket::DeviceBytes(device) => (format!("device {device}"), "bytes", "device_bytes"),
            Bucket::GroupCommits(group) => (format!("group {group}"), "commits", "group_commits"),
            Bucket::GroupBytes(group) => (format!("group {group}"), "bytes of commits", "group_bytes"),
            Bucket::ShareOfCommits(group, device) => {
                (format!("device {device} in group {group}"), "commits", "half of group_commits")
            }
            Bucket::ShareOfBytes(group, device) => {
                (format!("device {device} in group {group}"), "bytes of commits", "half of group_bytes")
            }
        };
        write!(
            f,
            "{whose} writes too much to the ledger: {burst} {what} at once, then {per_hour} an hour ({key} in [relay] of \
             hub.toml); try again in {} ms",
            self.wait_ms
        )
    }
}

#[cfg(test)]
mod tests;
