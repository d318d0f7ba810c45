//! PUBACK, PUBREC, PUBREL and PUBCOMP (MQTT 5 3.4 to 3.7).

use bytes::{BufMut as _, Bytes, BytesMut};

use super::coded;
use super::error::{EncodeError, ParseError};
use super::frame::Frame;
use super::packet_id::PacketId;
use super::packet_type::PacketType;
use super::properties::Properties;
use super::property_set::PropertySet;
use super::reason;
use super::version::Version;
use super::wire::{encoded, put_frame};

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
        Self { kind, packet_id, code: reason::SUCCESS, properties: Properties::new() }
    }

    /// Whether the peer refused (MQTT 5 reason codes from 0x80).
    pub fn is_error(&self) -> bool {
        self.code >= reason::FIRST_FAILURE
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
        let mut reader = frame.reader();
        let packet_id = PacketId::read(&mut reader)?;
        let (code, properties) = coded::read(&mut reader, PropertySet::Ack, version)?;
        reader.end()?;
        Ok(Self { kind, packet_id, code, properties })
    }

    /// Appends the frame to `out`. In MQTT 3.1.1 reason code and properties are left out.
    ///
    /// # Errors
    /// If the properties are too large for MQTT; `out` is as it was.
    pub fn put(&self, version: Version, out: &mut BytesMut) -> Result<(), EncodeError> {
        let length = 2 + coded::len(self.code, &self.properties, version);
        put_frame(out, self.kind.first_byte(), length, |out| {
            out.put_u16(self.packet_id.value());
            coded::put(self.code, &self.properties, version, out)
        })
    }

    /// The frame's bytes, see [`Ack::put`].
    ///
    /// # Errors
    /// As [`Ack::put`].
    pub fn encode(&self, version: Version) -> Result<Bytes, EncodeError> {
        encoded(|out| self.put(version, out))
    }
}
