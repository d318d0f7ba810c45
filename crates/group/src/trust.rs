//! Who a leaf is, for the MLS library: an X.509 chain that leads to our root.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use mls_rs::{
    ExtensionList, IdentityProvider,
    identity::{Credential, CredentialType, SigningIdentity},
    time::MlsTime,
};
use mls_rs_core::identity::MemberValidationContext;
use sealcast_identity::{Certificate, TrustAnchor, TrustError, VerifiedDevice};

use crate::GroupRefusal;

/// Validates leaves by certificate chain. Cheap to clone; all clones share the clock.
#[derive(Clone)]
pub(crate) struct Trust {
    anchors: Arc<Vec<TrustAnchor>>,
    now_ms: Arc<AtomicU64>,
}

impl Trust {
    pub fn new(anchors: Vec<TrustAnchor>, now_ms: u64) -> Self {
        Self { anchors: Arc::new(anchors), now_ms: Arc::new(AtomicU64::new(now_ms)) }
    }

    /// The time for those checks to which the library passes none.
    pub fn set_now(&self, now_ms: u64) {
        self.now_ms.store(now_ms, Ordering::Relaxed);
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

fn name(identity: &SigningIdentity) -> Result<Vec<u8>, GroupRefusal> {
    let certificate = Certificate::from_der(leaf_der(identity)?)
        .map_err(|_| GroupRefusal::Malformed("a member's certificate is malformed"))?;
    Ok(certificate.common_name().as_bytes().to_vec())
}

impl IdentityProvider for Trust {
    type Error = GroupRefusal;

    fn validate_member(
        &self,
        identity: &SigningIdentity,
        time: Option<MlsTime>,
        _context: MemberValidationContext<'_>,
    ) -> Result<(), GroupRefusal> {
        let at_ms = time.map_or_else(
            || self.now_ms.load(Ordering::Relaxed),
            |time| time.seconds_since_epoch().saturating_mul(1000),
        );
        self.verify(identity, at_ms).map(drop)
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
        name(identity)
    }

    fn valid_successor(
        &self,
        predecessor: &SigningIdentity,
        successor: &SigningIdentity,
        _extensions: &ExtensionList,
    ) -> Result<bool, GroupRefusal> {
        Ok(name(predecessor)? == name(successor)?)
    }

    fn supported_types(&self) -> Vec<CredentialType> {
        vec![CredentialType::X509]
    }
}

/// Seconds for the MLS library.
pub(crate) fn mls_time(time_s: u64) -> MlsTime {
    MlsTime::from_duration_since_epoch(Duration::from_secs(time_s))
}
