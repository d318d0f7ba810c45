//! Bodies of requests and answers.

use axum::{
    http::header,
    response::{IntoResponse as _, Response},
};
use serde::Serialize;

use crate::refused::Refused;

/// As the body of an answer.
pub fn json(value: &impl Serialize) -> Result<Response, Refused> {
    let text = serde_json::to_string(value).map_err(|error| Refused::internal(&error.into()))?;
    Ok(([(header::CONTENT_TYPE, "application/json")], text).into_response())
}

/// The body of a request.
pub fn parse<'a, T: serde::Deserialize<'a>>(body: &'a [u8]) -> Result<T, Refused> {
    serde_json::from_slice(body).map_err(|error| Refused::bad(format!("the body is not what is asked for: {error}")))
}
