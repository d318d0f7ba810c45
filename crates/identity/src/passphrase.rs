//! A passphrase, and the keys that are derived from it.

use std::fmt;

use zeroize::Zeroizing;

use crate::KeyError;

/// Longest passphrase, in bytes.
pub const MAX_PASSPHRASE_BYTES: usize = 1_024;

/// Why a file holds no passphrase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PassphraseError {
    /// Nothing, or nothing but the end of a line.
    #[error("it is empty: the passphrase is its one line")]
    Empty,
    /// More than one line.
    #[error("it holds more than one line: the passphrase is its one line")]
    Lines,
    /// More than [`MAX_PASSPHRASE_BYTES`].
    #[error("its line is too long: a passphrase has at most {MAX_PASSPHRASE_BYTES} bytes")]
    TooLong,
}

/// What private keys and an agent's state are encrypted with.
#[derive(Clone)]
pub struct Passphrase(Zeroizing<Vec<u8>>);

impl Passphrase {
    /// From a file's content: its one line. The line feed, which editors and `echo` write, does not belong to it, as with
    /// OpenSSL's `-passin file:`.
    pub fn from_file(content: &[u8]) -> Result<Self, PassphraseError> {
        let line = content.strip_suffix(b"\n").unwrap_or(content);
        match line {
            [] => Err(PassphraseError::Empty),
            _ if line.contains(&b'\n') => Err(PassphraseError::Lines),
            _ if line.len() > MAX_PASSPHRASE_BYTES => Err(PassphraseError::TooLong),
            _ => Ok(Self(Zeroizing::new(line.to_vec()))),
        }
    }

    /// A key for AES-256.
    pub fn derive(&self, salt: &[u8], work: Work) -> Result<Zeroizing<[u8; 32]>, KeyError> {
        let mut key = Zeroizing::new([0; 32]);
        scrypt::scrypt(&self.0, salt, &work.params()?, &mut *key).map_err(|_| KeyError::Library)?;
        Ok(key)
    }

    /// Its bytes, for those who have to hand it on.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase")
    }
}

/// How much work each guess of a passphrase takes: the parameters of scrypt (RFC 7914).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Work {
    /// Binary logarithm of N.
    pub log_n: u8,
    /// Block size.
    pub r: u16,
    /// Parallelization.
    pub p: u16,
}

impl Work {
    /// What new files get: a quarter of a second, and no more than 16 MiB, which a small device has. OpenSSL reads no more than
    /// 32 MiB.
    pub const PRESENT: Self = Self { log_n: 14, r: 8, p: 5 };
    /// What a file may ask for. A damaged one that asks for more would end the process for want of memory.
    const MAX_BYTES: u64 = 1 << 30;

    pub(crate) fn params(self) -> Result<scrypt::Params, KeyError> {
        let bytes = 1_u64.checked_shl(self.log_n.into()).and_then(|n| n.checked_mul(128 * u64::from(self.r)));
        if bytes.is_none_or(|bytes| bytes > Self::MAX_BYTES) {
            return Err(KeyError::Work);
        }
        scrypt::Params::new(self.log_n, self.r.into(), self.p.into(), scrypt::Params::RECOMMENDED_LEN)
            .map_err(|_| KeyError::Work)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_passphrase_is_the_one_line_of_its_file() {
        let read = |text: &str| Passphrase::from_file(text.as_bytes()).map(|read| read.expose().to_vec());
        for text in ["correct horse", "correct horse\n"] {
            assert_eq!(read(text).unwrap(), b"correct horse", "{text:?}");
        }
        assert_eq!(read(" spaces belong to it \n").unwrap(), b" spaces belong to it ");
        for text in ["", "\n"] {
            assert_eq!(read(text), Err(PassphraseError::Empty), "{text:?}");
        }
        assert_eq!(read("one\ntwo\n"), Err(PassphraseError::Lines));
        assert!(read(&"x".repeat(MAX_PASSPHRASE_BYTES)).is_ok());
        assert_eq!(read(&"x".repeat(MAX_PASSPHRASE_BYTES + 1)), Err(PassphraseError::TooLong));
        let printed = format!("{:?}", Passphrase::from_file(b"correct horse").unwrap());
        assert!(!printed.contains("horse") && !printed.contains(&hex::encode("horse")), "{printed}");
    }

    /// RFC 7914 section 12.
    #[test]
    fn derives_what_the_standard_says() {
        let passphrase = Passphrase::from_file(b"pleaseletmein").unwrap();
        let key = passphrase.derive(b"SodiumChloride", Work { log_n: 14, r: 8, p: 1 }).unwrap();
        assert_eq!(hex::encode(*key), "7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2");
    }

    #[test]
    fn work_that_no_machine_has_is_refused() {
        let refused = |log_n, r, p| matches!(Work { log_n, r, p }.params(), Err(KeyError::Work));
        assert!(Work::PRESENT.params().is_ok());
        assert!(refused(21, 8, 1), "2 GiB");
        assert!(refused(64, 8, 1) && refused(255, u16::MAX, 1) && refused(14, 0, 1) && refused(14, 8, 0));
    }
}
