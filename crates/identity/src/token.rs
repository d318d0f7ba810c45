//! One-time enrolment tokens: how a new device and the hub know each other the first time (RFC 7030 sections 3.2.3 and
//! 4.1.1).

use std::{fmt, str::FromStr};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use zeroize::Zeroizing;

use crate::{
    AnchorError, Certificate, DeviceId, DeviceIdError, Fingerprint, KeyError, TrustAnchor, certificate::sha256,
};

/// Random bytes in a token's secret: 144 bits, 24 characters.
const SECRET_BYTES: usize = 18;
const SECRET_CHARS: usize = 24;

/// Longest `Authorization` header that is read, in bytes.
const MAX_HEADER_BYTES: usize = 512;

/// Why a text is not an [`EnrolmentToken`]. The text is never repeated, it is a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not three parts.
    #[error("an enrolment token has three parts, <device>.<secret>.<root fingerprint>: was it copied in full?")]
    Parts,
    /// The first part is no device id.
    #[error("the enrolment token's first part is not a device id")]
    Device(#[from] DeviceIdError),
    /// The second part has another length or other characters.
    #[error("the enrolment token's secret must have {SECRET_CHARS} base64url characters: was it copied in full?")]
    Secret,
    /// The third part is no fingerprint.
    #[error("the enrolment token's root fingerprint must have 43 base64url characters: was it copied in full?")]
    Root,
}

/// Why the hub cannot be trusted on the ground of a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BootstrapError {
    /// None of its CA certificates is the token's.
    #[error(
        "the hub's root certificate is not {expected}, which the enrolment token names: this is another hub, or \
         somebody intercepts the connection. The token was not sent; check the hub's address"
    )]
    OtherRoot {
        /// The fingerprint in the token.
        expected: Fingerprint,
    },
    /// The token's certificate is no root.
    #[error("the certificate that the enrolment token names")]
    Anchor(#[from] AnchorError),
}

/// A one-time permission to enrol one device, made by the hub and carried to the device by a person.
///
/// Text: `<device>.<secret, 24 base64url characters>.<SHA-256 of the root certificate, 43 base64url characters>`. The last
/// part lets the device know the hub before it sends the secret (RFC 7030 4.1.1): see
/// [`trust_anchor`](Self::trust_anchor). Clients without it send the secret as HTTP Basic password (RFC 7617) and must know
/// the root by other means.
#[derive(Clone)]
pub struct EnrolmentToken {
    device: DeviceId,
    secret: Zeroizing<String>,
    root: Fingerprint,
}

impl EnrolmentToken {
    /// A new token with a random secret.
    pub fn generate(device: DeviceId, root: &Certificate) -> Result<Self, KeyError> {
        let mut secret = Zeroizing::new([0; SECRET_BYTES]);
        aws_lc_rs::rand::fill(secret.as_mut_slice())?;
        let secret = Zeroizing::new(URL_SAFE_NO_PAD.encode(*secret));
        Ok(Self { device, secret, root: root.fingerprint() })
    }

    /// Whom it is for.
    pub fn device(&self) -> &DeviceId {
        &self.device
    }

    /// The secret: the HTTP Basic password, beside the device id as user name.
    pub fn secret(&self) -> &str {
        &self.secret
    }

    /// The fingerprint of the root certificate.
    pub fn root(&self) -> Fingerprint {
        self.root
    }

    /// The text to hand to a person. Secret until it is used.
    pub fn to_text(&self) -> Zeroizing<String> {
        let root = URL_SAFE_NO_PAD.encode(self.root.0);
        Zeroizing::new(format!("{}.{}.{root}", self.device, *self.secret))
    }

    /// The value of the `Authorization` header that presents it (RFC 7617).
    pub fn authorization(&self) -> Zeroizing<String> {
        let pair = Zeroizing::new(format!("{}:{}", self.device, *self.secret));
        let encoded = Zeroizing::new(STANDARD.encode(pair.as_bytes()));
        Zeroizing::new(format!("Basic {}", *encoded))
    }

    /// Picks the root that this token names out of a `/cacerts` answer that came over a connection not yet trusted. Then
    /// verify that connection's server certificate against it, and only then send the secret.
    pub fn trust_anchor(&self, ca_certificates: &[Certificate]) -> Result<TrustAnchor, BootstrapError> {
        let root = ca_certificates.iter().find(|certificate| certificate.fingerprint() == self.root);
        let root = root.ok_or(BootstrapError::OtherRoot { expected: self.root })?;
        Ok(TrustAnchor::new(root.clone())?)
    }

