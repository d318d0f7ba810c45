//! The trust anchor: whether a certificate chain is one of this network's, and if not, why.

use std::{fmt, time::Duration};

use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, KeyUsage};

use crate::{
    Certificate, CertificateError, DeviceId, DeviceIdError, Fingerprint, PublicKey,
    authority::{HUB_NAME, OPERATOR_NAME},
    certificate::date,
    pem::MAX_CERTIFICATES,
};

/// Why a certificate is no trust anchor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnchorError {
    /// Not a certificate, or not with a P-256 key.
    #[error("the root certificate is not usable")]
    Certificate(#[from] CertificateError),
    /// Not self-signed, or not a CA's.
    #[error("{name:?} is not a root: the trust anchor must be a self-signed CA certificate")]
    NotRoot {
        /// Its common name.
        name: String,
    },
}

/// Why a certificate chain is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// No certificate, or more than [`MAX_CERTIFICATES`].
    #[error("a certificate chain has 1 to {MAX_CERTIFICATES} certificates, leaf first; this one has {0}")]
    Length(usize),
    /// One of them cannot be read.
    #[error("certificate {position} of the chain is malformed")]
    Malformed {
        /// Position in the chain, from 1 (the leaf).
        position: usize,
        /// What is wrong.
        source: CertificateError,
    },
    /// It does not lead to this root.
    #[error(
        "{name:?} has a certificate from another CA (issuer {issuer}): it does not chain to this network's root \
         {root}, or the issuing CA's certificate was not sent with it"
    )]
    OtherAuthority {
        /// The leaf's common name.
        name: String,
        /// The leaf's issuer.
        issuer: String,
        /// The root that was asked.
        root: Fingerprint,
    },
    /// The leaf or one above it has expired.
    #[error("the certificate of {name:?} expired at {not_after}, and now it is {now}: renew it, or check the clock")]
    Expired {
        /// Whose certificate has expired.
        name: String,
        /// Its end (RFC 3339).
        not_after: String,
        /// The time that was passed in.
        now: String,
    },
    /// The leaf or one above it is not valid yet.
    #[error("the certificate of {name:?} is not valid before {not_before}, and now it is {now}: check the clock")]
    NotYetValid {
        /// Whose certificate is not valid yet.
        name: String,
        /// Its begin (RFC 3339).
        not_before: String,
        /// The time that was passed in.
        now: String,
    },
    /// A CA certificate where a device's or the operator's belongs.
    #[error("{name:?} is a CA certificate: it cannot identify a device")]
    AuthorityAsLeaf {
        /// Its common name.
        name: String,
    },
    /// A server's certificate, or one without a usage.
    #[error("the certificate of {name:?} is not for TLS clients: its extended key usage lacks clientAuth")]
    NotForClients {
        /// Its common name.
        name: String,
    },
    /// The common name is no device id.
    #[error("the certificate of {name:?} is not a device's")]
    NotDevice {
        /// Its common name.
        name: String,
        /// Why that is no device id.
        source: DeviceIdError,
    },
    /// Anything else that path validation (RFC 5280 section 6) refuses.
    #[error("the certificate of {name:?} is not acceptable: {reason}")]
    Refused {
        /// The leaf's common name.
        name: String,
        /// The validator's reason.
        reason: String,
    },
}

/// A device whose certificate leads to the root. Half of the two-key rule: ask the ledger for the other half, with the
/// certificate's fingerprint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedDevice {
    /// The certificate's common name.
    pub id: DeviceId,
    /// The device's key.
    pub public_key: PublicKey,
    /// The leaf.
    pub certificate: Certificate,
}

/// Who a client certificate is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VerifiedClient {
    /// A device.
    Device(VerifiedDevice),
    /// The operator, with its leaf.
    Operator(Certificate),
    /// The hub itself, with its leaf.
    Hub(Certificate),
}

/// A network's root certificate: what every decision about a certificate starts from.
#[derive(Clone)]
pub struct TrustAnchor {
    root: Certificate,
    anchor: rustls_pki_types::TrustAnchor<'static>,
}

impl TrustAnchor {
    /// From the root certificate, which must be a self-signed CA certificate.
    pub fn new(root: Certificate) -> Result<Self, AnchorError> {
        let not_root = || AnchorError::NotRoot { name: root.common_name().to_owned() };
        if !root.is_issued_by(&root) {
            return Err(not_root());
        }
        let der = CertificateDer::from(root.der());
        let anchor = webpki::anchor_from_trusted_cert(&der).map_err(|_| not_root())?.to_owned();
        Ok(Self { root, anchor })
    }

