//! The bare cryptography of a frame, for measuring what the envelope costs on top of it.

use aws_lc_rs::{
    aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    error::Unspecified,
};
use sealcast_identity::{KeyError, Signature, SigningKey, VerifyingKey};

use crate::{
    header::{GroupNumber, KeyId, LeafIndex, Start, ctr, write_header},
    plaintext::write_aad,
};

/// AES-128-GCM over a buffer of one size, with or without a P-256 signature of it.
pub struct Raw {
    key: LessSafeKey,
    signer: Option<(SigningKey, VerifyingKey, Signature)>,
    aad: Vec<u8>,
    plain: Vec<u8>,
    sealed: Vec<u8>,
    counter: u64,
}

impl Raw {
    /// For `bytes` of payload, under keys of its own.
    pub fn new(bytes: usize, signed: bool) -> Result<Self, KeyError> {
        Self::with_aad(Vec::new(), bytes, signed)
    }

    /// The same with the additional data that a frame on `topic` authenticates: its header and its topic.
    pub fn on_topic(topic: &str, bytes: usize, signed: bool) -> Result<Self, KeyError> {
        let (mut header, mut aad) = (Vec::new(), Vec::new());
        let key_id = KeyId::new(Start::LARGEST, LeafIndex::FIRST, 1);
        write_header(key_id, ctr(u64::MAX, 1000), &mut header);
        write_aad(&header, header.len(), GroupNumber(1), topic, &mut aad);
        Self::with_aad(aad, bytes, signed)
    }

    fn with_aad(aad: Vec<u8>, bytes: usize, signed: bool) -> Result<Self, KeyError> {
        let plain = vec![0x55; bytes];
        let signer = if signed {
            let key = SigningKey::generate()?;
            let verifying = VerifyingKey::new(*key.public())?;
            let signature = key.sign(&plain)?;
            Some((key, verifying, signature))
        } else {
            None
        };
        let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &[7; 16])?);
        let mut sealed = plain.clone();
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key([0; 12]), Aad::from(&aad), &mut sealed)?;
        Ok(Self { key, signer, aad, plain, sealed, counter: 0 })
    }

    /// What sealing cannot do without: one copy into a buffer, a signature, the AEAD.
    pub fn seal(&mut self) -> Result<Vec<u8>, KeyError> {
        self.counter += 1;
        let mut nonce = [1; 12];
        nonce[4..].copy_from_slice(&self.counter.to_be_bytes());
        let mut out = Vec::with_capacity(self.plain.len() + 80);
        out.extend_from_slice(&self.plain);
        if let Some((key, _, _)) = &self.signer {
            let signature = key.sign(&self.plain)?;
            out.extend_from_slice(&signature);
        }
        self.key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(&self.aad), &mut out)?;
        Ok(out)
    }

    /// What opening cannot do without: one copy into a buffer, the AEAD, a verification.
    pub fn open(&self) -> Result<Vec<u8>, KeyError> {
        let mut out = self.sealed.clone();
        let nonce = Nonce::assume_unique_for_key([0; 12]);
        let len = self.key.open_in_place(nonce, Aad::from(&self.aad), &mut out)?.len();
        out.truncate(len);
        match &self.signer {
            Some((_, key, signature)) if !key.verifies(&out, signature) => Err(Unspecified.into()),
            _ => Ok(out),
        }
    }
}
