#![allow(clippy::unwrap_used)]

mod keys;
mod readers;
mod world;
