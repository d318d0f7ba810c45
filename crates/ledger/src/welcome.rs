//! A Welcome on its way to a new member, signed by the member that made the commit.
//!
//! A broker may let anybody write into an inbox. By the signature the hub and the new member drop at once what is not from
//! the member that the topic names.

use sealcast_identity::{KeyError, PublicKey, SigningKey};

use crate::{CodecError, GroupNumber, Hash, LedgerId, Number, codec::Reader};

const VERSION: u8 = 1;
/// Text at the head of what the member signs.
const LABEL: &[u8] = b"sealcast-welcome-v1";

/// Why bytes are not a member's Welcome for a device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WelcomeError {
    /// They are nothing that could be signed.
    #[error("it cannot be read")]
    Malformed(#[from] CodecError),
    /// The signature is not that key's.
    #[error("the member has not signed it with its present key")]
    Signature,
}

/// Whose Welcome, for whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WelcomeRoute {
    /// The group.
    pub group: GroupNumber,
    /// The new member.
    pub addressee: Number,
    /// The member that made the commit.
    pub committer: Number,
}

impl WelcomeRoute {
    /// `1 | signature (64) | welcome`. The committer signs a label, the ledger's chain id and address, the group, both devices'
    /// numbers, and the SHA-256 of the Welcome.
    ///
    /// # Errors
    /// The key did not sign.
    pub fn sign(&self, welcome: &[u8], key: &SigningKey, ledger: &LedgerId) -> Result<Vec<u8>, KeyError> {
        let signature = key.sign(&self.preimage(welcome, ledger))?;
        Ok([&[VERSION], &signature[..], welcome].concat())
    }

    /// The Welcome in what [`Self::sign`] wrote.
    ///
    /// # Errors
    /// It is too short, or not the committer's by this key, on this way.
    pub fn verify<'a>(&self, bytes: &'a [u8], key: &PublicKey, ledger: &LedgerId) -> Result<&'a [u8], WelcomeError> {
        let [version, signature @ ..] = Reader::new(bytes).array::<65>()?;
        let welcome = bytes.get(1 + signature.len()..).unwrap_or_default();
        let holds = key.verifies(&self.preimage(welcome, ledger), &signature);
        if holds && version == VERSION { Ok(welcome) } else { Err(WelcomeError::Signature) }
    }

    fn preimage(&self, welcome: &[u8], ledger: &LedgerId) -> Vec<u8> {
        let Self { group, addressee, committer } = self;
        let digest = Hash::of(welcome);
        let parts: [&[u8]; 7] = [
            LABEL,
            &ledger.chain_id.to_be_bytes(),
            &ledger.address,
            &group.get().to_be_bytes(),
            addressee.as_bytes(),
            committer.as_bytes(),
            digest.as_bytes(),
        ];
        parts.concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_committers_own_on_its_way_is_taken() {
        let (key, other) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let ledger = LedgerId { chain_id: 5318, address: [7; 20] };
        let number = |byte| Number::from([byte; 20]);
        let route = WelcomeRoute { group: GroupNumber::new(7).unwrap(), addressee: number(1), committer: number(2) };
        let bytes = route.sign(b"welcome", &key, &ledger).unwrap();
        assert_eq!(route.verify(&bytes, key.public(), &ledger), Ok(&b"welcome"[..]));
        for place in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[place] ^= 1;
            assert_eq!(route.verify(&changed, key.public(), &ledger), Err(WelcomeError::Signature), "{place}");
        }
        for (route, key, ledger) in [
            (WelcomeRoute { group: GroupNumber::new(8).unwrap(), ..route }, &key, ledger),
            (WelcomeRoute { addressee: number(3), ..route }, &key, ledger),
            (WelcomeRoute { committer: number(3), ..route }, &key, ledger),
            (route, &other, ledger),
            (route, &key, LedgerId { chain_id: 5319, ..ledger }),
            (route, &key, LedgerId { address: [8; 20], ..ledger }),
        ] {
            assert_eq!(route.verify(&bytes, key.public(), &ledger), Err(WelcomeError::Signature), "{route:?}");
        }
        assert!(matches!(route.verify(&bytes[..64], key.public(), &ledger), Err(WelcomeError::Malformed(_))));
    }
}
