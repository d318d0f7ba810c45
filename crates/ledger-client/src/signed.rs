//! Answers that the hub has signed. Whoever carries the calls may let anybody answer them, and "there are no more records"
//! must not be anybody's to say.
//!
//! `1 | length of the chain u16 | chain | signature (64) | answer`; the chain is certificates, each behind its length (u16),
//! big-endian. The hub's key signs a label, the ledger's chain id and address, the node's name behind its length (u16), and
//! the answer, which has the call's id in it.

use std::sync::{Mutex, PoisonError};

use sealcast_identity::{KeyError, PublicKey, Signature, SigningKey, TrustAnchor, TrustError, VerifiedClient};
use sealcast_ledger::LedgerId;

const VERSION: u8 = 1;
/// Text at the head of what the hub signs.
const LABEL: &[u8] = b"sealcast-answer-v1";
/// A chain that was verified is good for so long without looking again.
const GOOD_FOR_MS: u64 = 60_000;

/// Why bytes are not an answer of this network's hub to this node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// They are cut off, or of another version.
    #[error("it is not a signed answer")]
    Malformed,
    /// The certificate does not lead to the network's root.
    #[error("its certificate is not accepted")]
    Trust(#[from] TrustError),
    /// The certificate is a device's or the operator's.
    #[error("its certificate is not the hub's")]
    NotHub,
    /// Somebody else has signed it, or it is for another node.
    #[error("the hub has not signed it for this node")]
    Signature,
}

/// The hub's side.
pub struct AnswerSigner {
    ledger: LedgerId,
    key: SigningKey,
    chain: Vec<u8>,
}

impl AnswerSigner {
    /// `chain`: the hub's certificate for its key and those above it, DER, leaf first, without the root.
    pub fn new(ledger: LedgerId, key: SigningKey, chain: &[Vec<u8>]) -> Self {
        Self { ledger, key, chain: chain.iter().flat_map(|der| with_length(der)).collect() }
    }

    /// An answer for a node.
    ///
    /// # Errors
    /// The key did not sign.
    pub fn sign(&self, node: &str, answer: &[u8]) -> Result<Vec<u8>, KeyError> {
        let signature = self.key.sign(&preimage(&self.ledger, node, answer))?;
        Ok([&[VERSION], &*with_length(&self.chain), &signature, answer].concat())
    }
}

/// A node's side.
pub struct AnswerVerifier {
    ledger: LedgerId,
    node: String,
    anchor: TrustAnchor,
    /// The chain of the last answer, its key, and when it was verified.
    known: Mutex<Option<(Vec<u8>, PublicKey, u64)>>,
}

impl AnswerVerifier {
    /// For the calls of `node` on this ledger, whose hub's certificate leads to `anchor`.
    pub fn new(ledger: LedgerId, node: &str, anchor: TrustAnchor) -> Self {
        Self { ledger, node: node.to_owned(), anchor, known: Mutex::new(None) }
    }

    /// The answer in what [`AnswerSigner::sign`] wrote, at this time.
    ///
    /// # Errors
    /// It is not the hub's.
    pub fn verify<'a>(&self, bytes: &'a [u8], now_ms: u64) -> Result<&'a [u8], AnswerError> {
        let (version, rest) = bytes.split_first().ok_or(AnswerError::Malformed)?;
        let (chain, rest) = part(rest).filter(|_| *version == VERSION).ok_or(AnswerError::Malformed)?;
        let (signature, answer): (&Signature, _) = rest.split_first_chunk().ok_or(AnswerError::Malformed)?;
        let key = self.key(chain, now_ms)?;
        let holds = key.verifies(&preimage(&self.ledger, &self.node, answer), signature);
        if holds { Ok(answer) } else { Err(AnswerError::Signature) }
    }

    /// The key of a chain that is the hub's.
    fn key(&self, chain: &[u8], now_ms: u64) -> Result<PublicKey, AnswerError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((verified, key, at_ms)) = &*known
            && verified == chain
            && now_ms.checked_sub(*at_ms).is_some_and(|age_ms| age_ms < GOOD_FOR_MS)
        {
            return Ok(*key);
        }
        let mut certificates = Vec::new();
        let mut rest = chain;
        while !rest.is_empty() {
            let (der, after) = part(rest).ok_or(AnswerError::Malformed)?;
            certificates.push(der);
            rest = after;
        }
        let VerifiedClient::Hub(leaf) = self.anchor.verify_client(&certificates, now_ms)? else {
            return Err(AnswerError::NotHub);
        };
        *known = Some((chain.to_vec(), *leaf.public_key(), now_ms));
        Ok(*leaf.public_key())
    }
}

