//! The embedded EVM, the hub's client of the ledger, the relay.
//!
//! The only crate that sees the EVM and Ethereum's types.
//!
//! | module | what |
//! | --- | --- |
//! | `engine` | [`Engine`]: an EVM node without consensus, everything in one SQLite file |
//! | `rpc` | its JSON-RPC, [`Engine::handle`] |
//! | `node` | [`Node`]: the engine, or endpoints of a network |
//! | `contract`, `code`, `ledger` | [`Ledger`]: deploy, attach, submit, read |
//! | `reader` | [`LedgerReader`]: reads without an account, with a proof of the head |
//! | `stored` | [`stored_records`]: the entries in the file of the engine, beside it |
//! | `moving` | [`Ledger::replay`]: a successor gets the entries of the ledger that moves to it |
//! | `relay` | [`Relay`]: the same for devices without a wallet, which ask with `sealcast_ledger_client` |
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod agreement;
mod batch;
mod code;
mod contract;
mod engine;
#[cfg(test)]
mod faults;
mod fees;
mod ledger;
mod moving;
mod node;
mod quota;
mod reader;
mod relay;
mod rpc;
mod sender;
mod stored;
mod wallet;

pub use engine::{DEFAULT_CHAIN_ID, Engine, EngineConfig, OpenError, Progress};
pub use ledger::{AttachError, Ledger, MAX_RECORDS, Watch};
pub use node::Node;
pub use quota::{Quota, RelayLimits};
pub use reader::{LedgerReader, ProvenHead};
pub use relay::{Closed, Gate, Keeper, MAX_RELAY_REQUEST_BYTES, MAX_RELAY_RESPONSE_BYTES, Relay, Reports};
pub use rpc::MAX_REQUEST_BYTES;
pub use stored::{StoredError, stored_records};
pub use wallet::{Wallet, WalletError};
