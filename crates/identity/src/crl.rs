//! Certificate revocation lists (RFC 5280 section 5): which of the issuing CA's certificates must not be used any more.

use std::time::Duration;

use rcgen::{CertificateRevocationListParams, Issuer, KeyIdMethod, RevocationReason, RevokedCertParams, SerialNumber};
use rustls_pki_types::CertificateDer;

use crate::{Authority, AuthorityError, authority::LAST_SECOND, request::Signer};

/// Path of the list below the hub's URL. EST has no place for it (RFC 7030 section 3.2.2).
pub const CRL_PATH: &str = "/crl.der";

/// Content type of the list (RFC 2585 section 4.2).
pub const CRL_TYPE: &str = "application/pkix-crl";

/// A certificate that must not be used any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revoked {
    /// Its serial number, as [`Certificate::serial`](crate::Certificate::serial) gives it.
    pub serial: Vec<u8>,
    /// Since when, seconds since the Unix epoch.
    pub since_s: u64,
    /// Whether another key took its place; else its holder was shut out.
    pub superseded: bool,
}

impl Authority {
    /// The list of `revoked` certificates, DER, signed by this CA: from `now_ms` (Unix ms) on, for `lifetime`. Of two lists
    /// the later one has the higher number, which is `now_ms`.
    pub fn revocation_list(
        &self,
        revoked: &[Revoked],
        now_ms: u64,
        lifetime: Duration,
    ) -> Result<Vec<u8>, AuthorityError> {
        let now_s = now_ms / 1000;
        let next_s = now_s.saturating_add(lifetime.as_secs());
        if lifetime.as_secs() == 0 || next_s > LAST_SECOND {
            return Err(AuthorityError::Lifetime);
        }
        // rcgen does not re-export the time type, only a constructor from a date.
        let time = |at_s: u64| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(at_s.min(LAST_SECOND));
        let entry = |revoked: &Revoked| {
            let reason =
                if revoked.superseded { RevocationReason::Superseded } else { RevocationReason::PrivilegeWithdrawn };
            RevokedCertParams {
                serial_number: SerialNumber::from_slice(&revoked.serial),
                revocation_time: time(revoked.since_s),
                reason_code: Some(reason),
                invalidity_date: None,
            }
        };
        let params = CertificateRevocationListParams {
            this_update: time(now_s),
            next_update: time(next_s),
            crl_number: SerialNumber::from(now_ms),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(entry).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let certificate = CertificateDer::from(self.certificate().der());
        let issuer = Issuer::from_ca_cert_der(&certificate, Signer::new(self.key()))?;
        Ok(params.signed_by(&issuer)?.der().to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{DAY, NOW_MS, Network, openssl};

    /// What openssl says of a certificate by the list, at a time shortly after the list was made.
    fn openssl_judges(network: &Network, list: &[u8], certificate: &crate::Certificate) -> Option<bool> {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, bytes: &[u8]| {
            let path = dir.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let pem = openssl(&["crl", "-inform", "DER"], list)?;
        let (crl, root) = (file("crl.pem", &pem), file("root.pem", network.root.certificate().to_pem().as_bytes()));
        let issuing = file("issuing.pem", network.authority.certificate().to_pem().as_bytes());
        let leaf = file("leaf.pem", certificate.to_pem().as_bytes());
        let time = (NOW_MS / 1000 + 60).to_string();
        let args = ["verify", "-attime", &time, "-crl_check", "-CAfile", &root, "-untrusted", &issuing, "-CRLfile"];
        let output = std::process::Command::new("openssl").args(args).args([&crl, &leaf]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() || said.contains("certificate revoked"), "{said}");
        Some(output.status.success())
    }

    #[test]
    fn openssl_refuses_what_is_on_the_list_and_nothing_else() {
        let network = Network::new();
        let [first, second] = ["1111", "1112"].map(|name| network.device(name).1.certificate);
        let none = network.authority.revocation_list(&[], NOW_MS, DAY).unwrap();
        let Some(accepted) = openssl_judges(&network, &none, &first) else { return };
        assert!(accepted);
        let revoked = Revoked { serial: first.serial().to_vec(), since_s: NOW_MS / 1000, superseded: false };
        let list = network.authority.revocation_list(&[revoked], NOW_MS, DAY).unwrap();
        assert_eq!(openssl_judges(&network, &list, &first), Some(false));
        assert_eq!(openssl_judges(&network, &list, &second), Some(true));
        let args = ["crl", "-inform", "DER", "-noout", "-text", "-lastupdate", "-nextupdate"];
        let text = String::from_utf8(openssl(&args, &list).unwrap()).unwrap();
        for part in [
            "Version 2",
            "lastUpdate=Jan  1 00:00:00 2026 GMT",
            "nextUpdate=Jan  2 00:00:00 2026 GMT",
            "X509v3 CRL Number",
            "X509v3 Authority Key Identifier",
            "Privilege Withdrawn",
        ] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
    }
}
