//! The MLS library's cryptography: aws-lc's, except for signing. The device's key signs where it is, in this process or in a
//! token, and neither the library nor what it has stored of a group ever holds it.

use mls_rs::{CipherSuite, CipherSuiteProvider, CryptoProvider};
use mls_rs_core::crypto::{
    HpkeCiphertext, HpkePsk, HpkePublicKey, HpkeSecretKey, SignaturePublicKey, SignatureSecretKey,
};
use mls_rs_crypto_awslc::{AwsLcCipherSuite, AwsLcCryptoError, AwsLcCryptoProvider};
use sealcast_identity::{SigningKey, signature_to_der};
use zeroize::Zeroizing;

type Inner = AwsLcCipherSuite;
type Error = AwsLcCryptoError;

#[derive(Clone)]
pub(crate) struct Crypto {
    inner: AwsLcCryptoProvider,
    key: SigningKey,
}

impl Crypto {
    /// Signs with `key`, whatever key the library names.
    pub fn new(key: SigningKey) -> Self {
        Self { inner: AwsLcCryptoProvider::default(), key }
    }
}

/// What the library is given, and hands back, in the place of a secret key.
pub(crate) fn no_secret() -> SignatureSecretKey {
    SignatureSecretKey::new(b"not here".to_vec())
}

impl CryptoProvider for Crypto {
    type CipherSuiteProvider = Suite;

    fn supported_cipher_suites(&self) -> Vec<CipherSuite> {
        self.inner.supported_cipher_suites()
    }

    fn cipher_suite_provider(&self, suite: CipherSuite) -> Option<Suite> {
        Some(Suite { inner: self.inner.cipher_suite_provider(suite)?, key: self.key.clone() })
    }
}

#[derive(Clone)]
pub(crate) struct Suite {
    inner: Inner,
    key: SigningKey,
}

macro_rules! hand_on {
    ($(fn $name:ident(&self $(, $arg:ident: $type:ty)*) -> $out:ty;)*) => {
        $(fn $name(&self $(, $arg: $type)*) -> $out { self.inner.$name($($arg),*) })*
    };
}

/// All that a cipher suite does, except `hpke_seal` and `sign`.
macro_rules! hand_most_on {
    () => {
        hand_on! {
            fn cipher_suite(&self) -> CipherSuite;
            fn hash(&self, data: &[u8]) -> Result<Vec<u8>, Error>;
            fn mac(&self, key: &[u8], data: &[u8]) -> Result<Vec<u8>, Error>;
            fn aead_seal(&self, key: &[u8], data: &[u8], aad: Option<&[u8]>, nonce: &[u8]) -> Result<Vec<u8>, Error>;
            fn aead_open(&self, key: &[u8], data: &[u8], aad: Option<&[u8]>, nonce: &[u8])
                -> Result<Zeroizing<Vec<u8>>, Error>;
            fn aead_key_size(&self) -> usize;
            fn aead_nonce_size(&self) -> usize;
            fn kdf_extract(&self, salt: &[u8], ikm: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error>;
            fn kdf_expand(&self, prk: &[u8], info: &[u8], len: usize) -> Result<Zeroizing<Vec<u8>>, Error>;
            fn kdf_extract_size(&self) -> usize;
            fn hpke_seal_psk(
                &self, key: &HpkePublicKey, info: &[u8], aad: Option<&[u8]>, plaintext: &[u8], psk: HpkePsk<'_>
            ) -> Result<HpkeCiphertext, Error>;
            fn hpke_open(
                &self, sealed: &HpkeCiphertext, secret: &HpkeSecretKey, key: &HpkePublicKey, info: &[u8],
                aad: Option<&[u8]>
            ) -> Result<Zeroizing<Vec<u8>>, Error>;
            fn hpke_open_psk(
                &self, sealed: &HpkeCiphertext, secret: &HpkeSecretKey, key: &HpkePublicKey, info: &[u8],
                aad: Option<&[u8]>, psk: HpkePsk<'_>
            ) -> Result<Zeroizing<Vec<u8>>, Error>;
            fn hpke_setup_s(&self, key: &HpkePublicKey, info: &[u8]) -> Result<(Vec<u8>, Self::HpkeContextS), Error>;
            fn hpke_setup_r(&self, output: &[u8], secret: &HpkeSecretKey, key: &HpkePublicKey, info: &[u8])
                -> Result<Self::HpkeContextR, Error>;
            fn kem_derive(&self, ikm: &[u8]) -> Result<(HpkeSecretKey, HpkePublicKey), Error>;
            fn kem_generate(&self) -> Result<(HpkeSecretKey, HpkePublicKey), Error>;
            fn kem_public_key_validate(&self, key: &HpkePublicKey) -> Result<(), Error>;
            fn random_bytes(&self, out: &mut [u8]) -> Result<(), Error>;
            fn signature_key_generate(&self) -> Result<(SignatureSecretKey, SignaturePublicKey), Error>;
            fn signature_key_derive_public(&self, key: &SignatureSecretKey) -> Result<SignaturePublicKey, Error>;
            fn verify(&self, key: &SignaturePublicKey, signature: &[u8], data: &[u8]) -> Result<(), Error>;
        }
    };
}
#[cfg(test)]
pub(crate) use {hand_most_on, hand_on};

impl CipherSuiteProvider for Suite {
    type Error = Error;
    type HpkeContextS = <Inner as CipherSuiteProvider>::HpkeContextS;
    type HpkeContextR = <Inner as CipherSuiteProvider>::HpkeContextR;

    hand_most_on!();
    hand_on! {
        fn hpke_seal(&self, key: &HpkePublicKey, info: &[u8], aad: Option<&[u8]>, plaintext: &[u8])
            -> Result<HpkeCiphertext, Error>;
    }

    fn sign(&self, _: &SignatureSecretKey, data: &[u8]) -> Result<Vec<u8>, Error> {
        // Why a token does not sign is in the log.
        let signature = self.key.sign(data).map_err(|_| Error::CryptoError)?;
        signature_to_der(&signature).map_err(|_| Error::CryptoError)
    }
}
