//! One X.509 certificate (RFC 5280), parsed once into what Sealcast asks of it.

use std::{collections::BTreeSet, fmt, net::IpAddr, str::FromStr, sync::Arc, time::Duration};

use aws_lc_rs::digest;
use der::{
    Decode as _, Encode as _, Tag, Tagged as _,
    asn1::{AnyRef, ObjectIdentifier},
};
use x509_cert::{
    ext::pkix::{BasicConstraints, ExtendedKeyUsage, SubjectAltName, name::GeneralName},
    name::Name,
    spki::SubjectPublicKeyInfoOwned,
};

use crate::{DeviceId, DeviceIdError, PublicKey, signed::Signed};

const CLIENT_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.2");
const SERVER_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.1");
const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");

/// How far back every certificate's validity begins, so that a receiver whose clock is a little behind takes it.
pub const BACKDATE_MS: u64 = 5 * 60 * 1000;

/// SHA-256 of a certificate's DER: what the ledger keeps of it. Text: 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub [u8; 32]);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is not 64 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a certificate fingerprint has 64 hex digits (SHA-256)")]
pub struct FingerprintError;

impl FromStr for Fingerprint {
    type Err = FingerprintError;

    fn from_str(text: &str) -> Result<Self, FingerprintError> {
        let mut out = [0; 32];
        hex::decode_to_slice(text, &mut out).map_err(|_| FingerprintError)?;
        Ok(Self(out))
    }
}

/// Why bytes are not a certificate that Sealcast can use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// Longer than [`Certificate::MAX_BYTES`].
    #[error("a certificate has at most {max} bytes, this one has {0}", max = Certificate::MAX_BYTES)]
    TooLong(usize),
    /// Not DER of an X.509 certificate.
    #[error("not an X.509 certificate in DER: {0}")]
    Malformed(String),
    /// A key of another kind than P-256.
    #[error("the certificate's key is not an uncompressed P-256 key, the only kind that Sealcast accepts")]
    KeyKind,
    /// No common name, more than one, or one that is no text.
    #[error("the certificate's subject must have exactly one common name (CN) of UTF-8 or ASCII text")]
    CommonName,
}

/// An X.509 certificate (RFC 5280) with a P-256 key, parsed once. Parsing proves nothing about who signed it: that is
/// [`TrustAnchor`](crate::TrustAnchor)'s part. Cheap to clone; equal when the DER is.
#[derive(Clone)]
pub struct Certificate(Arc<Parsed>);

struct Parsed {
    der: Vec<u8>,
    fingerprint: Fingerprint,
    common_name: String,
    subject: Vec<u8>,
    issuer: Vec<u8>,
    issuer_text: String,
    serial: Vec<u8>,
    not_before_s: u64,
    not_after_s: u64,
    public_key: PublicKey,
    is_ca: bool,
    for_clients: bool,
    for_servers: bool,
    /// Host names and addresses as text.
    names: BTreeSet<String>,
}

impl Certificate {
    /// Longest certificate that is read, in bytes of DER.
    pub const MAX_BYTES: usize = 16 * 1024;

    /// Parses DER; trailing bytes are refused.
    pub fn from_der(der: &[u8]) -> Result<Self, CertificateError> {
        if der.len() > Self::MAX_BYTES {
            return Err(CertificateError::TooLong(der.len()));
        }
        let malformed = |e: der::Error| CertificateError::Malformed(e.to_string());
        let parsed = x509_cert::Certificate::from_der(der).map_err(malformed)?;
        let tbs = &parsed.tbs_certificate;
        let constraints = tbs.get::<BasicConstraints>().map_err(malformed)?;
        let usages = tbs.get::<ExtendedKeyUsage>().map_err(malformed)?.map(|(_, usages)| usages.0).unwrap_or_default();
        let names = tbs.get::<SubjectAltName>().map_err(malformed)?.map(|(_, names)| names.0).unwrap_or_default();
        Ok(Self(Arc::new(Parsed {
            fingerprint: Fingerprint(sha256(der)),
            der: der.to_vec(),
            common_name: common_name(&tbs.subject)
                .map_err(|()| CertificateError::CommonName)?
                .ok_or(CertificateError::CommonName)?,
            subject: tbs.subject.to_der().map_err(malformed)?,
            issuer: tbs.issuer.to_der().map_err(malformed)?,
            issuer_text: tbs.issuer.to_string(),
            serial: tbs.serial_number.as_bytes().to_vec(),
            not_before_s: tbs.validity.not_before.to_unix_duration().as_secs(),
            not_after_s: tbs.validity.not_after.to_unix_duration().as_secs(),
            public_key: p256_key(&tbs.subject_public_key_info).ok_or(CertificateError::KeyKind)?,
            is_ca: constraints.is_some_and(|(_, constraints)| constraints.ca),
            for_clients: usages.contains(&CLIENT_AUTH),
            for_servers: usages.contains(&SERVER_AUTH),
            names: names.iter().filter_map(host).collect(),
        })))
    }

