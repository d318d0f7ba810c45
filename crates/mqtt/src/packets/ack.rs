//! PUBACK, PUBREC, PUBREL, PUBCOMP (MQTT 5 3.4 to 3.7) and DISCONNECT (3.14).

use bytes::{BufMut, Bytes, BytesMut};

use super::error::{EncodeError, ParseError};
use super::frame::{Frame, Version};
use super::packet::PacketType;
use super::property::Properties;
use super::property_set::PropertySet;
use super::publish::PacketId;
use super::wire::{Reader, encode_frame};

/// Which acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AckKind {
    /// Of QoS 1.
    Puback,
    /// Of QoS 2: received.
    Pubrec,
    /// Of QoS 2: released.
    Pubrel,
    /// Of QoS 2: complete.
    Pubcomp,
}

impl AckKind {
    fn first_byte(self) -> u8 {
        match self {
            Self::Puback => 0x40,
            Self::Pubrec => 0x50,
            Self::Pubrel => 0x62,
            Self::Pubcomp => 0x70,
        }
    }
}

/// An acknowledgement. It encodes in its shortest form: without reason code and properties where they say nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ack {
    /// Which one.
    pub kind: AckKind,
    /// Of which message.
    pub packet_id: PacketId,
    /// MQTT 5 reason code; 0 in MQTT 3.1.1.
    pub code: u8,
    /// Reason string and user properties; empty in MQTT 3.1.1.
    pub properties: Properties,
}

impl Ack {
    /// A positive acknowledgement.
    pub fn success(kind: AckKind, packet_id: PacketId) -> Self {
        Self { kind, packet_id, code: 0, properties: Properties::new() }
    }

    /// Whether the peer refused (MQTT 5 reason codes from 0x80).
    pub fn is_error(&self) -> bool {
        self.code >= 0x80
    }

    /// Reads an acknowledgement.
    ///
    /// # Errors
    /// [`ParseError`]; a frame of another type is [`ParseError::Unexpected`].
    pub fn parse(frame: &Frame, version: Version) -> Result<Self, ParseError> {
        let kind = match frame.packet() {
            PacketType::Puback => AckKind::Puback,
            PacketType::Pubrec => AckKind::Pubrec,
            PacketType::Pubrel => AckKind::Pubrel,
            PacketType::Pubcomp => AckKind::Pubcomp,
            other => return Err(ParseError::Unexpected(other)),
        };
        let mut reader = Reader::new(frame.content());
        let packet_id = PacketId::read(&mut reader)?;
        let mut ack = Self::success(kind, packet_id);
        if version == Version::V5 && !reader.is_empty() {
            ack.code = reader.u8("reason code")?;
            if !reader.is_empty() {
                ack.properties = Properties::read(&mut reader, PropertySet::Ack)?;
            }
        }
        reader.end()?;
        Ok(ack)
    }

    /// The frame's bytes. In MQTT 3.1.1 reason code and properties are left out.
    ///
    /// # Errors
    /// If the properties are too large for MQTT.
    pub fn encode(&self, version: Version) -> Result<Bytes, EncodeError> {
        let mut out = BytesMut::new();
        out.put_u16(self.packet_id.value());
        if version == Version::V5 && (self.code != 0 || !self.properties.is_empty()) {
            out.put_u8(self.code);
            if !self.properties.is_empty() {
                self.properties.put(&mut out)?;
            }
        }
        encode_frame(self.kind.first_byte(), &[&out])
    }
}

/// DISCONNECT. In MQTT 3.1.1 only a client sends it and it is empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Disconnect {
    /// MQTT 5 reason code.
    pub code: u8,
    /// MQTT 5 properties.
    pub properties: Properties,
}

impl Disconnect {
    /// Reads a DISCONNECT.
    ///
    /// # Errors
    /// [`ParseError`]; a frame of another type is [`ParseError::Unexpected`].
    pub fn parse(frame: &Frame, version: Version) -> Result<Self, ParseError> {
        if frame.packet() != PacketType::Disconnect {
            return Err(ParseError::Unexpected(frame.packet()));
        }
        let mut reader = Reader::new(frame.content());
        let mut disconnect = Self::default();
        if version == Version::V5 && !reader.is_empty() {
            disconnect.code = reader.u8("reason code")?;
            if !reader.is_empty() {
                disconnect.properties = Properties::read(&mut reader, PropertySet::Disconnect)?;
            }
        }
        reader.end()?;
        Ok(disconnect)
    }

    /// The frame's bytes, in their shortest form.
    ///
    /// # Errors
    /// If the properties are too large for MQTT.
    pub fn encode(&self, version: Version) -> Result<Bytes, EncodeError> {
        let mut out = BytesMut::new();
        if version == Version::V5 && (self.code != 0 || !self.properties.is_empty()) {
            out.put_u8(self.code);
            if !self.properties.is_empty() {
                self.properties.put(&mut out)?;
            }
        }
        encode_frame(0xE0, &[&out])
    }
}
