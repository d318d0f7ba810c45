use std::{fmt, sync::Arc};

use aws_lc_rs::{
    digest,
    encoding::{AsBigEndian as _, EcPrivateKeyBin},
    error::Unspecified,
    rand::{self, SystemRandom},
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, ParsedPublicKey,
        UnparsedPublicKey,
    },
};
use der::{
    Encode as _,
    asn1::{SequenceOf, UintRef},
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
    /// A token refused.
    #[error("the token that holds the private key does not sign: {0}")]
    Token(String),
    /// Of a key in a token nobody has a copy.
    #[error("the private key is in a token, and does not leave it")]
    InToken,
    /// The crypto library refused, which it does only when it is out of memory or entropy.
    #[error("the crypto library failed")]
    Library,
}

impl From<Unspecified> for KeyError {
    fn from(_: Unspecified) -> Self {
        Self::Library
    }
}

/// A private key that signs in a smart card, a TPM or an HSM, and stays there.
pub trait Token: Send + Sync {
    /// ECDSA of a SHA-256 digest, or why the token does not sign.
    fn sign(&self, digest: &[u8; 32]) -> Result<Signature, String>;
}

/// A P-256 private key: the one key of a node, for its certificate, its MLS leaf and its ledger entries. Clones share it.
#[derive(Clone)]
pub struct SigningKey(Arc<Key>);

struct Key {
    public: PublicKey,
    secret: Secret,
}

enum Secret {
    Here { pair: EcdsaKeyPair, pkcs8: Zeroizing<Vec<u8>>, random: SystemRandom },
    Token(Box<dyn Token>),
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
        let secret = Secret::Here { pair, pkcs8, random: SystemRandom::new() };
        Ok(Self(Arc::new(Key { public, secret })))
    }

    /// The key in `token`, whose public half is `public`. It has to sign once, so that a token which cannot is noticed now.
    pub fn in_token(public: PublicKey, token: Box<dyn Token>) -> Result<Self, KeyError> {
        let key = Self(Arc::new(Key { public, secret: Secret::Token(token) }));
        let mut challenge = [0; 32];
        rand::fill(&mut challenge)?;
        if !public.verifies(&challenge, &key.sign(&challenge)?) {
            return Err(KeyError::Token("its private key does not belong to its public key".to_owned()));
        }
        Ok(key)
    }

    /// The key as PKCS#8 DER, unless it is in a token.
    pub fn to_pkcs8_der(&self) -> Result<&Zeroizing<Vec<u8>>, KeyError> {
        match &self.0.secret {
            Secret::Here { pkcs8, .. } => Ok(pkcs8),
            Secret::Token(_) => Err(KeyError::InToken),
        }
    }

    /// The private scalar, 32 bytes big-endian, unless it is in a token.
    pub fn scalar(&self) -> Result<Zeroizing<[u8; 32]>, KeyError> {
        let Secret::Here { pair, .. } = &self.0.secret else { return Err(KeyError::InToken) };
        let bytes: EcPrivateKeyBin<'static> = pair.private_key().as_be_bytes()?;
        let scalar = bytes.as_ref().try_into().map_err(|_| KeyError::Library)?;
        Ok(Zeroizing::new(scalar))
    }

    /// The public half.
    pub fn public(&self) -> &PublicKey {
        &self.0.public
    }

    /// ECDSA over SHA-256 of `message`, with the lower of both `s`: see [`PublicKey::verifies_low_s`].
    pub fn sign(&self, message: &[u8]) -> Result<Signature, KeyError> {
        let signature = match &self.0.secret {
            Secret::Here { pair, random, .. } => {
                let signature = pair.sign(random, message)?;
                signature.as_ref().try_into().map_err(|_| KeyError::Library)?
            }
            Secret::Token(token) => token.sign(&sha256(message)).map_err(KeyError::Token)?,
        };
        Ok(if has_low_s(&signature) { signature } else { other_form(&signature) })
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

    /// [`Self::verifies`], for the lower of both `s` only.
    ///
    /// With a signature `(r, s)` the signature `(r, n - s)` holds too, and anybody can compute it. Where signed bytes are
    /// compared, only one of the two may count: then what verifies is, byte for byte, what the key's holder wrote.
    #[must_use]
    pub fn verifies_low_s(&self, message: &[u8], signature: &Signature) -> bool {
        has_low_s(signature) && self.verifies(message, signature)
    }

    /// SHA-256 of `x || y`: what a person compares, in part, as hex.
    pub fn fingerprint(&self) -> [u8; 32] {
        sha256(&self.0)
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    out
}

/// The order `n` of P-256's group (FIPS 186-4, D.1.2.3), and half of it, both big-endian.
const ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa, 0xad, 0xa7,
    0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];
