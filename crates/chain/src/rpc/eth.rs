//! The methods: those that alloy asks for, and what a person with `curl` or `cast` tries first.

use alloy::{
    consensus::{
        BlockHeader as _, Eip658Value, Receipt, ReceiptEnvelope, ReceiptWithBloom, Transaction as _, TxEnvelope,
        TxType,
        transaction::{Recovered, SignerRecoverable as _},
    },
    eips::{BlockId, BlockNumberOrTag, eip2718::Decodable2718 as _},
    primitives::{Address, B256, Bytes, U64, U256, logs_bloom},
    rpc::types::{
        Block, BlockTransactions, FeeHistory, Filter, Header, Log, Transaction, TransactionReceipt, TransactionRequest,
    },
};
use revm::{
    context::TxEnv,
    context_interface::result::{EVMError, ExecutionResult},
};
use rusqlite::Connection;
use sealcast_ledger_client::rpc_code;
use serde_json::{Value, json};

use super::{Params, RpcFault, logs, to_json};
use crate::engine::{
    BLOCK_GAS, Codes, Engine, EvmFault, MAX_TX_GAS, Mode, Pending, State, StoredBlock, StoredTransaction, Watched,
    call_environment, envelope, environment, least_gas, most_cost, pending_header, run, table,
};

/// The longest signed transaction, as Ethereum nodes have it. The longest commit fits with room to spare.
const MAX_TX_BYTES: usize = 128 << 10;
/// The longest initcode (EIP-3860).
const MAX_INITCODE_BYTES: usize = 49_152;
/// Blocks in one `eth_feeHistory`.
const MAX_FEE_BLOCKS: u64 = 1024;

impl Engine {
    pub(super) async fn dispatch(&self, method: &str, mut params: Params) -> Result<Value, RpcFault> {
        match method {
            "eth_chainId" => to_json(U64::from(self.chain_id())),
            "net_version" => Ok(self.chain_id().to_string().into()),
            "web3_clientVersion" => Ok(concat!("sealcast/", env!("CARGO_PKG_VERSION"), "/revm").into()),
            "eth_blockNumber" => to_json(U64::from(self.newest().await?)),
            "eth_gasPrice" | "eth_maxPriorityFeePerGas" => Ok("0x0".into()),
            "eth_syncing" | "net_listening" => Ok(false.into()),
            "eth_accounts" => Ok(json!([])),
            "eth_feeHistory" => self.fee_history(&mut params).await,
            "eth_estimateGas" => self.estimate_gas(params).await,
            "eth_call" => self.call(params).await,
            "eth_sendRawTransaction" => self.send_raw_transaction(params).await,
            "eth_getTransactionCount" => self.transaction_count(params).await,
            "eth_getTransactionReceipt" => {
                let hash: B256 = params.required(0, "transaction hash")?;
                self.readers().read(move |db| to_json(receipt(db, hash)?)).await
            }
            "eth_getTransactionByHash" => self.transaction_by_hash(params.required(0, "transaction hash")?).await,
            "eth_getBlockByNumber" => {
                let number: BlockNumberOrTag = params.required(0, "block")?;
                let full: bool = params.optional(1, "full transactions")?.unwrap_or_default();
                self.block(BlockId::Number(number), full).await
            }
            "eth_getBlockByHash" => {
                let hash: B256 = params.required(0, "block hash")?;
                let full: bool = params.optional(1, "full transactions")?.unwrap_or_default();
                self.block(BlockId::from(hash), full).await
            }
            "eth_getLogs" => {
                let filter: Filter = params.required(0, "filter")?;
                self.readers().read(move |db| to_json(find_logs(db, &filter, height(db)?)?)).await
            }
            "eth_newFilter" => {
                let filter: Filter = params.required(0, "filter")?;
                logs::check(&filter)?;
                let height = self.newest().await?;
                to_json(self.filters(|filters| filters.install(Watched::Logs(Box::new(filter)), height)))
            }
            "eth_newBlockFilter" => {
                let height = self.newest().await?;
                to_json(self.filters(|filters| filters.install(Watched::Blocks, height)))
            }
            "eth_getFilterChanges" => self.filter_changes(params.required(0, "filter id")?).await,
            "eth_uninstallFilter" => {
                let id: U64 = params.required(0, "filter id")?;
                Ok(self.filters(|filters| filters.remove(id)).into())
            }
            "eth_getCode" | "eth_getBalance" => {
                let address: Address = params.required(0, "address")?;
                let block: Option<BlockId> = params.optional(1, "block")?;
                let wants_code = method == "eth_getCode";
                self.readers()
                    .read(move |db| {
                        newest_only(db, block)?;
                        let account = table::account(db, address)?;
                        if !wants_code {
                            return to_json(account.map(|account| account.balance).unwrap_or_default());
                        }
                        let code = match account {
                            Some(account) => table::code(db, account.code_hash)?.unwrap_or_default(),
                            None => Vec::new(),
                        };
                        to_json(Bytes::from(code))
                    })
                    .await
            }
            "eth_getStorageAt" => {
                let address: Address = params.required(0, "address")?;
                let slot: U256 = params.required(1, "slot")?;
                let block: Option<BlockId> = params.optional(2, "block")?;
                self.readers()
                    .read(move |db| {
                        newest_only(db, block)?;
                        to_json(B256::from(table::slot(db, address, slot)?))
                    })
                    .await
            }
            other => Err(unknown(other)),
        }
    }

