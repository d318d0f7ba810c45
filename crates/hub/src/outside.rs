//! What a monitoring system learns of a hub.

use std::sync::{
    Arc, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use sealcast_broker::{Cause, Stats};
use sealcast_hub_core::SharedReplica;
use sealcast_identity::est;
use sealcast_node::monitor::{Figure, Labels, Monitored};

use crate::carrier::Carrier;

/// What the hub's servers count.
#[derive(Default)]
pub struct Counts {
    /// Calls of devices and the operator to the relay.
    pub calls: AtomicU64,
    enrolments: Outcomes,
    renewals: Outcomes,
}

#[derive(Default)]
struct Outcomes {
    done: AtomicU64,
    refused: AtomicU64,
}

impl Outcomes {
    fn note(&self, done: bool) {
        let count = if done { &self.done } else { &self.refused };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// Counts what EST answers.
pub async fn count_enrolments(State(counts): State<Arc<Counts>>, request: Request, next: Next) -> Response {
    let outcomes = match request.uri().path() {
        est::ENROLL_PATH => Some(&counts.enrolments),
        est::REENROLL_PATH => Some(&counts.renewals),
        _ => None,
    };
    let response = next.run(request).await;
    if let Some(outcomes) = outcomes {
        outcomes.note(response.status().is_success());
    }
    response
}

/// The hub, as it is seen from outside.
pub struct Outside {
    /// The hub's own broker, or its connection to another one.
    pub carrier: Carrier,
    /// The hub's copy of the ledger.
    pub replica: SharedReplica,
    /// What the servers count.
    pub counts: Arc<Counts>,
    /// When the certificates end, Unix s, by what they are.
    pub certificates: Vec<(&'static str, u64)>,
}

impl Monitored for Outside {
    async fn figures(&self) -> Vec<Figure> {
        let mut figures = self.of_ledger();
        figures.extend(self.of_servers());
        let stats = self.carrier.stats().await;
        if !self.carrier.is_own() {
            let help = "Whether the hub is connected to the broker";
            figures.push(Figure::gauge("broker_connection_up", help, stats.is_ok()));
        }
        if let Ok(Some(stats)) = stats {
            figures.extend(of_broker(&stats));
        }
        figures
    }

    async fn missing(&self) -> Vec<String> {
        let error = self.carrier.stats().await.err();
        error.map(|error| format!("{error:#}")).into_iter().collect()
    }
}

impl Outside {
    fn of_ledger(&self) -> Vec<Figure> {
        let replica = self.replica.read().unwrap_or_else(PoisonError::into_inner);
        let active = replica.devices().filter(|device| device.is_active()).count();
        vec![
            Figure::version(env!("CARGO_PKG_VERSION")),
            Figure::gauge("ledger_entries", "Entries of the ledger", replica.height()),
            Figure::gauge("devices", "Devices that are registered and not revoked", active),
            Figure::gauge("groups", "Groups on the ledger", replica.groups().count()),
        ]
    }

    fn of_servers(&self) -> Vec<Figure> {
        let Counts { calls, enrolments, renewals } = &*self.counts;
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let outcomes = [("enrol", enrolments), ("renew", renewals)].into_iter().flat_map(|(kind, of)| {
            [("done", &of.done), ("refused", &of.refused)]
                .map(|(outcome, count)| (vec![("kind", kind.to_owned()), ("outcome", outcome.to_owned())], load(count)))
        });
        let ends = self
            .certificates
            .iter()
            .map(|(name, ends_s)| (vec![("certificate", (*name).to_owned())], (*ends_s).into()));
        vec![
            Figure::counter("relay_calls", "Calls to the relay that were taken", vec![(Labels::new(), load(calls))]),
            Figure::counter("enrolments", "Answers to enrolments and renewals", outcomes.collect()),
            Figure::gauges("certificate_expiry_timestamp_seconds", "When it ends, Unix time", ends.collect()),
        ]
    }
}

fn of_broker(stats: &Stats) -> Vec<Figure> {
    let codes = Cause::ALL.iter().map(|cause| (vec![("code", cause.code().to_owned())], stats.causes.of(*cause)));
    vec![
        Figure::gauge("broker_connections", "Clients that are connected", stats.connections),
        Figure::gauge("broker_sessions", "Sessions, online and offline", stats.sessions),
        Figure::gauge("broker_retained_messages", "Retained messages", stats.retained),
        Figure::gauge("broker_queued_messages", "Messages that wait for sessions or are in flight", stats.queued),
        Figure::gauge("broker_queued_bytes", "Bytes of them", stats.queued_bytes),
        Figure::gauge("broker_held_up_connections", "Publishers that wait for room in a queue", stats.held_up),
        Figure::counter(
            "broker_skipped",
            "Times that a will or a message of the hub found no room in a session",
            vec![(Labels::new(), stats.skipped)],
        ),
        Figure::counter("refused", "What was refused by cause, which docs/reasons.md explains", codes.collect()),
    ]
}
