//! What can be wrong with a frame, and the MQTT 5 reason code that says so to the peer.

use sealcast_topic::TopicError;
use thiserror::Error;

use super::packet_type::PacketType;
use super::property_set::MAX_PROPERTIES;
use super::reason;
use super::version::Version;

/// Most filters in one SUBSCRIBE or UNSUBSCRIBE: decoded they take many times their bytes on the wire.
pub const MAX_FILTERS: usize = 1024;

/// A frame that breaks the MQTT standard. The text names the packet's part; the frame's bytes are never in it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ParseError {
    /// The first four bits name no packet type.
    #[error("packet type {0} does not exist")]
    UnknownType(u8),
    /// The fixed header's flags are not those the packet type prescribes.
    #[error("{packet} has reserved header flags {flags:#06b}")]
    HeaderFlags {
        /// The packet's type.
        packet: PacketType,
        /// Its four flag bits.
        flags: u8,
    },
    /// A variable byte integer is longer than four bytes, or longer than it need be.
    #[error("malformed variable length integer in {0}")]
    Varint(&'static str),
    /// The frame is larger than this side accepts.
    #[error("packet of {size} bytes is larger than the {max} bytes accepted here")]
    TooLarge {
        /// Size of the whole frame in bytes.
        size: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// The frame ends too early.
    #[error("packet ends inside {0}")]
    Truncated(&'static str),
    /// The frame goes on after its last field.
    #[error("{0} bytes follow the end of the packet's content")]
    Trailing(usize),
    /// A string is not UTF-8.
    #[error("{0} is not valid UTF-8")]
    Utf8(&'static str),
    /// A string holds U+0000 (MQTT 5 1.5.4).
    #[error("{0} holds a NUL character")]
    Nul(&'static str),
    /// A topic name is not acceptable.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// Bits that must be zero are set, or contradict each other.
    #[error("reserved or contradictory bits in {0}")]
    Bits(&'static str),
    /// A packet identifier is zero.
    #[error("packet identifier is zero")]
    PacketId,
    /// The property identifier is not in the standard.
    #[error("unknown property {0:#04x}")]
    UnknownProperty(u32),
    /// The property may not stand in this packet.
    #[error("property {0:#04x} does not belong in this packet")]
    MisplacedProperty(u8),
    /// The property stands more than once.
    #[error("property {0:#04x} occurs more than once")]
    DuplicateProperty(u8),
    /// The property has a value outside its range.
    #[error("property {0:#04x} has a value that is not allowed")]
    PropertyValue(u8),
    /// More than [`MAX_PROPERTIES`] that may repeat in one list.
    #[error("more than {MAX_PROPERTIES} user properties or subscription identifiers in one packet")]
    TooManyProperties,
    /// A client's message has a subscription identifier (MQTT 5 3.3.2.3.8).
    #[error("a client's message has a subscription identifier, which only a server may give")]
    ClientsSubscriptionId,
    /// A SUBSCRIBE or UNSUBSCRIBE without a filter (MQTT 5 3.8.3, 3.10.3).
    #[error("{0} without a topic filter")]
    NoFilter(PacketType),
    /// More than [`MAX_FILTERS`].
    #[error("more than {MAX_FILTERS} topic filters in one {0}")]
    TooManyFilters(PacketType),
    /// Not a version that is spoken here.
    #[error("MQTT protocol level {level} is not supported: set the client to MQTT 3.1.1 or MQTT 5")]
    Protocol {
        /// The level byte of CONNECT.
        level: u8,
    },
    /// A packet that this peer may not send, or not now.
    #[error("{0} is not expected here")]
    Unexpected(PacketType),
    /// No Local on a shared subscription (MQTT 5 3.8.3.1).
    #[error("shared subscription {0:?} asks for No Local, which MQTT 5 forbids: leave No Local out")]
    NoLocalShared(Box<str>),
    /// A topic alias that is zero, above the maximum or never set.
    #[error("topic alias {0} is not valid on this connection")]
    Alias(u16),
}

impl ParseError {
    /// The reason code for DISCONNECT or CONNACK (MQTT 5 2.4): what cannot be read is malformed, and what can be read but
    /// is not allowed is a protocol error (1.2).
    pub fn reason_code(&self) -> u8 {
        match self {
            Self::TooLarge { .. } => reason::PACKET_TOO_LARGE,
            Self::Topic(TopicError::Empty)
            | Self::PacketId
            | Self::DuplicateProperty(_)
            | Self::PropertyValue(_)
            | Self::ClientsSubscriptionId
            | Self::NoFilter(_)
            | Self::Unexpected(_)
            | Self::NoLocalShared(_) => reason::PROTOCOL_ERROR,
            Self::Topic(TopicError::Wildcard | TopicError::TooLong(_)) => reason::TOPIC_NAME_INVALID,
            Self::TooManyProperties | Self::TooManyFilters(_) => reason::QUOTA_EXCEEDED,
            Self::Protocol { .. } => reason::UNSUPPORTED_VERSION,
            Self::Alias(_) => reason::TOPIC_ALIAS_INVALID,
            Self::UnknownType(_)
            | Self::HeaderFlags { .. }
            | Self::Varint(_)
            | Self::Truncated(_)
            | Self::Trailing(_)
            | Self::Utf8(_)
            | Self::Nul(_)
            | Self::Topic(TopicError::Utf8 | TopicError::Nul)
            | Self::Bits(_)
            | Self::UnknownProperty(_)
            | Self::MisplacedProperty(_) => reason::MALFORMED_PACKET,
        }
    }

    /// The version in which a CONNECT that cannot be read is answered. Whoever asks for a later one than MQTT 5 is taken to
    /// know MQTT 5 (3.1.2.2); others read what MQTT 3.1.1 has.
    pub fn answer_version(&self) -> Version {
        // The top bit marks a bridge, which tries again without it.
        if matches!(self, Self::Protocol { level } if level & 0x7F > 5) { Version::V5 } else { Version::V311 }
    }
}

/// A packet that cannot be put into bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum EncodeError {
    /// The packet would exceed 268,435,455 bytes after its fixed header.
    #[error("packet of {0} bytes is larger than MQTT can carry")]
    TooLarge(usize),
    /// A binary field is longer than 65,535 bytes.
    #[error("{0} is longer than 65535 bytes")]
    FieldTooLong(&'static str),
    /// QoS 1 and 2 need a packet identifier, QoS 0 has none.
    #[error("packet identifier does not match the QoS")]
    PacketId,
    /// MQTT 3.1.1 has no topic aliases.
    #[error("message has neither topic nor topic alias")]
    NoTopic,
}
