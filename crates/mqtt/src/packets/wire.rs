//! The standard's data types (MQTT 5 1.5): integers, strings, binary data.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

use super::error::{EncodeError, ParseError};

/// A UTF-8 string of at most 65,535 bytes without U+0000 (MQTT 5 1.5.4). Shares the buffer of the frame it came from.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Text(Bytes);

impl Text {
    /// Copies `text`.
    ///
    /// # Errors
    /// If it is longer than 65,535 bytes ([`ParseError::TooLarge`]) or holds a NUL.
    pub fn new(text: &str) -> Result<Self, ParseError> {
        if text.len() > usize::from(u16::MAX) {
            return Err(ParseError::TooLarge { size: text.len(), max: usize::from(u16::MAX) });
        }
        Self::from_bytes(Bytes::copy_from_slice(text.as_bytes()), "string")
    }

    /// The longest prefix of `text` that is at most `max_bytes` long, without NULs. For texts made here.
    pub fn lossy(text: &str, max_bytes: usize) -> Self {
        let clean = text.replace('\0', "");
        let mut end = clean.len().min(max_bytes).min(usize::from(u16::MAX));
        while !clean.is_char_boundary(end) {
            end -= 1;
        }
        Self(Bytes::copy_from_slice(clean.as_bytes().get(..end).unwrap_or_default()))
    }

    fn from_bytes(bytes: Bytes, field: &'static str) -> Result<Self, ParseError> {
        let text = std::str::from_utf8(&bytes).map_err(|_| ParseError::Utf8(field))?;
        if text.contains('\0') {
            return Err(ParseError::Nul(field));
        }
        Ok(Self(bytes))
    }

    /// The string.
    pub fn as_str(&self) -> &str {
        // Checked when made; checking again is cheaper than a copy and needs no unsafe code.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Largest value of a variable byte integer (MQTT 5 1.5.5).
pub(super) const MAX_VARINT: u32 = 268_435_455;

/// Bytes that `value` takes as a variable byte integer.
pub(super) fn varint_len(value: usize) -> usize {
    match value {
        0..=0x7F => 1,
        0x80..=0x3FFF => 2,
        0x4000..=0x1F_FFFF => 3,
        _ => 4,
    }
}

/// Writes a value of at most [`MAX_VARINT`].
pub(super) fn put_varint(out: &mut BytesMut, mut value: u32) {
    loop {
        let low = (value & 0x7F) as u8;
        value >>= 7;
        if value == 0 {
            out.put_u8(low);
            return;
        }
        out.put_u8(low | 0x80);
    }
}

/// Reads a variable byte integer at the start of `bytes`: its value and length, or `None` if more bytes are needed.
/// A longer form than needed is refused (MQTT 5 1.5.5), so that a frame has one reading only.
pub(super) fn peek_varint(bytes: &[u8], field: &'static str) -> Result<Option<(u32, usize)>, ParseError> {
    let mut value = 0u32;
    for (i, byte) in bytes.iter().take(4).enumerate() {
        value |= u32::from(byte & 0x7F) << (7 * i);
        if byte & 0x80 == 0 {
            // A last byte of zero adds nothing.
            return if i > 0 && *byte == 0 { Err(ParseError::Varint(field)) } else { Ok(Some((value, i + 1))) };
        }
    }
    if bytes.len() >= 4 { Err(ParseError::Varint(field)) } else { Ok(None) }
}

/// Writes a length in two bytes and the text or data itself.
pub(super) fn put_binary(out: &mut BytesMut, bytes: &[u8], field: &'static str) -> Result<(), EncodeError> {
    let len = u16::try_from(bytes.len()).map_err(|_| EncodeError::FieldTooLong(field))?;
    out.put_u16(len);
    out.put_slice(bytes);
    Ok(())
}

/// Size of a frame with its fixed header.
pub(super) fn frame_len(remaining: usize) -> usize {
    1 + varint_len(remaining) + remaining
}

/// Appends a frame whose content takes `remaining` bytes and is written by `content`. If that fails, `out` is as it was.
pub(super) fn put_frame(
    out: &mut BytesMut,
    first: u8,
    remaining: usize,
    content: impl FnOnce(&mut BytesMut) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    let start = out.len();
    let length = u32::try_from(remaining).ok().filter(|length| *length <= MAX_VARINT);
    let length = length.ok_or(EncodeError::TooLarge(remaining))?;
    out.reserve(frame_len(remaining));
    out.put_u8(first);
    put_varint(out, length);
    let content_start = out.len();
    let written = content(out);
    match written {
        Ok(()) => debug_assert_eq!(out.len() - content_start, remaining, "the length in front is that of the content"),
        Err(_) => out.truncate(start),
    }
    written
}

/// A frame in a buffer of its own.
pub(super) fn encoded(put: impl FnOnce(&mut BytesMut) -> Result<(), EncodeError>) -> Result<Bytes, EncodeError> {
    let mut out = BytesMut::new();
    put(&mut out)?;
    Ok(out.freeze())
}

/// Takes fields off the front of a frame's content. What is kept of it shares the frame's buffer.
pub(super) struct Reader<'a> {
    bytes: &'a Bytes,
    at: usize,
    end: usize,
}

impl<'a> Reader<'a> {
    /// Reads what follows the first `at` bytes.
    pub(super) fn new(bytes: &'a Bytes, at: usize) -> Self {
        Self { bytes, at: at.min(bytes.len()), end: bytes.len() }
    }

