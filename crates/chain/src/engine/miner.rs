//! The one writer: a thread that turns what waits in the pool into blocks.
//!
//! It writes one block at a time, and each is one SQLite transaction. What arrives while a block is being written
//! shares the next one, so that under load many entries share one `fsync`.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use alloy::{
    consensus::{
        EMPTY_OMMER_ROOT_HASH, Eip658Value, Header, Receipt, ReceiptEnvelope, ReceiptWithBloom, TxType,
        constants::EMPTY_WITHDRAWALS,
        proofs::{calculate_receipt_root, calculate_transaction_root},
    },
    eips::eip7685::EMPTY_REQUESTS_HASH,
    primitives::{B256, Bloom, Bytes, KECCAK256_EMPTY, Keccak256, Log, U256, logs_bloom},
};
use revm::context_interface::result::{EVMError, ExecutionResult, Output};
use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::watch;

use super::{
    config::{EngineConfig, OpenError, Progress},
    execute::{self, EvmFault, Mode},
    pool::{Pending, Pool},
    state::{Codes, State, StateError, apply},
    store::{self, Lock, StoredAccount, StoredBlock, StoredLog, StoredTransaction},
};

/// Transactions in a block, and bytes of them: bounds how long a block takes and what a crash can take back.
const MAX_BLOCK_TXS: usize = 512;
const MAX_BLOCK_BYTES: usize = 8 << 20;
/// As much of a contract's refusal as is kept; a typed one needs no more than a few words.
const MAX_REVERT_BYTES: usize = 4096;

pub(super) struct Miner {
    path: PathBuf,
    connection: Connection,
    chain_id: u64,
    codes: Codes,
    pool: Arc<Pool>,
    progress: watch::Sender<Progress>,
    tip: StoredBlock,
    #[cfg(test)]
    fault: Arc<std::sync::Mutex<Option<sealcast_faults::Fault>>>,
    /// Released last, when nothing can write any longer.
    _lock: Lock,
}

/// What the miner is made of, so that its maker need not know the order.
pub(super) struct Parts {
    pub(super) path: PathBuf,
    pub(super) codes: Codes,
    pub(super) pool: Arc<Pool>,
    #[cfg(test)]
    pub(super) fault: Arc<std::sync::Mutex<Option<sealcast_faults::Fault>>>,
}

impl Miner {
    /// Locks and opens the file, and writes the genesis block into a new one.
    pub(super) fn open(parts: Parts, config: &EngineConfig) -> Result<(Self, watch::Receiver<Progress>), OpenError> {
        let lock = Lock::acquire(&parts.path)?;
        let mut connection = store::open_writer(&parts.path)?;
        if !store::is_initialised(&connection, &parts.path)? {
            genesis(&mut connection, config)?;
        }
        let found = store::chain_id(&connection)?;
        if found != config.chain_id {
            return Err(OpenError::ChainId { path: parts.path, found, wanted: config.chain_id });
        }
        let tip = store::tip(&connection)?.ok_or_else(|| OpenError::Foreign { path: parts.path.clone() })?;
        let (progress, receiver) = watch::channel(Progress { height: tip.header.number, attempts: 0 });
        let miner = Self {
            path: parts.path,
            connection,
            chain_id: found,
            codes: parts.codes,
            pool: parts.pool,
            progress,
            tip,
            #[cfg(test)]
            fault: parts.fault,
            _lock: lock,
        };
        Ok((miner, receiver))
    }

    /// Until the pool is closed.
    pub(super) fn run(mut self) {
        while let Some(batch) = self.pool.take(MAX_BLOCK_TXS, MAX_BLOCK_BYTES) {
            if let Err(error) = self.mine(batch) {
                tracing::error!(
                    path = %self.path.display(), %error,
                    "the ledger could not write a block: waiting entries are dropped, and have to be submitted again"
                );
                self.pool.clear();
                self.recover();
            }
            let height = self.tip.header.number;
            self.progress.send_modify(|progress| {
                progress.height = height;
                progress.attempts += 1;
            });
        }
    }

