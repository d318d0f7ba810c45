//! What a group's members share: the epoch's secret, who sits on which leaf, and the old epochs that stay readable.
//!
//! This crate does not see MLS: whoever does hands over each epoch's exporter secret and roster ([`Epoch`]).

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};

use sealcast_identity::{DeviceId, VerifyingKey};

use crate::{
    backend::{DecryptionKey, SUITE},
    epoch::{Authenticity, Epoch, EpochId, EpochSecret, Ledger, Member},
    error::OpenError,
    header::{EPOCHS_APART, GroupNumber, KeyId, LeafIndex, Start},
    merkle::{Node, Way},
    plaintext::BatchProof,
    replay::SenderTag,
    roots::Roots,
    statement::Context,
};

/// Old epochs that one group keeps at most, whatever its policy says: the frame carries an epoch's low 10 bits, half of
/// which are needed to tell a later epoch from an older one.
pub const MAX_RETENTION: u16 = (EPOCHS_APART / 2 - 1) as u16;
/// Expanded sender keys that one epoch keeps; the next one empties the cache.
const MAX_CACHED_KEYS: usize = 4096;

/// Why an epoch was not taken in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EpochError {
    /// Epochs are taken in ascending order and each once, so that no sealer can begin again in one that was used.
    #[error("group {group} is at epoch {held}: epoch {offered} is not newer")]
    NotNewer {
        /// The group's name.
        group: Arc<str>,
        /// Newest epoch that was ever taken in.
        held: EpochId,
        /// The one refused.
        offered: EpochId,
    },
    /// The roster has nobody on this device's leaf.
    #[error("group {group}, epoch {epoch}: the roster has nobody on this device's own leaf {leaf}")]
    OwnLeaf {
        /// The group's name.
        group: Arc<str>,
        /// The epoch refused.
        epoch: EpochId,
        /// The empty leaf.
        leaf: LeafIndex,
    },
    /// A member's public key is none.
    #[error("group {group}: the public key of {device} cannot be used")]
    Key {
        /// The group's name.
        group: Arc<str>,
        /// Whose key.
        device: DeviceId,
    },
}

/// A member with its key parsed for verifying.
pub(crate) struct Sender {
    pub(crate) name: DeviceId,
    /// What its name stands for in marks: hashed once, not with every retained message.
    pub(crate) tag: SenderTag,
    pub(crate) key: VerifyingKey,
}

type Roster = BTreeMap<LeafIndex, Arc<Sender>>;

/// An epoch that is held: the current one or one that is still readable.
pub(crate) struct HeldEpoch {
    pub(crate) id: EpochId,
    pub(crate) secret: EpochSecret,
    pub(crate) own_leaf: LeafIndex,
    pub(crate) authenticity: Authenticity,
    /// When the next epoch began, Unix ms; `None` for the current one.
    pub(crate) ended_ms: Option<u64>,
    /// Whether a sealer of this epoch may go on; shared with it.
    pub(crate) current: Arc<AtomicBool>,
    /// The starts that this process has made sealers for.
    pub(crate) starts: BTreeSet<Start>,
    /// How many entries the ledger had with the commit that began it.
    pub(crate) began_at: Option<u64>,
    roster: Arc<Roster>,
    keys: RwLock<BTreeMap<KeyId, Arc<Started>>>,
}

/// A member that seals under one start, as those who open know it.
pub(crate) struct Started {
    pub(crate) sender: Arc<Sender>,
    /// What its signatures are about.
    pub(crate) context: Context,
    /// Batches whose signature was verified. Shared by all local clients: what one has verified the others need not.
    roots: Mutex<Roots>,
    key: DecryptionKey,
}

impl Started {
    /// Whether the message with this hash is of a batch whose signature is known to hold.
    pub(crate) fn has_verified(&self, proof: &BatchProof<'_>, leaf: Node) -> bool {
        self.roots.lock().unwrap_or_else(PoisonError::into_inner).cover(proof, leaf)
    }

    pub(crate) fn note_verified(&self, proof: &BatchProof<'_>, way: Way) {
        self.roots.lock().unwrap_or_else(PoisonError::into_inner).insert(proof, way);
    }
}

impl HeldEpoch {
    pub(crate) fn sender(&self, leaf: LeafIndex) -> Option<&Arc<Sender>> {
        self.roster.get(&leaf)
    }

    /// Opens a frame of `key_id`: `decrypt` says whether it did with the key it is given. Returns whose key that is.
    /// `context` says what its signatures are about, and is asked once for each start.
    #[inline]
    pub(crate) fn open(
        &self,
        key_id: KeyId,
        context: impl FnOnce() -> Context,
        decrypt: impl FnOnce(&DecryptionKey) -> bool,
    ) -> Result<Arc<Started>, NotOpened> {
        if let Some(started) = self.keys.read().unwrap_or_else(PoisonError::into_inner).get(&key_id) {
            return if decrypt(&started.key) { Ok(Arc::clone(started)) } else { Err(NotOpened::Refused) };
        }
        self.open_first(key_id, context, decrypt)
    }

