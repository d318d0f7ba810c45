//! The system as a whole: seeds that choose what happens, and what was found with them.
#![allow(clippy::unwrap_used)]

mod copies;
mod found;
mod seeds;
mod withheld;
