//! The endpoints of the ledger's network, as `[ledger]` of a configuration names them.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use sealcast_ledger_client::{Endpoints, Finality};

use super::{Endpoint, EndpointUrl};
use crate::tls;

/// How a network is reached, checked.
#[derive(Debug, Clone)]
pub struct NetworkConfig {
    /// Its endpoints, the first to be asked first.
    pub endpoints: Vec<EndpointUrl>,
    /// When a block counts as one that stays.
    pub finality: Finality,
    /// Whose certificates the endpoints have, PEM; `None`: those of the system.
    pub ca_file: Option<PathBuf>,
}

impl NetworkConfig {
    /// Checks `rpc`, `finality` and `ca_file` of `[ledger]`. `None` if there are no endpoints.
    ///
    /// # Errors
    /// One of them cannot be read, or says nothing without `rpc`.
    pub fn new(rpc: &[String], finality: Option<&str>, ca_file: Option<PathBuf>) -> Result<Option<Self>> {
        if rpc.is_empty() {
            for (name, is_given) in [("finality", finality.is_some()), ("ca_file", ca_file.is_some())] {
                ensure!(!is_given, "ledger.{name}: says nothing without `rpc`, the endpoints of a network");
            }
            return Ok(None);
        }
        let endpoint = |url: &String| url.parse().context("ledger.rpc");
        let finality = finality.map_or(Ok(Finality::Finalized), str::parse).context("ledger.finality")?;
        Ok(Some(Self { endpoints: rpc.iter().map(endpoint).collect::<Result<_>>()?, finality, ca_file }))
    }

    /// The endpoints. Their connections are made when they are needed. Call it within a runtime.
    pub fn open(&self) -> Result<Endpoints> {
        let endpoint = |url: &EndpointUrl| -> Result<(String, Endpoint)> {
            let roots = || match &self.ca_file {
                Some(file) => tls::roots_in(file),
                None => tls::system_roots(),
            };
            let endpoint = Endpoint::new(url, roots).with_context(|| format!("the ledger's endpoint {url}"))?;
            Ok((url.to_string(), endpoint))
        };
        let endpoints = self.endpoints.iter().map(endpoint).collect::<Result<Vec<_>>>()?;
        Ok(Endpoints::new(endpoints, self.finality))
    }
}
