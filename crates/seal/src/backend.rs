//! SFrame's key derivation and AEAD (RFC 9605 §4.4) on aws-lc, as a backend of the sframe crate.
//!
//! The crate's own backends bring ring, OpenSSL or RustCrypto; this one keeps a single crypto library linked. Its secret
//! is the expanded AES key, so that the key schedule is paid once per key and not, as there, once per frame.

use aws_lc_rs::{
    aead::{AES_128_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hkdf::{HKDF_SHA256, KeyType, Salt},
};
use sframe::{
    CipherSuite,
    crypto::{
        AeadDecrypt, AeadEncrypt, DecryptionBufferView, EncryptionBufferView, KeyDerivation, get_hkdf_key_expand_label,
        get_hkdf_salt_expand_label,
    },
    error::{Result, SframeError},
    header::{Counter, KeyId},
    key::{GenericDecryptionKey, GenericEncryptionKey},
};
use zeroize::Zeroizing;

use crate::header::TAG_BYTES;

/// AES_128_GCM_SHA256_128 (RFC 9605 §8.1), the only suite of the envelope.
pub(crate) const SUITE: CipherSuite = CipherSuite::AesGcm128Sha256;

pub(crate) type EncryptionKey = GenericEncryptionKey<Aead, Kdf>;
pub(crate) type DecryptionKey = GenericDecryptionKey<Aead, Kdf>;

/// An AES-128-GCM key, ready to use, and the salt of its nonces. aws-lc wipes the key when it is freed.
pub(crate) struct Secret {
    key: LessSafeKey,
    salt: Zeroizing<[u8; NONCE_LEN]>,
}

impl Secret {
    /// RFC 9605 §4.4.3: the salt XOR the counter, big-endian.
    fn nonce(&self, counter: Counter) -> Nonce {
        let [a, b, c, d, low @ ..] = *self.salt;
        let [e, f, g, h, i, j, k, l] = (u64::from_be_bytes(low) ^ counter).to_be_bytes();
        Nonce::assume_unique_for_key([a, b, c, d, e, f, g, h, i, j, k, l])
    }
}

/// AES-128-GCM.
pub(crate) struct Aead;

impl TryFrom<CipherSuite> for Aead {
    type Error = SframeError;

    fn try_from(suite: CipherSuite) -> Result<Self> {
        if suite == SUITE { Ok(Self) } else { Err(SframeError::UnsupportedCipherSuite) }
    }
}

impl AeadEncrypt for Aead {
    type Secret = Secret;

    #[inline]
    fn encrypt<'a, B: Into<EncryptionBufferView<'a>>>(
        &self,
        secret: &Secret,
        buffer: B,
        counter: Counter,
    ) -> Result<()> {
        let EncryptionBufferView { aad, data, tag } = buffer.into();
        let sealed = secret
            .key
            .seal_in_place_separate_tag(secret.nonce(counter), Aad::from(aad), data)
            .map_err(|_| SframeError::EncryptionFailure)?;
        if tag.len() != sealed.as_ref().len() {
            return Err(SframeError::EncryptionFailure);
        }
        tag.copy_from_slice(sealed.as_ref());
        Ok(())
    }
}

impl AeadDecrypt for Aead {
    type Secret = Secret;

    #[inline]
    fn decrypt<'a, B: Into<DecryptionBufferView<'a>>>(
        &self,
        secret: &Secret,
        buffer: B,
        counter: Counter,
    ) -> Result<()> {
        let DecryptionBufferView { aad, data } = buffer.into();
        let Some((data, tag)) = data.split_last_chunk_mut::<TAG_BYTES>() else {
            return Err(SframeError::DecryptionFailure);
        };
        // With the tag apart, as the other call moves the whole plaintext onto itself afterwards.
        secret
            .key
            .open_in_place_separate_tag(secret.nonce(counter), Aad::from(aad), tag, data)
            .map(|_| ())
            .map_err(|_| SframeError::DecryptionFailure)
    }
}

/// HKDF-SHA256.
pub(crate) struct Kdf;

impl KeyDerivation for Kdf {
    type Secret = Secret;

    fn expand_from<M: AsRef<[u8]>, K: Into<KeyId>>(suite: CipherSuite, material: M, key_id: K) -> Result<Secret> {
        if suite != SUITE {
            return Err(SframeError::UnsupportedCipherSuite);
        }
        let key_id = key_id.into();
        let prk = Salt::new(HKDF_SHA256, b"").extract(material.as_ref());
        let expand = |label: &[u8], out: &mut [u8]| {
            prk.expand(&[label], Bytes(out.len()))
                .and_then(|okm| okm.fill(out))
                .map_err(|_| SframeError::KeyDerivationFailure)
        };
        let mut key = Zeroizing::new([0; 16]);
        expand(&get_hkdf_key_expand_label(key_id, suite), key.as_mut())?;
        let mut salt = Zeroizing::new([0; NONCE_LEN]);
        expand(&get_hkdf_salt_expand_label(key_id, suite), salt.as_mut())?;
        let key = UnboundKey::new(&AES_128_GCM, key.as_ref()).map_err(|_| SframeError::KeyDerivationFailure)?;
        Ok(Secret { key: LessSafeKey::new(key), salt })
    }
}

/// How many bytes to expand to.
struct Bytes(usize);

impl KeyType for Bytes {
    fn len(&self) -> usize {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 9605, Appendix C.3, AES_128_GCM_SHA256_128.
    #[test]
    fn agrees_with_the_rfcs_test_vector() -> std::result::Result<(), Box<dyn std::error::Error>> {
        use sframe::header::SframeHeader;

        let hex = |text: &str| -> Vec<u8> {
            (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).expect("hex")).collect()
        };
        let base_key = hex("000102030405060708090a0b0c0d0e0f");
        let (key_id, counter) = (0x123u64, 0x4567);
        let metadata = hex("4945544620534672616d65205747");
        let plaintext = hex("64726166742d696574662d736672616d652d656e63");
        let frame = hex("9901234567b7412c2513a1b66dbb48841bbaf17f598751176ad847681a69c6d0b091c07018ce4adb34eb");

        let secret = Kdf::expand_from(SUITE, &base_key, key_id)?;
        assert_eq!(secret.salt.as_slice(), hex("75234edefe07819026751816"));
        assert_eq!(secret.nonce(counter).as_ref(), hex("75234edefe07819026755d71").as_slice());

        let mut header = vec![0; 5];
        SframeHeader::new(key_id, counter).serialize(&mut header)?;
        let mut aad = [&header[..], &metadata].concat();
        let mut data = plaintext.clone();
        let mut tag = [0; 16];
        let key = EncryptionKey::derive_from(SUITE, key_id, &base_key)?;
        key.encrypt(EncryptionBufferView { aad: &mut aad, data: &mut data, tag: &mut tag }, counter)?;
        assert_eq!([&header[..], &data, &tag].concat(), frame);

        let key = DecryptionKey::derive_from(SUITE, key_id, &base_key)?;
        let mut data = frame[5..].to_vec();
        key.decrypt(DecryptionBufferView { aad: &mut aad, data: &mut data }, counter)?;
        assert_eq!(data[..plaintext.len()], plaintext);
        Ok(())
    }
}
