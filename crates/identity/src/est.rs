//! Enrolment over Secure Transport (RFC 7030, with RFC 8951's clarifications): the bodies of its requests and answers.
//! HTTP, TLS and who may ask are the hub's part.

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use cms::{
    cert::CertificateChoices,
    content_info::{CmsVersion, ContentInfo},
    signed_data::{CertificateSet, EncapsulatedContentInfo, SignedData, SignerInfos},
};
use der::{
    Any, Decode as _, Encode as _,
    asn1::{ObjectIdentifier, SetOfVec},
};

use crate::{
    Certificate, CertificateError, MAX_REQUEST_BYTES, PemError, PublicKey,
    pem::{MAX_CERTIFICATES, base64_lines, request_from_pem},
};

/// Content type of a `/simpleenroll` and `/simplereenroll` request (RFC 7030 4.2.1).
pub const REQUEST_TYPE: &str = "application/pkcs10";

/// Content type of their answers (RFC 7030 4.2.3).
pub const ISSUED_TYPE: &str = "application/pkcs7-mime; smime-type=certs-only";

/// Content type of the `/cacerts` answer (RFC 7030 4.1.3).
pub const CA_CERTIFICATES_TYPE: &str = "application/pkcs7-mime";

/// Path of `/cacerts` below the hub's URL.
pub const CA_CERTIFICATES_PATH: &str = "/.well-known/est/cacerts";

/// Path of `/simpleenroll` below the hub's URL.
pub const ENROLL_PATH: &str = "/.well-known/est/simpleenroll";

/// Path of `/simplereenroll` below the hub's URL.
pub const REENROLL_PATH: &str = "/.well-known/est/simplereenroll";

/// Longest request body that is read, in bytes: a request of [`MAX_REQUEST_BYTES`] in base64 with generous lines. Give
/// it to the HTTP server as its limit.
pub const MAX_REQUEST_BODY_BYTES: usize = 2 * MAX_REQUEST_BYTES;

/// Longest answer body that is read, in bytes.
pub const MAX_ANSWER_BODY_BYTES: usize = 2 * MAX_CERTIFICATES * Certificate::MAX_BYTES;

const ID_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.1");
const ID_SIGNED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.2");

