//! `eth_getLogs`, and what a polled filter has found.

use alloy::{
    primitives::{Address, B256},
    rpc::types::{BlockNumberOrTag, Filter, FilterBlockOption, Log},
};
use rusqlite::{Connection, params_from_iter, types::Value as Sql};
use sealcast_ledger_client::rpc_code;

use super::RpcFault;
use crate::engine::{StoredLog, table};

/// Logs in one answer, and bytes of their data.
const MAX_LOGS: usize = 10_000;
const MAX_LOG_BYTES: usize = 8 << 20;
/// Alternatives in one filter, addresses and topics together.
const MAX_ALTERNATIVES: usize = 1024;
/// Block hashes in one `eth_getFilterChanges`; more follow at the next.
const MAX_HASHES: usize = 1024;

/// The blocks that a filter covers, both included; `None` if there are none (yet).
pub(super) fn range(connection: &Connection, filter: &Filter, tip: u64) -> Result<Option<(u64, u64)>, RpcFault> {
    let number = |tag: Option<BlockNumberOrTag>| match tag {
        Some(BlockNumberOrTag::Number(number)) => number,
        Some(BlockNumberOrTag::Earliest) => 0,
        _ => tip,
    };
    match filter.block_option {
        FilterBlockOption::AtBlockHash(hash) => {
            let block = table::block_by_hash(connection, hash)?.ok_or_else(|| RpcFault::server("unknown block"))?;
            Ok(Some((block.header.number, block.header.number)))
        }
        FilterBlockOption::Range { from_block, to_block } => {
            let (from, to) = (number(from_block), number(to_block));
            if from > to && from_block.is_some_and(|tag| tag.is_number()) && to_block.is_some_and(|tag| tag.is_number())
            {
                return Err(RpcFault::new(rpc_code::INVALID_PARAMS, "invalid block range: fromBlock is after toBlock"));
            }
            let to = to.min(tip);
            Ok((from <= to).then_some((from, to)))
        }
    }
}

/// Refuses filters that name too much.
pub(super) fn check(filter: &Filter) -> Result<(), RpcFault> {
    let alternatives = filter.address.len() + filter.topics.iter().map(|topic| topic.len()).sum::<usize>();
    if alternatives > MAX_ALTERNATIVES {
        let message = format!("the filter names {alternatives} addresses and topics, {MAX_ALTERNATIVES} are allowed");
        return Err(RpcFault::new(rpc_code::LIMIT, message));
    }
    Ok(())
}

/// The logs of the blocks `from..=to` that match, oldest first.
pub(super) fn matching(connection: &Connection, filter: &Filter, (from, to): (u64, u64)) -> Result<Vec<Log>, RpcFault> {
    let mut sql = format!("SELECT {} FROM logs WHERE block BETWEEN ? AND ?", table::LOG_COLUMNS);
    let mut values = vec![Sql::Integer(table::integer(from)?), Sql::Integer(table::integer(to)?)];
    let mut any_of = |column: &str, alternatives: Vec<Vec<u8>>| {
        if !alternatives.is_empty() {
            let marks = vec!["?"; alternatives.len()].join(",");
            sql.push_str(&format!(" AND {column} IN ({marks})"));
            values.extend(alternatives.into_iter().map(Sql::Blob));
        }
    };
    any_of("address", filter.address.iter().map(|address: &Address| address.to_vec()).collect());
    for (topic, column) in filter.topics.iter().zip(["topic0", "topic1", "topic2", "topic3"]) {
        any_of(column, topic.iter().map(|topic: &B256| topic.to_vec()).collect());
    }
    sql.push_str(" ORDER BY block, log_index");
    let mut statement = connection.prepare(&sql)?;
    let mut rows = statement.query(params_from_iter(values))?;
    let mut logs = Vec::new();
    let mut bytes = 0;
    let mut block: Option<(u64, B256, u64)> = None;
    while let Some(row) = rows.next()? {
        let log = StoredLog::from_row(row)?;
        bytes += log.data.data.len();
        if logs.len() >= MAX_LOGS || (bytes > MAX_LOG_BYTES && !logs.is_empty()) {
            let message = format!(
                "query returned more than {MAX_LOGS} logs or {MAX_LOG_BYTES} bytes: ask for fewer blocks, up to {}",
                log.block.saturating_sub(1).max(from)
            );
            return Err(RpcFault::new(rpc_code::LIMIT, message));
        }
        let (_, hash, time) = match block {
            Some(block) if block.0 == log.block => block,
            _ => {
                let found = table::block_by_number(connection, log.block)?
                    .ok_or_else(|| RpcFault::new(rpc_code::INTERNAL, format!("block {} is missing", log.block)))?;
                *block.insert((log.block, found.hash, found.header.timestamp))
            }
        };
        logs.push(rpc_log(log, hash, time));
    }
    Ok(logs)
}

/// A log as clients get it.
pub(super) fn rpc_log(log: StoredLog, block_hash: B256, time_s: u64) -> Log {
    Log {
        inner: alloy::primitives::Log { address: log.address, data: log.data },
        block_hash: Some(block_hash),
        block_number: Some(log.block),
        block_timestamp: Some(time_s),
        transaction_hash: Some(log.tx_hash),
        transaction_index: Some(log.position),
        log_index: Some(log.log_index),
        removed: false,
    }
}

/// Block hashes for a block filter, with the number of the last.
pub(super) fn new_blocks(connection: &Connection, seen: u64) -> Result<(Vec<B256>, u64), RpcFault> {
    let hashes = table::block_hashes_after(connection, seen, MAX_HASHES)?;
    let last = seen + hashes.len() as u64;
    Ok((hashes, last))
}
