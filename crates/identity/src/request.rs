//! Certificate signing requests (PKCS#10, RFC 2986): made by a device, judged by the CA.

use der::{Decode as _, asn1::ObjectIdentifier};
use rcgen::{CertificateParams, DistinguishedName, DnType, PKCS_ECDSA_P256_SHA256, SignatureAlgorithm};
use x509_cert::{
    ext::{
        Extension,
        pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAltName, name::GeneralName},
    },
    request::{CertReq, ExtensionReq},
};

use crate::{
    DeviceId, PublicKey, SigningKey,
    certificate::{common_name, p256_key},
    key::signature_to_der,
    signed::Signed,
};

const EXTENSION_REQUEST: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.14");
const BASIC_CONSTRAINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.19");
const KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.15");
const EXTENDED_KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37");
const SUBJECT_ALT_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.17");
const SUBJECT_KEY_ID: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.14");
const CLIENT_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.2");

/// Longest signing request that is read, in bytes of DER.
pub const MAX_REQUEST_BYTES: usize = 8 * 1024;

/// Why a signing request could not be made.
#[derive(Debug, thiserror::Error)]
#[error("could not make a certificate signing request: {0}")]
pub struct CreateRequestError(#[from] rcgen::Error);

/// Why a signing request is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Longer than [`MAX_REQUEST_BYTES`].
    #[error("a certificate signing request has at most {MAX_REQUEST_BYTES} bytes, this one has {0}")]
    TooLong(usize),
    /// Not DER of a PKCS#10 request.
    #[error("not a certificate signing request (PKCS#10 in DER): {0}")]
    Malformed(String),
    /// A key of another kind than P-256.
    #[error("the request's key is not an uncompressed P-256 key: make one with `openssl ecparam -name prime256v1`")]
    KeyKind,
    /// Signed with another algorithm.
    #[error("the request is signed with algorithm {0}: it must be ECDSA with SHA-256 (`openssl req -sha256`)")]
    Algorithm(String),
    /// Proof of possession failed: the sender does not hold the key, or the request was changed on the way.
    #[error("the request is not signed by the key that it asks to certify: its sender does not hold that private key")]
    Possession,
    /// More than one common name, or one that is no text.
    #[error("the request's subject must have one common name (CN) of UTF-8 or ASCII text, or be empty")]
    CommonName,
    /// The request names another device.
    #[error("the request is for {asked:?}, but the enrolment is for device {expected}")]
    OtherDevice {
        /// The common name in the request.
        asked: String,
        /// Whom the token or the present certificate is for.
        expected: DeviceId,
    },
    /// CA:TRUE, or the usage that signs certificates or revocation lists.
    #[error("the request asks for a CA certificate: devices cannot have one")]
    WantsAuthority,
    /// An extended key usage other than TLS client.
    #[error("the request asks for the usage {0}: device certificates are for TLS clients (clientAuth) only")]
    WantsUsage(String),
    /// A subject alternative name that is not the device's own URI.
    #[error("the request asks for the additional name {0}: leave subject alternative names out")]
    WantsName(String),
    /// Any other extension.
    #[error("the request asks for extension {0}, which this CA does not issue: leave it out")]
    WantsExtension(String),
}

/// A PKCS#10 signing request (RFC 2986) whose sender has proved that it holds the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    common_name: Option<String>,
    public_key: PublicKey,
    extensions: Vec<Extension>,
}

impl Request {
    /// Parses DER and checks the signature (proof of possession) with the key in it.
    pub fn from_der(der: &[u8]) -> Result<Self, RequestError> {
        if der.len() > MAX_REQUEST_BYTES {
            return Err(RequestError::TooLong(der.len()));
        }
        let malformed = |e: der::Error| RequestError::Malformed(e.to_string());
        let request = CertReq::from_der(der).map_err(malformed)?;
        let signed = Signed::from_der(der).map_err(malformed)?;
        let public_key = p256_key(&request.info.public_key).ok_or(RequestError::KeyKind)?;
        if !signed.is_ecdsa_with_sha256() {
            return Err(RequestError::Algorithm(signed.algorithm().to_string()));
        }
        if !signed.verifies(&public_key) {
            return Err(RequestError::Possession);
        }
        let mut extensions = Vec::new();
        for attribute in request.info.attributes.iter().filter(|attribute| attribute.oid == EXTENSION_REQUEST) {
            for value in attribute.values.iter() {
                extensions.extend(value.decode_as::<ExtensionReq>().map_err(malformed)?.0);
            }
        }
        let common_name = common_name(&request.info.subject).map_err(|()| RequestError::CommonName)?;
        Ok(Self { common_name: common_name.filter(|name| !name.is_empty()), public_key, extensions })
    }

