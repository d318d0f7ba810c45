//! What may be seen by whoever is signed in.

use std::{sync::Arc, time::Instant};

use axum::{
    extract::{Path, Query, State, rejection::QueryRejection},
    http::HeaderMap,
    response::{IntoResponse as _, Response, sse},
};
use sealcast_identity::DeviceId;
use sealcast_ledger::{GroupName, LedgerId, Replica};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{body::json, session::reader};
use crate::{
    console::{Console, lock},
    fields,
    log::Filter,
    model::{
        CertificateInfo, Entry, EntryDetail, EntryPage, EntrySignature, GroupDetail, NodeDetail, Series,
        State as Whole, WirePage,
    },
    names::name,
    refused::{ErrorBody, Refused},
    view::registered_at,
};

/// Entries of one page.
const MAX_ENTRIES: usize = 200;
/// Entries beside a node or a group.
const FEW_ENTRIES: usize = 20;
/// Messages of one answer.
const MAX_WIRE: usize = 512;

/// All that an overview needs.
#[utoipa::path(get, path = "/api/state", responses((status = 200, body = Whole), (status = 401, body = ErrorBody)))]
pub async fn state(State(console): State<Arc<Console>>, headers: HeaderMap) -> Result<Response, Refused> {
    reader(&console, &headers)?;
    json(&console.state())
}

/// Where a reader of the feed was.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct After {
    /// The id of the last event that it knows, as `event` of the state. The header `Last-Event-ID` comes first.
    after: Option<u64>,
}

/// What happens, as server-sent events: totals, node, group, alarms, entry, wire, links, value, verify, action, demo. `reset`:
/// load the state again.
#[utoipa::path(get, path = "/api/feed", params(After), responses(
    (status = 200, content_type = "text/event-stream", body = String),
    (status = 401, body = ErrorBody),
    (status = 503, body = ErrorBody, description = "As many read it as may"),
))]
pub async fn feed(
    State(console): State<Arc<Console>>,
    headers: HeaderMap,
    query: Result<Query<After>, QueryRejection>,
) -> Result<Response, Refused> {
    let (id, _) = reader(&console, &headers)?;
    let Query(After { after }) = query.map_err(|error| Refused::bad(error.body_text()))?;
    let last = headers.get("last-event-id").and_then(|value| value.to_str().ok()?.parse().ok());
    let place = console
        .feeds
        .clone()
        .try_acquire_owned()
        .map_err(|_| Refused::not_now("busy", "as many pages as may be are open: close one, and try again"))?;
    let lives = {
        let console = console.clone();
        move || {
            let _held = &place;
            console.sessions.lives(id, Instant::now())
        }
    };
    let events = console.feed.clone().read(last.or(after), console.setup.stop.clone(), lives);
    Ok(sse::Sse::new(events).keep_alive(sse::KeepAlive::default()).into_response())
}

/// A device.
#[utoipa::path(get, path = "/api/nodes/{id}", params(("id" = String, Path)), responses(
    (status = 200, body = NodeDetail), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
))]
pub async fn node(
    State(console): State<Arc<Console>>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Response, Refused> {
    reader(&console, &headers)?;
    let unknown = || Refused::not_found(format!("no device {id:.64} is registered"));
    let device_id: DeviceId = id.parse().map_err(|_| unknown())?;
    let node = console.view().nodes.into_iter().find(|node| node.id == id).ok_or_else(unknown)?;
    let report = console.reports.of(&id).unwrap_or_default();
    let (certificate, public_key, contract_record, entries) = {
        let replica = console.replica();
        let device = replica.device_by_id(&device_id).ok_or_else(unknown)?;
        let log = lock(&console.log);
        let certificate = CertificateInfo {
            sha256: hex::encode(<[u8; 32]>::from(device.certificate)),
            subject: format!("CN={id}"),
            serial: device.serial.to_string(),
            registered: registered_at(&log, device),
            not_after: device.not_after_s.saturating_mul(1000),
        };
        let filter = Filter { limit: FEW_ENTRIES, node: Some(id.clone()), ..Filter::default() };
        let key = hex::encode(device.key.to_uncompressed());
        (certificate, key, fields::record(&replica, device), log.entries(&filter).0)
    };
    let reported = Some(report.at).filter(|at| *at > 0);
    let (refusals, quality) = (report.refused, report.quality);
    json(&NodeDetail { node, certificate, public_key, contract_record, refusals, quality, entries, reported })
}

/// A group.
#[utoipa::path(get, path = "/api/groups/{name}", params(("name" = String, Path)), responses(
    (status = 200, body = GroupDetail), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
))]
pub async fn group(
    State(console): State<Arc<Console>>,
    headers: HeaderMap,
    Path(name): Path<String>,
) -> Result<Response, Refused> {
    reader(&console, &headers)?;
    let unknown = || Refused::not_found(format!("there is no group {name:.64}"));
    let group_name: GroupName = name.parse().map_err(|_| unknown())?;
    let group = console.view().groups.into_iter().find(|group| group.name == name).ok_or_else(unknown)?;
    let replica = console.replica();
    let known = replica.group_by_name(&group_name).ok_or_else(unknown)?;
    let log = lock(&console.log);
    let limits = known.limits.iter().map(|(topic, it)| fields::limits(&replica, &topic.to_string(), &it.limits));
    let filter = Filter { limit: FEW_ENTRIES, group: Some(name.clone()), ..Filter::default() };
    json(&GroupDetail {
        group,
        policy: fields::policy(&known.policy),
        epochs: log.epochs(known.number),
        limits: limits.collect(),
        entries: log.entries(&filter).0,
    })
}

