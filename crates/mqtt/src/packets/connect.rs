//! CONNECT (MQTT 3.1.1 3.1, MQTT 5 3.1).

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use sealcast_topic::TopicName;

use super::error::{EncodeError, ParseError};
use super::frame::{Frame, Version};
use super::packet::PacketType;
use super::property::Properties;
use super::property_set::PropertySet;
use super::publish::Qos;
use super::wire::{Reader, Text, encode_frame, put_text};

/// A client's first packet. `Debug` shows neither user name nor password.
#[derive(Clone, PartialEq, Eq)]
pub struct Connect {
    /// MQTT 3.1.1 or 5.
    pub version: Version,
    /// A mosquitto bridge says by the top bit of the protocol level that it is one. A broker that knows the bit does not
    /// send the bridge its own messages back, and keeps the retain flag of what it forwards.
    pub bridge: bool,
    /// Clean Session in MQTT 3.1.1, Clean Start in MQTT 5.
    pub clean_start: bool,
    /// Seconds; 0: none.
    pub keep_alive_s: u16,
    /// Empty in MQTT 3.1.1.
    pub properties: Properties,
    /// May be empty: the broker then chooses one.
    pub client_id: Text,
    /// Published by the broker if the client goes without a word.
    pub will: Option<Will>,
    /// User name.
    pub username: Option<Text>,
    /// Password.
    pub password: Option<Bytes>,
}

/// The message in CONNECT. `Debug` shows the payload's length only.
#[derive(Clone, PartialEq, Eq)]
pub struct Will {
    /// Its topic.
    pub topic: TopicName,
    /// Its payload, at most 65,535 bytes.
    pub payload: Bytes,
    /// Its quality of service.
    pub qos: Qos,
    /// Its retain flag.
    pub retain: bool,
    /// Empty in MQTT 3.1.1.
    pub properties: Properties,
}

const USERNAME: u8 = 0x80;
const PASSWORD: u8 = 0x40;
const WILL_RETAIN: u8 = 0x20;
const WILL: u8 = 0x04;
const CLEAN: u8 = 0x02;
/// The bit of the protocol level that marks a bridge.
const BRIDGE: u8 = 0x80;

impl Connect {
    /// Reads a CONNECT.
    ///
    /// # Errors
    /// [`ParseError`]; MQTT 3.1 and unknown levels are [`ParseError::Protocol`].
    pub fn parse(frame: &Frame) -> Result<Self, ParseError> {
        if frame.packet() != PacketType::Connect {
            return Err(ParseError::Unexpected(frame.packet()));
        }
        let mut reader = Reader::new(frame.content());
        let (version, bridge) = Self::read_version(&mut reader)?;
        let flags = reader.u8("connect flags")?;
        let will_qos = Qos::from_bits((flags >> 3) & 3).ok_or(ParseError::Bits("connect flags"))?;
        let no_will = flags & WILL == 0;
        let stray_will = no_will && (will_qos != Qos::AtMostOnce || flags & WILL_RETAIN != 0);
        let lone_password = version == Version::V311 && flags & PASSWORD != 0 && flags & USERNAME == 0;
        if flags & 1 != 0 || stray_will || lone_password {
            return Err(ParseError::Bits("connect flags"));
        }
        let keep_alive_s = reader.u16("keep alive")?;
        let list = |reader: &mut Reader, set| match version {
            Version::V311 => Ok(Properties::new()),
            Version::V5 => Properties::read(reader, set),
        };
        let properties = list(&mut reader, PropertySet::Connect)?;
        let client_id = reader.text("client id")?;
        let will = if no_will {
            None
        } else {
            let properties = list(&mut reader, PropertySet::Will)?;
            Some(Will {
                topic: TopicName::from_bytes(&reader.binary("will topic")?)?,
                payload: reader.binary("will payload")?,
                qos: will_qos,
                retain: flags & WILL_RETAIN != 0,
                properties,
            })
        };
        let username = if flags & USERNAME != 0 { Some(reader.text("user name")?) } else { None };
        let password = if flags & PASSWORD != 0 { Some(reader.binary("password")?) } else { None };
        reader.end()?;
        let clean_start = flags & CLEAN != 0;
        Ok(Self { version, bridge, clean_start, keep_alive_s, properties, client_id, will, username, password })
    }

    /// Only the version, for an answer to a CONNECT that is wrong further on.
    ///
    /// # Errors
    /// [`ParseError::Protocol`], or the frame ends before the level.
    pub fn parse_version(frame: &Frame) -> Result<Version, ParseError> {
        Self::read_version(&mut Reader::new(frame.content())).map(|(version, _)| version)
    }

    fn read_version(reader: &mut Reader) -> Result<(Version, bool), ParseError> {
        let name = reader.binary("protocol name")?;
        let level = reader.u8("protocol level")?;
        let bridge = level & BRIDGE != 0;
        match (name.as_ref(), level & !BRIDGE) {
            (b"MQTT", 4) => Ok((Version::V311, bridge)),
            (b"MQTT", 5) => Ok((Version::V5, bridge)),
            (b"MQTT" | b"MQIsdp", _) => Err(ParseError::Protocol { level }),
            _ => Err(ParseError::Bits("protocol name")),
        }
    }

    /// The frame's bytes.
    ///
    /// # Errors
    /// If the will's payload or the password is longer than 65,535 bytes.
    pub fn encode(&self) -> Result<Bytes, EncodeError> {
        let mut flags = if self.clean_start { CLEAN } else { 0 };
        if let Some(will) = &self.will {
            flags |= WILL | ((will.qos as u8) << 3) | if will.retain { WILL_RETAIN } else { 0 };
        }
        flags |= if self.username.is_some() { USERNAME } else { 0 };
        flags |= if self.password.is_some() { PASSWORD } else { 0 };
        let mut out = BytesMut::with_capacity(256);
        put_text(&mut out, b"MQTT", "protocol name")?;
        out.put_u8(self.version.level() | if self.bridge { BRIDGE } else { 0 });
        out.put_u8(flags);
        out.put_u16(self.keep_alive_s);
        if self.version == Version::V5 {
            self.properties.put(&mut out)?;
        }
        put_text(&mut out, self.client_id.as_bytes(), "client id")?;
        if let Some(will) = &self.will {
            if self.version == Version::V5 {
                will.properties.put(&mut out)?;
            }
            put_text(&mut out, will.topic.as_str().as_bytes(), "will topic")?;
            put_text(&mut out, &will.payload, "will payload")?;
        }
        if let Some(username) = &self.username {
            put_text(&mut out, username.as_bytes(), "user name")?;
        }
        if let Some(password) = &self.password {
            put_text(&mut out, password, "password")?;
        }
        encode_frame(0x10, &[&out])
    }
}

impl fmt::Debug for Connect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connect")
            .field("version", &self.version)
            .field("bridge", &self.bridge)
            .field("client_id", &self.client_id)
            .field("clean_start", &self.clean_start)
            .field("keep_alive_s", &self.keep_alive_s)
            .field("will", &self.will)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Will {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Will")
            .field("topic", &self.topic)
            .field("qos", &self.qos)
            .field("retain", &self.retain)
            .field("payload_bytes", &self.payload.len())
            .finish_non_exhaustive()
    }
}
