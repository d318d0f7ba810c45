//! The crate through its public API.

#![allow(clippy::unwrap_used)] // a test that cannot go on should stop there

mod client;
mod codec;
mod deleting;
mod differential;
mod flows;
mod harness;
mod limits;
mod own;
mod refused;
mod simulation;
mod unfit;
mod v31;
