//! `[ledger]` of `hub.toml`: on which network the ledger is.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::{Result, ensure};
use sealcast_ledger::LedgerId;
use sealcast_node::endpoint::NetworkConfig;
use serde::Deserialize;

/// Twice the base fee of a busy network, and more.
const DEFAULT_MAX_FEE_GWEI: u64 = 500;

/// The table as it stands in the file. Without `rpc` the ledger is the embedded one.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LedgerFile {
    /// Endpoints of an EVM network (Ethereum JSON-RPC), `http`, `https`, `ws` or `wss`. With several of them, one may be away,
    /// and with three, one may lie. Default none: the ledger is in the hub's folder.
    rpc: Vec<String>,
    /// When a block counts as one that stays: `latest`, `safe`, `finalized`, or how many blocks have to be on top of it. Default
    /// `finalized`.
    finality: Option<String>,
    /// The ledger, `CHAIN:0xADDRESS`, if another hub has made it. Default: the first start makes one.
    contract: Option<LedgerId>,
    /// The private key of the account that pays for the entries, secp256k1: 32 bytes in hex, or a keystore (Web3 Secret Storage,
    /// version 3). Default `relay.key` in the hub's folder, which the first start makes.
    key_file: Option<PathBuf>,
    /// The keystore's password, in one line.
    key_password_file: Option<PathBuf>,
    /// The most that is offered for a transaction, in Gwei (10^9 wei) per gas, whatever an endpoint says that it costs. Default
    /// 500.
    max_fee_gwei: Option<u64>,
    /// Where Ethereum's JSON-RPC of the embedded ledger is served over plain HTTP: an address of this machine alone. Default
    /// nowhere.
    listen: Option<SocketAddr>,
    /// The certificate authorities of the endpoints, PEM. Default: those of the system.
    ca_file: Option<PathBuf>,
}

/// The network that the ledger is on, checked.
#[derive(Debug, Clone)]
pub struct Network {
    /// How it is reached.
    pub endpoints: NetworkConfig,
    /// The ledger, if it is to be this one.
    pub contract: Option<LedgerId>,
    /// The key of the account that pays.
    pub key_file: Option<PathBuf>,
    /// Its password, if it is a keystore.
    pub key_password_file: Option<PathBuf>,
    /// The most that is offered for a transaction, in Gwei per gas.
    pub max_fee_gwei: u64,
}

impl LedgerFile {
    /// Replaces the endpoints, if options say so.
    pub fn with_rpc(self, rpc: Vec<String>) -> Self {
        if rpc.is_empty() { self } else { Self { rpc, ..self } }
    }

    /// Replaces when a block counts as one that stays, if an option says so.
    pub fn with_finality(self, finality: Option<String>) -> Self {
        Self { finality: finality.or(self.finality), ..self }
    }

    /// Takes the paths that it has as relative to `dir`.
    pub fn with_files(self, dir: &Path) -> Self {
        let within = |file: Option<PathBuf>| file.map(|file| dir.join(file));
        Self {
            key_file: within(self.key_file),
            key_password_file: within(self.key_password_file),
            ca_file: within(self.ca_file),
            ..self
        }
    }

    /// Where the embedded ledger's JSON-RPC is served, checked.
    pub fn listen(&self) -> Result<Option<SocketAddr>> {
        let Some(address) = self.listen else { return Ok(None) };
        ensure!(self.rpc.is_empty(), "ledger.listen: the ledger is on a network, whose endpoints serve its JSON-RPC");
        ensure!(
            address.ip().is_loopback(),
            "ledger.listen: {address} is not an address of this machine alone, and whoever reaches it can write to the ledger \
             without quotas: listen on 127.0.0.1, and put a server with access rules before it"
        );
        Ok(Some(address))
    }

    /// Checks every value. `None` if the ledger is the embedded one.
    pub fn validate(self) -> Result<Option<Network>> {
        let Some(endpoints) = NetworkConfig::new(&self.rpc, self.finality.as_deref(), self.ca_file)? else {
            let given = [
                ("contract", self.contract.is_some()),
                ("key_file", self.key_file.is_some()),
                ("key_password_file", self.key_password_file.is_some()),
                ("max_fee_gwei", self.max_fee_gwei.is_some()),
            ];
            for (name, is_given) in given {
                ensure!(!is_given, "ledger.{name}: says nothing without `rpc`, as the ledger is the embedded one");
            }
            return Ok(None);
        };
        ensure!(
            self.key_password_file.is_none() || self.key_file.is_some(),
            "ledger.key_password_file: is of a keystore: set key_file too"
        );
        Ok(Some(Network {
            endpoints,
            contract: self.contract,
            key_file: self.key_file,
            key_password_file: self.key_password_file,
            max_fee_gwei: self.max_fee_gwei.unwrap_or(DEFAULT_MAX_FEE_GWEI),
        }))
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;
    use sealcast_ledger_client::Finality;

    use super::*;

    fn validate(text: &str) -> Result<Option<Network>> {
        toml::from_str::<LedgerFile>(text)?.validate()
    }

    #[test]
    fn a_network_is_read() -> Result<()> {
        assert!(validate("")?.is_none());
        let network = validate("rpc = ['http://127.0.0.1:8545', 'wss://rpc.example/key']\nfinality = '12'")?;
        let network = network.context("a network")?.endpoints;
        assert_eq!((network.endpoints.len(), network.finality), (2, Finality::Blocks(12)));
        let network = validate("rpc = ['http://x']\nmax_fee_gwei = 7")?.context("a network")?;
        assert_eq!((network.endpoints.finality, network.max_fee_gwei), (Finality::Finalized, 7));
        let network = validate("rpc = ['http://x']")?.context("a network")?;
        assert_eq!(network.max_fee_gwei, 500);
        Ok(())
    }

    #[test]
    fn the_embedded_ledger_is_served_to_this_machine_alone() -> Result<()> {
        let listen = |text: &str| toml::from_str::<LedgerFile>(text)?.listen();
        assert_eq!(listen("listen = '127.0.0.1:8545'")?.map(|address| address.port()), Some(8545));
        assert!(listen("listen = '0.0.0.0:8545'").is_err());
        assert!(listen("listen = '127.0.0.1:8545'\nrpc = ['http://x']").is_err());
        Ok(())
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, wrong) in [
            ("rpc = ['localhost:8545']", "ledger.rpc"),
            ("rpc = ['http://x']\nfinality = 'soon'", "ledger.finality"),
            ("finality = 'safe'", "ledger.finality: says nothing without `rpc`"),
            ("key_file = 'x'", "ledger.key_file"),
            ("rpc = ['http://x']\nkey_password_file = 'x'", "set key_file too"),
            ("max_fee_gwei = 7", "ledger.max_fee_gwei"),
            ("rpc = ['http://x']\ncontract = '7'", "contract"),
            ("endpoints = []", "unknown field"),
        ] {
            let error = validate(text).map_or_else(|error| format!("{error:#}"), |_| String::new());
            assert!(error.contains(wrong), "{text}: {error}");
        }
    }
}