    /// The subject's common name, if it has one.
    pub fn common_name(&self) -> Option<&str> {
        self.common_name.as_deref()
    }

    /// The key that the request is for.
    pub fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// Whether a device certificate for `expected` answers the request. Anything that the certificate would not have
    /// is refused rather than dropped, so that nobody finds out in the field.
    pub fn check_for_device(&self, expected: &DeviceId) -> Result<(), RequestError> {
        if let Some(asked) = self.common_name.as_deref().filter(|asked| *asked != expected.as_str()) {
            return Err(RequestError::OtherDevice {
                asked: asked.chars().take(64).collect(),
                expected: expected.clone(),
            });
        }
        self.extensions.iter().try_for_each(|extension| check_extension(extension, expected))
    }
}

/// A signing request for `key` with the common name `device`, as DER. The private key stays where it is.
pub fn csr(key: &SigningKey, device: &DeviceId) -> Result<Vec<u8>, CreateRequestError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, device.as_str());
    Ok(params.serialize_request(&Signer::new(key))?.der().to_vec())
}

/// The URI that stands in a device certificate as its subject alternative name.
pub(crate) fn device_uri(device: &DeviceId) -> String {
    format!("urn:sealcast:device:{device}")
}

fn check_extension(extension: &Extension, expected: &DeviceId) -> Result<(), RequestError> {
    let content = extension.extn_value.as_bytes();
    let malformed = |e: der::Error| RequestError::Malformed(format!("extension {}: {e}", extension.extn_id));
    match extension.extn_id {
        BASIC_CONSTRAINTS => match BasicConstraints::from_der(content).map_err(malformed)?.ca {
            true => Err(RequestError::WantsAuthority),
            false => Ok(()),
        },
        KEY_USAGE => {
            let usage = KeyUsage::from_der(content).map_err(malformed)?;
            match usage.key_cert_sign() || usage.crl_sign() {
                true => Err(RequestError::WantsAuthority),
                false => Ok(()),
            }
        }
        EXTENDED_KEY_USAGE => {
            let usages = ExtendedKeyUsage::from_der(content).map_err(malformed)?;
            match usages.0.iter().find(|usage| **usage != CLIENT_AUTH) {
                Some(usage) => Err(RequestError::WantsUsage(usage.to_string())),
                None => Ok(()),
            }
        }
        SUBJECT_ALT_NAME => {
            let names = SubjectAltName::from_der(content).map_err(malformed)?;
            names.0.iter().try_for_each(|name| match name {
                GeneralName::UniformResourceIdentifier(uri) if uri.as_str() == device_uri(expected) => Ok(()),
                GeneralName::UniformResourceIdentifier(name) | GeneralName::DnsName(name) => {
                    Err(RequestError::WantsName(name.as_str().chars().take(64).collect()))
                }
                _ => Err(RequestError::WantsName("(not a DNS name or URI)".to_owned())),
            })
        }
        // Derived from the key, so there is nothing to disagree about.
        SUBJECT_KEY_ID => Ok(()),
        other => Err(RequestError::WantsExtension(other.to_string())),
    }
}

/// Lets rcgen sign with our key without a second copy of it.
pub(crate) struct Signer<'a> {
    key: &'a SigningKey,
    public: Subject,
}

impl<'a> Signer<'a> {
    pub(crate) fn new(key: &'a SigningKey) -> Self {
        Self { key, public: Subject::new(key.public()) }
    }
}

impl rcgen::PublicKeyData for Signer<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.public.der_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.public.algorithm()
    }
}

impl rcgen::SigningKey for Signer<'_> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let signature = self.key.sign(message).map_err(|_| rcgen::Error::RemoteKeyError)?;
        signature_to_der(&signature).map_err(|_| rcgen::Error::RemoteKeyError)
    }
}

/// A public key as rcgen takes it.
pub(crate) struct Subject([u8; 65]);

impl Subject {
    pub(crate) fn new(key: &PublicKey) -> Self {
        Self(key.to_uncompressed())
    }
}

impl rcgen::PublicKeyData for Subject {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}
