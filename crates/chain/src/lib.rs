//! The embedded EVM, the ledger client and its transports, the relay.

mod engine;
mod rpc;

pub use engine::{DEFAULT_CHAIN_ID, Engine, EngineConfig, OpenError, Progress};
