//! The demo and the benchmarks: a whole Sealcast in one process, and the pictures that are drawn of it.

mod app;
pub mod bench;
pub mod demo;
mod lone_member;
pub mod plot;
mod policy;
