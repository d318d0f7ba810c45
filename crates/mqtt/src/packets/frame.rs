//! Whole frames out of a byte stream (MQTT 5 2.1).

use std::fmt;

use bytes::{Buf as _, Bytes, BytesMut};

use super::error::ParseError;
use super::packet_type::PacketType;
use super::version::Version;
use super::wire::{Reader, peek_varint};

/// Most bytes that can follow a fixed header.
pub const MAX_REMAINING_BYTES: usize = super::wire::MAX_VARINT as usize;
/// The flag that says that a packet was sent before.
const DUP: u8 = 0b1000;

impl PacketType {
    /// The type in a frame's first byte. MQTT 3.1 lets DUP stand in some packets that later versions have no flags in.
    ///
    /// # Errors
    /// [`ParseError::UnknownType`] and [`ParseError::HeaderFlags`] (MQTT 5 2.1.3; QoS 3 is among the latter).
    pub fn from_first_byte(first: u8, version: Version) -> Result<Self, ParseError> {
        let packet = match first >> 4 {
            1 => Self::Connect,
            2 => Self::Connack,
            3 => Self::Publish,
            4 => Self::Puback,
            5 => Self::Pubrec,
            6 => Self::Pubrel,
            7 => Self::Pubcomp,
            8 => Self::Subscribe,
            9 => Self::Suback,
            10 => Self::Unsubscribe,
            11 => Self::Unsuback,
            12 => Self::Pingreq,
            13 => Self::Pingresp,
            14 => Self::Disconnect,
            15 => Self::Auth,
            other => return Err(ParseError::UnknownType(other)),
        };
        let flags = first & 0x0F;
        let valid = match packet {
            Self::Publish => flags & 0b0110 != 0b0110,
            Self::Pubrel | Self::Subscribe | Self::Unsubscribe => {
                flags == 0b0010 || version == Version::V31 && flags == 0b0010 | DUP
            }
            _ => flags == 0,
        };
        if valid { Ok(packet) } else { Err(ParseError::HeaderFlags { packet, flags }) }
    }
}

/// One whole control packet as it was on the wire.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    bytes: Bytes,
    header_bytes: usize,
    packet: PacketType,
}

impl Frame {
    /// Takes `bytes` as exactly one frame.
    ///
    /// # Errors
    /// As [`Splitter::next_frame`]; [`ParseError::Truncated`] or [`ParseError::Trailing`] if it is not exactly one.
    pub fn from_bytes(bytes: Bytes) -> Result<Self, ParseError> {
        let header = Header::peek(&bytes, Version::V5)?.ok_or(ParseError::Truncated("fixed header"))?;
        if bytes.len() < header.frame_bytes() {
            return Err(ParseError::Truncated("packet"));
        }
        if bytes.len() > header.frame_bytes() {
            return Err(ParseError::Trailing(bytes.len() - header.frame_bytes()));
        }
        Ok(Self { bytes, header_bytes: header.header_bytes, packet: header.packet })
    }

    /// Takes the next frame off the front of `buffer`, or `None` until all of it is there. The frame shares the buffer.
    ///
    /// # Errors
    /// As [`Splitter::next_frame`].
    pub fn take(buffer: &mut BytesMut, version: Version, max_frame_bytes: usize) -> Result<Option<Self>, ParseError> {
        let Some(header) = Header::peek_limited(buffer, version, max_frame_bytes)? else { return Ok(None) };
        if buffer.len() < header.frame_bytes() {
            return Ok(None);
        }
        let bytes = buffer.split_to(header.frame_bytes()).freeze();
        Ok(Some(Self { bytes, header_bytes: header.header_bytes, packet: header.packet }))
    }

    /// The packet's type.
    pub fn packet(&self) -> PacketType {
        self.packet
    }

    /// The four flag bits of the fixed header.
    pub fn flags(&self) -> u8 {
        self.bytes.first().copied().unwrap_or_default() & 0x0F
    }

    /// What follows the fixed header.
    pub fn content(&self) -> Bytes {
        self.bytes.slice(self.header_bytes..)
    }

    /// The frame as MQTT 3.1.1 has it: no DUP but in PUBLISH.
    pub(crate) fn without_stray_dup(self) -> Self {
        if self.packet == PacketType::Publish || self.flags() & DUP == 0 {
            return self;
        }
        let mut bytes = BytesMut::from(&self.bytes[..]);
        if let Some(first) = bytes.first_mut() {
            *first &= !DUP;
        }
        Self { bytes: bytes.freeze(), ..self }
    }

    /// Reads what follows the fixed header.
    pub(super) fn reader(&self) -> Reader<'_> {
        Reader::new(&self.bytes, self.header_bytes)
    }

    /// The frame's bytes with the fixed header.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The frame's bytes with the fixed header.
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frame({}, {} bytes)", self.packet, self.bytes.len())
    }
}

