//! The MLS control plane (RFC 9420): group keys agreed between members, ordered by the ledger, which is the delivery
//! service of RFC 9750.
//!
//! [`Groups`] holds all groups of one device. It is fed with ledger records, key broadcasts, inboxes and the time, and
//! gives [`Output`]s. Sans-IO: no sockets, files or clock in it.
//!
//! Two keys open a group to a device: a certificate that leads to the CA root, and the ledger, which must say that the
//! device is registered with that certificate, active and granted, and that the key package is the device's own. No
//! member makes or takes a commit that breaks this; [`GroupRefusal`] says why.
#![cfg_attr(test, allow(clippy::unwrap_used))]

#[cfg(test)]
extern crate self as sealcast_group;

#[cfg(test)]
mod attacks;
mod build;
mod crypto;
mod epochs;
mod follow;
mod groups;
#[cfg(test)]
mod hostile;
mod inboxes;
mod join;
mod judge;
mod keys;
mod mls;
mod onlooker;
mod output;
mod own;
mod packages;
mod public;
mod refusal;
#[cfg(test)]
mod rogue;
#[cfg(test)]
mod sabotage;
mod slot;
mod standing;
mod storage;
mod stored;
mod trust;
#[cfg(test)]
mod two_keys;
mod wire;
mod work;
#[cfg(test)]
#[path = "../tests/it/world.rs"]
mod world;

pub use groups::{Groups, Me, OutOfOrder};
pub use onlooker::PublicGroups;
pub use output::{EpochKeys, LeftReason, Notice, Output, Write, is_secret};
pub use refusal::GroupRefusal;
pub use sealcast_ledger::{Epoch, Generation, GroupNumber, Number};
pub use stored::RestoreError;

/// Most devices that one commit adds: more would not fit into a ledger entry, and hold up everybody.
pub const MAX_ADDS: usize = 100;
/// Longest commit, in bytes, that fits into a ledger entry (96 KiB with its other fields).
pub const MAX_COMMIT_BYTES: usize = 95 * 1024;
/// An epoch lasts so long by the ledger's clock, in seconds, unless the ledger gives a cause to end it. Otherwise a member
/// could end epochs until what others have not read yet is older than the group's retention.
pub const MIN_EPOCH_AGE_S: u64 = 30;
