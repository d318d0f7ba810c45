#![allow(clippy::unwrap_used)]

mod keys;
mod world;
