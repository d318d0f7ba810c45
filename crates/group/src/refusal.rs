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
    /// The device has a newer certificate.
    #[error(
        "device {device} has had another certificate since ledger entry {entry}: its old keys are no longer accepted"
    )]
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
    /// The commit was put on the ledger by another device than the member that made it.
    #[error("the commit for group {group} was not made by {originator}, which put it on the ledger")]
    NotByOriginator {
        /// The group.
        group: GroupNumber,
        /// The entry's originator.
        originator: Number,
    },
    /// The commit is for another MLS group or epoch than its ledger entry says.
    #[error("the commit for group {group} epoch {epoch} is for another MLS group or epoch than its ledger entry says")]
    WrongPlace {
        /// The group.
        group: GroupNumber,
        /// The epoch of the entry.
        epoch: u64,
    },
    /// A Welcome for an epoch whose commit the ledger does not have.
    #[error("the Welcome to group {group} epoch {epoch} belongs to a commit that is not on the ledger")]
    NotOnLedger {
        /// The group.
        group: GroupNumber,
        /// The epoch that it leads to.
        epoch: u64,
    },
    /// The committer's ledger is not ours.
    #[error(
        "the committer {originator} of group {group} was shown another ledger than this device (entries differ before \
         {count}): the relay or RPC endpoint shows different histories; compare heads and replace it"
    )]
    Equivocation {
        /// The group.
        group: GroupNumber,
        /// The committer.
        originator: Number,
        /// Number of entries after which the heads differ.
        count: u64,
    },
    /// The committer's ledger state cannot be true: from the future, or from before the last commit.
    #[error("the commit for group {group} names ledger entry {count}, where its committer cannot have been")]
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
        Self::Mls(error.to_string())
    }
}

impl From<mls_rs::mls_rs_codec::Error> for GroupRefusal {
    fn from(error: mls_rs::mls_rs_codec::Error) -> Self {
        Self::Mls(error.to_string())
    }
}
