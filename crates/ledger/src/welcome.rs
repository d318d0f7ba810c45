//! A Welcome on its way to a new member, signed by the member that made the commit.
//!
//! A broker may let anybody write into an inbox. By the signature the hub and the new member drop at once what is not from
//! the member that the topic names. By the height, which is signed too, the hub knows an older one of the same member.

use sealcast_identity::{KeyError, PublicKey, SigningKey};

use crate::{CodecError, GroupNumber, Hash, LedgerId, Number, codec::Reader};

const VERSION: u8 = 1;
/// What stands before the Welcome: version, height, signature.
pub const WELCOME_HEAD_BYTES: usize = 1 + 8 + 64;
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

/// A Welcome, and when it was signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DatedWelcome<'a> {
    /// Entries of the ledger that the committer had read. A Welcome to a later epoch of the group has a greater one: the
    /// commit that began the epoch is among them.
    pub height: u64,
    /// The Welcome.
    pub welcome: &'a [u8],
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
    /// `1 | height u64 | signature (64) | welcome`, big-endian. The committer signs a label, the ledger's chain id and address,
    /// the group, both devices' numbers, the height, and the SHA-256 of the Welcome.
    ///
    /// # Errors
    /// The key did not sign.
    pub fn sign(&self, dated: DatedWelcome<'_>, key: &SigningKey, ledger: &LedgerId) -> Result<Vec<u8>, KeyError> {
        let signature = key.sign(&self.preimage(dated, ledger))?;
        Ok([&[VERSION], &dated.height.to_be_bytes()[..], &signature, dated.welcome].concat())
    }

    /// Reads what [`Self::sign`] wrote.
    ///
    /// # Errors
    /// It is too short, or not the committer's by this key, on this way; or the signature was changed into its other form
    /// ([`PublicKey::verifies_low_s`]).
    pub fn verify<'a>(
        &self,
        bytes: &'a [u8],
        key: &PublicKey,
        ledger: &LedgerId,
    ) -> Result<DatedWelcome<'a>, WelcomeError> {
        let mut reader = Reader::new(bytes);
        let ([version], height, signature) = (reader.array()?, reader.u64()?, reader.array()?);
        let dated = DatedWelcome { height, welcome: bytes.get(WELCOME_HEAD_BYTES..).unwrap_or_default() };
        let holds = key.verifies_low_s(&self.preimage(dated, ledger), &signature);
        if holds && version == VERSION { Ok(dated) } else { Err(WelcomeError::Signature) }
    }

    fn preimage(&self, dated: DatedWelcome<'_>, ledger: &LedgerId) -> Vec<u8> {
        let Self { group, addressee, committer } = self;
        let digest = Hash::of(dated.welcome);
        let parts: [&[u8]; 8] = [
            LABEL,
            &ledger.chain_id.to_be_bytes(),
            &ledger.address,
            &group.get().to_be_bytes(),
            addressee.as_bytes(),
            committer.as_bytes(),
            &dated.height.to_be_bytes(),
            digest.as_bytes(),
        ];
        parts.concat()
    }
}

#[cfg(test)]
mod tests {
    use sealcast_identity::other_form;

    use super::*;

    #[test]
    fn only_the_committers_own_on_its_way_is_taken() {
        let (key, other) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let ledger = LedgerId { chain_id: 5318, address: [7; 20] };
        let number = |byte| Number::from([byte; 20]);
        let route = WelcomeRoute { group: GroupNumber::new(7).unwrap(), addressee: number(1), committer: number(2) };
        let dated = DatedWelcome { height: 300, welcome: b"welcome" };
        let bytes = route.sign(dated, &key, &ledger).unwrap();
        assert_eq!(bytes[..9], [1, 0, 0, 0, 0, 0, 0, 1, 44]);
        assert_eq!(route.verify(&bytes, key.public(), &ledger), Ok(dated));
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
        let mut malleated = bytes.clone();
        let signature: &mut [u8; 64] = malleated[9..].first_chunk_mut().unwrap();
        *signature = other_form(signature);
        assert_eq!(route.verify(&malleated, key.public(), &ledger), Err(WelcomeError::Signature));
        assert!(matches!(route.verify(&bytes[..72], key.public(), &ledger), Err(WelcomeError::Malformed(_))));
    }
}
