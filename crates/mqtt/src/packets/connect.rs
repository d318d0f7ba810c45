//! CONNECT (MQTT 3.1.1 3.1, MQTT 5 3.1).

use std::fmt;

use bytes::{BufMut as _, Bytes, BytesMut};
use sealcast_topic::TopicName;

use super::error::{EncodeError, ParseError};
use super::frame::Frame;
use super::packet_type::PacketType;
use super::properties::Properties;
use super::property_set::PropertySet;
use super::qos::Qos;
use super::version::Version;
use super::wire::{Reader, Text, encoded, put_binary, put_frame};

/// A client's first packet. `Debug` shows neither user name nor password.
#[derive(Clone, PartialEq, Eq)]
pub struct Connect {
    /// In which version the client speaks.
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
    /// A client that keeps no session and no time (keep alive 0), gives no user, and leaves no will.
    pub fn new(version: Version, client_id: Text) -> Self {
        Self {
            version,
            bridge: false,
            clean_start: true,
            keep_alive_s: 0,
            properties: Properties::new(),
            client_id,
            will: None,
            username: None,
            password: None,
        }
    }

    /// Reads a CONNECT.
    ///
    /// # Errors
    /// [`ParseError`]; unknown levels are [`ParseError::Protocol`].
    pub fn parse(frame: &Frame) -> Result<Self, ParseError> {
        if frame.packet() != PacketType::Connect {
            return Err(ParseError::Unexpected(frame.packet()));
        }
        let mut reader = frame.reader();
        let (version, bridge) = Self::read_version(&mut reader)?;
        let flags = reader.u8("connect flags")?;
        let will_qos = Qos::from_bits((flags >> 3) & 3).ok_or(ParseError::Bits("connect flags"))?;
        let no_will = flags & WILL == 0;
        let stray_will = no_will && (will_qos != Qos::AtMostOnce || flags & WILL_RETAIN != 0);
        let lone_password = version != Version::V5 && flags & PASSWORD != 0 && flags & USERNAME == 0;
        if flags & 1 != 0 || stray_will || lone_password {
            return Err(ParseError::Bits("connect flags"));
        }
        let keep_alive_s = reader.u16("keep alive")?;
        let properties = Properties::read(&mut reader, PropertySet::Connect, version)?;
        let client_id = reader.text("client id")?;
        let will = if no_will {
            None
        } else {
            let properties = Properties::read(&mut reader, PropertySet::Will, version)?;
            Some(Will {
                topic: TopicName::from_bytes(reader.binary_slice("will topic")?)?,
                payload: reader.binary("will payload")?,
                qos: will_qos,
                retain: flags & WILL_RETAIN != 0,
                properties,
            })
        };
        // In MQTT 3.1 either may be missing although its flag is set: so did older clients (3.1).
        let is_there = |reader: &Reader<'_>, flag| flags & flag != 0 && !(version == Version::V31 && reader.is_empty());
        let username = if is_there(&reader, USERNAME) { Some(reader.text("user name")?) } else { None };
        let password = if is_there(&reader, PASSWORD) { Some(reader.binary("password")?) } else { None };
        reader.end()?;
        let clean_start = flags & CLEAN != 0;
        Ok(Self { version, bridge, clean_start, keep_alive_s, properties, client_id, will, username, password })
    }

    /// Only the version, for an answer to a CONNECT that is wrong further on.
    ///
    /// # Errors
    /// [`ParseError::Protocol`], or the frame ends before the level.
    pub fn parse_version(frame: &Frame) -> Result<Version, ParseError> {
        Self::read_version(&mut frame.reader()).map(|(version, _)| version)
    }

    fn read_version(reader: &mut Reader<'_>) -> Result<(Version, bool), ParseError> {
        let name = reader.binary_slice("protocol name")?;
        let level = reader.u8("protocol level")?;
        let bridge = level & BRIDGE != 0;
        match (name, level & !BRIDGE) {
            (b"MQIsdp", 3) => Ok((Version::V31, bridge)),
            (b"MQTT", 4) => Ok((Version::V311, bridge)),
            (b"MQTT", 5) => Ok((Version::V5, bridge)),
            (b"MQTT" | b"MQIsdp", _) => Err(ParseError::Protocol { level }),
            _ => Err(ParseError::Bits("protocol name")),
        }
    }

    /// Appends the frame to `out`.
    ///
    /// # Errors
    /// If the will's payload or the password is longer than 65,535 bytes; `out` is as it was.
    pub fn put(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        put_frame(out, 0x10, self.content_len(), |out| {
            put_binary(out, self.version.protocol_name().as_bytes(), "protocol name")?;
            out.put_u8(self.version.level() | if self.bridge { BRIDGE } else { 0 });
            out.put_u8(self.flags());
            out.put_u16(self.keep_alive_s);
            self.properties.put(self.version, out)?;
            put_binary(out, self.client_id.as_bytes(), "client id")?;
            if let Some(will) = &self.will {
                will.properties.put(self.version, out)?;
                put_binary(out, will.topic.as_str().as_bytes(), "will topic")?;
                put_binary(out, &will.payload, "will payload")?;
            }
            if let Some(username) = &self.username {
                put_binary(out, username.as_bytes(), "user name")?;
            }
            self.password.as_ref().map_or(Ok(()), |password| put_binary(out, password, "password"))
        })
    }

    /// The frame's bytes.
    ///
    /// # Errors
    /// As [`Connect::put`].
    pub fn encode(&self) -> Result<Bytes, EncodeError> {
        encoded(|out| self.put(out))
    }

    fn flags(&self) -> u8 {
        let set = |given, bit| if given { bit } else { 0 };
        let will = self.will.as_ref();
        set(self.clean_start, CLEAN)
            | will.map_or(0, |will| WILL | ((will.qos as u8) << 3) | set(will.retain, WILL_RETAIN))
            | set(self.username.is_some(), USERNAME)
            | set(self.password.is_some(), PASSWORD)
    }

    fn content_len(&self) -> usize {
        let field = |bytes: &[u8]| 2 + bytes.len();
        let will = self.will.as_ref().map_or(0, |will| {
            will.properties.len_on_wire(self.version) + field(will.topic.as_str().as_bytes()) + field(&will.payload)
        });
        field(self.version.protocol_name().as_bytes())
            + 4
            + self.properties.len_on_wire(self.version)
            + field(self.client_id.as_bytes())
            + will
            + self.username.as_ref().map_or(0, |username| field(username.as_bytes()))
            + self.password.as_ref().map_or(0, |password| field(password))
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
