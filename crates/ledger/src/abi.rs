//! Bodies as Solidity's `abi.encode` of their fields.
//!
//! Texts are read as `bytes`, which have the same encoding as `string`, so that malformed UTF-8 is refused at the same
//! byte as by the contract. Decoding accepts the canonical encoding alone: it encodes again and compares.

use std::num::{NonZeroU32, NonZeroU128};

use alloy_primitives::{Address, B256, Bytes};
use alloy_sol_types::{
    SolType as _,
    abi::AbiDecoderConfig,
    sol_data::{Address as AddressT, Array, Bool, Bytes as BytesT, FixedBytes, Int, Uint},
};
use sealcast_identity::{DeviceId, PublicKey};

use crate::{
    Anchor, Authenticity, Body, Commit, DeviceRegistered, DeviceRevoked, Epoch, FaultReported, Generation, Granted,
    GroupCreated, GroupName, GroupNumber, GroupReset, Hash, KeyRotated, KeysPublished, Kind, LedgerId, Limits,
    LimitsSet, MAX_BODY_BYTES, MAX_FILTERS, Moved, Number, Policy, Reading, ReadingTopic, Reason, Refusal, Reporters,
    Revoked, SequenceRule, Serial, TopicFilter, UnitText,
    limits::MAX_REPORTERS,
    text::{check_length, check_name},
};

type DeviceRegisteredT = (BytesT, BytesT, FixedBytes<32>, BytesT, Uint<64>);
type DeviceRevokedT = (AddressT, BytesT);
type KeysPublishedT = (FixedBytes<32>, FixedBytes<32>, Bool);
type GroupCreatedT = (BytesT, Array<BytesT>, Uint<32>, Uint<32>, Uint<16>, Uint<8>, Uint<32>);
type GrantedT = (Uint<16>, AddressT);
type RevokedT = (Uint<16>, AddressT, BytesT);
type CommitT = (Uint<16>, Uint<32>, Uint<64>, BytesT);
type ReadingT = (Uint<16>, BytesT, Uint<64>, Uint<64>, Int<128>, Uint<8>);
type AnchorT = (Uint<16>, FixedBytes<32>, Uint<32>);
type GroupResetT = (Uint<16>, BytesT);
type FaultReportedT = (Uint<16>, Uint<32>, Uint<64>, Bool);
type KeyRotatedT = (AddressT, BytesT, BytesT);
type MovedT = (Uint<64>, AddressT);
type LimitsSetT = (Uint<16>, BytesT, Int<128>, Int<128>, Uint<128>, Uint<8>, BytesT, Bool, Bool, Array<AddressT>);

/// What the decoder may allocate: a body of the greatest length, and room for the words of its arrays.
const MAX_DECODED_BYTES: usize = 4 * MAX_BODY_BYTES;

macro_rules! decode_params {
    ($types:ty, $kind:expr, $bytes:expr) => {{
        let config = AbiDecoderConfig::new().validate(true).memory_limit(MAX_DECODED_BYTES);
        match <$types>::abi_decode_params_with_config($bytes, config) {
            Ok(fields) if <$types>::abi_encode_params(&fields) == $bytes => fields,
            _ => return Err(Refusal::BadBody { kind: $kind.number() }),
        }
    }};
}

impl Body {
    /// The bytes that the contract takes: Solidity's `abi.encode` of the fields. Refuses what the contract would refuse
    /// for the fields' sake alone.
    pub fn encode(&self) -> Result<Vec<u8>, Refusal> {
        self.check()?;
        let encoded = encode(self);
        check_length("body", encoded.len(), 0, MAX_BODY_BYTES)?;
        Ok(encoded)
    }

    /// Reads a body as the contract does: anything but the canonical encoding of permitted fields is refused.
    pub fn decode(kind: Kind, bytes: &[u8]) -> Result<Self, Refusal> {
        check_length("body", bytes.len(), 0, MAX_BODY_BYTES)?;
        let body = decode(kind, bytes)?;
        body.check()?;
        Ok(body)
    }
}

