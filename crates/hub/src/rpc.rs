//! The relay over HTTPS: the calls of a device or of the operator that nobody answers over the broker. The certificate in TLS
//! says whose they are.

use std::sync::{Arc, PoisonError};

use axum::{
    Extension, Router,
    body::Bytes,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use sealcast_hub_core::{SharedReplica, holder_of};
use sealcast_identity::{Certificate, RPC_PATH};

use crate::{https::Peer, relay::Relay};

struct Rpc {
    relay: Relay,
    replica: SharedReplica,
}

/// The route, for whoever may call by the ledger as it is now.
pub fn router(relay: Relay, replica: SharedReplica) -> Router {
    Router::new().route(RPC_PATH, post(call)).with_state(Arc::new(Rpc { relay, replica }))
}

async fn call(State(rpc): State<Arc<Rpc>>, Extension(Peer(shown)): Extension<Peer>, body: Bytes) -> Response {
    let Some(shown) = shown.and_then(|der| Certificate::from_der(&der).ok()) else {
        return (StatusCode::FORBIDDEN, "show a device's or the operator's certificate in TLS\n").into_response();
    };
    let caller = {
        let replica = rpc.replica.read().unwrap_or_else(PoisonError::into_inner);
        holder_of(&replica, &shown).map(|holder| holder.name().to_owned())
    };
    let caller = match caller {
        Ok(caller) => caller,
        Err(refusal) => return (StatusCode::FORBIDDEN, format!("{}\n", refusal.reason())).into_response(),
    };
    match rpc.relay.call(&caller, &body).await {
        Some(answer) => ([(header::CONTENT_TYPE, "application/json")], answer).into_response(),
        None => (StatusCode::TOO_MANY_REQUESTS, "as many calls in this name are under way as may be\n").into_response(),
    }
}
