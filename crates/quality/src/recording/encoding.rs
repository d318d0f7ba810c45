//! From bytes to text.

use std::{borrow::Cow, fmt, str::FromStr};

use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1252};

use super::cell::CsvOptionError;

/// Bytes that are looked at to tell UTF-16 without a byte order mark.
const SAMPLE_BYTES: usize = 4096;

/// How a file's characters are written as bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextEncoding(&'static Encoding);

impl TextEncoding {
    /// By its byte order mark; without one UTF-16 if every other byte is zero, UTF-8 if it is that, else Windows-1252, of
    /// which Latin-1 is a part.
    pub(super) fn detect(bytes: &[u8]) -> Self {
        if let Some((encoding, _)) = Encoding::for_bom(bytes) {
            return Self(encoding);
        }
        let sample = bytes.get(..SAMPLE_BYTES).unwrap_or(bytes);
        let zeros = |from: usize| sample.iter().skip(from).step_by(2).filter(|byte| **byte == 0).count();
        // Digits, separators and line ends have a zero byte each.
        let most = sample.len() / 4;
        if sample.len() >= 4 && zeros(1) > most && zeros(0) == 0 {
            Self(UTF_16LE)
        } else if sample.len() >= 4 && zeros(0) > most && zeros(1) == 0 {
            Self(UTF_16BE)
        } else if std::str::from_utf8(bytes).is_ok() {
            Self(UTF_8)
        } else {
            Self(WINDOWS_1252)
        }
    }

    /// The text, without a byte order mark; `None` if the bytes are no text in this encoding.
    pub(super) fn decode(self, bytes: &[u8]) -> Option<Cow<'_, str>> {
        let (text, wrong) = self.0.decode_with_bom_removal(bytes);
        (!wrong).then_some(text)
    }
}

impl FromStr for TextEncoding {
    type Err = CsvOptionError;

    fn from_str(text: &str) -> Result<Self, CsvOptionError> {
        let encoding = Encoding::for_label_no_replacement(text.as_bytes());
        encoding
            .map(Self)
            .ok_or(CsvOptionError("give an encoding of the WHATWG list, such as utf-8, utf-16le, windows-1252, latin1, iso-8859-15 or shift_jis"))
    }
}

impl fmt::Display for TextEncoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name())
    }
}
