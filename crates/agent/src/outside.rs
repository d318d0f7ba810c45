//! What a monitoring system learns of an agent.

use std::sync::{Arc, atomic::Ordering};

use sealcast_agent_core::{Cause, GroupOverview, Overview, Traffic};
use sealcast_ledger_client::EndpointState;
use sealcast_node::{
    monitor::{Figure, Labels, Monitored, Value},
    now_ms,
};

use crate::client::Shared;

/// The agent, as it is seen from outside.
pub struct Outside(pub Arc<Shared>);

impl Monitored for Outside {
    async fn figures(&self) -> Vec<Figure> {
        let shared = &*self.0;
        let overview = shared.data.overview(now_ms());
        let mut figures = of_agent(shared, &overview);
        figures.extend(of_groups(&overview.groups));
        figures.extend(shared.network.iter().flat_map(|network| of_endpoints(&network.states())));
        figures.push(Figure::counter(
            "refused",
            "What was refused by cause, which docs/reasons.md explains",
            Cause::ALL.iter().map(|cause| (code(*cause), shared.events.count(*cause))).collect(),
        ));
        figures
    }

    async fn missing(&self) -> Vec<String> {
        let shared = &*self.0;
        let mut missing: Vec<String> =
            shared.data.overview(now_ms()).missing.iter().map(|why| format!("{}: {why}", why.cause)).collect();
        if !shared.data.is_hub_answering() {
            missing.push("there is no control connection to the hub".to_owned());
        }
        if let Some(index) = shared.network.as_ref().and_then(|network| network.parted()) {
            missing.push(format!(
                "{}: the endpoints in agent.toml show different ledgers from entry {index} on, so nothing is read",
                Cause::LedgerParted
            ));
        }
        if shared.store.is_failing() {
            missing.push(format!("{}: the agent's disk cannot be written", Cause::DiskFails));
        }
        missing
    }
}

fn of_agent(shared: &Shared, overview: &Overview) -> Vec<Figure> {
    let counts = &shared.counts;
    let archive = shared.values.with(|values| values.archives().waiting());
    let retained = shared.store.retained_topics().iter().count();
    let mut figures = vec![
        Figure::version(env!("CARGO_PKG_VERSION")),
        Figure::gauge("clients", "Local clients that are connected", counts.clients.load(Ordering::Relaxed)),
        Figure::gauge(
            "control_connection_up",
            "Whether the control connection to the hub is up",
            shared.data.is_hub_answering(),
        ),
        Figure::gauge("ledger_entries", "Entries of the ledger that were read", overview.height),
        Figure::gauge(
            "certificate_expiry_timestamp_seconds",
            "When the device's certificate ends, Unix time",
            counts.certificate_ends_s.load(Ordering::Relaxed),
        ),
        Figure::gauge("archive_waiting_messages", "Messages of archives that wait on disk", archive.messages),
        Figure::gauge("archive_waiting_bytes", "Bytes of them", archive.bytes),
        Figure::gauge("retained_messages", "Retained messages that are sealed again at each epoch", retained),
        Figure::gauge("disk_failing", "Whether the last write failed because of the disk", shared.store.is_failing()),
    ];
    if let Ok(waiting) = shared.store.readings_waiting() {
        figures.push(Figure::gauge("readings_waiting", "Readings that wait for the ledger", waiting));
    }
    let help = "How many others have read more of the ledger than is shown to this device";
    figures.push(Figure::gauge("ledger_withheld_by", help, overview.withheld_by));
    if let Some((agreed, _)) = overview.parted {
        let help = "From which entry on, at the earliest, somebody reads another ledger than this device";
        figures.push(Figure::gauge("ledger_parted_entry", help, agreed));
    }
    if let Some(age_ms) = overview.operator_word_age_ms {
        let help = "How old the operator's newest word on the ledger is";
        figures.push(Figure::gauge("operator_word_age_seconds", help, seconds(age_ms)));
    }
    figures
}

fn of_groups(groups: &[GroupOverview]) -> Vec<Figure> {
    let gauge = |name, help, value: fn(&GroupOverview) -> Value| {
        Figure::gauges(name, help, groups.iter().map(|group| (named(group), value(group))).collect())
    };
    let counter = |name, help, value: fn(&GroupOverview) -> u64| {
        Figure::counter(name, help, groups.iter().map(|group| (named(group), value(group))).collect())
    };
    vec![
        gauge("group_epoch", "The ledger's epoch of the keys that are held", |group| group.epoch.into()),
        gauge("group_generation", "How often the group was reset, by these keys", |group| group.generation.into()),
        gauge("group_members", "Members in that epoch, 0 without keys", |group| group.members.into()),
        counter("sealed_messages", "Messages that were sealed", |group| messages(group.sealed)),
        counter("sealed_payload_bytes", "Bytes of their payloads", |group| group.sealed.bytes),
        counter("opened_messages", "Messages for clients that were opened", |group| messages(group.opened)),
        counter("opened_payload_bytes", "Bytes of their payloads", |group| group.opened.bytes),
    ]
}

fn of_endpoints(all: &[EndpointState]) -> Vec<Figure> {
    let gauge = |name, help, value: fn(&EndpointState) -> Value| {
        Figure::gauges(name, help, all.iter().map(|state| (at(state), value(state))).collect())
    };
    vec![
        gauge("ledger_endpoint_up", "Whether the endpoint gave a right answer last", |state| state.answers.into()),
        gauge("ledger_endpoint_behind", "Whether others have shown more for a minute", |state| state.is_behind.into()),
        gauge("ledger_endpoint_entries", "How many final entries it has", |state| state.height.unwrap_or(0).into()),
        Figure::counter(
            "ledger_endpoint_lies",
            "How often it showed what is not so",
            all.iter().map(|state| (at(state), state.lies)).collect(),
        ),
    ]
}

fn at(state: &EndpointState) -> Labels {
    vec![("endpoint", state.name.clone())]
}

fn messages(traffic: Traffic) -> u64 {
    traffic.messages
}

fn named(group: &GroupOverview) -> Labels {
    vec![("group", group.name.clone())]
}

fn code(cause: Cause) -> Labels {
    vec![("code", cause.code().to_owned())]
}

#[expect(clippy::cast_precision_loss, reason = "a figure for a chart")]
fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}
