//! An invitation is a one-time token, of which the hub's folder keeps a hash.

use std::path::Path;

use anyhow::{Result, bail};
use sealcast_hub::{HubConfig, Tokens};
use sealcast_identity::{Certificate, DeviceId, EnrolmentToken};
use sealcast_node::{files, now_ms};

/// A device may enrol with the token, once.
pub struct Invitation {
    /// What it enrols with.
    pub token: EnrolmentToken,
    /// Until when, Unix ms.
    pub expires_ms: u64,
}

impl Invitation {
    /// A new one, which the hub does not know yet.
    pub fn new(device: DeviceId, root: &Certificate, config: &HubConfig) -> Result<Self> {
        let token = EnrolmentToken::generate(device, root)?;
        Ok(Self { token, expires_ms: now_ms() + config.token_lifetime.as_millis() as u64 })
    }
}

/// The hub's root certificate, which each token names.
pub fn root(hub: &Path) -> Result<Certificate> {
    let root = hub.join("root.pem");
    if !root.exists() {
        bail!("{} is not a hub's folder: start the hub first (`sealcast up --dir {0}`)", hub.display());
    }
    files::certificate(&root)
}

/// Makes a token for `device` and keeps its hash in the hub's folder.
pub fn invite(hub: &Path, device: DeviceId, config: &HubConfig) -> Result<Invitation> {
    let invitation = Invitation::new(device, &root(hub)?, config)?;
    Tokens::open(hub)?.put(&invitation.token.to_stored(invitation.expires_ms))?;
    Ok(invitation)
}
