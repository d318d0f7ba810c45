//! The ledger from end to end in one process: engine, contract, clients, relay; and what a kill leaves behind.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout)]

mod world;

mod conformance;
mod crash;
mod faults;
mod limits;
mod many;
mod moving;
mod network;
mod relay;
mod rotation;
mod rpc;
mod smoke;
mod transport;
