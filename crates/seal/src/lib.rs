//! The data plane envelope: SFrame (RFC 9605) under a group's epoch secrets, signed by its sender.
//!
//! ```text
//! outside  0xFD | SFrame header: config, KID 6 (start, leaf, epoch), CTR 8 (time, counter) | ciphertext | tag 16
//! inside   flags u8 | ledger report 3 | [props: varint length, MQTT 5 property bytes] | payload | [proof]
//! proof    signature 64, or of a batch: Merkle path 32 * n, place u8, last place u8, signature 64
//! ```
//!
//! docs/envelope.md describes version 2 byte by byte, and says why each byte is there. Cipher suite AES_128_GCM_SHA256_128
//! (RFC 9605 §8.1) with the sframe crate over aws-lc. At most 100 bytes are added to a payload that is signed alone, 36 to one
//! that is not signed.
//!
//! What it gives: only members read a payload; a broker can neither change it, nor move it to another topic or group, nor
//! deliver it twice, nor hold it back past the topic's limit, nor roll a retained message back. In a group with
//! [`Authenticity::Signature`] no member can write in another's name. With [`Authenticity::Group`] it can.
//!
//! What it does not give: a member of a group with [`Authenticity::Group`] can also use up another's counters; a client's
//! windows, one for what a sender publishes with QoS 0 and one for the rest, look back [`WINDOW`] of its counters, on all
//! its topics together, so what a broker hands on further out of order within one of the two is refused as replayed;
//! limits on age hold as far as clocks agree.
//!
//! Key derivation and AEAD are the sframe crate's, with a backend of ours over aws-lc; its header code is used as an
//! oracle in tests only, as it takes more than one form of a header.
//!
//! Sans-IO: [`GroupKeys`] takes epochs from the control plane, a [`Sealer`] seals for one epoch and start, and an
//! [`Opener`] for each local client opens and remembers what that client has seen. Time is passed in.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod backend;
mod content;
mod epoch;
mod error;
mod freshness;
mod header;
mod keys;
pub mod merkle;
mod open;
mod persist;
mod plaintext;
pub mod raw;
mod replay;
mod report;
mod roots;
mod seal;
mod statement;
#[cfg(test)]
mod vectors;

pub use content::{Content, Purpose, QosClass};
pub use epoch::{Authenticity, Epoch, EpochId, EpochSecret, Ledger, Member};
pub use error::OpenError;
pub use freshness::{DeliveryKind, Freshness};
pub use header::{GroupNumber, Header, HeaderError, KeyId, LeafIndex, MARKER, Start};
pub use keys::{EpochError, GroupKeys, MAX_RETENTION};
pub use open::{Delivery, HandOver, Message, Opened, Opener, Receipt};
pub use persist::{Changes, ImportError, Row};
pub use plaintext::MAX_BATCH;
pub use replay::{MAX_MARKS, MAX_SENDERS, MAX_WINDOWS, ReplayWindow, Seen, WINDOW};
pub use report::LedgerReport;
pub use seal::{MAX_OVERHEAD_BATCH, MAX_OVERHEAD_SIGNED, MAX_OVERHEAD_UNSIGNED, SealError, Sealer};
