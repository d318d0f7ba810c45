//! Who a leaf is, for the MLS library: an X.509 chain that leads to our root.

use std::{sync::Arc, time::Duration};

use mls_rs::{
    ExtensionList, IdentityProvider,
    identity::{Credential, CredentialType, SigningIdentity},
    time::MlsTime,
};
use mls_rs_core::identity::MemberValidationContext;
use sealcast_identity::{Certificate, TrustAnchor, TrustError, VerifiedDevice};

use crate::GroupRefusal;

/// Validates leaves by certificate chain. Cheap to clone.
///
/// The library is told that each leaf is as old as its certificate. Whether a certificate has run out is judged by the
/// ledger's clock, which all share (`judge.rs`): else one old leaf could keep everybody from joining, and members whose
/// clocks differ would judge differently.
#[derive(Clone)]
pub(crate) struct Trust {
    anchors: Arc<Vec<TrustAnchor>>,
}

impl Trust {
    pub fn new(anchors: Vec<TrustAnchor>) -> Self {
        Self { anchors: Arc::new(anchors) }
    }

    /// Verifies a leaf's chain at `at_ms` and that its signature key is the certificate's.
    pub fn verify(&self, identity: &SigningIdentity, at_ms: u64) -> Result<VerifiedDevice, GroupRefusal> {
        let Credential::X509(chain) = &identity.credential else {
            return Err(GroupRefusal::Malformed("a member's credential is not an X.509 certificate chain"));
        };
        let mut refused = GroupRefusal::Certificate(TrustError::Length(0));
        for anchor in self.anchors.iter() {
            match anchor.verify_device(chain.as_slice(), at_ms) {
                Ok(device) if identity.signature_key.as_ref() == device.public_key.to_uncompressed() => {
                    return Ok(device);
                }
                Ok(device) => refused = GroupRefusal::LeafMismatch { device: device.id },
                Err(error) => refused = GroupRefusal::Certificate(error),
            }
        }
        Err(refused)
    }
}

/// The DER of a leaf's own certificate.
pub(crate) fn leaf_der(identity: &SigningIdentity) -> Result<&[u8], GroupRefusal> {
    match &identity.credential {
        Credential::X509(chain) => chain.leaf().map(|der| der.as_ref()),
        _ => None,
    }
    .ok_or(GroupRefusal::Malformed("a member's credential is not an X.509 certificate chain"))
}

/// The name in a leaf's own certificate.
pub(crate) fn leaf_name(identity: &SigningIdentity) -> Result<String, GroupRefusal> {
    Ok(leaf_certificate(identity)?.common_name().to_owned())
}

fn leaf_certificate(identity: &SigningIdentity) -> Result<Certificate, GroupRefusal> {
    Certificate::from_der(leaf_der(identity)?)
        .map_err(|_| GroupRefusal::Malformed("a member's certificate is malformed"))
}

impl IdentityProvider for Trust {
    type Error = GroupRefusal;

    fn validate_member(
        &self,
        identity: &SigningIdentity,
        _time: Option<MlsTime>,
        _context: MemberValidationContext<'_>,
    ) -> Result<(), GroupRefusal> {
        let issued_s = leaf_certificate(identity)?.not_before_s();
        self.verify(identity, issued_s.saturating_mul(1000)).map(drop)
    }

    fn validate_external_sender(
        &self,
        _identity: &SigningIdentity,
        _time: Option<MlsTime>,
        _extensions: Option<&ExtensionList>,
    ) -> Result<(), GroupRefusal> {
        Err(GroupRefusal::Malformed("groups have no external senders"))
    }

    fn identity(&self, identity: &SigningIdentity, _extensions: &ExtensionList) -> Result<Vec<u8>, GroupRefusal> {
        leaf_name(identity).map(String::into_bytes)
    }

    fn valid_successor(
        &self,
        predecessor: &SigningIdentity,
        successor: &SigningIdentity,
        _extensions: &ExtensionList,
    ) -> Result<bool, GroupRefusal> {
        Ok(leaf_name(predecessor)? == leaf_name(successor)?)
    }

    fn supported_types(&self) -> Vec<CredentialType> {
        vec![CredentialType::X509]
    }
}

/// Seconds for the MLS library.
pub(crate) fn mls_time(time_s: u64) -> MlsTime {
    MlsTime::from_duration_since_epoch(Duration::from_secs(time_s))
}
