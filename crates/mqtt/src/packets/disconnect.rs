//! DISCONNECT and AUTH (MQTT 5 3.14, 3.15).

use bytes::{Bytes, BytesMut};

use super::coded;
use super::error::{EncodeError, ParseError};
use super::frame::Frame;
use super::packet_type::PacketType;
use super::properties::Properties;
use super::property_set::PropertySet;
use super::version::Version;
use super::wire::{encoded, put_frame};

/// DISCONNECT. In MQTT 3.1.1 only a client sends it and it is empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Disconnect {
    /// MQTT 5 reason code.
    pub code: u8,
    /// MQTT 5 properties.
    pub properties: Properties,
}

/// AUTH, a step of an extended authentication. MQTT 5 only.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Auth {
    /// MQTT 5 reason code.
    pub code: u8,
    /// MQTT 5 properties.
    pub properties: Properties,
}

macro_rules! code_and_properties {
    ($packet:ident, $first:literal) => {
        impl $packet {
            /// Reads the packet.
            ///
            /// # Errors
            /// [`ParseError`]; a frame of another type is [`ParseError::Unexpected`].
            pub fn parse(frame: &Frame, version: Version) -> Result<Self, ParseError> {
                if frame.packet() != PacketType::$packet {
                    return Err(ParseError::Unexpected(frame.packet()));
                }
                let mut reader = frame.reader();
                let (code, properties) = coded::read(&mut reader, PropertySet::$packet, version)?;
                reader.end()?;
                Ok(Self { code, properties })
            }

            /// Appends the frame to `out`, in its shortest form.
            ///
            /// # Errors
            /// If the properties are too large for MQTT; `out` is as it was.
            pub fn put(&self, version: Version, out: &mut BytesMut) -> Result<(), EncodeError> {
                let length = coded::len(self.code, &self.properties, version);
                put_frame(out, $first, length, |out| coded::put(self.code, &self.properties, version, out))
            }

            /// The frame's bytes, in their shortest form.
            ///
            /// # Errors
            /// If the properties are too large for MQTT.
            pub fn encode(&self, version: Version) -> Result<Bytes, EncodeError> {
                encoded(|out| self.put(version, out))
            }
        }
    };
}

code_and_properties!(Disconnect, 0xE0);
code_and_properties!(Auth, 0xF0);
