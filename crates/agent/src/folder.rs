//! The device's folder, as `sealcast enroll` left it.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use sealcast_identity::{Certificate, DeviceId, Network, SigningKey, TrustAnchor, TrustError, key_from_pem};
use sealcast_ledger::{Genesis, LedgerId};
use sealcast_node::{files, now_ms};

/// What a device is and where it belongs.
pub struct Folder {
    /// Its id.
    pub device: DeviceId,
    /// Its private key, PEM, from which [`Folder::key`] makes a key for each part that needs one.
    key_pem: zeroize::Zeroizing<String>,
    /// Its certificate and those above it, leaf first, without the root.
    pub chain: Vec<Certificate>,
    /// The CA's root.
    pub anchor: TrustAnchor,
    /// Ledger, broker and operator.
    pub network: Network,
}

impl Folder {
    /// Reads and checks everything.
    pub fn open(dir: &Path) -> Result<Self> {
        let path = |name: &str| dir.join(name);
        ensure!(
            path("device.pem").exists(),
            "{0} does not hold an enrolled device: have the operator run `sealcast device add NAME`, then run \
             `sealcast enroll --hub https://HUB:8443 --token-file TOKEN --dir {0}`",
            dir.display()
        );
        let anchor = TrustAnchor::new(files::certificate(&path("root.pem"))?).context("root.pem")?;
        let chain = files::certificates(&path("device.pem"))?;
        let now = now_ms();
        let ders: Vec<&[u8]> = chain.iter().map(Certificate::der).collect();
        let verified = anchor.verify_device(&ders, now).map_err(|error| match error {
            TrustError::Expired { .. } => anyhow::Error::new(error)
                .context("this device's certificate has expired: enrol the device again with a new token"),
            error => anyhow::Error::new(error).context(format!("{} cannot be used", path("device.pem").display())),
        })?;
        let network = Network::verify(files::read(&path("network.json"))?.as_bytes(), &anchor, now)
            .with_context(|| format!("{} cannot be used", path("network.json").display()))?;
        let folder =
            Self { device: verified.id, key_pem: files::read_secret(&path("device.key"))?, chain, anchor, network };
        ensure!(
            folder.key()?.public() == &verified.public_key,
            "device.key in {} is not the key of device.pem: restore both from one backup, or enrol the device again in an empty folder",
            dir.display()
        );
        Ok(folder)
    }

    /// The device's key.
    pub fn key(&self) -> Result<SigningKey> {
        key_from_pem(&self.key_pem).context("device.key cannot be used")
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
