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
mod tests;
