//! Whether a certificate is good by the ledger.

use sealcast_identity::{Certificate, OPERATOR_NAME};
use sealcast_ledger::{Device, Hash, Replica};

/// Why a certificate is not accepted, although the CA issued it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateRefusal {
    /// The operator's, or a server's.
    NoDevice,
    /// There is no such device.
    UnknownDevice,
    /// Its device was revoked.
    DeviceRevoked,
    /// It was never registered.
    UnknownCertificate,
    /// Its device has another key by now, or was revoked since.
    Revoked,
    /// The operator has another key by now.
    FormerOperator,
}

/// Whose a certificate is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder<'a> {
    /// The operator.
    Operator,
    /// An active device.
    Device(&'a Device),
}

impl Holder<'_> {
    /// Its name in topics.
    pub fn name(&self) -> &str {
        match self {
            Self::Operator => OPERATOR_NAME,
            Self::Device(device) => device.id.as_str(),
        }
    }
}

impl CertificateRefusal {
    /// For a person.
    pub fn reason(self) -> &'static str {
        match self {
            Self::NoDevice => "the certificate is no device's",
            Self::UnknownDevice => "the ledger does not know the device",
            Self::DeviceRevoked => "the device is revoked",
            Self::UnknownCertificate => "the ledger does not know the certificate",
            Self::Revoked => "the certificate is revoked: the device has enrolled again since",
            Self::FormerOperator => "the ledger knows another key of the operator",
        }
    }
}

/// Who may call and be called by a certificate: a device, as [`device_of`] says, or the operator by the key that the ledger has.
///
/// That it comes from the CA and has not ended is for the caller to check.
pub fn holder_of<'a>(replica: &'a Replica, certificate: &Certificate) -> Result<Holder<'a>, CertificateRefusal> {
    if certificate.common_name() != OPERATOR_NAME {
        return device_of(replica, certificate).map(Holder::Device);
    }
    match replica.key_of(replica.genesis().id.operator()) == Some(certificate.public_key()) {
        true => Ok(Holder::Operator),
        false => Err(CertificateRefusal::FormerOperator),
    }
}

/// The device that a certificate is good for: one that is registered for the key which the device has now, and is not
/// revoked. An older one is good until it ends: whoever renewed it may not have got the newer one.
///
/// That it comes from the CA and has not ended is for the caller to check.
pub fn device_of<'a>(replica: &'a Replica, certificate: &Certificate) -> Result<&'a Device, CertificateRefusal> {
    let id = certificate.device().map_err(|_| CertificateRefusal::NoDevice)?;
    let device = replica.device_by_id(&id).ok_or(CertificateRefusal::UnknownDevice)?;
    if !device.is_active() {
        return Err(CertificateRefusal::DeviceRevoked);
    }
    let registered = device.registration_of(&Hash::from(certificate.fingerprint().0));
    match registered.ok_or(CertificateRefusal::UnknownCertificate)?.revocation {
        Some(_) => Err(CertificateRefusal::Revoked),
        None => Ok(device),
    }
}
