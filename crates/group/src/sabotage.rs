//! MLS cryptography of which a test can spoil parts: the secrets that a commit's path brings to some of the members.
//! Everything else of such a commit is right, its signature and its tags too.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use mls_rs::{CipherSuite, CipherSuiteProvider, CryptoProvider};
use mls_rs_core::crypto::{
    HpkeCiphertext, HpkePsk, HpkePublicKey, HpkeSecretKey, SignaturePublicKey, SignatureSecretKey,
};
use mls_rs_crypto_awslc::{AwsLcCipherSuite, AwsLcCryptoProvider};
use zeroize::Zeroizing;

/// RFC 9420 section 7.6.
const PATH_LABEL: &[u8] = b"MLS 1.0 UpdatePathNode";

type Inner = AwsLcCipherSuite;
type Error = <Inner as CipherSuiteProvider>::Error;

/// Clones share what is to be spoilt.
#[derive(Clone, Default)]
pub(crate) struct Crypto {
    inner: AwsLcCryptoProvider,
    /// A bit for each path secret that is encrypted next, the lowest first: whether it is spoilt.
    spoilt: Arc<AtomicU64>,
}

impl Crypto {
    pub fn new() -> Self {
        Self::default()
    }

    /// Spoils the next path secrets whose bits are set, until it is called with 0.
    pub fn spoil(&self, next: u64) {
        self.spoilt.store(next, Ordering::Relaxed);
    }
}

impl CryptoProvider for Crypto {
    type CipherSuiteProvider = Suite;

    fn supported_cipher_suites(&self) -> Vec<CipherSuite> {
        self.inner.supported_cipher_suites()
    }

    fn cipher_suite_provider(&self, suite: CipherSuite) -> Option<Suite> {
        Some(Suite { inner: self.inner.cipher_suite_provider(suite)?, spoilt: self.spoilt.clone() })
    }
}

#[derive(Clone)]
pub(crate) struct Suite {
    inner: Inner,
    spoilt: Arc<AtomicU64>,
}

macro_rules! hand_on {
    ($(fn $name:ident(&self $(, $arg:ident: $type:ty)*) -> $out:ty;)*) => {
        $(fn $name(&self $(, $arg: $type)*) -> $out { self.inner.$name($($arg),*) })*
    };
}

impl CipherSuiteProvider for Suite {
    type Error = Error;
    type HpkeContextS = <Inner as CipherSuiteProvider>::HpkeContextS;
    type HpkeContextR = <Inner as CipherSuiteProvider>::HpkeContextR;

    fn hpke_seal(
        &self,
        key: &HpkePublicKey,
        info: &[u8],
        aad: Option<&[u8]>,
        plaintext: &[u8],
    ) -> Result<HpkeCiphertext, Error> {
        let mut sealed = self.inner.hpke_seal(key, info, aad, plaintext)?;
        if info.windows(PATH_LABEL.len()).any(|label| label == PATH_LABEL) {
            let spoilt = self.spoilt.load(Ordering::Relaxed);
            self.spoilt.store(spoilt >> 1, Ordering::Relaxed);
            if spoilt & 1 == 1 {
                sealed.ciphertext.iter_mut().for_each(|byte| *byte ^= 1);
            }
        }
        Ok(sealed)
    }

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
        fn sign(&self, key: &SignatureSecretKey, data: &[u8]) -> Result<Vec<u8>, Error>;
        fn verify(&self, key: &SignaturePublicKey, signature: &[u8], data: &[u8]) -> Result<(), Error>;
    }
}
