//! PUBLISH (MQTT 3.1.1 3.3, MQTT 5 3.3).

use std::fmt;

use bytes::{BufMut as _, Bytes, BytesMut};
use sealcast_topic::TopicName;

use super::error::{EncodeError, ParseError};
use super::frame::Frame;
use super::packet_id::PacketId;
use super::packet_type::PacketType;
use super::properties::{Properties, list_len, put_list};
use super::property::Property;
use super::property_set::PropertySet;
use super::qos::Qos;
use super::version::Version;
use super::wire::{Reader, encoded, frame_len, put_binary, put_frame};

const DUP: u8 = 0b1000;
const RETAIN: u8 = 0b0001;

/// A message on its way. `Debug` shows the payload's length only.
#[derive(Clone, PartialEq, Eq)]
pub struct Publish {
    /// Sent before (MQTT 5 3.3.1.1).
    pub dup: bool,
    /// Quality of service.
    pub qos: Qos,
    /// Retain flag.
    pub retain: bool,
    /// The topic; `None` if a topic alias stands for it (MQTT 5).
    pub topic: Option<TopicName>,
    /// Present for QoS 1 and 2 only.
    pub packet_id: Option<PacketId>,
    /// Empty in MQTT 3.1.1.
    pub properties: Properties,
    /// The application's bytes.
    pub payload: Bytes,
}

impl Publish {
    /// Reads a PUBLISH.
    ///
    /// # Errors
    /// [`ParseError`]; a frame of another type is [`ParseError::Unexpected`].
    pub fn parse(frame: &Frame, version: Version) -> Result<Self, ParseError> {
        let mut head = Head::read(frame)?;
        let properties = Properties::read(&mut head.reader, PropertySet::Publish, version)?;
        let topic = match properties.topic_alias() {
            Some(_) if head.topic.is_empty() => None,
            _ => Some(TopicName::from_bytes(head.topic)?),
        };
        let Head { qos, dup, packet_id, reader, .. } = head;
        Ok(Self { dup, qos, retain: frame.flags() & RETAIN != 0, topic, packet_id, properties, payload: reader.rest() })
    }

    /// Reads a PUBLISH that a client sent.
    ///
    /// # Errors
    /// As [`Publish::parse`], and [`ParseError::ClientsSubscriptionId`].
    pub fn parse_clients(frame: &Frame, version: Version) -> Result<Self, ParseError> {
        let publish = Self::parse(frame, version)?;
        match publish.properties.iter().any(|property| matches!(property, Property::SubscriptionId(_))) {
            true => Err(ParseError::ClientsSubscriptionId),
            false => Ok(publish),
        }
    }

    /// Reads only what is needed to acknowledge a PUBLISH whose topic or properties may be wrong.
    ///
    /// # Errors
    /// If it is no PUBLISH or ends before its packet identifier.
    pub fn parse_receipt(frame: &Frame) -> Result<(Qos, Option<PacketId>), ParseError> {
        Head::read(frame).map(|head| (head.qos, head.packet_id))
    }

    /// The topic of a PUBLISH, for a person to read, whatever its bytes are.
    pub(crate) fn parse_topic_lossy(frame: &Frame) -> String {
        Head::read(frame).map(|head| String::from_utf8_lossy(head.topic).into_owned()).unwrap_or_default()
    }

    /// The alias that a PUBLISH sets or uses, even where its topic or another property is wrong.
    pub(crate) fn scan_topic_alias(frame: &Frame, version: Version) -> Result<Option<u16>, ParseError> {
        let mut head = Head::read(frame)?;
        if version == Version::V5 { Properties::scan_topic_alias(&mut head.reader) } else { Ok(None) }
    }

    /// Appends the frame to `out`.
    ///
    /// # Errors
    /// If the message is too large for MQTT or its fields contradict each other; `out` is as it was.
    pub fn put(&self, version: Version, out: &mut BytesMut) -> Result<(), EncodeError> {
        if self.topic.is_none() && (version != Version::V5 || self.properties.topic_alias().is_none()) {
            return Err(EncodeError::NoTopic);
        }
        self.head().put(self.properties.iter(), &self.payload, version, out)
    }

