//! The outside of a frame: what anyone can read of it without a key.
//!
//! `0xFD | SFrame header`. The marker begins neither a UTF-8 text nor a CBOR item, so a sealed payload is told from a clear
//! one by its first byte, and so is one of another version of the envelope. docs/envelope.md describes every byte.

use std::{fmt, ops::RangeInclusive};

/// First byte of every sealed payload of this version.
pub const MARKER: u8 = 0xFD;
/// First bytes of the envelope's versions, past and to come. `0xFE` was the first one's.
const MARKERS: RangeInclusive<u8> = 0xFC..=0xFE;
/// The marker.
pub(crate) const PREFIX_BYTES: usize = 1;
/// Longest SFrame header that this envelope allows: config byte, KID of 6 bytes, CTR of 8.
pub(crate) const MAX_SFRAME_HEADER_BYTES: usize = 1 + 6 + 8;
/// Longest header of all.
pub(crate) const MAX_HEADER_BYTES: usize = PREFIX_BYTES + MAX_SFRAME_HEADER_BYTES;
/// AES-GCM tag.
pub(crate) const TAG_BYTES: usize = 16;
/// Flags and ledger report, which every plaintext begins with.
pub(crate) const PREAMBLE_BYTES: usize = 1 + 3;
/// A frame carries its time modulo this many milliseconds, which is 34.8 years.
const TIME_SPAN_MS: u64 = 1 << 40;

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

/// The 24 random bits that a sealer draws when it begins to seal under an epoch. They tell its key from the keys of all
/// other sealers that this device has had, or has, in the epoch, those of a copy of its folder included.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Start(u32);

impl Start {
    /// Largest start.
    pub const MAX: u32 = (1 << 24) - 1;
    pub(crate) const LARGEST: Self = Self(Self::MAX);

    /// `None` above [`Self::MAX`].
    pub fn new(bits: u32) -> Option<Self> {
        (bits <= Self::MAX).then_some(Self(bits))
    }

    /// The 24 bits.
    pub fn bits(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:06x}", self.0)
    }
}

impl fmt::Debug for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "start {self}")
    }
}

/// The SFrame key id (RFC 9605 §4.3), 48 bits: `start (24) | leaf (14) | epoch mod 1024 (10)`.
///
/// One key per epoch, sender and start, so that a sender that restarts begins its counter again under another key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(u64);

impl KeyId {
    const MAX: u64 = (1 << 48) - 1;
    const EPOCH_TAGS: u64 = 1 << 10;

    pub(crate) fn new(start: Start, leaf: LeafIndex, epoch: u64) -> Self {
        Self(u64::from(start.0) << 24 | u64::from(leaf.0) << 10 | u64::from(Self::tag_of(epoch)))
    }

    fn from_bits(bits: u64) -> Option<Self> {
        (bits <= Self::MAX).then_some(Self(bits))
    }

    /// All 48 bits.
    pub fn bits(self) -> u64 {
        self.0
    }

    /// Which of the sender's sealers.
    pub fn start(self) -> Start {
        Start((self.0 >> 24) as u32 & Start::MAX)
    }

    /// The sender.
    pub fn leaf(self) -> LeafIndex {
        LeafIndex((self.0 >> 10) as u16 & LeafIndex::MAX)
    }

    /// The epoch's low 10 bits.
    pub fn epoch_tag(self) -> u16 {
        Self::tag_of(self.0)
    }

    /// The low 10 bits of an epoch.
    pub(crate) fn tag_of(epoch: u64) -> u16 {
        (epoch % Self::EPOCH_TAGS) as u16
    }

    /// How many epochs the one with `tag` is ahead of `epoch`, if it is the next one with that tag.
    pub(crate) fn epochs_ahead(tag: u16, epoch: u64) -> u64 {
        u64::from(tag).wrapping_sub(epoch) % Self::EPOCH_TAGS
    }
}

/// Epochs that frames can tell apart.
pub(crate) const EPOCHS_APART: u64 = KeyId::EPOCH_TAGS;

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "leaf {} start {} epoch tag {}", self.leaf(), self.start(), self.epoch_tag())
    }
}

/// Why bytes are no frame's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The first byte is no marker.
    #[error("not sealed: the payload does not begin with 0xFD; its publisher has no agent in front of it")]
    NotSealed,
    /// An envelope of another version.
    #[error(
        "sealed in another version of the envelope (it begins with {0:#04X}, this agent reads 0xFD): update the older \
         one of the two agents"
    )]
    Version(u8),
    /// Cut off, or a key id or counter longer than the envelope allows, or not in its shortest form.
    #[error("sealed, but its header is damaged or cut off ({0} bytes in all)")]
    Malformed(usize),
}

