//! SUBSCRIBE and UNSUBSCRIBE (MQTT 5 3.8, 3.10), and the answers to them (3.9, 3.11).

use bytes::{BufMut as _, Bytes, BytesMut};

use super::error::{EncodeError, MAX_FILTERS, ParseError};
use super::frame::Frame;
use super::packet_id::PacketId;
use super::packet_type::PacketType;
use super::properties::Properties;
use super::property_set::PropertySet;
use super::qos::Qos;
use super::version::Version;
use super::wire::{Reader, Text, encoded, put_binary, put_frame};

/// When a client gets the retained messages of a subscription (MQTT 5 3.8.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(u8)]
pub enum RetainHandling {
    /// At each SUBSCRIBE, as in MQTT 3.1.1.
    #[default]
    Always = 0,
    /// If it did not have the subscription yet.
    IfNew = 1,
    /// Never.
    Never = 2,
}

/// What a client wants of a subscription (MQTT 5 3.8.3.1). MQTT 3.1.1 has the QoS only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubscriptionOptions {
    /// The most that messages may have.
    pub qos: Qos,
    /// Not the client's own messages.
    pub no_local: bool,
    /// Messages keep their retain flag.
    pub retain_as_published: bool,
    /// Whether retained messages are sent.
    pub retain_handling: RetainHandling,
}

const NO_LOCAL: u8 = 0x04;
const RETAIN_AS_PUBLISHED: u8 = 0x08;

impl SubscriptionOptions {
    /// A subscription as MQTT 3.1.1 has it.
    pub fn new(qos: Qos) -> Self {
        Self { qos, no_local: false, retain_as_published: false, retain_handling: RetainHandling::Always }
    }

    /// From the byte on the wire; `None` if bits are set that the version reserves.
    pub fn from_bits(bits: u8, version: Version) -> Option<Self> {
        let reserved = if version == Version::V5 { 0xC0 } else { 0xFC };
        let retain_handling = match (bits >> 4) & 3 {
            _ if bits & reserved != 0 => return None,
            0 => RetainHandling::Always,
            1 => RetainHandling::IfNew,
            2 => RetainHandling::Never,
            _ => return None,
        };
        Some(Self {
            qos: Qos::from_bits(bits & 3)?,
            no_local: bits & NO_LOCAL != 0,
            retain_as_published: bits & RETAIN_AS_PUBLISHED != 0,
            retain_handling,
        })
    }

    /// The byte on the wire.
    pub fn bits(self) -> u8 {
        let set = |given, bit| if given { bit } else { 0 };
        self.qos as u8
            | set(self.no_local, NO_LOCAL)
            | set(self.retain_as_published, RETAIN_AS_PUBLISHED)
            | ((self.retain_handling as u8) << 4)
    }
}

/// SUBSCRIBE. Its filters are checked where they are used: a wrong one is refused alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscribe {
    /// Which answer is to it.
    pub packet_id: PacketId,
    /// Empty in MQTT 3.1.1.
    pub properties: Properties,
    /// At least one, at most [`MAX_FILTERS`].
    pub filters: Vec<(Text, SubscriptionOptions)>,
}

impl Subscribe {
    /// Reads a SUBSCRIBE.
    ///
    /// # Errors
    /// [`ParseError`]; a frame of another type is [`ParseError::Unexpected`].
    pub fn parse(frame: &Frame, version: Version) -> Result<Self, ParseError> {
        let (packet_id, properties, mut reader) =
            read_head(frame, PacketType::Subscribe, PropertySet::Subscribe, version)?;
        let filters = read_filters(&mut reader, PacketType::Subscribe, |reader| {
            let filter = reader.text("topic filter")?;
            let bits = reader.u8("subscription options")?;
            let options = SubscriptionOptions::from_bits(bits, version);
            let options = options.ok_or(ParseError::Bits("subscription options"))?;
            match options.no_local && filter.as_str().starts_with("$share/") {
                true => Err(ParseError::NoLocalShared(filter.as_str().into())),
                false => Ok((filter, options)),
            }
        })?;
        Ok(Self { packet_id, properties, filters })
    }

    /// Appends the frame to `out`.
    ///
    /// # Errors
    /// If it is too large for MQTT; `out` is as it was.
    pub fn put(&self, version: Version, out: &mut BytesMut) -> Result<(), EncodeError> {
        let filters: usize = self.filters.iter().map(|(filter, _)| 3 + filter.as_bytes().len()).sum();
        let length = 2 + self.properties.len_on_wire(version) + filters;
        put_frame(out, 0x82, length, |out| {
            out.put_u16(self.packet_id.value());
            self.properties.put(version, out)?;
            self.filters.iter().try_for_each(|(filter, options)| {
                put_binary(out, filter.as_bytes(), "topic filter")?;
                out.put_u8(options.bits());
                Ok(())
            })
        })
    }

    /// The frame's bytes.
    ///
    /// # Errors
    /// If it is too large for MQTT.
    pub fn encode(&self, version: Version) -> Result<Bytes, EncodeError> {
        encoded(|out| self.put(version, out))
    }
}

/// UNSUBSCRIBE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsubscribe {
    /// Which answer is to it.
    pub packet_id: PacketId,
    /// Empty in MQTT 3.1.1.
    pub properties: Properties,
    /// At least one, at most [`MAX_FILTERS`].
    pub filters: Vec<Text>,
}

