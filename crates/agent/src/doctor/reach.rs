//! Whom the device reaches: its broker, its hub, and the endpoints of the ledger's network.

use std::sync::Arc;

use anyhow::Result;
use rustls::ClientConfig;
use sealcast_identity::SigningKey;
use sealcast_ledger::{Record, Replica};
use sealcast_ledger_client::{AnswerVerifier, Head, NetworkLedger, RemoteLedger};
use sealcast_node::{
    HubChannel,
    doctor::{Holder, Known, Later, Probe, Report, check_clock},
    endpoint::NetworkConfig,
    https::Https,
    now_ms,
    tls::{self, Identity},
    upstream::Upstream,
};
use sealcast_topic::ControlTopic;
use tokio::sync::watch;

use crate::{Folder, agent::upstream, config};

const BROKER: &str = "see that it runs and can be reached from here, and what its log says of this device. Its address \
                      is that from enrolment, or upstream in agent.toml";
const HUB: &str = "see that `sealcast up` runs there and can be reached from here: it renews the certificate, and takes \
                   what the broker does not carry. If its address has changed, copy network.json from the hub's folder";
const ENDPOINTS: &str = "see rpc in [ledger] of agent.toml, and whether the endpoint is up. Name more than one";

/// Who reaches out.
pub struct Reached<'a> {
    /// How.
    pub config: &'a config::Agent,
    /// As whom.
    pub folder: &'a Folder,
    /// With which key.
    pub key: &'a SigningKey,
    /// What the folder has of the ledger.
    pub known: Option<&'a Known>,
    /// The agent, if it runs.
    pub holder: Option<Holder>,
}

impl Reached<'_> {
    /// Tries each of them.
    pub async fn check(&self, report: &mut Report) {
        let chain = self.folder.chain_der();
        let identity = Identity { chain: &chain, key: self.key };
        let client = tls::client(self.folder.anchor.root().der(), Some(&identity));
        let Some(client) = report.attempt("hub", client, HUB) else { return };
        let hub_clock = self.hub(report, client.clone()).await;
        self.clock(report, hub_clock);
        self.broker(report, client).await;
        if let (Some(network), Some(known)) = (&self.config.network, self.known) {
            self.endpoints(report, network, known).await;
        }
    }

    /// What time it is there.
    async fn hub(&self, report: &mut Report, client: Arc<ClientConfig>) -> Option<Later> {
        let hub = &self.folder.network.hub;
        let date = async { Https::new(hub, client)?.date_ms().await }.await;
        let time_ms = report.attempt("hub", date, HUB)?;
        let came_ms = Some(now_ms());
        report.ok("hub", format!("{hub} answers"));
        Some(Later { what: "the hub", time_ms, came_ms })
    }

    fn clock(&self, report: &mut Report, hub_clock: Option<Later>) {
        let mut others = Vec::new();
        let issued_s = self.folder.chain.first().map(|leaf| leaf.issued_s());
        others.extend(issued_s.map(|time_s| Later { what: "the certificate", time_ms: time_s * 1000, came_ms: None }));
        let written_s = self.known.map(|known| known.replica.last_time_s());
        others.extend(written_s.map(|time_s| Later { what: "the ledger", time_ms: time_s * 1000, came_ms: None }));
        others.extend(hub_clock);
        check_clock(report, now_ms(), self.config.freshness.clock_tolerance_ms, &others);
    }

    /// Connects as the agent does, and asks how far the ledger is.
    async fn broker(&self, report: &mut Report, client: Arc<ClientConfig>) {
        let Folder { device, network, anchor, .. } = self.folder;
        let genesis = self.folder.genesis();
        let answers = AnswerVerifier::new(genesis.id, device.as_str(), anchor.clone());
        let connected = async {
            let upstream: Upstream = upstream(self.folder, self.key, self.config)?;
            let probe =
                Probe::open(&upstream, device.as_str(), &[ControlTopic::Head.to_string()], Some(answers)).await?;
            anyhow::Ok((upstream, probe))
        };
        let Some((upstream, mut probe)) = report.attempt("broker", connected.await, BROKER) else { return };
        report.ok("broker", format!("{upstream} takes this device's connection"));
        let Some(known) = self.known else { return };
        let word = probe.retained().await;
        known.check_word(report, word.as_deref(), self.config.freshness.ledger_ms, now_ms());
        let (_tls, tls) = watch::channel(client);
        let hub = RemoteLedger::new(HubChannel::new(probe.link.clone(), &network.hub, tls), genesis.id);
        if let Some(head) = report.attempt("ledger", comparable(&hub, &known.replica).await, HUB) {
            known.check_other(report, "the hub", head.height, head.hash, self.holder.is_some());
        }
    }

    /// Each endpoint answers, and has the last entry that this device has.
    async fn endpoints(&self, report: &mut Report, network: &NetworkConfig, known: &Known) {
        let Some(endpoints) = report.attempt("endpoints", network.open(), ENDPOINTS) else { return };
        let replica = &known.replica;
        let ledger = NetworkLedger::new(endpoints, self.config.contract.unwrap_or(*replica.current_id()));
        let from = replica.height().saturating_sub(1);
        // All of it: an endpoint can show another entry with the right head.
        let is_known =
            |records: &[Record]| records.iter().take_while(|record| Some(*record) == known.last.as_ref()).count();
        let read: Result<_> = ledger.records(from, 1, now_ms(), is_known).await.map_err(anyhow::Error::new);
        let read = report.attempt("endpoints", read, ENDPOINTS).is_some();
        for state in ledger.states() {
            let name = &state.name;
            match (state.answers, state.height) {
                (true, Some(height)) if state.lies == 0 && height >= replica.height() => {
                    report.ok("endpoints", format!("{name} has {height} final entries"));
                }
                (true, Some(height)) if state.lies == 0 => report.warn(
                    "endpoints",
                    format!("{name} has {height} final entries, and here are {}", replica.height()),
                    "if it stays so, leave this endpoint out of rpc",
                ),
                (true, _) => report.fail(
                    "endpoints",
                    format!("{name} shows another ledger than this device has"),
                    "leave this endpoint out of rpc",
                ),
                (false, _) if read => report.warn("endpoints", format!("{name} does not answer"), ENDPOINTS),
                (false, _) => report.fail("endpoints", format!("{name} does not answer"), ENDPOINTS),
            }
        }
    }
}

/// How far the hub's ledger is: at the height of `replica` if there it has another one, else at its end.
async fn comparable(hub: &RemoteLedger<HubChannel>, replica: &Replica) -> Result<Head> {
    let head = hub.head().await?;
    let own = replica.height();
    if let Some(last) = own.checked_sub(1).filter(|_| head.height > own) {
        let there = hub.records(last, 1).await?;
        if let Some(other) = there.first().filter(|record| record.head != replica.head()) {
            return Ok(Head { height: own, hash: other.head });
        }
    }
    Ok(head)
}
