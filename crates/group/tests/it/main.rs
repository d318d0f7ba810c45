//! All groups of several devices over one ledger in memory.
#![allow(clippy::unwrap_used)]

mod life;
mod private_parts;
mod restart;
mod simulation;
mod world;