    /// The same for a key that is not cached.
    #[cold]
    fn open_first(
        &self,
        key_id: KeyId,
        context: impl FnOnce() -> Context,
        decrypt: impl FnOnce(&DecryptionKey) -> bool,
    ) -> Result<Arc<Started>, NotOpened> {
        let sender = self.sender(key_id.leaf()).ok_or(NotOpened::Refused)?;
        let key = DecryptionKey::derive_from(SUITE, key_id.bits(), self.secret.bytes());
        let key = key.map_err(|_| NotOpened::Library)?;
        if !decrypt(&key) {
            return Err(NotOpened::Refused);
        }
        let started = Started { sender: Arc::clone(sender), context: context(), roots: Mutex::default(), key };
        let started = Arc::new(started);
        // Only now, so that made-up key ids do not fill the cache.
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        if keys.len() >= MAX_CACHED_KEYS {
            keys.clear();
        }
        keys.insert(key_id, Arc::clone(&started));
        Ok(started)
    }
}

impl Drop for HeldEpoch {
    fn drop(&mut self) {
        self.current.store(false, Ordering::Release);
    }
}

/// Why an epoch did not open a frame.
pub(crate) enum NotOpened {
    /// Nobody is on the leaf, or the tag does not fit.
    Refused,
    Library,
}

/// The keys of one group on this device: its current epoch and the old ones that stay readable.
///
/// Shared by all local clients; [`Opener::open`](crate::Opener::open) takes it by `&`.
pub struct GroupKeys {
    ledger: Ledger,
    group: GroupNumber,
    name: Arc<str>,
    device: DeviceId,
    retention: usize,
    /// Newest first. Not a deque: an epoch turns seldom, and this is gone through for each frame.
    epochs: Vec<HeldEpoch>,
    /// Newest ever taken in; survives [`Self::forget`].
    newest: Option<EpochId>,
    /// Removed members, and the last epoch in which each may have known the secret.
    removed: BTreeMap<DeviceId, EpochId>,
}

impl GroupKeys {
    /// No keys yet. `ledger` is the one that numbers the group; `name` is the group's and `device` this device's name, both
    /// for messages to people; `retention` is the policy's number of old epochs that stay readable, at most
    /// [`MAX_RETENTION`].
    pub fn new(ledger: Ledger, group: GroupNumber, name: &str, device: DeviceId, retention: u16) -> Self {
        Self {
            ledger,
            group,
            name: name.into(),
            device,
            retention: retention.min(MAX_RETENTION).into(),
            epochs: Vec::new(),
            newest: None,
            removed: BTreeMap::new(),
        }
    }

    /// The group's number.
    pub fn group(&self) -> GroupNumber {
        self.group
    }

    /// The group's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The epoch that is sealed under.
    pub fn current(&self) -> Option<EpochId> {
        self.epochs.first().map(|held| held.id)
    }

