//! What the core takes from a client that has connected, and what it gives to one. The packets themselves are
//! `sealcast_mqtt`'s; here is what this broker makes of them.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use sealcast_mqtt::{
    Ack, AckKind, Connack, Disconnect, EncodeError, Frame, Packet, PacketId, PacketType, ParseError, Properties,
    Property, Publish, PublishHead, Qos, Suback, Subscribe, SubscriptionOptions, Text, TopicName, Unsuback,
    Unsubscribe, Version, reason,
};

use crate::message::Message;

/// What a session wants of a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscribed {
    /// QoS, No Local, Retain As Published and Retain Handling (MQTT 5, §3.8.3.1).
    pub options: SubscriptionOptions,
    /// The subscription identifier, told with each message (MQTT 5, §3.8.2.1.2).
    pub id: Option<u32>,
}

impl Subscribed {
    /// Whether messages wait while the client is away.
    pub(crate) fn keeps(&self) -> bool {
        self.options.qos > Qos::AtMostOnce
    }

    /// As MQTT 3 has it.
    pub fn new(qos: Qos) -> Self {
        Self { options: SubscriptionOptions::new(qos), id: None }
    }
}

/// What a client sends after CONNECT.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the packets and fields of the standard")]
pub enum Incoming {
    Publish(Publish),
    PubAck { id: u16 },
    PubRec { id: u16, code: u8 },
    PubRel { id: u16 },
    PubComp { id: u16 },
    Subscribe { id: u16, filters: Vec<(String, Subscribed)> },
    Unsubscribe { id: u16, filters: Vec<String> },
    PingReq,
    Disconnect { code: u8, session_expiry_s: Option<u32> },
}

impl Incoming {
    /// Reads any packet but CONNECT. AUTH is refused with what only a broker sends: there is no extended authentication.
    pub fn parse(frame: &Frame, version: Version) -> Result<Self, ParseError> {
        match frame.packet() {
            PacketType::Publish => Publish::parse_clients(frame, version).map(Self::Publish),
            PacketType::Puback | PacketType::Pubrec | PacketType::Pubrel | PacketType::Pubcomp => {
                let Ack { kind, packet_id, code, .. } = Ack::parse(frame, version)?;
                let id = packet_id.value();
                Ok(match kind {
                    AckKind::Puback => Self::PubAck { id },
                    AckKind::Pubrec => Self::PubRec { id, code },
                    AckKind::Pubrel => Self::PubRel { id },
                    AckKind::Pubcomp => Self::PubComp { id },
                })
            }
            PacketType::Subscribe => {
                let Subscribe { packet_id, properties, filters } = Subscribe::parse(frame, version)?;
                let id = properties.subscription_id();
                let filters = filters.iter().map(|(filter, options)| {
                    let subscribed = Subscribed { options: *options, id };
                    (filter.as_str().to_owned(), subscribed)
                });
                Ok(Self::Subscribe { id: packet_id.value(), filters: filters.collect() })
            }
            PacketType::Unsubscribe => {
                let Unsubscribe { packet_id, filters, .. } = Unsubscribe::parse(frame, version)?;
                let filters = filters.iter().map(|filter| filter.as_str().to_owned()).collect();
                Ok(Self::Unsubscribe { id: packet_id.value(), filters })
            }
            PacketType::Pingreq => Packet::parse(frame, version).map(|_| Self::PingReq),
            PacketType::Disconnect => {
                let Disconnect { code, properties } = Disconnect::parse(frame, version)?;
                Ok(Self::Disconnect { code, session_expiry_s: properties.session_expiry_s() })
            }
            other => Err(ParseError::Unexpected(other)),
        }
    }
}

/// What CONNACK tells an MQTT 5 client.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "the properties of the standard, §3.2.2.3")]
pub struct ConnAckProperties {
    pub session_expiry_s: Option<u32>,
    pub receive_max: u16,
    pub max_packet_bytes: u32,
    pub assigned_client_id: Option<Text>,
    pub alias_max: u16,
}

impl ConnAckProperties {
    fn list(&self) -> Properties {
        let expiry = self.session_expiry_s.map(Property::SessionExpiry);
        let limits = [
            Property::ReceiveMaximum(self.receive_max),
            Property::MaximumPacketSize(self.max_packet_bytes),
            Property::TopicAliasMaximum(self.alias_max),
        ];
        let client_id = self.assigned_client_id.clone().map(Property::AssignedClientId);
        expiry.into_iter().chain(limits).chain(client_id).collect()
    }
}