struct Header {
    packet: PacketType,
    header_bytes: usize,
    remaining_bytes: usize,
}

impl Header {
    fn peek(bytes: &[u8], version: Version) -> Result<Option<Self>, ParseError> {
        let Some((first, rest)) = bytes.split_first() else { return Ok(None) };
        let packet = PacketType::from_first_byte(*first, version)?;
        let Some((remaining, len)) = peek_varint(rest, "remaining length")? else { return Ok(None) };
        Ok(Some(Self { packet, header_bytes: 1 + len, remaining_bytes: remaining as usize }))
    }

    fn peek_limited(bytes: &[u8], version: Version, max: usize) -> Result<Option<Self>, ParseError> {
        let Some(header) = Self::peek(bytes, version)? else { return Ok(None) };
        let size = header.frame_bytes();
        if size > max { Err(ParseError::TooLarge { size, max }) } else { Ok(Some(header)) }
    }

    fn frame_bytes(&self) -> usize {
        self.header_bytes + self.remaining_bytes
    }
}

/// Cuts a byte stream into [`Frame`]s. Frames share one buffer; they are not copied.
///
/// Holds what has been fed and not yet taken: bounded by the frame limit plus what its user feeds at once.
#[derive(Debug)]
pub struct Splitter {
    buffer: BytesMut,
    max_frame_bytes: usize,
    version: Version,
    /// Bytes of a frame over the limit that are still to be dropped.
    skip_bytes: usize,
}

impl Splitter {
    /// A splitter that refuses frames of more than `max_frame_bytes` (with their fixed header). It takes what MQTT 3.1.1 and
    /// 5 allow, which is the same for both.
    pub fn new(max_frame_bytes: usize) -> Self {
        Self { buffer: BytesMut::new(), max_frame_bytes, version: Version::V5, skip_bytes: 0 }
    }

    /// Takes what `version` allows from the next frame on.
    pub(crate) fn set_version(&mut self, version: Version) {
        self.version = version;
    }

    /// Adds the next bytes of the stream.
    pub fn feed(&mut self, bytes: &[u8]) {
        let skipped = bytes.len().min(self.skip_bytes);
        self.skip_bytes -= skipped;
        self.buffer.extend_from_slice(bytes.get(skipped..).unwrap_or_default());
    }

    /// Takes the next frame, or `None` until more bytes come.
    ///
    /// # Errors
    /// The stream cannot be read on: unknown type, wrong flags, malformed remaining length, or a frame over the limit
    /// (known as soon as its header is). Every further call returns the same.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, ParseError> {
        Frame::take(&mut self.buffer, self.version, self.max_frame_bytes)
    }

    /// After [`ParseError::TooLarge`]: passes over the frame if it is a PUBLISH. Its start, which says what to acknowledge,
    /// is returned as a frame; the rest is dropped as it comes. `Ok(None)` until enough bytes have come.
    ///
    /// # Errors
    /// The frame is of another type, or malformed.
    pub(crate) fn skip_publish(&mut self) -> Result<Option<Frame>, ParseError> {
        let Some(header) = Header::peek(&self.buffer, self.version)? else { return Ok(None) };
        if header.packet != PacketType::Publish {
            return Err(ParseError::Unexpected(header.packet));
        }
        let Some(topic) = self.buffer.get(header.header_bytes..header.header_bytes + 2) else { return Ok(None) };
        let topic_bytes = topic.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
        let packet_id_bytes = if self.buffer.first().is_some_and(|first| first & 0b0110 != 0) { 2 } else { 0 };
        let start = header.header_bytes + 2 + topic_bytes + packet_id_bytes;
        if start > header.frame_bytes() {
            return Err(ParseError::Truncated("topic"));
        }
        if self.buffer.len() < start {
            return Ok(None);
        }
        let bytes = self.buffer.split_to(start).freeze();
        let rest = header.frame_bytes() - start;
        let arrived = self.buffer.len().min(rest);
        self.buffer.advance(arrived);
        self.skip_bytes = rest - arrived;
        Ok(Some(Frame { bytes, header_bytes: header.header_bytes, packet: header.packet }))
    }

    /// The type of the frame that [`Splitter::next_frame`] would return.
    ///
    /// # Errors
    /// As [`Splitter::next_frame`].
    pub fn peek_packet(&self) -> Result<Option<PacketType>, ParseError> {
        let header = Header::peek_limited(&self.buffer, self.version, self.max_frame_bytes)?;
        Ok(header.filter(|header| self.buffer.len() >= header.frame_bytes()).map(|header| header.packet))
    }

    /// Bytes fed and not yet taken.
    pub fn buffered_bytes(&self) -> usize {
        self.buffer.len()
    }
}