    /// All epochs that can be read, newest first.
    pub fn held(&self) -> impl Iterator<Item = EpochId> + '_ {
        self.epochs.iter().map(|held| held.id)
    }

    /// Takes in `epoch` as the current one: sealers of the one before stop, and what the retention does not cover is
    /// wiped. After a restart, give the stored epochs again, oldest first.
    pub fn insert_epoch(&mut self, epoch: Epoch) -> Result<(), EpochError> {
        if let Some(held) = self.newest.filter(|held| *held >= epoch.id) {
            return Err(EpochError::NotNewer { group: Arc::clone(&self.name), held, offered: epoch.id });
        }
        if !epoch.roster.contains_key(&epoch.own_leaf) {
            return Err(EpochError::OwnLeaf { group: Arc::clone(&self.name), epoch: epoch.id, leaf: epoch.own_leaf });
        }
        let roster = self.parse_roster(&epoch.roster)?;
        if let Some(before) = self.epochs.first_mut() {
            before.ended_ms = Some(epoch.since_ms);
            before.current.store(false, Ordering::Release);
        }
        self.newest = Some(epoch.id);
        let held = HeldEpoch {
            id: epoch.id,
            secret: epoch.secret,
            own_leaf: epoch.own_leaf,
            authenticity: epoch.authenticity,
            ended_ms: None,
            current: Arc::new(AtomicBool::new(true)),
            starts: BTreeSet::new(),
            began_at: epoch.began_at,
            roster,
            keys: RwLock::default(),
        };
        self.epochs.insert(0, held);
        self.epochs.truncate(self.retention + 1);
        self.forget_departed();
        Ok(())
    }

    /// Wipes all epochs up to and including `through`, the current one too if it is among them.
    pub fn retire(&mut self, through: EpochId) {
        self.epochs.retain(|held| held.id > through);
        self.forget_departed();
    }

    /// This device is no longer a member: wipes every key. It stays remembered which epochs were used.
    pub fn forget(&mut self) {
        self.epochs.clear();
        self.removed.clear();
    }

    /// `device` was removed, and `through` is the last epoch that it knew: what it sends under that one or an earlier
    /// one is refused from here on, though it still knows their secrets. Its earlier messages that were not yet
    /// delivered are refused with them: nobody can tell which they are. Not stored: say it again after a restart, once
    /// the epochs were given.
    pub fn forget_member(&mut self, device: &DeviceId, through: EpochId) {
        let knew = |held: &HeldEpoch| held.id <= through && held.roster.values().any(|sender| sender.name == *device);
        if self.epochs.iter().any(knew) {
            let last = self.removed.entry(device.clone()).or_insert(through);
            *last = through.max(*last);
        }
    }

    /// Changes how many old epochs stay readable; wipes what is over.
    pub fn set_retention(&mut self, retention: u16) {
        self.retention = retention.min(MAX_RETENTION).into();
        self.epochs.truncate(self.retention + 1);
        self.forget_departed();
    }

    /// Who sits on `leaf` in the current epoch.
    pub fn member(&self, leaf: LeafIndex) -> Option<&DeviceId> {
        self.epochs.first()?.sender(leaf).map(|sender| &sender.name)
    }

    pub(crate) fn label(&self) -> Arc<str> {
        Arc::clone(&self.name)
    }

    pub(crate) fn device(&self) -> &DeviceId {
        &self.device
    }

    pub(crate) fn front(&self) -> Option<&HeldEpoch> {
        self.epochs.first()
    }

    pub(crate) fn front_mut(&mut self) -> Option<&mut HeldEpoch> {
        self.epochs.first_mut()
    }

    /// What the signatures of a sender are about.
    pub(crate) fn context(&self, epoch: EpochId, key_id: KeyId) -> Context {
        Context::new(&self.ledger, self.group, epoch, key_id)
    }

    /// Held epochs whose low 10 bits are `tag`, newest first. More than one only across a reset of the group.
    pub(crate) fn tagged(&self, tag: u16) -> impl Iterator<Item = &HeldEpoch> {
        self.epochs.iter().filter(move |held| KeyId::tag_of(held.id.epoch) == tag)
    }

    /// Why no held epoch has `tag`.
    pub(crate) fn untagged(&self, tag: u16) -> OpenError {
        let Some(current) = self.current() else {
            return OpenError::NotMember { device: self.device.clone(), group: self.label() };
        };
        let ahead = KeyId::epochs_ahead(tag, current.epoch);
        if ahead <= EPOCHS_APART / 2 {
            let frame = current.epoch.saturating_add(ahead);
            return OpenError::EpochAhead { group: self.label(), held: current.epoch, frame };
        }
        OpenError::EpochRetired {
            group: self.label(),
            frame: current.epoch.saturating_sub(EPOCHS_APART - ahead),
            oldest: self.epochs.last().map_or(current.epoch, |held| held.id.epoch),
        }
    }

    /// Whether `name` was removed after it sent under `epoch`.
    #[inline]
    pub(crate) fn is_removed(&self, name: &DeviceId, epoch: EpochId) -> bool {
        self.removed.get(name).is_some_and(|last| epoch <= *last)
    }

    /// Drops the note on removed members that no held epoch has.
    fn forget_departed(&mut self) {
        let oldest = self.epochs.last().map(|held| held.id);
        self.removed.retain(|_, last| oldest.is_some_and(|oldest| oldest <= *last));
    }

    /// Parses the members' keys, taking over from the epoch before what did not change.
    fn parse_roster(&self, roster: &BTreeMap<LeafIndex, Member>) -> Result<Arc<Roster>, EpochError> {
        let before = self.epochs.first().map(|held| &held.roster);
        let known = |leaf: &LeafIndex, member: &Member| {
            let sender = before?.get(leaf)?;
            (sender.name == member.name && *sender.key.public() == member.key).then(|| Arc::clone(sender))
        };
        let mut changed = before.is_none_or(|before| before.len() != roster.len());
        let mut parsed = Roster::new();
        for (leaf, member) in roster {
            let sender = match known(leaf, member) {
                Some(sender) => sender,
                None => {
                    changed = true;
                    let key = VerifyingKey::new(member.key)
                        .map_err(|_| EpochError::Key { group: self.label(), device: member.name.clone() })?;
                    Arc::new(Sender {
                        tag: SenderTag::new(self.group, member.name.as_str()),
                        name: member.name.clone(),
                        key,
                    })
                }
            };
            parsed.insert(*leaf, sender);
        }
        match before {
            Some(before) if !changed => Ok(Arc::clone(before)),
            _ => Ok(Arc::new(parsed)),
        }
    }
}

impl fmt::Debug for GroupKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupKeys")
            .field("group", &self.group)
            .field("name", &self.name)
            .field("epochs", &self.held().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}