    /// From the root certificate's DER.
    pub fn from_der(der: &[u8]) -> Result<Self, AnchorError> {
        Self::new(Certificate::from_der(der)?)
    }

    /// The root certificate.
    pub fn root(&self) -> &Certificate {
        &self.root
    }

    /// Verifies a device's chain, DER certificates, leaf first, at `now_ms` (Unix ms): it leads to the root (RFC 5280
    /// section 6), is valid now all the way up, is an end certificate for TLS clients with a P-256 key, and is named
    /// after a device.
    pub fn verify_device<D: AsRef<[u8]>>(&self, chain: &[D], now_ms: u64) -> Result<VerifiedDevice, TrustError> {
        into_device(self.verify_leaf(chain, now_ms)?)
    }

    /// Like [`verify_device`](Self::verify_device), for a TLS server that the operator and the hub connect to as well.
    pub fn verify_client<D: AsRef<[u8]>>(&self, chain: &[D], now_ms: u64) -> Result<VerifiedClient, TrustError> {
        let leaf = self.verify_leaf(chain, now_ms)?;
        match leaf.common_name() {
            OPERATOR_NAME => Ok(VerifiedClient::Operator(leaf)),
            HUB_NAME => Ok(VerifiedClient::Hub(leaf)),
            _ => into_device(leaf).map(VerifiedClient::Device),
        }
    }

    /// Verifies the certificate of an issuing CA: signed by the root, a CA's, and valid at `now_ms` (Unix ms), as the
    /// root is.
    pub fn verify_authority(&self, issuing: &Certificate, now_ms: u64) -> Result<(), TrustError> {
        if !issuing.is_ca() || !issuing.is_issued_by(&self.root) {
            return Err(self.other_authority(issuing));
        }
        check_period(issuing, now_ms)?;
        check_period(&self.root, now_ms)
    }

    fn verify_leaf<D: AsRef<[u8]>>(&self, chain: &[D], now_ms: u64) -> Result<Certificate, TrustError> {
        if chain.is_empty() || chain.len() > MAX_CERTIFICATES {
            return Err(TrustError::Length(chain.len()));
        }
        let mut certificates = Vec::with_capacity(chain.len());
        for (index, der) in chain.iter().enumerate() {
            let certificate = Certificate::from_der(der.as_ref())
                .map_err(|source| TrustError::Malformed { position: index + 1, source })?;
            certificates.push(certificate);
        }
        let Some((leaf, above)) = certificates.split_first() else {
            return Err(TrustError::Length(0));
        };
        if leaf.is_ca() {
            return Err(TrustError::AuthorityAsLeaf { name: leaf.common_name().to_owned() });
        }
        // The validator takes a leaf without the extension.
        if !leaf.is_for_clients() {
            return Err(TrustError::NotForClients { name: leaf.common_name().to_owned() });
        }
        // The validator takes the anchor as given, its end too.
        check_period(&self.root, now_ms)?;
        self.validate_path(leaf, above, now_ms)?;
        Ok(leaf.clone())
    }

    fn validate_path(&self, leaf: &Certificate, above: &[Certificate], now_ms: u64) -> Result<(), TrustError> {
        let refused =
            |e: webpki::Error| TrustError::Refused { name: leaf.common_name().to_owned(), reason: e.to_string() };
        let leaf_der = CertificateDer::from(leaf.der());
        let above_der: Vec<CertificateDer<'_>> = above.iter().map(|c| CertificateDer::from(c.der())).collect();
        let end_entity = EndEntityCert::try_from(&leaf_der).map_err(refused)?;
        let result = end_entity.verify_for_usage(
            &[webpki::aws_lc_rs::ECDSA_P256_SHA256],
            std::slice::from_ref(&self.anchor),
            &above_der,
            UnixTime::since_unix_epoch(Duration::from_millis(now_ms)),
            KeyUsage::client_auth(),
            None,
            None,
        );
        use webpki::Error;
        match result {
            Ok(_) => Ok(()),
            Err(Error::UnknownIssuer | Error::InvalidSignatureForPublicKey | Error::EndEntityUsedAsCa) => {
                Err(self.other_authority(leaf))
            }
            Err(e @ (Error::CertExpired { .. } | Error::CertNotValidYet { .. })) => {
                // It does not say which certificate of the chain it means.
                std::iter::once(leaf).chain(above).try_for_each(|c| check_period(c, now_ms)).and(Err(refused(e)))
            }
            Err(Error::CaUsedAsEndEntity) => Err(TrustError::AuthorityAsLeaf { name: leaf.common_name().to_owned() }),
            Err(Error::RequiredEkuNotFoundContext(_)) => {
                Err(TrustError::NotForClients { name: leaf.common_name().to_owned() })
            }
            Err(e) => Err(refused(e)),
        }
    }

