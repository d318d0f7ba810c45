//! PUBLISH (MQTT 3.1.1 3.3, MQTT 5 3.3).

use std::fmt;
use std::num::NonZeroU16;

use bytes::{BufMut, Bytes, BytesMut};
use sealcast_topic::TopicName;

use super::error::{EncodeError, ParseError};
use super::frame::{Frame, Version};
use super::packet::PacketType;
use super::property::Properties;
use super::property_set::PropertySet;
use super::wire::{Reader, encode_frame, put_text};

/// Quality of service (MQTT 5 4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Qos {
    /// QoS 0: not acknowledged.
    AtMostOnce = 0,
    /// QoS 1: PUBACK.
    AtLeastOnce = 1,
    /// QoS 2: PUBREC, PUBREL, PUBCOMP.
    ExactlyOnce = 2,
}

impl Qos {
    /// From the standard's two bits; 3 is none.
    pub fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::ExactlyOnce),
            _ => None,
        }
    }
}

/// A packet identifier (MQTT 5 2.2.1): never zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PacketId(NonZeroU16);

impl PacketId {
    /// `None` for zero.
    pub fn new(id: u16) -> Option<Self> {
        NonZeroU16::new(id).map(Self)
    }

    /// The number.
    pub fn value(self) -> u16 {
        self.0.get()
    }

    pub(crate) fn read(reader: &mut Reader) -> Result<Self, ParseError> {
        Self::new(reader.u16("packet identifier")?).ok_or(ParseError::PacketId)
    }
}

impl fmt::Debug for PacketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PacketId({})", self.0)
    }
}

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
        let (qos, packet_id, topic, mut reader) = Self::head(frame)?;
        let properties = match version {
            Version::V311 => Properties::new(),
            Version::V5 => Properties::read(&mut reader, PropertySet::Publish)?,
        };
        let topic = match properties.topic_alias() {
            Some(_) if topic.is_empty() => None,
            _ => Some(TopicName::from_bytes(&topic)?),
        };
        let flags = frame.flags();
        Ok(Self {
            dup: flags & 0b1000 != 0,
            qos,
            retain: flags & 1 != 0,
            topic,
            packet_id,
            properties,
            payload: reader.rest(),
        })
    }

    /// Reads only what is needed to acknowledge a PUBLISH whose topic or properties may be wrong.
    ///
    /// # Errors
    /// If it is no PUBLISH or ends before its packet identifier.
    pub fn parse_receipt(frame: &Frame) -> Result<(Qos, Option<PacketId>), ParseError> {
        Self::head(frame).map(|(qos, packet_id, ..)| (qos, packet_id))
    }

    /// The topic of a PUBLISH, for a person to read, whatever its bytes are.
    pub(crate) fn parse_topic_lossy(frame: &Frame) -> String {
        Self::head(frame).map(|(_, _, topic, _)| String::from_utf8_lossy(&topic).into_owned()).unwrap_or_default()
    }

    /// The alias that a PUBLISH sets or uses, even where its topic or another property is wrong.
    pub(crate) fn scan_topic_alias(frame: &Frame, version: Version) -> Result<Option<u16>, ParseError> {
        let (.., mut reader) = Self::head(frame)?;
        match version {
            Version::V311 => Ok(None),
            Version::V5 => Properties::scan_topic_alias(&mut reader),
        }
    }

    fn head(frame: &Frame) -> Result<(Qos, Option<PacketId>, Bytes, Reader), ParseError> {
        if frame.packet() != PacketType::Publish {
            return Err(ParseError::Unexpected(frame.packet()));
        }
        let qos = Qos::from_bits((frame.flags() >> 1) & 3).ok_or(ParseError::Bits("QoS"))?;
        let mut reader = Reader::new(frame.content());
        let topic = reader.binary("topic")?;
        let packet_id = if qos == Qos::AtMostOnce { None } else { Some(PacketId::read(&mut reader)?) };
        Ok((qos, packet_id, topic, reader))
    }

    /// The frame's bytes.
    ///
    /// # Errors
    /// If the message is too large for MQTT or its fields contradict each other.
    pub fn encode(&self, version: Version) -> Result<Bytes, EncodeError> {
        let topic = self.topic.as_ref().map_or("", TopicName::as_str);
        let mut head = BytesMut::with_capacity(topic.len() + 16);
        put_text(&mut head, topic.as_bytes(), "topic")?;
        match (self.qos, self.packet_id) {
            (Qos::AtMostOnce, None) => {}
            (Qos::AtLeastOnce | Qos::ExactlyOnce, Some(id)) => head.put_u16(id.value()),
            _ => return Err(EncodeError::PacketId),
        }
        if topic.is_empty() && (version == Version::V311 || self.properties.topic_alias().is_none()) {
            return Err(EncodeError::NoTopic);
        }
        if version == Version::V5 {
            self.properties.put(&mut head)?;
        }
        let first = 0x30 | (u8::from(self.dup) << 3) | ((self.qos as u8) << 1) | u8::from(self.retain);
        encode_frame(first, &[&head, &self.payload])
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
