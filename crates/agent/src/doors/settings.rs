//! `[http]` and `[coap]` of `agent.toml`, checked.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::{Result, ensure};
use sealcast_node::{config::address, files::Source, read_token};
use serde::Deserialize;
use zeroize::Zeroizing;

/// Shortest token that counts as one.
const MIN_TOKEN_BYTES: usize = 16;

/// `[http]` and `[coap]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table with listen = \"ADDRESS:PORT\"")]
pub struct DoorFile {
    /// Where it listens.
    #[serde(deserialize_with = "address")]
    listen: SocketAddr,
    /// File with the token that each request must carry; relative to the agent's folder.
    token_file: Option<PathBuf>,
    /// Most requests a second. Default 200.
    #[serde(default = "default_rate")]
    max_per_second: u32,
    /// Largest payload, in bytes. Default 65,536.
    #[serde(default = "default_payload")]
    max_payload_bytes: usize,
}

fn default_rate() -> u32 {
    200
}

fn default_payload() -> usize {
    65_536
}

/// A door on which devices call, checked.
#[derive(Debug, Clone)]
pub struct Door {
    /// Where it listens.
    pub listen: SocketAddr,
    /// File of the token that requests must carry.
    pub token_file: Option<PathBuf>,
    /// Most requests a second.
    pub max_per_second: u32,
    /// Largest payload.
    pub max_payload_bytes: usize,
}

impl DoorFile {
    /// Checks every value; `key` is the table's name.
    pub fn validate(self, key: &str) -> Result<Door> {
        ensure!(
            self.listen.ip().is_loopback() || self.token_file.is_some(),
            "{key}.listen: {} can be reached from other machines, and whoever reaches it speaks as this device; name a \
             {key}.token_file with a token that requests must carry, or listen on 127.0.0.1",
            self.listen
        );
        ensure!((1..=100_000).contains(&self.max_per_second), "{key}.max_per_second: must be from 1 to 100000");
        ensure!(
            (1..=16 << 20).contains(&self.max_payload_bytes),
            "{key}.max_payload_bytes: must be from 1 to 16777216"
        );
        Ok(Door {
            listen: self.listen,
            token_file: self.token_file,
            max_per_second: self.max_per_second,
            max_payload_bytes: self.max_payload_bytes,
        })
    }
}

impl Door {
    /// The token, if one is asked for; a relative path is one below `dir`.
    pub fn token(&self, dir: &Path) -> Result<Option<Token>> {
        let Some(file) = &self.token_file else { return Ok(None) };
        let path = dir.join(file);
        let token = read_token(&path, Source::File)?;
        ensure!(
            token.len() >= MIN_TOKEN_BYTES && token.bytes().all(|byte| byte.is_ascii_graphic()),
            "{} must hold a token of at least {MIN_TOKEN_BYTES} ASCII characters without spaces",
            path.display()
        );
        Ok(Some(Token(Zeroizing::new(token.as_bytes().to_vec()))))
    }
}

/// What requests must carry.
pub struct Token(Zeroizing<Vec<u8>>);

impl Token {
    /// Compares in constant time.
    pub fn is(&self, other: &[u8]) -> bool {
        aws_lc_rs::constant_time::verify_slices_are_equal(&self.0, other).is_ok()
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}