/// Why a body is refused.
#[derive(Debug, thiserror::Error)]
pub enum EstError {
    /// Another content type: HTTP 415.
    #[error("the content type must be {REQUEST_TYPE}, it is {0:?} (curl: `-H 'Content-Type: {REQUEST_TYPE}'`)")]
    ContentType(String),
    /// More than the bound that the field holds: HTTP 413.
    #[error("the body is too long: at most {0} bytes")]
    TooLong(usize),
    /// Neither base64, nor PEM, nor DER.
    #[error("the body is neither base64, nor PEM, nor DER: {0}")]
    Encoding(String),
    /// PEM of something else.
    #[error("the body is PEM, but not a signing request")]
    Pem(#[from] PemError),
    /// An answer that is no certs-only PKCS#7 message.
    #[error("the answer is not a certs-only PKCS#7 message: {0}")]
    Message(String),
    /// An answer with a certificate that cannot be used.
    #[error("the answer holds an unusable certificate")]
    Certificate(#[from] CertificateError),
    /// An answer without a certificate, or with more than [`MAX_CERTIFICATES`].
    #[error("an answer holds 1 to {MAX_CERTIFICATES} certificates, this one has {0}")]
    Count(usize),
    /// An answer without a certificate for the key.
    #[error("the answer holds no certificate for this device's key: the hub answered somebody else's request")]
    OtherKey,
}

/// The PKCS#10 request, as DER, in the body of a `/simpleenroll` or `/simplereenroll` request. The standard says base64,
/// in lines or not; PEM armour and bare DER are what people send with curl, and are told apart safely.
///
/// The request itself is for [`Authority::decide_enrolment`](crate::Authority::decide_enrolment) to judge.
pub fn parse_simple_enroll(content_type: &str, body: &[u8]) -> Result<Vec<u8>, EstError> {
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    if !media_type.eq_ignore_ascii_case(REQUEST_TYPE) {
        return Err(EstError::ContentType(content_type.chars().take(64).collect()));
    }
    if body.len() > MAX_REQUEST_BODY_BYTES {
        return Err(EstError::TooLong(MAX_REQUEST_BODY_BYTES));
    }
    let der = match std::str::from_utf8(body) {
        Ok(text) if text.contains("-----BEGIN ") => request_from_pem(text)?,
        _ => der_or_base64(body)?.into_owned(),
    };
    match der.len() {
        0 => Err(EstError::Encoding("it is empty".to_owned())),
        1..=MAX_REQUEST_BYTES => Ok(der),
        _ => Err(EstError::TooLong(MAX_REQUEST_BYTES)),
    }
}

/// The body that asks for a certificate: `request` (PKCS#10 DER, see [`csr`](crate::csr())) in base64.
pub fn simple_enroll_body(request: &[u8]) -> String {
    base64_lines(request)
}

/// A certs-only PKCS#7 message (RFC 5652: SignedData without content and signers) with these certificates, as DER. The
/// format is a set: their order is lost.
pub fn certs_only<'a>(certificates: impl IntoIterator<Item = &'a Certificate>) -> Result<Vec<u8>, EstError> {
    let message = |e: der::Error| EstError::Message(e.to_string());
    let mut choices = Vec::new();
    for certificate in certificates {
        let parsed = x509_cert::Certificate::from_der(certificate.der()).map_err(message)?;
        choices.push(CertificateChoices::Certificate(parsed));
    }
    if choices.is_empty() || choices.len() > MAX_CERTIFICATES {
        return Err(EstError::Count(choices.len()));
    }
    let signed = SignedData {
        version: CmsVersion::V1,
        digest_algorithms: SetOfVec::default(),
        encap_content_info: EncapsulatedContentInfo { econtent_type: ID_DATA, econtent: None },
        certificates: Some(CertificateSet::try_from(choices).map_err(message)?),
        crls: None,
        signer_infos: SignerInfos(SetOfVec::default()),
    };
    let content = Any::encode_from(&signed).map_err(message)?;
    ContentInfo { content_type: ID_SIGNED_DATA, content }.to_der().map_err(message)
}

/// [`certs_only`] in base64: the body of the answers to `/cacerts` (issuing CA and root) and `/simpleenroll` (the new
/// certificate and the issuing CA's).
pub fn certs_only_body<'a>(certificates: impl IntoIterator<Item = &'a Certificate>) -> Result<String, EstError> {
    Ok(base64_lines(&certs_only(certificates)?))
}

/// The certificates in an answer's body, base64 or DER; in no particular order, and not verified.
pub fn parse_certs_only(body: &[u8]) -> Result<Vec<Certificate>, EstError> {
    let message = |e: der::Error| EstError::Message(e.to_string());
    if body.len() > MAX_ANSWER_BODY_BYTES {
        return Err(EstError::TooLong(MAX_ANSWER_BODY_BYTES));
    }
    let der = der_or_base64(body)?;
    let info = ContentInfo::from_der(&der).map_err(message)?;
    if info.content_type != ID_SIGNED_DATA {
        return Err(EstError::Message(format!("its content type is {}", info.content_type)));
    }
    let signed = info.content.decode_as::<SignedData>().map_err(message)?;
    let choices = signed.certificates.map(|set| set.0.into_vec()).unwrap_or_default();
    if choices.is_empty() || choices.len() > MAX_CERTIFICATES {
        return Err(EstError::Count(choices.len()));
    }
    choices
        .into_iter()
        .map(|choice| match choice {
            CertificateChoices::Certificate(parsed) => Ok(Certificate::from_der(&parsed.to_der().map_err(message)?)?),
            CertificateChoices::Other(_) => Err(EstError::Message("it holds another kind of certificate".to_owned())),
        })
        .collect()
}