    /// The DER it was parsed from.
    pub fn der(&self) -> &[u8] {
        &self.0.der
    }

    /// SHA-256 of the DER.
    pub fn fingerprint(&self) -> Fingerprint {
        self.0.fingerprint
    }

    /// The subject's common name.
    pub fn common_name(&self) -> &str {
        &self.0.common_name
    }

    /// The common name as a device id. Fails for the operator's, the hub's and most CAs' certificates.
    pub fn device(&self) -> Result<DeviceId, DeviceIdError> {
        self.0.common_name.parse()
    }

    /// The issuer's name as text (RFC 4514), for messages.
    pub fn issuer(&self) -> &str {
        &self.0.issuer_text
    }

    /// The serial number, big-endian, as it stands in the DER: 1 to 20 bytes.
    pub fn serial(&self) -> &[u8] {
        &self.0.serial
    }

    /// First second at which it is valid, in seconds since the Unix epoch.
    pub fn not_before_s(&self) -> u64 {
        self.0.not_before_s
    }

    /// Last second at which it is valid, in seconds since the Unix epoch.
    pub fn not_after_s(&self) -> u64 {
        self.0.not_after_s
    }

    /// When it was issued, in seconds since the Unix epoch: its validity begins [`BACKDATE_MS`] before.
    pub fn issued_s(&self) -> u64 {
        self.0.not_before_s.saturating_add(BACKDATE_MS / 1000).min(self.0.not_after_s)
    }

    /// Whether `now_ms` (Unix ms) lies in the period of validity, both ends included.
    pub fn is_valid_at(&self, now_ms: u64) -> bool {
        (self.0.not_before_s..=self.0.not_after_s).contains(&(now_ms / 1000))
    }

    /// The subject's key.
    pub fn public_key(&self) -> &PublicKey {
        &self.0.public_key
    }

    /// Whether it may sign other certificates (basic constraints CA:TRUE).
    pub fn is_ca(&self) -> bool {
        self.0.is_ca
    }

    /// Whether its extended key usage lists TLS clients.
    pub fn is_for_clients(&self) -> bool {
        self.0.for_clients
    }

    /// Whether its extended key usage lists TLS servers.
    pub fn is_for_servers(&self) -> bool {
        self.0.for_servers
    }

    /// Whether it is for just these host names and addresses, in any order.
    pub fn is_for_names<S: AsRef<str>>(&self, names: &[S]) -> bool {
        let wanted: BTreeSet<String> = names
            .iter()
            .map(|name| match name.as_ref().parse::<IpAddr>() {
                Ok(address) => address.to_string(),
                Err(_) => name.as_ref().to_owned(),
            })
            .collect();
        wanted == self.0.names
    }

    /// Whether `issuer` is a CA certificate of this one's issuer name and its key made this one's signature
    /// (ECDSA with SHA-256). Validity periods are not looked at.
    pub fn is_issued_by(&self, issuer: &Self) -> bool {
        issuer.is_ca()
            && self.0.issuer == issuer.0.subject
            && Signed::from_der(self.der()).is_ok_and(|signed| signed.verifies(issuer.public_key()))
    }
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.0.der == other.0.der
    }
}

impl Eq for Certificate {}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("common_name", &self.0.common_name)
            .field("issuer", &self.0.issuer_text)
            .field("serial", &hex::encode(&self.0.serial))
            .field("not_after", &date(self.0.not_after_s))
            .field("fingerprint", &self.0.fingerprint)
            .finish_non_exhaustive()
    }
}

/// A DNS name or an IP address; the other kinds are none.
fn host(name: &GeneralName) -> Option<String> {
    match name {
        GeneralName::DnsName(name) => Some(name.as_str().to_owned()),
        GeneralName::IpAddress(bytes) => {
            let bytes = bytes.as_bytes();
            let four = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
            four.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok().map(|address| address.to_string())
        }
        _ => None,
    }
}