    fn remaining(&self) -> &'a [u8] {
        self.bytes.get(self.at..self.end).unwrap_or_default()
    }

    pub(super) fn len(&self) -> usize {
        self.end - self.at
    }

    pub(super) fn is_empty(&self) -> bool {
        self.at == self.end
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], ParseError> {
        let array = self.remaining().first_chunk().copied().ok_or(ParseError::Truncated(field))?;
        self.at += N;
        Ok(array)
    }

    pub(super) fn u8(&mut self, field: &'static str) -> Result<u8, ParseError> {
        self.array(field).map(u8::from_be_bytes)
    }

    pub(super) fn u16(&mut self, field: &'static str) -> Result<u16, ParseError> {
        self.array(field).map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self, field: &'static str) -> Result<u32, ParseError> {
        self.array(field).map(u32::from_be_bytes)
    }

    pub(super) fn varint(&mut self, field: &'static str) -> Result<u32, ParseError> {
        let (value, len) = peek_varint(self.remaining(), field)?.ok_or(ParseError::Truncated(field))?;
        self.at += len;
        Ok(value)
    }

    /// The next `len` bytes by a reader of their own.
    pub(super) fn part(&mut self, len: usize, field: &'static str) -> Result<Self, ParseError> {
        if len > self.len() {
            return Err(ParseError::Truncated(field));
        }
        let part = Self { bytes: self.bytes, at: self.at, end: self.at + len };
        self.at = part.end;
        Ok(part)
    }

    /// Binary data (MQTT 5 1.5.6), to look at.
    pub(super) fn binary_slice(&mut self, field: &'static str) -> Result<&'a [u8], ParseError> {
        let len = self.u16(field)?;
        Ok(self.part(usize::from(len), field)?.remaining())
    }

    /// Binary data, to keep.
    pub(super) fn binary(&mut self, field: &'static str) -> Result<Bytes, ParseError> {
        let len = self.u16(field)?;
        Ok(self.part(usize::from(len), field)?.rest())
    }

    pub(super) fn text(&mut self, field: &'static str) -> Result<Text, ParseError> {
        Text::from_bytes(self.binary(field)?, field)
    }

    pub(super) fn rest(self) -> Bytes {
        self.bytes.slice(self.at..self.end)
    }

    pub(super) fn end(self) -> Result<(), ParseError> {
        match self.len() {
            0 => Ok(()),
            trailing => Err(ParseError::Trailing(trailing)),
        }
    }
}
