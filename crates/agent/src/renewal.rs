//! The task that renews the device's certificate over EST (RFC 7030 section 4.2.2), for the same key.
//!
//! The hub has the new certificate on the ledger before it answers. If the answer is lost, the old certificate is good for
//! another try. The new one is on disk before it is used; connections that stand go on with the old one.

use std::{
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use rustls::ClientConfig;
use sealcast_agent_core::{Renewal, Warning, control::Input};
use sealcast_identity::{Certificate, DeviceId, SigningKey, TrustAnchor, certificates_to_pem, csr, est};
use sealcast_ledger::Hash;
use sealcast_node::{
    files::{self, Mode},
    https, now_ms, output,
    tls::{self, Identity},
    upstream::Upstream,
};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{counts::Counts, data::DataPlane, enroll::certified};

/// The longest sleep: the wall clock, by which a certificate ends, may be set meanwhile.
const TICK: Duration = Duration::from_secs(1);

/// See the module.
pub struct Renewer {
    /// The device's folder.
    pub dir: PathBuf,
    /// The device.
    pub device: DeviceId,
    /// Its key.
    pub key: SigningKey,
    /// Its certificate and those above it, leaf first, without the root.
    pub chain: Vec<Certificate>,
    /// The CA's root.
    pub anchor: TrustAnchor,
    /// The hub's URL.
    pub hub: String,
    /// Whose new connections get the new certificate.
    pub upstream: Upstream,
    /// The same, for calls over HTTPS.
    pub hub_tls: watch::Sender<Arc<ClientConfig>>,
    /// Which knows what the ledger has.
    pub data: Arc<DataPlane>,
    /// Where the certificate's end is shown.
    pub counts: Arc<Counts>,
    /// To the control task, which brings it into the groups.
    pub control: mpsc::Sender<Input>,
}

impl Renewer {
    /// Runs until `stop`.
    pub async fn run(mut self, stop: CancellationToken) -> Result<()> {
        self.show_end();
        loop {
            if stop.run_until_cancelled(self.renew_in_time()).await.is_none() {
                return Ok(());
            }
        }
    }

    /// Waits until it is time, and renews the certificate, however many tries that takes.
    async fn renew_in_time(&mut self) -> () {
        let Some(present) = self.chain.first().cloned() else { return std::future::pending().await };
        let mut renewal = Renewal::new(&present, random(), now_ms());
        loop {
            while !renewal.is_due(now_ms()) {
                let left = Duration::from_millis(renewal.due_ms().saturating_sub(now_ms()));
                tokio::time::sleep(left.min(TICK)).await;
                if self.is_replaced(&present) {
                    renewal.handle_replaced(now_ms());
                }
            }
            match self.renew().await {
                Ok(()) => return,
                Err(error) => self.warn(&present, renewal.handle_failure(random(), now_ms()), &error),
            }
        }
    }

    fn show_end(&self) {
        let ends_s = self.chain.first().map_or(0, Certificate::not_after_s);
        self.counts.certificate_ends_s.store(ends_s, Ordering::Relaxed);
    }

    /// Whether the ledger has a newer certificate of this device, for the same key: then its answer was lost.
    fn is_replaced(&self, present: &Certificate) -> bool {
        let hash = Hash::from(present.fingerprint().0);
        self.data.with_replica(|replica| {
            replica.device_by_id(&self.device).is_some_and(|device| {
                let is_known = device.registration_of(&hash).is_some();
                device.key == *self.key.public() && device.certificate != hash && is_known
            })
        })
    }

    async fn renew(&mut self) -> Result<()> {
        let ders: Vec<Vec<u8>> = self.chain.iter().map(|certificate| certificate.der().to_vec()).collect();
        let root = self.anchor.root().der();
        let identity = Identity { chain: &ders, key: &self.key };
        let https = https::Https::new(&self.hub, tls::client(root, Some(&identity))?)?;
        let authorities = est::parse_certs_only(&https.request(est::CA_CERTIFICATES_PATH, None).await?)?;
        let request = https::Body {
            authorization: None,
            content_type: est::REQUEST_TYPE,
            bytes: est::simple_enroll_body(&csr(&self.key, &self.device)?).into_bytes(),
        };
        let answer = https.request(est::REENROLL_PATH, Some(request)).await?;
        let (chain, verified) = certified(&answer, authorities, &self.key, &self.device, &self.anchor)?;
        let ends = |chain: &[Certificate]| chain.first().map_or(0, Certificate::not_after_s);
        ensure!(
            ends(&chain) > ends(&self.chain),
            "the hub's new certificate does not last longer than the present one"
        );
        self.replace(chain).await?;
        info!(device = %self.device, until = output::utc(verified.certificate.not_after_s()), "certificate renewed");
        Ok(())
    }

    /// Uses the new certificate from now on, once it is on disk.
    async fn replace(&mut self, chain: Vec<Certificate>) -> Result<()> {
        let ders: Vec<Vec<u8>> = chain.iter().map(|certificate| certificate.der().to_vec()).collect();
        let identity = Identity { chain: &ders, key: &self.key };
        let config = tls::client(self.anchor.root().der(), Some(&identity))?;
        let pem = certificates_to_pem(&chain);
        files::blocking(|| files::write(&self.dir.join("device.pem"), pem.as_bytes(), Mode::Public))?;
        self.upstream.set_identity(&identity)?;
        self.hub_tls.send_replace(config);
        self.chain = chain;
        self.show_end();
        self.control.send(Input::Renewed { chain: ders }).await.context("the control task has ended")
    }

    fn warn(&self, present: &Certificate, warning: Option<Warning>, error: &anyhow::Error) {
        let (device, until) = (&self.device, output::utc(present.not_after_s()));
        match warning {
            None => info!(%device, "the certificate was not renewed yet, and is tried again: {error:#}"),
            Some(Warning::Ends { left_ms }) => warn!(
                %device, days_left = left_ms / 86_400_000, until,
                "the device's certificate cannot be renewed: {error:#}. Once it has ended, the device must enrol again \
                 with a new token"
            ),
            Some(Warning::Ended) => warn!(
                %device, until,
                "the device's certificate has ended and cannot be renewed: enrol the device again with a new token \
                 ({error:#})"
            ),
        }
    }
}

/// Spreads devices in time: if there is no randomness, they come together.
fn random() -> u64 {
    let mut bytes = [0; 8];
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    u64::from_be_bytes(bytes)
}