fn encode(body: &Body) -> Vec<u8> {
    match body {
        Body::DeviceRegistered(b) => DeviceRegisteredT::abi_encode_params(&(
            text(b.device.as_str()),
            Bytes::copy_from_slice(b.public_key.xy()),
            word(b.certificate),
            Bytes::copy_from_slice(b.serial.as_bytes()),
            b.not_after_s,
        )),
        Body::DeviceRevoked(b) => DeviceRevokedT::abi_encode_params(&(address(b.device), text(b.reason.as_str()))),
        Body::KeysPublished(b) => {
            KeysPublishedT::abi_encode_params(&(word(b.key_package), word(b.certificate), b.rejoin))
        }
        Body::GroupCreated(b) => GroupCreatedT::abi_encode_params(&(
            text(b.name.as_str()),
            b.filters.iter().map(|filter| text(filter.as_str())).collect::<Vec<_>>(),
            b.policy.epoch_max_age_s.map_or(0, NonZeroU32::get),
            b.policy.epoch_max_messages.map_or(0, NonZeroU32::get),
            b.policy.retention,
            b.policy.authenticity as u8,
            b.policy.ledger_max_age_s.map_or(0, NonZeroU32::get),
        )),
        Body::Granted(b) => GrantedT::abi_encode_params(&(b.group.get(), address(b.device))),
        Body::Revoked(b) => RevokedT::abi_encode_params(&(b.group.get(), address(b.device), text(b.reason.as_str()))),
        Body::Commit(b) => {
            CommitT::abi_encode_params(&(b.group.get(), b.generation.0, b.epoch.0, Bytes::copy_from_slice(&b.commit)))
        }
        Body::Reading(b) => ReadingT::abi_encode_params(&(
            b.group.get(),
            text(b.topic.as_str()),
            b.time_ms,
            b.sequence,
            b.value,
            b.decimals,
        )),
        Body::Anchor(b) => AnchorT::abi_encode_params(&(b.group.get(), word(b.root), b.count)),
        Body::GroupReset(b) => GroupResetT::abi_encode_params(&(b.group.get(), text(b.reason.as_str()))),
        Body::FaultReported(b) => {
            FaultReportedT::abi_encode_params(&(b.group.get(), b.generation.0, b.epoch.0, b.kept_out))
        }
        Body::KeyRotated(b) => KeyRotatedT::abi_encode_params(&(
            address(b.whose),
            Bytes::copy_from_slice(b.public_key.xy()),
            Bytes::copy_from_slice(&b.proof),
        )),
        Body::Moved(b) => MovedT::abi_encode_params(&(b.to.chain_id, Address::from(b.to.address))),
        Body::LimitsSet(b) => {
            let (listed, reporters) = match &b.limits.reporters {
                Reporters::Granted => (false, Vec::new()),
                Reporters::Listed(devices) => (true, devices.iter().copied().map(address).collect()),
            };
            LimitsSetT::abi_encode_params(&(
                b.group.get(),
                text(b.topic.as_str()),
                b.limits.min,
                b.limits.max,
                b.limits.max_step.map_or(0, NonZeroU128::get),
                b.limits.decimals,
                text(b.limits.unit.as_str()),
                b.limits.sequence == SequenceRule::Gapless,
                listed,
                reporters,
            ))
        }
    }
}