const HALF_ORDER: [u8; 32] = [
    0x7f, 0xff, 0xff, 0xff, 0x80, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xde, 0x73, 0x7d, 0x56,
    0xd3, 0x8b, 0xcf, 0x42, 0x79, 0xdc, 0xe5, 0x61, 0x7e, 0x31, 0x92, 0xa8,
];

fn has_low_s(signature: &Signature) -> bool {
    signature[32..] <= HALF_ORDER[..]
}

/// `(r, n - s)`, which verifies as `(r, s)` does, and takes no key to compute.
pub fn other_form(signature: &Signature) -> Signature {
    let mut other = *signature;
    let mut borrow = false;
    for (byte, order) in other[32..].iter_mut().zip(ORDER).rev() {
        let (less, first) = order.overflowing_sub(*byte);
        let (less, second) = less.overflowing_sub(borrow.into());
        (*byte, borrow) = (less, first || second);
    }
    other
}

/// `r || s` as X.509, TLS and MLS want it: `SEQUENCE { INTEGER r, INTEGER s }` (RFC 5480 appendix A).
pub fn signature_to_der(signature: &Signature) -> Result<Vec<u8>, KeyError> {
    let (r, s) = signature.split_at(32);
    let parts = || -> der::Result<Vec<u8>> {
        let mut parts = SequenceOf::<UintRef<'_>, 2>::new();
        parts.add(UintRef::new(r)?)?;
        parts.add(UintRef::new(s)?)?;
        parts.to_der()
    };
    parts().map_err(|_| KeyError::Library)
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
        let again = SigningKey::from_pkcs8_der(key.to_pkcs8_der()?)?;
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

    struct Card(SigningKey);

    impl Token for Card {
        fn sign(&self, digest: &[u8; 32]) -> Result<Signature, String> {
            // What this key signs is hashed before; a card signs the digest that it is given.
            let pair = match &self.0.0.secret {
                Secret::Here { pair, .. } => pair,
                Secret::Token(_) => return Err("no key".to_owned()),
            };
            let digest =
                digest::Digest::import_less_safe(digest, &digest::SHA256).map_err(|error| error.to_string())?;
            let signature = pair.sign_digest(&digest).map_err(|error| error.to_string())?;
            signature.as_ref().try_into().map_err(|_| "its length".to_owned())
        }
    }

    #[test]
    fn a_key_in_a_token_signs_and_does_not_leave_it() -> Result<(), KeyError> {
        let (inside, other) = (SigningKey::generate()?, SigningKey::generate()?);
        let key = SigningKey::in_token(*inside.public(), Box::new(Card(inside.clone())))?;
        assert!(inside.public().verifies(b"reading", &key.sign(b"reading")?));
        assert!(matches!(key.to_pkcs8_der(), Err(KeyError::InToken)));
        assert!(matches!(key.scalar(), Err(KeyError::InToken)));
        let foreign = SigningKey::in_token(*other.public(), Box::new(Card(inside)));
        assert!(matches!(foreign, Err(KeyError::Token(_))), "{foreign:?}");
        Ok(())
    }

    #[test]
    fn a_signature_has_one_form_where_that_is_asked_for() -> Result<(), KeyError> {
        let key = SigningKey::generate()?;
        let card = SigningKey::in_token(*key.public(), Box::new(Card(key.clone())))?;
        // Of so many, some had the higher s at first.
        for n in 0..32_u8 {
            for signature in [key.sign(&[n])?, card.sign(&[n])?] {
                let other = other_form(&signature);
                assert!(key.public().verifies(&[n], &signature) && key.public().verifies(&[n], &other));
                assert!(key.public().verifies_low_s(&[n], &signature) && !key.public().verifies_low_s(&[n], &other));
                assert!(!key.public().verifies_low_s(&[n ^ 1], &signature));
                assert_eq!(other_form(&other), signature);
            }
        }
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
