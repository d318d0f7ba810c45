//! Proofs of what a device has sent, for somebody who has none of its groups' keys.
//!
//! A device keeps a *series* for each of its groups: an append-only Merkle tree (RFC 9162) with a [`Leaf`] for each message,
//! in the order in which the messages were sealed. From time to time it signs the tree's root and its size as an entry of the
//! ledger, the *anchor* ([`sealcast_ledger::Anchor`]). Who has a [`Proof`], the root certificate of the CA and the ledger's
//! records can [`verify()`] who sent which messages, when and in which order, and that the device's series has no others
//! between two anchors.
//!
//! | module | what |
//! | --- | --- |
//! | `leaf` | [`Leaf`], [`SeriesSecret`]: what the tree has of a message, and how it is hidden |
//! | `tree` | [`Frontier`], [`Leaves`]: roots, inclusion and consistency |
//! | `proof` | [`Proof`]: the file, as docs/audit.md describes it byte by byte |
//! | `prove` | [`prove()`] |
//! | `verify` | [`verify()`], [`Claim`]: what a proof says, and which part of it fails |
//!
//! Sans-IO: nothing here opens a socket or a file or reads a clock.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod leaf;
mod proof;
mod prove;
mod tree;
mod verify;

pub use leaf::{Blinding, Commitment, Leaf, Part, SentKind, SeriesSecret, payload_digest};
pub use proof::{MAX_ANCHORS, MAX_MESSAGES, Message, Payload, Proof, ProofError, Topic};
pub use prove::{ProveError, Sent, Series, Shown, prove};
pub use tree::{Frontier, Leaves};
pub use verify::{AnchorSeen, Claim, Refuted, Verified, anchor_of, verify};