    fn mine(&mut self, batch: Vec<Arc<Pending>>) -> Result<(), StateError> {
        #[cfg(test)]
        if let Some(fault) = self.fault.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take() {
            fault.strike(&self.connection)?;
        }
        let mut header = next_header(&self.tip, now_s());
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut block = BlockBuilder::new(&self.tip, &transaction, &self.codes, self.chain_id);
        let mut failed = Vec::new();
        let mut rest = batch.len();
        for (at, pending) in batch.iter().enumerate() {
            if block.gas_used + pending_gas(pending) > execute::BLOCK_GAS {
                rest = at;
                break;
            }
            match block.add(&header, pending) {
                Ok(()) => {}
                Err(EVMError::Database(error)) => return Err(error),
                Err(error) => {
                    tracing::warn!(tx = %pending.hash, %error, "a transaction is dropped: it cannot run");
                    failed.push(Arc::clone(pending));
                }
            }
        }
        let mined = std::mem::take(&mut block.mined);
        let sealed = if mined.is_empty() {
            None
        } else {
            block.finish(&mut header);
            let sealed = StoredBlock::seal(header);
            store::insert_block(&transaction, &sealed)?;
            transaction.commit()?;
            Some(sealed)
        };
        if let Some(sealed) = sealed {
            self.tip = sealed;
        }
        self.pool.settle(&mined);
        self.pool.drop_senders(&failed);
        // Whatever follows a failed transaction of the same sender was forgotten with it.
        let rest: Vec<_> = batch
            .get(rest..)
            .unwrap_or_default()
            .iter()
            .filter(|p| self.pool.find(p.hash).is_some())
            .cloned()
            .collect();
        self.pool.put_back(&rest);
        Ok(())
    }

    /// After a failed block: reopens the file and goes on from what it holds. A commit that reported a failure may
    /// have reached the disk nevertheless, so memory is not asked.
    fn recover(&mut self) {
        let reopened = store::open_writer(&self.path).and_then(|connection| {
            let tip = store::tip(&connection)?;
            Ok((connection, tip))
        });
        match reopened {
            Ok((connection, Some(tip))) => {
                self.connection = connection;
                self.tip = tip;
            }
            Ok((_, None)) => tracing::error!(path = %self.path.display(), "the ledger's database is empty"),
            Err(error) => {
                tracing::error!(path = %self.path.display(), %error, "the ledger's database cannot be opened")
            }
        }
    }
}

/// Runs transactions and writes their outcome into the open SQLite transaction.
struct BlockBuilder<'a> {
    connection: &'a Connection,
    codes: &'a Codes,
    chain_id: u64,
    digest: Keccak256,
    gas_used: u64,
    bloom: Bloom,
    receipts: Vec<ReceiptEnvelope<Log>>,
    log_count: u64,
    mined: Vec<Arc<Pending>>,
    transactions: Vec<alloy::consensus::TxEnvelope>,
}

impl<'a> BlockBuilder<'a> {
    fn new(parent: &StoredBlock, connection: &'a Connection, codes: &'a Codes, chain_id: u64) -> Self {
        let mut digest = Keccak256::new();
        digest.update(parent.header.state_root);
        Self {
            connection,
            codes,
            chain_id,
            digest,
            gas_used: 0,
            bloom: Bloom::ZERO,
            receipts: Vec::new(),
            log_count: 0,
            mined: Vec::new(),
            transactions: Vec::new(),
        }
    }

    fn add(&mut self, header: &Header, pending: &Arc<Pending>) -> Result<(), EvmFault> {
        let state = State { connection: self.connection, codes: self.codes };
        let environment = execute::environment(&pending.tx, pending.sender);
        let (result, changes) = execute::run(state, self.chain_id, header, environment, Mode::Transaction)?;
        apply(self.connection, changes, &mut self.digest).map_err(EVMError::Database)?;
        let gas_used = result.tx_gas_used();
        self.gas_used += gas_used;
        let position = self.mined.len() as u64;
        let (succeeded, contract, revert, logs) = match result {
            ExecutionResult::Success { logs, output, .. } => {
                let contract = match output {
                    Output::Create(_, address) => address,
                    Output::Call(_) => None,
                };
                (true, contract, None, logs)
            }
            ExecutionResult::Revert { output, .. } => {
                let kept = output.get(..MAX_REVERT_BYTES).unwrap_or(&output);
                (false, None, Some(kept.to_vec()), Vec::new())
            }
            ExecutionResult::Halt { .. } => (false, None, None, Vec::new()),
        };
        let stored = StoredTransaction {
            hash: pending.hash,
            block: header.number,
            position,
            sender: pending.sender,
            succeeded,
            gas_used,
            cumulative_gas: self.gas_used,
            contract,
            revert,
            raw: pending.raw.clone(),
        };
        store::insert_transaction(self.connection, &stored).map_err(database)?;
        for log in &logs {
            let stored = StoredLog {
                block: header.number,
                log_index: self.log_count,
                position,
                tx_hash: pending.hash,
                address: log.address,
                data: log.data.clone(),
            };
            store::insert_log(self.connection, &stored).map_err(database)?;
            self.log_count += 1;
        }
        let logs_bloom = logs_bloom(&logs);
        self.bloom |= logs_bloom;
        let receipt = Receipt { status: Eip658Value::Eip658(succeeded), cumulative_gas_used: self.gas_used, logs };
        self.receipts.push(envelope(pending.tx.tx_type(), ReceiptWithBloom { receipt, logs_bloom }));
        self.transactions.push(pending.tx.clone());
        self.mined.push(Arc::clone(pending));
        Ok(())
    }

