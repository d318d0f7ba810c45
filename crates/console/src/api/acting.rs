//! What changes something, or costs much.

use std::{sync::Arc, time::Instant};

use axum::{
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse as _, Response},
};
use serde::Serialize;
use tracing::info;
use utoipa::ToSchema;

use super::{
    body::{json, parse},
    session::changer,
};
use crate::{
    access::Role,
    actions::{Action, NotTaken},
    console::Console,
    refused::{ErrorBody, Refused},
};

/// What an event `action` will be about.
#[derive(Serialize, ToSchema)]
struct Taken {
    id: String,
}

/// Verify the ledger from its first entry on. Progress comes as events `verify`.
#[utoipa::path(
    post, path = "/api/verify",
    params(("X-Sealcast-CSRF" = String, Header, description = "The session's")),
    responses((status = 202), (status = 401, body = ErrorBody), (status = 409, body = ErrorBody, description = "One runs")),
)]
pub async fn verify(State(console): State<Arc<Console>>, headers: HeaderMap) -> Result<Response, Refused> {
    changer(&console, &headers)?;
    let (genesis, of) = {
        let replica = console.replica();
        (*replica.genesis(), replica.height())
    };
    let (told, answer) = tokio::sync::oneshot::channel();
    // It goes on without whoever asked for it.
    tokio::spawn(async move {
        let turn = console.verification.begin();
        let _ = told.send(turn.is_some());
        if let Some(turn) = turn {
            turn.run(genesis, of, &console.setup.records, &console.feed).await;
        }
    });
    match answer.await {
        Ok(true) => Ok(StatusCode::ACCEPTED.into_response()),
        _ => {
            Err(Refused::new(StatusCode::CONFLICT, "runs", "a verification is under way: its progress is in the feed"))
        }
    }
}

/// Ask the operator's process to act. The outcome comes as an event `action`.
///
/// The proof is HMAC-SHA256 by the operator's token of the lines `sealcast console: action`, action, node, group, reason, at and
/// id.
#[utoipa::path(
    post, path = "/api/actions", request_body = Action,
    params(("X-Sealcast-CSRF" = String, Header, description = "The session's")),
    responses(
        (status = 202, body = Taken),
        (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody, description = "A reader may not"),
        (status = 503, body = ErrorBody, description = "No process with the operator's key is connected"),
    ),
)]
pub async fn act(State(console): State<Arc<Console>>, headers: HeaderMap, body: Bytes) -> Result<Response, Refused> {
    let (_, session) = changer(&console, &headers)?;
    if session.role != Role::Operator {
        return Err(Refused::forbidden(
            "role",
            "a reader may see everything and change nothing: sign in with the operator's token",
        ));
    }
    let action: Action = parse(&body)?;
    if !action.is_well_formed() {
        return Err(Refused::bad("the fields are one line each, id is 16 hex digits and proof is 64"));
    }
    let (id, act, node, group) = (action.id.clone(), action.action, action.node.clone(), action.group.clone());
    console.actions.put(action, Instant::now()).map_err(|why| match why {
        NotTaken::NoOperator => Refused::not_now(
            "no-operator",
            "no process with the operator's key is connected: start `sealcast operator` where the operator's folder is",
        ),
        NotTaken::Full => {
            Refused::not_now("busy", "other actions wait for the operator's process: try again in a moment")
        }
        NotTaken::Known => Refused::new(StatusCode::CONFLICT, "known", "this action is under way"),
    })?;
    info!(?act, node, group, "the operator's process is asked to act");
    let mut response = json(&Taken { id })?;
    *response.status_mut() = StatusCode::ACCEPTED;
    Ok(response)
}
