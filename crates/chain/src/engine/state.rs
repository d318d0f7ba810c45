//! The EVM's view of the stored state, and how a transaction's changes go back into it.
//!
//! There is no cache between the EVM and SQLite: inside a block each transaction's changes are written into the open
//! SQLite transaction and the next one reads them from there. So memory can never disagree with the disk, whatever a
//! failed commit left behind.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use alloy::primitives::{Address, B256, Keccak256, U256};
use revm::{
    Database,
    bytecode::Bytecode,
    database_interface::DBErrorMarker,
    state::{AccountInfo, EvmState},
};
use rusqlite::Connection;

use super::store::{self, StoredAccount};

/// SQLite failed under the EVM.
#[derive(Debug, thiserror::Error)]
#[error("the ledger's database failed: {0}")]
pub(crate) struct StateError(#[from] pub(crate) rusqlite::Error);

impl DBErrorMarker for StateError {}

/// Analysed bytecode by hash: the one thing worth keeping, and it never changes.
#[derive(Clone, Default)]
pub(crate) struct Codes(Arc<Mutex<BTreeMap<B256, Bytecode>>>);

impl Codes {
    /// Enough for the ledger and what a test deploys beside it.
    const MAX: usize = 64;

    fn load(&self, connection: &Connection, hash: B256) -> Result<Bytecode, StateError> {
        let mut codes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(code) = codes.get(&hash) {
            return Ok(code.clone());
        }
        let Some(raw) = store::code(connection, hash)? else { return Ok(Bytecode::default()) };
        let code = Bytecode::new_legacy(raw.into());
        if codes.len() >= Self::MAX {
            codes.clear();
        }
        codes.insert(hash, code.clone());
        Ok(code)
    }
}

/// The state that one connection sees.
pub(crate) struct State<'a> {
    pub(crate) connection: &'a Connection,
    pub(crate) codes: &'a Codes,
}

impl Database for State<'_> {
    type Error = StateError;

    fn basic(&mut self, address: Address) -> Result<Option<AccountInfo>, StateError> {
        Ok(store::account(self.connection, address)?.map(|account| AccountInfo {
            balance: account.balance,
            nonce: account.nonce,
            code_hash: account.code_hash,
            account_id: None,
            code: None,
        }))
    }

    fn code_by_hash(&mut self, hash: B256) -> Result<Bytecode, StateError> {
        self.codes.load(self.connection, hash)
    }

    fn storage(&mut self, address: Address, slot: U256) -> Result<U256, StateError> {
        Ok(store::slot(self.connection, address, slot)?)
    }

    fn block_hash(&mut self, number: u64) -> Result<B256, StateError> {
        Ok(store::block_by_number(self.connection, number)?.map(|block| block.hash).unwrap_or_default())
    }
}

/// Writes what a transaction changed and adds it to the block's running digest, in the order of addresses and slots.
pub(super) fn apply(connection: &Connection, changes: EvmState, digest: &mut Keccak256) -> Result<(), StateError> {
    let mut accounts: Vec<_> = changes.into_iter().filter(|(_, account)| account.is_touched()).collect();
    accounts.sort_unstable_by_key(|(address, _)| *address);
    for (address, account) in accounts {
        digest.update(address);
        if account.is_selfdestructed() || account.is_empty() {
            store::remove_account(connection, address)?;
            store::remove_slots(connection, address)?;
            digest.update([0]);
            continue;
        }
        let info = &account.info;
        if let Some(code) = info.code.as_ref().filter(|code| !code.is_empty()) {
            store::put_code(connection, info.code_hash, code.original_byte_slice())?;
        }
        let stored = StoredAccount { nonce: info.nonce, balance: info.balance, code_hash: info.code_hash };
        store::put_account(connection, address, &stored)?;
        digest.update([1]);
        digest.update(info.nonce.to_be_bytes());
        digest.update(info.balance.to_be_bytes::<32>());
        digest.update(info.code_hash);
        if account.is_created() {
            store::remove_slots(connection, address)?;
        }
        let mut slots: Vec<_> =
            account.changed_storage_slots().map(|(slot, value)| (*slot, value.present_value)).collect();
        slots.sort_unstable();
        for (slot, value) in slots {
            store::put_slot(connection, address, slot, value)?;
            digest.update(slot.to_be_bytes::<32>());
            digest.update(value.to_be_bytes::<32>());
        }
    }
    Ok(())
}