    /// The newest block, as whoever has its receipt knows it: by the database, and not by what its writer says afterwards.
    async fn newest(&self) -> Result<u64, RpcFault> {
        self.readers().read(|db| Ok(height(db)?)).await
    }

    async fn fee_history(&self, params: &mut Params) -> Result<Value, RpcFault> {
        let asked: U64 = params.required(0, "block count")?;
        let newest: BlockNumberOrTag = params.required(1, "newest block")?;
        let percentiles: Vec<f64> = params.optional(2, "percentiles")?.unwrap_or_default();
        if percentiles.len() > 100 {
            return Err(RpcFault::new(rpc_code::INVALID_PARAMS, "at most 100 percentiles"));
        }
        let tip = self.newest().await?;
        let newest = newest.as_number().unwrap_or(tip).min(tip);
        let count = asked.to::<u64>().clamp(1, MAX_FEE_BLOCKS).min(newest + 1);
        let blocks = usize::try_from(count).unwrap_or_default();
        to_json(FeeHistory {
            base_fee_per_gas: vec![0; blocks + 1],
            gas_used_ratio: vec![0.0; blocks],
            base_fee_per_blob_gas: vec![0; blocks + 1],
            blob_gas_used_ratio: vec![0.0; blocks],
            oldest_block: newest + 1 - count,
            reward: (!percentiles.is_empty()).then(|| vec![vec![0; percentiles.len()]; blocks]),
        })
    }

    async fn call(&self, mut params: Params) -> Result<Value, RpcFault> {
        let request: TransactionRequest = params.required(0, "call")?;
        let block: Option<BlockId> = params.optional(1, "block")?;
        refuse_overrides(&mut params)?;
        let chain_id = self.chain_id();
        let codes = self.codes().clone();
        self.readers()
            .read(move |db| {
                let tip = newest_only(db, block)?;
                let gas = request.gas.unwrap_or(MAX_TX_GAS).min(MAX_TX_GAS);
                let tx = call_environment(&request, chain_id, gas);
                match simulate(db, &codes, chain_id, &tip, tx)? {
                    ExecutionResult::Success { output, .. } => to_json(output.into_data()),
                    ExecutionResult::Revert { output, .. } => Err(RpcFault::reverted(&output)),
                    ExecutionResult::Halt { reason, .. } => Err(halted(&reason)),
                }
            })
            .await
    }

    async fn estimate_gas(&self, mut params: Params) -> Result<Value, RpcFault> {
        let request: TransactionRequest = params.required(0, "transaction")?;
        let block: Option<BlockId> = params.optional(1, "block")?;
        refuse_overrides(&mut params)?;
        let chain_id = self.chain_id();
        let codes = self.codes().clone();
        self.readers()
            .read(move |db| {
                let tip = newest_only(db, block)?;
                let mut high = request.gas.unwrap_or(MAX_TX_GAS).min(MAX_TX_GAS);
                let attempt = |gas| simulate(db, &codes, chain_id, &tip, call_environment(&request, chain_id, gas));
                let used = match attempt(high)? {
                    ExecutionResult::Success { gas, .. } => gas.tx_gas_used(),
                    ExecutionResult::Revert { output, .. } => return Err(RpcFault::reverted(&output)),
                    ExecutionResult::Halt { reason, .. } => return Err(halted(&reason)),
                };
                // What is used is not always enough: inner calls keep back 1/64, refunds come at the end.
                let mut low = used.saturating_sub(1);
                let mut guess = used.saturating_add(used / 63).saturating_add(2_300).min(high);
                while low + 1 < high {
                    if matches!(attempt(guess), Ok(ExecutionResult::Success { .. })) {
                        high = guess;
                        if high - low <= high / 32 {
                            break;
                        }
                    } else {
                        low = guess;
                    }
                    guess = low + (high - low) / 2;
                }
                to_json(U64::from(high))
            })
            .await
    }

