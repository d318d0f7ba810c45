//! The relay over HTTPS: the calls of a device that nobody answers over the broker. The certificate in TLS says whose they are.

use std::sync::{Arc, PoisonError};

use axum::{
    Extension, Router,
    body::Bytes,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use sealcast_hub_core::{SharedReplica, device_of};
use sealcast_identity::{Certificate, RPC_PATH};

use crate::{https::Peer, relay::Relay};

struct Rpc {
    relay: Relay,
    replica: SharedReplica,
}

/// The route, for devices by the ledger as it is now.
pub fn router(relay: Relay, replica: SharedReplica) -> Router {
    Router::new().route(RPC_PATH, post(call)).with_state(Arc::new(Rpc { relay, replica }))
}

async fn call(State(rpc): State<Arc<Rpc>>, Extension(Peer(shown)): Extension<Peer>, body: Bytes) -> Response {
    let Some(shown) = shown.and_then(|der| Certificate::from_der(&der).ok()) else {
        return (StatusCode::FORBIDDEN, "show the device's certificate in TLS\n").into_response();
    };
    let device = {
        let replica = rpc.replica.read().unwrap_or_else(PoisonError::into_inner);
        device_of(&replica, &shown).map(|device| device.id.clone())
    };
    let device = match device {
        Ok(device) => device,
        Err(refusal) => return (StatusCode::FORBIDDEN, format!("{}\n", refusal.reason())).into_response(),
    };
    match rpc.relay.call(device.as_str(), &body).await {
        Some(answer) => ([(header::CONTENT_TYPE, "application/json")], answer).into_response(),
        None => {
            (StatusCode::TOO_MANY_REQUESTS, "as many calls of this device are under way as may be\n").into_response()
        }
    }
}
