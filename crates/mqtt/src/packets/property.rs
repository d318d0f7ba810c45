//! MQTT 5 property lists (MQTT 5 2.2.2), in the order they came in.

use bytes::{BufMut, Bytes, BytesMut};
use sealcast_topic::TopicName;

use super::error::{EncodeError, ParseError};
use super::property_set::{MAX_PROPERTIES, PropertySet};
use super::wire::{Reader, Text, put_text, put_varint, varint_len};

/// Names of user properties that begin so, in whatever case, are the agent's: what it says of a message
/// (`sealcast-sender`). No publisher and no broker speaks in its name to an application.
const AGENT_NAMES: &[u8] = b"sealcast-";

macro_rules! properties {
    ($($(#[$doc:meta])* $id:literal $name:ident($type:ty) = $read:ident / $put:ident;)*) => {
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

            fn read(reader: &mut Reader) -> Result<Self, ParseError> {
                match reader.varint("property identifier")? {
                    $($id => Ok(Self::$name(reader.$read(stringify!($name))?)),)*
                    0x26 => Ok(Self::User(reader.text("user property name")?, reader.text("user property value")?)),
                    other => Err(ParseError::UnknownProperty(other)),
                }
            }

            fn put(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
                out.put_u8(self.id());
                match self {
                    $(Self::$name(value) => $put(out, value, stringify!($name)),)*
                    Self::User(name, value) => {
                        put_text(out, name.as_bytes(), "user property name")?;
                        put_text(out, value.as_bytes(), "user property value")
                    }
                }
            }
        }
    };
}

properties! {
    /// 1: the payload is UTF-8.
    0x01 PayloadFormat(u8) = u8 / u8_;
    /// Seconds.
    0x02 MessageExpiry(u32) = u32 / u32_;
    /// MIME type or the like.
    0x03 ContentType(Text) = text / text_;
    /// Topic for the answer.
    0x08 ResponseTopic(Text) = text / text_;
    /// Names the request.
    0x09 CorrelationData(Bytes) = binary / binary_;
    /// 1 to 268,435,455.
    0x0B SubscriptionId(u32) = varint / varint_;
    /// Seconds; 0xFFFFFFFF: never.
    0x11 SessionExpiry(u32) = u32 / u32_;
    /// Chosen by the broker.
    0x12 AssignedClientId(Text) = text / text_;
    /// Seconds.
    0x13 ServerKeepAlive(u16) = u16 / u16_;
    /// Name of the extended authentication.
    0x15 AuthMethod(Text) = text / text_;
    /// Content of the extended authentication.
    0x16 AuthData(Bytes) = binary / binary_;
    /// 0: reason strings only on CONNACK and DISCONNECT.
    0x17 RequestProblemInfo(u8) = u8 / u8_;
    /// Seconds.
    0x18 WillDelay(u32) = u32 / u32_;
    /// 1: the client wants response information.
    0x19 RequestResponseInfo(u8) = u8 / u8_;
    /// Prefix for response topics.
    0x1A ResponseInfo(Text) = text / text_;
    /// Another server.
    0x1C ServerReference(Text) = text / text_;
    /// For a person.
    0x1F ReasonString(Text) = text / text_;
    /// QoS 1 and 2 messages in flight.
    0x21 ReceiveMaximum(u16) = u16 / u16_;
    /// Aliases the sender of this accepts.
    0x22 TopicAliasMaximum(u16) = u16 / u16_;
    /// Stands for a topic.
    0x23 TopicAlias(u16) = u16 / u16_;
    /// 0 or 1.
    0x24 MaximumQos(u8) = u8 / u8_;
    /// 0 or 1.
    0x25 RetainAvailable(u8) = u8 / u8_;
    /// Bytes of a whole packet.
    0x27 MaximumPacketSize(u32) = u32 / u32_;
    /// 0 or 1.
    0x28 WildcardSubscriptions(u8) = u8 / u8_;
    /// 0 or 1.
    0x29 SubscriptionIdsAvailable(u8) = u8 / u8_;
    /// 0 or 1.
    0x2A SharedSubscriptions(u8) = u8 / u8_;
}

fn u8_(out: &mut BytesMut, value: &u8, _: &'static str) -> Result<(), EncodeError> {
    out.put_u8(*value);
    Ok(())
}

fn u16_(out: &mut BytesMut, value: &u16, _: &'static str) -> Result<(), EncodeError> {
    out.put_u16(*value);
    Ok(())
}

fn u32_(out: &mut BytesMut, value: &u32, _: &'static str) -> Result<(), EncodeError> {
    out.put_u32(*value);
    Ok(())
}

fn varint_(out: &mut BytesMut, value: &u32, field: &'static str) -> Result<(), EncodeError> {
    if *value > super::wire::MAX_VARINT {
        return Err(EncodeError::FieldTooLong(field));
    }
    put_varint(out, *value);
    Ok(())
}

fn text_(out: &mut BytesMut, value: &Text, field: &'static str) -> Result<(), EncodeError> {
    put_text(out, value.as_bytes(), field)
}

fn binary_(out: &mut BytesMut, value: &Bytes, field: &'static str) -> Result<(), EncodeError> {
    put_text(out, value, field)
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

    /// Whether it is a user property that only the agent itself may give to its client.
    pub(crate) fn is_agents(&self) -> bool {
        let Self::User(name, _) = self else { return false };
        name.as_bytes().get(..AGENT_NAMES.len()).is_some_and(|start| start.eq_ignore_ascii_case(AGENT_NAMES))
    }

    fn belongs(&self, set: PropertySet) -> bool {
        use Property as P;
        use PropertySet as S;
        match self {
            P::PayloadFormat(_) | P::ContentType(_) | P::ResponseTopic(_) | P::CorrelationData(_) => {
                matches!(set, S::Publish | S::Will | S::Sealed)
            }
            P::MessageExpiry(_) => matches!(set, S::Publish | S::Will),
            P::SubscriptionId(_) | P::TopicAlias(_) => set == S::Publish,
            P::SessionExpiry(_) => matches!(set, S::Connect | S::Connack | S::Disconnect),
            P::AuthMethod(_) | P::AuthData(_) => matches!(set, S::Connect | S::Connack),
            P::RequestProblemInfo(_) | P::RequestResponseInfo(_) => set == S::Connect,
            P::WillDelay(_) => set == S::Will,
            P::ServerReference(_) => matches!(set, S::Connack | S::Disconnect),
            P::ReasonString(_) => matches!(set, S::Connack | S::Ack | S::Disconnect),
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

    fn check_value(&self) -> Result<(), ParseError> {
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

/// A checked property list. Its order is kept, so that encoding it gives the bytes it was read from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Properties(Vec<Property>);

impl Properties {
    /// An empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads a list without its length in front, as it travels inside a seal.
    ///
    /// # Errors
    /// Any rule broken of MQTT 5 2.2.2 for that `set`, or more than [`MAX_PROPERTIES`].
    pub fn parse(bytes: Bytes, set: PropertySet) -> Result<Self, ParseError> {
        let mut reader = Reader::new(bytes);
        let mut list = Vec::new();
        let mut seen = 0u64;
        while !reader.is_empty() {
            let property = Property::read(&mut reader)?;
            if !property.belongs(set) {
                return Err(ParseError::MisplacedProperty(property.id()));
            }
            property.check_value()?;
            let repeats = matches!(property, Property::User(..) | Property::SubscriptionId(_));
            let bit = 1u64 << (property.id() & 0x3F);
            if seen & bit != 0 && !repeats {
                return Err(ParseError::DuplicateProperty(property.id()));
            }
            seen |= bit;
            if list.len() == MAX_PROPERTIES {
                return Err(ParseError::TooManyProperties);
            }
            list.push(property);
        }
        Ok(Self(list))
    }

    /// The topic alias in a list whose texts may be wrong. `reader` stands before the list's length.
    ///
    /// # Errors
    /// If not even the properties' lengths can be followed.
    pub(crate) fn scan_topic_alias(reader: &mut Reader) -> Result<Option<u16>, ParseError> {
        let len = reader.varint("property length")?;
        let mut reader = Reader::new(reader.take(len as usize, "properties")?);
        let mut alias = None;
        while !reader.is_empty() {
            let property = reader.varint("property identifier")?;
            match property {
                0x01 => drop(reader.u8("property")?),
                0x02 => drop(reader.u32("property")?),
                0x0B => drop(reader.varint("property")?),
                0x23 => alias = Some(reader.u16("property")?),
                0x03 | 0x08 | 0x09 => drop(reader.binary("property")?),
                0x26 => drop((reader.binary("property")?, reader.binary("property")?)),
                other => return Err(ParseError::UnknownProperty(other)),
            }
        }
        Ok(alias)
    }

    /// Reads a list with its length in front.
    pub(crate) fn read(reader: &mut Reader, set: PropertySet) -> Result<Self, ParseError> {
        let len = reader.varint("property length")?;
        Self::parse(reader.take(len as usize, "properties")?, set)
    }

    /// The list's bytes without a length in front.
    ///
    /// # Errors
    /// If a binary value is longer than 65,535 bytes.
    pub fn encode(&self) -> Result<Bytes, EncodeError> {
        let mut out = BytesMut::new();
        for property in &self.0 {
            property.put(&mut out)?;
        }
        Ok(out.freeze())
    }

    /// Appends length and list.
    pub(crate) fn put(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        let list = self.encode()?;
        let len = u32::try_from(list.len())
            .ok()
            .filter(|len| varint_len(*len) <= 4 && *len <= super::wire::MAX_VARINT)
            .ok_or(EncodeError::TooLarge(list.len()))?;
        put_varint(out, len);
        out.put_slice(&list);
        Ok(())
    }

    /// The properties in their order.
    pub fn iter(&self) -> std::slice::Iter<'_, Property> {
        self.0.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Appends one.
    pub fn push(&mut self, property: Property) {
        self.0.push(property);
    }

    /// Puts `property` in the place of the first one of its kind, or at the end.
    pub fn set(&mut self, property: Property) {
        match self.0.iter_mut().find(|other| other.id() == property.id()) {
            Some(place) => *place = property,
            None => self.0.push(property),
        }
    }

    /// The first value that `pick` returns.
    pub fn find<'a, T>(&'a self, pick: impl FnMut(&'a Property) -> Option<T>) -> Option<T> {
        self.0.iter().find_map(pick)
    }

    /// Splits into what travels inside the seal and what stays outside.
    pub fn partition_sealed(&self) -> (Properties, Properties) {
        let (inside, outside) = self.0.iter().cloned().partition(Property::is_sealed);
        (Self(inside), Self(outside))
    }

    /// The list without what is the agent's to say: user properties whose name begins with `sealcast-`, in whatever case.
    pub fn without_agents(&self) -> Self {
        self.0.iter().filter(|property| !property.is_agents()).cloned().collect()
    }

    /// The alias in a PUBLISH.
    pub fn topic_alias(&self) -> Option<u16> {
        self.find(|p| if let Property::TopicAlias(alias) = p { Some(*alias) } else { None })
    }

    /// Maximum Packet Size in bytes.
    pub fn maximum_packet_size(&self) -> Option<u32> {
        self.find(|p| if let Property::MaximumPacketSize(size) = p { Some(*size) } else { None })
    }

    /// Topic Alias Maximum; 0 if absent, as the standard says.
    pub fn topic_alias_maximum(&self) -> u16 {
        self.find(|p| if let Property::TopicAliasMaximum(max) = p { Some(*max) } else { None }).unwrap_or(0)
    }

    /// Will Delay Interval in seconds; 0 if absent.
    pub fn will_delay_s(&self) -> u32 {
        self.find(|p| if let Property::WillDelay(seconds) = p { Some(*seconds) } else { None }).unwrap_or(0)
    }

    /// Session Expiry Interval in seconds.
    pub fn session_expiry_s(&self) -> Option<u32> {
        self.find(|p| if let Property::SessionExpiry(seconds) = p { Some(*seconds) } else { None })
    }
}

impl FromIterator<Property> for Properties {
    fn from_iter<I: IntoIterator<Item = Property>>(list: I) -> Self {
        Self(list.into_iter().collect())
    }
}

impl<'a> IntoIterator for &'a Properties {
    type Item = &'a Property;
    type IntoIter = std::slice::Iter<'a, Property>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}
