//! Sign-in by a client certificate: of a device that `hub.toml` names, or the operator's.
//!
//! A browser shows a certificate by itself, so one alone proves no wish: what changes something needs the session's CSRF text,
//! as with a cookie, and pages of other sites are refused (`guard`). A certificate stands for one session, which ends as soon
//! as the ledger or the time says no.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use sealcast_identity::Certificate;
use tracing::info;

use crate::{api::session, console::Console, refused::Refused};

/// The certificate that a connection's client has shown, which the CA has issued. An extension of each request.
#[derive(Clone)]
pub struct Shown(pub Option<Certificate>);

/// Lets a request whose client has shown a certificate have the certificate's session, unless it has one by a cookie.
pub async fn sign_in(State(console): State<Arc<Console>>, mut request: Request, next: Next) -> Response {
    let shown = request.extensions().get::<Shown>().and_then(|Shown(shown)| shown.clone());
    let Some(certificate) = shown.filter(|_| session::reader(&console, request.headers()).is_err()) else {
        return next.run(request).await;
    };
    let name = certificate.common_name().to_owned();
    let reason = match console.role_of(&certificate) {
        Err(reason) => reason,
        Ok(role) => {
            let found = console.sign_in_by(role, certificate).and_then(|(cookie, is_new)| {
                if is_new {
                    info!(name, ?role, "signed in to the console by a certificate");
                }
                Ok(HeaderValue::from_str(&format!("{}={cookie}", session::cookie_name(&console)))?)
            });
            let value = match found {
                Ok(value) => value,
                Err(error) => return Refused::internal(&error).into_response(),
            };
            // Below, a session is found by its cookie, whichever way it began.
            request.headers_mut().insert(header::COOKIE, value);
            return next.run(request).await;
        }
    };
    let is_sign_in = request.method() == Method::POST;
    let answer = next.run(request).await;
    if answer.status() != StatusCode::UNAUTHORIZED || is_sign_in {
        return answer;
    }
    let message = format!("the certificate of {name} does not sign in ({reason}): sign in with a token");
    Refused::unauthorized(message).into_response()
}
