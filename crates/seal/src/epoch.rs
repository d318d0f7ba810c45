//! An epoch of a group, as its control plane hands it over: which one, its exporter secret, and who sits on which leaf.

use std::{collections::BTreeMap, fmt};

use sealcast_identity::{DeviceId, PublicKey};
use zeroize::Zeroizing;

use crate::header::LeafIndex;

/// An epoch's exporter secret (RFC 9605 §5.2, RFC 9420 §8.5), the base key of its senders' keys. Wiped when dropped.
#[derive(Clone)]
pub struct EpochSecret(Zeroizing<[u8; 32]>);

impl EpochSecret {
    /// Takes over the 32 bytes; the caller wipes its own copy.
    pub fn new(secret: [u8; 32]) -> Self {
        Self(Zeroizing::new(secret))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.0.as_ref()
    }
}

impl fmt::Debug for EpochSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EpochSecret(..)")
    }
}

/// The ledger whose group it is. A signature names it, so that it proves nothing on another ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ledger {
    /// The EVM chain (EIP-155).
    pub chain_id: u64,
    /// Address of the contract on it.
    pub contract: [u8; 20],
}

/// Which epoch of which generation; ordered as the ledger orders them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EpochId {
    /// Counts the group's resets.
    pub generation: u32,
    /// MLS epoch, which is the ledger's epoch.
    pub epoch: u64,
}

impl fmt::Display for EpochId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.generation {
            0 => write!(f, "{}", self.epoch),
            generation => write!(f, "{} of generation {generation}", self.epoch),
        }
    }
}

/// How a group's receivers know who sent a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authenticity {
    /// Each message is signed by its sender; unsigned ones are refused.
    Signature,
    /// Each message is known to be from some member. A member can then write in another member's name.
    Group,
}

/// A member of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its name.
    pub name: DeviceId,
    /// Its one key.
    pub key: PublicKey,
}

/// One epoch of a group, as its control plane hands it over.
#[derive(Debug)]
pub struct Epoch {
    /// Which.
    pub id: EpochId,
    /// Its exporter secret.
    pub secret: EpochSecret,
    /// This device's leaf.
    pub own_leaf: LeafIndex,
    /// Everybody's leaf, this device's included.
    pub roster: BTreeMap<LeafIndex, Member>,
    /// The group's policy.
    pub authenticity: Authenticity,
    /// When it became the current one, Unix ms: the previous epoch ended then.
    pub since_ms: u64,
    /// How many entries the ledger had with the commit that began it. Reports count from there. `None` if that is not
    /// known any more: then nothing is reported, and reports are not read.
    pub began_at: Option<u64>,
}