    fn other_authority(&self, certificate: &Certificate) -> TrustError {
        TrustError::OtherAuthority {
            name: certificate.common_name().to_owned(),
            issuer: certificate.issuer().to_owned(),
            root: self.root.fingerprint(),
        }
    }
}

impl fmt::Debug for TrustAnchor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TrustAnchor").field(&self.root).finish()
    }
}

fn into_device(leaf: Certificate) -> Result<VerifiedDevice, TrustError> {
    let id = leaf.device().map_err(|source| TrustError::NotDevice { name: leaf.common_name().to_owned(), source })?;
    Ok(VerifiedDevice { id, public_key: *leaf.public_key(), certificate: leaf })
}

fn check_period(certificate: &Certificate, now_ms: u64) -> Result<(), TrustError> {
    let name = certificate.common_name().to_owned();
    let now_s = now_ms / 1000;
    if now_s > certificate.not_after_s() {
        return Err(TrustError::Expired { name, not_after: date(certificate.not_after_s()), now: date(now_s) });
    }
    if now_s < certificate.not_before_s() {
        return Err(TrustError::NotYetValid { name, not_before: date(certificate.not_before_s()), now: date(now_s) });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Issued, SigningKey,
        testing::{DAY, DAY_MS, NOW_MS, Network, chain_der, id},
    };

    fn check(network: &Network, chain: &[Vec<u8>], now_ms: u64, wanted: impl Fn(&TrustError) -> bool) -> String {
        match network.anchor.verify_device(chain, now_ms) {
            Err(e) if wanted(&e) => e.to_string(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn accepts_a_device_and_names_it() {
        let network = Network::new();
        let (key, issued) = network.device("1111");
        let device = network.anchor.verify_device(&chain_der(&issued), NOW_MS).unwrap();
        assert_eq!((device.id.as_str(), &device.public_key), ("1111", key.public()));
        assert_eq!(device.certificate, issued.certificate);
        let mut with_root = chain_der(&issued);
        with_root.push(issued.root.der().to_vec());
        assert!(network.anchor.verify_device(&with_root, NOW_MS).is_ok());
    }

    #[test]
    fn refuses_another_ca_and_a_missing_intermediate() {
        let (network, other) = (Network::new(), Network::new());
        let (_, issued) = other.device("1111");
        let another = |e: &TrustError| matches!(e, TrustError::OtherAuthority { .. });
        let text = check(&network, &chain_der(&issued), NOW_MS, another);
        assert!(text.contains("1111") && text.contains("another CA"), "{text}");
        // Our issuing certificate beside a leaf that it did not sign.
        let forged = [issued.certificate.der().to_vec(), network.authority.certificate().der().to_vec()];
        check(&network, &forged, NOW_MS, another);
        let mut with_root = chain_der(&issued);
        with_root.push(issued.root.der().to_vec());
        check(&network, &with_root, NOW_MS, another);

        let (_, issued) = network.device("1111");
        check(&network, &chain_der(&issued)[..1], NOW_MS, another);
        let (_, second) = network.device("1112");
        check(&network, &[chain_der(&issued)[0].clone(), chain_der(&second)[0].clone()], NOW_MS, another);
    }

    #[test]
    fn refuses_what_is_out_of_its_time_and_says_when() {
        let network = Network::new();
        let (_, issued) = network.device("1111");
        let chain = chain_der(&issued);
        let text = check(&network, &chain, NOW_MS + 31 * DAY_MS, |e| matches!(e, TrustError::Expired { .. }));
        assert!(text.contains("2026-01-31T00:00:00Z") && text.contains("2026-02-01T00:00:00Z"), "{text}");
        let text = check(&network, &chain, NOW_MS - DAY_MS, |e| matches!(e, TrustError::NotYetValid { .. }));
        assert!(text.contains("2025-12-31T23:55:00Z"), "{text}");
        for edge in [issued.certificate.not_before_s() * 1000, issued.certificate.not_after_s() * 1000 + 999] {
            assert!(network.anchor.verify_device(&chain, edge).is_ok());
        }
    }

    #[test]
    fn an_expired_ca_takes_its_devices_along() {
        let root = crate::Root::create("short", NOW_MS, DAY).unwrap();
        let authority = root.create_authority("short", NOW_MS, 10 * DAY).unwrap();
        let key = SigningKey::generate().unwrap();
        let issued = authority.issue_device(&id("1111"), key.public(), NOW_MS, 10 * DAY).unwrap();
        let anchor = TrustAnchor::new(root.certificate().clone()).unwrap();
        let chain = chain_der(&issued);
        assert!(anchor.verify_device(&chain, NOW_MS).is_ok());
        match anchor.verify_device(&chain, NOW_MS + 2 * DAY_MS) {
            Err(TrustError::Expired { name, .. }) => assert_eq!(name, "short root CA"),
            other => panic!("{other:?}"),
        }
        match anchor.verify_authority(authority.certificate(), NOW_MS + 2 * DAY_MS) {
            Err(TrustError::Expired { .. }) => (),
            other => panic!("{other:?}"),
        }
        assert_eq!(anchor.verify_authority(authority.certificate(), NOW_MS), Ok(()));
        assert!(anchor.verify_authority(&issued.certificate, NOW_MS).is_err());
    }

    #[test]
    fn refuses_every_other_kind_of_certificate() {
        let network = Network::new();
        let key = SigningKey::generate().unwrap();
        let ca = |e: &TrustError| matches!(e, TrustError::AuthorityAsLeaf { .. });
        let issuing = network.authority.certificate().der().to_vec();
        check(&network, std::slice::from_ref(&issuing), NOW_MS, ca);
        check(&network, &[network.root.certificate().der().to_vec()], NOW_MS, ca);

        let server = network.authority.issue_server(&["localhost"], key.public(), NOW_MS, DAY).unwrap();
        check(&network, &chain_der(&server), NOW_MS, |e| matches!(e, TrustError::NotForClients { .. }));
        let operator = network.authority.issue_operator(key.public(), NOW_MS, DAY).unwrap();
        check(&network, &chain_der(&operator), NOW_MS, |e| matches!(e, TrustError::NotDevice { .. }));
        let clients = |issued: &Issued| network.anchor.verify_client(&chain_der(issued), NOW_MS);
        assert_eq!(clients(&operator), Ok(VerifiedClient::Operator(operator.certificate.clone())));
        let hub = network.authority.issue_hub_client(key.public(), NOW_MS, DAY).unwrap();
        assert_eq!(clients(&hub), Ok(VerifiedClient::Hub(hub.certificate.clone())));
        assert!(matches!(clients(&server), Err(TrustError::NotForClients { .. })));
        assert!(
            matches!(clients(&network.device("1111").1), Ok(VerifiedClient::Device(device)) if device.id == id("1111"))
        );
        assert!(TrustAnchor::new(operator.certificate).is_err());
        assert!(TrustAnchor::new(network.authority.certificate().clone()).is_err());
    }

    #[test]
    fn refuses_garbage_and_chains_without_end() {
        let network = Network::new();
        let (_, issued) = network.device("1111");
        let chain = chain_der(&issued);
        check(&network, &[], NOW_MS, |e| *e == TrustError::Length(0));
        check(&network, &vec![chain[0].clone(); 9], NOW_MS, |e| *e == TrustError::Length(9));
        let garbled = [chain[0].clone(), b"garbage".to_vec()];
        check(&network, &garbled, NOW_MS, |e| matches!(e, TrustError::Malformed { position: 2, .. }));
        // Any changed byte of the leaf is noticed, whatever it does to it.
        for position in (0..chain[0].len()).step_by(3) {
            let mut changed = chain.clone();
            changed[0][position] ^= 1;
            assert!(network.anchor.verify_device(&changed, NOW_MS).is_err(), "byte {position}");
        }
    }

    #[test]
    fn tls_clients_take_the_hub_by_its_names() {
        let network = Network::new();
        let key = SigningKey::generate().unwrap();
        let names = ["localhost", "hub.example", "127.0.0.1", "::1"];
        let server = network.authority.issue_server(&names, key.public(), NOW_MS, DAY).unwrap();
        let (leaf, issuing) =
            (CertificateDer::from(server.certificate.der()), CertificateDer::from(server.issuer.der()));
        let end_entity = EndEntityCert::try_from(&leaf).unwrap();
        let verified = end_entity.verify_for_usage(
            &[webpki::aws_lc_rs::ECDSA_P256_SHA256],
            std::slice::from_ref(&network.anchor.anchor),
            std::slice::from_ref(&issuing),
            UnixTime::since_unix_epoch(Duration::from_millis(NOW_MS)),
            KeyUsage::server_auth(),
            None,
            None,
        );
        assert!(verified.is_ok());
        let valid = |name: &str| end_entity.verify_is_valid_for_subject_name(&name.try_into().unwrap()).is_ok();
        assert!(names.into_iter().all(valid));
        assert!(!valid("other.example") && !valid("127.0.0.2"));
    }
}
