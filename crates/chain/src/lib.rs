//! The embedded EVM, the ledger's client and its transports, the relay.
//!
//! The only crate that sees the EVM and Ethereum's types.
//!
//! | module | what |
//! | --- | --- |
//! | `engine` | [`Engine`]: an EVM node without consensus, everything in one SQLite file |
//! | `rpc` | its JSON-RPC, [`Engine::handle`] |
//! | `transport`, `node` | [`Channel`], [`CallTransport`], [`Node`]: alloy over the engine or over anything that carries bytes |
//! | `contract`, `ledger` | [`Ledger`]: deploy, attach, submit, read |
//! | `relay`, `remote` | [`Relay`] and [`RemoteLedger`]: the same over MQTT, for devices without a wallet |
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod contract;
mod engine;
#[cfg(test)]
mod faults;
mod fees;
mod ledger;
mod node;
mod rate;
mod relay;
mod remote;
mod rpc;
mod transport;
mod wallet;

pub use engine::{DEFAULT_CHAIN_ID, Engine, EngineConfig, OpenError, Progress};
pub use ledger::{AttachError, Head, Ledger, MAX_RECORDS, SubmitError, Watch};
pub use node::{Node, NodeError};
pub use relay::{MAX_RELAY_REQUEST_BYTES, MAX_RELAY_RESPONSE_BYTES, Relay};
pub use remote::{LedgerClient, RemoteLedger};
pub use transport::{CallTransport, Channel, ChannelError, InProc};
pub use wallet::{Wallet, WalletError};