    /// What the hub keeps of it until `expires_ms` (Unix ms).
    pub fn to_stored(&self, expires_ms: u64) -> StoredToken {
        StoredToken { device: self.device.clone(), secret_sha256: sha256(self.secret.as_bytes()), expires_ms }
    }
}

impl FromStr for EnrolmentToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        // From the right: a device id may have dots.
        let mut parts = text.trim().rsplitn(3, '.');
        let (Some(root), Some(secret), Some(device)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(TokenError::Parts);
        };
        let device = device.parse()?;
        if secret.len() != SECRET_CHARS || URL_SAFE_NO_PAD.decode(secret).map(Zeroizing::new).is_err() {
            return Err(TokenError::Secret);
        }
        let root = URL_SAFE_NO_PAD.decode(root).map_err(|_| TokenError::Root)?;
        let root = Fingerprint(root.try_into().map_err(|_| TokenError::Root)?);
        Ok(Self { device, secret: Zeroizing::new(secret.to_owned()), root })
    }
}

impl fmt::Debug for EnrolmentToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnrolmentToken").field("device", &self.device).field("root", &self.root).finish_non_exhaustive()
    }
}

/// Why a presented secret is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PresentedError {
    /// Another device's, or not the secret.
    #[error("the enrolment token was not made for device {0}")]
    Wrong(DeviceId),
    /// Past its time.
    #[error("the enrolment token for device {0} has expired: make a new one")]
    Expired(DeviceId),
}

/// What the hub keeps of a token: not enough to use it. The secret has 144 random bits, so its plain SHA-256 cannot be
/// searched. That it works once is for the store to see to: delete it in the transaction that records the certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredToken {
    /// Whom it is for.
    pub device: DeviceId,
    /// SHA-256 of the secret's text.
    pub secret_sha256: [u8; 32],
    /// First millisecond at which it is no longer accepted (Unix ms).
    pub expires_ms: u64,
}

impl StoredToken {
    /// Whether `presented` is this token's and in time. The comparison takes the same time wherever they differ, and
    /// comes before the expiry, so that only the secret's holder learns of that.
    pub fn check(&self, presented: &BasicCredentials, now_ms: u64) -> Result<(), PresentedError> {
        let same = verify_slices_are_equal(&sha256(presented.password.as_bytes()), &self.secret_sha256).is_ok();
        if !same || presented.user != self.device {
            return Err(PresentedError::Wrong(presented.user.clone()));
        }
        if now_ms >= self.expires_ms {
            return Err(PresentedError::Expired(self.device.clone()));
        }
        Ok(())
    }
}

/// Why an `Authorization` header is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// Not HTTP Basic, too long, or garbled.
    #[error("enrolment needs HTTP Basic credentials: the device id as user, the token's secret as password")]
    Malformed,
    /// The user is no device id.
    #[error("the user name must be the id of the device that enrols")]
    User(#[from] DeviceIdError),
}

/// User and password of HTTP Basic authentication (RFC 7617), for enrolment.
#[derive(Clone)]
pub struct BasicCredentials {
    /// Who says to be enrolling.
    pub user: DeviceId,
    password: Zeroizing<String>,
}

impl BasicCredentials {
    /// From the value of an `Authorization` header. The password may be the token's secret, or the whole token, which is
    /// what somebody with curl has at hand.
    pub fn from_header(value: &str) -> Result<Self, CredentialsError> {
        if value.len() > MAX_HEADER_BYTES {
            return Err(CredentialsError::Malformed);
        }
        let (scheme, encoded) = value.trim().split_once(' ').ok_or(CredentialsError::Malformed)?;
        if !scheme.eq_ignore_ascii_case("basic") {
            return Err(CredentialsError::Malformed);
        }
        let decoded = Zeroizing::new(STANDARD.decode(encoded.trim()).map_err(|_| CredentialsError::Malformed)?);
        let text = std::str::from_utf8(&decoded).map_err(|_| CredentialsError::Malformed)?;
        let (user, password) = text.split_once(':').ok_or(CredentialsError::Malformed)?;
        let user: DeviceId = user.parse()?;
        let password = match password.parse::<EnrolmentToken>() {
            Ok(token) if token.device == user => token.secret,
            _ => Zeroizing::new(password.to_owned()),
        };
        Ok(Self { user, password })
    }
}

