//! What things on the ledger are called.

use std::{fmt, num::NonZeroU16, str::FromStr};

use aws_lc_rs::digest;
use sealcast_identity::{DeviceId, PublicKey};
use serde::{Deserialize, Serialize};

/// Why a text is not a [`Number`], [`struct@Hash`], [`LedgerId`] or [`GroupNumber`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Not `0x` and so many bytes as hexadecimal digits.
    #[error("{text:?} is not a {what}: it must be 0x and {digits} hexadecimal digits")]
    Hex {
        /// What was expected.
        what: &'static str,
        /// How many digits it has.
        digits: usize,
        /// The text, shortened to 80 characters.
        text: String,
    },
    /// Not `<chain id>:<address>`.
    #[error("{0:?} is not a ledger: it must be the chain id, a colon and the contract's address")]
    Ledger(String),
    /// Not a number from 1 to 65535.
    #[error("{0:?} is not a group number: it must be from 1 to 65535")]
    Group(String),
}

fn shorten(text: &str) -> String {
    text.chars().take(80).collect()
}

fn parse_hex<const N: usize>(what: &'static str, text: &str) -> Result<[u8; N], IdError> {
    let mut bytes = [0; N];
    let digits = text.strip_prefix("0x").unwrap_or(text);
    hex::decode_to_slice(digits, &mut bytes).map_err(|_| IdError::Hex { what, digits: 2 * N, text: shorten(text) })?;
    Ok(bytes)
}

macro_rules! hex_bytes {
    ($name:ident, $size:literal, $what:literal) => {
        impl $name {
            /// The bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; $size] {
                &self.0
            }
        }

        impl AsRef<[u8]> for $name {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }

        impl From<[u8; $size]> for $name {
            fn from(bytes: [u8; $size]) -> Self {
                Self(bytes)
            }
        }

        impl From<$name> for [u8; $size] {
            fn from(value: $name) -> Self {
                value.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "0x{}", hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                parse_hex($what, text).map(Self)
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.to_string()
            }
        }
    };
}

/// An originator's number, the paper's "contract number": 20 bytes, and an address to the EVM.
///
/// The last 20 bytes of SHA-256 over `"sealcast-number-v1"`, the ledger's address and the name. So it stays the same
/// when the device's key changes or the ledger moves, and is another on another ledger.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Number([u8; 20]);
hex_bytes!(Number, 20, "number");

/// A SHA-256 digest: of a key package, a certificate, an entry, or the ledger's head.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Hash([u8; 32]);
hex_bytes!(Hash, 32, "SHA-256 digest");

impl Hash {
    /// SHA-256 of `data`.
    #[must_use]
    pub fn of(data: &[u8]) -> Self {
        Self::of_parts(&[data])
    }

    /// SHA-256 of the parts one after the other.
    #[must_use]
    pub fn of_parts(parts: &[&[u8]]) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        for part in parts {
            context.update(part);
        }
        let mut out = [0; 32];
        out.copy_from_slice(context.finish().as_ref());
        Self(out)
    }
}

/// Which ledger: a contract's address on a network. It is in every signed preimage, so that an entry for one ledger is
/// worth nothing on another. A ledger that moves keeps the name of its first contract in all that is signed about it; its
/// entries name the contract that they are for.
///
/// As text `<chain id>:<address>`, for example `5318:0x5fbdb2315678afecb367f032d93f642f64180aa3`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct LedgerId {
    /// The network's chain id (EIP-155).
    pub chain_id: u64,
    /// The contract's address.
    pub address: [u8; 20],
}

impl LedgerId {
    /// Text at the head of an MLS group id.
    const MLS_GROUP_LABEL: &'static [u8] = b"sealcast-group-v1";

    /// The number of the root.
    #[must_use]
    pub fn root(&self) -> Number {
        self.number_of_name("root")
    }

    /// The number of the CA.
    #[must_use]
    pub fn ca(&self) -> Number {
        self.number_of_name("ca")
    }

    /// The number of the operator.
    #[must_use]
    pub fn operator(&self) -> Number {
        self.number_of_name("operator")
    }

    /// The number of a device.
    #[must_use]
    pub fn number_of(&self, device: &DeviceId) -> Number {
        self.number_of_name(device.as_str())
    }

    fn number_of_name(&self, name: &str) -> Number {
        let hash = Hash::of_parts(&[b"sealcast-number-v1", &self.address, name.as_bytes()]);
        let mut number = [0; 20];
        number.copy_from_slice(&hash.0[12..]);
        Number(number)
    }

    /// The MLS group id (RFC 9420, section 5.1) of a group's generation, 51 bytes: label, chain id, address, group,
    /// generation.
    #[must_use]
    pub fn mls_group_id(&self, group: GroupNumber, generation: Generation) -> Vec<u8> {
        let chain_id = self.chain_id.to_be_bytes();
        [Self::MLS_GROUP_LABEL, &chain_id, &self.address, &group.get().to_be_bytes(), &generation.0.to_be_bytes()]
            .concat()
    }
}

impl fmt::Display for LedgerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:0x{}", self.chain_id, hex::encode(self.address))
    }
}

impl fmt::Debug for LedgerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for LedgerId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let bad = || IdError::Ledger(shorten(text));
        let (chain_id, address) = text.split_once(':').ok_or_else(bad)?;
        Ok(Self { chain_id: chain_id.parse().map_err(|_| bad())?, address: parse_hex("address", address)? })
    }
}

impl TryFrom<String> for LedgerId {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<LedgerId> for String {
    fn from(id: LedgerId) -> Self {
        id.to_string()
    }
}

/// All that a client must know to verify a ledger from its first entry on: the arguments of the contract's constructor,
/// and where it stands. Comes with the client's configuration, never from the ledger's side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Genesis {
    /// Which ledger: the contract that its first entry was written to. It is called so wherever it has moved since, see
    /// [`Replica::current_id`](crate::Replica::current_id).
    pub id: LedgerId,
    /// The root CA's key, which says what key the issuing CA has. It never changes.
    pub root: PublicKey,
    /// The issuing CA's first key, which registers devices.
    pub ca: PublicKey,
    /// The operator's first key, which makes groups and grants.
    pub operator: PublicKey,
}

impl Genesis {
    /// The head before the first entry.
    #[must_use]
    pub fn head(&self) -> Hash {
        Hash::of_parts(&[
            b"sealcast-genesis-v2",
            &self.id.chain_id.to_be_bytes(),
            &self.id.address,
            self.root.xy(),
            self.ca.xy(),
            self.operator.xy(),
        ])
    }
}

/// A group's number on its ledger: 1, 2, 3 in the order in which they were created.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GroupNumber(NonZeroU16);

impl GroupNumber {
    /// `None` for 0, which no group has.
    #[must_use]
    pub fn new(number: u16) -> Option<Self> {
        NonZeroU16::new(number).map(Self)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0.get()
    }
}

impl fmt::Display for GroupNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for GroupNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for GroupNumber {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        text.parse().map(Self).map_err(|_| IdError::Group(shorten(text)))
    }
}

/// How often a group was reset. Each generation is an MLS group of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(pub u32);

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A group's epoch: the number of commits in its generation, and the MLS epoch, always.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