/// Which entries.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// Older than this one.
    before: Option<u64>,
    /// At most so many, up to 200.
    limit: Option<usize>,
    /// Of this kind, such as `granted`.
    kind: Option<String>,
    /// By this device, or about it.
    node: Option<String>,
    /// About this group.
    group: Option<String>,
}

/// Entries of the ledger, newest first. Older ones than the newest 20,000 are left to `sealcast ledger show`.
#[utoipa::path(get, path = "/api/entries", params(Asked), responses(
    (status = 200, body = EntryPage), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
))]
pub async fn entries(
    State(console): State<Arc<Console>>,
    headers: HeaderMap,
    query: Result<Query<Asked>, QueryRejection>,
) -> Result<Response, Refused> {
    reader(&console, &headers)?;
    let Query(Asked { before, limit, kind, node, group }) = query.map_err(|error| Refused::bad(error.body_text()))?;
    let limit = limit.unwrap_or(MAX_ENTRIES).min(MAX_ENTRIES);
    let (entries, more) = lock(&console.log).entries(&Filter { before, limit, kind, node, group });
    json(&EntryPage { entries, more })
}

/// An entry of the ledger.
#[utoipa::path(get, path = "/api/entries/{index}", params(("index" = u64, Path)), responses(
    (status = 200, body = EntryDetail), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
))]
pub async fn entry(
    State(console): State<Arc<Console>>,
    headers: HeaderMap,
    Path(index): Path<String>,
) -> Result<Response, Refused> {
    reader(&console, &headers)?;
    let unknown = || Refused::not_found(format!("the ledger has no entry {index:.20}"));
    let index: u64 = index.parse().map_err(|_| unknown())?;
    if index >= console.replica().height() {
        return Err(unknown());
    }
    let page = (console.setup.records)(index, 1).await.map_err(|error| Refused::internal(&error))?;
    let record = page.first().ok_or_else(unknown)?;
    let replica = console.replica();
    let log = lock(&console.log);
    let signed = &record.entry;
    let keys = log.keys_of(&replica, signed.originator());
    // For which contract it was signed: the ledger may have moved.
    let by = |id: &LedgerId| Some((keys.iter().find(|key| signed.is_signed_by(key, id))?, *id));
    let found = log.ids(&replica).find_map(by);
    let (key, id) = (found.map(|(key, _)| key), found.map_or(replica.genesis().id, |(_, id)| id));
    let (r, s) = signed.signature().split_at(32);
    json(&EntryDetail {
        entry: log.entry(index).cloned().unwrap_or_else(|| old_entry(&replica, record)),
        fields: fields::fields(&replica, signed.body()),
        signature: EntrySignature {
            r: hex::encode(r),
            s: hex::encode(s),
            key: key.or(keys.first()).map(|key| hex::encode(key.to_uncompressed())),
            good: key.is_some(),
        },
        nonce: signed.nonce(),
        digest: signed.digest(&id).to_string(),
        head_before: replica.head_at(index).map(|head| head.to_string()).unwrap_or_default(),
        head: record.head.to_string(),
        record: hex::encode(record.encode()),
    })
}

/// An entry that is older than those which are kept.
fn old_entry(replica: &Replica, record: &sealcast_ledger::Record) -> Entry {
    let (by, kind) = (name(replica, record.entry.originator()), record.entry.kind().to_string());
    let (index, at, text) = (record.index, record.time_s.saturating_mul(1000), format!("{by}: {kind}"));
    Entry { index, at, kind, by, node: None, group: None, text }
}

/// How many.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct Most {
    /// At most so many, up to 512.
    limit: Option<usize>,
}

/// The last messages at the hub's own broker.
#[utoipa::path(get, path = "/api/wire", params(Most), responses(
    (status = 200, body = WirePage), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
))]
pub async fn wire(
    State(console): State<Arc<Console>>,
    headers: HeaderMap,
    query: Result<Query<Most>, QueryRejection>,
) -> Result<Response, Refused> {
    reader(&console, &headers)?;
    let Query(Most { limit }) = query.map_err(|error| Refused::bad(error.body_text()))?;
    let messages = lock(&console.traffic).newest(limit.unwrap_or(MAX_WIRE));
    json(&WirePage { messages })
}

#[derive(Serialize, ToSchema)]
struct ValuePage {
    series: Vec<Series>,
}

/// Readings on the ledger, and those that nodes share, with their verdicts.
#[utoipa::path(get, path = "/api/values", responses((status = 200, body = ValuePage), (status = 401, body = ErrorBody)))]
pub async fn values(State(console): State<Arc<Console>>, headers: HeaderMap) -> Result<Response, Refused> {
    reader(&console, &headers)?;
    let mut series = lock(&console.log).values.series();
    series.extend(lock(&console.shared).series());
    json(&ValuePage { series })
}
