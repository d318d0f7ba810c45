//! The outermost shape that certificates and signing requests share: `SIGNED{ToBeSigned}` (RFC 5912): a body, the
//! algorithm, the signature over the body's bytes as they were sent.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use der::{
    Decode as _, Reader as _, SliceReader,
    asn1::{AnyRef, BitStringRef, ObjectIdentifier},
};

use crate::PublicKey;

const ECDSA_WITH_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");

/// The three parts. The body is kept as it came: encoding it again could change it, and the signature is over the
/// bytes.
pub(crate) struct Signed<'a> {
    body: &'a [u8],
    algorithm: ObjectIdentifier,
    signature: &'a [u8],
}

impl<'a> Signed<'a> {
    pub(crate) fn from_der(der: &'a [u8]) -> der::Result<Self> {
        let mut reader = SliceReader::new(der)?;
        let parts = reader.sequence(|reader| {
            let body = reader.tlv_bytes()?;
            let algorithm = reader.sequence(|reader| {
                let oid = ObjectIdentifier::decode(reader)?;
                let _parameters = Option::<AnyRef<'_>>::decode(reader)?;
                Ok(oid)
            })?;
            let signature = BitStringRef::decode(reader)?.raw_bytes();
            Ok(Self { body, algorithm, signature })
        })?;
        reader.finish(parts)
    }

    pub(crate) fn is_ecdsa_with_sha256(&self) -> bool {
        self.algorithm == ECDSA_WITH_SHA256
    }

    pub(crate) fn algorithm(&self) -> ObjectIdentifier {
        self.algorithm
    }

    pub(crate) fn verifies(&self, key: &PublicKey) -> bool {
        self.is_ecdsa_with_sha256()
            && UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key.to_uncompressed())
                .verify(self.body, self.signature)
                .is_ok()
    }
}
