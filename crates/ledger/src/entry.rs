//! An entry and its signature.

use std::fmt;

use sealcast_identity::{KeyError, PublicKey, Signature, SigningKey};

use crate::{
    Body, CodecError, Hash, Kind, LedgerId, MAX_BODY_BYTES, Number, Refusal, codec::Reader, text::check_length,
};

/// Text at the head of what an originator signs.
const LABEL: &[u8] = b"sealcast-entry-v1";
/// Version of the binary form.
const VERSION: u8 = 1;

/// Why an entry could not be signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The ledger would never take it.
    #[error("the ledger would refuse the entry")]
    Refused(#[from] Refusal),
    /// The key did not sign.
    #[error("the entry could not be signed")]
    Key(#[from] KeyError),
}

/// An entry as its originator signed it. Its body is well formed; whether the signature is good, and the originator may
/// say this now, is for the contract and the [`Replica`](crate::Replica) to decide.
#[derive(Clone, PartialEq, Eq)]
pub struct SignedEntry {
    originator: Number,
    nonce: u64,
    body: Body,
    signature: Signature,
    /// The body's encoding, which was signed.
    encoded: Vec<u8>,
}

impl fmt::Debug for SignedEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SignedEntry({} #{}: {:?})", self.originator, self.nonce, self.body)
    }
}

impl Body {
    /// Signs an entry. `originator` is the signer's number on that ledger and `nonce` its next, see
    /// [`Replica::next_nonce`](crate::Replica::next_nonce).
    pub fn sign(
        &self,
        key: &SigningKey,
        originator: Number,
        nonce: u64,
        ledger: &LedgerId,
    ) -> Result<SignedEntry, SignError> {
        let encoded = self.encode()?;
        let signature = key.sign(&preimage(self.kind(), originator, nonce, &encoded, ledger))?;
        Ok(SignedEntry { originator, nonce, body: self.clone(), signature, encoded })
    }
}

impl SignedEntry {
    /// From the arguments of the contract's `submit`, or the fields of its event. Refuses a body that the contract
    /// would refuse for its own sake. Does not check the signature.
    pub fn from_parts(
        kind: u8,
        originator: Number,
        nonce: u64,
        body: &[u8],
        signature: &[u8],
    ) -> Result<Self, Refusal> {
        check_length("body", body.len(), 0, MAX_BODY_BYTES)?;
        check_length("signature", signature.len(), 64, 64)?;
        let signature = signature.try_into().map_err(|_| Refusal::BadSignature)?;
        let decoded = Body::decode(Kind::try_from(kind)?, body)?;
        Ok(Self { originator, nonce, body: decoded, signature, encoded: body.to_vec() })
    }

    /// Who signed it.
    #[must_use]
    pub fn originator(&self) -> Number {
        self.originator
    }

    /// The originator's count of its entries.
    #[must_use]
    pub fn nonce(&self) -> u64 {
        self.nonce
    }

    /// What kind it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.body.kind()
    }

    /// What it says.
    #[must_use]
    pub fn body(&self) -> &Body {
        &self.body
    }

    /// What it says, as `abi.encode`d for the contract.
    #[must_use]
    pub fn encoded_body(&self) -> &[u8] {
        &self.encoded
    }

    /// ECDSA P-256, `r || s`.
    #[must_use]
    pub fn signature(&self) -> &Signature {
        &self.signature
    }

    /// SHA-256 of what was signed, which goes into the ledger's head.
    #[must_use]
    pub fn digest(&self, ledger: &LedgerId) -> Hash {
        Hash::of(&self.preimage(ledger))
    }

    /// Whether `key` signed it for `ledger`.
    #[must_use]
    pub fn is_signed_by(&self, key: &PublicKey, ledger: &LedgerId) -> bool {
        key.verifies(&self.preimage(ledger), &self.signature)
    }

    fn preimage(&self, ledger: &LedgerId) -> Vec<u8> {
        preimage(self.kind(), self.originator, self.nonce, &self.encoded, ledger)
    }

    /// The binary form: version 1 (u8), kind (u8), originator (20), nonce (u64), body length (u32), body,
    /// signature (64); integers big-endian.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(1 + 1 + 20 + 8 + 4 + self.encoded.len() + 64);
        self.encode_into(&mut out);
        out
    }

    pub(crate) fn encode_into(&self, out: &mut Vec<u8>) {
        out.extend([VERSION, self.kind().number()]);
        out.extend(self.originator.as_bytes());
        out.extend(self.nonce.to_be_bytes());
        // Never longer than `MAX_BODY_BYTES`, which both constructors check.
        out.extend((self.encoded.len() as u32).to_be_bytes());
        out.extend(&self.encoded);
        out.extend(self.signature);
    }

    /// Reads what [`encode`](Self::encode) wrote, all of it.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut reader = Reader::new(bytes);
        let entry = Self::decode_from(&mut reader)?;
        reader.end()?;
        Ok(entry)
    }

    pub(crate) fn decode_from(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        reader.version(VERSION)?;
        let kind = reader.u8()?;
        let originator = Number::from(reader.array()?);
        let nonce = reader.u64()?;
        let length = reader.u32()? as usize;
        check_length("body", length, 0, MAX_BODY_BYTES)?;
        let body = reader.bytes(length)?;
        let signature: Signature = reader.array()?;
        Ok(Self::from_parts(kind, originator, nonce, body, &signature)?)
    }
}

fn preimage(kind: Kind, originator: Number, nonce: u64, body: &[u8], ledger: &LedgerId) -> Vec<u8> {
    [
        LABEL,
        &ledger.chain_id.to_be_bytes(),
        &ledger.address,
        &[kind.number()],
        originator.as_bytes(),
        &nonce.to_be_bytes(),
        body,
    ]
    .concat()
}
