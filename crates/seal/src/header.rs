//! The outside of a frame: what anyone can read of it without a key.
//!
//! `0xFE | version 0x01 | group u16 | SFrame header`. The marker begins neither a UTF-8 text nor a CBOR item, so a sealed
//! payload is told from a clear one by its first byte. Relays, diagnostics and the console read no more than this.

use std::fmt;

/// First byte of every sealed payload.
pub const MARKER: u8 = 0xFE;
/// Version of the envelope; the second byte of every sealed payload.
pub const VERSION: u8 = 0x01;
/// Marker, version and group.
pub(crate) const PREFIX_BYTES: usize = 4;
/// Longest SFrame header that this envelope allows: config byte, KID of 5 bytes, CTR of 3.
pub(crate) const MAX_SFRAME_HEADER_BYTES: usize = 1 + 5 + 3;
/// Longest header of all.
pub(crate) const MAX_HEADER_BYTES: usize = PREFIX_BYTES + MAX_SFRAME_HEADER_BYTES;
/// AES-GCM tag.
pub(crate) const TAG_BYTES: usize = 16;
/// Flags and time, which every plaintext begins with.
pub(crate) const PREAMBLE_BYTES: usize = 1 + 6;

/// A group's number, as the ledger's contract assigned it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupNumber(pub u16);

impl fmt::Display for GroupNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Debug for GroupNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "group {}", self.0)
    }
}

/// A member's place in the group's MLS tree: 14 bits, so that a group has at most 16,384 leaves.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeafIndex(u16);

impl LeafIndex {
    /// Largest index.
    pub const MAX: u16 = (1 << 14) - 1;
    pub(crate) const FIRST: Self = Self(0);

    /// `None` above [`Self::MAX`].
    pub fn new(index: u32) -> Option<Self> {
        u16::try_from(index).ok().filter(|index| *index <= Self::MAX).map(Self)
    }

    /// The index.
    pub fn number(self) -> u16 {
        self.0
    }
}

impl fmt::Display for LeafIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Debug for LeafIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "leaf {}", self.0)
    }
}

/// The SFrame key id (RFC 9605 §4.3), 40 bits: `boot (14) | leaf (14) | epoch mod 4096 (12)`.
///
/// One key per epoch, sender and boot, so that a sender that restarts begins its counter again under another key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(u64);

impl KeyId {
    /// Largest boot number.
    pub const MAX_BOOT: u16 = (1 << 14) - 1;
    const MAX: u64 = (1 << 40) - 1;

    pub(crate) fn new(boot: u16, leaf: LeafIndex, epoch: u64) -> Self {
        Self(u64::from(boot & Self::MAX_BOOT) << 26 | u64::from(leaf.0) << 12 | epoch & 0xFFF)
    }

    fn from_bits(bits: u64) -> Option<Self> {
        (bits <= Self::MAX).then_some(Self(bits))
    }

    /// All 40 bits.
    pub fn bits(self) -> u64 {
        self.0
    }

    /// How many times the sender has (re)started within this epoch.
    pub fn boot(self) -> u16 {
        (self.0 >> 26) as u16
    }

    /// The sender.
    pub fn leaf(self) -> LeafIndex {
        LeafIndex((self.0 >> 12) as u16 & LeafIndex::MAX)
    }

    /// The epoch's low 12 bits.
    pub fn epoch_tag(self) -> u16 {
        self.0 as u16 & 0xFFF
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "leaf {} boot {} epoch tag {}", self.leaf(), self.boot(), self.epoch_tag())
    }
}

/// Why bytes are no frame's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The first byte is not [`MARKER`].
    #[error("not sealed: the payload does not begin with 0xFE; its publisher has no agent in front of it")]
    NotSealed,
    /// An envelope of a later version.
    #[error("sealed in envelope version {0}, this agent reads version 1: update the agent")]
    Version(u8),
    /// Cut off, or a key id or counter longer than the envelope allows, or not in its shortest form.
    #[error("sealed, but its header is damaged or cut off ({0} bytes in all)")]
    Malformed(usize),
}

