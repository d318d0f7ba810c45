//! CONNACK (MQTT 3.1.1 3.2, MQTT 5 3.2).

use bytes::{BufMut as _, Bytes, BytesMut};

use super::error::{EncodeError, ParseError};
use super::frame::Frame;
use super::packet_type::PacketType;
use super::properties::Properties;
use super::property_set::PropertySet;
use super::version::Version;
use super::wire::{encoded, put_frame};

/// The broker's answer to CONNECT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connack {
    /// The broker had a session for this client id.
    pub session_present: bool,
    /// 0: accepted. Return code in MQTT 3.1.1, reason code in MQTT 5.
    pub code: u8,
    /// Empty in MQTT 3.1.1.
    pub properties: Properties,
}

impl Connack {
    /// Reads a CONNACK.
    ///
    /// # Errors
    /// [`ParseError`]; a frame of another type is [`ParseError::Unexpected`].
    pub fn parse(frame: &Frame, version: Version) -> Result<Self, ParseError> {
        if frame.packet() != PacketType::Connack {
            return Err(ParseError::Unexpected(frame.packet()));
        }
        let mut reader = frame.reader();
        let flags = reader.u8("acknowledge flags")?;
        if flags > 1 {
            return Err(ParseError::Bits("acknowledge flags"));
        }
        let code = reader.u8("return code")?;
        let properties = if reader.is_empty() && code != 0 {
            // A broker that does not know the version asked for answers in the older form.
            Properties::new()
        } else {
            Properties::read(&mut reader, PropertySet::Connack, version)?
        };
        reader.end()?;
        Ok(Self { session_present: flags == 1, code, properties })
    }

    /// Appends the frame to `out`.
    ///
    /// # Errors
    /// If the properties are too large for MQTT; `out` is as it was.
    pub fn put(&self, version: Version, out: &mut BytesMut) -> Result<(), EncodeError> {
        put_frame(out, 0x20, 2 + self.properties.len_on_wire(version), |out| {
            out.put_u8(u8::from(self.session_present));
            out.put_u8(self.code);
            self.properties.put(version, out)
        })
    }

    /// The frame's bytes.
    ///
    /// # Errors
    /// If the properties are too large for MQTT.
    pub fn encode(&self, version: Version) -> Result<Bytes, EncodeError> {
        encoded(|out| self.put(version, out))
    }
}
