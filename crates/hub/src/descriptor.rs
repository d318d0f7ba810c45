//! What devices and the operator are told of the network. It names the operator's certificate, so it changes when the ledger
//! says that the operator has another key.

use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result};
use sealcast_hub_core::SharedReplica;
use sealcast_identity::{Authority, Network, PublicKey};
use sealcast_ledger::Replica;
use sealcast_node::now_ms;
use tracing::info;

use crate::{apart::Folders, folder};

/// The descriptor, as it is signed at the moment.
pub struct Descriptor {
    folders: Folders,
    replica: SharedReplica,
    current: Mutex<(Network, String)>,
}

impl Descriptor {
    /// Of `network`, whose operator is brought up to date with the ledger's.
    pub fn new(folders: Folders, mut network: Network, replica: SharedReplica, authority: &Authority) -> Result<Self> {
        let key = operator_key(&replica)?;
        network.operator = folder::operator(&folders.hub, &key, authority, now_ms())?;
        let json = folder::network(&folders, &network, authority)?;
        Ok(Self { folders, replica, current: Mutex::new((network, json)) })
    }

    /// As JSON.
    pub fn json(&self, authority: &Authority) -> Result<String> {
        let key = operator_key(&self.replica)?;
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if *current.0.operator.public_key() != key {
            let now_ms = now_ms();
            let operator = folder::operator(&self.folders.hub, &key, authority, now_ms)?;
            let network = Network { operator, written_ms: now_ms, ..current.0.clone() };
            let json = folder::network(&self.folders, &network, authority)?;
            *current = (network, json);
            info!("the operator has another key, by the ledger: it has a certificate for it now");
        }
        Ok(current.1.clone())
    }
}

fn operator_key(replica: &SharedReplica) -> Result<PublicKey> {
    let replica: &Replica = &replica.read().unwrap_or_else(PoisonError::into_inner);
    replica.key_of(replica.genesis().id.operator()).copied().context("the ledger has no operator")
}
