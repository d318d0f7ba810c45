//! Frames from sealer to opener, through the public API.

mod attacks;
mod batch;
mod delivery;
mod frames;
mod ledger;
mod world;
