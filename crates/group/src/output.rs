use std::{collections::BTreeMap, fmt, sync::Arc};

use sealcast_identity::{DeviceId, PublicKey};
use zeroize::Zeroizing;

use sealcast_ledger::{Body, Epoch, Generation, GroupNumber};

use crate::GroupRefusal;

/// One change of the stored state: `None` deletes the key.
///
/// Values hold private keys and epoch secrets: store them where only this user can read.
#[derive(Clone, PartialEq, Eq)]
pub struct Write {
    /// Text of `a-z 0-9 /`, at most 128 bytes.
    pub key: String,
    /// The new value.
    pub value: Option<Zeroizing<Vec<u8>>>,
}

impl fmt::Debug for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = self.value.as_ref().map(|value| value.len());
        f.debug_struct("Write").field("key", &self.key).field("bytes", &size).finish()
    }
}

/// What the data plane needs to know of one epoch of one group.
#[derive(Clone, PartialEq, Eq)]
pub struct EpochKeys {
    /// The group.
    pub group: GroupNumber,
    /// Counts the group's resets.
    pub generation: Generation,
    /// The MLS epoch, which is also the ledger's: 1 after the founding commit.
    pub epoch: Epoch,
    /// `MLS-Exporter("SFrame 1.0 Base Key", "", 32)` (RFC 9605 section 5.2, RFC 9420 section 8.5).
    pub secret: Zeroizing<[u8; 32]>,
    /// This device's leaf.
    pub leaf: u32,
    /// All members by leaf index, with the keys that they sign with.
    pub roster: Arc<BTreeMap<u32, (DeviceId, PublicKey)>>,
}

impl fmt::Debug for EpochKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EpochKeys")
            .field("group", &self.group)
            .field("generation", &self.generation)
            .field("epoch", &self.epoch)
            .field("leaf", &self.leaf)
            .field("members", &self.roster.len())
            .finish_non_exhaustive()
    }
}

/// Why this device is no longer in a group.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeftReason {
    /// A commit removed it, as the ledger demands.
    #[error("removed: {0}")]
    Removed(GroupRefusal),
    /// A commit removed it although it is granted, for instance to add its new keys: a Welcome should follow.
    #[error("a member removed this device, which is still granted the group: it waits to be added again")]
    Replaced,
    /// The group starts again.
    #[error("the group was reset: {0}")]
    Reset(String),
    /// A commit that the ledger took was not accepted: see [`Notice::Stopped`].
    #[error("the group has stopped until it is reset: {0}")]
    Stopped(String),
}

/// Something that a person may have to know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Notice {
    /// Something was not accepted; the group goes on.
    #[error("{0}")]
    Refused(GroupRefusal),
    /// A commit that the ledger took was not accepted: this device has forgotten the group's keys, and so have all
    /// others that judge as it does. Only a reset brings the group back.
    #[error(
        "the group has stopped here until it is reset, because of a commit by {originator}: {why}; if {originator} did \
         this on purpose, revoke it first (sealcast device revoke), then start the group again (sealcast group reset)"
    )]
    Stopped {
        /// Who put the commit on the ledger: a device id, or the number of a device that is unknown.
        originator: String,
        /// Why it was not accepted.
        why: GroupRefusal,
    },
    /// The ledger refused an entry; it is tried again while it makes sense.
    #[error("the ledger refused this device's entry: {0}")]
    EntryRefused(String),
    /// This device cannot follow a group: it was added, but the Welcome or later commits are missing. It asks to be
    /// added again.
    #[error("the Welcome did not arrive, or is too old: this device asks to be added again")]
    Rejoining,
}

/// What the driver has to do, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Make durable, all or nothing, before anything that follows is done.
    Persist(Vec<Write>),
    /// Sign with the device's key and nonce, and send to the ledger. If it refuses: [`crate::Groups::handle_refused`].
    Submit(Body),
    /// Publish, retained, QoS 1, on `sealcast/v1/keys/<this device>`.
    PublishKeys {
        /// The payload.
        bytes: Vec<u8>,
    },
    /// Publish, retained, QoS 1, on `sealcast/v1/inbox/<device>/<group>`. It is a Welcome to the epoch that was handed out
    /// last: with the group's next [`Output::Epoch`] it is out of date.
    PublishInbox {
        /// To whom.
        device: DeviceId,
        /// For which group.
        group: GroupNumber,
        /// The payload.
        bytes: Vec<u8>,
    },
    /// Clear this device's own retained inbox of this group.
    ClearInbox {
        /// Of which group.
        group: GroupNumber,
    },
    /// A new epoch. After a restart all that are retained come, oldest first: nothing may be sealed until the last of them was
    /// taken in.
    Epoch(EpochKeys),
    /// Forget all keys of this group.
    Left {
        /// The group.
        group: GroupNumber,
        /// Why.
        reason: LeftReason,
    },
    /// For the log and the console.
    Notice {
        /// The device that it is about, if one can be named.
        device: Option<DeviceId>,
        /// The group that it is about, if any.
        group: Option<GroupNumber>,
        /// What happened.
        notice: Notice,
    },
}