/// What a frame says of itself without a key. Not authenticated until the frame is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The group it was sealed for.
    pub group: GroupNumber,
    /// Key id: sender's leaf, boot and epoch tag.
    pub key_id: KeyId,
    /// Message number under that key, 24 bits.
    pub counter: u32,
    len: usize,
}

impl Header {
    /// Largest counter.
    pub const MAX_COUNTER: u32 = (1 << 24) - 1;

    /// Reads the header of `frame`, a whole MQTT payload. Never panics.
    #[inline]
    pub fn parse(frame: &[u8]) -> Result<Self, HeaderError> {
        let malformed = HeaderError::Malformed(frame.len());
        let (group, rest) = match frame {
            [MARKER, VERSION, high, low, rest @ ..] => (GroupNumber(u16::from_be_bytes([*high, *low])), rest),
            [MARKER, VERSION, ..] | [MARKER] => return Err(malformed),
            [MARKER, version, ..] => return Err(HeaderError::Version(*version)),
            _ => return Err(HeaderError::NotSealed),
        };
        let (config, fields) = rest.split_first().ok_or(malformed)?;
        let (key_id, fields) = field(config >> 4, fields).ok_or(malformed)?;
        let (counter, fields) = field(config & 0xF, fields).ok_or(malformed)?;
        let key_id = KeyId::from_bits(key_id).ok_or(malformed)?;
        let counter = u32::try_from(counter).ok().filter(|c| *c <= Self::MAX_COUNTER).ok_or(malformed)?;
        if fields.len() < PREAMBLE_BYTES + TAG_BYTES {
            return Err(malformed);
        }
        Ok(Self { group, key_id, counter, len: frame.len() - fields.len() })
    }

    /// Bytes of the header, marker included; ciphertext and tag follow.
    pub fn header_bytes(&self) -> usize {
        self.len
    }

    /// Appends the header that a sealer writes.
    pub(crate) fn write(group: GroupNumber, key_id: KeyId, counter: u32, out: &mut Vec<u8>) {
        let (key_config, key_bytes) = form(key_id.bits());
        let (counter_config, counter_bytes) = form(counter.into());
        let [high, low] = group.0.to_be_bytes();
        out.extend_from_slice(&[MARKER, VERSION, high, low, key_config << 4 | counter_config]);
        for (value, bytes) in [(key_id.bits(), key_bytes), (counter.into(), counter_bytes)] {
            // All eight from the first that counts, then cut back: a copy of fixed length is no call.
            let end = out.len() + bytes;
            out.extend_from_slice(&value.unbounded_shl(64 - 8 * bytes as u32).to_be_bytes());
            out.truncate(end);
        }
    }
}

/// How the SFrame header carries `value` (RFC 9605 §4.3): four bits of the config byte, and how many bytes follow.
fn form(value: u64) -> (u8, usize) {
    if value < 8 {
        return (value as u8, 0);
    }
    let bytes = 8 - value.leading_zeros() as usize / 8;
    (0x8 | (bytes - 1) as u8, bytes)
}

