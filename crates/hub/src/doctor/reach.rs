//! Whether the hub can be reached as devices reach it, and reaches somebody else's broker.

use std::time::Duration;

use anyhow::{Context as _, Result};
use sealcast_node::{
    doctor::{Probe, Report},
    https::Https,
    now_ms,
    tls::{self, Identity},
    upstream::{Upstream, UpstreamConfig},
};

use super::keys::Found;
use crate::config;

/// The certificate by which it is tried lasts no longer than that takes.
const HOUR: Duration = Duration::from_secs(3_600);

/// Tries both. `runs`: somebody should answer.
pub async fn check(report: &mut Report, config: &config::Hub, found: &Found, runs: bool) {
    if let (true, Some(network), Some(anchor)) = (runs, &found.network, &found.anchor) {
        let answered = async { Https::new(&network.hub, tls::client(anchor.root().der(), None)?)?.date_ms().await };
        let advice = "names in hub.toml begins with the name that devices are told: it has to lead to this machine, and \
                      est has to be an address that others reach";
        if report.attempt("reach", answered.await, advice).is_some() {
            report.ok("reach", format!("the hub answers at {}, which devices are told", network.hub));
        }
    }
    if let Some(broker) = &config.broker {
        let advice = "see [broker] of hub.toml, and what that broker's log says: docs/brokers.md";
        if let Some(upstream) = report.attempt("broker", connect(broker, config, found).await, advice) {
            report.ok("broker", format!("{upstream} takes the hub's connection"));
        }
    }
}

/// Connects as the hub does.
async fn connect(broker: &UpstreamConfig, config: &config::Hub, found: &Found) -> Result<Upstream> {
    let (Some(authority), Some(key)) = (&found.authority, &found.server_key) else {
        anyhow::bail!("not tried: it takes issuing.key and server.key")
    };
    let client = authority.issue_hub_client(key.public(), now_ms(), HOUR)?;
    let chain: Vec<Vec<u8>> = client.chain().iter().map(|certificate| certificate.der().to_vec()).collect();
    let url = broker.url.as_ref().context("no broker is named")?.to_string();
    let upstream = Upstream::open(broker, &url, authority.root().der(), &Identity { chain: &chain, key })?;
    let upstream = upstream.with_wire(config.wire.clone());
    Probe::open(&upstream, sealcast_identity::HUB_NAME, &[], None).await?;
    Ok(upstream)
}
