//! The inside of a frame: `flags u8 | ledger report (3) | [props: length, bytes] | payload | [proof]`, where the proof is a
//! signature, or a signature of a batch and the way to it.

use sealcast_identity::Signature;

use crate::{
    content::{Content, Purpose, QosClass},
    header::{GroupNumber, MARKER, MAX_SFRAME_HEADER_BYTES, PREAMBLE_BYTES, PREFIX_BYTES},
    merkle::{self, Node, Way},
    report::RawReport,
};

/// Bytes of a signature.
pub(crate) const SIGNATURE_BYTES: usize = 64;
/// Most messages that one signature covers.
pub const MAX_BATCH: usize = 128;
/// Bytes of the longest way to a batch's signature: its hashes, the message's place and the batch's last place.
pub(crate) const MAX_PATH_BYTES: usize = 32 * MAX_BATCH.ilog2() as usize + 2;
/// Largest MQTT variable byte integer (MQTT 5 §1.5.5).
pub(crate) const MAX_VARINT: usize = 268_435_455;

/// MQTT 5 properties stand before the payload.
const PROPS: u8 = 0x01;
/// Published with RETAIN, so that a broker cannot hand on a live message as a retained one.
const RETAIN: u8 = 0x02;
/// Published with QoS 1 or 2: which of the sender's two windows it is judged in, whatever QoS a broker delivers it with.
const ACKNOWLEDGED: u8 = 0x04;
/// What the message is for, two bits.
const PURPOSE: u8 = 0x18;
/// Sealed when its publisher connected, published by the broker when it vanished.
const WILL: u8 = 0x08;
/// A retained message, sealed again by its publisher after an epoch turned; its time is that of the first sealing.
const RESEAL: u8 = 0x10;
/// Its sender deletes the topic's retained message.
const TOMBSTONE: u8 = 0x18;
/// How it is known from whom the message is, two bits.
const PROOF: u8 = 0x60;
/// A signature of this message alone.
const ALONE: u8 = 0x00;
/// A signature of a batch, and the way to it.
const BATCH: u8 = 0x20;
/// None; only in groups whose policy says so.
const UNSIGNED: u8 = 0x40;
// A reader that does not know a flag refuses the frame.
const UNKNOWN: u8 = 0x80;

/// The first byte of a plaintext.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flags(pub(crate) u8);

/// How a frame proves its sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProofKind {
    Unsigned,
    Alone,
    Batch,
}

impl Flags {
    pub(crate) fn of(content: &Content<'_>) -> Self {
        let bit = |set: bool, bit: u8| if set { bit } else { 0 };
        let purpose = match content.purpose {
            Purpose::Message => 0,
            Purpose::Will => WILL,
            Purpose::Reseal { .. } => RESEAL | RETAIN,
            Purpose::Tombstone => TOMBSTONE,
        };
        Self(
            purpose
                | bit(!content.props.is_empty(), PROPS)
                | bit(content.retain, RETAIN)
                | bit(content.class == QosClass::Acknowledged, ACKNOWLEDGED),
        )
    }

    pub(crate) fn with(self, proof: ProofKind) -> Self {
        let proof = match proof {
            ProofKind::Unsigned => UNSIGNED,
            ProofKind::Alone => ALONE,
            ProofKind::Batch => BATCH,
        };
        Self(self.0 & !PROOF | proof)
    }

    fn proof(self) -> Option<ProofKind> {
        match self.0 & PROOF {
            ALONE => Some(ProofKind::Alone),
            BATCH => Some(ProofKind::Batch),
            UNSIGNED => Some(ProofKind::Unsigned),
            _ => None,
        }
    }

    pub(crate) fn has_props(self) -> bool {
        self.0 & PROPS != 0
    }

    pub(crate) fn is_unsigned(self) -> bool {
        self.0 & PROOF == UNSIGNED
    }

    pub(crate) fn is_will(self) -> bool {
        self.0 & PURPOSE == WILL
    }

    pub(crate) fn is_reseal(self) -> bool {
        self.0 & PURPOSE == RESEAL
    }

    pub(crate) fn is_tombstone(self) -> bool {
        self.0 & PURPOSE == TOMBSTONE
    }

    pub(crate) fn is_retain(self) -> bool {
        self.0 & RETAIN != 0
    }

    pub(crate) fn class(self) -> QosClass {
        if self.0 & ACKNOWLEDGED != 0 { QosClass::Acknowledged } else { QosClass::AtMostOnce }
    }
}

/// How a plaintext proves its sender.
#[derive(Clone, Copy)]
pub(crate) enum Proof<'a> {
    Unsigned,
    Alone(&'a Signature),
    Batch(BatchProof<'a>),
}

/// A message's way to the signature of its batch.
#[derive(Clone, Copy)]
pub(crate) struct BatchProof<'a> {
    pub(crate) path: &'a [Node],
    /// The message's place in the batch.
    pub(crate) index: u8,
    /// How many messages the batch has.
    pub(crate) size: u8,
    pub(crate) signature: &'a Signature,
}