/// What the broker sends.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the packets and fields of the standard")]
pub enum Outgoing {
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
        /// 0 at QoS 0.
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
        topic: TopicName,
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
    pub fn cost(&self) -> usize {
        match self {
            Self::Publish { message, .. } => message.cost(),
            _ => 32,
        }
    }

    /// Appends the packet to `out`, with what the version knows of it.
    pub fn put(&self, version: Version, out: &mut BytesMut) -> Result<(), EncodeError> {
        let v5 = version == Version::V5;
        match self {
            Self::ConnAck { session_present, code, properties } => {
                let code = if v5 { *code } else { reason::connack_v311(*code) };
                let properties = properties.as_ref().map(ConnAckProperties::list).unwrap_or_default();
                // MQTT 3.1 has no such flag.
                let session_present = *session_present && version != Version::V31;
                Connack { session_present, code, properties }.put(version, out)
            }
            Self::Publish { message, qos, retain, dup, id, subscription_ids, remaining_s } => {
                let head = PublishHead {
                    dup: *dup,
                    qos: *qos,
                    retain: *retain,
                    topic: &message.topic,
                    packet_id: PacketId::new(*id),
                };
                let expiry = remaining_s.map(Property::MessageExpiry);
                let ids = properties_of(subscription_ids);
                head.put(told(message, expiry.as_ref(), &ids), &message.payload, version, out)
            }
            Self::PubAck { id, code } => put_ack(AckKind::Puback, *id, *code, Properties::new(), version, out),
            Self::PubRec { id, code } => put_ack(AckKind::Pubrec, *id, *code, Properties::new(), version, out),
            Self::PubRel { id, code } => put_ack(AckKind::Pubrel, *id, *code, Properties::new(), version, out),
            Self::PubComp { id, code } => put_ack(AckKind::Pubcomp, *id, *code, Properties::new(), version, out),
            Self::PublishRefused { qos, id, code, topic, reason } => {
                let kind = if *qos == Qos::ExactlyOnce { AckKind::Pubrec } else { AckKind::Puback };
                let text = |text: &str| Text::lossy(text, usize::from(u16::MAX));
                let why = [Property::ReasonString(text(reason)), Property::User(text("topic"), text(topic))];
                put_ack(kind, *id, *code, why.into_iter().collect(), version, out)
            }
            Self::SubAck { id, codes } => {
                let codes: Bytes = codes.iter().map(|code| reason::suback(*code, version)).collect();
                Suback { packet_id: packet_id(*id)?, properties: Properties::new(), codes }.put(version, out)
            }
            Self::UnsubAck { id, codes } => {
                let codes = Bytes::copy_from_slice(codes);
                Unsuback { packet_id: packet_id(*id)?, properties: Properties::new(), codes }.put(version, out)
            }
            Self::PingResp => Packet::Pingresp.put(version, out),
            Self::Disconnect { code } if v5 => {
                Disconnect { code: *code, properties: Properties::new() }.put(version, out)
            }
            // An MQTT 3 broker just closes.
            Self::Disconnect { .. } => Ok(()),
        }
    }
}

fn packet_id(id: u16) -> Result<PacketId, EncodeError> {
    PacketId::new(id).ok_or(EncodeError::PacketId)
}

fn put_ack(
    kind: AckKind,
    id: u16,
    code: u8,
    properties: Properties,
    version: Version,
    out: &mut BytesMut,
) -> Result<(), EncodeError> {
    Ack { kind, packet_id: packet_id(id)?, code, properties }.put(version, out)
}

/// What a subscriber is told with a message: what the publisher said, but the time that is left, and by which of its
/// subscriptions it gets the message.
fn told<'a>(
    message: &'a Message,
    expiry: Option<&'a Property>,
    ids: &'a [Property],
) -> impl Iterator<Item = &'a Property> + Clone {
    let said = message.properties.iter().filter(|property| !matches!(property, Property::MessageExpiry(_)));
    expiry.into_iter().chain(said).chain(ids)
}

fn properties_of(subscription_ids: &[u32]) -> Vec<Property> {
    subscription_ids.iter().copied().map(Property::SubscriptionId).collect()
}

/// Size of a PUBLISH on the wire, in bytes, for a client that limits it.
pub(crate) fn publish_size(version: Version, message: &Message, qos: Qos, subscription_ids: &[u32]) -> usize {
    let head = PublishHead { dup: false, qos, retain: message.retain, topic: &message.topic, packet_id: None };
    let ids = properties_of(subscription_ids);
    head.frame_len(message.properties.iter().chain(&ids), message.payload.len(), version)
}

#[cfg(test)]
mod tests;
