//! The routes.

mod acting;
mod body;
mod looking;
pub mod session;

pub use self::session::SignedIn;

use std::sync::Arc;

use axum::{
    Router,
    extract::DefaultBodyLimit,
    http::header,
    middleware,
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use utoipa::OpenApi;

use crate::{
    certificate,
    console::Console,
    guard::{self, Guard},
    page,
    refused::Refused,
};

/// The longest body of a request.
const MAX_BODY_BYTES: usize = 16 << 10;

/// The API's description.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Sealcast console",
        description = "What a hub shows, and what its operator may ask for. Times are Unix ms."
    ),
    paths(
        session::sign_in,
        session::who,
        session::sign_out,
        looking::state,
        looking::feed,
        looking::node,
        looking::group,
        looking::entries,
        looking::entry,
        looking::wire,
        looking::values,
        acting::verify,
        acting::act,
        openapi_json,
    )
)]
struct Description;

/// The description of the API, OpenAPI 3.1, as JSON.
///
/// # Errors
/// It cannot be written, which is a fault of Sealcast.
pub fn openapi() -> anyhow::Result<String> {
    Ok(Description::openapi().to_json()?)
}

/// The console's page and its API. Each request has the peer's address as an extension, `ConnectInfo<SocketAddr>`, and the
/// certificate that its client has shown, [`crate::Shown`], if the server asks for one.
pub fn router(console: Arc<Console>) -> Router {
    let guard = Arc::new(Guard::new(console.setup.names.clone(), console.setup.tls));
    Router::new()
        .route("/api/session", post(session::sign_in).get(session::who).delete(session::sign_out))
        .route("/api/state", get(looking::state))
        .route("/api/feed", get(looking::feed))
        .route("/api/nodes/{id}", get(looking::node))
        .route("/api/groups/{name}", get(looking::group))
        .route("/api/entries", get(looking::entries))
        .route("/api/entries/{index}", get(looking::entry))
        .route("/api/wire", get(looking::wire))
        .route("/api/values", get(looking::values))
        .route("/api/verify", post(acting::verify))
        .route("/api/actions", post(acting::act))
        .route("/api/openapi.json", get(openapi_json))
        .route("/api/{*rest}", axum::routing::any(guard::unknown))
        .fallback(get(page::serve))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(middleware::from_fn_with_state(console.clone(), certificate::sign_in))
        .layer(middleware::from_fn_with_state(guard, guard::guard))
        .with_state(console)
}

/// The API's description.
#[utoipa::path(get, path = "/api/openapi.json", responses((status = 200, description = "OpenAPI 3.1")))]
async fn openapi_json() -> Result<Response, Refused> {
    let text = openapi().map_err(|error| Refused::internal(&error))?;
    Ok(([(header::CONTENT_TYPE, "application/json")], text).into_response())
}

#[cfg(test)]
mod tests;
