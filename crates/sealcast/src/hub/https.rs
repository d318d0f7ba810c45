//! An HTTPS server for an axum router: a bounded number of connections, a time limit on each handshake and request.

use std::{sync::Arc, time::Duration};

use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

const MAX_CONNECTIONS: usize = 256;
const HANDSHAKE: Duration = Duration::from_secs(10);
const HEADERS: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(60);
const DRAIN: Duration = Duration::from_secs(5);

/// Serves until `stop`, then lets the requests under way finish.
pub async fn serve(
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    router: axum::Router,
    stop: CancellationToken,
) {
    let acceptor = TlsAcceptor::from(tls);
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let graceful = GracefulShutdown::new();
    loop {
        let next = async {
            let place = places.clone().acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, tcp, peer) = tokio::select! {
            () = stop.cancelled() => break,
            next = next => match next {
                (Err(_), _) => break,
                (Ok(place), Ok((tcp, peer))) => (place, tcp, peer),
                (Ok(_), Err(error)) => {
                    warn!(%error, "EST cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
        };
        let (acceptor, router, watcher) = (acceptor.clone(), router.clone(), graceful.watcher());
        tokio::spawn(async move {
            let _place = place;
            let stream = match tokio::time::timeout(HANDSHAKE, acceptor.accept(tcp)).await {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => return debug!(%peer, %error, "no TLS"),
                Err(_) => return debug!(%peer, "no TLS in time"),
            };
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADERS)
                .max_buf_size(64 << 10)
                .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
            match tokio::time::timeout(LONGEST, watcher.watch(connection)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => debug!(%peer, %error, "HTTP"),
                Err(_) => debug!(%peer, "connection open for too long"),
            }
        });
    }
    let _ = tokio::time::timeout(DRAIN, graceful.shutdown()).await;
}
