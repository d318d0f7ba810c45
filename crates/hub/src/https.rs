//! A server for an axum router, over TLS or for this machine alone without it: a bounded number of connections, of each host
//! fewer, and a time limit on each step.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Extension, Router,
    body::{Body, to_bytes},
    extract::{ConnectInfo, Request},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
};
use hyper::{StatusCode, header, header::HeaderValue};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::{GracefulShutdown, Watcher},
    service::TowerToHyperService,
};
use rustls_pki_types::CertificateDer;
use sealcast_broker::{MaxStrangers, Stranger, Strangers};
use sealcast_node::{Tasks, accepted};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;
use tracing::debug;

/// What connections may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// What is served, for the log.
    pub name: &'static str,
    /// What the log says when a host has too many connections.
    pub refusal: &'static str,
    /// Connections at once. More wait until there is a place.
    pub max_connections: usize,
    /// Connections of one host at once. More are closed.
    pub max_host: usize,
    /// Largest body of a request.
    pub max_body_bytes: usize,
    /// How long the handshake, a request's head and its body may take, each.
    pub step: Duration,
    /// How long a connection may be open.
    pub longest: Duration,
}

const DRAIN: Duration = Duration::from_secs(5);

/// The certificate that a connection's client has shown, if it has: the CA's, and not ended. An extension of each request.
#[derive(Clone)]
pub struct Peer(pub Option<CertificateDer<'static>>);

/// What serves one connection.
#[derive(Clone)]
struct Server {
    acceptor: Option<TlsAcceptor>,
    router: Router,
    limits: Limits,
    stop: CancellationToken,
    /// Cancelled when [`serve`] returns: no connection outlives the time that it has to finish.
    cut: CancellationToken,
}

/// Serves until `tasks` end, then lets the requests under way finish.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    router: Router,
    limits: Limits,
    tasks: Tasks,
) {
    let stop = tasks.stop();
    let cut = CancellationToken::new();
    let _cut = cut.clone().drop_guard();
    let router = router.layer(middleware::from_fn(move |request, next| whole(request, next, limits)));
    let server = Server { acceptor: tls.map(TlsAcceptor::from), router, limits, stop: stop.clone(), cut };
    let places = Arc::new(Semaphore::new(limits.max_connections));
    let max = MaxStrangers { host: limits.max_host, loopback: limits.max_host };
    let strangers = Strangers::new(max, limits.refusal);
    let graceful = GracefulShutdown::new();
    loop {
        let next = async {
            let place = places.clone().acquire_owned().await;
            (place, accepted(limits.name, || listener.accept()).await)
        };
        let (place, (tcp, peer)) = tokio::select! {
            () = stop.cancelled() => break,
            next = next => next,
        };
        let Ok(place) = place else { break };
        let Some(stranger) = strangers.admit(peer.ip()) else { continue };
        let connection = server.clone().serve(tcp, peer, stranger, graceful.watcher());
        tasks.spawn(async move {
            let _place = place;
            if let Err(reason) = connection.await {
                debug!(%peer, "connection to {} closed: {reason}", limits.name);
            }
        });
    }
    let _ = timeout(DRAIN, graceful.shutdown()).await;
}

impl Server {
    async fn serve(self, tcp: TcpStream, peer: SocketAddr, _place: Stranger, watcher: Watcher) -> Result<(), String> {
        let Some(acceptor) = self.acceptor.clone() else {
            return self.answer(tcp, peer, None, watcher).await;
        };
        let stream = tokio::select! {
            () = self.stop.cancelled() => return Ok(()),
            handshake = timeout(self.limits.step, handshake(acceptor, tcp)) => match handshake {
                Ok(stream) => stream?,
                Err(_) => return Err("no TLS in time".into()),
            },
        };
        let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first).cloned();
        self.answer(stream, peer, shown, watcher).await
    }

    async fn answer(
        self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        peer: SocketAddr,
        shown: Option<CertificateDer<'static>>,
        watcher: Watcher,
    ) -> Result<(), String> {
        let router = self.router.layer(Extension(Peer(shown))).layer(Extension(ConnectInfo(peer)));
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.step)
            .max_buf_size(64 << 10)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
        tokio::select! {
            () = self.cut.cancelled() => Ok(()),
            outcome = timeout(self.limits.longest, watcher.watch(connection)) => match outcome {
                Ok(outcome) => outcome.map_err(|error| error.to_string()),
                Err(_) => Err("it was open for too long".into()),
            },
        }
    }
}

/// TLS. Whoever speaks plain HTTP is told what to do: a browser shows that, and would show nothing of a TLS alert.
async fn handshake(acceptor: TlsAcceptor, mut tcp: TcpStream) -> Result<TlsStream<TcpStream>, String> {
    let mut first = [0];
    let begun = tcp.peek(&mut first).await.map_err(|error| format!("nothing came: {error}"))?;
    if begun == 1 && first[0].is_ascii_uppercase() {
        let text = "This port takes HTTPS only: write https:// in front of the address.\n";
        let length = text.len();
        let answer = format!(
            "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{text}"
        );
        // It is gone if it does not hear it.
        let _ = tcp.write_all(answer.as_bytes()).await;
        let _ = tcp.shutdown().await;
        return Err("plain HTTP".into());
    }
    acceptor.accept(tcp).await.map_err(|error| format!("no TLS: {error}"))
}

/// Hands a request on once its body is there.
async fn whole(request: Request, next: Next, limits: Limits) -> Response {
    let (head, body) = request.into_parts();
    // The rest of a body is not waited for: the connection ends with the answer.
    let refused = |status: StatusCode, reason: String| {
        let mut response = (status, format!("{reason}\n")).into_response();
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        response
    };
    match timeout(limits.step, to_bytes(body, limits.max_body_bytes)).await {
        Ok(Ok(body)) => next.run(Request::from_parts(head, Body::from(body))).await,
        Ok(Err(error)) => {
            let reason = format!("the body, of at most {} bytes, cannot be read: {error}", limits.max_body_bytes);
            refused(StatusCode::PAYLOAD_TOO_LARGE, reason)
        }
        Err(_) => refused(StatusCode::REQUEST_TIMEOUT, format!("the body was not there in {:?}", limits.step)),
    }
}
