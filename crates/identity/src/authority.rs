//! The CA: a root whose key signs the issuing CA and nothing else, and the issuing CA, which decides on enrolments and
//! issues the end certificates (RFC 5280 profile: P-256, ECDSA with SHA-256, path length 0).

use std::{fmt, net::IpAddr, time::Duration};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyUsagePurpose, SanType, SerialNumber,
};
use rustls_pki_types::{CertificateDer, ServerName};

use crate::{
    Certificate, CertificateError, DeviceId, KeyError, PemError, PublicKey, Request, RequestError, SigningKey,
    certificate::{BACKDATE_MS, date},
    pem,
    request::{Signer, Subject, device_uri},
};

/// Common name of the operator's client certificate, which is a name no device can have.
pub const OPERATOR_NAME: &str = "operator";
/// What the MQTT client identifier of a node's own connection begins with, before the node's name: the hub's broker reserves
/// places for these.
pub const CLIENT_ID_PREFIX: &str = "sealcast-";

/// Common name of the hub's certificates, which is a name no device can have.
pub const HUB_NAME: &str = "hub";

/// Most names in one server certificate.
pub const MAX_SERVER_NAMES: usize = 32;

/// 9999-12-31T23:59:59Z, the last second that X.509 can write.
pub(crate) const LAST_SECOND: u64 = 253_402_300_799;

