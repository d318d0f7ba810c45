//! Answers that say no.

use axum::{
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use tracing::error;
use utoipa::ToSchema;

/// An answer that says no.
#[derive(Debug)]
pub struct Refused {
    status: StatusCode,
    /// For programs.
    pub code: &'static str,
    message: String,
}

/// The body of such an answer.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// What it says.
    pub error: ErrorText,
}

/// Why the answer is no.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct ErrorText {
    /// For programs.
    pub code: String,
    /// What is wrong and what to do.
    pub message: String,
}

impl Refused {
    /// `message`: what is wrong and what to do.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    /// The request is wrong.
    pub fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-request", message)
    }

    /// Nobody is signed in.
    pub fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "not-signed-in", message)
    }

    /// Whoever asks may not.
    pub fn forbidden(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, code, message)
    }

    /// There is no such thing.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", message)
    }

    /// It may be possible later.
    pub fn not_now(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message)
    }

    /// The hub's fault: the reason goes to its log.
    pub fn internal(reason: &anyhow::Error) -> Self {
        error!("the console could not answer: {reason:#}");
        let message = "the hub could not answer: see the hub's log";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let Self { status, code, message } = self;
        let error = ErrorText { code: code.to_owned(), message };
        let body = serde_json::to_string(&ErrorBody { error }).unwrap_or_default();
        (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
    }
}
