//! One property (MQTT 5 2.2.2.2): its form, the packets it belongs in, the values it may have.

use bytes::{BufMut as _, Bytes, BytesMut};
use sealcast_topic::TopicName;

use super::error::{EncodeError, ParseError};
use super::property_set::PropertySet;
use super::wire::{MAX_VARINT, Reader, Text, put_binary, put_varint, varint_len};

/// Names of user properties that begin so, in whatever case, are the agent's: what it says of a message
/// (`sealcast-sender`). No publisher and no broker speaks in its name to an application.
const AGENT_NAMES: &[u8] = b"sealcast-";

macro_rules! properties {
    ($($(#[$doc:meta])* $id:literal $name:ident($type:ty) = $kind:ident;)*) => {
        /// One property.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Property {
            $($(#[$doc])* $name($type),)*
            /// A name and a value; may stand more than once.
            User(Text, Text),
        }

        impl Property {
            /// Its identifier.
            pub fn id(&self) -> u8 {
                match self {
                    $(Self::$name(_) => $id,)*
                    Self::User(..) => 0x26,
                }
            }

            pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, ParseError> {
                match reader.varint("property identifier")? {
                    $($id => Ok(Self::$name(reader.$kind(stringify!($name))?)),)*
                    0x26 => Ok(Self::User(reader.text("user property name")?, reader.text("user property value")?)),
                    other => Err(ParseError::UnknownProperty(other)),
                }
            }

            /// Bytes that it takes, with its identifier.
            pub(super) fn encoded_len(&self) -> usize {
                1 + match self {
                    $(Self::$name(value) => len::$kind(value),)*
                    Self::User(name, value) => len::text(name) + len::text(value),
                }
            }

            pub(super) fn put(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
                out.put_u8(self.id());
                match self {
                    $(Self::$name(value) => put::$kind(out, value, stringify!($name)),)*
                    Self::User(name, value) => {
                        put::text(out, name, "user property name")?;
                        put::text(out, value, "user property value")
                    }
                }
            }
        }
    };
}

properties! {
    /// 1: the payload is UTF-8.
    0x01 PayloadFormat(u8) = u8;
    /// Seconds.
    0x02 MessageExpiry(u32) = u32;
    /// MIME type or the like.
    0x03 ContentType(Text) = text;
    /// Topic for the answer.
    0x08 ResponseTopic(Text) = text;
    /// Names the request.
    0x09 CorrelationData(Bytes) = binary;
    /// 1 to 268,435,455.
    0x0B SubscriptionId(u32) = varint;
    /// Seconds; 0xFFFFFFFF: never.
    0x11 SessionExpiry(u32) = u32;
    /// Chosen by the broker.
    0x12 AssignedClientId(Text) = text;
    /// Seconds.
    0x13 ServerKeepAlive(u16) = u16;
    /// Name of the extended authentication.
    0x15 AuthMethod(Text) = text;
    /// Content of the extended authentication.
    0x16 AuthData(Bytes) = binary;
    /// 0: reason strings only on CONNACK and DISCONNECT.
    0x17 RequestProblemInfo(u8) = u8;
    /// Seconds.
    0x18 WillDelay(u32) = u32;
    /// 1: the client wants response information.
    0x19 RequestResponseInfo(u8) = u8;
    /// Prefix for response topics.
    0x1A ResponseInfo(Text) = text;
    /// Another server.
    0x1C ServerReference(Text) = text;
    /// For a person.
    0x1F ReasonString(Text) = text;
    /// QoS 1 and 2 messages in flight.
    0x21 ReceiveMaximum(u16) = u16;
    /// Aliases the sender of this accepts.
    0x22 TopicAliasMaximum(u16) = u16;
    /// Stands for a topic.
    0x23 TopicAlias(u16) = u16;
    /// 0 or 1.
    0x24 MaximumQos(u8) = u8;
    /// 0 or 1.
    0x25 RetainAvailable(u8) = u8;
    /// Bytes of a whole packet.
    0x27 MaximumPacketSize(u32) = u32;
    /// 0 or 1.
    0x28 WildcardSubscriptions(u8) = u8;
    /// 0 or 1.
    0x29 SubscriptionIdsAvailable(u8) = u8;
    /// 0 or 1.
    0x2A SharedSubscriptions(u8) = u8;
}

/// How long a value is on the wire.
mod len {
    use super::*;

    pub(super) fn u8(_: &u8) -> usize {
        1
    }

    pub(super) fn u16(_: &u16) -> usize {
        2
    }

    pub(super) fn u32(_: &u32) -> usize {
        4
    }

    pub(super) fn varint(value: &u32) -> usize {
        varint_len(*value as usize)
    }

    pub(super) fn text(text: &Text) -> usize {
        2 + text.as_bytes().len()
    }

    pub(super) fn binary(data: &Bytes) -> usize {
        2 + data.len()
    }
}

/// How a value is written.
mod put {
    use super::*;

    pub(super) fn u8(out: &mut BytesMut, value: &u8, _: &'static str) -> Result<(), EncodeError> {
        out.put_u8(*value);
        Ok(())
    }

    pub(super) fn u16(out: &mut BytesMut, value: &u16, _: &'static str) -> Result<(), EncodeError> {
        out.put_u16(*value);
        Ok(())
    }

    pub(super) fn u32(out: &mut BytesMut, value: &u32, _: &'static str) -> Result<(), EncodeError> {
        out.put_u32(*value);
        Ok(())
    }

    pub(super) fn varint(out: &mut BytesMut, value: &u32, field: &'static str) -> Result<(), EncodeError> {
        if *value > MAX_VARINT {
            return Err(EncodeError::FieldTooLong(field));
        }
        put_varint(out, *value);
        Ok(())
    }

    pub(super) fn text(out: &mut BytesMut, text: &Text, field: &'static str) -> Result<(), EncodeError> {
        put_binary(out, text.as_bytes(), field)
    }

    pub(super) fn binary(out: &mut BytesMut, data: &Bytes, field: &'static str) -> Result<(), EncodeError> {
        put_binary(out, data, field)
    }
}

impl Property {
    /// Whether it is between publisher and subscriber and so travels inside the seal, not beside it. The response topic
    /// and what names the request are: a broker that could change them would choose who gets the answer.
    pub fn is_sealed(&self) -> bool {
        matches!(
            self,
            Self::PayloadFormat(_)
                | Self::ContentType(_)
                | Self::ResponseTopic(_)
                | Self::CorrelationData(_)
                | Self::User(..)
        )
    }

    /// Whether a server hands it on from the publisher to the subscribers (MQTT 5 3.3.2.3).
    pub fn is_forwarded(&self) -> bool {
        self.is_sealed() || matches!(self, Self::MessageExpiry(_))
    }

    /// Whether it is a user property that only the agent itself may give to its client.
    pub(crate) fn is_agents(&self) -> bool {
        let Self::User(name, _) = self else { return false };
        name.as_bytes().get(..AGENT_NAMES.len()).is_some_and(|start| start.eq_ignore_ascii_case(AGENT_NAMES))
    }

    pub(super) fn belongs(&self, set: PropertySet) -> bool {
        use Property as P;
        use PropertySet as S;
        match self {
            P::PayloadFormat(_) | P::ContentType(_) | P::ResponseTopic(_) | P::CorrelationData(_) => {
                matches!(set, S::Publish | S::Will | S::Sealed)
            }
            P::MessageExpiry(_) => matches!(set, S::Publish | S::Will),
            P::SubscriptionId(_) => matches!(set, S::Publish | S::Subscribe),
            P::TopicAlias(_) => set == S::Publish,
            P::SessionExpiry(_) => matches!(set, S::Connect | S::Connack | S::Disconnect),
            P::AuthMethod(_) | P::AuthData(_) => matches!(set, S::Connect | S::Connack | S::Auth),
            P::RequestProblemInfo(_) | P::RequestResponseInfo(_) => set == S::Connect,
            P::WillDelay(_) => set == S::Will,
            P::ServerReference(_) => matches!(set, S::Connack | S::Disconnect),
            P::ReasonString(_) => matches!(set, S::Connack | S::Ack | S::Disconnect | S::Auth),
            P::ReceiveMaximum(_) | P::TopicAliasMaximum(_) | P::MaximumPacketSize(_) => {
                matches!(set, S::Connect | S::Connack)
            }
            P::AssignedClientId(_)
            | P::ServerKeepAlive(_)
            | P::ResponseInfo(_)
            | P::MaximumQos(_)
            | P::RetainAvailable(_)
            | P::WildcardSubscriptions(_)
            | P::SubscriptionIdsAvailable(_)
            | P::SharedSubscriptions(_) => set == S::Connack,
            P::User(..) => true,
        }
    }

    /// Whether it may stand more than once in a list. A message that reaches a client by several subscriptions has the
    /// identifiers of all.
    pub(super) fn repeats(&self, set: PropertySet) -> bool {
        match self {
            Self::User(..) => true,
            Self::SubscriptionId(_) => set == PropertySet::Publish,
            _ => false,
        }
    }

    pub(super) fn check_value(&self) -> Result<(), ParseError> {
        use Property as P;
        let valid = match self {
            P::PayloadFormat(v)
            | P::RequestProblemInfo(v)
            | P::RequestResponseInfo(v)
            | P::MaximumQos(v)
            | P::RetainAvailable(v)
            | P::WildcardSubscriptions(v)
            | P::SubscriptionIdsAvailable(v)
            | P::SharedSubscriptions(v) => *v <= 1,
            P::SubscriptionId(v) | P::MaximumPacketSize(v) => *v != 0,
            P::ReceiveMaximum(v) => *v != 0,
            P::TopicAlias(0) => return Err(ParseError::Alias(0)),
            P::ResponseTopic(topic) => TopicName::from_bytes(topic.as_bytes()).is_ok(),
            _ => true,
        };
        if valid { Ok(()) } else { Err(ParseError::PropertyValue(self.id())) }
    }
}
