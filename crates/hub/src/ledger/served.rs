//! Ethereum's JSON-RPC over HTTP, for tools that read the embedded ledger: `cast`, viem, a block explorer.

use std::{net::SocketAddr, sync::Arc};

use anyhow::{Context as _, Result};
use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, StatusCode, header, uri::Authority},
    response::{IntoResponse as _, Response},
    routing::post,
};
use sealcast_chain::{Engine, MAX_REQUEST_BYTES};
use sealcast_node::Tasks;
use tokio::{net::TcpListener, sync::Semaphore};
use tracing::{error, info};

/// Requests that are answered at once. More wait.
const MAX_RUNNING: usize = 16;

struct Served {
    engine: Engine,
    turns: Semaphore,
}

/// Listens at `address`, which is of this machine, and answers as `engine` does until `tasks` end.
pub async fn open(address: SocketAddr, engine: Engine, tasks: &Tasks) -> Result<SocketAddr> {
    let listener =
        TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address} (ledger.listen)"))?;
    let bound = listener.local_addr()?;
    let served = Arc::new(Served { engine, turns: Semaphore::new(MAX_RUNNING) });
    let router =
        Router::new().route("/", post(answer)).layer(DefaultBodyLimit::max(MAX_REQUEST_BYTES)).with_state(served);
    let stop = tasks.stop().clone();
    let server = axum::serve(listener, router).with_graceful_shutdown(async move { stop.cancelled().await });
    tasks.keep("the task that serves the ledger's JSON-RPC", async move {
        if let Err(error) = server.await {
            error!("the ledger's JSON-RPC is served no more: {error}");
        }
    });
    info!(url = %format!("http://{bound}"), "the ledger's JSON-RPC is served to this machine");
    Ok(bound)
}

async fn answer(State(served): State<Arc<Served>>, headers: HeaderMap, body: Bytes) -> Response {
    if let Err(refusal) = check(&headers) {
        return refusal.into_response();
    }
    let Ok(_turn) = served.turns.acquire().await else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    ([(header::CONTENT_TYPE, "application/json")], served.engine.handle(&body).await).into_response()
}

/// Keeps out the pages of a browser on this machine. Without being asked about it, a page can send no JSON, and one whose
/// name was made to mean this machine says that name.
fn check(headers: &HeaderMap) -> Result<(), (StatusCode, &'static str)> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !text(header::CONTENT_TYPE).starts_with("application/json") {
        return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, "the content type has to be application/json\n"));
    }
    let host = text(header::HOST).parse::<Authority>();
    let is_here = |host: &str| host == "localhost" || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok();
    if !host.is_ok_and(|host| is_here(host.host())) {
        return Err((StatusCode::FORBIDDEN, "ask by an address, or by localhost\n"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browsers_page_is_kept_out() -> Result<()> {
        let asked = |kind: &str, host: &str| -> Result<bool> {
            let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, kind.parse()?), (header::HOST, host.parse()?)]);
            Ok(check(&headers).is_ok())
        };
        for host in ["localhost:8545", "127.0.0.1:8545", "[::1]:8545", "127.0.0.1"] {
            assert!(asked("application/json", host)?, "{host}");
        }
        assert!(asked("application/json; charset=utf-8", "localhost")?);
        assert!(!asked("text/plain", "localhost")? && !asked("application/json", "evil.example:8545")?);
        assert!(check(&HeaderMap::new()).is_err());
        Ok(())
    }
}
