//! The whole system in one thread: agents, a hub and its broker on their cores, with simulated time, and everything that can
//! go wrong between them.
//!
//! A seed makes a list of [`Event`]s. [`run()`] lets them happen one after the other and looks at the invariants after each:
//! the module `ghost` has them. A run that fails gives its events, made as few as possible ([`shrink`]).
//!
//! Keys, and with them signatures and MLS, are new in every run: a seed decides what happens, not which bytes are sent.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod agent;
mod cast;
mod client;
mod disk;
mod event;
mod ghost;
mod hub;
mod net;
mod rng;
mod run;
mod spy;
mod world;

pub use event::{CLIENTS, DEVICES, Death, Event, Kind, events};
pub use ghost::Violation;
pub use run::{Failure, Report, run, run_seed, shrink};
