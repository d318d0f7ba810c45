//! Configuration: one TOML file per role, unknown keys refused, made into typed values before anything is opened.
//!
//! A flag wins over an environment variable, which wins over the file, which wins over the default. What stands in each file is
//! its role's; here is what they share.

mod source;
mod template;

use std::{net::SocketAddr, path::Path};

use anyhow::{Context as _, Result};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error as _},
};

pub use self::{
    source::{Source, TableAt},
    template::{faults, write_template},
};
use crate::files;

/// Largest packet that MQTT has: a fixed header of 5 bytes and 268,435,455 bytes after it.
pub const MAX_PACKET_BYTES: usize = 5 + sealcast_mqtt::MAX_REMAINING_BYTES;

/// An address with a port; its error says so in the words of the file, not of Rust.
///
/// # Errors
/// If the text is anything else.
pub fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse()
        .map_err(|_| D::Error::custom(format!("{text:?} is not an address with a port, such as \"127.0.0.1:1883\"")))
}

/// The folder in which `path` lies.
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A configuration that was read and is not checked yet.
pub struct Loaded<T> {
    file: T,
    source: Option<Source>,
}

/// Reads `path`, or the defaults where no file is named and `fallback` does not exist.
pub fn load<T: DeserializeOwned + Default>(path: Option<&Path>, fallback: &Path) -> Result<Loaded<T>> {
    let path = match path {
        Some(path) => path,
        None if fallback.exists() => fallback,
        None => return Ok(Loaded { file: T::default(), source: None }),
    };
    let text = files::read(path)?;
    let file = toml::from_str(&text).with_context(|| format!("{} is not a valid configuration", path.display()))?;
    Ok(Loaded { file, source: Some(Source::new(path, text)) })
}

impl<T> Loaded<T> {
    /// Checks it; an error names the file, and the line if it can. `given` are the keys whose values an option replaced.
    pub fn check<C>(self, given: &[&str], check: impl FnOnce(T) -> Result<C>) -> Result<C> {
        let Self { file, source } = self;
        check(file).map_err(|error| match &source {
            Some(source) => source.locate(error, given),
            None => error.context("the configuration"),
        })
    }
}
