//! The binary codec's parts: big-endian integers, fixed arrays, one length-prefixed body.

use crate::Refusal;

/// Why bytes are not an entry or a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// Ends too early.
    #[error("the data ends {missing} bytes too early")]
    Short {
        /// How many.
        missing: usize,
    },
    /// Does not end where it should.
    #[error("{extra} extra bytes follow the end")]
    Trailing {
        /// How many.
        extra: usize,
    },
    /// A format of a later release.
    #[error("format version {got} is unknown, this program reads version {expected}: is the sender newer?")]
    Version {
        /// The one that is.
        expected: u8,
        /// The one that was found.
        got: u8,
    },
    /// Well framed, but no entry that the contract would take.
    #[error("not an entry that the ledger can hold")]
    Refused(#[from] Refusal),
}

/// Takes values off the front of a slice. Integers are big-endian.
#[derive(Debug)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// All of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// So many bytes.
    pub fn bytes(&mut self, length: usize) -> Result<&'a [u8], CodecError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or_else(|| self.short(length))?;
        self.0 = rest;
        Ok(taken)
    }

    /// So many bytes, whose number the type says.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], CodecError> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or_else(|| self.short(N))?;
        self.0 = rest;
        Ok(*taken)
    }

    fn short(&self, length: usize) -> CodecError {
        CodecError::Short { missing: length.saturating_sub(self.0.len()) }
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8, CodecError> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// Four bytes.
    pub fn u32(&mut self) -> Result<u32, CodecError> {
        self.array().map(u32::from_be_bytes)
    }

    /// Eight bytes.
    pub fn u64(&mut self) -> Result<u64, CodecError> {
        self.array().map(u64::from_be_bytes)
    }

    /// One byte, which must be this.
    pub fn version(&mut self, expected: u8) -> Result<(), CodecError> {
        match self.u8()? {
            got if got == expected => Ok(()),
            got => Err(CodecError::Version { expected, got }),
        }
    }

    /// Whether there is nothing more.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// There must be nothing more.
    pub fn end(self) -> Result<(), CodecError> {
        if self.0.is_empty() { Ok(()) } else { Err(CodecError::Trailing { extra: self.0.len() }) }
    }
}
