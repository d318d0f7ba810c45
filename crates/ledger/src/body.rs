//! The kinds of entries, each a struct whose fields were checked when they came in.

use std::{fmt, num::NonZeroU32};

use sealcast_identity::{Certificate, DeviceId, KeyError, PublicKey, Signature, SigningKey};

use crate::{
    Epoch, Generation, GroupName, GroupNumber, Hash, LedgerId, Limits, MAX_DECIMALS, Number, Reading, ReadingTopic,
    Reason, Refusal, Serial, TopicFilter, text::check_length,
};

/// Longest body, in bytes: bounds a commit, and with it how many members one can add.
pub const MAX_BODY_BYTES: usize = 96 * 1024;
/// Most filters of one group.
pub const MAX_FILTERS: usize = 16;
/// For how many seconds a reported fault counts.
pub const REPORT_LIFE_S: u64 = 7200;

/// What an entry is. The numbers are the contract's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// See [`DeviceRegistered`].
    DeviceRegistered = 1,
    /// See [`DeviceRevoked`].
    DeviceRevoked = 2,
    /// See [`KeysPublished`].
    KeysPublished = 3,
    /// See [`GroupCreated`].
    GroupCreated = 4,
    /// See [`Granted`].
    Granted = 5,
    /// See [`Revoked`].
    Revoked = 6,
    /// See [`Commit`].
    Commit = 7,
    /// See [`Reading`].
    Reading = 8,
    /// See [`Anchor`].
    Anchor = 9,
    /// See [`GroupReset`].
    GroupReset = 10,
    /// See [`LimitsSet`].
    LimitsSet = 11,
    /// See [`FaultReported`].
    FaultReported = 12,
    /// See [`KeyRotated`].
    KeyRotated = 13,
    /// See [`Moved`].
    Moved = 14,
}

impl Kind {
    /// All, in the order of their numbers.
    pub const ALL: [Self; 14] = [
        Self::DeviceRegistered,
        Self::DeviceRevoked,
        Self::KeysPublished,
        Self::GroupCreated,
        Self::Granted,
        Self::Revoked,
        Self::Commit,
        Self::Reading,
        Self::Anchor,
        Self::GroupReset,
        Self::LimitsSet,
        Self::FaultReported,
        Self::KeyRotated,
        Self::Moved,
    ];

    /// The contract's number.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }
}

impl TryFrom<u8> for Kind {
    type Error = Refusal;

    fn try_from(kind: u8) -> Result<Self, Refusal> {
        Self::ALL.into_iter().find(|k| k.number() == kind).ok_or(Refusal::UnknownKind { kind })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DeviceRegistered => "device registered",
            Self::DeviceRevoked => "device revoked",
            Self::KeysPublished => "keys published",
            Self::GroupCreated => "group created",
            Self::Granted => "granted",
            Self::Revoked => "revoked",
            Self::Commit => "commit",
            Self::Reading => "reading",
            Self::Anchor => "anchor",
            Self::GroupReset => "group reset",
            Self::LimitsSet => "limits set",
            Self::FaultReported => "fault reported",
            Self::KeyRotated => "key rotated",
            Self::Moved => "moved",
        })
    }
}

/// Kind 1, by the CA: a new device, or a new key or certificate for one that exists. Makes a revoked device active
/// again, without what it had been granted. Another key voids what was granted; the same key keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceRegistered {
    /// The device's id.
    pub device: DeviceId,
    /// Its key from now on.
    pub public_key: PublicKey,
    /// SHA-256 of its certificate's DER.
    pub certificate: Hash,
    /// The certificate's serial number.
    pub serial: Serial,
    /// When the certificate ends, seconds since 1970. Not enforced by the ledger.
    pub not_after_s: u64,
}

impl DeviceRegistered {
    /// What the ledger has of a certificate that was issued to `device`.
    ///
    /// # Errors
    /// The certificate's serial number is too long.
    pub fn new(device: DeviceId, certificate: &Certificate) -> Result<Self, Refusal> {
        Ok(Self {
            device,
            public_key: *certificate.public_key(),
            certificate: Hash::of(certificate.der()),
            serial: Serial::new(certificate.serial())?,
            not_after_s: certificate.not_after_s(),
        })
    }
}

/// Kind 2, by the CA or the operator: the device may do nothing any more, and loses all grants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceRevoked {
    /// The device.
    pub device: Number,
    /// Why, for people.
    pub reason: Reason,
}

