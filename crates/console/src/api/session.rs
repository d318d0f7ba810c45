//! Signing in and out, and who is asked before anything else.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use axum::{
    body::Bytes,
    extract::{ConnectInfo, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use serde::{Deserialize, Serialize};
use tracing::{debug, info, warn};
use utoipa::ToSchema;

use super::body::{json, parse};
use crate::{
    access::{MAX_AGE, Role, Session, SessionId},
    console::Console,
    guard::cookie,
    refused::{ErrorBody, Refused},
};

/// What somebody who signs in shows.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignIn {
    /// HMAC-SHA256 of `sealcast console: sign in` by the token's characters, hex.
    proof: String,
}

/// Who is signed in.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct SignedIn {
    /// What they may do.
    pub role: Role,
    /// For the header `X-Sealcast-CSRF` of POST and DELETE.
    pub csrf: String,
    /// The hub's name.
    pub name: String,
}

/// Sign in. The answer sets a cookie.
#[utoipa::path(post, path = "/api/session", request_body = SignIn, responses(
    (status = 200, body = SignedIn),
    (status = 401, body = ErrorBody, description = "The token is another one"),
    (status = 429, body = ErrorBody, description = "Too many sign-ins from this address have failed"),
    (status = 503, body = ErrorBody, description = "It is no reader's token, and the hub knows no operator's yet"),
))]
pub async fn sign_in(
    State(console): State<Arc<Console>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    body: Bytes,
) -> Result<Response, Refused> {
    let SignIn { proof } = parse(&body)?;
    let (peer, now) = (peer.ip(), Instant::now());
    if !console.attempts.may_try(peer, now) {
        let message = "too many sign-ins from this address have failed: try again in a minute";
        return Err(Refused::new(StatusCode::TOO_MANY_REQUESTS, "too-many-attempts", message));
    }
    let proof = hex::decode(proof).unwrap_or_default();
    let operator = console.actions.verifier();
    let known = [(Role::Reader, console.reader()), (Role::Operator, operator)];
    let found = known.into_iter().find_map(|(role, verifier)| Some((role, verifier.filter(|it| it.admits(&proof))?)));
    let Some((role, verifier)) = found else {
        // The operator's process tells its verifier with its first call: until then the operator's token looks wrong, too.
        if operator.is_none() {
            debug!(%peer, "a sign-in to the console is not decided: no operator's process has called yet");
            let message = if console.is_demo() {
                "that is not the token which `sealcast demo --serve` has printed; it prints the operator's at the experiment's end"
            } else {
                "that is no reader's token, and operators cannot sign in before `sealcast operator` has called the hub: start \
                 it where the operator's folder is, or make a new token for readers with `sealcast console token`"
            };
            return Err(Refused::not_now("no-operator", message));
        }
        console.attempts.fail(peer, now);
        warn!(%peer, "a sign-in to the console failed: another token");
        return Err(Refused::unauthorized(
            "no such token: the hub's first start printed one for readers, `sealcast console token` makes a new one, and \
             `sealcast operator` has one for operators",
        ));
    };
    let (value, session) = console.sign_in(role, verifier, now).map_err(|error| Refused::internal(&error))?;
    info!(%peer, ?role, "signed in to the console");
    let mut response = json(&signed_in(&console, session))?;
    response.headers_mut().insert(header::SET_COOKIE, set_cookie(&console, &value, MAX_AGE.as_secs())?);
    Ok(response)
}

/// Who is signed in.
#[utoipa::path(get, path = "/api/session", responses((status = 200, body = SignedIn), (status = 401, body = ErrorBody)))]
pub async fn who(State(console): State<Arc<Console>>, headers: HeaderMap) -> Result<Response, Refused> {
    let (_, session) = reader(&console, &headers)?;
    json(&signed_in(&console, session))
}

/// Sign out.
#[utoipa::path(
    delete, path = "/api/session",
    params(("X-Sealcast-CSRF" = String, Header, description = "The session's")),
    responses((status = 204), (status = 401, body = ErrorBody), (status = 403, body = ErrorBody)),
)]
pub async fn sign_out(State(console): State<Arc<Console>>, headers: HeaderMap) -> Result<Response, Refused> {
    let (id, session) = changer(&console, &headers)?;
    console.sessions.end(id);
    info!(role = ?session.role, "signed out of the console");
    let gone = [(header::SET_COOKIE, set_cookie(&console, "", 0)?)];
    Ok((StatusCode::NO_CONTENT, gone).into_response())
}

/// The session of whoever asks to see something.
pub fn reader(console: &Console, headers: &HeaderMap) -> Result<(SessionId, Session), Refused> {
    let found = cookie(headers, &cookie_name(console)).and_then(|value| console.sessions.find(value, Instant::now()));
    found.ok_or_else(|| Refused::unauthorized("sign in first"))
}

/// The session of whoever asks for a change: no page of another site knows its CSRF text.
pub fn changer(console: &Console, headers: &HeaderMap) -> Result<(SessionId, Session), Refused> {
    let (id, session) = reader(console, headers)?;
    let shown = headers.get("x-sealcast-csrf").map(HeaderValue::as_bytes).unwrap_or_default();
    if aws_lc_rs::constant_time::verify_slices_are_equal(shown, session.csrf.as_bytes()).is_err() {
        return Err(Refused::forbidden("csrf", "the header X-Sealcast-CSRF is not the session's: load the page again"));
    }
    Ok((id, session))
}

fn signed_in(console: &Console, session: Session) -> SignedIn {
    SignedIn { role: session.role, csrf: session.csrf, name: console.name().to_owned() }
}

/// Browsers send a cookie to all ports of a name: hubs side by side need names of their own.
pub fn cookie_name(console: &Console) -> String {
    format!("sealcast-console-{}", console.setup.port)
}

fn set_cookie(console: &Console, value: &str, age_s: u64) -> Result<HeaderValue, Refused> {
    let secure = if console.setup.tls { "; Secure" } else { "" };
    let name = cookie_name(console);
    let text = format!("{name}={value}; Path=/; Max-Age={age_s}; HttpOnly; SameSite=Strict{secure}");
    text.parse().map_err(|_| Refused::internal(&anyhow::anyhow!("the cookie")))
}
