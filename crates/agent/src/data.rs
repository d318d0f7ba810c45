//! The agent's keyring, shared by its clients' connections, with what it needs of the disk.
//!
//! The control plane writes the ledger's replica and the epochs into it; whoever waits for a key watches [`DataPlane::changed`].

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use anyhow::Result;
use sealcast_agent_core::{
    Cause, Frame, Keyring, Overview, Route, SharedKeyring, Step, Why, sealed_again, session::Write, values::Unsent,
};
use sealcast_group::{EpochKeys, LeftReason};
use sealcast_identity::DeviceId;
use sealcast_ledger::{GroupNumber, Replica};
use sealcast_node::now_ms;
use sealcast_seal::EpochId;
use tokio::sync::{Notify, watch};

use super::{key_log::KeyLog, store::Store};

/// See the module.
pub struct DataPlane {
    device: DeviceId,
    store: Arc<Store>,
    keyring: Mutex<Keyring>,
    changed: watch::Sender<u64>,
    news_wanted: Notify,
    hub_answers: AtomicBool,
    key_log: Option<KeyLog>,
}

impl DataPlane {
    /// Around `keyring`; `store` keeps the retained messages, and `key_log` gets all keys.
    pub fn new(keyring: Keyring, store: Arc<Store>, key_log: Option<KeyLog>) -> Self {
        Self {
            device: keyring.device().clone(),
            store,
            keyring: Mutex::new(keyring),
            changed: watch::Sender::new(0),
            news_wanted: Notify::new(),
            hub_answers: AtomicBool::new(false),
            key_log,
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

    /// The frames that `prepare` gives. `write` makes durable what has to be before they leave.
    pub fn seal(
        &self,
        prepare: impl FnOnce(&mut Keyring) -> Result<Step<Write, Frame>, Unsent>,
        write: impl FnOnce(&[Write]) -> Result<()>,
    ) -> Result<Vec<Frame>, Unsent> {
        let step = prepare(&mut self.keyring())?;
        step.commit(write).map_err(|failed| Unsent::NotYet(Why::new(Cause::DiskFails, format!("{:#}", failed.error))))
    }

    /// Takes in an epoch that the control plane agreed on.
    pub fn insert_epoch(&self, epoch: &EpochKeys, now_ms: u64) {
        if let Some(key_log) = &self.key_log {
            key_log.put(epoch);
        }
        self.change_and_tell(|keyring| keyring.insert_epoch(epoch, now_ms));
    }

    /// The group's keys hold in this epoch of the ledger, too.
    pub fn hold_epoch(&self, group: GroupNumber, on_ledger: EpochId) {
        self.change_and_tell(|keyring| keyring.hold_epoch(group, on_ledger));
    }

    /// This device left a group: its keys are wiped.
    pub fn leave(&self, group: GroupNumber, reason: &LeftReason) {
        self.change_and_tell(|keyring| keyring.leave(group, reason));
    }

    /// Seals the retained messages of `group` again, under its current epoch, as far as it goes.
    pub fn seal_retained_again(
        &self,
        group: GroupNumber,
        mut publish: impl FnMut(&str, Frame),
    ) -> Result<Result<(), Unsent>> {
        for kept in self.store.retained()? {
            if self.keyring().route(&kept.topic) != Route::Group(group) {
                continue;
            }
            let frames = self.seal(
                |keyring| sealed_again(keyring, group, &kept, now_ms()),
                |writes| self.store.commit_session(writes, 0).map(drop),
            );
            match frames {
                Ok(frames) => frames.into_iter().for_each(|frame| publish(&kept.topic, frame)),
                Err(unsent) => return Ok(Err(unsent)),
            }
        }
        Ok(Ok(()))
    }

    /// The members of a group's current epoch.
    pub fn members(&self, group: GroupNumber) -> Vec<DeviceId> {
        self.keyring().members(group)
    }

    /// The hub has answered on the control connection, or does not.
    pub fn set_hub_answers(&self, answers: bool) {
        self.hub_answers.store(answers, Ordering::Relaxed);
    }

    /// Whether the control connection to the hub is up: a connection to the broker alone is none.
    pub fn is_hub_answering(&self) -> bool {
        self.hub_answers.load(Ordering::Relaxed)
    }

    /// What the keyring tells whoever watches the agent.
    pub fn overview(&self, now_ms: u64) -> Overview {
        self.keyring().overview(now_ms)
    }

    /// What was told of the ledger since this was called last.
    pub fn take_alarms(&self) -> Vec<Why> {
        self.keyring().take_alarms()
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
