//! The contract's interface, from its compiled artifact.

use alloy::{
    primitives::{Address, B256},
    rpc::types::Log,
    sol_types::{SolCall as _, SolEvent as _},
};
use sealcast_ledger::{Number, Record, SignedEntry};
use sealcast_ledger_client::NodeError;

use self::SealcastLedger::{Refused, Submission, replayCall, submitCall, submitManyCall};

alloy::sol!(
    #[allow(missing_docs, clippy::too_many_arguments)]
    SealcastLedger,
    "../../contracts/SealcastLedger.json"
);

/// The topic that marks what `submitMany` passed over.
pub(crate) const REFUSED_TOPIC: B256 = Refused::SIGNATURE_HASH;

/// A call of `submit`.
pub(crate) fn submission(entry: &SignedEntry) -> Vec<u8> {
    submitCall {
        kind: entry.kind().number(),
        originator: address(&entry.originator()),
        nonce: entry.nonce(),
        body: entry.encoded_body().to_vec().into(),
        signature: entry.signature().to_vec().into(),
    }
    .abi_encode()
}

/// A call of `submitMany`.
pub(crate) fn submissions(entries: &[SignedEntry]) -> Vec<u8> {
    submitManyCall { entries: entries.iter().map(parameters).collect() }.abi_encode()
}

/// A call of `replay`.
pub(crate) fn replay(records: &[Record]) -> Vec<u8> {
    let entries = records.iter().map(|record| parameters(&record.entry)).collect();
    replayCall { entries, times: records.iter().map(|record| record.time_s).collect() }.abi_encode()
}

fn parameters(entry: &SignedEntry) -> Submission {
    Submission {
        kind: entry.kind().number(),
        originator: address(&entry.originator()),
        nonce: entry.nonce(),
        body: entry.encoded_body().to_vec().into(),
        signature: entry.signature().to_vec().into(),
    }
}

/// The contract's words in a `Refused` event.
pub(crate) fn refusal(log: &Log) -> Result<Vec<u8>, NodeError> {
    let event = Refused::decode_log_data_validate(&log.inner.data)
        .map_err(|error| NodeError::answer("eth_getTransactionReceipt", error))?;
    Ok(event.refusal.to_vec())
}

/// A number is an address to the contract.
pub(crate) fn address(number: &Number) -> Address {
    Address::from(*number.as_bytes())
}

/// P256VERIFY's address (EIP-7951).
pub(crate) const P256VERIFY: Address = alloy::primitives::address!("0x0000000000000000000000000000000000000100");

/// A good signature by a key that was thrown away: digest, r, s, x, y. The contract has the same.
pub(crate) const P256_PROBE: [u8; 160] = alloy::hex!(
    "c70f42ee2479be586eb3ad84e19a0ff2f23056a26329f26c28341208424b4927"
    "d8f868835b3e007e6120a03641bf35f7c38b275b3e875bc8e223a17c1a4a7cea"
    "97bcc20ae56d31577331a8a65a1f53db7b5b52b15db66703f92adb2c5fff6394"
    "448a3ed1d5ebfa8d77fe4df5301416c4d8df2237d6a3b0b938cace16bde7ee41"
    "723751603062f181eee86456a483bf2344cadd433ba2aaaa02010715c6aed3b7"
);

#[cfg(test)]
mod tests {
    use alloy::sol_types::SolEvent as _;
    use sealcast_ledger_client::ENTRY_TOPIC;

    /// Agents read the contract's entries without its artifact.
    #[test]
    fn agents_look_for_the_contracts_event() {
        assert_eq!(super::SealcastLedger::Entry::SIGNATURE_HASH, ENTRY_TOPIC);
    }
}
