//! How single values stand in a snapshot.

use std::{
    collections::{BTreeMap, VecDeque},
    num::{NonZeroU32, NonZeroU128},
};

use crate::{CodecError, Refusal, codec::Reader};

/// Raised with each change of what a snapshot holds, or of what records come to.
pub(super) const VERSION: u8 = 2;

/// Why a snapshot is of no use. The records are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// Some of its bytes are not those that were written.
    #[error("its digest does not fit: it is damaged")]
    Damaged,
    /// It was made by a program that keeps other things.
    #[error("it has format version {got}, and this program reads version {VERSION}")]
    Version {
        /// The version that was found.
        got: u8,
    },
    /// It is of a ledger that begins otherwise.
    #[error("it is of another ledger")]
    OtherLedger,
    /// It does not end where it should, or has a text that no ledger has.
    #[error("it cannot be read")]
    Codec(#[from] CodecError),
    /// It has a value that no ledger has.
    #[error("it cannot be read: {0}")]
    Value(&'static str),
}

impl From<Refusal> for SnapshotError {
    fn from(refusal: Refusal) -> Self {
        Self::Codec(refusal.into())
    }
}

/// A value that a snapshot can hold.
pub(super) trait Stored: Sized {
    /// Appends it.
    fn put(&self, out: &mut Vec<u8>);
    /// Reads it from the front.
    fn read(reader: &mut Reader<'_>) -> Result<Self, SnapshotError>;
}

/// A structure: its fields in this order, none left out.
macro_rules! stored_struct {
    ($name:ident { $($field:ident),* $(,)? }) => {
        impl Stored for $name {
            fn put(&self, out: &mut Vec<u8>) {
                let Self { $($field),* } = self;
                $($field.put(out);)*
            }

            fn read(reader: &mut Reader<'_>) -> Result<Self, SnapshotError> {
                Ok(Self { $($field: Stored::read(reader)?),* })
            }
        }
    };
}
pub(super) use stored_struct;

/// An enumeration: a number (u8) for the variant, then its fields in this order.
macro_rules! stored_enum {
    ($name:ident { $($number:literal => $variant:ident { $($field:ident),* }),* $(,)? }) => {
        impl Stored for $name {
            fn put(&self, out: &mut Vec<u8>) {
                match self {
                    $(Self::$variant { $($field),* } => {
                        out.push($number);
                        $($field.put(out);)*
                    })*
                }
            }

            fn read(reader: &mut Reader<'_>) -> Result<Self, SnapshotError> {
                match reader.u8()? {
                    $($number => Ok(Self::$variant { $($field: Stored::read(reader)?),* }),)*
                    _ => Err(SnapshotError::Value(concat!("a ", stringify!($name), " of an unknown kind"))),
                }
            }
        }
    };
}
pub(super) use stored_enum;

macro_rules! stored_integers {
    ($($name:ident),*) => {
        $(impl Stored for $name {
            fn put(&self, out: &mut Vec<u8>) {
                out.extend(self.to_be_bytes());
            }

            fn read(reader: &mut Reader<'_>) -> Result<Self, SnapshotError> {
                Ok(Self::from_be_bytes(reader.array()?))
            }
        })*
    };
}
stored_integers!(u8, u16, u32, u64, u128, i128);

impl Stored for bool {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, SnapshotError> {
        match reader.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(SnapshotError::Value("neither yes nor no")),
        }
    }
}

impl Stored for usize {
    fn put(&self, out: &mut Vec<u8>) {
        (*self as u64).put(out);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, SnapshotError> {
        Self::try_from(reader.u64()?).map_err(|_| SnapshotError::Value("a length beyond this machine's"))
    }
}

impl Stored for NonZeroU32 {
    fn put(&self, out: &mut Vec<u8>) {
        self.get().put(out);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, SnapshotError> {
        Self::new(Stored::read(reader)?).ok_or(SnapshotError::Value("zero"))
    }
}

impl Stored for NonZeroU128 {
    fn put(&self, out: &mut Vec<u8>) {
        self.get().put(out);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, SnapshotError> {
        Self::new(Stored::read(reader)?).ok_or(SnapshotError::Value("zero"))
    }
}

impl<T: Stored> Stored for Option<T> {
    fn put(&self, out: &mut Vec<u8>) {
        self.is_some().put(out);
        self.iter().for_each(|value| value.put(out));
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, SnapshotError> {
        bool::read(reader)?.then(|| T::read(reader)).transpose()
    }
}

impl<A: Stored, B: Stored> Stored for (A, B) {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
        self.1.put(out);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, SnapshotError> {
        Ok((A::read(reader)?, B::read(reader)?))
    }
}

impl<A: Stored, B: Stored, C: Stored> Stored for (A, B, C) {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
        self.1.put(out);
        self.2.put(out);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, SnapshotError> {
        Ok((A::read(reader)?, B::read(reader)?, C::read(reader)?))
    }
}

impl<T: Stored> Stored for Vec<T> {
    fn put(&self, out: &mut Vec<u8>) {
        put_all(self, out);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, SnapshotError> {
        read_all(reader)
    }
}

impl<T: Stored> Stored for VecDeque<T> {
    fn put(&self, out: &mut Vec<u8>) {
        put_all(self, out);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, SnapshotError> {
        read_all(reader)
    }
}

impl<K: Stored + Ord, V: Stored> Stored for BTreeMap<K, V> {
    fn put(&self, out: &mut Vec<u8>) {
        put_length(self.len(), out);
        for (key, value) in self {
            key.put(out);
            value.put(out);
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, SnapshotError> {
        read_all::<(K, V), Self>(reader)
    }
}

/// As a `Vec` of them.
pub(super) fn put_all<'a, T: Stored + 'a>(
    items: impl IntoIterator<Item = &'a T, IntoIter: ExactSizeIterator>,
    out: &mut Vec<u8>,
) {
    let items = items.into_iter();
    put_length(items.len(), out);
    items.for_each(|item| item.put(out));
}

fn read_all<T: Stored, C: FromIterator<T>>(reader: &mut Reader<'_>) -> Result<C, SnapshotError> {
    let length = reader.u32()?;
    // Nothing is reserved by a length that may be wrong.
    (0..length).map(|_| T::read(reader)).collect()
}

pub(super) fn put_length(length: usize, out: &mut Vec<u8>) {
    // No ledger has 2^32 entries: each takes longer than a millisecond to be written.
    (length as u32).put(out);
}