/// What a frame says of itself without a key. Not authenticated until the frame is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Key id: sender's leaf, start and epoch tag.
    pub key_id: KeyId,
    /// Message number under that key, 24 bits.
    pub counter: u32,
    /// Low 40 bits of the time at which it was sealed.
    time: u64,
    len: usize,
}

impl Header {
    /// Largest counter.
    pub const MAX_COUNTER: u32 = (1 << 24) - 1;

    /// Reads the header of `frame`, a whole MQTT payload. Never panics.
    #[inline]
    pub fn parse(frame: &[u8]) -> Result<Self, HeaderError> {
        let malformed = HeaderError::Malformed(frame.len());
        let rest = match frame {
            [MARKER, rest @ ..] => rest,
            [marker, ..] if MARKERS.contains(marker) => return Err(HeaderError::Version(*marker)),
            _ => return Err(HeaderError::NotSealed),
        };
        let (config, fields) = rest.split_first().ok_or(malformed)?;
        let (key_id, fields) = field(config >> 4, fields).ok_or(malformed)?;
        let (ctr, fields) = field(config & 0xF, fields).ok_or(malformed)?;
        let key_id = KeyId::from_bits(key_id).ok_or(malformed)?;
        if fields.len() < PREAMBLE_BYTES + TAG_BYTES {
            return Err(malformed);
        }
        let counter = (ctr & u64::from(Self::MAX_COUNTER)) as u32;
        Ok(Self { key_id, counter, time: ctr >> 24, len: frame.len() - fields.len() })
    }

    /// Bytes of the header, marker included; ciphertext and tag follow.
    pub fn header_bytes(&self) -> usize {
        self.len
    }

    /// The SFrame counter (RFC 9605 §4.3): `time mod 2^40 (40) | counter (24)`. It is what makes the nonce.
    #[inline]
    pub fn ctr(&self) -> u64 {
        (self.time << 24) | u64::from(self.counter)
    }

    /// When it was sealed (first), Unix ms: of the times with these low 40 bits the one nearest to `now_ms`.
    pub fn sealed_ms(&self, now_ms: u64) -> u64 {
        let ahead_ms = self.time.wrapping_sub(now_ms) % TIME_SPAN_MS;
        if ahead_ms < TIME_SPAN_MS / 2 {
            return now_ms.saturating_add(ahead_ms);
        }
        now_ms.checked_sub(TIME_SPAN_MS - ahead_ms).unwrap_or(self.time)
    }
}

/// The SFrame counter of the message with this number, sealed at that time.
pub(crate) fn ctr(time_ms: u64, counter: u32) -> u64 {
    (time_ms % TIME_SPAN_MS) << 24 | u64::from(counter & Header::MAX_COUNTER)
}

