use std::{collections::BTreeMap, fmt, sync::Arc};

use sealcast_identity::{DeviceId, PublicKey};
use zeroize::Zeroizing;

use sealcast_ledger::{Body, Epoch, Generation, GroupNumber};

use crate::GroupRefusal;

/// One change of the stored state: `None` deletes the key.
///
/// Values hold private keys and epoch secrets ([`is_secret`]): store them where only this user can read, and where nobody can
/// read them any more once they were replaced or deleted.
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

/// Whether the value of this key is secret: of all but the place in the ledger, which changes with every record.
pub fn is_secret(key: &str) -> bool {
    !key.starts_with("ledger/")
}

/// What the data plane needs to know of one epoch of one group.
#[derive(Clone, PartialEq, Eq)]
pub struct EpochKeys {
    /// The group.
    pub group: GroupNumber,
    /// Counts the group's resets.
    pub generation: Generation,
    /// The MLS epoch: 1 after the founding commit.
    pub epoch: Epoch,
    /// The ledger's epoch, which is further by the commits that were void. It goes on with each of these
    /// ([`Output::EpochHolds`]). Of an epoch that is over it says nothing.
    pub on_ledger: Epoch,
    /// How many entries the ledger had with the commit that began this epoch: all members have the same number.
    pub began_at: u64,
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
            .field("on_ledger", &self.on_ledger)
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
    /// Its stored state is an old copy: see [`Notice::Outdated`].
    #[error("its keys are from an old copy of this device's folder: it waits to be added again")]
    Outdated,
    /// It cannot follow a commit: see [`Notice::Behind`].
    #[error("this device cannot follow the group's last commit, and waits to be added again: {0}")]
    Behind(String),
}

/// Something that a person may have to know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Notice {
    /// Something was not accepted; the group goes on.
    #[error("{0}")]
    Refused(GroupRefusal),
    /// A commit on the ledger breaks a rule that everybody can check. Nobody follows it, and the group goes on.
    #[error("a commit of {author} is void: {why}; the group goes on without it")]
    Void {
        /// Who put the commit on the ledger: a device id, or the number of a device that is unknown.
        author: String,
        /// Which rule it breaks.
        why: GroupRefusal,
    },
    /// This device cannot follow a commit that counts. That may be the commit's fault, or this device's.
    #[error(
        "this device cannot follow a commit of {author}, and asks to be added again: {why}; nobody else can tell whether \
         the commit or this device is at fault"
    )]
    Behind {
        /// Who made the commit.
        author: String,
        /// What this device found.
        why: GroupRefusal,
    },
    /// The ledger refused an entry; it is tried again while it makes sense.
    #[error("the ledger refused this device's entry: {0}")]
    EntryRefused(String),
    /// The stored state is older than what this device has done.
    #[error(
        "this agent's folder is older than what the device has done: {0}. The folder was restored from a copy, or a copy of \
         it runs elsewhere. The agent drops all keys of groups that it had, and asks its groups to add the device again. If \
         nobody restored the folder, revoke the device, and enrol it again with a new key"
    )]
    Outdated(String),
    /// This device lost keys of its groups that the ledger knows of: it asks to be added to all of them again.
    #[error("this device lost keys that it had published: it asks all its groups to add it again")]
    Rejoining,
    /// No member lets this device in, or what a member sent does not reach it.
    #[error(
        "this device gets no keys of the group: it says so on the ledger, and asks to be added again; if more than half \
         of the group's devices say so, it is founded anew"
    )]
    KeptOut,
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
    /// Publish, retained, QoS 1, on `sealcast/v1/inbox/<device>/<group>/<this device>`. It is a Welcome to the epoch that was
    /// handed out last: with the group's next [`Output::Epoch`] it is out of date.
    PublishInbox {
        /// To whom.
        device: DeviceId,
        /// For which group.
        group: GroupNumber,
        /// The payload.
        bytes: Vec<u8>,
    },
    /// Clear a place of this device's own inbox: publish nothing, retained, on
    /// `sealcast/v1/inbox/<this device>/<group>/<committer>`.
    ClearInbox {
        /// Of which group.
        group: GroupNumber,
        /// Whose place.
        committer: DeviceId,
    },
    /// A new epoch. After a restart all that are retained come, oldest first: nothing may be sealed until the last of them was
    /// taken in.
    Epoch(EpochKeys),
    /// The commit that ended the ledger's epoch is void: what this device holds as the present epoch is that of this epoch
    /// of the ledger, too.
    EpochHolds {
        /// The group.
        group: GroupNumber,
        /// Its generation.
        generation: Generation,
        /// The ledger's epoch.
        on_ledger: Epoch,
    },
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
