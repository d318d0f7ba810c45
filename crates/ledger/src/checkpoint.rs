//! A device's own word on how far its folder has come. The broker keeps the newest one, so that a folder which is older
//! than that is known for a copy.

use std::fmt;

use aws_lc_rs::rand;
use sealcast_identity::{KeyError, PublicKey, SigningKey};

use crate::{CodecError, LedgerId, Number, codec::Reader};

/// Text at the head of what the device signs.
const LABEL: &[u8] = b"sealcast-checkpoint-v1";

/// Why bytes are not such a statement of a device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// They are nothing that could be signed.
    #[error("it cannot be read")]
    Malformed(#[from] CodecError),
    /// The signature is not that key's.
    #[error("the device has not signed it with its present key")]
    Signature,
}

/// A place in the life of a device's folder. Each has a greater number than those before it.
///
/// Two copies of a folder can come to the same number. What they draw at random then tells them apart; a signature would
/// not, because a device that signs the same again makes another one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Checkpoint {
    /// Which.
    pub number: u64,
    /// Drawn for it alone.
    pub mark: [u8; 16],
}

impl fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Checkpoint({} {})", self.number, hex::encode(&self.mark[..4]))
    }
}

impl Checkpoint {
    /// A new one.
    ///
    /// # Errors
    /// There is no randomness.
    pub fn new(number: u64) -> Result<Self, KeyError> {
        let mut mark = [0; 16];
        rand::fill(&mut mark).map_err(KeyError::from)?;
        Ok(Self { number, mark })
    }

    /// `number u64 | mark (16) | signature (64)`, big-endian. The signature is the device's, on a label, the ledger's chain
    /// id and address, the device's number, and what stands before it.
    ///
    /// # Errors
    /// The key did not sign.
    pub fn sign(&self, device: Number, key: &SigningKey, ledger: &LedgerId) -> Result<Vec<u8>, KeyError> {
        let mut bytes = self.fields();
        bytes.extend(key.sign(&preimage(&bytes, device, ledger))?);
        Ok(bytes)
    }

    /// Reads what [`Self::sign`] wrote.
    ///
    /// # Errors
    /// It is malformed, or not this device's word by this key, for this ledger; or the signature was changed into its other
    /// form ([`PublicKey::verifies_low_s`]).
    pub fn verify(bytes: &[u8], device: Number, key: &PublicKey, ledger: &LedgerId) -> Result<Self, CheckpointError> {
        let mut reader = Reader::new(bytes);
        let checkpoint = Self { number: reader.u64()?, mark: reader.array()? };
        let signature = reader.array()?;
        reader.end()?;
        let holds = key.verifies_low_s(&preimage(&checkpoint.fields(), device, ledger), &signature);
        if holds { Ok(checkpoint) } else { Err(CheckpointError::Signature) }
    }

    fn fields(&self) -> Vec<u8> {
        [&self.number.to_be_bytes()[..], &self.mark].concat()
    }
}

fn preimage(fields: &[u8], device: Number, ledger: &LedgerId) -> Vec<u8> {
    [LABEL, &ledger.chain_id.to_be_bytes(), &ledger.address, device.as_bytes(), fields].concat()
}

#[cfg(test)]
mod tests {
    use sealcast_identity::other_form;

    use super::*;

    #[test]
    fn only_the_devices_word_by_its_present_key_on_this_ledger_is_taken() {
        let (key, other) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let (ledger, device) = (LedgerId { chain_id: 5318, address: [7; 20] }, Number::from([3; 20]));
        let said = Checkpoint::new(1_767_225_600_000).unwrap();
        let bytes = said.sign(device, &key, &ledger).unwrap();
        let read = |bytes: &[u8]| Checkpoint::verify(bytes, device, key.public(), &ledger);
        assert_eq!(read(&bytes), Ok(said));
        for place in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[place] ^= 1;
            assert_eq!(read(&changed), Err(CheckpointError::Signature), "{place}");
        }
        let (fields, signature) = bytes.split_last_chunk().unwrap();
        assert_eq!(read(&[fields, &other_form(signature)].concat()), Err(CheckpointError::Signature));
        for (device, key, ledger) in [
            (Number::from([4; 20]), key.public(), ledger),
            (device, other.public(), ledger),
            (device, key.public(), LedgerId { chain_id: 5319, ..ledger }),
            (device, key.public(), LedgerId { address: [8; 20], ..ledger }),
        ] {
            assert_eq!(Checkpoint::verify(&bytes, device, key, &ledger), Err(CheckpointError::Signature));
        }
        let malformed = |bytes: &[u8]| matches!(read(bytes), Err(CheckpointError::Malformed(_)));
        assert!(malformed(&bytes[1..]) && malformed(&[&bytes[..], &[0]].concat()) && malformed(&[]));
    }

    #[test]
    fn two_of_one_number_differ() {
        assert_ne!(Checkpoint::new(7).unwrap(), Checkpoint::new(7).unwrap());
    }
}
