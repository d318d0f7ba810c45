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
use sealcast_identity::SigningKey;
use zeroize::Zeroizing;

use crate::crypto::{self, hand_most_on, hand_on};

/// RFC 9420 section 7.6.
const PATH_LABEL: &[u8] = b"MLS 1.0 UpdatePathNode";

type Inner = crypto::Suite;
type Error = <Inner as CipherSuiteProvider>::Error;

/// Clones share what is to be spoilt.
#[derive(Clone)]
pub(crate) struct Crypto {
    inner: crypto::Crypto,
    /// A bit for each path secret that is encrypted next, the lowest first: whether it is spoilt.
    spoilt: Arc<AtomicU64>,
}

impl Crypto {
    pub fn new(key: SigningKey) -> Self {
        Self { inner: crypto::Crypto::new(key), spoilt: Arc::default() }
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

    hand_most_on!();
    hand_on! {
        fn sign(&self, key: &SignatureSecretKey, data: &[u8]) -> Result<Vec<u8>, Error>;
    }
}