/// Kind 3, by a device: a key package with which others may add it to a group. Each is published once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeysPublished {
    /// SHA-256 of the MLS message that carries the KeyPackage (RFC 9420, sections 6 and 10).
    pub key_package: Hash,
    /// SHA-256 of the device's certificate; must be the one it is registered with.
    pub certificate: Hash,
    /// "I hold no group state: remove my old leaves and add me again."
    pub rejoin: bool,
}

impl KeysPublished {
    /// Most parts of a broadcast: the key package and its certificates.
    pub const MAX_PARTS: usize = 9;

    /// The key package's hash and the certificate's in a broadcast of a device: parts, each behind its length (u32,
    /// big-endian), of which the key package is the first and the device's certificate the second. Certificates follow, which
    /// the hashes do not cover. `None` if a device could not read it to its end, either: it must not pass for what its
    /// author has published.
    #[must_use]
    pub fn hashes_of(broadcast: &[u8]) -> Option<(Hash, Hash)> {
        fn part(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
            let (length, rest) = bytes.split_first_chunk::<4>()?;
            rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)
        }
        let (key_package, rest) = part(broadcast)?;
        let (certificate, mut rest) = part(rest)?;
        let mut parts = 2;
        while !rest.is_empty() {
            (_, rest) = part(rest)?;
            parts += 1;
        }
        (parts <= Self::MAX_PARTS).then_some(())?;
        Some((Hash::of(key_package), Hash::of(certificate)))
    }
}

/// Kind 4, by the operator, who becomes the owner. The ledger numbers the group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupCreated {
    /// Its name, unique on this ledger.
    pub name: GroupName,
    /// Its topics: 1 to 16 filters that no group has yet.
    pub filters: Vec<TopicFilter>,
    /// How its keys are handled, and when its members stop sealing.
    pub policy: Policy,
}

/// How a group's keys are handled, and when its members stop sealing; fixed when it is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// After how many seconds an epoch must end; `None`: no limit.
    pub epoch_max_age_s: Option<NonZeroU32>,
    /// After how many messages an epoch must end; `None`: no limit.
    pub epoch_max_messages: Option<NonZeroU32>,
    /// How many epochs before the present one stay readable.
    pub retention: u16,
    /// Who can be shown to have sent a message.
    pub authenticity: Authenticity,
    /// Members seal nothing when the operator's newest word on the ledger ([`AttestedHead`](crate::AttestedHead)) is older,
    /// in seconds; `None`: they seal without it.
    pub ledger_max_age_s: Option<NonZeroU32>,
}

/// What proves where a message comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Authenticity {
    /// Each message is signed by its sender, who cannot deny it.
    Signature = 0,
    /// The group key only: some member sent it.
    Group = 1,
}

/// Kind 5, by the group's owner: the device may be a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted {
    /// The group.
    pub group: GroupNumber,
    /// The device, which must be active and not yet granted.
    pub device: Number,
}

/// Kind 6, by the group's owner: the device may no longer be a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revoked {
    /// The group.
    pub group: GroupNumber,
    /// The device, which must be granted.
    pub device: Number,
    /// Why, for people.
    pub reason: Reason,
}

/// Kind 7, by a granted device: the one commit that ends this epoch. The first founds the group.
#[derive(Clone, PartialEq, Eq)]
pub struct Commit {
    /// The group.
    pub group: GroupNumber,
    /// The generation it is made in.
    pub generation: Generation,
    /// The epoch it is made in.
    pub epoch: Epoch,
    /// The whole MLS message (RFC 9420, section 12.4), at least one byte.
    pub commit: Vec<u8>,
}

impl fmt::Debug for Commit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { group, generation, epoch, commit } = self;
        write!(f, "Commit({group}, {generation}, {epoch}, {} bytes)", commit.len())
    }
}

/// Kind 9, by a granted device: the Merkle root of a batch of message digests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchor {
    /// The group.
    pub group: GroupNumber,
    /// The root.
    pub root: Hash,
    /// How many messages it is over, at least one.
    pub count: u32,
}

/// Kind 10, by the group's owner: the group's keys are given up, its members start again at epoch 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupReset {
    /// The group.
    pub group: GroupNumber,
    /// Why, for people.
    pub reason: Reason,
}

/// Kind 11, by the operator or the owner: what readings of a topic must keep to from the next entry on. Replaces what was
/// said before, and lets each device begin anew: neither its last value nor its last sequence number counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitsSet {
    /// The group.
    pub group: GroupNumber,
    /// The topic, which one of the group's filters must match.
    pub topic: ReadingTopic,
    /// The limits.
    pub limits: Limits,
}