/// One of the SFrame header's two fields (RFC 9605 §4.3): its four bits of the config byte, and its bytes if it is
/// extended. `None` when cut off, or longer than it need be: one value has one form, so no bit of a header is free.
///
/// The sframe crate reads and writes headers too, but allocates for each field that it reads and takes forms that are
/// longer than they need be. In the tests it is the oracle.
fn field(config: u8, bytes: &[u8]) -> Option<(u64, &[u8])> {
    let bits = config & 0x7;
    if config & 0x8 == 0 {
        return Some((bits.into(), bytes));
    }
    // Eight bytes at once, of which the first ones count: what follows a header is longer than that.
    let word = u64::from_be_bytes(*bytes.first_chunk()?);
    let number = word >> (56 - 8 * u32::from(bits));
    let rest = bytes.get(usize::from(bits) + 1..)?;
    let shortest = word >> 56 != 0 && number > 7;
    shortest.then_some((number, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sframe::header::SframeHeader;

    use super::*;

    fn frame(key_id: KeyId, counter: u32) -> Vec<u8> {
        let mut out = Vec::new();
        Header::write(GroupNumber(0x0102), key_id, counter, &mut out);
        out.extend([0; PREAMBLE_BYTES + TAG_BYTES]);
        out
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(boot in 0..=KeyId::MAX_BOOT, leaf in 0..=u32::from(LeafIndex::MAX), epoch: u64,
                                   counter in 0..=Header::MAX_COUNTER) {
            let key_id = KeyId::new(boot, LeafIndex::new(leaf).expect("14 bits"), epoch);
            let bytes = frame(key_id, counter);
            let read = Header::parse(&bytes).expect("read");
            prop_assert_eq!((read.group, read.key_id, read.counter), (GroupNumber(0x0102), key_id, counter));
            prop_assert_eq!((key_id.boot(), u32::from(key_id.leaf().number())), (boot, leaf));
            prop_assert_eq!(u64::from(key_id.epoch_tag()), epoch % 4096);
            prop_assert!(read.header_bytes() <= MAX_HEADER_BYTES);
            let oracle = SframeHeader::deserialize(&bytes[PREFIX_BYTES..]).expect("sframe reads it");
            prop_assert_eq!((oracle.key_id(), oracle.counter()), (key_id.bits(), u64::from(counter)));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64), envelope: bool) {
            let mut bytes = bytes;
            if envelope && bytes.len() > 2 {
                bytes[..2].copy_from_slice(&[MARKER, VERSION]);
            }
            if let Ok(read) = Header::parse(&bytes) {
                let mut again = Vec::new();
                Header::write(read.group, read.key_id, read.counter, &mut again);
                prop_assert_eq!(&again[..], &bytes[..read.header_bytes()], "one header, one form");
            }
        }
    }

    /// RFC 9605, Appendix C.1: those within 24 bits of counter, on either side of each change of form.
    #[test]
    fn agrees_with_the_rfcs_test_vectors() {
        for (key_id, counter, encoded) in [
            (0, 0, &[0x00][..]),
            (0, 1, &[0x01]),
            (0, 0xFF, &[0x08, 0xFF]),
            (0, 0x100, &[0x09, 0x01, 0x00]),
            (0xFF, 0xFFFF, &[0x89, 0xFF, 0xFF, 0xFF]),
            (0x100, 0x10000, &[0x9A, 0x01, 0x00, 0x01, 0x00, 0x00]),
            (0xFF_FFFF_FFFF, 0xFF_FFFF, &[0xCA, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]),
        ] {
            let key_id = KeyId::from_bits(key_id).expect("40 bits");
            let bytes = frame(key_id, counter);
            assert_eq!(bytes[PREFIX_BYTES..bytes.len() - PREAMBLE_BYTES - TAG_BYTES], *encoded);
            let read = Header::parse(&bytes).expect("read");
            assert_eq!((read.key_id, read.counter), (key_id, counter));
        }
    }

    #[test]
    fn says_what_is_wrong() {
        assert_eq!(Header::parse(b"21.5"), Err(HeaderError::NotSealed));
        assert_eq!(Header::parse(b""), Err(HeaderError::NotSealed));
        assert_eq!(Header::parse(&[MARKER, 2, 0]), Err(HeaderError::Version(2)));
        assert_eq!(Header::parse(&[MARKER]), Err(HeaderError::Malformed(1)));
        let leaf = LeafIndex::new(7).expect("small");
        let whole = frame(KeyId::new(1, leaf, 1), 300);
        for len in 2..whole.len() {
            assert_eq!(Header::parse(&whole[..len]), Err(HeaderError::Malformed(len)));
        }
    }
}
