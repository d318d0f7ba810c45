//! The text armour of keys and certificates (RFC 7468), with errors that say which kind of file was expected and which
//! was found.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls_pki_types::pem::{PemObject as _, SectionKind};
use zeroize::Zeroizing;

use crate::{
    Certificate, CertificateError, KeyError, Passphrase, SigningKey,
    encrypted::{self, DecryptError},
};

/// Most certificates that are read from one file or chain.
pub const MAX_CERTIFICATES: usize = 8;

/// Most bytes of a PEM text that are looked at.
pub const MAX_PEM_BYTES: usize = 256 * 1024;

/// Why a PEM text could not be read. Name the file when you report it: this cannot.
#[derive(Debug, thiserror::Error)]
pub enum PemError {
    /// No PEM section at all.
    #[error(
        "expected {expected}, found no PEM section: the text must have a line `-----BEGIN {label}-----` (a DER file \
         has to be converted first)"
    )]
    NotPem {
        /// What the file should hold.
        expected: &'static str,
        /// The label that its section should have.
        label: &'static str,
    },
    /// PEM, but of something else.
    #[error("expected {expected}, found {found}: is this the right file?")]
    OtherKind {
        /// What the file should hold.
        expected: &'static str,
        /// What it holds.
        found: &'static str,
    },
    /// A section that is cut off or not base64.
    #[error("expected {expected}, but the PEM text is garbled: {reason}")]
    Garbled {
        /// What the file should hold.
        expected: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// More than [`MAX_PEM_BYTES`] or [`MAX_CERTIFICATES`], or a second key.
    #[error("expected {expected}, found more than {limit}")]
    TooMuch {
        /// What the file should hold.
        expected: &'static str,
        /// The bound that it exceeds.
        limit: &'static str,
    },
    /// A certificate section whose content is not one.
    #[error("certificate {position} in the file is not usable")]
    Certificate {
        /// Position in the file, from 1.
        position: usize,
        /// Why.
        source: CertificateError,
    },
    /// A key section whose content is not a P-256 key.
    #[error("the private key in the file is not usable")]
    Key(#[from] KeyError),
    /// An encrypted key, and no passphrase.
    #[error(
        "the private key in the file is encrypted: give the file that holds its passphrase (--passphrase-file, or \
         passphrase_file in the configuration)"
    )]
    Locked,
    /// An encrypted key that the passphrase does not open.
    #[error("the private key in the file is not usable")]
    Encrypted(#[from] DecryptError),
}

/// The certificates of a PEM text, in its order; at least one, at most [`MAX_CERTIFICATES`]. Text between the sections
/// is skipped; sections of any other kind are refused, so that a private key among the certificates is noticed.
pub fn certificates_from_pem(text: &str) -> Result<Vec<Certificate>, PemError> {
    const EXPECTED: &str = "certificates (PEM)";
    let mut out = Vec::new();
    for section in sections(text, EXPECTED)? {
        let (kind, der) = section?;
        if kind != SectionKind::Certificate {
            return Err(PemError::OtherKind { expected: EXPECTED, found: kind_name(kind) });
        }
        if out.len() == MAX_CERTIFICATES {
            return Err(PemError::TooMuch { expected: EXPECTED, limit: "8 certificates" });
        }
        let position = out.len() + 1;
        out.push(Certificate::from_der(&der).map_err(|source| PemError::Certificate { position, source })?);
    }
    if out.is_empty() {
        return Err(PemError::NotPem { expected: EXPECTED, label: "CERTIFICATE" });
    }
    Ok(out)
}

impl Certificate {
    /// One PEM section (RFC 7468).
    pub fn to_pem(&self) -> String {
        certificates_to_pem([self])
    }
}

/// `certificates` as PEM, in their order.
pub fn certificates_to_pem<'a>(certificates: impl IntoIterator<Item = &'a Certificate>) -> String {
    certificates.into_iter().map(|certificate| armour("CERTIFICATE", certificate.der())).collect()
}

const ENCRYPTED: &str = "ENCRYPTED PRIVATE KEY-----";

/// Whether the private key of a PEM text is encrypted.
pub fn is_encrypted(text: &str) -> bool {
    text.contains(ENCRYPTED)
}