/// The one common name of `name`; `None` if it has none; an error if there are several or it is no text.
pub(crate) fn common_name(name: &Name) -> Result<Option<String>, ()> {
    let mut found = None;
    for attribute in name.0.iter().flat_map(|rdn| rdn.0.iter()).filter(|attribute| attribute.oid == COMMON_NAME) {
        let text = match attribute.value.tag() {
            Tag::Utf8String | Tag::PrintableString | Tag::Ia5String => AnyRef::from(&attribute.value).value(),
            _ => return Err(()),
        };
        let text = std::str::from_utf8(text).map_err(|_| ())?;
        if found.replace(text.to_owned()).is_some() {
            return Err(());
        }
    }
    Ok(found)
}

pub(crate) fn p256_key(info: &SubjectPublicKeyInfoOwned) -> Option<PublicKey> {
    let curve = info.algorithm.parameters.as_ref()?.decode_as::<ObjectIdentifier>().ok()?;
    if info.algorithm.oid != EC_PUBLIC_KEY || curve != P256 {
        return None;
    }
    PublicKey::from_uncompressed(info.subject_public_key.as_bytes()?).ok()
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    out
}

/// A time as text, for messages: RFC 3339 in UTC.
pub(crate) fn date(unix_s: u64) -> String {
    match der::DateTime::from_unix_duration(Duration::from_secs(unix_s)) {
        Ok(date) => date.to_string(),
        Err(_) => format!("Unix time {unix_s}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{NOW_MS, Network, P256_KEY, openssl};

    /// A self-signed certificate made by openssl, parsed.
    fn self_signed(key_options: &[&str], subject: &str) -> Option<Result<Certificate, CertificateError>> {
        let key = openssl(&[&["genpkey"], key_options].concat(), b"")?;
        let args = ["req", "-x509", "-new", "-key", "/dev/stdin", "-subj", subject, "-outform", "DER", "-days", "30"];
        Some(Certificate::from_der(&openssl(&args, &key)?))
    }

    #[test]
    fn reads_every_field() {
        let network = Network::new();
        let (key, issued) = network.device("1111");
        let certificate = Certificate::from_der(issued.certificate.der()).unwrap();
        assert_eq!(certificate, issued.certificate);
        assert_eq!((certificate.common_name(), certificate.issuer()), ("1111", "CN=test issuing CA"));
        assert_eq!(certificate.public_key(), key.public());
        assert_eq!(certificate.issued_s(), NOW_MS / 1000);
        assert_eq!(certificate.fingerprint(), Fingerprint(sha256(certificate.der())));
        assert_eq!(certificate.fingerprint().to_string().parse(), Ok(certificate.fingerprint()));
        assert!(certificate.is_valid_at(NOW_MS) && !certificate.is_valid_at(0) && !certificate.is_valid_at(u64::MAX));
        assert!(issued.issuer.device().is_err() && issued.issuer.is_ca());
    }

    #[test]
    fn refuses_other_keys_and_names() {
        let Some(good) = self_signed(P256_KEY, "/CN=1111") else { return };
        assert!(good.is_ok_and(|certificate| certificate.is_ca() && certificate.is_issued_by(&certificate)));
        let p384 = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"];
        assert_eq!(self_signed(&p384, "/CN=1111"), Some(Err(CertificateError::KeyKind)));
        assert_eq!(self_signed(&["-algorithm", "ed25519"], "/CN=1111"), Some(Err(CertificateError::KeyKind)));
        for subject in ["/O=Works", "/CN=1111/CN=1112"] {
            assert_eq!(self_signed(P256_KEY, subject), Some(Err(CertificateError::CommonName)));
        }
    }

    #[test]
    fn refuses_garbage() {
        let (_, issued) = Network::new().device("1111");
        let der = issued.certificate.der();
        let trailing = [der, &[0]].concat();
        for bad in [b"".as_slice(), b"garbage", &der[..der.len() - 1], &trailing] {
            assert!(matches!(Certificate::from_der(bad), Err(CertificateError::Malformed(_))));
        }
        assert_eq!(Certificate::from_der(&vec![0x30; 16 * 1024 + 1]), Err(CertificateError::TooLong(16 * 1024 + 1)));
        assert_eq!("00".parse::<Fingerprint>(), Err(FingerprintError));
    }
}
