//! What an entry says, by name.

use sealcast_ledger::{
    Authenticity, Body, Device, DeviceState, GroupNumber, Limits, Number, Policy, Replica, Reporters, SequenceRule,
};
use serde_json::{Value, json};

use crate::{names::name, values::bands};

/// An entry's fields, with names beside numbers.
pub fn fields(replica: &Replica, body: &Body) -> Value {
    let who = |number: Number| name(replica, number);
    let which =
        |number: GroupNumber| replica.group(number).map_or_else(|| number.to_string(), |it| it.name.to_string());
    match body {
        Body::DeviceRegistered(it) => json!({
            "device": it.device.as_str(), "public_key": hex::encode(it.public_key.to_uncompressed()),
            "certificate": it.certificate.to_string(), "serial": it.serial.to_string(), "not_after_s": it.not_after_s,
        }),
        Body::DeviceRevoked(it) => json!({ "device": who(it.device), "reason": it.reason.as_str() }),
        Body::KeysPublished(it) => json!({
            "key_package": it.key_package.to_string(), "certificate": it.certificate.to_string(), "rejoin": it.rejoin,
        }),
        Body::GroupCreated(it) => json!({
            "name": it.name.as_str(), "filters": it.filters.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "policy": policy(&it.policy),
        }),
        Body::Granted(it) => json!({ "group": which(it.group), "device": who(it.device) }),
        Body::Revoked(it) => {
            json!({ "group": which(it.group), "device": who(it.device), "reason": it.reason.as_str() })
        }
        Body::Commit(it) => json!({
            "group": which(it.group), "generation": it.generation.0, "epoch": it.epoch.0,
            "commit_bytes": it.commit.len(), "commit": hex::encode(&it.commit),
        }),
        Body::Reading(it) => json!({
            "group": which(it.group), "topic": it.topic.to_string(), "time_ms": it.time_ms, "sequence": it.sequence,
            "value": it.value.to_string(), "decimals": it.decimals,
        }),
        Body::Anchor(it) => json!({ "group": which(it.group), "root": it.root.to_string(), "count": it.count }),
        Body::GroupReset(it) => json!({ "group": which(it.group), "reason": it.reason.as_str() }),
        Body::LimitsSet(it) => {
            json!({ "group": which(it.group), "limits": limits(replica, &it.topic.to_string(), &it.limits) })
        }
        Body::FaultReported(it) => json!({
            "group": which(it.group), "generation": it.generation.0, "epoch": it.epoch.0, "kept_out": it.kept_out,
        }),
        Body::KeyRotated(it) => json!({
            "whose": who(it.whose), "public_key": hex::encode(it.public_key.to_uncompressed()),
            "proof": hex::encode(it.proof),
        }),
        Body::Moved(it) => json!({ "to": it.to.to_string() }),
    }
}

/// A group's policy.
pub fn policy(policy: &Policy) -> Value {
    json!({
        "authenticity": match policy.authenticity {
            Authenticity::Signature => "signature",
            Authenticity::Group => "group",
        },
        "epoch_max_age_s": policy.epoch_max_age_s,
        "epoch_max_messages": policy.epoch_max_messages,
        "retention": policy.retention,
        "ledger_max_age_s": policy.ledger_max_age_s,
    })
}

/// What is asked of readings of a topic.
pub fn limits(replica: &Replica, topic: &str, limits: &Limits) -> Value {
    let bands = bands(limits);
    json!({
        "topic": topic, "min": bands.min, "max": bands.max, "step": bands.step, "decimals": limits.decimals,
        "unit": limits.unit.to_string(), "gapless": limits.sequence == SequenceRule::Gapless,
        "reporters": match &limits.reporters {
            Reporters::Granted => Value::Null,
            Reporters::Listed(numbers) => numbers.iter().map(|number| name(replica, *number)).collect(),
        },
    })
}

/// What the contract has of a device.
pub fn record(replica: &Replica, device: &Device) -> Value {
    let counts = replica.reading_counts(device.number);
    let (state, reason) = match &device.state {
        DeviceState::Active => ("active", None),
        DeviceState::Revoked { reason, .. } => ("revoked", Some(reason.to_string())),
    };
    json!({
        "number": device.number.to_string(), "id": device.id.as_str(),
        "public_key": hex::encode(device.key.to_uncompressed()), "certificate": device.certificate.to_string(),
        "serial": device.serial.to_string(), "not_after_s": device.not_after_s, "state": state, "reason": reason,
        "registered_at": device.registered_at, "next_nonce": replica.next_nonce(device.number),
        "readings_accepted": counts.accepted, "readings_refused": counts.refused,
    })
}