impl Unsubscribe {
    /// Reads an UNSUBSCRIBE.
    ///
    /// # Errors
    /// [`ParseError`]; a frame of another type is [`ParseError::Unexpected`].
    pub fn parse(frame: &Frame, version: Version) -> Result<Self, ParseError> {
        let (packet_id, properties, mut reader) =
            read_head(frame, PacketType::Unsubscribe, PropertySet::Unsubscribe, version)?;
        let filters = read_filters(&mut reader, PacketType::Unsubscribe, |reader| reader.text("topic filter"))?;
        Ok(Self { packet_id, properties, filters })
    }

    /// Appends the frame to `out`.
    ///
    /// # Errors
    /// If it is too large for MQTT; `out` is as it was.
    pub fn put(&self, version: Version, out: &mut BytesMut) -> Result<(), EncodeError> {
        let filters: usize = self.filters.iter().map(|filter| 2 + filter.as_bytes().len()).sum();
        let length = 2 + self.properties.len_on_wire(version) + filters;
        put_frame(out, 0xA2, length, |out| {
            out.put_u16(self.packet_id.value());
            self.properties.put(version, out)?;
            self.filters.iter().try_for_each(|filter| put_binary(out, filter.as_bytes(), "topic filter"))
        })
    }

    /// The frame's bytes.
    ///
    /// # Errors
    /// If it is too large for MQTT.
    pub fn encode(&self, version: Version) -> Result<Bytes, EncodeError> {
        encoded(|out| self.put(version, out))
    }
}

/// SUBACK.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suback {
    /// Of the SUBSCRIBE.
    pub packet_id: PacketId,
    /// Empty in MQTT 3.1.1.
    pub properties: Properties,
    /// One for each filter.
    pub codes: Bytes,
}

/// UNSUBACK.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsuback {
    /// Of the UNSUBSCRIBE.
    pub packet_id: PacketId,
    /// Empty in MQTT 3.1.1.
    pub properties: Properties,
    /// One for each filter; none in MQTT 3.1.1.
    pub codes: Bytes,
}

impl Suback {
    /// Reads a SUBACK.
    ///
    /// # Errors
    /// [`ParseError`]; a frame of another type is [`ParseError::Unexpected`].
    pub fn parse(frame: &Frame, version: Version) -> Result<Self, ParseError> {
        let (packet_id, properties, reader) = read_head(frame, PacketType::Suback, PropertySet::Ack, version)?;
        Ok(Self { packet_id, properties, codes: reader.rest() })
    }

    /// Appends the frame to `out`.
    ///
    /// # Errors
    /// If it is too large for MQTT; `out` is as it was.
    pub fn put(&self, version: Version, out: &mut BytesMut) -> Result<(), EncodeError> {
        put_answer(0x90, self.packet_id, &self.properties, &self.codes, version, out)
    }

    /// The frame's bytes.
    ///
    /// # Errors
    /// If it is too large for MQTT.
    pub fn encode(&self, version: Version) -> Result<Bytes, EncodeError> {
        encoded(|out| self.put(version, out))
    }
}

impl Unsuback {
    /// Reads an UNSUBACK.
    ///
    /// # Errors
    /// [`ParseError`]; a frame of another type is [`ParseError::Unexpected`].
    pub fn parse(frame: &Frame, version: Version) -> Result<Self, ParseError> {
        let (packet_id, properties, reader) = read_head(frame, PacketType::Unsuback, PropertySet::Ack, version)?;
        let codes = if version == Version::V5 {
            reader.rest()
        } else {
            reader.end()?;
            Bytes::new()
        };
        Ok(Self { packet_id, properties, codes })
    }

    /// Appends the frame to `out`. MQTT 3.1.1 has no codes in it.
    ///
    /// # Errors
    /// If it is too large for MQTT; `out` is as it was.
    pub fn put(&self, version: Version, out: &mut BytesMut) -> Result<(), EncodeError> {
        let codes = if version == Version::V5 { self.codes.as_ref() } else { &[] };
        put_answer(0xB0, self.packet_id, &self.properties, codes, version, out)
    }

    /// The frame's bytes.
    ///
    /// # Errors
    /// If it is too large for MQTT.
    pub fn encode(&self, version: Version) -> Result<Bytes, EncodeError> {
        encoded(|out| self.put(version, out))
    }
}

fn read_head(
    frame: &Frame,
    packet: PacketType,
    set: PropertySet,
    version: Version,
) -> Result<(PacketId, Properties, Reader<'_>), ParseError> {
    if frame.packet() != packet {
        return Err(ParseError::Unexpected(frame.packet()));
    }
    let mut reader = frame.reader();
    let packet_id = PacketId::read(&mut reader)?;
    let properties = Properties::read(&mut reader, set, version)?;
    Ok((packet_id, properties, reader))
}

fn read_filters<T>(
    reader: &mut Reader<'_>,
    packet: PacketType,
    mut read: impl FnMut(&mut Reader<'_>) -> Result<T, ParseError>,
) -> Result<Vec<T>, ParseError> {
    let mut filters = Vec::new();
    while !reader.is_empty() {
        if filters.len() == MAX_FILTERS {
            return Err(ParseError::TooManyFilters(packet));
        }
        filters.push(read(reader)?);
    }
    if filters.is_empty() { Err(ParseError::NoFilter(packet)) } else { Ok(filters) }
}

fn put_answer(
    first: u8,
    packet_id: PacketId,
    properties: &Properties,
    codes: &[u8],
    version: Version,
    out: &mut BytesMut,
) -> Result<(), EncodeError> {
    put_frame(out, first, 2 + properties.len_on_wire(version) + codes.len(), |out| {
        out.put_u16(packet_id.value());
        properties.put(version, out)?;
        out.put_slice(codes);
        Ok(())
    })
}
