#![allow(clippy::unwrap_used)]

mod inboxes;
mod keys;
mod readers;
mod world;
