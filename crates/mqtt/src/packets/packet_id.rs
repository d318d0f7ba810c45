//! What names a message until it is acknowledged.

use std::fmt;
use std::num::NonZeroU16;

use super::error::ParseError;
use super::wire::Reader;

/// A packet identifier (MQTT 5 2.2.1): never zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PacketId(NonZeroU16);

impl PacketId {
    /// `None` for zero.
    pub fn new(id: u16) -> Option<Self> {
        NonZeroU16::new(id).map(Self)
    }

    /// The number.
    pub fn value(self) -> u16 {
        self.0.get()
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, ParseError> {
        Self::new(reader.u16("packet identifier")?).ok_or(ParseError::PacketId)
    }
}

impl fmt::Debug for PacketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PacketId({})", self.0)
    }
}
