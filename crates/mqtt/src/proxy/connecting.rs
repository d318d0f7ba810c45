//! CONNECT between the client and the broker: what the driver is asked, and what goes up.

use bytes::Bytes;

use super::types::{AnswerError, ConnectRequest, Credentials, ProxyConfig, WillAnswer, WillRequest};
use crate::packets::{Connect, Properties, Property, Version};

/// Why a CONNECT of MQTT 3.1 is refused.
pub(super) const NO_CLIENT_ID: &str = "MQTT 3.1 has no client without a client identifier";

/// The version in which the broker is spoken to for a client of `version`.
pub(super) fn upstream_version(version: Version) -> Version {
    if version == Version::V31 { Version::V311 } else { version }
}

/// Whether a broker of MQTT 3.1 has to refuse the client's identifier. Longer ones than 23 characters are the broker's to
/// judge: MQTT 3.1.1 has no such limit, and clients that call themselves 3.1 go beyond it.
pub(super) fn lacks_client_id(connect: &Connect) -> bool {
    connect.version == Version::V31 && connect.client_id.as_str().is_empty()
}

/// CONNECT as the driver is asked about it.
pub(super) fn connect_request(connect: &Connect) -> ConnectRequest {
    let session_expiry_s = match connect.version {
        Version::V5 => connect.properties.session_expiry_s().unwrap_or(0),
        Version::V31 | Version::V311 if connect.clean_start => 0,
        Version::V31 | Version::V311 => u32::MAX,
    };
    ConnectRequest {
        version: upstream_version(connect.version),
        client_id: connect.client_id.clone(),
        clean_start: connect.clean_start,
        keep_alive_s: connect.keep_alive_s,
        session_expiry_s,
        credentials: Credentials { username: connect.username.clone(), password: connect.password.clone() },
        will: connect.will.as_ref().map(|will| WillRequest {
            topic: will.topic.clone(),
            payload: will.payload.clone(),
            qos: will.qos,
            retain: will.retain,
            delay_s: will.properties.will_delay_s(),
            sealed_properties: will.properties.partition_sealed().0.without_agents().encode().unwrap_or_default(),
        }),
    }
}

/// CONNECT as the broker gets it: the will sealed, `credentials` in the place of the client's own if there are any, and in
/// MQTT 5 the sizes that sealing changes. As it came if nothing is to be changed.
pub(super) fn connect_upstream(
    config: &ProxyConfig,
    frame: &Bytes,
    connect: &Connect,
    will: WillAnswer,
    credentials: Option<Credentials>,
) -> Result<Bytes, AnswerError> {
    let mut changed = Connect { version: upstream_version(connect.version), ..connect.clone() };
    if let Some(Credentials { username, password }) = credentials {
        (changed.username, changed.password) = (username, password);
    }
    match will {
        WillAnswer::AsIs => {}
        WillAnswer::Dropped => changed.will = None,
        WillAnswer::Sealed(payload) => {
            let Some(will) = &mut changed.will else { return Err(AnswerError::Will("it has no will".into())) };
            will.payload = payload;
            will.properties = will.properties.partition_sealed().1;
        }
    }
    if changed.version == Version::V5 {
        let wanted = changed.properties.maximum_packet_size();
        let raised = wanted.map_or(u32::MAX, |size| size.saturating_add(config.open_overhead_bytes));
        changed.properties.set(Property::MaximumPacketSize(raised.min(config.max_frame_bytes)));
        lower_aliases(&mut changed.properties, config.max_topic_aliases);
    }
    if changed == *connect {
        return Ok(frame.clone());
    }
    changed.encode().map_err(|error| AnswerError::Will(error.to_string()))
}

/// Lowers Topic Alias Maximum to what is kept here.
pub(super) fn lower_aliases(properties: &mut Properties, max: u16) {
    if properties.topic_alias_maximum() > max {
        properties.set(Property::TopicAliasMaximum(max));
    }
}
