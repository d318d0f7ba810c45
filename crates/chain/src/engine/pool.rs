//! Transactions that wait for a block, in order of arrival.
//!
//! A transaction whose predecessor is missing is refused and not kept: when a block fails, all that waits is dropped, and
//! what a sender sends next in ignorance of that would wait for ever. Refused, it asks for its nonce again.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use alloy::{
    consensus::TxEnvelope,
    primitives::{Address, B256},
};

/// Transactions that can run and wait for the next block, or are in it.
const MAX_READY: usize = 4096;
/// Bytes of all transactions in the pool.
const MAX_BYTES: usize = 64 << 20;

/// A transaction that was checked and waits.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) hash: B256,
    pub(crate) sender: Address,
    pub(crate) nonce: u64,
    pub(crate) tx: TxEnvelope,
    /// As it came, EIP-2718.
    pub(crate) raw: Vec<u8>,
}

/// Why the pool did not take a transaction. The texts are those that Ethereum clients look for.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PoolError {
    #[error("already known")]
    Known,
    #[error("nonce too low: next nonce {next}, tx nonce {nonce}")]
    NonceTooLow { next: u64, nonce: u64 },
    #[error("nonce too high: next nonce {next}, tx nonce {nonce}")]
    NonceTooHigh { next: u64, nonce: u64 },
    #[error("txpool is full")]
    Full,
    #[error("the ledger is shutting down")]
    Closed,
}

#[derive(Default)]
struct Sender {
    /// The nonce that the next transaction to run must have.
    next: u64,
    /// How many of its transactions are ready or in a block that is being written.
    outstanding: usize,
}

#[derive(Default)]
struct Inner {
    ready: VecDeque<Arc<Pending>>,
    senders: BTreeMap<Address, Sender>,
    known: BTreeMap<B256, Arc<Pending>>,
    bytes: usize,
    closed: bool,
}

/// The pool. Shared by the request handlers, which insert, and the miner, which takes.
#[derive(Default)]
pub(crate) struct Pool {
    inner: Mutex<Inner>,
    arrived: Condvar,
}

impl Pool {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a transaction in. `committed` reads the sender's nonce in the newest block; it runs under the pool's lock,
    /// so that no block can settle between the reading and the insertion.
    pub(crate) fn insert<E: From<PoolError>>(
        &self,
        pending: Pending,
        committed: impl FnOnce() -> Result<u64, E>,
    ) -> Result<(), E> {
        let mut inner = self.lock();
        let inner = &mut *inner;
        if inner.closed {
            return Err(PoolError::Closed.into());
        }
        if inner.known.contains_key(&pending.hash) {
            return Err(PoolError::Known.into());
        }
        if inner.bytes + pending.raw.len() > MAX_BYTES {
            return Err(PoolError::Full.into());
        }
        if inner.ready.len() >= MAX_READY {
            return Err(PoolError::Full.into());
        }
        let nonce = pending.nonce;
        let next = match inner.senders.get(&pending.sender) {
            Some(sender) => sender.next,
            None => committed()?,
        };
        if nonce < next {
            return Err(PoolError::NonceTooLow { next, nonce }.into());
        }
        if nonce > next {
            return Err(PoolError::NonceTooHigh { next, nonce }.into());
        }
        let sender = inner.senders.entry(pending.sender).or_default();
        sender.next = nonce.saturating_add(1);
        sender.outstanding += 1;
        let pending = Arc::new(pending);
        inner.bytes += pending.raw.len();
        inner.known.insert(pending.hash, Arc::clone(&pending));
        inner.ready.push_back(pending);
        self.arrived.notify_one();
        Ok(())
    }

    /// Waits for transactions and takes those for the next block, oldest first. `None` once the pool is closed.
    pub(super) fn take(&self, max: usize, max_bytes: usize) -> Option<Vec<Arc<Pending>>> {
        let mut inner = self.lock();
        while inner.ready.is_empty() {
            if inner.closed {
                return None;
            }
            inner = self.arrived.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
        let mut batch = Vec::new();
        let mut bytes = 0;
        while let Some(front) = inner.ready.front() {
            bytes += front.raw.len();
            if batch.len() >= max || (!batch.is_empty() && bytes > max_bytes) {
                break;
            }
            batch.extend(inner.ready.pop_front());
        }
        Some(batch)
    }

    /// Puts back, in front, what did not fit into the block.
    pub(super) fn put_back(&self, rest: &[Arc<Pending>]) {
        let mut inner = self.lock();
        for pending in rest.iter().rev() {
            inner.ready.push_front(Arc::clone(pending));
        }
    }

    /// Forgets the transactions of a block that was written.
    pub(super) fn settle(&self, mined: &[Arc<Pending>]) {
        let mut inner = self.lock();
        for pending in mined {
            inner.forget(pending);
            if let Some(sender) = inner.senders.get_mut(&pending.sender) {
                sender.outstanding = sender.outstanding.saturating_sub(1);
                if sender.outstanding == 0 {
                    inner.senders.remove(&pending.sender);
                }
            }
        }
    }

    /// Forgets everything of the senders of these transactions: one of theirs cannot run, so what follows it cannot.
    pub(super) fn drop_senders(&self, failed: &[Arc<Pending>]) {
        let mut inner = self.lock();
        for pending in failed {
            inner.forget(pending);
            let sender = pending.sender;
            inner.senders.remove(&sender);
            let (gone, kept): (VecDeque<_>, VecDeque<_>) =
                std::mem::take(&mut inner.ready).into_iter().partition(|waiting| waiting.sender == sender);
            inner.ready = kept;
            for waiting in &gone {
                inner.forget(waiting);
            }
        }
    }

    /// Forgets everything: a block could not be written, and nobody knows yet what the disk holds.
    pub(super) fn clear(&self) {
        let mut inner = self.lock();
        let closed = inner.closed;
        *inner = Inner { closed, ..Inner::default() };
    }

    /// Refuses what comes and wakes the miner, which ends once what is ready is written.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_all();
    }

    /// A waiting transaction.
    pub(crate) fn find(&self, hash: B256) -> Option<Arc<Pending>> {
        self.lock().known.get(&hash).cloned()
    }

    /// The nonce that the sender's next transaction needs, counting those that wait; `None` if none of its wait.
    pub(crate) fn next_nonce(&self, sender: Address) -> Option<u64> {
        self.lock().senders.get(&sender).map(|sender| sender.next)
    }
}

impl Inner {
    fn forget(&mut self, pending: &Pending) {
        if self.known.remove(&pending.hash).is_some() {
            self.bytes = self.bytes.saturating_sub(pending.raw.len());
        }
    }
}
