//! How the control plane reaches a keyring that the clients' connections use at the same time.

use std::sync::Arc;

use sealcast_ledger::Replica;

use super::Keyring;

/// A keyring that others may use too. Agreeing on a group's keys takes long, and nobody may have to wait for it before a
/// message can be sealed: so the keyring is borrowed for a moment at a time.
pub trait SharedKeyring {
    /// Looks at it.
    fn read<T>(&self, read: impl FnOnce(&Keyring) -> T) -> T;

    /// Changes it in a way that may let a waiting message pass.
    fn change<T>(&mut self, change: impl FnOnce(&mut Keyring) -> T) -> T;

    /// The replica as it is now. Let go of it before the next record is applied, which copies it otherwise.
    fn replica(&self) -> Arc<Replica> {
        self.read(|keyring| keyring.replica().clone())
    }
}

impl SharedKeyring for Keyring {
    fn read<T>(&self, read: impl FnOnce(&Keyring) -> T) -> T {
        read(self)
    }

    fn change<T>(&mut self, change: impl FnOnce(&mut Keyring) -> T) -> T {
        change(self)
    }
}