/// Appends the header that a sealer writes.
pub(crate) fn write_header(key_id: KeyId, ctr: u64, out: &mut Vec<u8>) {
    let (key_config, key_bytes) = form(key_id.bits());
    let (ctr_config, ctr_bytes) = form(ctr);
    out.extend_from_slice(&[MARKER, key_config << 4 | ctr_config]);
    for (value, bytes) in [(key_id.bits(), key_bytes), (ctr, ctr_bytes)] {
        // All eight from the first that counts, then cut back: a copy of fixed length is no call.
        let end = out.len() + bytes;
        out.extend_from_slice(&value.unbounded_shl(64 - 8 * bytes as u32).to_be_bytes());
        out.truncate(end);
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

    fn frame(key_id: KeyId, ctr: u64) -> Vec<u8> {
        let mut out = Vec::new();
        write_header(key_id, ctr, &mut out);
        out.extend([0; PREAMBLE_BYTES + TAG_BYTES]);
        out
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(start in 0..=Start::MAX, leaf in 0..=u32::from(LeafIndex::MAX), epoch: u64,
                                   time_ms: u64, counter in 0..=Header::MAX_COUNTER) {
            let start = Start::new(start).expect("24 bits");
            let key_id = KeyId::new(start, LeafIndex::new(leaf).expect("14 bits"), epoch);
            let bytes = frame(key_id, ctr(time_ms, counter));
            let read = Header::parse(&bytes).expect("read");
            prop_assert_eq!((read.key_id, read.counter), (key_id, counter));
            prop_assert_eq!((key_id.start(), u32::from(key_id.leaf().number())), (start, leaf));
            prop_assert_eq!(u64::from(key_id.epoch_tag()), epoch % 1024);
            prop_assert!(read.header_bytes() <= MAX_HEADER_BYTES);
            let oracle = SframeHeader::deserialize(&bytes[PREFIX_BYTES..]).expect("sframe reads it");
            prop_assert_eq!((oracle.key_id(), oracle.counter()), (key_id.bits(), read.ctr()));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64), envelope: bool) {
            let mut bytes = bytes;
            if envelope && !bytes.is_empty() {
                bytes[0] = MARKER;
            }
            if let Ok(read) = Header::parse(&bytes) {
                let mut again = Vec::new();
                write_header(read.key_id, read.ctr(), &mut again);
                prop_assert_eq!(&again[..], &bytes[..read.header_bytes()], "one header, one form");
            }
        }

        /// Clocks that differ by less than half of the span agree on the time, and never on another one.
        #[test]
        fn a_time_is_read_as_it_was_written(sealed_ms in 0..1u64 << 48, apart in -(1i64 << 39) + 1..1i64 << 39) {
            let now_ms = sealed_ms.saturating_add_signed(apart);
            let header = Header::parse(&frame(KeyId(8), ctr(sealed_ms, 1))).expect("read");
            prop_assert_eq!(header.sealed_ms(now_ms), sealed_ms);
        }
    }

    #[test]
    fn a_time_at_the_ends_of_what_there_is() {
        let sealed_ms = |time_ms, now_ms| Header::parse(&frame(KeyId(8), ctr(time_ms, 0))).unwrap().sealed_ms(now_ms);
        assert_eq!(sealed_ms(TIME_SPAN_MS - 1, 0), TIME_SPAN_MS - 1, "there is nothing before 1970");
        assert_eq!(sealed_ms(5, u64::MAX), u64::MAX, "and nothing after the last time");
        assert_eq!(sealed_ms(1_795_366_800_000 - TIME_SPAN_MS, 1_795_366_800_000), 1_795_366_800_000);
    }

    /// RFC 9605, Appendix C.1: those with a KID of no more than 48 bits, on either side of each change of form.
    #[test]
    fn agrees_with_the_rfcs_test_vectors() {
        for (key_id, ctr, encoded) in [
            (0, 0, &[0x00][..]),
            (0, 1, &[0x01]),
            (0, 0xFF, &[0x08, 0xFF]),
            (0, 0x100, &[0x09, 0x01, 0x00]),
            (0, u64::MAX, &[0x0F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]),
            (0xFF, 0xFFFF, &[0x89, 0xFF, 0xFF, 0xFF]),
            (0x100, 0x10000, &[0x9A, 0x01, 0x00, 0x01, 0x00, 0x00]),
            (0xFFFF_FFFF_FFFF, 0xFF, &[0xD8, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]),
        ] {
            let key_id = KeyId::from_bits(key_id).expect("48 bits");
            let bytes = frame(key_id, ctr);
            assert_eq!(bytes[PREFIX_BYTES..bytes.len() - PREAMBLE_BYTES - TAG_BYTES], *encoded);
            let read = Header::parse(&bytes).expect("read");
            assert_eq!((read.key_id, read.ctr()), (key_id, ctr));
        }
    }

    #[test]
    fn says_what_is_wrong() {
        assert_eq!(Header::parse(b"21.5"), Err(HeaderError::NotSealed));
        assert_eq!(Header::parse(b""), Err(HeaderError::NotSealed));
        assert_eq!(Header::parse(&[0xFE, 1, 0]), Err(HeaderError::Version(0xFE)));
        assert!(HeaderError::Version(0xFE).to_string().contains("(it begins with 0xFE, "));
        assert_eq!(Header::parse(&[MARKER]), Err(HeaderError::Malformed(1)));
        let (start, leaf) = (Start::new(1).expect("small"), LeafIndex::new(7).expect("small"));
        let whole = frame(KeyId::new(start, leaf, 1), 300);
        for len in 1..whole.len() {
            assert_eq!(Header::parse(&whole[..len]), Err(HeaderError::Malformed(len)));
        }
        let too_wide = [&[MARKER, 0xE0, 1], &[0; 40][..]].concat();
        assert_eq!(Header::parse(&too_wide), Err(HeaderError::Malformed(43)), "a key id of 56 bits");
    }
}