/// Why the CA could not be made, read, or issue something.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The library that writes certificates refused.
    #[error("could not write the certificate: {0}")]
    Write(#[from] rcgen::Error),
    /// No key, or no randomness.
    #[error("could not generate a key or a serial number")]
    Key(#[from] KeyError),
    /// What was written does not parse: a bug.
    #[error("the new certificate does not parse")]
    Written(#[source] CertificateError),
    /// The network's name cannot stand in a certificate.
    #[error("{0:?} is not a network name: it must have 1 to 40 printable ASCII characters")]
    Name(String),
    /// A lifetime of less than a second, or one that ends after the year 9999.
    #[error("a certificate's lifetime must be at least a second and end before the year 10000")]
    Lifetime,
    /// The issuer's own certificate is not valid now, so nothing that it signs would be accepted.
    #[error(
        "the CA certificate {name:?} is valid only from {from} to {until}, and now it is {now}: check the clock, or \
         renew the CA"
    )]
    NotValidNow {
        /// The CA's common name.
        name: String,
        /// Begin of its validity.
        from: String,
        /// End of its validity.
        until: String,
        /// The time that was passed in.
        now: String,
    },
    /// The PEM text of the certificates.
    #[error("the CA's certificate file")]
    CertificateFile(#[source] PemError),
    /// The files do not belong together.
    #[error("the CA's key and certificate files do not belong together: {0}")]
    Mismatch(&'static str),
    /// No names, too many, or one that cannot stand in a certificate.
    #[error("a server certificate needs 1 to {MAX_SERVER_NAMES} valid DNS names or IP addresses: {0}")]
    ServerNames(String),
}

/// Why a device gets no certificate.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// The request is at fault; the device must send another.
    #[error("device {device}: the signing request is refused")]
    Request {
        /// Who asked.
        device: DeviceId,
        /// Why it is refused.
        source: RequestError,
    },
    /// The CA is at fault.
    #[error("device {device}: the CA cannot issue a certificate")]
    Authority {
        /// Who asked.
        device: DeviceId,
        /// What failed.
        source: AuthorityError,
    },
}

impl EnrolError {
    /// Whether another request could succeed (HTTP 400), rather than the CA being broken (HTTP 500).
    pub fn is_requesters_fault(&self) -> bool {
        matches!(self, Self::Request { .. })
    }
}

/// The root of a network: its key signs the issuing CA and nothing else, and can be kept offline.
pub struct Root {
    key: SigningKey,
    certificate: Certificate,
}

impl Root {
    /// A new root for the network `name` with a new key, valid from `now_ms` (Unix ms) for `lifetime`.
    pub fn create(name: &str, now_ms: u64, lifetime: Duration) -> Result<Self, AuthorityError> {
        let key = SigningKey::generate()?;
        let mut params = ca_params(&format!("{} root CA", checked_name(name)?), 1);
        Period::new(now_ms, lifetime)?.apply(&mut params);
        params.serial_number = Some(random_serial()?);
        let written = params.self_signed(&Signer::new(&key))?;
        Ok(Self { certificate: Certificate::from_der(written.der()).map_err(AuthorityError::Written)?, key })
    }

    /// From its key, and what the certificate's [`Certificate::to_pem`] wrote.
    pub fn new(key: SigningKey, certificate: &str) -> Result<Self, AuthorityError> {
        let certificates = pem::certificates_from_pem(certificate).map_err(AuthorityError::CertificateFile)?;
        let [certificate] = <[Certificate; 1]>::try_from(certificates)
            .map_err(|_| AuthorityError::Mismatch("the root's file must hold the root certificate alone"))?;
        if certificate.public_key() != key.public() {
            return Err(AuthorityError::Mismatch("the root key is not the one in the root certificate"));
        }
        if !certificate.is_issued_by(&certificate) {
            return Err(AuthorityError::Mismatch("the root certificate is not a self-signed CA certificate"));
        }
        Ok(Self { key, certificate })
    }

    /// The self-signed certificate: every node's trust anchor.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// The key: the ledger's originator `root`.
    pub fn key(&self) -> &SigningKey {
        &self.key
    }

    /// A new issuing CA under this root, with a new key, that may issue end certificates only (path length 0). It ends
    /// with the root at the latest.
    pub fn create_authority(&self, name: &str, now_ms: u64, lifetime: Duration) -> Result<Authority, AuthorityError> {
        self.certify_authority(SigningKey::generate()?, name, now_ms, lifetime)
    }

    /// The same, for a key that is there.
    pub fn certify_authority(
        &self,
        key: SigningKey,
        name: &str,
        now_ms: u64,
        lifetime: Duration,
    ) -> Result<Authority, AuthorityError> {
        let params = ca_params(&format!("{} issuing CA", checked_name(name)?), 0);
        let certificate = sign(params, key.public(), &self.key, &self.certificate, now_ms, lifetime)?;
        Ok(Authority { key, certificate, root: self.certificate.clone() })
    }
}

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Root").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

/// The issuing CA: decides on enrolments and issues every certificate that is not a CA's. Its key is the ledger's
/// originator `ca`.
pub struct Authority {
    key: SigningKey,
    certificate: Certificate,
    root: Certificate,
}

impl Authority {
    /// From the issuing key, and the chain that [`chain_pem`](Self::chain_pem) wrote: issuing certificate, then root.
    pub fn new(key: SigningKey, chain: &str) -> Result<Self, AuthorityError> {
        let chain = pem::certificates_from_pem(chain).map_err(AuthorityError::CertificateFile)?;
        let [certificate, root] = <[Certificate; 2]>::try_from(chain).map_err(|_| {
            AuthorityError::Mismatch("the chain file must hold two certificates: the issuing CA's, then the root's")
        })?;
        if certificate.public_key() != key.public() {
            return Err(AuthorityError::Mismatch("the key is not the one in the first certificate of the chain"));
        }
        if !certificate.is_ca() {
            return Err(AuthorityError::Mismatch("the first certificate of the chain is not a CA's"));
        }
        if !root.is_issued_by(&root) || !certificate.is_issued_by(&root) {
            return Err(AuthorityError::Mismatch(
                "the first certificate is not issued by the second, a self-signed root",
            ));
        }
        Ok(Self { key, certificate, root })
    }

    /// The issuing certificate.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// The root's certificate: every node's trust anchor.
    pub fn root(&self) -> &Certificate {
        &self.root
    }

    /// The issuing key, for the `ca` entries on the ledger and the [network descriptor](crate::Network).
    pub fn key(&self) -> &SigningKey {
        &self.key
    }

    /// Issuing certificate, then root, as PEM.
    pub fn chain_pem(&self) -> String {
        pem::certificates_to_pem([&self.certificate, &self.root])
    }

    /// Decides on a request (PKCS#10 DER) from someone who has shown to be `expected`, by a token or by its present
    /// certificate: checks the proof of possession and that it asks for no more than a device gets, and issues the
    /// certificate. It begins [`BACKDATE_MS`] before `now_ms` (Unix ms) and ends `lifetime` after it, or with the
    /// issuing CA if that ends sooner.
    ///
    /// Nothing is recorded here: write the certificate to the ledger before you hand it out.
    pub fn decide_enrolment(
        &self,
        request: &[u8],
        expected: &DeviceId,
        now_ms: u64,
        lifetime: Duration,
    ) -> Result<Issued, EnrolError> {
        let refused = |source| EnrolError::Request { device: expected.clone(), source };
        let request = Request::from_der(request).map_err(refused)?;
        request.check_for_device(expected).map_err(refused)?;
        self.issue_device(expected, request.public_key(), now_ms, lifetime)
            .map_err(|source| EnrolError::Authority { device: expected.clone(), source })
    }

    /// A device certificate for a key that the caller knows to be the device's own, without a request.
    pub fn issue_device(
        &self,
        device: &DeviceId,
        key: &PublicKey,
        now_ms: u64,
        lifetime: Duration,
    ) -> Result<Issued, AuthorityError> {
        let mut params = end_params(device.as_str(), ExtendedKeyUsagePurpose::ClientAuth);
        params.subject_alt_names.push(SanType::URI(device_uri(device).try_into()?));
        self.issue(params, key, now_ms, lifetime)
    }

    /// The operator's client certificate, common name [`OPERATOR_NAME`].
    pub fn issue_operator(&self, key: &PublicKey, now_ms: u64, lifetime: Duration) -> Result<Issued, AuthorityError> {
        self.issue(end_params(OPERATOR_NAME, ExtendedKeyUsagePurpose::ClientAuth), key, now_ms, lifetime)
    }

    /// The hub's client certificate, with which its relay logs in to a broker; common name [`HUB_NAME`].
    pub fn issue_hub_client(&self, key: &PublicKey, now_ms: u64, lifetime: Duration) -> Result<Issued, AuthorityError> {
        self.issue(end_params(HUB_NAME, ExtendedKeyUsagePurpose::ClientAuth), key, now_ms, lifetime)
    }

    /// A server certificate for the hub's HTTPS and broker, common name [`HUB_NAME`]. `names`: those by which clients
    /// reach it, DNS names or IP addresses as text; 1 to [`MAX_SERVER_NAMES`].
    pub fn issue_server<S: AsRef<str>>(
        &self,
        names: &[S],
        key: &PublicKey,
        now_ms: u64,
        lifetime: Duration,
    ) -> Result<Issued, AuthorityError> {
        if names.is_empty() || names.len() > MAX_SERVER_NAMES {
            return Err(AuthorityError::ServerNames(format!("{} names given", names.len())));
        }
        let mut params = end_params(HUB_NAME, ExtendedKeyUsagePurpose::ServerAuth);
        for name in names {
            params.subject_alt_names.push(server_name(name.as_ref())?);
        }
        self.issue(params, key, now_ms, lifetime)
    }

    fn issue(
        &self,
        params: CertificateParams,
        key: &PublicKey,
        now_ms: u64,
        lifetime: Duration,
    ) -> Result<Issued, AuthorityError> {
        let certificate = sign(params, key, &self.key, &self.certificate, now_ms, lifetime)?;
        Ok(Issued { certificate, issuer: self.certificate.clone(), root: self.root.clone() })
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

/// A certificate that was just issued, with those above it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// The new certificate.
    pub certificate: Certificate,
    /// The issuing CA's.
    pub issuer: Certificate,
    /// The root's.
    pub root: Certificate,
}

impl Issued {
    /// What its holder presents in TLS and publishes: leaf, then issuing CA. The root is left out, the other side has
    /// it.
    pub fn chain(&self) -> [&Certificate; 2] {
        [&self.certificate, &self.issuer]
    }

    /// [`chain`](Self::chain) as PEM.
    pub fn chain_pem(&self) -> String {
        pem::certificates_to_pem(self.chain())
    }
}

/// A period of validity, both ends included, in seconds since the Unix epoch.
#[derive(Clone, Copy)]
struct Period {
    from_s: u64,
    until_s: u64,
}

impl Period {
    fn new(now_ms: u64, lifetime: Duration) -> Result<Self, AuthorityError> {
        let until_s = (now_ms / 1000).checked_add(lifetime.as_secs()).ok_or(AuthorityError::Lifetime)?;
        if lifetime.as_secs() == 0 || until_s > LAST_SECOND {
            return Err(AuthorityError::Lifetime);
        }
        Ok(Self { from_s: now_ms.saturating_sub(BACKDATE_MS) / 1000, until_s })
    }

    fn within(self, issuer: &Certificate) -> Self {
        Self { from_s: self.from_s.max(issuer.not_before_s()), until_s: self.until_s.min(issuer.not_after_s()) }
    }

    /// Cannot overflow: [`LAST_SECOND`] bounds both ends.
    fn apply(self, params: &mut CertificateParams) {
        // rcgen does not re-export the time type, only a constructor from a date.
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        params.not_before = epoch + Duration::from_secs(self.from_s);
        params.not_after = epoch + Duration::from_secs(self.until_s);
    }
}

fn sign(
    mut params: CertificateParams,
    subject: &PublicKey,
    issuer_key: &SigningKey,
    issuer: &Certificate,
    now_ms: u64,
    lifetime: Duration,
) -> Result<Certificate, AuthorityError> {
    if !issuer.is_valid_at(now_ms) {
        return Err(AuthorityError::NotValidNow {
            name: issuer.common_name().to_owned(),
            from: date(issuer.not_before_s()),
            until: date(issuer.not_after_s()),
            now: date(now_ms / 1000),
        });
    }
    Period::new(now_ms, lifetime)?.within(issuer).apply(&mut params);
    params.serial_number = Some(random_serial()?);
    params.use_authority_key_identifier_extension = true;
    let issuer_der = CertificateDer::from(issuer.der());
    let issuer = Issuer::from_ca_cert_der(&issuer_der, Signer::new(issuer_key))?;
    let written = params.signed_by(&Subject::new(subject), &issuer)?;
    Certificate::from_der(written.der()).map_err(AuthorityError::Written)
}

fn ca_params(name: &str, path_length: u8) -> CertificateParams {
    let mut params = named(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(path_length));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    params
}

fn end_params(name: &str, usage: ExtendedKeyUsagePurpose) -> CertificateParams {
    let mut params = named(name);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    params
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn checked_name(name: &str) -> Result<&str, AuthorityError> {
    let printable = |c: char| c == ' ' || c.is_ascii_graphic();
    match name {
        _ if name.trim().is_empty() || name.len() > 40 || !name.chars().all(printable) => {
            Err(AuthorityError::Name(name.chars().take(64).collect()))
        }
        _ => Ok(name),
    }
}

fn server_name(name: &str) -> Result<SanType, AuthorityError> {
    let refused = || AuthorityError::ServerNames(format!("{:?} is neither", name.chars().take(64).collect::<String>()));
    match ServerName::try_from(name).map_err(|_| refused())? {
        ServerName::IpAddress(address) => Ok(SanType::IpAddress(IpAddr::from(address))),
        ServerName::DnsName(name) => Ok(SanType::DnsName(name.as_ref().try_into()?)),
        _ => Err(refused()),
    }
}

/// 16 random bytes of which the first is neither 0 nor above 0x7f, so that the DER holds just these (RFC 5280 4.1.2.2
/// wants a positive number of at most 20 bytes).
fn random_serial() -> Result<SerialNumber, AuthorityError> {
    let mut serial = [0; 16];
    aws_lc_rs::rand::fill(&mut serial).map_err(KeyError::from)?;
    serial[0] = serial[0] & 0x3f | 0x40;
    Ok(SerialNumber::from_slice(&serial))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        csr,
        testing::{DAY, DAY_MS, NOW_MS, Network, P256_KEY, id, openssl, openssl_request},
    };

    #[test]
    fn issues_what_the_design_names() {
        let network = Network::new();
        let key = SigningKey::generate().unwrap();
        let request = csr(&key, &id("1111")).unwrap();
        let issued = network.authority.decide_enrolment(&request, &id("1111"), NOW_MS, 30 * DAY).unwrap();
        let certificate = &issued.certificate;
        assert_eq!(certificate.device(), Ok(id("1111")));
        assert_eq!(certificate.public_key(), key.public());
        assert_eq!(certificate.not_before_s(), (NOW_MS - BACKDATE_MS) / 1000);
        assert_eq!(certificate.not_after_s(), (NOW_MS + 30 * DAY_MS) / 1000);
        assert_eq!(certificate.serial().len(), 16);
        assert!(certificate.is_for_clients() && !certificate.is_for_servers() && !certificate.is_ca());
        assert!(certificate.is_issued_by(network.authority.certificate()));
        assert!(!certificate.is_issued_by(network.root.certificate()));

        let again = network.authority.decide_enrolment(&request, &id("1111"), NOW_MS, 30 * DAY).unwrap();
        assert_ne!(again.certificate.serial(), certificate.serial());
        assert!(network.authority.certificate().is_ca());
        assert_ne!(network.authority.certificate().public_key(), network.root.certificate().public_key());
    }

    #[test]
    fn openssl_reads_what_it_issues() {
        let network = Network::new();
        let (_, issued) = network.device("1111");
        let Some(text) = openssl(&["x509", "-noout", "-text"], issued.certificate.to_pem().as_bytes()) else { return };
        let text = String::from_utf8(text).unwrap();
        for part in [
            "CN = 1111",
            "TLS Web Client Authentication",
            "URI:urn:sealcast:device:1111",
            "CA:FALSE",
            "Subject Key Identifier",
            "Authority Key Identifier",
            "Digital Signature",
        ] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
        let issuing = openssl(&["x509", "-noout", "-text"], issued.issuer.to_pem().as_bytes()).unwrap();
        assert!(String::from_utf8(issuing).unwrap().contains("CA:TRUE, pathlen:0"));
    }

    #[test]
    fn a_certificate_ends_with_its_issuer() {
        let network = Network::new();
        let key = SigningKey::generate().unwrap();
        let later = NOW_MS + 360 * DAY_MS;
        let issued = network.authority.issue_operator(key.public(), later, 30 * DAY).unwrap();
        assert_eq!(issued.certificate.not_after_s(), network.authority.certificate().not_after_s());
        let too_late = network.authority.issue_operator(key.public(), NOW_MS + 366 * DAY_MS, 30 * DAY);
        assert!(matches!(too_late, Err(AuthorityError::NotValidNow { .. })), "{too_late:?}");
        for lifetime in [Duration::ZERO, Duration::from_millis(999), Duration::MAX, Duration::from_secs(1 << 40)] {
            let issued = network.authority.issue_operator(key.public(), NOW_MS, lifetime);
            assert!(matches!(issued, Err(AuthorityError::Lifetime)), "{issued:?}");
        }
        assert!(network.authority.issue_operator(key.public(), u64::MAX, DAY).is_err());
    }

    #[test]
    fn survives_a_reload_and_notices_files_that_do_not_belong_together() {
        let network = Network::new();
        let (key, chain) = (network.authority.key(), network.authority.chain_pem());
        let again = Authority::new(key.clone(), &chain).unwrap();
        let device = SigningKey::generate().unwrap();
        let issued = again.issue_device(&id("1111"), device.public(), NOW_MS, DAY).unwrap();
        assert!(network.anchor.verify_device(&crate::testing::chain_der(&issued), NOW_MS).is_ok());
        let root = Root::new(network.root.key().clone(), &network.root.certificate().to_pem()).unwrap();
        assert!(root.create_authority("second", NOW_MS, DAY).unwrap().certificate().is_issued_by(root.certificate()));

        let other = Network::new();
        let mismatch = |key: &SigningKey, chain: &str| match Authority::new(key.clone(), chain) {
            Err(AuthorityError::Mismatch(_)) => (),
            other => panic!("{other:?}"),
        };
        mismatch(other.authority.key(), &chain);
        mismatch(key, &(again.certificate().to_pem() + &other.root.certificate().to_pem()));
        mismatch(key, &again.certificate().to_pem());
        mismatch(network.root.key(), &(again.root().to_pem() + &again.certificate().to_pem()));
        let key_pem = pem::key_to_pem(key, None).unwrap();
        assert!(matches!(Authority::new(key.clone(), &key_pem), Err(AuthorityError::CertificateFile(_))));
        assert!(Root::new(other.root.key().clone(), &root.certificate().to_pem()).is_err());
    }

    #[test]
    fn refuses_names_that_cannot_stand_in_a_certificate() {
        for name in ["", "  ", "a\nb", "é", &"x".repeat(41)] {
            assert!(matches!(Root::create(name, NOW_MS, DAY), Err(AuthorityError::Name(_))), "{name:?}");
        }
        let network = Network::new();
        let key = SigningKey::generate().unwrap();
        for names in [vec![], vec![""], vec!["a b"], vec!["*"], vec!["http://x"], vec!["x"; 33]] {
            let issued = network.authority.issue_server(&names, key.public(), NOW_MS, DAY);
            assert!(matches!(issued, Err(AuthorityError::ServerNames(_))), "{names:?}: {issued:?}");
        }
    }

    #[test]
    fn a_server_certificate_says_which_names_it_is_for() {
        let network = Network::new();
        let key = SigningKey::generate().unwrap();
        let issued =
            network.authority.issue_server(&["hub.example", "127.0.0.1", "::1"], key.public(), NOW_MS, DAY).unwrap();
        let read = Certificate::from_der(issued.certificate.der()).unwrap();
        assert!(read.is_for_names(&["::1", "hub.example", "127.0.0.1"]));
        assert!(read.is_for_names(&["0:0:0:0:0:0:0:1", "hub.example", "127.0.0.1"]));
        assert!(!read.is_for_names(&["hub.example", "127.0.0.1"]));
        assert!(!read.is_for_names(&["hub.example", "127.0.0.1", "::1", "more"]));
    }

    #[test]
    fn nobody_below_the_issuing_ca_can_issue() {
        let network = Network::new();
        let victim = SigningKey::generate().unwrap();
        let refused = |chain: &[&Certificate]| {
            let chain: Vec<_> = chain.iter().map(|certificate| certificate.der()).collect();
            let answer = network.anchor.verify_device(&chain, NOW_MS);
            assert!(answer.is_err(), "{answer:?}");
        };
        let (device_key, device) = network.device("1111");
        let rogue = Authority { key: device_key, certificate: device.certificate.clone(), root: device.root.clone() };
        let forged = rogue.issue_device(&id("1112"), victim.public(), NOW_MS, DAY).unwrap();
        refused(&[&forged.certificate, &device.certificate, &device.issuer]);
        assert!(!forged.certificate.is_issued_by(&device.certificate));

        let key = network.authority.key.clone();
        let issuing = Root { key, certificate: network.authority.certificate.clone() };
        let below = issuing.create_authority("below", NOW_MS, DAY).unwrap();
        let forged = below.issue_device(&id("1112"), victim.public(), NOW_MS, DAY).unwrap();
        refused(&[&forged.certificate, &below.certificate, &issuing.certificate]);
    }

    #[test]
    fn a_certificate_without_a_usage_is_not_for_clients() {
        let network = Network::new();
        let key = SigningKey::generate().unwrap();
        let mut params = end_params("1111", ExtendedKeyUsagePurpose::ClientAuth);
        params.extended_key_usages.clear();
        let issued = network.authority.issue(params, key.public(), NOW_MS, DAY).unwrap();
        let answer = network.anchor.verify_device(&crate::testing::chain_der(&issued), NOW_MS);
        assert!(matches!(answer, Err(crate::TrustError::NotForClients { .. })), "{answer:?}");
    }

    fn check(
        network: &Network,
        key_options: &[&str],
        options: &[&str],
        wanted: impl Fn(&Result<Issued, EnrolError>) -> bool,
    ) {
        let Some(request) = openssl_request(key_options, options) else { return };
        let answer = network.authority.decide_enrolment(&request, &id("1111"), NOW_MS, DAY);
        assert!(wanted(&answer), "{options:?}: {answer:?}");
    }

    #[test]
    fn decides_on_requests_made_by_openssl() {
        let network = Network::new();
        let ok = |answer: &Result<Issued, EnrolError>| {
            answer.as_ref().is_ok_and(|issued| issued.certificate.device() == Ok(id("1111")))
        };
        check(&network, P256_KEY, &["-subj", "/CN=1111"], ok);
        check(&network, P256_KEY, &["-subj", "/"], ok);
        check(&network, P256_KEY, &["-subj", "/O=Works/CN=1111"], ok);
        for harmless in [
            "basicConstraints=critical,CA:FALSE",
            "keyUsage=digitalSignature,keyEncipherment",
            "extendedKeyUsage=clientAuth",
            "subjectAltName=URI:urn:sealcast:device:1111",
            "subjectKeyIdentifier=hash",
        ] {
            check(&network, P256_KEY, &["-subj", "/CN=1111", "-addext", harmless], ok);
        }

        type Answer = Result<Issued, EnrolError>;
        fn refused(wanted: fn(&RequestError) -> bool) -> impl Fn(&Answer) -> bool {
            move |answer| matches!(answer, Err(EnrolError::Request { source, .. }) if wanted(source))
        }
        check(&network, P256_KEY, &["-subj", "/CN=1112"], refused(|e| matches!(e, RequestError::OtherDevice { .. })));
        check(&network, P256_KEY, &["-subj", "/CN=1111/CN=1111"], refused(|e| *e == RequestError::CommonName));
        for authority in ["basicConstraints=CA:TRUE", "keyUsage=keyCertSign", "keyUsage=cRLSign"] {
            let options = ["-subj", "/CN=1111", "-addext", authority];
            check(&network, P256_KEY, &options, refused(|e| *e == RequestError::WantsAuthority));
        }
        let options = ["-subj", "/CN=1111", "-addext", "extendedKeyUsage=clientAuth,serverAuth"];
        check(&network, P256_KEY, &options, refused(|e| matches!(e, RequestError::WantsUsage(_))));
        for name in ["DNS:hub.example", "IP:127.0.0.1", "URI:urn:sealcast:device:1112", "email:a@example.org"] {
            let name = format!("subjectAltName={name}");
            let options = ["-subj", "/CN=1111", "-addext", &name];
            check(&network, P256_KEY, &options, refused(|e| matches!(e, RequestError::WantsName(_))));
        }
        let options = ["-subj", "/CN=1111", "-addext", "nameConstraints=permitted;DNS:example.org"];
        check(&network, P256_KEY, &options, refused(|e| matches!(e, RequestError::WantsExtension(_))));
        let options = ["-subj", "/CN=1111", "-sha384"];
        check(&network, P256_KEY, &options, refused(|e| matches!(e, RequestError::Algorithm(_))));
        let p384 = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"];
        check(&network, &p384, &["-subj", "/CN=1111"], refused(|e| *e == RequestError::KeyKind));
        let rsa = ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"];
        check(&network, &rsa, &["-subj", "/CN=1111"], refused(|e| *e == RequestError::KeyKind));
        check(&network, &["-algorithm", "ed25519"], &["-subj", "/CN=1111"], refused(|e| *e == RequestError::KeyKind));
    }

    #[test]
    fn a_changed_request_proves_nothing() {
        let network = Network::new();
        let key = SigningKey::generate().unwrap();
        let request = csr(&key, &id("1111")).unwrap();
        let position = request.windows(4).position(|w| w == b"1111").unwrap();
        let mut changed = request.clone();
        changed[position] = b'2';
        let answer = network.authority.decide_enrolment(&changed, &id("2111"), NOW_MS, DAY);
        assert!(
            matches!(&answer, Err(e @ EnrolError::Request { source: RequestError::Possession, .. })
            if e.is_requesters_fault()),
            "{answer:?}"
        );

        let mut trailing = request;
        trailing.push(0);
        for bad in [trailing.as_slice(), b"", &[0x30; 40], &vec![0x30; 9000]] {
            let answer = network.authority.decide_enrolment(bad, &id("1111"), NOW_MS, DAY);
            assert!(matches!(answer, Err(EnrolError::Request { .. })), "{answer:?}");
        }
    }
}
