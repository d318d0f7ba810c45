//! The operator's word on how far the ledger is: "at this time the head was this". Whoever carries the ledger's records can
//! withhold the newest ones; with this it is noticed, and after a while also that nothing comes at all.

use sealcast_identity::{KeyError, PublicKey, SigningKey};

use crate::{CodecError, Hash, LedgerId, codec::Reader};

/// Text at the head of what the operator signs.
const LABEL: &[u8] = b"sealcast-head-v1";

/// Why bytes are not such a statement of a ledger's operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AttestedError {
    /// They are nothing that could be signed.
    #[error("it cannot be read")]
    Malformed(#[from] CodecError),
    /// The signature is not that key's.
    #[error("the ledger's operator has not signed it")]
    Signature,
}

/// What the operator signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttestedHead {
    /// When, by the operator's clock, Unix ms.
    pub time_ms: u64,
    /// How many entries the ledger had.
    pub height: u64,
    /// The head with all of them in it.
    pub head: Hash,
}

impl AttestedHead {
    /// `time u64 | height u64 | head (32) | signature (64)`, big-endian. The signature is the operator's, on a label, the
    /// ledger's chain id and address, and what stands before it.
    ///
    /// # Errors
    /// The key did not sign.
    pub fn sign(&self, key: &SigningKey, ledger: &LedgerId) -> Result<Vec<u8>, KeyError> {
        let mut bytes = self.fields();
        bytes.extend(key.sign(&preimage(&bytes, ledger))?);
        Ok(bytes)
    }

    /// Reads what [`Self::sign`] wrote.
    ///
    /// # Errors
    /// It is malformed, or not this operator's word on this ledger.
    pub fn verify(bytes: &[u8], operator: &PublicKey, ledger: &LedgerId) -> Result<Self, AttestedError> {
        let mut reader = Reader::new(bytes);
        let (time_ms, height, head) = (reader.u64()?, reader.u64()?, Hash::from(reader.array::<32>()?));
        let signature = reader.array()?;
        reader.end()?;
        let attested = Self { time_ms, height, head };
        let holds = operator.verifies_low_s(&preimage(&attested.fields(), ledger), &signature);
        if holds { Ok(attested) } else { Err(AttestedError::Signature) }
    }

    fn fields(&self) -> Vec<u8> {
        [&self.time_ms.to_be_bytes()[..], &self.height.to_be_bytes(), self.head.as_bytes()].concat()
    }
}

fn preimage(fields: &[u8], ledger: &LedgerId) -> Vec<u8> {
    [LABEL, &ledger.chain_id.to_be_bytes(), &ledger.address, fields].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_operators_word_on_this_ledger_is_taken() {
        let key = SigningKey::generate().unwrap();
        let ledger = LedgerId { chain_id: 5318, address: [7; 20] };
        let said = AttestedHead { time_ms: 1_767_225_600_000, height: 7, head: Hash::from([3; 32]) };
        let bytes = said.sign(&key, &ledger).unwrap();
        assert_eq!(AttestedHead::verify(&bytes, key.public(), &ledger), Ok(said));
        for place in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[place] ^= 1;
            assert_eq!(AttestedHead::verify(&changed, key.public(), &ledger), Err(AttestedError::Signature), "{place}");
        }
        let other = SigningKey::generate().unwrap();
        assert_eq!(AttestedHead::verify(&bytes, other.public(), &ledger), Err(AttestedError::Signature));
        for elsewhere in [LedgerId { chain_id: 5319, ..ledger }, LedgerId { address: [8; 20], ..ledger }] {
            assert_eq!(AttestedHead::verify(&bytes, key.public(), &elsewhere), Err(AttestedError::Signature));
        }
        let malformed = |bytes: &[u8]| {
            matches!(AttestedHead::verify(bytes, key.public(), &ledger), Err(AttestedError::Malformed(_)))
        };
        assert!(malformed(&bytes[1..]) && malformed(&[&bytes[..], &[0]].concat()) && malformed(&[]));
    }
}
