//! Control packets on the wire: MQTT 3.1, 3.1.1 (OASIS 2014) and 5.0 (OASIS 2019), the broker's side only.
//! Clients' packets are decoded, the broker's are encoded; nothing else is accepted.

mod decode;
mod encode;

use std::sync::Arc;

use bytes::Bytes;

use crate::message::{Message, MessageProperties, Qos};

pub(crate) use decode::{decode_connect, decode_packet, decode_properties_blob, frame_length};
pub(crate) use encode::{encode, encode_properties_blob, publish_size};

/// Protocol version of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    V31,
    V311,
    V5,
}

/// Why bytes from a client are refused; the connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WireError {
    #[error("malformed packet: {0}")]
    Malformed(&'static str),
    #[error("protocol error: {0}")]
    Protocol(&'static str),
    #[error("MQTT protocol level {level} is not supported")]
    Version {
        /// Without the bit that marks a bridge.
        level: u8,
    },
    #[error("packet larger than the limit")]
    TooLarge,
    #[error("client identifier not valid")]
    ClientId,
}

impl WireError {
    /// The version in which a refused CONNECT is answered. Whoever asks for a later one than MQTT 5 is taken to know MQTT 5
    /// (§3.1.2.2); others read what MQTT 3.1.1 has.
    pub(crate) fn answer_version(self) -> Version {
        if matches!(self, Self::Version { level } if level > 5) { Version::V5 } else { Version::V311 }
    }

    /// Reason code for DISCONNECT or CONNACK (MQTT 5, §2.4).
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Malformed(_) => 0x81,
            Self::Protocol(_) => 0x82,
            Self::Version { .. } => 0x84,
            Self::TooLarge => 0x95,
            Self::ClientId => 0x85,
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Will {
    pub topic: String,
    pub payload: Bytes,
    pub qos: Qos,
    pub retain: bool,
    pub delay_s: u32,
    pub properties: MessageProperties,
}

#[derive(Clone, Debug)]
pub(crate) struct Connect {
    pub version: Version,
    /// The client is a bridge, by the top bit of the protocol level that mosquitto uses for it: it does not get its own
    /// messages back, and forwards retained ones as retained.
    pub bridge: bool,
    pub client_id: String,
    pub clean_start: bool,
    pub keep_alive_s: u16,
    pub username: Option<String>,
    pub will: Option<Will>,
    /// `None` for MQTT 3.
    pub session_expiry_s: Option<u32>,
    pub receive_max: u16,
    pub max_packet_bytes: Option<u32>,
    pub auth_method: bool,
    /// The client takes reason strings and user properties on every packet (MQTT 5, §3.1.2.11.7).
    pub problem_information: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Publish {
    pub topic: String,
    pub alias: Option<u16>,
    pub payload: Bytes,
    pub qos: Qos,
    pub retain: bool,
    pub id: u16,
    pub properties: MessageProperties,
}

/// Subscription options (MQTT 5, §3.8.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SubOptions {
    pub qos: Qos,
    pub no_local: bool,
    pub retain_as_published: bool,
    /// 0 always, 1 if new, 2 never.
    pub retain_handling: u8,
    pub id: Option<u32>,
}

/// What a client sends after CONNECT.
#[derive(Clone, Debug)]
pub(crate) enum Incoming {
    Publish(Publish),
    PubAck { id: u16 },
    PubRec { id: u16, code: u8 },
    PubRel { id: u16 },
    PubComp { id: u16 },
    Subscribe { id: u16, filters: Vec<(String, SubOptions)> },
    Unsubscribe { id: u16, filters: Vec<String> },
    PingReq,
    Disconnect { code: u8, session_expiry_s: Option<u32> },
}

/// What CONNACK tells an MQTT 5 client.
#[derive(Clone, Debug, Default)]
pub(crate) struct ConnAckProperties {
    pub session_expiry_s: Option<u32>,
    pub receive_max: u16,
    pub max_packet_bytes: u32,
    pub assigned_client_id: Option<String>,
    pub alias_max: u16,
}

/// What the broker sends.
#[derive(Clone, Debug)]
pub(crate) enum Outgoing {
    ConnAck {
        session_present: bool,
        code: u8,
        properties: Option<ConnAckProperties>,
    },
    Publish {
        message: Arc<Message>,
        qos: Qos,
        retain: bool,
        dup: bool,
        id: u16,
        subscription_ids: Vec<u32>,
        remaining_s: Option<u32>,
    },
    PubAck {
        id: u16,
        code: u8,
    },
    PubRec {
        id: u16,
        code: u8,
    },
    /// MQTT 5: a PUBACK or PUBREC that says why, and for which topic.
    PublishRefused {
        qos: Qos,
        id: u16,
        code: u8,
        topic: String,
        reason: &'static str,
    },
    PubRel {
        id: u16,
        code: u8,
    },
    PubComp {
        id: u16,
        code: u8,
    },
    SubAck {
        id: u16,
        codes: Vec<u8>,
    },
    UnsubAck {
        id: u16,
        codes: Vec<u8>,
    },
    PingResp,
    Disconnect {
        code: u8,
    },
}

impl Outgoing {
    /// Bytes that it holds while it waits.
    pub(crate) fn cost(&self) -> usize {
        match self {
            Self::Publish { message, .. } => message.cost(),
            _ => 32,
        }
    }
}

#[cfg(test)]
mod tests;
