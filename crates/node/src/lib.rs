//! What every process of Sealcast needs: its own connection to the broker, TLS, configuration, files, output, and supervised tasks.
//!
//! Nothing here knows a role. The agent links this without the hub's ledger and broker.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod accept;
mod clock;
pub mod commands;
pub mod config;
pub mod connection;
pub mod doctor;
pub mod endpoint;
pub mod examples;
pub mod files;
pub mod http;
pub mod https;
mod hub_channel;
pub mod key_files;
mod link;
pub mod monitor;
pub mod output;
mod percent;
pub mod process;
pub mod shutdown;
mod supervisor;
mod tasks;
pub mod tls;
pub mod upstream;
pub mod web_socket;

pub use self::{
    accept::accepted,
    clock::now_ms,
    hub_channel::HubChannel,
    key_files::{IfMissing, KeyFiles, OpenInToken, PassphraseArgs, read_password, read_secret, read_token},
    link::{Answer, Link, LinkError, LinkEvent, MAX_MESSAGE_BYTES},
    percent::percent_decode,
    supervisor::Supervisor,
    tasks::{Outcome, Tasks},
};
