//! Block options (RFC 7959 §2.2) and content formats (RFC 7252 §12.3).

/// Largest block, in bytes.
pub const MAX_BLOCK_BYTES: usize = 1024;
const MAX_SZX: u8 = 6;

/// `NUM`, `M` and `SZX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// Which block, from 0.
    pub num: u32,
    /// More follow.
    pub more: bool,
    /// Size exponent, 0 to 6: `16 << szx` bytes.
    pub szx: u8,
}

impl Block {
    /// The first block of the largest size.
    pub const FIRST: Self = Self { num: 0, more: false, szx: MAX_SZX };

    /// Reads an option's value; `None` if it is malformed.
    pub fn parse(value: &[u8]) -> Option<Self> {
        if value.len() > 3 {
            return None;
        }
        let value = uint(value)?;
        let szx = (value & 7) as u8;
        (szx <= MAX_SZX).then_some(Self { num: value >> 4, more: value & 8 != 0, szx })
    }

    /// The option's value.
    pub fn encode(self) -> Vec<u8> {
        put_uint(self.num << 4 | u32::from(self.more) << 3 | u32::from(self.szx))
    }

    /// Its size, if it is not the last one.
    pub fn bytes(self) -> usize {
        16 << self.szx
    }

    /// Where it begins in the whole.
    pub fn start(self) -> usize {
        self.num as usize * self.bytes()
    }
}

/// An option's unsigned integer (RFC 7252 §3.2); `None` if it has more than four bytes.
pub fn uint(value: &[u8]) -> Option<u32> {
    (value.len() <= 4).then(|| value.iter().fold(0, |number, &byte| number << 8 | u32::from(byte)))
}

/// The shortest form of an unsigned integer.
pub fn put_uint(number: u32) -> Vec<u8> {
    number.to_be_bytes().into_iter().skip_while(|&byte| byte == 0).collect()
}

const FORMATS: [(u32, &str); 8] = [
    (0, "text/plain"),
    (40, "application/link-format"),
    (41, "application/xml"),
    (42, "application/octet-stream"),
    (50, "application/json"),
    (60, "application/cbor"),
    (110, "application/senml+json"),
    (112, "application/senml+cbor"),
];

/// The media type of a content format.
pub fn media_type(format: u32) -> Option<&'static str> {
    FORMATS.iter().find(|(number, _)| *number == format).map(|(_, name)| *name)
}

/// The content format of a media type.
pub fn format(media_type: &str) -> Option<u32> {
    let name = media_type.split(';').next().unwrap_or_default().trim();
    FORMATS.iter().find(|(_, known)| known.eq_ignore_ascii_case(name)).map(|(number, _)| *number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_three_bytes_at_most() {
        for (block, bytes) in [
            (Block { num: 0, more: false, szx: 0 }, &[][..]),
            (Block { num: 0, more: true, szx: 6 }, &[0x0e]),
            (Block { num: 1, more: false, szx: 2 }, &[0x12]),
            (Block { num: 0xf_ffff, more: true, szx: 6 }, &[0xff, 0xff, 0xfe]),
        ] {
            assert_eq!(block.encode(), bytes);
            assert_eq!(Block::parse(bytes), Some(block));
        }
        assert_eq!(Block::parse(&[7]), None);
        assert_eq!(Block::parse(&[0, 0, 0, 0]), None);
        assert_eq!(Block { num: 3, more: true, szx: 5 }.start(), 1536);
    }

    #[test]
    fn formats_have_names() {
        assert_eq!(media_type(50), Some("application/json"));
        assert_eq!(format("application/senml+cbor"), Some(112));
        assert_eq!(format("text/plain; charset=utf-8"), Some(0));
        assert_eq!(format("image/png"), None);
    }
}