    async fn send_raw_transaction(&self, mut params: Params) -> Result<Value, RpcFault> {
        let raw: Bytes = params.required(0, "signed transaction")?;
        if raw.len() > MAX_TX_BYTES {
            let message =
                format!("oversized data: the transaction has {} bytes, {MAX_TX_BYTES} are allowed", raw.len());
            return Err(RpcFault::server(message));
        }
        let engine = self.clone();
        self.readers()
            .read(move |db| {
                let (pending, least_balance) = engine.admit(raw)?;
                let (hash, sender) = (pending.hash, pending.sender);
                if !least_balance.is_zero() {
                    let balance = table::account(db, sender)?.map(|account| account.balance).unwrap_or_default();
                    if balance < least_balance {
                        let message = format!(
                            "insufficient funds for gas * price + value: {sender} has {balance}, {least_balance} may be needed"
                        );
                        return Err(RpcFault::server(message));
                    }
                }
                engine.pool().insert(pending, || engine.committed_nonce(sender))?;
                to_json(hash)
            })
            .await
    }

    /// The sender's nonce in the newest block, from a snapshot of its own: the caller's may be older than the last
    /// transaction that the pool has forgotten.
    fn committed_nonce(&self, sender: Address) -> Result<u64, RpcFault> {
        let account = self.readers().fresh(|db| table::account(db, sender))?;
        Ok(account.map(|account| account.nonce).unwrap_or_default())
    }

    /// Everything that can be checked about a transaction without the state.
    fn admit(&self, raw: Bytes) -> Result<(Pending, U256), RpcFault> {
        let refuse = |message: String| Err(RpcFault::server(message));
        let tx = match TxEnvelope::decode_2718_exact(&raw) {
            Ok(tx) => tx,
            Err(error) => {
                return Err(RpcFault::new(rpc_code::INVALID_PARAMS, format!("not a signed transaction: {error}")));
            }
        };
        if !matches!(tx.tx_type(), TxType::Legacy | TxType::Eip2930 | TxType::Eip1559) {
            return refuse("transaction type not supported: blobs and delegations have no use here".into());
        }
        if tx.chain_id() != Some(self.chain_id()) {
            let got = tx.chain_id().map_or_else(|| "none".into(), |id| id.to_string());
            return refuse(format!(
                "invalid chain id for signer: the transaction has {got}, this chain is {}",
                self.chain_id()
            ));
        }
        let Ok(sender) = tx.recover_signer() else {
            return refuse("invalid sender: the signature is not valid".into());
        };
        let env = environment(&tx, sender);
        check_limits(&env)?;
        let Some(cost) = most_cost(&env) else { return refuse("insufficient funds for gas * price + value".into()) };
        let pending = Pending { hash: *tx.tx_hash(), sender, nonce: tx.nonce(), tx, raw: raw.to_vec() };
        Ok((pending, cost))
    }

    async fn transaction_count(&self, mut params: Params) -> Result<Value, RpcFault> {
        let address: Address = params.required(0, "address")?;
        let block: Option<BlockId> = params.optional(1, "block")?;
        if block.is_some_and(|block| block.is_pending())
            && let Some(next) = self.pool().next_nonce(address)
        {
            return to_json(U64::from(next));
        }
        self.readers()
            .read(move |db| {
                newest_only(db, block)?;
                to_json(U64::from(table::account(db, address)?.map(|account| account.nonce).unwrap_or_default()))
            })
            .await
    }

    async fn transaction_by_hash(&self, hash: B256) -> Result<Value, RpcFault> {
        if let Some(pending) = self.pool().find(hash) {
            return to_json(rpc_transaction(pending.tx.clone(), pending.sender, None));
        }
        self.readers()
            .read(move |db| {
                let Some(stored) = table::transaction(db, hash)? else { return Ok(Value::Null) };
                let block = block_of(db, &stored)?;
                to_json(rpc_transaction(decode(&stored)?, stored.sender, Some((&stored, &block))))
            })
            .await
    }

    async fn block(&self, id: BlockId, full: bool) -> Result<Value, RpcFault> {
        self.readers()
            .read(move |db| find_block(db, id)?.map_or(Ok(Value::Null), |block| rpc_block(db, block, full)))
            .await
    }

