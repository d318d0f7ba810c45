//! The standard's data types (MQTT 5 1.5): integers, strings, binary data.

use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};

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
    pub(crate) fn lossy(text: &str, max_bytes: usize) -> Self {
        let clean = text.replace('\0', "");
        let mut end = clean.len().min(max_bytes).min(usize::from(u16::MAX));
        while !clean.is_char_boundary(end) {
            end -= 1;
        }
        Self(Bytes::copy_from_slice(clean.as_bytes().get(..end).unwrap_or_default()))
    }

    pub(crate) fn from_bytes(bytes: Bytes, field: &'static str) -> Result<Self, ParseError> {
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
pub(crate) const MAX_VARINT: u32 = 268_435_455;

/// Bytes that `value` takes as a variable byte integer.
pub(crate) fn varint_len(value: u32) -> usize {
    match value {
        0..=0x7F => 1,
        0x80..=0x3FFF => 2,
        0x4000..=0x1F_FFFF => 3,
        _ => 4,
    }
}

pub(crate) fn put_varint(out: &mut BytesMut, mut value: u32) {
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
/// A longer form than needed is refused, so that a frame has one reading only.
pub(crate) fn peek_varint(bytes: &[u8], field: &'static str) -> Result<Option<(u32, usize)>, ParseError> {
    let mut value = 0u32;
    for (i, byte) in bytes.iter().take(4).enumerate() {
        value |= u32::from(byte & 0x7F) << (7 * i);
        if byte & 0x80 == 0 {
            if varint_len(value) != i + 1 {
                return Err(ParseError::Varint(field));
            }
            return Ok(Some((value, i + 1)));
        }
    }
    if bytes.len() >= 4 { Err(ParseError::Varint(field)) } else { Ok(None) }
}

pub(crate) fn put_text(out: &mut BytesMut, text: &[u8], field: &'static str) -> Result<(), EncodeError> {
    let len = u16::try_from(text.len()).map_err(|_| EncodeError::FieldTooLong(field))?;
    out.put_u16(len);
    out.put_slice(text);
    Ok(())
}

/// Puts the fixed header before `parts`, which are the packet's content one after the other.
pub(crate) fn encode_frame(first: u8, parts: &[&[u8]]) -> Result<Bytes, EncodeError> {
    let len: usize = parts.iter().map(|part| part.len()).sum();
    let remaining = u32::try_from(len).ok().filter(|len| *len <= MAX_VARINT).ok_or(EncodeError::TooLarge(len))?;
    let mut out = BytesMut::with_capacity(1 + varint_len(remaining) + len);
    out.put_u8(first);
    put_varint(&mut out, remaining);
    for part in parts {
        out.put_slice(part);
    }
    Ok(out.freeze())
}

/// Takes fields off the front of a frame's content.
pub(crate) struct Reader(Bytes);

impl Reader {
    pub(crate) fn new(bytes: Bytes) -> Self {
        Self(bytes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn take(&mut self, len: usize, field: &'static str) -> Result<Bytes, ParseError> {
        if self.0.len() < len {
            return Err(ParseError::Truncated(field));
        }
        Ok(self.0.split_to(len))
    }

    pub(crate) fn u8(&mut self, field: &'static str) -> Result<u8, ParseError> {
        self.0.try_get_u8().map_err(|_| ParseError::Truncated(field))
    }

    pub(crate) fn u16(&mut self, field: &'static str) -> Result<u16, ParseError> {
        self.0.try_get_u16().map_err(|_| ParseError::Truncated(field))
    }

    pub(crate) fn u32(&mut self, field: &'static str) -> Result<u32, ParseError> {
        self.0.try_get_u32().map_err(|_| ParseError::Truncated(field))
    }

    pub(crate) fn varint(&mut self, field: &'static str) -> Result<u32, ParseError> {
        let (value, len) = peek_varint(&self.0, field)?.ok_or(ParseError::Truncated(field))?;
        self.take(len, field)?;
        Ok(value)
    }

    pub(crate) fn binary(&mut self, field: &'static str) -> Result<Bytes, ParseError> {
        let len = self.u16(field)?;
        self.take(usize::from(len), field)
    }

    pub(crate) fn text(&mut self, field: &'static str) -> Result<Text, ParseError> {
        Text::from_bytes(self.binary(field)?, field)
    }

    pub(crate) fn rest(self) -> Bytes {
        self.0
    }

    pub(crate) fn end(self) -> Result<(), ParseError> {
        if self.0.is_empty() { Ok(()) } else { Err(ParseError::Trailing(self.0.len())) }
    }
}
