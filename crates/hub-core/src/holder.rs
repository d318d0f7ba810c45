//! Whether a certificate is good by the ledger.

use sealcast_identity::Certificate;
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
        }
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