    fn finish(self, header: &mut Header) {
        header.gas_used = self.gas_used;
        header.logs_bloom = self.bloom;
        header.transactions_root = calculate_transaction_root(&self.transactions);
        header.receipts_root = calculate_receipt_root(&self.receipts);
        header.state_root = self.digest.finalize();
    }
}

fn database(error: rusqlite::Error) -> EvmFault {
    EVMError::Database(StateError(error))
}

fn pending_gas(pending: &Pending) -> u64 {
    use alloy::consensus::Transaction as _;
    pending.tx.gas_limit()
}

/// A receipt of the transaction's type.
pub(crate) fn envelope<T>(kind: TxType, receipt: ReceiptWithBloom<Receipt<T>>) -> ReceiptEnvelope<T> {
    match kind {
        TxType::Legacy => ReceiptEnvelope::Legacy(receipt),
        TxType::Eip2930 => ReceiptEnvelope::Eip2930(receipt),
        TxType::Eip1559 => ReceiptEnvelope::Eip1559(receipt),
        TxType::Eip4844 => ReceiptEnvelope::Eip4844(receipt),
        TxType::Eip7702 => ReceiptEnvelope::Eip7702(receipt),
    }
}

/// Unix time in seconds.
fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The header that the block after `parent` begins with. Blocks of the same second share its timestamp: nothing
/// here needs it to grow, and it never falls.
pub(crate) fn next_header(parent: &StoredBlock, now_s: u64) -> Header {
    Header {
        parent_hash: parent.hash,
        ommers_hash: EMPTY_OMMER_ROOT_HASH,
        number: parent.header.number + 1,
        gas_limit: execute::BLOCK_GAS,
        timestamp: now_s.max(parent.header.timestamp),
        base_fee_per_gas: Some(0),
        withdrawals_root: Some(EMPTY_WITHDRAWALS),
        blob_gas_used: Some(0),
        excess_blob_gas: Some(0),
        parent_beacon_block_root: Some(B256::ZERO),
        requests_hash: Some(EMPTY_REQUESTS_HASH),
        ..Header::default()
    }
}

/// The block after the newest one, as `eth_call` sees it.
pub(crate) fn pending_header(tip: &StoredBlock) -> Header {
    next_header(tip, now_s())
}

fn genesis(connection: &mut Connection, config: &EngineConfig) -> Result<(), OpenError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    store::create_schema(&transaction, config.chain_id)?;
    let mut digest = Keccak256::new();
    digest.update(config.chain_id.to_be_bytes());
    for address in &config.funded {
        // 10^27 wei each: no fee is asked for, but wallets look at the balance.
        let account =
            StoredAccount { nonce: 0, balance: U256::from(10).pow(U256::from(27)), code_hash: KECCAK256_EMPTY };
        store::put_account(&transaction, address.into(), &account)?;
        digest.update(address);
    }
    let header = Header {
        number: 0,
        parent_hash: B256::ZERO,
        state_root: digest.finalize(),
        extra_data: Bytes::from_static(b"sealcast"),
        ..next_header(&StoredBlock::default(), now_s())
    };
    store::insert_block(&transaction, &StoredBlock::seal(header))?;
    transaction.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use sealcast_faults::Fault;

    use super::*;
    use crate::Engine;

    #[test]
    fn a_genesis_block_that_failed_is_there_or_made_by_the_next_start() {
        for fault in Fault::ALL {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("ledger");
            let config = EngineConfig { funded: vec![[7; 20]], ..EngineConfig::default() };
            let mut connection = store::open_writer(&path).unwrap();
            fault.strike(&connection).unwrap();
            genesis(&mut connection, &config).unwrap_err();
            drop(connection);
            let connection = store::open_writer(&path).unwrap();
            let tip = |connection: &Connection| store::tip(connection).unwrap().unwrap().hash;
            let left = store::is_initialised(&connection, &path).unwrap().then(|| tip(&connection));
            assert_eq!(left.is_some(), fault.is_persisted(), "{fault:?}");
            drop(connection);
            let first = { Engine::open(&path, &config).map(|engine| (engine.chain_id(), engine.height())).unwrap() };
            assert_eq!(first, (config.chain_id, 0));
            let connection = store::open_writer(&path).unwrap();
            assert!(left.is_none_or(|left| left == tip(&connection)), "{fault:?}: another genesis");
        }
    }
}
