//! Running one transaction or call in the EVM: Osaka rules, fees of zero.

use alloy::{
    consensus::{Header, Transaction as _, TxEnvelope},
    primitives::{Address, TxKind, U256},
    rpc::types::TransactionRequest,
};
use revm::{
    Context, ExecuteEvm as _, MainBuilder as _, MainContext as _,
    context::{BlockEnv, CfgEnv, TxEnv},
    context_interface::{
        cfg::gas_params::GasParams,
        result::{EVMError, ExecutionResult, InvalidTransaction},
    },
    primitives::{eip7825, hardfork::SpecId},
    state::EvmState,
};

use super::state::{State, StateError};

/// The rules: Osaka, for P256VERIFY (EIP-7951).
pub(crate) const SPEC: SpecId = SpecId::OSAKA;
/// The most gas that one transaction may use (EIP-7825), 2^24.
pub(crate) const MAX_TX_GAS: u64 = eip7825::TX_GAS_LIMIT_CAP;
/// The most gas that one block may use. A single writer needs no tighter one; it bounds the time that a block takes.
pub(crate) const BLOCK_GAS: u64 = 1 << 30;

pub(crate) type EvmFault = EVMError<StateError, InvalidTransaction>;

/// Whether the sender's nonce counts: it does for transactions, not for `eth_call` and `eth_estimateGas`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Transaction,
    Call,
}

/// Runs `tx` on `state` as part of the block that `header` begins. Writes nothing.
pub(crate) fn run(
    state: State<'_>,
    chain_id: u64,
    header: &Header,
    tx: TxEnv,
    mode: Mode,
) -> Result<(ExecutionResult, EvmState), EvmFault> {
    let mut cfg = CfgEnv::new_with_spec(SPEC).with_chain_id(chain_id);
    cfg.disable_nonce_check = mode == Mode::Call;
    let block = BlockEnv {
        number: U256::from(header.number),
        beneficiary: header.beneficiary,
        timestamp: U256::from(header.timestamp),
        gas_limit: header.gas_limit,
        basefee: 0,
        prevrandao: Some(header.mix_hash),
        ..BlockEnv::default()
    };
    let mut evm = Context::mainnet().with_db(state).with_cfg(cfg).with_block(block).build_mainnet();
    let outcome = evm.transact(tx)?;
    Ok((outcome.result, outcome.state))
}

/// A signed transaction as the EVM takes it.
pub(crate) fn environment(tx: &TxEnvelope, sender: Address) -> TxEnv {
    TxEnv {
        tx_type: tx.tx_type() as u8,
        caller: sender,
        gas_limit: tx.gas_limit(),
        gas_price: tx.max_fee_per_gas(),
        kind: tx.kind(),
        value: tx.value(),
        data: tx.input().clone(),
        nonce: tx.nonce(),
        chain_id: tx.chain_id(),
        access_list: tx.access_list().cloned().unwrap_or_default(),
        gas_priority_fee: tx.max_priority_fee_per_gas(),
        blob_hashes: Vec::new(),
        max_fee_per_blob_gas: 0,
        authorization_list: Vec::new(),
    }
}

/// The call that a person asks for, with `gas` as its limit.
pub(crate) fn call_environment(request: &TransactionRequest, chain_id: u64, gas: u64) -> TxEnv {
    TxEnv {
        tx_type: 0,
        caller: request.from.unwrap_or_default(),
        gas_limit: gas,
        gas_price: 0,
        kind: request.to.unwrap_or(TxKind::Create),
        value: request.value.unwrap_or_default(),
        data: request.input.input().cloned().unwrap_or_default(),
        nonce: request.nonce.unwrap_or_default(),
        chain_id: Some(chain_id),
        access_list: Default::default(),
        gas_priority_fee: None,
        blob_hashes: Vec::new(),
        max_fee_per_blob_gas: 0,
        authorization_list: Vec::new(),
    }
}

/// The least gas limit that the rules accept for `tx`: what it costs before its first instruction, or the floor for
/// its data (EIP-7623).
pub(crate) fn least_gas(tx: &TxEnv) -> Result<u64, InvalidTransaction> {
    let mut probe = tx.clone();
    probe.gas_limit = u64::MAX;
    let gas = revm::handler::validation::validate_initial_tx_gas_with_gas_params(
        &probe,
        SPEC,
        &GasParams::new_spec(SPEC),
        false,
        false,
        u64::MAX,
        None,
    )?;
    Ok(gas.initial_regular_gas().max(gas.floor_gas))
}

/// What the transaction may cost its sender at most, in wei; `None` beyond 256 bits.
pub(crate) fn most_cost(tx: &TxEnv) -> Option<U256> {
    U256::from(tx.gas_limit).checked_mul(U256::from(tx.gas_price))?.checked_add(tx.value)
}
