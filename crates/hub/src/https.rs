//! An HTTPS server for an axum router: a bounded number of connections, a time limit on each handshake and request.

use std::{sync::Arc, time::Duration};

use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use sealcast_node::Tasks;
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

const MAX_CONNECTIONS: usize = 256;
const HANDSHAKE: Duration = Duration::from_secs(10);
const HEADERS: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(60);
const DRAIN: Duration = Duration::from_secs(5);

/// Serves until `tasks` end, then lets the requests under way finish.
pub async fn serve(listener: TcpListener, tls: Arc<rustls::ServerConfig>, router: axum::Router, tasks: Tasks) {
    let stop = tasks.stop();
    // Cancelled when this returns: no connection outlives the time that it has to finish.
    let cut = CancellationToken::new();
    let _cut = cut.clone().drop_guard();
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
        let (stop, cut) = (stop.clone(), cut.clone());
        tasks.spawn(async move {
            let _place = place;
            let connection = async {
                let handshake = tokio::select! {
                    () = stop.cancelled() => return,
                    handshake = tokio::time::timeout(HANDSHAKE, acceptor.accept(tcp)) => handshake,
                };
                let stream = match handshake {
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
            };
            tokio::select! {
                () = cut.cancelled() => {}
                () = connection => {}
            }
        });
    }
    let _ = tokio::time::timeout(DRAIN, graceful.shutdown()).await;
}
