//! Why the contract, or the replica by the same rules, refuses an entry.

use std::borrow::Cow;

use alloy_primitives::{Address, B256, U256};
use alloy_sol_types::SolInterface as _;

use crate::{Hash, LedgerId, Number};
use errors::Contract::ContractErrors;

/// One variant for each custom error of the contract, with the same fields.
///
/// [`Refusal::from_revert`] reads the contract's revert data, so that an engine and the in-memory replica answer alike.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the message says what the fields are")]
pub enum Refusal {
    /// The network lacks P256VERIFY (EIP-7951).
    #[error("the network has no P256VERIFY precompile at 0x100: it must be at the Osaka upgrade or later")]
    P256Unavailable,
    /// The chain id does not fit 64 bits.
    #[error("the network's chain id is too large: it must fit 64 bits")]
    ChainIdTooLarge,
    /// A block is older than the last entry.
    #[error(
        "the block's time ({block_time_s}) is before the last entry's time ({last_s}): correct the clock of the \
         ledger's host"
    )]
    ClockWentBack { last_s: u64, block_time_s: u64 },

    /// The contract's ledger is at another contract: it has moved there, or it has not come here yet.
    #[error("the ledger is not at this contract: it has moved to {ledger}, or has not come from there yet")]
    NotHere { ledger: LedgerId },
    /// Entries are replayed into a successor until it has all of them, and by its deployer alone.
    #[error(
        "{}",
        if replayer.as_bytes() == &[0; 20] {
            "no entries can be replayed into this contract: it succeeds no other, or has all of them".to_owned()
        } else {
            format!("entries are replayed into this contract by the account {replayer} alone, which has deployed it")
        }
    )]
    MayNotReplay { replayer: Number },

    /// No such kind.
    #[error("entry kind {kind} is unknown: is the sender newer than the ledger?")]
    UnknownKind { kind: u8 },
    /// Not the canonical ABI encoding.
    #[error("the body is not the canonical ABI encoding of an entry of kind {kind}")]
    BadBody { kind: u8 },
    /// Too short or too long.
    #[error("the length of {field} is {length}; it must be from {min} to {max}")]
    BadLength { field: Cow<'static, str>, length: u64, min: u64, max: u64 },
    /// A character that may not stand there, or not UTF-8.
    #[error("{field} has a forbidden character at byte {position}{}", allowed(field))]
    BadText { field: Cow<'static, str>, position: u64 },
    /// A number out of its range.
    #[error("{field} is {value}; it must be from {min} to {max}")]
    BadValue { field: Cow<'static, str>, value: u64, min: u64, max: u64 },
    /// Not on the curve.
    #[error("the public key is not a point of P-256")]
    BadPublicKey,
    /// `+` or `#` where it may not stand.
    #[error("filter {filter:?} has a misplaced wildcard at byte {position}: '+' must be a whole level, '#' the last")]
    BadFilter { filter: String, position: u64 },
    /// `$...` or `sealcast/...`.
    #[error("filter {filter:?} is not allowed: topics under '$...' and 'sealcast/...' are reserved")]
    ReservedFilter { filter: String },
    /// A name that no device may have.
    #[error("{name:?} is a reserved name: choose another device id")]
    ReservedName { name: String },

    /// The new key did not sign.
    #[error("the new key has not signed that it takes over on this ledger")]
    BadProof,
    /// Taken.
    #[error("the new key is already the key of {originator}: make another")]
    KeyInUse { originator: Number },

    /// Not the originator's next nonce.
    #[error(
        "nonce {got} is not the originator's next, which is {expected}: sign the entry again with nonce {expected}"
    )]
    BadNonce { expected: u64, got: u64 },
    /// Not by the originator's current key, or not for this ledger.
    #[error("the signature is not by the originator's current key for this ledger")]
    BadSignature,
    /// Not for this originator to say.
    #[error("{originator} may not make an entry of kind {kind} here")]
    NotAuthorized { kind: u8, originator: Number },
    /// Never registered.
    #[error("there is no device {device} on the ledger: enrol it first")]
    UnknownDevice { device: Number },
    /// Revoked.
    #[error("device {device} is revoked: enrol it again")]
    NotActive { device: Number },
    /// Revoked already.
    #[error("device {device} is already revoked")]
    AlreadyRevoked { device: Number },
    /// Two names with one number.
    #[error("device number {device} already belongs to {name:?}: choose another device id")]
    NumberTaken { device: Number, name: String },
    /// Not the certificate that the device is registered with.
    #[error("certificate {got} is not the one that the device is registered with: publish keys for {expected}")]
    WrongCertificate { expected: Hash, got: Hash },
    /// Published before.
    #[error("key package {key_package} was already published by {device}: make a new one")]
    KeyPackageTaken { key_package: Hash, device: Number },

    /// Never created.
    #[error("there is no group {group} on the ledger")]
    UnknownGroup { group: u16 },
    /// All numbers are used.
    #[error("the ledger is full: it cannot number another group")]
    TooManyGroups,
    /// Another group's name.
    #[error("the name {name:?} is taken by group {group}")]
    NameTaken { name: String, group: u16 },
    /// Another group's filter, or twice in one group.
    #[error("the filter {filter:?} is taken by group {group}")]
    FilterTaken { filter: String, group: u16 },
    /// Granted before.
    #[error("device {device} is already granted group {group}")]
    AlreadyGranted { group: u16, device: Number },
    /// Not granted, or no longer.
    #[error("device {device} is not granted group {group}")]
    NotGranted { group: u16, device: Number },
    /// Another commit came first, or the group was reset.
    #[error(
        "the commit is for generation {got_generation}, epoch {got_epoch}, but the group is at generation \
         {expected_generation}, epoch {expected_epoch}: apply what came first, then commit again"
    )]
    WrongEpoch { expected_generation: u32, expected_epoch: u64, got_generation: u32, got_epoch: u64 },
    /// No value is in it.
    #[error("the smallest value {min} is above the largest value {max}: swap them")]
    BadRange { min: i128, max: i128 },
    /// Not one of the group's topics.
    #[error("topic {topic:?} does not belong to group {group}: none of its filters matches")]
    TopicOutside { group: u16, topic: String },
    /// Nothing to judge a reading by.
    #[error(
        "topic {topic:?} has no limits in group {group}, and the ledger takes no readings without limits: have the \
         operator set them (`sealcast group limits`)"
    )]
    NoLimits { group: u16, topic: String },
}

