//! The device's folder, as `sealcast enroll` left it.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use sealcast_identity::{
    Certificate, DeviceId, Network, PublicKey, SigningKey, TrustAnchor, TrustError, VerifiedDevice,
};
use sealcast_ledger::{Genesis, LedgerId};
use sealcast_node::{KeyFiles, files, now_ms};

/// What a device is and where it belongs.
pub struct Folder {
    dir: PathBuf,
    /// Its id.
    pub device: DeviceId,
    /// Its public key.
    pub public_key: PublicKey,
    /// Its certificate and those above it, leaf first, without the root.
    pub chain: Vec<Certificate>,
    /// The CA's root.
    pub anchor: TrustAnchor,
    /// Ledger, broker and operator.
    pub network: Network,
}

impl Folder {
    /// Reads and checks everything but the private key.
    pub fn open(dir: &Path) -> Result<Self> {
        Self::open_at(dir, now_ms())
    }

    /// The same, as it would be at another time: Unix ms.
    pub fn open_at(dir: &Path, now: u64) -> Result<Self> {
        let path = |name: &str| dir.join(name);
        ensure!(
            path("device.pem").exists(),
            "{0} does not hold an enrolled device: have the operator run `sealcast device add NAME`, then run \
             `sealcast enroll --hub https://HUB:8443 --token-file TOKEN --dir {0}`",
            dir.display()
        );
        let anchor = TrustAnchor::new(files::certificate(&path("root.pem"))?).context("root.pem")?;
        let chain = files::certificates(&path("device.pem"))?;
        let ders: Vec<&[u8]> = chain.iter().map(Certificate::der).collect();
        let verified = anchor.verify_device(&ders, now).map_err(|error| match error {
            TrustError::Expired { .. } => anyhow::Error::new(error)
                .context("this device's certificate has expired: enrol the device again with a new token"),
            error => anyhow::Error::new(error).context(format!("{} cannot be used", path("device.pem").display())),
        })?;
        let network = Network::verify(files::read(&path("network.json"))?.as_bytes(), &anchor, now)
            .with_context(|| format!("{} cannot be used", path("network.json").display()))?;
        let VerifiedDevice { id: device, public_key, .. } = verified;
        Ok(Self { dir: dir.to_owned(), device, public_key, chain, anchor, network })
    }

    /// Reads the device's private key.
    pub fn key(&self, key_files: &KeyFiles) -> Result<SigningKey> {
        let key = key_files.read(&self.dir.join("device.key"))?;
        ensure!(
            *key.public() == self.public_key,
            "device.key in {} is not the key of device.pem: restore both from one backup, or enrol the device again in an empty folder",
            self.dir.display()
        );
        Ok(key)
    }

    /// The certificate chain as DER, leaf first, without the root.
    pub fn chain_der(&self) -> Vec<Vec<u8>> {
        self.chain.iter().map(|certificate| certificate.der().to_vec()).collect()
    }

    /// The ledger that this device believes.
    pub fn genesis(&self) -> Genesis {
        genesis(&self.network, &self.anchor)
    }
}

/// The ledger that a network descriptor names, which `anchor` verified.
pub fn genesis(network: &Network, anchor: &TrustAnchor) -> Genesis {
    Genesis {
        id: LedgerId { chain_id: network.chain_id, address: network.ledger },
        root: *anchor.root().public_key(),
        ca: network.first_ca,
        operator: network.first_operator,
    }
}