impl BatchProof<'_> {
    /// The way from the message's hash to the root.
    pub(crate) fn way(&self, leaf: Node) -> Way {
        Way::new(leaf, self.index.into(), self.size.into(), self.path)
    }
}

/// A plaintext taken apart.
pub(crate) struct Plaintext<'a> {
    pub(crate) flags: Flags,
    pub(crate) report: RawReport,
    pub(crate) props: &'a [u8],
    pub(crate) payload: &'a [u8],
    pub(crate) proof: Proof<'a>,
    /// All but the proof.
    pub(crate) proven: &'a [u8],
}

/// Why a plaintext cannot be read, though it was decrypted.
pub(crate) enum PlaintextError {
    Flags(u8),
    Malformed,
}

impl<'a> Plaintext<'a> {
    #[inline]
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, PlaintextError> {
        let malformed = || PlaintextError::Malformed;
        let Some((&[flags, report @ ..], _)) = bytes.split_first_chunk::<PREAMBLE_BYTES>() else {
            return Err(malformed());
        };
        let (flags, report) = (Flags(flags), RawReport(report));
        let Some(proof) = flags.proof().filter(|_| flags.0 & UNKNOWN == 0) else {
            return Err(PlaintextError::Flags(flags.0));
        };
        if flags.is_reseal() && !flags.is_retain() || flags.is_tombstone() && flags.is_retain() || report.is_malformed()
        {
            return Err(malformed());
        }
        let (proven, proof) = split_proof(bytes, proof).ok_or_else(malformed)?;
        let rest = proven.get(PREAMBLE_BYTES..).ok_or_else(malformed)?;
        let (props, payload) = if flags.has_props() {
            let (len, rest) = read_varint(rest).ok_or_else(malformed)?;
            // Present and empty has no meaning, so one content has one form.
            if len == 0 {
                return Err(malformed());
            }
            rest.split_at_checked(len).ok_or_else(malformed)?
        } else {
            rest.split_at(0)
        };
        if flags.is_tombstone() && !payload.is_empty() {
            return Err(malformed());
        }
        Ok(Self { flags, report, props, payload, proof, proven })
    }
}

/// Takes the proof off the end.
#[inline]
fn split_proof(bytes: &[u8], kind: ProofKind) -> Option<(&[u8], Proof<'_>)> {
    if kind == ProofKind::Unsigned {
        return Some((bytes, Proof::Unsigned));
    }
    let (rest, signature) = bytes.split_last_chunk::<SIGNATURE_BYTES>()?;
    if kind == ProofKind::Alone {
        return Some((rest, Proof::Alone(signature)));
    }
    let (rest, &[index, last]) = rest.split_last_chunk()?;
    if last == 0 || usize::from(last) >= MAX_BATCH || index > last {
        return None;
    }
    let size = last + 1;
    let path_bytes = 32 * merkle::path_len(index.into(), size.into());
    let (proven, path) = rest.split_at_checked(rest.len().checked_sub(path_bytes)?)?;
    let (path, _) = path.as_chunks();
    Some((proven, Proof::Batch(BatchProof { path, index, size, signature })))
}

/// Appends the way to a batch's signature, which follows it.
pub(crate) fn write_path<'n>(path: impl Iterator<Item = &'n Node>, index: u8, size: u8, out: &mut Vec<u8>) {
    path.for_each(|node| out.extend_from_slice(node));
    out.extend_from_slice(&[index, size.saturating_sub(1)]);
}

/// Appends `value` (at most [`MAX_VARINT`]) as MQTT's variable byte integer (MQTT 5 §1.5.5).
pub(crate) fn write_varint(mut value: usize, out: &mut Vec<u8>) {
    while value > 0x7F {
        out.push((value & 0x7F) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn read_varint(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0;
    for (i, byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7F) << (7 * i);
        if byte & 0x80 == 0 {
            // A trailing zero byte would be a second form of the same number.
            return (i == 0 || *byte != 0).then(|| (value, &bytes[i + 1..]));
        }
    }
    None
}

/// Puts the additional authenticated data into `out`, emptied first: the SFrame header, then as its metadata (RFC 9605
/// §4.4.3) the marker, the group's number and the topic. The header is the first `header_bytes` of `frame`.
#[inline]
pub(crate) fn write_aad(frame: &[u8], header_bytes: usize, group: GroupNumber, topic: &str, out: &mut Vec<u8>) {
    out.clear();
    let rest = frame.get(PREFIX_BYTES..).unwrap_or_default();
    let sframe_bytes = header_bytes.saturating_sub(PREFIX_BYTES);
    match rest.first_chunk::<MAX_SFRAME_HEADER_BYTES>() {
        // As long as the longest one, then cut back: a copy of fixed length is no call.
        Some(longest) => {
            out.extend_from_slice(longest);
            out.truncate(sframe_bytes);
        }
        None => out.extend_from_slice(rest.get(..sframe_bytes).unwrap_or(rest)),
    }
    let [high, low] = group.0.to_be_bytes();
    out.extend_from_slice(&[MARKER, high, low]);
    out.extend_from_slice(topic.as_bytes());
}