/// What a text may have, where that is not what one expects.
fn allowed(field: &str) -> &'static str {
    match field {
        "group" | "device" => {
            ": letters (A to Z, a to z), digits, '_' and '-' are allowed, and '.' behind the first character"
        }
        _ => "",
    }
}

impl Refusal {
    /// Reads a revert of the contract. `None` if it is not one of its errors: out of gas, a malformed body (which
    /// reverts without data), another contract.
    #[must_use]
    pub fn from_revert(data: &[u8]) -> Option<Self> {
        ContractErrors::abi_decode_validate(data).ok().map(Self::from)
    }
}

/// The contract's errors, as in its source.
mod errors {
    alloy_sol_types::sol! {
        #[derive(Debug)]
        interface Contract {
            error P256Unavailable();
            error ChainIdTooLarge(uint256 chainId);
            error ClockWentBack(uint64 last, uint256 blockTime);

            error NotHere(uint64 chainId, address ledger);
            error MayNotReplay(address replayer);

            error UnknownKind(uint8 kind);
            error BadBody(uint8 kind);
            error BadLength(string field, uint256 length, uint256 min, uint256 max);
            error BadText(string field, uint256 position);
            error BadValue(string field, uint256 value, uint256 min, uint256 max);
            error BadPublicKey();
            error BadFilter(string filter, uint256 position);
            error ReservedFilter(string filter);
            error ReservedName(string name);
            error BadProof();
            error KeyInUse(address originator);

            error BadNonce(uint64 expected, uint64 got);
            error BadSignature();
            error NotAuthorized(uint8 kind, address originator);
            error UnknownDevice(address device);
            error NotActive(address device);
            error AlreadyRevoked(address device);
            error NumberTaken(address device, string name);
            error WrongCertificate(bytes32 expected, bytes32 got);
            error KeyPackageTaken(bytes32 keyPackage, address device);

            error UnknownGroup(uint16 group);
            error TooManyGroups();
            error NameTaken(string name, uint16 group);
            error FilterTaken(string filter, uint16 group);
            error AlreadyGranted(uint16 group, address device);
            error NotGranted(uint16 group, address device);
            error WrongEpoch(uint32 expectedGeneration, uint64 expectedEpoch, uint32 gotGeneration, uint64 gotEpoch);
            error BadRange(int128 min, int128 max);
            error TopicOutside(uint16 group, string topic);
            error NoLimits(uint16 group, string topic);
        }
    }
}

fn small(value: U256) -> u64 {
    value.saturating_to()
}

fn number(address: Address) -> Number {
    Number::from(address.into_array())
}

fn hash(word: B256) -> Hash {
    Hash::from(word.0)
}

