//! What a client did for which its connection is closed, in words.

use sealcast_mqtt::reason;

use crate::cause::Cause;

/// What the log calls it.
pub(crate) fn cause(code: u8) -> Cause {
    match code {
        reason::NOT_AUTHORIZED => Cause::Publish,
        reason::QUOTA_EXCEEDED => Cause::RetainedFull,
        reason::KEEP_ALIVE_TIMEOUT => Cause::KeepAlive,
        _ => Cause::Protocol,
    }
}

/// What a client did for which its connection is closed, for the log.
pub(crate) fn fault(code: u8) -> &'static str {
    match code {
        reason::MALFORMED_PACKET => "it sent a malformed packet",
        reason::PROTOCOL_ERROR => "it broke the protocol",
        reason::NOT_AUTHORIZED => "it published where its device may not, which MQTT 3 has no other answer to",
        reason::KEEP_ALIVE_TIMEOUT => "it sent nothing for one and a half times its keep-alive",
        reason::TOPIC_NAME_INVALID => "it published to a topic that is not valid",
        reason::RECEIVE_MAXIMUM_EXCEEDED => {
            "it sent more QoS 2 messages at once than the broker's Receive Maximum allows"
        }
        reason::TOPIC_ALIAS_INVALID => "it used a topic alias that is not valid",
        reason::PACKET_TOO_LARGE => "it sent a packet that is larger than max_packet_bytes",
        reason::QUOTA_EXCEEDED => "it published more than its limits allow, which MQTT 3 has no other answer to",
        _ => "it sent something that the broker does not accept",
    }
}
