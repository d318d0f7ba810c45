//! MQTT 5 property lists (MQTT 5 2.2.2), in the order they came in.

use bytes::{Bytes, BytesMut};

use super::error::{EncodeError, ParseError};
use super::property::Property;
use super::property_set::{MAX_PROPERTIES, PropertySet};
use super::version::Version;
use super::wire::{MAX_VARINT, Reader, Text, put_varint, varint_len};

/// A checked property list. Its order is kept, so that encoding it gives the bytes it was read from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Properties(Vec<Property>);

impl Properties {
    /// An empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads a list with its length in front, as it stands in a packet.
    ///
    /// # Errors
    /// As [`Properties::parse`], and if something follows.
    pub fn parse_with_length(bytes: &Bytes, set: PropertySet) -> Result<Self, ParseError> {
        let mut reader = Reader::new(bytes, 0);
        let list = Self::read(&mut reader, set, Version::V5)?;
        reader.end()?;
        Ok(list)
    }

    /// Reads a list without its length in front, as it travels inside a seal.
    ///
    /// # Errors
    /// Any rule broken of MQTT 5 2.2.2 for that `set`, or more than [`MAX_PROPERTIES`].
    pub fn parse(bytes: Bytes, set: PropertySet) -> Result<Self, ParseError> {
        Self::parse_part(Reader::new(&bytes, 0), set)
    }

    fn parse_part(mut reader: Reader<'_>, set: PropertySet) -> Result<Self, ParseError> {
        // Few properties are shorter than this, and few lists are longer: one allocation of about the right size.
        let mut list = Vec::with_capacity((reader.len() / 8).clamp(1, 8));
        let mut seen = 0u64;
        let mut repeated = 0;
        while !reader.is_empty() {
            let property = Property::read(&mut reader)?;
            if !property.belongs(set) {
                return Err(ParseError::MisplacedProperty(property.id()));
            }
            property.check_value()?;
            let bit = 1u64 << (property.id() & 0x3F);
            if property.repeats(set) {
                repeated += 1;
                if repeated > MAX_PROPERTIES {
                    return Err(ParseError::TooManyProperties);
                }
            } else if seen & bit != 0 {
                return Err(ParseError::DuplicateProperty(property.id()));
            }
            seen |= bit;
            list.push(property);
        }
        Ok(Self(list))
    }

    /// The topic alias in a list whose texts may be wrong. `reader` stands before the list's length.
    ///
    /// # Errors
    /// If not even the properties' lengths can be followed.
    pub(super) fn scan_topic_alias(reader: &mut Reader<'_>) -> Result<Option<u16>, ParseError> {
        let len = reader.varint("property length")?;
        let mut reader = reader.part(len as usize, "properties")?;
        let mut alias = None;
        while !reader.is_empty() {
            let property = reader.varint("property identifier")?;
            match property {
                0x01 => drop(reader.u8("property")?),
                0x02 => drop(reader.u32("property")?),
                0x0B => drop(reader.varint("property")?),
                0x23 => alias = Some(reader.u16("property")?),
                0x03 | 0x08 | 0x09 => drop(reader.binary_slice("property")?),
                0x26 => {
                    reader.binary_slice("property")?;
                    reader.binary_slice("property")?;
                }
                other => return Err(ParseError::UnknownProperty(other)),
            }
        }
        Ok(alias)
    }

    /// Reads a list with its length in front; an empty one in a version without properties.
    pub(super) fn read(reader: &mut Reader<'_>, set: PropertySet, version: Version) -> Result<Self, ParseError> {
        if version != Version::V5 {
            return Ok(Self::new());
        }
        match reader.varint("property length")? {
            0 => Ok(Self::new()),
            len => Self::parse_part(reader.part(len as usize, "properties")?, set),
        }
    }

    /// Bytes that the list takes with its length in front; none in a version without properties.
    pub(super) fn len_on_wire(&self, version: Version) -> usize {
        list_len(self.iter(), version)
    }

    /// Appends the list with its length in front; nothing in a version without properties.
    pub(super) fn put(&self, version: Version, out: &mut BytesMut) -> Result<(), EncodeError> {
        put_list(self.iter(), version, out)
    }