/// Kind 12, by a granted device: it has no keys of the group since a commit, and asks to be added again.
///
/// The report counts for [`REPORT_LIFE_S`], until the device's next one of the group. When more than half of those that
/// are granted say so of one author's commits, the group is founded anew, with the next generation. If more than half
/// could not follow them, the author loses its grant. What keeps a device out may be the network, so that alone costs
/// nobody its grant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaultReported {
    /// The group.
    pub group: GroupNumber,
    /// Its present generation.
    pub generation: Generation,
    /// The epoch that the commit was made in.
    pub epoch: Epoch,
    /// `false`: the device cannot follow the commit, which is on the ledger for everybody. `true`: what would let it in
    /// did not come with or after the commit.
    pub kept_out: bool,
}

/// Kind 13, by the operator for itself, or by the root for the CA: another key from the next entry on. The originator's
/// number and nonce stay, and so does all that it said before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRotated {
    /// Whose key.
    pub whose: Number,
    /// The new one.
    pub public_key: PublicKey,
    /// Its signature of `"sealcast-takeover-v1" || chain id u64be || ledger's address || whose || public key`, so that it
    /// is nobody else's. The ledger is named as it was at first, see [`Genesis`](crate::Genesis).
    pub proof: Signature,
}

impl KeyRotated {
    const LABEL: &'static [u8] = b"sealcast-takeover-v1";

    /// `key` takes over for `whose`.
    ///
    /// # Errors
    /// The key does not sign.
    pub fn to(key: &SigningKey, whose: Number, ledger: &LedgerId) -> Result<Self, KeyError> {
        let public_key = *key.public();
        let proof = key.sign(&Self::takeover(whose, &public_key, ledger))?;
        Ok(Self { whose, public_key, proof })
    }

    /// Whether the new key has signed that it takes over.
    #[must_use]
    pub fn is_proven(&self, ledger: &LedgerId) -> bool {
        self.public_key.verifies(&Self::takeover(self.whose, &self.public_key, ledger), &self.proof)
    }

    fn takeover(whose: Number, public_key: &PublicKey, ledger: &LedgerId) -> Vec<u8> {
        [Self::LABEL, &ledger.chain_id.to_be_bytes(), &ledger.address, whose.as_bytes(), public_key.xy()].concat()
    }
}

/// Kind 14, by the operator: from the next entry on the ledger is at another contract, for which entries are signed then. The
/// contract that it leaves takes no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// Where it is.
    pub to: LedgerId,
}

/// What an entry says.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is documented at its struct")]
pub enum Body {
    DeviceRegistered(DeviceRegistered),
    DeviceRevoked(DeviceRevoked),
    KeysPublished(KeysPublished),
    GroupCreated(GroupCreated),
    Granted(Granted),
    Revoked(Revoked),
    Commit(Commit),
    Reading(Reading),
    Anchor(Anchor),
    GroupReset(GroupReset),
    LimitsSet(LimitsSet),
    FaultReported(FaultReported),
    KeyRotated(KeyRotated),
    Moved(Moved),
}

impl Body {
    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::DeviceRegistered(_) => Kind::DeviceRegistered,
            Self::DeviceRevoked(_) => Kind::DeviceRevoked,
            Self::KeysPublished(_) => Kind::KeysPublished,
            Self::GroupCreated(_) => Kind::GroupCreated,
            Self::Granted(_) => Kind::Granted,
            Self::Revoked(_) => Kind::Revoked,
            Self::Commit(_) => Kind::Commit,
            Self::Reading(_) => Kind::Reading,
            Self::Anchor(_) => Kind::Anchor,
            Self::GroupReset(_) => Kind::GroupReset,
            Self::LimitsSet(_) => Kind::LimitsSet,
            Self::FaultReported(_) => Kind::FaultReported,
            Self::KeyRotated(_) => Kind::KeyRotated,
            Self::Moved(_) => Kind::Moved,
        }
    }

    /// The limits that the fields' types do not already keep.
    pub(crate) fn check(&self) -> Result<(), Refusal> {
        let bad = |field: &'static str, value: u64, min: u64, max: u64| {
            Err(Refusal::BadValue { field: field.into(), value, min, max })
        };
        match self {
            Self::GroupCreated(group) => check_length("filters", group.filters.len(), 1, MAX_FILTERS),
            Self::Commit(commit) => check_length("commit", commit.commit.len(), 1, MAX_BODY_BYTES),
            Self::Reading(reading) if reading.decimals > MAX_DECIMALS => {
                bad("decimals", reading.decimals.into(), 0, MAX_DECIMALS.into())
            }
            Self::LimitsSet(set) => set.limits.check(),
            Self::Anchor(anchor) if anchor.count == 0 => bad("count", 0, 1, u32::MAX.into()),
            _ => Ok(()),
        }
    }
}