impl From<ContractErrors> for Refusal {
    fn from(error: ContractErrors) -> Self {
        use ContractErrors as E;
        match error {
            E::P256Unavailable(_) => Self::P256Unavailable,
            E::ChainIdTooLarge(_) => Self::ChainIdTooLarge,
            E::ClockWentBack(e) => Self::ClockWentBack { last_s: e.last, block_time_s: small(e.blockTime) },
            E::NotHere(e) => Self::NotHere { ledger: LedgerId { chain_id: e.chainId, address: e.ledger.into_array() } },
            E::MayNotReplay(e) => Self::MayNotReplay { replayer: number(e.replayer) },
            E::UnknownKind(e) => Self::UnknownKind { kind: e.kind },
            E::BadBody(e) => Self::BadBody { kind: e.kind },
            E::BadLength(e) => {
                Self::BadLength { field: e.field.into(), length: small(e.length), min: small(e.min), max: small(e.max) }
            }
            E::BadText(e) => Self::BadText { field: e.field.into(), position: small(e.position) },
            E::BadValue(e) => {
                Self::BadValue { field: e.field.into(), value: small(e.value), min: small(e.min), max: small(e.max) }
            }
            E::BadPublicKey(_) => Self::BadPublicKey,
            E::BadFilter(e) => Self::BadFilter { filter: e.filter, position: small(e.position) },
            E::ReservedFilter(e) => Self::ReservedFilter { filter: e.filter },
            E::ReservedName(e) => Self::ReservedName { name: e.name },
            E::BadProof(_) => Self::BadProof,
            E::KeyInUse(e) => Self::KeyInUse { originator: number(e.originator) },
            E::BadNonce(e) => Self::BadNonce { expected: e.expected, got: e.got },
            E::BadSignature(_) => Self::BadSignature,
            E::NotAuthorized(e) => Self::NotAuthorized { kind: e.kind, originator: number(e.originator) },
            E::UnknownDevice(e) => Self::UnknownDevice { device: number(e.device) },
            E::NotActive(e) => Self::NotActive { device: number(e.device) },
            E::AlreadyRevoked(e) => Self::AlreadyRevoked { device: number(e.device) },
            E::NumberTaken(e) => Self::NumberTaken { device: number(e.device), name: e.name },
            E::WrongCertificate(e) => Self::WrongCertificate { expected: hash(e.expected), got: hash(e.got) },
            E::KeyPackageTaken(e) => {
                Self::KeyPackageTaken { key_package: hash(e.keyPackage), device: number(e.device) }
            }
            E::UnknownGroup(e) => Self::UnknownGroup { group: e.group },
            E::TooManyGroups(_) => Self::TooManyGroups,
            E::NameTaken(e) => Self::NameTaken { name: e.name, group: e.group },
            E::FilterTaken(e) => Self::FilterTaken { filter: e.filter, group: e.group },
            E::AlreadyGranted(e) => Self::AlreadyGranted { group: e.group, device: number(e.device) },
            E::NotGranted(e) => Self::NotGranted { group: e.group, device: number(e.device) },
            E::WrongEpoch(e) => Self::WrongEpoch {
                expected_generation: e.expectedGeneration,
                expected_epoch: e.expectedEpoch,
                got_generation: e.gotGeneration,
                got_epoch: e.gotEpoch,
            },
            E::BadRange(e) => Self::BadRange { min: e.min, max: e.max },
            E::TopicOutside(e) => Self::TopicOutside { group: e.group, topic: e.topic },
            E::NoLimits(e) => Self::NoLimits { group: e.group, topic: e.topic },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use alloy_primitives::keccak256;
    use alloy_sol_types::SolError as _;

    use super::{errors::Contract, *};

    #[test]
    fn knows_each_error_of_the_contract() {
        let artifact = include_str!("../../../contracts/SealcastLedger.json");
        let artifact: serde_json::Value = serde_json::from_str(artifact).unwrap();
        let text = |value: &serde_json::Value, field: &str| value[field].as_str().unwrap_or_default().to_owned();
        let of_contract: BTreeSet<[u8; 4]> = artifact["abi"]
            .as_array()
            .unwrap()
            .iter()
            // Whoever submits many entries in one transaction gets the other one; it says nothing of an entry.
            .filter(|item| item["type"] == "error" && item["name"] != "OutOfGas")
            .map(|item| {
                let inputs = item["inputs"].as_array().unwrap();
                let types: Vec<_> = inputs.iter().map(|input| text(input, "type")).collect();
                let hash = keccak256(format!("{}({})", text(item, "name"), types.join(",")));
                [hash[0], hash[1], hash[2], hash[3]]
            })
            .collect();
        assert_eq!(of_contract, ContractErrors::SELECTORS.iter().copied().collect());
    }

    #[test]
    fn reads_reverts_and_only_those_of_the_contract() {
        let revert = Contract::BadNonce { expected: 7, got: 5 }.abi_encode();
        let refusal = Refusal::BadNonce { expected: 7, got: 5 };
        assert_eq!(Refusal::from_revert(&revert), Some(refusal.clone()));
        assert!(refusal.to_string().contains("which is 7"), "{refusal}");
        let huge = Contract::BadLength { field: "body".into(), length: U256::MAX, min: U256::ZERO, max: U256::ONE };
        let expected = Refusal::BadLength { field: "body".into(), length: u64::MAX, min: 0, max: 1 };
        assert_eq!(Refusal::from_revert(&huge.abi_encode()), Some(expected));
        for other in [&[][..], &[1, 2, 3], &[8, 195, 121, 160], &revert[..revert.len() - 1]] {
            assert_eq!(Refusal::from_revert(other), None);
        }
    }
}