    /// The list's bytes with their length in front, as they stand in a packet.
    ///
    /// # Errors
    /// If a binary value is longer than 65,535 bytes, or all of it too long for a packet.
    pub fn encode_with_length(&self) -> Result<Bytes, EncodeError> {
        let mut out = BytesMut::with_capacity(self.len_on_wire(Version::V5));
        self.put(Version::V5, &mut out)?;
        Ok(out.freeze())
    }

    /// The list's bytes without a length in front.
    ///
    /// # Errors
    /// If a binary value is longer than 65,535 bytes.
    pub fn encode(&self) -> Result<Bytes, EncodeError> {
        let mut out = BytesMut::with_capacity(self.iter().map(Property::encoded_len).sum());
        self.iter().try_for_each(|property| property.put(&mut out))?;
        Ok(out.freeze())
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

    /// Leaves out what `keep` does not want.
    pub fn retain(&mut self, keep: impl FnMut(&Property) -> bool) {
        self.0.retain(keep);
    }

    /// Rough memory that the list takes, with the texts in it.
    pub fn memory_bytes(&self) -> usize {
        self.iter().map(|property| size_of::<Property>() + property.encoded_len()).sum()
    }
}

/// What a packet's list says; the standard's default where it says nothing.
macro_rules! values {
    ($($(#[$doc:meta])* $get:ident: $property:ident($type:ty) $(else $default:expr)?;)*) => {
        impl Properties {
            $(
                $(#[$doc])*
                pub fn $get(&self) -> values!(@result $type $(, $default)?) {
                    let found = self.find(|p| if let Property::$property(value) = p { Some(value.clone()) } else { None });
                    values!(@value found $(, $default)?)
                }
            )*
        }
    };
    (@result $type:ty) => { Option<$type> };
    (@result $type:ty, $default:expr) => { $type };
    (@value $found:ident) => { $found };
    (@value $found:ident, $default:expr) => { $found.unwrap_or($default) };
}

values! {
    /// The alias in a PUBLISH.
    topic_alias: TopicAlias(u16);
    /// Seconds after which nobody gets the message any more.
    message_expiry_s: MessageExpiry(u32);
    /// What names the request that a message answers.
    correlation_data: CorrelationData(Bytes);
    /// The identifier in a SUBSCRIBE.
    subscription_id: SubscriptionId(u32);
    /// Maximum Packet Size in bytes.
    maximum_packet_size: MaximumPacketSize(u32);
    /// Topic Alias Maximum; 0 if absent, as the standard says.
    topic_alias_maximum: TopicAliasMaximum(u16) else 0;
    /// QoS 1 and 2 messages that may be in flight; as many as there are identifiers if absent.
    receive_maximum: ReceiveMaximum(u16) else u16::MAX;
    /// Will Delay Interval in seconds; 0 if absent.
    will_delay_s: WillDelay(u32) else 0;
    /// Session Expiry Interval in seconds.
    session_expiry_s: SessionExpiry(u32);
    /// The extended authentication that a client asks for.
    auth_method: AuthMethod(Text);
    /// 0: no reason strings and user properties but on CONNACK, PUBLISH and DISCONNECT.
    request_problem_info: RequestProblemInfo(u8) else 1;
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

/// As [`Properties::len_on_wire`], of a list that is put together on the way out.
pub(super) fn list_len<'a>(list: impl Iterator<Item = &'a Property>, version: Version) -> usize {
    if version != Version::V5 {
        return 0;
    }
    let len: usize = list.map(Property::encoded_len).sum();
    varint_len(len) + len
}

/// As [`Properties::put`], of a list that is put together on the way out.
pub(super) fn put_list<'a>(
    mut list: impl Iterator<Item = &'a Property> + Clone,
    version: Version,
    out: &mut BytesMut,
) -> Result<(), EncodeError> {
    if version != Version::V5 {
        return Ok(());
    }
    let len: usize = list.clone().map(Property::encoded_len).sum();
    let length = u32::try_from(len).ok().filter(|len| *len <= MAX_VARINT).ok_or(EncodeError::TooLarge(len))?;
    put_varint(out, length);
    list.try_for_each(|property| property.put(out))
}