fn decode(kind: Kind, bytes: &[u8]) -> Result<Body, Refusal> {
    Ok(match kind {
        Kind::DeviceRegistered => {
            let (name, key, certificate, serial, not_after_s) = decode_params!(DeviceRegisteredT, kind, bytes);
            let device = device_id(&name)?;
            let public_key = public_key(&key)?;
            let serial = Serial::new(&serial)?;
            let certificate = Hash::from(certificate.0);
            Body::DeviceRegistered(DeviceRegistered { device, public_key, certificate, serial, not_after_s })
        }
        Kind::DeviceRevoked => {
            let (device, reason) = decode_params!(DeviceRevokedT, kind, bytes);
            Body::DeviceRevoked(DeviceRevoked { device: number(device), reason: Reason::from_bytes(&reason)? })
        }
        Kind::KeysPublished => {
            let (key_package, certificate, rejoin) = decode_params!(KeysPublishedT, kind, bytes);
            Body::KeysPublished(KeysPublished {
                key_package: key_package.0.into(),
                certificate: certificate.0.into(),
                rejoin,
            })
        }
        Kind::GroupCreated => {
            let (name, filters, max_age, max_messages, retention, authenticity, ledger_max_age) =
                decode_params!(GroupCreatedT, kind, bytes);
            let name = GroupName::from_bytes(&name)?;
            check_length("filters", filters.len(), 1, MAX_FILTERS)?;
            let filters = filters.iter().map(|filter| TopicFilter::from_bytes(filter)).collect::<Result<_, _>>()?;
            let policy = Policy {
                epoch_max_age_s: NonZeroU32::new(max_age),
                epoch_max_messages: NonZeroU32::new(max_messages),
                retention,
                authenticity: match authenticity {
                    0 => Authenticity::Signature,
                    1 => Authenticity::Group,
                    value => {
                        let (field, value) = ("authenticity".into(), value.into());
                        return Err(Refusal::BadValue { field, value, min: 0, max: 1 });
                    }
                },
                ledger_max_age_s: NonZeroU32::new(ledger_max_age),
            };
            Body::GroupCreated(GroupCreated { name, filters, policy })
        }
        Kind::Granted => {
            let (to, device) = decode_params!(GrantedT, kind, bytes);
            Body::Granted(Granted { group: group(to)?, device: number(device) })
        }
        Kind::Revoked => {
            let (from, device, reason) = decode_params!(RevokedT, kind, bytes);
            let reason = Reason::from_bytes(&reason)?;
            Body::Revoked(Revoked { group: group(from)?, device: number(device), reason })
        }
        Kind::Commit => {
            let (of, generation, epoch, commit) = decode_params!(CommitT, kind, bytes);
            check_length("commit", commit.len(), 1, MAX_BODY_BYTES)?;
            Body::Commit(Commit {
                group: group(of)?,
                generation: Generation(generation),
                epoch: Epoch(epoch),
                commit: commit.to_vec(),
            })
        }
        Kind::Reading => {
            let (of, topic, time_ms, sequence, value, decimals) = decode_params!(ReadingT, kind, bytes);
            let topic = ReadingTopic::from_bytes(&topic)?;
            Body::Reading(Reading { group: group(of)?, topic, time_ms, sequence, value, decimals })
        }
        Kind::Anchor => {
            let (of, root, count) = decode_params!(AnchorT, kind, bytes);
            Body::Anchor(Anchor { group: group(of)?, root: root.0.into(), count })
        }
        Kind::GroupReset => {
            let (of, reason) = decode_params!(GroupResetT, kind, bytes);
            let reason = Reason::from_bytes(&reason)?;
            Body::GroupReset(GroupReset { group: group(of)?, reason })
        }
        Kind::FaultReported => {
            let (of, generation, epoch, kept_out) = decode_params!(FaultReportedT, kind, bytes);
            let (generation, epoch) = (Generation(generation), Epoch(epoch));
            Body::FaultReported(FaultReported { group: group(of)?, generation, epoch, kept_out })
        }
        Kind::KeyRotated => {
            let (whose, key, proof) = decode_params!(KeyRotatedT, kind, bytes);
            let public_key = public_key(&key)?;
            check_length("proof", proof.len(), 64, 64)?;
            let proof = proof.as_ref().try_into().map_err(|_| Refusal::BadProof)?;
            Body::KeyRotated(KeyRotated { whose: number(whose), public_key, proof })
        }
        Kind::Moved => {
            let (chain_id, ledger) = decode_params!(MovedT, kind, bytes);
            Body::Moved(Moved { to: LedgerId { chain_id, address: ledger.into_array() } })
        }
        Kind::LimitsSet => {
            let (of, topic, min, max, max_step, decimals, unit, gapless, listed, reporters) =
                decode_params!(LimitsSetT, kind, bytes);
            let topic = ReadingTopic::from_bytes(&topic)?;
            let mut limits = Limits {
                min,
                max,
                max_step: NonZeroU128::new(max_step),
                decimals,
                unit: UnitText::default(),
                sequence: if gapless { SequenceRule::Gapless } else { SequenceRule::Increasing },
                reporters: Reporters::Granted,
            };
            // In the contract's order.
            limits.check()?;
            limits.unit = UnitText::from_bytes(&unit)?;
            check_length("reporters", reporters.len(), 0, if listed { MAX_REPORTERS } else { 0 })?;
            if listed {
                limits.reporters = Reporters::Listed(reporters.into_iter().map(number).collect());
            }
            Body::LimitsSet(LimitsSet { group: group(of)?, topic, limits })
        }
    })
}

fn text(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn word(hash: Hash) -> B256 {
    B256::from(*hash.as_bytes())
}

fn address(number: Number) -> Address {
    Address::from(*number.as_bytes())
}

fn number(address: Address) -> Number {
    Number::from(address.into_array())
}

/// Group 0 is never created.
fn group(number: u16) -> Result<GroupNumber, Refusal> {
    GroupNumber::new(number).ok_or(Refusal::UnknownGroup { group: number })
}

fn device_id(name: &[u8]) -> Result<DeviceId, Refusal> {
    let name = check_name("device", name)?;
    // Same alphabet and length, so that a reserved name is all that can be left.
    name.parse().map_err(|_| Refusal::ReservedName { name: name.to_owned() })
}

fn public_key(xy: &[u8]) -> Result<PublicKey, Refusal> {
    check_length("publicKey", xy.len(), 64, 64)?;
    let xy = xy.try_into().map_err(|_| Refusal::BadPublicKey)?;
    PublicKey::from_xy(xy).map_err(|_| Refusal::BadPublicKey)
}
