//! A device keeps a series, and somebody without keys is convinced, or not.
#![allow(clippy::unwrap_used, missing_docs)]

mod proofs;
mod world;