impl fmt::Debug for BasicCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BasicCredentials").field("user", &self.user).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{NOW_MS, Network, id};

    fn token(device: &str) -> EnrolmentToken {
        EnrolmentToken::generate(id(device), Network::new().root.certificate()).unwrap()
    }

    fn header(user: &str, password: &str) -> String {
        format!("basic {}", STANDARD.encode(format!("{user}:{password}")))
    }

    #[test]
    fn survives_its_text_form_and_never_shows_its_secret() {
        for device in ["1111", "a.b.c", "x-_."] {
            let token = token(device);
            let again: EnrolmentToken = format!(" {}\n", *token.to_text()).parse().unwrap();
            assert_eq!((again.device(), again.secret(), again.root()), (token.device(), token.secret(), token.root()));
            let stored = token.to_stored(NOW_MS);
            let credentials = BasicCredentials::from_header(&token.authorization()).unwrap();
            for printed in [format!("{token:?}"), format!("{stored:?}"), format!("{credentials:?}")] {
                assert!(!printed.contains(token.secret()), "{printed}");
            }
        }
        assert_ne!(token("1111").secret(), token("1111").secret());
    }

    #[test]
    fn says_which_part_is_wrong() {
        let whole = token("1111").to_text();
        let check = |text: &str, wanted: TokenError| assert_eq!(text.parse::<EnrolmentToken>().unwrap_err(), wanted);
        check("", TokenError::Parts);
        check("1111.x", TokenError::Parts);
        check(&whole[..whole.len() - 1], TokenError::Root);
        check(&whole.replacen("1111.", "1111.A", 1), TokenError::Secret);
        check(&whole.replacen("1111.", "operator.", 1), TokenError::Device(DeviceIdError::Reserved("operator".into())));
    }

    #[test]
    fn the_hub_accepts_the_right_secret_in_time() {
        let token = token("1111");
        let stored = token.to_stored(NOW_MS);
        let check = |header: &str, now_ms| stored.check(&BasicCredentials::from_header(header).unwrap(), now_ms);
        assert_eq!(check(&token.authorization(), NOW_MS - 1), Ok(()));
        assert_eq!(check(&header("1111", &token.to_text()), NOW_MS - 1), Ok(()));
        assert_eq!(check(&token.authorization(), NOW_MS), Err(PresentedError::Expired(id("1111"))));
        for (user, password) in [("1111", ""), ("1111", &*"A".repeat(24)), ("1112", token.secret())] {
            assert_eq!(check(&header(user, password), 0), Err(PresentedError::Wrong(id(user))));
        }
        assert!(matches!(BasicCredentials::from_header(&header("ca", "x")), Err(CredentialsError::User(_))));
        for bad in ["", "Basic", "Basic *", "Bearer abc", "Basic Og", &"x".repeat(600)] {
            assert!(BasicCredentials::from_header(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn knows_the_hub_by_its_root() {
        let (network, other) = (Network::new(), Network::new());
        let token = EnrolmentToken::generate(id("1111"), network.root.certificate()).unwrap();
        let certificates = [network.authority.certificate().clone(), network.root.certificate().clone()];
        assert_eq!(token.trust_anchor(&certificates).unwrap().root(), network.root.certificate());
        for others in [vec![], vec![other.root.certificate().clone()], certificates[..1].to_vec()] {
            assert!(matches!(token.trust_anchor(&others), Err(BootstrapError::OtherRoot { .. })));
        }
        let leaf = network.device("1111").1.certificate;
        let token = EnrolmentToken::generate(id("1111"), &leaf).unwrap();
        assert!(matches!(token.trust_anchor(&[leaf]), Err(BootstrapError::Anchor(_))));
    }

    proptest! {
        #[test]
        fn no_text_makes_a_parser_panic(text in ".{0,200}") {
            let _ = text.parse::<EnrolmentToken>();
            let _ = BasicCredentials::from_header(&text);
            let _ = BasicCredentials::from_header(&format!("Basic {}", STANDARD.encode(&text)));
        }
    }
}
