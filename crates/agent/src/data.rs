//! The agent's keyring, shared by its clients' connections, with what it needs of the disk.
//!
//! The control plane writes the ledger's replica and the epochs into it; whoever waits for a key watches [`DataPlane::changed`].

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use sealcast_agent_core::{Denied, Keyring, Retained, Route, SharedKeyring, Unsealed, session::Write};
use sealcast_group::{EpochKeys, LeftReason};
use sealcast_identity::DeviceId;
use sealcast_ledger::{GroupNumber, Replica};
use sealcast_seal::{Content, EpochId, Purpose, QosClass};
use tokio::sync::{Notify, watch};

use super::store::Store;

/// Topics, each with a sealed message for it.
pub type Frames = Vec<(String, Vec<u8>)>;

/// See the module.
pub struct DataPlane {
    device: DeviceId,
    store: Arc<Store>,
    keyring: Mutex<Keyring>,
    changed: watch::Sender<u64>,
    news_wanted: Notify,
}

impl DataPlane {
    /// Around `keyring`, whose boot numbers `store` keeps.
    pub fn new(keyring: Keyring, store: Arc<Store>) -> Self {
        Self {
            device: keyring.device().clone(),
            store,
            keyring: Mutex::new(keyring),
            changed: watch::Sender::new(0),
            news_wanted: Notify::new(),
        }
    }

    /// Counts what may let a waiting message pass.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Reads the replica.
    pub fn with_replica<T>(&self, read: impl FnOnce(&Replica) -> T) -> T {
        read(self.keyring().replica())
    }

    /// Wants the ledger read to its end once more.
    pub fn ask_for_news(&self) {
        self.news_wanted.notify_one();
    }

    /// Resolves when somebody asked for news.
    pub async fn news_wanted(&self) {
        self.news_wanted.notified().await;
    }

    /// Whose agent this is.
    pub fn device(&self) -> &DeviceId {
        &self.device
    }

    /// [`Keyring::seal`], with the boot number that it may need.
    pub fn seal(&self, group: GroupNumber, topic: &str, content: &Content<'_>, now_ms: u64) -> Result<Vec<u8>, Denied> {
        let mut keyring = self.keyring();
        // The boot that is asked for first may be of an epoch that is over by the time it is stored.
        for _ in 0..2 {
            let pending = match keyring.seal(group, topic, content, now_ms) {
                Ok(frame) => return Ok(frame),
                Err(Unsealed::Denied(denied)) => return Err(denied),
                Err(Unsealed::NeedsBoot(pending)) => pending,
            };
            match self.store.commit_session(&[Write::boot(&pending)], 0) {
                Ok(_) => keyring.begin_boot(pending.stored()),
                // It may be mended.
                Err(error) if self.store.is_failing() => return Err(Denied::NotYet(format!("{error:#}"))),
                Err(error) => return Err(Denied::Refused(format!("{error:#}"))),
            }
        }
        Err(Denied::NotYet("the group's keys changed while the message was being sealed".to_owned()))
    }

    /// Takes in an epoch that the control plane agreed on.
    pub fn insert_epoch(&self, epoch: &EpochKeys, now_ms: u64) {
        self.change_and_tell(|keyring| keyring.insert_epoch(epoch, now_ms));
    }

    /// This device left a group: its keys are wiped.
    pub fn leave(&self, group: GroupNumber, reason: &LeftReason) {
        self.change_and_tell(|keyring| keyring.leave(group, reason));
    }

    /// Seals the retained messages of `group` again, under its current epoch. `None` if nothing can be sealed now.
    pub fn seal_retained_again(&self, group: GroupNumber, now_ms: u64) -> Result<Option<Frames>> {
        let mut frames = Vec::new();
        for Retained { topic, time_ms, props, payload } in self.store.retained()? {
            if self.keyring().route(&topic) != Route::Group(group) {
                continue;
            }
            let purpose = Purpose::Reseal { sealed_ms: time_ms };
            let content =
                Content { purpose, class: QosClass::Acknowledged, retain: true, props: &props, payload: &payload };
            match self.seal(group, &topic, &content, now_ms) {
                Ok(frame) => frames.push((topic, frame)),
                Err(Denied::NotYet(_) | Denied::Behind(_)) => return Ok(None),
                // This device is no longer a member.
                Err(Denied::Refused(_)) => return Ok(Some(Vec::new())),
            }
        }
        Ok(Some(frames))
    }

    /// The members of a group's current epoch.
    pub fn members(&self, group: GroupNumber) -> Vec<DeviceId> {
        self.keyring().members(group)
    }

    /// The groups whose keys this device holds, with their epochs.
    pub fn epochs(&self) -> Vec<(GroupNumber, EpochId)> {
        self.keyring().epochs()
    }

    fn change_and_tell<T>(&self, change: impl FnOnce(&mut Keyring) -> T) -> T {
        let value = change(&mut self.keyring());
        self.changed.send_modify(|count| *count += 1);
        value
    }

    /// The keyring itself. Whoever changes it so that a waiting message may pass uses [`SharedKeyring::change`].
    pub(crate) fn keyring(&self) -> MutexGuard<'_, Keyring> {
        self.keyring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// For the control plane.
impl SharedKeyring for &DataPlane {
    fn read<T>(&self, read: impl FnOnce(&Keyring) -> T) -> T {
        read(&self.keyring())
    }

    fn change<T>(&mut self, change: impl FnOnce(&mut Keyring) -> T) -> T {
        self.change_and_tell(change)
    }
}