/// The chain in the answer to one's own request: the certificate for `key` first, then those above it as far as the
/// answer has them, without the root. Verify it with a [`TrustAnchor`](crate::TrustAnchor) before use.
pub fn parse_issued(body: &[u8], key: &PublicKey) -> Result<Vec<Certificate>, EstError> {
    let certificates = parse_certs_only(body)?;
    let leaf = certificates.iter().find(|certificate| certificate.public_key() == key).ok_or(EstError::OtherKey)?;
    let mut chain = vec![leaf.clone()];
    // Ends: a certificate already in the chain is not taken twice.
    while let Some(above) = chain
        .last()
        .and_then(|last| certificates.iter().find(|c| last.is_issued_by(c) && !c.is_issued_by(c) && !chain.contains(c)))
    {
        chain.push(above.clone());
    }
    Ok(chain)
}

/// DER begins with a SEQUENCE's tag, 0x30 = '0'; base64 of such DER begins with 'M'. So the first byte tells.
fn der_or_base64(body: &[u8]) -> Result<Cow<'_, [u8]>, EstError> {
    if body.first() == Some(&0x30) {
        return Ok(Cow::Borrowed(body));
    }
    let text: Vec<u8> = body.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    STANDARD.decode(text).map(Cow::Owned).map_err(|e| EstError::Encoding(e.to_string()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        SigningKey, csr,
        testing::{DAY, NOW_MS, Network, P256_KEY, id, openssl, openssl_request},
    };

    #[test]
    fn reads_requests_as_people_send_them() {
        let key = SigningKey::generate().unwrap();
        let request = csr(&key, &id("1111")).unwrap();
        let lines = base64_lines(&request);
        let armoured = |label: &str| format!("-----BEGIN {label}-----\n{lines}-----END {label}-----\n");
        let bodies = [
            request.clone(),
            lines.clone().into_bytes(),
            lines.replace('\n', "").into_bytes(),
            lines.replace('\n', "\r\n").into_bytes(),
            armoured("CERTIFICATE REQUEST").into_bytes(),
            armoured("NEW CERTIFICATE REQUEST").replace('\n', "\r\n").into_bytes(),
            (String::from("Certificate Request:\n    Data:\n") + &armoured("CERTIFICATE REQUEST")).into_bytes(),
        ];
        for body in bodies {
            for content_type in ["application/pkcs10", "Application/PKCS10; charset=utf-8"] {
                assert_eq!(parse_simple_enroll(content_type, &body).unwrap(), request);
            }
        }
        assert_eq!(parse_simple_enroll(REQUEST_TYPE, simple_enroll_body(&request).as_bytes()).unwrap(), request);
    }

    #[test]
    fn refuses_other_types_sizes_and_kinds() {
        let key = SigningKey::generate().unwrap();
        let request = csr(&key, &id("1111")).unwrap();
        for content_type in ["", "application/x-www-form-urlencoded", "application/pkcs10x", "text/plain"] {
            assert!(matches!(parse_simple_enroll(content_type, &request), Err(EstError::ContentType(_))));
        }
        let long = vec![b'A'; MAX_REQUEST_BODY_BYTES + 1];
        assert!(matches!(parse_simple_enroll(REQUEST_TYPE, &long), Err(EstError::TooLong(_))));
        let long = vec![b'A'; MAX_REQUEST_BODY_BYTES];
        assert!(matches!(parse_simple_enroll(REQUEST_TYPE, &long), Err(EstError::TooLong(MAX_REQUEST_BYTES))));
        for body in ["", "  \n", "MII*", "csr=MIIB"] {
            assert!(matches!(parse_simple_enroll(REQUEST_TYPE, body.as_bytes()), Err(EstError::Encoding(_))), "{body}");
        }
        let pem = crate::key_to_pem(&key, None).unwrap();
        let answer = parse_simple_enroll(REQUEST_TYPE, pem.as_bytes());
        assert!(matches!(answer, Err(EstError::Pem(PemError::OtherKind { found: "a private key", .. }))), "{answer:?}");
    }

    #[test]
    fn answers_round_trip_and_find_their_chain() {
        let network = Network::new();
        let (key, issued) = network.device("1111");
        for certificates in [vec![&issued.certificate], vec![&issued.issuer, &issued.root, &issued.certificate]] {
            let body = certs_only_body(certificates.iter().copied()).unwrap();
            let read = parse_certs_only(body.as_bytes()).unwrap();
            assert_eq!(read.len(), certificates.len());
            assert!(certificates.iter().all(|certificate| read.contains(certificate)));
            let chain = parse_issued(body.as_bytes(), key.public()).unwrap();
            let wanted = [issued.certificate.clone(), issued.issuer.clone()];
            assert_eq!(chain, wanted[..certificates.len().min(2)]);
        }
        let body = certs_only_body([&issued.issuer, &issued.root]).unwrap();
        assert!(matches!(parse_issued(body.as_bytes(), key.public()), Err(EstError::OtherKey)));
        assert!(matches!(certs_only([]), Err(EstError::Count(0))));
        assert!(matches!(parse_certs_only(issued.root.der()), Err(EstError::Message(_))));
        assert!(matches!(parse_certs_only(&vec![0x30; MAX_ANSWER_BODY_BYTES + 1]), Err(EstError::TooLong(_))));
    }

    #[test]
    fn openssl_and_we_read_each_others_messages() {
        let network = Network::new();
        let (_, issued) = network.device("1111");
        let body = certs_only_body([&issued.certificate, &issued.issuer]).unwrap();
        let Some(der) = openssl(&["base64", "-d"], body.as_bytes()) else { return };
        let text = openssl(&["pkcs7", "-inform", "DER", "-print_certs"], &der).unwrap();
        let read = crate::certificates_from_pem(std::str::from_utf8(&text).unwrap()).unwrap();
        assert_eq!(read.len(), 2);
        assert!(read.contains(&issued.certificate) && read.contains(&issued.issuer));

        // openssl writes empty revocation lists into such a message.
        let pem = issued.chain_pem();
        let args = ["crl2pkcs7", "-nocrl", "-certfile", "/dev/stdin", "-outform", "DER"];
        let theirs = openssl(&args, pem.as_bytes()).unwrap();
        assert_eq!(parse_certs_only(&theirs).unwrap().len(), 2);

        let request = openssl_request(P256_KEY, &["-subj", "/CN=1111"]).unwrap();
        let pem = openssl(&["req", "-inform", "DER", "-text", "-newhdr"], &request).unwrap();
        let read = parse_simple_enroll(REQUEST_TYPE, &pem).unwrap();
        assert_eq!(read, request);
        assert!(network.authority.decide_enrolment(&read, &id("1111"), NOW_MS, DAY).is_ok());

        let key = SigningKey::generate().unwrap();
        let ours = csr(&key, &id("1111")).unwrap();
        let text = openssl(&["req", "-inform", "DER", "-noout", "-subject", "-verify"], &ours).unwrap();
        assert!(String::from_utf8(text).unwrap().contains("CN = 1111"));
    }

    proptest! {
        #[test]
        fn no_body_makes_a_parser_panic(body in prop::collection::vec(any::<u8>(), 0..600), text in ".{0,200}") {
            for body in [body.as_slice(), text.as_bytes()] {
                if let Ok(der) = parse_simple_enroll(REQUEST_TYPE, body) {
                    prop_assert!(der.len() <= MAX_REQUEST_BYTES);
                    let _ = crate::Request::from_der(&der);
                }
                let _ = parse_simple_enroll(&text, body);
                let _ = parse_certs_only(body);
                let _ = Certificate::from_der(body);
            }
        }

        #[test]
        fn no_changed_byte_makes_a_parser_panic(position in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let network = Network::new();
            let (key, issued) = network.device("1111");
            let mut request = csr(&key, &id("1111")).unwrap();
            let position_there = position.index(request.len());
            request[position_there] = byte;
            let _ = network.authority.decide_enrolment(&request, &id("1111"), NOW_MS, DAY);
            let mut answer = certs_only(issued.chain()).unwrap();
            let position = position.index(answer.len());
            answer[position] = byte;
            let _ = parse_issued(&answer, key.public());
        }
    }
}
