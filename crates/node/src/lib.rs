//! What every process of Sealcast needs: its own connection to the broker, TLS, configuration, files, output, and supervised tasks.
//!
//! Nothing here knows a role. The agent links this without the hub's ledger and broker.

mod clock;
pub mod config;
pub mod connection;
pub mod files;
mod key_files;
mod link;
pub mod output;
pub mod process;
pub mod shutdown;
mod tasks;
pub mod tls;

pub use self::{
    clock::now_ms,
    key_files::{IfMissing, KeyFiles, OpenInToken, PassphraseArgs},
    link::{Answer, Link, LinkError, LinkEvent, MAX_MESSAGE_BYTES},
    tasks::{Outcome, Tasks},
};
