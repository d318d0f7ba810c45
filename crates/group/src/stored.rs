//! Stored state: keys, values, and the changes that are on their way to the disk.

use std::collections::BTreeMap;

use mls_rs::mls_rs_codec::{MlsDecode, MlsEncode};
use zeroize::Zeroizing;

use crate::Write;

/// Why stored state could not be taken up again.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// A value cannot be read.
    #[error(
        "the stored group state is damaged at {key:?}: remove the whole state, so that the device rejoins its groups"
    )]
    Corrupt {
        /// The key of the value.
        key: String,
    },
    /// The stored state is of another ledger.
    #[error("the stored group state belongs to another ledger: give each ledger its own state")]
    OtherLedger,
    /// The identity does not fit together.
    #[error("this device's certificate or key cannot be used")]
    Identity(#[from] crate::GroupRefusal),
}

impl RestoreError {
    pub(crate) fn corrupt(key: &str) -> Self {
        Self::Corrupt { key: key.to_owned() }
    }
}

/// All that was written, as the driver read it back.
pub(crate) struct Stored(BTreeMap<String, Zeroizing<Vec<u8>>>);

impl Stored {
    pub fn new(values: impl IntoIterator<Item = (String, Zeroizing<Vec<u8>>)>) -> Self {
        Self(values.into_iter().collect())
    }

    pub fn get(&self, key: &str) -> Option<&[u8]> {
        self.0.get(key).map(|value| value.as_slice())
    }

    pub fn under<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        self.0
            .range(prefix.to_owned()..)
            .take_while(move |(key, _)| key.starts_with(prefix))
            .map(|(key, value)| (key.as_str(), value.as_slice()))
    }
}

/// Changes that the driver has not been given yet: the last one of a key counts.
#[derive(Default)]
pub(crate) struct Changes(BTreeMap<String, Option<Zeroizing<Vec<u8>>>>);

impl Changes {
    pub fn put(&mut self, key: String, value: Zeroizing<Vec<u8>>) {
        self.0.insert(key, Some(value));
    }

    pub fn delete(&mut self, key: String) {
        self.0.insert(key, None);
    }

    /// All of them, if there are any.
    pub fn take(&mut self) -> Option<Vec<Write>> {
        if self.0.is_empty() {
            return None;
        }
        Some(std::mem::take(&mut self.0).into_iter().map(|(key, value)| Write { key, value }).collect())
    }
}

pub(crate) fn encode<T: MlsEncode>(value: &T) -> Zeroizing<Vec<u8>> {
    // Fails only where a part is longer than 2^30 bytes, which the limits on entries exclude.
    Zeroizing::new(value.mls_encode_to_vec().unwrap_or_default())
}

pub(crate) fn decode<T: MlsDecode>(key: &str, bytes: &[u8]) -> Result<T, RestoreError> {
    let mut rest = bytes;
    match T::mls_decode(&mut rest) {
        Ok(value) if rest.is_empty() => Ok(value),
        _ => Err(RestoreError::corrupt(key)),
    }
}

/// The first 8 bytes as hex: enough for a person to compare.
pub(crate) fn short_hex(hash: &[u8]) -> String {
    hex::encode(hash.get(..8).unwrap_or(hash))
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref());
    out
}