    async fn filter_changes(&self, id: U64) -> Result<Value, RpcFault> {
        let found = self.filters(|filters| filters.find(id));
        let (watched, seen) = found.ok_or_else(|| RpcFault::server("filter not found"))?;
        let (changes, last) = self
            .readers()
            .read(move |db| match watched {
                Watched::Blocks => {
                    let (hashes, last) = logs::new_blocks(db, seen)?;
                    Ok((to_json(hashes)?, last))
                }
                Watched::Logs(filter) => {
                    let tip = height(db)?;
                    let range = logs::range(db, &filter, tip)?.map(|(from, to)| (from.max(seen + 1), to));
                    let found = match range {
                        Some((from, to)) if from <= to => logs::matching(db, &filter, (from, to))?,
                        _ => Vec::new(),
                    };
                    Ok::<_, RpcFault>((to_json(found)?, tip))
                }
            })
            .await?;
        self.filters(|filters| filters.advance(id, last));
        Ok(changes)
    }
}

/// The number of the newest block.
fn height(db: &Connection) -> rusqlite::Result<u64> {
    Ok(table::tip(db)?.map_or(0, |block| block.header.number))
}

fn unknown(method: &str) -> RpcFault {
    let shown: String = method.chars().take(64).collect();
    RpcFault::new(rpc_code::METHOD_NOT_FOUND, format!("the method {shown} does not exist here"))
}

fn halted(reason: &impl std::fmt::Debug) -> RpcFault {
    RpcFault::server(format!("execution halted: {reason:?}"))
}

/// State and block overrides are not supported, and ignoring them would answer another question.
fn refuse_overrides(params: &mut Params) -> Result<(), RpcFault> {
    for at in [2, 3] {
        if params
            .optional::<Value>(at, "overrides")?
            .is_some_and(|value| value.as_object().is_none_or(|o| !o.is_empty()))
        {
            return Err(RpcFault::server("state and block overrides are not supported"));
        }
    }
    Ok(())
}

fn check_limits(env: &TxEnv) -> Result<(), RpcFault> {
    if env.gas_limit > MAX_TX_GAS.min(BLOCK_GAS) {
        return Err(RpcFault::server(format!(
            "transaction gas limit too high (cap: {MAX_TX_GAS}, tx: {}) (EIP-7825)",
            env.gas_limit
        )));
    }
    if env.kind.is_create() && env.data.len() > MAX_INITCODE_BYTES {
        return Err(RpcFault::server(format!(
            "max initcode size exceeded: {} of {MAX_INITCODE_BYTES} bytes",
            env.data.len()
        )));
    }
    if env.gas_priority_fee.is_some_and(|tip| tip > env.gas_price) {
        return Err(RpcFault::server("max priority fee per gas higher than max fee per gas"));
    }
    let least = least_gas(env).map_err(|error| RpcFault::server(error.to_string()))?;
    if env.gas_limit < least {
        return Err(RpcFault::server(format!("intrinsic gas too low: have {}, want {least}", env.gas_limit)));
    }
    Ok(())
}

fn simulate(
    db: &Connection,
    codes: &Codes,
    chain_id: u64,
    tip: &StoredBlock,
    tx: TxEnv,
) -> Result<ExecutionResult, RpcFault> {
    let state = State { connection: db, codes };
    match run(state, chain_id, &pending_header(tip), tx, Mode::Call) {
        Ok((result, _)) => Ok(result),
        Err(error) => Err(evm_fault(error)),
    }
}

fn evm_fault(error: EvmFault) -> RpcFault {
    match error {
        EVMError::Database(error) => error.into(),
        other => RpcFault::server(other.to_string()),
    }
}

fn find_block(db: &Connection, id: BlockId) -> Result<Option<StoredBlock>, RpcFault> {
    Ok(match id {
        BlockId::Hash(hash) => table::block_by_hash(db, hash.block_hash)?,
        BlockId::Number(BlockNumberOrTag::Number(number)) => table::block_by_number(db, number)?,
        BlockId::Number(BlockNumberOrTag::Earliest) => table::block_by_number(db, 0)?,
        // A single writer's block is final once it is written.
        BlockId::Number(_) => table::tip(db)?,
    })
}