/// The one private key of a PEM text: P-256, in PKCS#8, as it is (`-----BEGIN PRIVATE KEY-----`) or encrypted
/// (`-----BEGIN ENCRYPTED PRIVATE KEY-----`). `passphrase` opens an encrypted one.
pub fn key_from_pem(text: &str, passphrase: Option<&Passphrase>) -> Result<SigningKey, PemError> {
    const EXPECTED: &str = "a P-256 private key (PEM, PKCS#8)";
    let is_encrypted = is_encrypted(text);
    // The library skips sections whose label it does not know.
    let plain = is_encrypted.then(|| Zeroizing::new(text.replace(ENCRYPTED, "PRIVATE KEY-----")));
    let mut found = None;
    for section in sections(plain.as_ref().map_or(text, |text| text), EXPECTED)? {
        let (kind, der) = section?;
        if kind != SectionKind::PrivateKey {
            return Err(PemError::OtherKind { expected: EXPECTED, found: kind_name(kind) });
        }
        if found.replace(der).is_some() {
            return Err(PemError::TooMuch { expected: EXPECTED, limit: "one key" });
        }
    }
    match (found, passphrase) {
        (Some(_), None) if is_encrypted => Err(PemError::Locked),
        (Some(der), Some(passphrase)) if is_encrypted => Ok(encrypted::decrypt(&der, passphrase)?),
        (Some(der), _) => Ok(SigningKey::from_pkcs8_der(&der)?),
        (None, _) => Err(PemError::NotPem { expected: EXPECTED, label: "PRIVATE KEY" }),
    }
}

/// `key` as PEM, PKCS#8, encrypted with the passphrase if there is one. Write it to a file that only its owner can read.
pub fn key_to_pem(key: &SigningKey, passphrase: Option<&Passphrase>) -> Result<Zeroizing<String>, KeyError> {
    let pem = match passphrase {
        Some(passphrase) => armour("ENCRYPTED PRIVATE KEY", &encrypted::encrypt(key, passphrase)?),
        None => armour("PRIVATE KEY", key.to_pkcs8_der()?),
    };
    Ok(Zeroizing::new(pem))
}

/// The one certificate signing request of a PEM text, as DER. Its content is not looked at.
pub(crate) fn request_from_pem(text: &str) -> Result<Vec<u8>, PemError> {
    const EXPECTED: &str = "a certificate signing request (PEM)";
    // `openssl req -newhdr` and some appliances write the older label.
    let text = text.replace(" NEW CERTIFICATE REQUEST-----", " CERTIFICATE REQUEST-----");
    let mut found = None;
    for section in sections(&text, EXPECTED)? {
        let (kind, der) = section?;
        if kind != SectionKind::Csr {
            return Err(PemError::OtherKind { expected: EXPECTED, found: kind_name(kind) });
        }
        if found.replace(der.to_vec()).is_some() {
            return Err(PemError::TooMuch { expected: EXPECTED, limit: "one request" });
        }
    }
    found.ok_or(PemError::NotPem { expected: EXPECTED, label: "CERTIFICATE REQUEST" })
}

/// Base64 in lines of 64 characters, each ended by a line feed: what `openssl base64 -d` reads without further options.
pub(crate) fn base64_lines(bytes: &[u8]) -> String {
    let text = STANDARD.encode(bytes);
    let mut out = String::with_capacity(text.len() + text.len() / 64 + 1);
    for (position, c) in text.chars().enumerate() {
        if position > 0 && position % 64 == 0 {
            out.push('\n');
        }
        out.push(c);
    }
    out.push('\n');
    out
}

fn armour(label: &str, der: &[u8]) -> String {
    let body = Zeroizing::new(base64_lines(der));
    format!("-----BEGIN {label}-----\n{}-----END {label}-----\n", *body)
}

type Section = Result<(SectionKind, Zeroizing<Vec<u8>>), PemError>;

fn sections<'a>(text: &'a str, expected: &'static str) -> Result<impl Iterator<Item = Section> + 'a, PemError> {
    if text.len() > MAX_PEM_BYTES {
        return Err(PemError::TooMuch { expected, limit: "256 KiB" });
    }
    Ok(<(SectionKind, Vec<u8>)>::pem_slice_iter(text.as_bytes()).map(move |section| {
        let (kind, der) = section.map_err(|e| PemError::Garbled { expected, reason: reason(e) })?;
        Ok((kind, Zeroizing::new(der)))
    }))
}

