//! One part, and how a message is cut into some.

use aws_lc_rs::digest::{SHA256, digest};
use bytes::{BufMut as _, Bytes, BytesMut};

/// First byte of a part, and of no other message of the control plane: JSON and certificates begin otherwise, lengths and
/// times are not that large.
pub const MARKER: u8 = 0xFF;
const VERSION: u8 = 1;
/// What stands before a part's piece of the message.
pub const HEADER_BYTES: usize = 22;
/// Most parts of a message.
pub const MAX_PARTS: usize = 1024;

/// The first bytes of a message's SHA-256.
pub type Digest = [u8; 16];

/// The message would have more than [`MAX_PARTS`] parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a message of {bytes} bytes cannot be cut into at most {MAX_PARTS} parts of at most {max_payload_bytes} bytes")]
pub struct TooLong {
    /// Of the message.
    pub bytes: usize,
    /// Of a payload.
    pub max_payload_bytes: usize,
}

/// Cuts a message into payloads of at most `max_payload_bytes`, in order. One that is short enough stays as it is.
///
/// # Errors
/// [`TooLong`]
pub fn cut(message: Bytes, max_payload_bytes: usize) -> Result<Vec<Bytes>, TooLong> {
    if message.len() <= max_payload_bytes && message.first() != Some(&MARKER) {
        return Ok(vec![message]);
    }
    let too_long = TooLong { bytes: message.len(), max_payload_bytes };
    let piece = max_payload_bytes.checked_sub(HEADER_BYTES).filter(|piece| *piece > 0).ok_or(too_long)?;
    let count = message.len().div_ceil(piece);
    if count > MAX_PARTS {
        return Err(too_long);
    }
    let name = digest_of(&message);
    let part = |(index, piece): (usize, &[u8])| {
        let mut out = BytesMut::with_capacity(HEADER_BYTES + piece.len());
        out.put_u8(MARKER);
        out.put_u8(VERSION);
        out.put_slice(&name);
        // Both are at most MAX_PARTS.
        out.put_u16(index as u16);
        out.put_u16(count as u16);
        out.put_slice(piece);
        out.freeze()
    };
    Ok(message.chunks(piece).enumerate().map(part).collect())
}

pub(crate) fn digest_of(message: &[u8]) -> Digest {
    let mut name = Digest::default();
    name.iter_mut().zip(digest(&SHA256, message).as_ref()).for_each(|(to, from)| *to = *from);
    name
}

/// A part that was read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Part<'a> {
    pub(crate) message: Digest,
    /// Below `count`.
    pub(crate) index: u16,
    /// 1 to [`MAX_PARTS`].
    pub(crate) count: u16,
    /// Not empty.
    pub(crate) piece: &'a [u8],
}

impl<'a> Part<'a> {
    /// Reads a payload that begins with [`MARKER`]; `None` if the rest is no part of this version.
    pub(crate) fn read(payload: &'a [u8]) -> Option<Self> {
        let ([MARKER, VERSION], rest) = payload.split_first_chunk::<2>()? else { return None };
        let (message, rest) = rest.split_first_chunk()?;
        let (index, rest) = rest.split_first_chunk()?;
        let (count, piece) = rest.split_first_chunk()?;
        let (index, count) = (u16::from_be_bytes(*index), u16::from_be_bytes(*count));
        let fits = index < count && usize::from(count) <= MAX_PARTS && !piece.is_empty();
        fits.then_some(Self { message: *message, index, count, piece })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_message_stays_as_it_is() {
        for message in ["", "x", "{\"id\":1}"] {
            assert_eq!(cut(message.into(), 8), Ok(vec![Bytes::from(message)]));
        }
    }

    #[test]
    fn a_part_has_this_form() {
        // The SHA-256 of "abc", FIPS 180-4.
        let name = [0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea, 0x41, 0x41, 0x40, 0xde, 0x5d, 0xae, 0x22, 0x23];
        assert_eq!(digest_of(b"abc"), name);
        let message = Bytes::from_static(b"\xFFbc");
        let parts = cut(message.clone(), HEADER_BYTES + 2).unwrap();
        let part = |end: &[u8]| [&[0xFF, 1], &digest_of(&message)[..], end].concat();
        assert_eq!(parts, [part(&[0, 0, 0, 2, 0xFF, b'b']), part(&[0, 1, 0, 2, b'c'])]);
        let read = Part { message: digest_of(&message), index: 1, count: 2, piece: b"c" };
        assert_eq!(Part::read(&parts[1]), Some(read));
    }

    #[test]
    fn what_is_too_long_is_not_cut() {
        let error = |bytes: usize, max| cut(vec![0; bytes].into(), max).map(|parts| parts.len());
        assert_eq!(error(MAX_PARTS, HEADER_BYTES + 1), Ok(MAX_PARTS));
        for (bytes, max_payload_bytes) in [(MAX_PARTS + 24, HEADER_BYTES + 1), (HEADER_BYTES + 1, HEADER_BYTES), (1, 0)]
        {
            assert_eq!(error(bytes, max_payload_bytes), Err(TooLong { bytes, max_payload_bytes }));
        }
    }

    #[test]
    fn what_is_no_part_is_not_read() {
        let good = [&[0xFF, 1][..], &[7; 16], &[0, 1, 0, 2, 9]].concat();
        assert!(Part::read(&good).is_some());
        for (place, byte) in [(0, 0xFE), (1, 2), (18, 1), (19, 2), (20, 4), (21, 1)] {
            let mut bad = good.clone();
            bad[place] = byte;
            // 0x0402 parts are more than there may be, and part 1 of one is none.
            assert_eq!(Part::read(&bad), None, "{place}");
        }
        for length in 0..good.len() {
            assert_eq!(Part::read(&good[..length]), None, "{length}");
        }
    }
}
