use std::{fmt, sync::Arc};

use aws_lc_rs::{
    digest,
    encoding::{AsBigEndian as _, EcPrivateKeyBin},
    error::Unspecified,
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, ParsedPublicKey,
        UnparsedPublicKey,
    },
};
use zeroize::Zeroizing;

/// ECDSA P-256 over SHA-256, `r || s`, 32 bytes each, big-endian. Not unique: `(r, -s)` verifies too.
pub type Signature = [u8; 64];

/// Why a key could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Not a PKCS#8 P-256 private key.
    #[error("not a P-256 private key in PKCS#8: {0}")]
    Private(&'static str),
    /// Not an uncompressed point on P-256.
    #[error("not a P-256 public key (64 bytes x || y on the curve)")]
    Public,
    /// A file asks for more work than any machine should do for a passphrase.
    #[error("its encryption asks for more memory or time than is allowed: is the file damaged?")]
    Work,
    /// The crypto library refused, which it does only when it is out of memory or entropy.
    #[error("the crypto library failed")]
    Library,
}

impl From<Unspecified> for KeyError {
    fn from(_: Unspecified) -> Self {
        Self::Library
    }
}

/// A P-256 private key: the one key of a node, for its certificate, its MLS leaf and its ledger entries. Clones share it.
#[derive(Clone)]
pub struct SigningKey(Arc<Secret>);

struct Secret {
    pair: EcdsaKeyPair,
    pkcs8: Zeroizing<Vec<u8>>,
    public: PublicKey,
    random: SystemRandom,
}

impl SigningKey {
    /// A new key from the crypto library's generator.
    pub fn generate() -> Result<Self, KeyError> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?;
        let pkcs8 = Zeroizing::new(pair.to_pkcs8v1()?.as_ref().to_vec());
        Self::from_pair(pair, pkcs8)
    }

    /// Reads PKCS#8 DER (RFC 5958), version 1 or 2.
    pub fn from_pkcs8_der(der: &[u8]) -> Result<Self, KeyError> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der)
            .map_err(|e| KeyError::Private(e.description_()))?;
        Self::from_pair(pair, Zeroizing::new(der.to_vec()))
    }

    fn from_pair(pair: EcdsaKeyPair, pkcs8: Zeroizing<Vec<u8>>) -> Result<Self, KeyError> {
        let public = PublicKey::from_uncompressed(pair.public_key().as_ref())?;
        Ok(Self(Arc::new(Secret { pair, pkcs8, public, random: SystemRandom::new() })))
    }

    /// The key as PKCS#8 DER.
    pub fn to_pkcs8_der(&self) -> &Zeroizing<Vec<u8>> {
        &self.0.pkcs8
    }

    /// The private scalar, 32 bytes big-endian, as MLS libraries want it.
    pub fn scalar(&self) -> Result<Zeroizing<[u8; 32]>, KeyError> {
        let bytes: EcPrivateKeyBin<'static> = self.0.pair.private_key().as_be_bytes()?;
        let scalar = bytes.as_ref().try_into().map_err(|_| KeyError::Library)?;
        Ok(Zeroizing::new(scalar))
    }

    /// The public half.
    pub fn public(&self) -> &PublicKey {
        &self.0.public
    }

    /// ECDSA over SHA-256 of `message`.
    pub fn sign(&self, message: &[u8]) -> Result<Signature, KeyError> {
        let signature = self.0.pair.sign(&self.0.random, message)?;
        signature.as_ref().try_into().map_err(|_| KeyError::Library)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("public", self.public()).finish_non_exhaustive()
    }
}

/// A P-256 public key: the affine coordinates `x || y`, 32 bytes each, big-endian.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; 64]);

impl PublicKey {
    /// From `x || y`. Refuses what is not a point on the curve.
    pub fn from_xy(xy: [u8; 64]) -> Result<Self, KeyError> {
        let key = Self(xy);
        ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.to_uncompressed()).map_err(|_| KeyError::Public)?;
        Ok(key)
    }

    /// From the uncompressed SEC1 form, `0x04 || x || y`.
    pub fn from_uncompressed(sec1: &[u8]) -> Result<Self, KeyError> {
        match sec1 {
            [0x04, xy @ ..] => Self::from_xy(xy.try_into().map_err(|_| KeyError::Public)?),
            _ => Err(KeyError::Public),
        }
    }

    /// The uncompressed SEC1 form, `0x04 || x || y`, 65 bytes.
    pub fn to_uncompressed(&self) -> [u8; 65] {
        let mut sec1 = [0x04; 65];
        sec1[1..].copy_from_slice(&self.0);
        sec1
    }

    /// `x || y`, 64 bytes, as the ledger's contract takes it.
    pub fn xy(&self) -> &[u8; 64] {
        &self.0
    }

    /// Whether `signature` is this key's over SHA-256 of `message`.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &Signature) -> bool {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.to_uncompressed()).verify(message, signature).is_ok()
    }

    /// SHA-256 of `x || y`: what a person compares, in part, as hex.
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut out = [0; 32];
        out.copy_from_slice(digest::digest(&digest::SHA256, &self.0).as_ref());
        out
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fingerprint = self.fingerprint();
        write!(f, "PublicKey({})", hex::encode(&fingerprint[..8]))
    }
}

/// A [`PublicKey`] parsed once, for whoever verifies many signatures of one key: parsing, with its check that the point
/// is on the curve, is then paid once and not per signature.
#[derive(Clone)]
pub struct VerifyingKey {
    public: PublicKey,
    parsed: ParsedPublicKey,
}

impl VerifyingKey {
    /// Parses `public`.
    pub fn new(public: PublicKey) -> Result<Self, KeyError> {
        let parsed =
            ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, public.to_uncompressed()).map_err(|_| KeyError::Public)?;
        Ok(Self { public, parsed })
    }

    /// The key that this verifies for.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Whether `signature` is this key's over SHA-256 of `message`.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &Signature) -> bool {
        self.parsed.verify_sig(message, signature).is_ok()
    }
}

impl PartialEq for VerifyingKey {
    fn eq(&self, other: &Self) -> bool {
        self.public == other.public
    }
}

impl Eq for VerifyingKey {}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.public.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_and_verifies_and_survives_a_round_trip() -> Result<(), KeyError> {
        let key = SigningKey::generate()?;
        let again = SigningKey::from_pkcs8_der(key.to_pkcs8_der())?;
        assert_eq!(key.public(), again.public());
        assert_eq!(*key.scalar()?, *again.scalar()?);
        let signature = again.sign(b"reading")?;
        assert!(key.public().verifies(b"reading", &signature));
        assert!(!key.public().verifies(b"readinG", &signature));
        assert!(!SigningKey::generate()?.public().verifies(b"reading", &signature));
        let parsed = VerifyingKey::new(*key.public())?;
        assert!(parsed.verifies(b"reading", &signature));
        assert!(!parsed.verifies(b"readinG", &signature));
        Ok(())
    }

    #[test]
    fn refuses_points_off_the_curve_and_other_keys() {
        assert!(matches!(PublicKey::from_xy([7; 64]), Err(KeyError::Public)));
        assert!(matches!(PublicKey::from_uncompressed(&[4; 64]), Err(KeyError::Public)));
        assert!(matches!(SigningKey::from_pkcs8_der(b"not a key"), Err(KeyError::Private(_))));
    }

    #[test]
    fn never_prints_the_private_key() -> Result<(), KeyError> {
        let key = SigningKey::generate()?;
        let printed = format!("{key:?}");
        assert!(!printed.contains(&hex::encode(*key.scalar()?)), "{printed}");
        Ok(())
    }
}
