//! Messages of the control plane that are longer than a broker carries: [`cut`] makes parts of them, and an [`Assembler`]
//! puts them together again.
//!
//! A broker may carry 128 KB at most and not say so (MQTT 3.1.1 has no word for it). A part is a payload of its own:
//!
//! | bytes | what |
//! | --- | --- |
//! | 1 | [`MARKER`] |
//! | 1 | version, 1 |
//! | 16 | [`Digest`]: the first bytes of the SHA-256 of the whole message, which is its name too |
//! | 2 | index of the part, from 0, big-endian |
//! | 2 | number of parts, big-endian |
//! | 1 or more | the piece of the message |
//!
//! A message that is short enough goes as it is. None of Sealcast's begins with [`MARKER`], and one that does goes as one
//! part. Parts may come in any order, more than once, or not at all. Nothing here says who sent a part: a forged one can
//! spoil a message, which its sender then sends again, and no more.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod assembler;
mod part;

pub use assembler::{Assembler, Limits, PartError};
pub use part::{Digest, HEADER_BYTES, MARKER, MAX_PARTS, TooLong, cut};