fn reason(error: rustls_pki_types::pem::Error) -> String {
    use rustls_pki_types::pem::Error;
    match error {
        // The library prints the label as a list of numbers.
        Error::MissingSectionEnd { end_marker } => {
            format!("the line `-----END {}-----` is missing", String::from_utf8_lossy(&end_marker))
        }
        Error::IllegalSectionStart { .. } => "a `-----BEGIN` line does not end in `-----`".to_owned(),
        other => other.to_string(),
    }
}

fn kind_name(kind: SectionKind) -> &'static str {
    match kind {
        SectionKind::Certificate => "a certificate",
        SectionKind::PublicKey => "a public key",
        SectionKind::PrivateKey => "a private key",
        SectionKind::RsaPrivateKey => "an RSA private key",
        SectionKind::EcPrivateKey => {
            "a private key in the older SEC1 form (convert it with `openssl pkcs8 -topk8 -nocrypt -in <file> -out <new \
             file>`)"
        }
        SectionKind::Csr => "a certificate signing request",
        SectionKind::Crl => "a revocation list",
        _ => "something else",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Network, P256_KEY, openssl};

    #[test]
    fn survives_its_text_form() {
        let (key, issued) = Network::new().device("1111");
        let chain = [issued.certificate.clone(), issued.issuer.clone()];
        assert_eq!(certificates_from_pem(&issued.chain_pem()).unwrap(), chain);
        let around = format!("subject=1111\r\n{}\nend", issued.chain_pem().replace('\n', "\r\n"));
        assert_eq!(certificates_from_pem(&around).unwrap(), chain);
        let pem = key_to_pem(&key, None).unwrap();
        assert_eq!(key_from_pem(&pem, None).unwrap().public(), key.public());
    }

    #[test]
    fn openssl_reads_our_keys_and_we_read_its() {
        let (key, _) = Network::new().device("1111");
        let pem = key_to_pem(&key, None).unwrap();
        let Some(der) = openssl(&["pkcs8", "-topk8", "-nocrypt", "-outform", "DER"], pem.as_bytes()) else { return };
        assert_eq!(SigningKey::from_pkcs8_der(&der).unwrap().public(), key.public());
        let text = |args: &[&str]| String::from_utf8(openssl(args, b"").unwrap()).unwrap();
        let theirs = text(&[&["genpkey"], P256_KEY].concat());
        assert!(key_from_pem(&theirs, None).is_ok());
        let p384 = text(&["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"]);
        assert!(matches!(key_from_pem(&p384, None), Err(PemError::Key(KeyError::Private(_)))));
        let sec1 = text(&["ecparam", "-name", "prime256v1", "-genkey"]);
        let error = key_from_pem(&sec1, None).unwrap_err().to_string();
        assert!(error.contains("openssl pkcs8 -topk8"), "{error}");
    }

    #[test]
    fn says_what_was_expected_and_what_was_found() {
        let (key, issued) = Network::new().device("1111");
        let (key, chain) = (key_to_pem(&key, None).unwrap(), issued.chain_pem());
        let certificates = |text: &str, part: &str| {
            let error = certificates_from_pem(text).unwrap_err().to_string();
            assert!(error.contains("certificates (PEM)") && error.contains(part), "{error}");
        };
        certificates(&key, "a private key");
        certificates(&(chain.clone() + &key), "a private key");
        certificates("", "no PEM section");
        certificates("\u{1}\u{2}", "no PEM section");
        certificates(&chain[..chain.len() - 10], "-----END CERTIFICATE-----");
        certificates(&chain.replacen("MII", "M*I", 1), "garbled");
        certificates(&chain.repeat(5), "8 certificates");
        certificates(&" ".repeat(MAX_PEM_BYTES + 1), "256 KiB");
        let keys = |text: &str, part: &str| {
            let error = key_from_pem(text, None).unwrap_err().to_string();
            assert!(error.contains("private key") && error.contains(part), "{error}");
        };
        keys(&chain, "a certificate");
        keys("", "BEGIN PRIVATE KEY");
        keys(&key.repeat(2), "one key");
        let swapped = key.replace("PRIVATE KEY", "CERTIFICATE");
        assert!(matches!(certificates_from_pem(&swapped), Err(PemError::Certificate { position: 1, .. })));
    }
}
