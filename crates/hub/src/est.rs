//! Enrolment over Secure Transport (RFC 7030): the CA's HTTPS side.
//!
//! `/cacerts`, `/simpleenroll` and `/simplereenroll`, and beside them the network descriptor, which tells a device where
//! ledger and broker are, and the list of revoked certificates.

mod certificates;

use std::sync::{Arc, PoisonError};

use axum::{
    Extension, Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use sealcast_hub_core::{CertificateRefusal, SharedReplica, device_of};
use sealcast_identity::{
    BasicCredentials, CRL_PATH, CRL_TYPE, Certificate, DeviceId, Issued, NETWORK_PATH, StoredToken, est,
};
use sealcast_ledger::{Body, DeviceRegistered};
use sealcast_node::{Tasks, now_ms, output};
use tokio::sync::{OwnedMutexGuard, oneshot};
use tracing::{error, info, warn};

use self::certificates::{Certificates, Renewal};
use crate::{
    config,
    descriptor::Descriptor,
    https::Peer,
    registrar::Registrar,
    revocations::Revocations,
    tokens::{Claimed, Tokens},
};

/// What the handlers need.
pub struct Est {
    /// The CA.
    registrar: Registrar,
    /// The tokens that were given out.
    tokens: Tokens,
    /// How long certificates are valid.
    config: config::Hub,
    /// The signed network descriptor.
    descriptor: Descriptor,
    /// By which a certificate is judged.
    replica: SharedReplica,
    certificates: Certificates,
    revocations: Revocations,
    /// Under which registrations run to their end.
    tasks: Tasks,
}

impl Est {
    /// With nothing renewed yet. `descriptor`: the signed network descriptor.
    pub fn new(
        registrar: Registrar,
        tokens: Tokens,
        config: config::Hub,
        descriptor: Descriptor,
        replica: SharedReplica,
        tasks: Tasks,
    ) -> Self {
        let (certificates, revocations) = (Certificates::default(), Revocations::default());
        Self { registrar, tokens, config, descriptor, replica, certificates, revocations, tasks }
    }

    /// Puts a certificate onto the ledger and notes that, whether or not its request is dropped meanwhile: whoever asks again
    /// gets this one. `token`: that of an enrolment. Holds the device's `turn` to its end.
    async fn register(
        self: &Arc<Self>,
        device: &DeviceId,
        certificate: Certificate,
        token: Option<StoredToken>,
        turn: OwnedMutexGuard<()>,
    ) -> Result<Certificate, Refused> {
        let (est, device) = (self.clone(), device.clone());
        let work = async move {
            let _turn = turn;
            register(&est.registrar, &device, &certificate).await?;
            est.certificates.keep(device, certificate.clone(), token.as_ref());
            Ok(certificate)
        };
        let (done, answer) = oneshot::channel();
        self.tasks.spawn(async move {
            // Nobody hears it if the peer has hung up.
            let _ = done.send(work.await);
        });
        answer.await.map_err(|_| Refused::internal(anyhow::anyhow!("a registration panicked")))?
    }
}

/// The routes.
pub fn router(est: Arc<Est>) -> Router {
    Router::new()
        .route(est::CA_CERTIFICATES_PATH, get(ca_certificates))
        .route(est::ENROLL_PATH, post(simple_enroll))
        .route(est::REENROLL_PATH, post(simple_reenroll))
        .route(NETWORK_PATH, get(network))
        .route(CRL_PATH, get(revocation_list))
        .with_state(est)
}

async fn ca_certificates(State(est): State<Arc<Est>>) -> Result<Response, Refused> {
    let authority = &est.registrar.authority;
    let body = est::certs_only_body([authority.certificate(), authority.root()]).map_err(Refused::internal)?;
    Ok(pkcs7(est::CA_CERTIFICATES_TYPE, body))
}

async fn network(State(est): State<Arc<Est>>) -> Result<Response, Refused> {
    let json = est.descriptor.json(&est.registrar.authority).map_err(Refused::internal)?;
    Ok(([(header::CONTENT_TYPE, "application/json")], json).into_response())
}

async fn simple_enroll(State(est): State<Arc<Est>>, headers: HeaderMap, body: Bytes) -> Result<Response, Refused> {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok()).unwrap_or_default();
    let credentials = BasicCredentials::from_header(text(header::AUTHORIZATION))
        .map_err(|error| Refused::unauthorized(error.to_string()))?;
    let device = &credentials.user;
    let now = now_ms();
    // One text for "no such token" and "another token", so that nobody learns who is expected.
    let unknown = || {
        Refused::unauthorized(format!(
            "there is no unused enrolment token for device {device} with that secret: make one with `sealcast device \
             add {device}`"
        ))
    };
    let token = est.tokens.of(device).map_err(Refused::internal)?.ok_or_else(unknown)?;
    token.check(&credentials, now).map_err(|error| match error {
        sealcast_identity::PresentedError::Expired(_) => Refused::unauthorized(error.to_string()),
        sealcast_identity::PresentedError::Wrong(_) => unknown(),
    })?;
    let turn = est.certificates.turn(device).await;
    let certificate = decide(&est, device, text(header::CONTENT_TYPE), &body, now)?.certificate;
    // Until the token is used up the device has nothing, and can try again with it, whatever fails or is killed.
    let claim = match est.tokens.claim(token.clone(), certificate.public_key()).map_err(Refused::internal)? {
        Claimed::Taken(claim) => claim,
        Claimed::Gone => return Err(unknown()),
        Claimed::OtherKey => {
            return Err(Refused::unauthorized(format!(
                "device {device} began to enrol with that token and another key, which may be on the ledger: enrol with \
                 that key, or make another token with `sealcast device add {device}`"
            )));
        }
    };
    let registered = {
        let replica = est.replica.read().unwrap_or_else(PoisonError::into_inner);
        est.certificates.enrolled(&token, certificate.public_key(), &replica)
    };
    let certificate = match registered {
        Some(registered) => registered,
        None => est.register(device, certificate, Some(token), turn).await?,
    };
    if !claim.spend().map_err(Refused::internal)? {
        return Err(unknown());
    }
    info!(%device, serial = hex::encode(certificate.serial()), "enrolled");
    let body = est::certs_only_body([&certificate]).map_err(Refused::internal)?;
    Ok(pkcs7(est::ISSUED_TYPE, body))
}

