//! The certificate behind a connection.

use x509_cert::der::Decode;
use x509_cert::der::asn1::{PrintableStringRef, Utf8StringRef};

/// The client's certificate, already verified against the client roots by the TLS handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerCertificate {
    der: Vec<u8>,
    common_name: Option<String>,
}

impl PeerCertificate {
    /// From the leaf of a chain that the handshake has verified, DER.
    pub fn from_leaf(der: &[u8]) -> Self {
        Self { der: der.to_vec(), common_name: common_name(der) }
    }

    /// The leaf certificate, DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The common name, if the subject has exactly one and it is text.
    pub fn common_name(&self) -> Option<&str> {
        self.common_name.as_deref()
    }
}

fn common_name(der: &[u8]) -> Option<String> {
    const COMMON_NAME: x509_cert::der::asn1::ObjectIdentifier =
        x509_cert::der::asn1::ObjectIdentifier::new_unwrap("2.5.4.3");
    let certificate = x509_cert::Certificate::from_der(der).ok()?;
    let mut found = None;
    for attribute in certificate.tbs_certificate.subject.0.iter().flat_map(|rdn| rdn.0.iter()) {
        if attribute.oid != COMMON_NAME {
            continue;
        }
        // Two names leave open which one counts.
        if found.is_some() {
            return None;
        }
        let text = attribute
            .value
            .decode_as::<Utf8StringRef<'_>>()
            .map(|s| s.as_str().to_owned())
            .or_else(|_| attribute.value.decode_as::<PrintableStringRef<'_>>().map(|s| s.as_str().to_owned()))
            .ok()?;
        found = Some(text);
    }
    found
}
