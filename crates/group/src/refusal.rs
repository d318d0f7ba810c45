use sealcast_identity::{DeviceId, TrustError};

use crate::{GroupNumber, Number};

/// Why a device, a key package, a commit or a Welcome is not accepted.
///
/// The text is for the person who runs the devices: it says which one, where, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GroupRefusal {
    /// On the CA and the ledger, but nobody granted it this group.
    #[error("device {device} is not granted group {group}: grant it, or do not let it use the group's topics")]
    NotGranted {
        /// The device.
        device: DeviceId,
        /// The group.
        group: GroupNumber,
    },
    /// Granted once, and not any longer: that entry revoked the grant or the device, or gave the device another key.
    #[error("device {device} lost its grant of group {group} with ledger entry {entry}: grant it again")]
    Revoked {
        /// The device.
        device: DeviceId,
        /// The group.
        group: GroupNumber,
        /// Index of the entry that ended the grant.
        entry: u64,
    },
    /// Revoked as a device, hence from all groups.
    #[error("device {device} was revoked from all groups by ledger entry {entry}: enrol it again")]
    DeviceRevoked {
        /// The device.
        device: DeviceId,
        /// Index of the entry that revoked it.
        entry: u64,
    },
    /// The key package's hash is not among those that the device published under its certificate.
    #[error(
        "key package {hash} of device {device} is not on the ledger: only keys that the device itself published are \
         accepted"
    )]
    KeysNotOnLedger {
        /// The device.
        device: DeviceId,
        /// SHA-256 of the KeyPackage message, first 8 bytes as hex.
        hash: String,
    },
    /// No device on the ledger has this certificate.
    #[error("certificate {certificate} ({subject}) is not registered on the ledger: enrol the device with the CA")]
    UnknownCertificate {
        /// SHA-256 of the certificate's DER, first 8 bytes as hex.
        certificate: String,
        /// The name in it, if it could be read.
        subject: String,
    },
    /// The device has another key by now.
    #[error("device {device} has had another key since ledger entry {entry}: its old keys are no longer accepted")]
    SupersededCertificate {
        /// The device.
        device: DeviceId,
        /// Index of the entry that registered the newer certificate.
        entry: u64,
    },
    /// The MLS leaf's key or name is not that of the certificate and the ledger.
    #[error("the MLS leaf of device {device} has another key or name than the device's certificate and the ledger")]
    LeafMismatch {
        /// The device.
        device: DeviceId,
    },
    /// A Welcome that is not kept until it can be used.
    #[error("a Welcome for group {group} is dropped: {why}")]
    Inbox {
        /// The group.
        group: GroupNumber,
        /// Why.
        why: &'static str,
    },
    /// The certificate does not lead to our root, is out of its time, or is of the wrong kind.
    #[error(transparent)]
    Certificate(TrustError),
    /// The device's certificate has run out while it is a member.
    #[error("the certificate of device {device} expired at {not_after_s} (Unix seconds): enrol the device again")]
    Expired {
        /// The device.
        device: DeviceId,
        /// Its end, in seconds since the Unix epoch.
        not_after_s: u64,
    },
    /// The key package ends before the device's certificate does.
    #[error(
        "the key package of device {device} ends at {until_s}, before its certificate, which ends at {not_after_s} (Unix \
         seconds): only one that lasts as long is accepted"
    )]
    ShortLived {
        /// The device.
        device: DeviceId,
        /// The key package's end, in seconds since the Unix epoch.
        until_s: u64,
        /// The certificate's end, in seconds since the Unix epoch.
        not_after_s: u64,
    },
    /// The commit leaves in a device that had to be removed.
    #[error("the commit for group {group} keeps a device that must be removed: {why}")]
    LeavesIn {
        /// The group.
        group: GroupNumber,
        /// Why it must go.
        why: Box<GroupRefusal>,
    },
    /// The commit adds a device that may not be added.
    #[error("the commit for group {group} adds a device that may not be a member: {why}")]
    Adds {
        /// The group.
        group: GroupNumber,
        /// Why it may not.
        why: Box<GroupRefusal>,
    },
    /// An external commit or another sender that is not a member.
    #[error("the commit for group {group} was not made by a member: devices join by a Welcome only")]
    External {
        /// The group.
        group: GroupNumber,
    },
    /// The commit removes a member for which the ledger gives no reason.
    #[error(
        "the commit for group {group} removes {}, and the ledger gives no reason to",
        .device.as_ref().map_or_else(|| "a member".to_owned(), |device| format!("device {device}"))
    )]
    Needless {
        /// The group.
        group: GroupNumber,
        /// The member.
        device: Option<DeviceId>,
    },
    /// The commit founds a group, or adds a member again, although its author has just been said not to let others in.
    #[error(
        "the commit of {author} for group {group} {}, which is for the others to do: devices have said that they got no \
         keys from its author",
        .device.as_ref().map_or_else(|| "founds it".to_owned(), |device| format!("adds device {device} again"))
    )]
    NotItsTurn {
        /// The group.
        group: GroupNumber,
        /// The commit's author.
        author: Number,
        /// The member that it adds again, unless it founds the group.
        device: Option<DeviceId>,
    },
    /// A Welcome without the secrets that its receiver needs to follow other members.
    #[error("the Welcome to group {group} lacks the path secret that its commit has for each new member")]
    NoPathSecret {
        /// The group.
        group: GroupNumber,
    },
    /// The commit ends an epoch that has just begun, without a cause on the ledger.
    #[error(
        "the commit for group {group} ends an epoch after {age_s} s, and the ledger gives no cause: at least {} s are \
         needed then",
        crate::MIN_EPOCH_AGE_S
    )]
    TooSoon {
        /// The group.
        group: GroupNumber,
        /// How long the epoch had lasted.
        age_s: u64,
    },
    /// The commit gives one device two leaves.
    #[error("the commit for group {group} makes device {device} a member twice")]
    Twice {
        /// The group.
        group: GroupNumber,
        /// The device.
        device: DeviceId,
    },
    /// The commit removes a leaf that nobody has, or its own, or one of them twice.
    #[error("the commit for group {group} removes leaf {leaf}, which it cannot remove")]
    NoSuchLeaf {
        /// The group.
        group: GroupNumber,
        /// The leaf.
        leaf: u32,
    },
    /// The commit lacks the path that what it does demands.
    #[error("the commit for group {group} has no path, so it does not renew the group's keys")]
    NoPath {
        /// The group.
        group: GroupNumber,
    },
    /// The commit was put on the ledger by another device than the member that made it.
    #[error("the commit for group {group} was not made by {author}, which put it on the ledger")]
    NotByAuthor {
        /// The group.
        group: GroupNumber,
        /// Who put it on the ledger.
        author: Number,
    },
    /// The MLS group that results is not the one that the ledger shows.
    #[error("the MLS group {group} has other members at epoch {epoch} than the ledger shows")]
    OtherRoster {
        /// The group.
        group: GroupNumber,
        /// The MLS epoch.
        epoch: u64,
    },
    /// The commit is for another MLS group or epoch than the group is at.
    #[error("the commit for group {group} is for another MLS group or epoch than epoch {epoch}, where the group is")]
    WrongPlace {
        /// The group.
        group: GroupNumber,
        /// The group's MLS epoch.
        epoch: u64,
    },
    /// A Welcome that is encrypted to a key package whose private part is not here.
    #[error(
        "the Welcome is for a key package that this device has used already, has lost or never had: if the device stays \
         outside the group, it says so on the ledger and is added again"
    )]
    NoPrivatePart,
    /// A Welcome for an epoch whose commit the ledger does not have.
    #[error("the Welcome to group {group} epoch {epoch} belongs to a commit that is not on the ledger")]
    NotOnLedger {
        /// The group.
        group: GroupNumber,
        /// The epoch that it leads to.
        epoch: u64,
    },
    /// The commit names a ledger that is not ours.
    #[error(
        "the commit of {author} for group {group} names another ledger than this device's (they differ before entry \
         {count}): if more than one member does so, the relay or RPC endpoint shows different histories; compare heads \
         (sealcast ledger verify)"
    )]
    Equivocation {
        /// The group.
        group: GroupNumber,
        /// The commit's author.
        author: Number,
        /// Number of entries after which the heads differ.
        count: u64,
    },
    /// The ledger state that the commit names cannot be its author's: from the future, from before the last commit, or too
    /// long ago.
    #[error("the commit for group {group} names ledger entry {count}, where its author cannot have been")]
    ImpossibleHead {
        /// The group.
        group: GroupNumber,
        /// The number of entries it names.
        count: u64,
    },
    /// A proposal that this group does not use, or one by reference.
    #[error("the commit for group {group} has a proposal of kind {kind}: only adds and removes are allowed")]
    Proposal {
        /// The group.
        group: GroupNumber,
        /// Its kind.
        kind: String,
    },
    /// More adds than one commit may have.
    #[error("the commit for group {group} adds {adds} devices; at most {} are allowed", crate::MAX_ADDS)]
    TooManyAdds {
        /// The group.
        group: GroupNumber,
        /// How many.
        adds: usize,
    },
    /// A commit that does not fit into a ledger entry.
    #[error(
        "the commit for group {group} has {bytes} bytes and does not fit into a ledger entry (at most {})",
        crate::MAX_COMMIT_BYTES
    )]
    TooLarge {
        /// The group.
        group: GroupNumber,
        /// Its size.
        bytes: usize,
    },
    /// Not the bytes it should be.
    #[error("{0}")]
    Malformed(&'static str),
    /// MLS itself refused: a signature, a hash, a key.
    #[error("MLS refuses it: {0}")]
    Mls(String),
}

impl mls_rs::error::IntoAnyError for GroupRefusal {
    fn into_dyn_error(self) -> Result<Box<dyn std::error::Error + Send + Sync>, Self> {
        Ok(Box::new(self))
    }
}

impl From<mls_rs::error::MlsError> for GroupRefusal {
    fn from(error: mls_rs::error::MlsError) -> Self {
        if let mls_rs::error::MlsError::IdentityProviderError(any) = &error
            && let Some(refusal) = any.inner_dyn_error().downcast_ref::<GroupRefusal>()
        {
            return refusal.clone();
        }
        match error {
            mls_rs::error::MlsError::WelcomeKeyPackageNotFound => Self::NoPrivatePart,
            error => Self::Mls(error.to_string()),
        }
    }
}

impl From<mls_rs::mls_rs_codec::Error> for GroupRefusal {
    fn from(error: mls_rs::mls_rs_codec::Error) -> Self {
        Self::Mls(error.to_string())
    }
}
