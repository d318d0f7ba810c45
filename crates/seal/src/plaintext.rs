//! The inside of a frame: `flags u8 | time_ms u48 | [props: length, bytes] | payload | [signature 64]`, and what the
//! signature covers.

use sealcast_identity::Signature;

use crate::{
    content::{Content, Purpose, QosClass},
    epoch::EpochId,
    header::{GroupNumber, KeyId, MAX_SFRAME_HEADER_BYTES, PREAMBLE_BYTES, PREFIX_BYTES},
};

/// Bytes of a signature.
pub(crate) const SIGNATURE_BYTES: usize = 64;
/// Largest time that fits, Unix ms: the year 10889.
pub(crate) const MAX_TIME_MS: u64 = (1 << 48) - 1;
/// Largest MQTT variable byte integer (MQTT 5 §1.5.5).
pub(crate) const MAX_VARINT: usize = 268_435_455;

/// MQTT 5 properties stand before the payload.
const PROPS: u8 = 0x01;
/// No signature; only in groups whose policy says so.
const UNSIGNED: u8 = 0x02;
/// Sealed when its publisher connected, published by the broker when it vanished.
const WILL: u8 = 0x04;
/// A retained message, sealed again by its publisher after an epoch turned; its time is that of the first sealing.
const RESEAL: u8 = 0x08;
/// Published with RETAIN, so that a broker cannot hand on a live message as a retained one.
const RETAIN: u8 = 0x10;
/// Published with QoS 1 or 2: which of the sender's two windows it is judged in, whatever QoS a broker delivers it with.
const ACKNOWLEDGED: u8 = 0x20;
// 0x40 is kept for batch signatures (Merkle path in place of a signature), 0x80 for a second flags byte. A reader that
// does not know a flag refuses the frame.
const KNOWN: u8 = PROPS | UNSIGNED | WILL | RESEAL | RETAIN | ACKNOWLEDGED;

/// The first byte of a plaintext.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flags(pub(crate) u8);

impl Flags {
    pub(crate) fn of(content: &Content<'_>, signed: bool) -> Self {
        let bit = |set: bool, bit: u8| if set { bit } else { 0 };
        let purpose = match content.purpose {
            Purpose::Message => 0,
            Purpose::Will => WILL,
            Purpose::Reseal { .. } => RESEAL | RETAIN,
        };
        Self(
            purpose
                | bit(!content.props.is_empty(), PROPS)
                | bit(!signed, UNSIGNED)
                | bit(content.retain, RETAIN)
                | bit(content.class == QosClass::Acknowledged, ACKNOWLEDGED),
        )
    }

    pub(crate) fn unknown(self) -> bool {
        self.0 & !KNOWN != 0
    }

    pub(crate) fn has_props(self) -> bool {
        self.0 & PROPS != 0
    }

    pub(crate) fn is_unsigned(self) -> bool {
        self.0 & UNSIGNED != 0
    }

    pub(crate) fn is_will(self) -> bool {
        self.0 & WILL != 0
    }

    pub(crate) fn is_reseal(self) -> bool {
        self.0 & RESEAL != 0
    }

    pub(crate) fn is_retain(self) -> bool {
        self.0 & RETAIN != 0
    }

    pub(crate) fn class(self) -> QosClass {
        if self.0 & ACKNOWLEDGED != 0 { QosClass::Acknowledged } else { QosClass::AtMostOnce }
    }
}

/// A plaintext taken apart.
pub(crate) struct Plaintext<'a> {
    pub(crate) flags: Flags,
    pub(crate) time_ms: u64,
    pub(crate) props: &'a [u8],
    pub(crate) payload: &'a [u8],
    pub(crate) signature: Option<&'a Signature>,
}

/// Why a plaintext cannot be read, though it was decrypted.
pub(crate) enum PlaintextError {
    Flags(u8),
    Malformed,
}

impl<'a> Plaintext<'a> {
    #[inline]
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, PlaintextError> {
        let malformed = PlaintextError::Malformed;
        let Some((&[flags, a, b, c, d, e, f], rest)) = bytes.split_first_chunk::<PREAMBLE_BYTES>() else {
            return Err(malformed);
        };
        let (flags, time_ms) = (Flags(flags), u64::from_be_bytes([0, 0, a, b, c, d, e, f]));
        if flags.unknown() {
            return Err(PlaintextError::Flags(flags.0));
        }
        if flags.is_reseal() && (flags.is_will() || !flags.is_retain()) {
            return Err(malformed);
        }
        let (rest, signature) = if flags.is_unsigned() {
            (rest, None)
        } else {
            let (rest, signature) = rest.split_last_chunk::<SIGNATURE_BYTES>().ok_or(malformed)?;
            (rest, Some(signature))
        };
        let (props, payload) = if flags.has_props() {
            let (len, rest) = read_varint(rest).ok_or(PlaintextError::Malformed)?;
            // Present and empty has no meaning, so one content has one form.
            if len == 0 {
                return Err(PlaintextError::Malformed);
            }
            rest.split_at_checked(len).ok_or(PlaintextError::Malformed)?
        } else {
            rest.split_at(0)
        };
        Ok(Self { flags, time_ms, props, payload, signature })
    }
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

/// Everything that a signature binds besides the content.
pub(crate) struct Context<'a> {
    pub(crate) group: GroupNumber,
    pub(crate) epoch: EpochId,
    pub(crate) key_id: KeyId,
    pub(crate) counter: u32,
    pub(crate) topic: &'a str,
}

impl Context<'_> {
    /// Writes what is signed into `out`, emptied first. Every part has a fixed length or its length before it; the
    /// payload is the rest.
    pub(crate) fn transcript(&self, flags: Flags, time_ms: u64, props: &[u8], payload: &[u8], out: &mut Vec<u8>) {
        out.clear();
        out.reserve(64 + self.topic.len() + props.len() + payload.len());
        out.extend_from_slice(b"sealcast-frame-v1");
        out.extend_from_slice(&self.group.0.to_be_bytes());
        out.extend_from_slice(&self.epoch.generation.to_be_bytes());
        out.extend_from_slice(&self.epoch.epoch.to_be_bytes());
        out.extend_from_slice(&self.key_id.bits().to_be_bytes());
        out.extend_from_slice(&self.counter.to_be_bytes());
        out.extend_from_slice(&time_ms.to_be_bytes());
        out.push(flags.0);
        for part in [self.topic.as_bytes(), props] {
            out.extend_from_slice(&(part.len() as u64).to_be_bytes());
            out.extend_from_slice(part);
        }
        out.extend_from_slice(payload);
    }
}

/// Puts the additional authenticated data into `out`, emptied first: the SFrame header, then as its metadata (RFC 9605
/// §4.4.3) the envelope's prefix and the topic. The header is the first `header_bytes` of `frame`.
#[inline]
pub(crate) fn write_aad(frame: &[u8], header_bytes: usize, topic: &str, out: &mut Vec<u8>) {
    out.clear();
    let Some((prefix, rest)) = frame.split_first_chunk::<PREFIX_BYTES>() else { return };
    let sframe_bytes = header_bytes.saturating_sub(PREFIX_BYTES);
    match rest.first_chunk::<MAX_SFRAME_HEADER_BYTES>() {
        // As long as the longest one, then cut back: a copy of fixed length is no call.
        Some(longest) => {
            out.extend_from_slice(longest);
            out.truncate(sframe_bytes);
        }
        None => out.extend_from_slice(rest.get(..sframe_bytes).unwrap_or(rest)),
    }
    out.extend_from_slice(prefix);
    out.extend_from_slice(topic.as_bytes());
}
