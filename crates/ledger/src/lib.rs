//! The ledger as its clients see it: signed entries, the chain of heads, and the replica that checks both.
//!
//! The contract (`contracts/SealcastLedger.sol`) orders entries; whoever executes or relays it is not trusted. So every
//! client holds a [`Replica`], which starts from a [`Genesis`] that it was configured with and takes one [`Record`] after
//! another, checking signature, nonce, head and each of the contract's own rules.
//!
//! | module | what |
//! | --- | --- |
//! | `id` | [`Number`], [`LedgerId`], [`Genesis`], [`GroupNumber`], [`Generation`], [`Epoch`], [`struct@Hash`] |
//! | `text`, `topic` | [`GroupName`], [`Reason`], [`Serial`], [`ReadingTopic`], [`TopicFilter`] |
//! | `limits` | [`Limits`] of readings, the [`LimitVerdict`] on one |
//! | `body`, `entry`, `record` | the kinds, their signature, their place in the ledger; binary codecs |
//! | `attested` | [`AttestedHead`]: the operator's word on how far the ledger is |
//! | `checkpoint` | [`Checkpoint`]: a device's word on how far its folder has come |
//! | `history` | [`Record::encode_all`]: the whole ledger in one file |
//! | `welcome` | [`WelcomeRoute`]: whose Welcome it is, and for whom; [`DatedWelcome`]: how old it is |
//! | `refusal` | [`Refusal`]: the contract's custom errors, also decoded from a revert |
//! | `replica` | [`Replica`] and its views |
//! | `testing` | an in-memory ledger for other crates' tests (feature `testing`) |
//!
//! Sans-IO: nothing here opens a socket or a file or reads a clock.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod abi;
mod attested;
mod body;
mod checkpoint;
mod codec;
mod entry;
mod history;
mod id;
mod limits;
mod reading;
mod record;
mod refusal;
mod replica;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod text;
mod topic;
mod welcome;

pub use attested::{AttestedError, AttestedHead};
pub use body::{
    Anchor, Authenticity, Body, Commit, DeviceRegistered, DeviceRevoked, FaultReported, Granted, GroupCreated,
    GroupReset, KeyRotated, KeysPublished, Kind, LimitsSet, MAX_BODY_BYTES, MAX_FILTERS, Moved, Policy, REPORT_LIFE_S,
    Revoked,
};
pub use checkpoint::{Checkpoint, CheckpointError};
pub use codec::{CodecError, Reader};
pub use entry::{SignError, SignedEntry};
pub use history::HistoryError;
pub use id::{Epoch, Generation, Genesis, GroupNumber, Hash, IdError, LedgerId, Number};
pub use limits::{
    Breach, LimitVerdict, Limits, MAX_REPORTERS, ReadingCounts, Reporters, SequenceRule, Stream, TopicLimits, UnitText,
};
pub use reading::{MAX_DECIMALS, Reading};
pub use record::Record;
pub use refusal::Refusal;
pub use replica::{
    Device, DeviceState, Event, FaultOutcome, Former, Grant, Group, KeyPackageState, Past, PublishedKeys, Registration,
    Replica, ReplicaError, Report, Revocation, RevocationCause, SnapshotError, Summary, verify,
};
pub use text::{GroupName, Reason, Serial};
pub use topic::{ReadingTopic, TopicFilter};
pub use welcome::{DatedWelcome, WELCOME_HEAD_BYTES, WelcomeError, WelcomeRoute};
