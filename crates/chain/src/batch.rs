//! Which entries share a transaction, and what became of each.

use std::ops::ControlFlow;

use alloy::{primitives::Address, rpc::types::Log};
use sealcast_ledger::{Kind, Record, SignedEntry};
use sealcast_ledger_client::{ENTRY_TOPIC, NodeError, record};

use crate::{contract, engine::MAX_TX_GAS};

/// Entries in one transaction.
const MAX_ENTRIES: usize = 64;
/// Bytes of bodies in one transaction: nodes take transactions of up to 128 KiB, and each entry has some 400 bytes more.
const MAX_BODY_BYTES: usize = 64 << 10;
/// What any entry costs at most, without its body: see `contracts/gas.md`.
const ENTRY_GAS: u64 = 200_000;
/// What a byte costs at most that is called with and told in an event.
const TOLD_BYTE_GAS: u64 = 64;
/// What a byte costs at most that is stored as well.
const STORED_BYTE_GAS: u64 = 700;
/// Some is left for what costs more than it should. Where that does not suffice, each entry gets its own transaction.
const MAX_GAS: u64 = MAX_TX_GAS / 8 * 7;

/// How many of the first entries go into one transaction together: at least one, if there is one.
pub(crate) fn fits<'a>(entries: impl IntoIterator<Item = &'a SignedEntry>) -> usize {
    let fitting = entries.into_iter().take(MAX_ENTRIES).try_fold((0, 0, 0), |(count, bytes, gas), entry| {
        let (bytes, gas) = (bytes + entry.encoded_body().len(), gas + most_gas(entry));
        match count > 0 && (bytes > MAX_BODY_BYTES || gas > MAX_GAS) {
            true => ControlFlow::Break(count),
            false => ControlFlow::Continue((count + 1, bytes, gas)),
        }
    });
    match fitting {
        ControlFlow::Break(count) | ControlFlow::Continue((count, ..)) => count,
    }
}

fn most_gas(entry: &SignedEntry) -> u64 {
    let each = match entry.kind() {
        Kind::DeviceRegistered | Kind::GroupCreated | Kind::LimitsSet => STORED_BYTE_GAS,
        _ => TOLD_BYTE_GAS,
    };
    ENTRY_GAS + each * entry.encoded_body().len() as u64
}

/// What became of one entry of `submitMany`: its record, or the contract's words.
pub(crate) type Outcome = Result<Record, Vec<u8>>;

/// What became of `count` entries, by their transaction's events.
pub(crate) fn outcomes(logs: &[Log], ledger: Address, count: usize) -> Result<Vec<Outcome>, NodeError> {
    let told: Vec<Outcome> = logs
        .iter()
        .filter(|log| log.inner.address == ledger)
        .filter_map(|log| match log.inner.data.topics().first() {
            Some(&ENTRY_TOPIC) => Some(record(&log.inner.data).map(Ok)),
            Some(&contract::REFUSED_TOPIC) => Some(contract::refusal(log).map(Err)),
            _ => None,
        })
        .collect::<Result<_, _>>()?;
    if told.len() == count {
        return Ok(told);
    }
    Err(NodeError::answer("eth_getTransactionReceipt", format!("{} events of {count} entries", told.len())))
}

#[cfg(test)]
mod tests {
    use sealcast_identity::SigningKey;
    use sealcast_ledger::{Body, Commit, Epoch, Generation, GroupNumber, LedgerId, Number};

    use super::{MAX_BODY_BYTES, MAX_ENTRIES, fits};

    fn check(lengths: &[usize], expected: usize) {
        let key = SigningKey::generate().unwrap();
        let id = LedgerId { chain_id: 1, address: [1; 20] };
        let by = Number::from([2; 20]);
        let entry = |(nonce, length): (u64, &usize)| {
            let commit = Commit {
                group: GroupNumber::new(1).unwrap(),
                generation: Generation(0),
                epoch: Epoch(nonce),
                commit: vec![7; *length],
            };
            Body::Commit(commit).sign(&key, by, nonce, &id).unwrap()
        };
        let entries: Vec<_> = (0..).zip(lengths).map(entry).collect();
        assert_eq!(fits(&entries), expected, "{lengths:?}");
    }

    #[test]
    fn a_transaction_has_a_bound_of_entries_and_bytes_and_at_least_one() {
        check(&[], 0);
        check(&[90 << 10], 1);
        check(&[90 << 10, 1], 1);
        check(&[100, 90 << 10, 100], 1);
        check(&[100; MAX_ENTRIES], MAX_ENTRIES);
        check(&[100; MAX_ENTRIES + 1], MAX_ENTRIES);
        check(&[MAX_BODY_BYTES / 4; 8], 3);
    }
}