/// A certificate for the same device and the same key, for whoever shows the present one (RFC 7030 section 4.2.2). Another
/// key would end all grants of the device, so that takes a token of the operator's.
async fn simple_reenroll(
    State(est): State<Arc<Est>>,
    Extension(Peer(shown)): Extension<Peer>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refused> {
    let shown = shown.and_then(|der| Certificate::from_der(&der).ok());
    let shown =
        shown.ok_or_else(|| Refused::forbidden("show the device's certificate in TLS to renew it".to_owned()))?;
    let refused = |refusal: CertificateRefusal| {
        Refused::forbidden(format!("the certificate of {:?} is not renewed: {}", shown.common_name(), refusal.reason()))
    };
    let id = shown.device().map_err(|_| refused(CertificateRefusal::NoDevice))?;
    let turn = est.certificates.turn(&id).await;
    let device = {
        let replica = est.replica.read().unwrap_or_else(PoisonError::into_inner);
        device_of(&replica, &shown).cloned().map_err(refused)?
    };
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let certificate = decide(&est, &device.id, content_type, &body, now_ms())?.certificate;
    if certificate.public_key() != &device.key {
        return Err(Refused {
            status: StatusCode::BAD_REQUEST,
            reason: format!(
                "a renewal is for the same key, and another one takes a token: make one with `sealcast device add {}`",
                device.id
            ),
        });
    }
    let certificate = match est.certificates.renewal(&device, &shown, now_ms()) {
        Renewal::Again(registered) => registered,
        Renewal::OtherKey => return Err(refused(CertificateRefusal::Revoked)),
        Renewal::TooEarly { due_s } => {
            return Err(Refused {
                status: StatusCode::TOO_MANY_REQUESTS,
                reason: format!("the certificate of {} can be renewed from {} on", device.id, output::utc(due_s)),
            });
        }
        Renewal::New => est.register(&device.id, certificate, None, turn).await?,
    };
    info!(device = %device.id, serial = hex::encode(certificate.serial()), "renewed");
    let body = est::certs_only_body([&certificate]).map_err(Refused::internal)?;
    Ok(pkcs7(est::ISSUED_TYPE, body))
}

async fn revocation_list(State(est): State<Arc<Est>>) -> Result<Response, Refused> {
    let list = est.revocations.list(&est.registrar.authority, &est.replica, now_ms()).map_err(Refused::internal)?;
    Ok(([(header::CONTENT_TYPE, CRL_TYPE)], list).into_response())
}

/// What the CA decides on a request of `device`.
fn decide(est: &Est, device: &DeviceId, content_type: &str, body: &[u8], now_ms: u64) -> Result<Issued, Refused> {
    let request = est::parse_simple_enroll(content_type, body).map_err(|error| {
        let status = match error {
            est::EstError::ContentType(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            est::EstError::TooLong(_) => StatusCode::PAYLOAD_TOO_LARGE,
            _ => StatusCode::BAD_REQUEST,
        };
        Refused { status, reason: chain(&error) }
    })?;
    let lifetime = est.config.certificate_lifetime;
    est.registrar.authority.decide_enrolment(&request, device, now_ms, lifetime).map_err(|error| {
        match error.is_requesters_fault() {
            true => Refused { status: StatusCode::BAD_REQUEST, reason: chain(&error) },
            false => Refused::internal(error),
        }
    })
}

async fn register(registrar: &Registrar, device: &DeviceId, certificate: &Certificate) -> Result<(), Refused> {
    let registered = DeviceRegistered::new(device.clone(), certificate).map_err(Refused::internal)?;
    registrar
        .submit(Body::DeviceRegistered(registered))
        .await
        .map_err(|error| Refused { status: StatusCode::SERVICE_UNAVAILABLE, reason: format!("{error:#}") })
}

fn pkcs7(content_type: &'static str, body: String) -> Response {
    (
        [
            (header::CONTENT_TYPE, content_type),
            (header::HeaderName::from_static("content-transfer-encoding"), "base64"),
        ],
        body,
    )
        .into_response()
}

/// An answer that is not 200, with a reason for the person at the other end.
struct Refused {
    status: StatusCode,
    reason: String,
}

impl Refused {
    fn unauthorized(reason: String) -> Self {
        Self { status: StatusCode::UNAUTHORIZED, reason }
    }

    fn forbidden(reason: String) -> Self {
        Self { status: StatusCode::FORBIDDEN, reason }
    }

    fn internal(error: impl Into<anyhow::Error>) -> Self {
        let error: anyhow::Error = error.into();
        error!("enrolment failed: {error:#}");
        Self {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            reason: "the hub could not process the request: see the hub's log".into(),
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let Self { status, reason } = self;
        if status.is_client_error() {
            warn!(%status, reason, "enrolment refused");
        }
        let mut response = (status, format!("{reason}\n")).into_response();
        if status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Basic realm=\"sealcast\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests;
