//! Storage for the MLS library: in memory; what changes is collected for the driver to persist.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use mls_rs::{GroupStateStorage, KeyPackageStorage, storage_provider::KeyPackageData};
use mls_rs_core::group::{EpochRecord, GroupState};
use zeroize::Zeroizing;

#[derive(Default)]
struct Inner {
    key_packages: BTreeMap<Vec<u8>, KeyPackageData>,
    groups: BTreeMap<Vec<u8>, Zeroizing<Vec<u8>>>,
}

/// Private parts of key packages, and group snapshots in transit. Clones share their content.
#[derive(Clone, Default)]
pub(crate) struct Memory(Arc<Mutex<Inner>>);

impl Memory {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing panics while it holds the lock, and each operation is one insert or remove.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes out the snapshot that `write_to_storage` has just put in.
    pub fn take_group(&self, id: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        self.lock().groups.remove(id)
    }

    /// Puts in a snapshot for `load_group` to find.
    pub fn put_group(&self, id: &[u8], snapshot: Zeroizing<Vec<u8>>) {
        self.lock().groups.insert(id.to_vec(), snapshot);
    }

    /// The private part of a key package.
    pub fn key_package(&self, id: &[u8]) -> Option<KeyPackageData> {
        self.lock().key_packages.get(id).cloned()
    }

    /// Puts in a private part.
    pub fn put_key_package(&self, id: Vec<u8>, data: KeyPackageData) {
        self.lock().key_packages.insert(id, data);
    }

    /// Forgets a private part.
    pub fn forget_key_package(&self, id: &[u8]) {
        self.lock().key_packages.remove(id);
    }
}

impl KeyPackageStorage for Memory {
    type Error = Infallible;

    fn delete(&mut self, id: &[u8]) -> Result<(), Infallible> {
        self.forget_key_package(id);
        Ok(())
    }

    fn insert(&mut self, id: Vec<u8>, package: KeyPackageData) -> Result<(), Infallible> {
        self.put_key_package(id, package);
        Ok(())
    }

    fn get(&self, id: &[u8]) -> Result<Option<KeyPackageData>, Infallible> {
        Ok(self.key_package(id))
    }
}

impl GroupStateStorage for Memory {
    type Error = Infallible;

    fn state(&self, group_id: &[u8]) -> Result<Option<Zeroizing<Vec<u8>>>, Infallible> {
        Ok(self.lock().groups.get(group_id).cloned())
    }

    // Old epochs serve MLS application messages, of which there are none here.
    fn epoch(&self, _group_id: &[u8], _epoch_id: u64) -> Result<Option<Zeroizing<Vec<u8>>>, Infallible> {
        Ok(None)
    }

    fn write(
        &mut self,
        state: GroupState,
        _epoch_inserts: Vec<EpochRecord>,
        _epoch_updates: Vec<EpochRecord>,
    ) -> Result<(), Infallible> {
        self.lock().groups.insert(state.id, state.data);
        Ok(())
    }

    fn max_epoch_id(&self, _group_id: &[u8]) -> Result<Option<u64>, Infallible> {
        Ok(None)
    }
}
