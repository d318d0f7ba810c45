//! The data plane envelope: SFrame (RFC 9605) under a group's epoch secrets, signed by its sender.
//!
//! ```text
//! outside  0xFE | version 0x01 | group u16 | SFrame header (KID <= 5 bytes, CTR <= 3) | ciphertext | tag 16
//! inside   flags u8 | time_ms u48 | [props: varint length, MQTT 5 property bytes] | payload | [signature 64]
//! ```
//!
//! All integers are big-endian. Cipher suite AES_128_GCM_SHA256_128 (RFC 9605 §8.1) with the sframe crate over aws-lc;
//! the frame's metadata (§4.4.3), which is authenticated and not sent, is `0xFE | version | group | topic`. The signature
//! is ECDSA P-256 over `"sealcast-frame-v1" | group u16 | generation u32 | epoch u64 | KID u64 | CTR u32 | time u64 |
//! flags u8 | topic length u64 | topic | props length u64 | props | payload`. At most 100 bytes are added to a signed
//! payload, 36 to an unsigned one.
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
//! Sans-IO: [`GroupKeys`] takes epochs from the control plane, a [`Sealer`] seals for one epoch and boot, and an
//! [`Opener`] for each local client opens and remembers what that client has seen. Time is passed in.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod backend;
mod content;
mod epoch;
mod error;
mod freshness;
mod header;
mod keys;
mod open;
mod persist;
mod plaintext;
pub mod raw;
mod replay;
mod seal;

pub use content::{Content, Purpose, QosClass};
pub use epoch::{Authenticity, Epoch, EpochId, EpochSecret, Member};
pub use error::OpenError;
pub use freshness::{DeliveryKind, Freshness};
pub use header::{GroupNumber, Header, HeaderError, KeyId, LeafIndex, MARKER, VERSION};
pub use keys::{EpochError, GroupKeys, MAX_RETENTION};
pub use open::{Delivery, HandOver, Message, Opened, Opener, Receipt};
pub use persist::{Changes, ImportError, Row};
pub use replay::{MAX_MARKS, MAX_SENDERS, MAX_WINDOWS, ReplayWindow, Seen, WINDOW};
pub use seal::{Boot, MAX_OVERHEAD_SIGNED, MAX_OVERHEAD_UNSIGNED, PendingBoot, SealError, Sealer};