    /// The frame's bytes.
    ///
    /// # Errors
    /// As [`Publish::put`].
    pub fn encode(&self, version: Version) -> Result<Bytes, EncodeError> {
        encoded(|out| self.put(version, out))
    }

    fn head(&self) -> PublishHead<'_> {
        let topic = self.topic.as_ref().map_or("", TopicName::as_str);
        PublishHead { dup: self.dup, qos: self.qos, retain: self.retain, topic, packet_id: self.packet_id }
    }
}

/// A PUBLISH that is put together on its way out, from a message that many get. Nothing of the message is copied but into
/// the frame.
#[derive(Debug, Clone, Copy)]
pub struct PublishHead<'a> {
    /// Sent before (MQTT 5 3.3.1.1).
    pub dup: bool,
    /// Quality of service.
    pub qos: Qos,
    /// Retain flag.
    pub retain: bool,
    /// The topic; empty if a topic alias stands for it.
    pub topic: &'a str,
    /// Present for QoS 1 and 2 only.
    pub packet_id: Option<PacketId>,
}

impl PublishHead<'_> {
    /// Appends the frame to `out`.
    ///
    /// # Errors
    /// If the message is too large for MQTT or the packet identifier does not go with the QoS; `out` is as it was.
    pub fn put<'p>(
        &self,
        properties: impl Iterator<Item = &'p Property> + Clone,
        payload: &[u8],
        version: Version,
        out: &mut BytesMut,
    ) -> Result<(), EncodeError> {
        if self.packet_id.is_some() == (self.qos == Qos::AtMostOnce) {
            return Err(EncodeError::PacketId);
        }
        let flags = if self.dup { DUP } else { 0 } | ((self.qos as u8) << 1) | if self.retain { RETAIN } else { 0 };
        let length = self.content_len(properties.clone(), payload.len(), version);
        put_frame(out, 0x30 | flags, length, |out| {
            put_binary(out, self.topic.as_bytes(), "topic")?;
            if let Some(packet_id) = self.packet_id {
                out.put_u16(packet_id.value());
            }
            put_list(properties, version, out)?;
            out.put_slice(payload);
            Ok(())
        })
    }

    /// Size of the whole frame in bytes.
    pub fn frame_len<'p>(
        &self,
        properties: impl Iterator<Item = &'p Property>,
        payload_bytes: usize,
        version: Version,
    ) -> usize {
        frame_len(self.content_len(properties, payload_bytes, version))
    }

    fn content_len<'p>(
        &self,
        properties: impl Iterator<Item = &'p Property>,
        payload_bytes: usize,
        version: Version,
    ) -> usize {
        let packet_id = if self.qos == Qos::AtMostOnce { 0 } else { 2 };
        2 + self.topic.len() + packet_id + list_len(properties, version) + payload_bytes
    }
}

/// What stands before the properties of a PUBLISH, as it was read.
struct Head<'a> {
    dup: bool,
    qos: Qos,
    topic: &'a [u8],
    packet_id: Option<PacketId>,
    reader: Reader<'a>,
}

impl<'a> Head<'a> {
    fn read(frame: &'a Frame) -> Result<Self, ParseError> {
        let packet = frame.packet();
        if packet != PacketType::Publish {
            return Err(ParseError::Unexpected(packet));
        }
        let flags = frame.flags();
        let wrong = ParseError::HeaderFlags { packet, flags };
        let dup = flags & DUP != 0;
        let qos = match Qos::from_bits((flags >> 1) & 3) {
            Some(Qos::AtMostOnce) if dup => return Err(wrong),
            Some(qos) => qos,
            None => return Err(wrong),
        };
        let mut reader = frame.reader();
        let topic = reader.binary_slice("topic")?;
        let packet_id = if qos == Qos::AtMostOnce { None } else { Some(PacketId::read(&mut reader)?) };
        Ok(Self { dup, qos, topic, packet_id, reader })
    }
}

impl fmt::Debug for Publish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publish")
            .field("topic", &self.topic)
            .field("qos", &self.qos)
            .field("retain", &self.retain)
            .field("dup", &self.dup)
            .field("packet_id", &self.packet_id)
            .field("properties", &self.properties.len())
            .field("payload_bytes", &self.payload.len())
            .finish()
    }
}