fn preimage(ledger: &LedgerId, node: &str, answer: &[u8]) -> Vec<u8> {
    [LABEL, &ledger.chain_id.to_be_bytes(), &ledger.address, &with_length(node.as_bytes()), answer].concat()
}

fn with_length(part: &[u8]) -> Vec<u8> {
    // Names and certificate chains are far below 64 KiB.
    let length = u16::try_from(part.len()).unwrap_or(u16::MAX).to_be_bytes();
    [&length[..], part].concat()
}

fn part(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sealcast_identity::{Authority, Root};

    use super::*;

    const NOW_MS: u64 = 1_767_225_600_000;
    const DAY: Duration = Duration::from_secs(86_400);
    const LEDGER: LedgerId = LedgerId { chain_id: 5318, address: [7; 20] };

    fn authority() -> Authority {
        Root::create("test", NOW_MS, 3650 * DAY).unwrap().create_authority("test", NOW_MS, 3000 * DAY).unwrap()
    }

    fn signer(authority: &Authority, as_hub: bool) -> AnswerSigner {
        let key = SigningKey::generate().unwrap();
        let issued = match as_hub {
            true => authority.issue_hub_client(key.public(), NOW_MS, 30 * DAY),
            false => authority.issue_device(&"1112".parse().unwrap(), key.public(), NOW_MS, 30 * DAY),
        };
        let chain = issued.unwrap().chain().map(|certificate| certificate.der().to_vec());
        AnswerSigner::new(LEDGER, key, &chain)
    }

    #[test]
    fn only_the_hubs_answer_to_this_node_is_taken() {
        let authority = authority();
        let anchor = TrustAnchor::new(authority.root().clone()).unwrap();
        let verifier = AnswerVerifier::new(LEDGER, "1111", anchor);
        let read = |bytes: &[u8]| verifier.verify(bytes, NOW_MS).map(<[u8]>::to_vec);
        let (hub, device) = (signer(&authority, true), signer(&authority, false));
        let bytes = hub.sign("1111", b"{}").unwrap();
        for _ in 0..2 {
            assert_eq!(read(&bytes).as_deref(), Ok(&b"{}"[..]));
            for place in 0..bytes.len() {
                let mut changed = bytes.clone();
                changed[place] ^= 1;
                assert!(read(&changed).is_err(), "{place}");
            }
        }
        assert_eq!(read(&hub.sign("1112", b"{}").unwrap()), Err(AnswerError::Signature));
        assert_eq!(read(&device.sign("1111", b"{}").unwrap()), Err(AnswerError::NotHub));
        let foreign = signer(&super::tests::authority(), true).sign("1111", b"{}").unwrap();
        assert!(matches!(read(&foreign), Err(AnswerError::Trust(_))));
        let elsewhere = AnswerSigner { ledger: LedgerId { chain_id: 1, ..LEDGER }, ..hub };
        assert_eq!(read(&elsewhere.sign("1111", b"{}").unwrap()), Err(AnswerError::Signature));
        for length in 0..bytes.len() - 2 {
            assert!(read(&bytes[..length]).is_err(), "{length}");
        }
        let late_ms = NOW_MS + 31 * 86_400_000;
        assert!(matches!(verifier.verify(&bytes, late_ms), Err(AnswerError::Trust(TrustError::Expired { .. }))));
    }
}