/// The newest block, if that is what was asked for: older states are not kept.
fn newest_only(db: &Connection, id: Option<BlockId>) -> Result<StoredBlock, RpcFault> {
    let tip = table::tip(db)?.ok_or_else(|| RpcFault::new(rpc_code::INTERNAL, "the ledger has no blocks"))?;
    let asked = find_block(db, id.unwrap_or_default())?.ok_or_else(|| RpcFault::server("unknown block"))?;
    if asked.hash != tip.hash {
        let message = format!(
            "the state of block {} is not kept, only that of the newest, {}",
            asked.header.number, tip.header.number
        );
        return Err(RpcFault::server(message));
    }
    Ok(tip)
}

fn find_logs(db: &Connection, filter: &Filter, tip: u64) -> Result<Vec<Log>, RpcFault> {
    logs::check(filter)?;
    // The signal of the newest block may lag behind this snapshot.
    let tip = table::tip(db)?.map_or(tip, |block| block.header.number);
    match logs::range(db, filter, tip)? {
        Some(range) => logs::matching(db, filter, range),
        None => Ok(Vec::new()),
    }
}

fn decode(stored: &StoredTransaction) -> Result<TxEnvelope, RpcFault> {
    TxEnvelope::decode_2718_exact(&stored.raw).map_err(|error| {
        RpcFault::new(rpc_code::INTERNAL, format!("transaction {} cannot be read: {error}", stored.hash))
    })
}

fn block_of(db: &Connection, stored: &StoredTransaction) -> Result<StoredBlock, RpcFault> {
    table::block_by_number(db, stored.block)?
        .ok_or_else(|| RpcFault::new(rpc_code::INTERNAL, format!("block {} is missing", stored.block)))
}

/// What the sender pays for a unit of gas where the base fee is zero.
fn effective_price(tx: &TxEnvelope) -> u128 {
    tx.effective_gas_price(Some(0))
}

fn rpc_transaction(tx: TxEnvelope, sender: Address, mined: Option<(&StoredTransaction, &StoredBlock)>) -> Transaction {
    let price = effective_price(&tx);
    Transaction {
        inner: Recovered::new_unchecked(tx, sender),
        block_hash: mined.map(|(_, block)| block.hash),
        block_number: mined.map(|(stored, _)| stored.block),
        transaction_index: mined.map(|(stored, _)| stored.position),
        effective_gas_price: Some(price),
        block_timestamp: mined.map(|(_, block)| block.header.timestamp()),
    }
}

fn rpc_block(db: &Connection, block: StoredBlock, full: bool) -> Result<Value, RpcFault> {
    let number = block.header.number;
    let transactions = if full {
        let stored = table::transactions_of(db, number)?;
        let listed: Result<Vec<_>, RpcFault> = stored
            .iter()
            .map(|stored| Ok(rpc_transaction(decode(stored)?, stored.sender, Some((stored, &block)))))
            .collect();
        BlockTransactions::Full(listed?)
    } else {
        BlockTransactions::Hashes(table::transaction_hashes(db, number)?)
    };
    let header = Header { hash: block.hash, inner: block.header, total_difficulty: None, size: None };
    to_json(Block { header, uncles: Vec::new(), transactions, withdrawals: Some(Default::default()) })
}

/// A receipt, with what the contract said if it reverted (`revertReason`, as Besu has it).
fn receipt(db: &Connection, hash: B256) -> Result<Option<Value>, RpcFault> {
    let Some(stored) = table::transaction(db, hash)? else { return Ok(None) };
    let block = block_of(db, &stored)?;
    let tx = decode(&stored)?;
    let logs: Vec<Log> = table::logs_of_transaction(db, stored.block, stored.position)?
        .into_iter()
        .map(|log| logs::rpc_log(log, block.hash, block.header.timestamp))
        .collect();
    let bloom = logs_bloom(logs.iter().map(|log| &log.inner));
    let receipt =
        Receipt { status: Eip658Value::Eip658(stored.succeeded), cumulative_gas_used: stored.cumulative_gas, logs };
    let inner: ReceiptEnvelope<Log> = envelope(tx.tx_type(), ReceiptWithBloom { receipt, logs_bloom: bloom });
    let mut value = to_json(TransactionReceipt {
        inner,
        transaction_hash: stored.hash,
        transaction_index: Some(stored.position),
        block_hash: Some(block.hash),
        block_number: Some(stored.block),
        gas_used: stored.gas_used,
        effective_gas_price: effective_price(&tx),
        blob_gas_used: None,
        blob_gas_price: None,
        from: stored.sender,
        to: tx.to(),
        contract_address: stored.contract,
    })?;
    if let (Some(revert), Some(object)) = (&stored.revert, value.as_object_mut()) {
        object.insert("revertReason".into(), alloy::hex::encode_prefixed(revert).into());
    }
    Ok(Some(value))
}
