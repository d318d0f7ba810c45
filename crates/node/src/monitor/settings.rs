//! `[metrics]` of `agent.toml` and `hub.toml`.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use serde::Deserialize;

use crate::config::address;

/// `[metrics]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table with listen = \"ADDRESS:PORT\"")]
pub struct MonitorFile {
    /// Where it listens.
    #[serde(deserialize_with = "address")]
    listen: SocketAddr,
    /// Allows `listen` to be more than loopback. Default false.
    #[serde(default)]
    listen_beyond_loopback: bool,
}

impl MonitorFile {
    /// Where to listen.
    ///
    /// # Errors
    /// Other machines would reach it, and nobody has said that they may.
    pub fn validate(self) -> Result<SocketAddr> {
        ensure!(
            self.listen.ip().is_loopback() || self.listen_beyond_loopback,
            "metrics.listen: {} can be reached from other machines, and it tells whoever asks the names of groups, how much is \
             sent and what is refused; listen on 127.0.0.1, or set metrics.listen_beyond_loopback = true",
            self.listen
        );
        Ok(self.listen)
    }
}
