//! The embedded EVM node: blocks on demand, everything in one SQLite file, Ethereum's JSON-RPC in front.
//!
//! A single writer without consensus. What it promises: a transaction whose receipt was returned survives a kill of the
//! process or the machine at any moment; blocks are whole or absent; two processes never write the same file. What it
//! does not: the header's `stateRoot` is a running Keccak-256 over all changes since genesis and not a Merkle-Patricia
//! root (there is nobody who could ask for a proof), only the newest state can be called, timestamps may repeat, and
//! there are no uncles, blobs, withdrawals, system contracts or EIP-7702 delegations.

mod config;
mod execute;
mod filters;
mod miner;
mod pool;
mod reader;
mod state;
mod store;

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
};

use tokio::sync::watch;

pub use self::config::{DEFAULT_CHAIN_ID, EngineConfig, OpenError, Progress};
use self::miner::{Miner, Parts};
pub(crate) use self::{
    execute::{BLOCK_GAS, EvmFault, MAX_TX_GAS, Mode, call_environment, environment, least_gas, most_cost, run},
    filters::{Filters, Watched},
    miner::{envelope, pending_header},
    pool::{Pending, Pool, PoolError},
    reader::{ReadError, Readers},
    state::{Codes, State, StateError},
    store::{StoredBlock, StoredLog, StoredTransaction, logs_of},
};

/// The embedded EVM node. Cheap to clone; the file is closed when the last clone is dropped.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    chain_id: u64,
    pool: Arc<Pool>,
    readers: Readers,
    codes: Codes,
    progress: watch::Receiver<Progress>,
    filters: Mutex<Filters>,
    miner: Option<JoinHandle<()>>,
    #[cfg(test)]
    fault: Arc<Mutex<Option<sealcast_faults::Fault>>>,
}

impl Engine {
    /// Opens the ledger's file, or creates it with the genesis block. Blocking: some milliseconds.
    pub fn open(path: impl AsRef<Path>, config: &EngineConfig) -> Result<Self, OpenError> {
        let path = path.as_ref().to_path_buf();
        let pool = Arc::new(Pool::default());
        let codes = Codes::default();
        #[cfg(test)]
        let fault = Arc::new(Mutex::new(None));
        let parts = Parts {
            path: path.clone(),
            codes: codes.clone(),
            pool: Arc::clone(&pool),
            #[cfg(test)]
            fault: Arc::clone(&fault),
        };
        let (miner, progress) = Miner::open(parts, config)?;
        let miner = std::thread::Builder::new()
            .name("ledger-writer".into())
            .spawn(move || miner.run())
            .map_err(OpenError::Thread)?;
        let inner = Inner {
            chain_id: config.chain_id,
            pool,
            readers: Readers::new(path),
            codes,
            progress,
            filters: Mutex::new(Filters::default()),
            miner: Some(miner),
            #[cfg(test)]
            fault,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The chain id that the file was created with.
    pub fn chain_id(&self) -> u64 {
        self.inner.chain_id
    }

    /// Signals each new block.
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.inner.progress.clone()
    }

    pub(crate) fn pool(&self) -> &Pool {
        &self.inner.pool
    }

    pub(crate) fn readers(&self) -> &Readers {
        &self.inner.readers
    }

    pub(crate) fn codes(&self) -> &Codes {
        &self.inner.codes
    }

    pub(crate) fn height(&self) -> u64 {
        self.inner.progress.borrow().height
    }

    pub(crate) fn filters<T>(&self, with: impl FnOnce(&mut Filters) -> T) -> T {
        with(&mut self.inner.filters.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The writer's next block fails.
    #[cfg(test)]
    pub(crate) fn inject(&self, fault: sealcast_faults::Fault) {
        *self.inner.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault);
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("chain_id", &self.inner.chain_id)
            .field("height", &self.height())
            .finish_non_exhaustive()
    }
}

impl Drop for Inner {
    /// Ends the writer and waits for it, so that the file is free once this returns.
    fn drop(&mut self) {
        self.pool.close();
        if let Some(miner) = self.miner.take() {
            // It cannot fail but by a panic, which has been printed.
            let _ = miner.join();
        }
    }
}

pub(crate) mod table {
    //! What the request handlers read.
    pub(crate) use super::store::{
        LOG_COLUMNS, account, block_by_hash, block_by_number, block_hashes_after, code, integer, logs_of_transaction,
        slot, tip, transaction, transaction_hashes, transactions_of,
    };
}
