//! What a monitoring system asks a process: `/metrics` (OpenMetrics), `/healthz` and `/readyz`, over plain HTTP.
//!
//! A process is healthy while the tasks that it needs live; otherwise it ends, and whoever supervises it starts it again. It
//! is ready when it can do its work, which may take a hub, a broker or another member: starting it again does not help then.

mod figures;
mod settings;

use std::{convert::Infallible, future::Future, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{ALLOW, CONTENT_TYPE, HeaderValue},
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, sync::Semaphore};
use tracing::{debug, info, warn};

pub use self::{
    figures::{Figure, Labels, Value},
    settings::MonitorFile,
};
use crate::Tasks;

/// Connections at once. More are closed.
const MAX_CONNECTIONS: usize = 16;
/// How long a request's head may take, and a connection without requests may last.
const HEADERS: Duration = Duration::from_secs(30);
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What is asked about a role.
pub trait Monitored: Send + Sync + 'static {
    /// Its figures, as they are now.
    fn figures(&self) -> impl Future<Output = Vec<Figure>> + Send;

    /// What it waits for, in words; nothing if it can do its work.
    fn missing(&self) -> impl Future<Output = Vec<String>> + Send;
}

/// Listens at `address`, and serves what is asked about `role` until `tasks` end.
pub async fn open<R: Monitored>(address: SocketAddr, role: Arc<R>, tasks: &Tasks) -> Result<SocketAddr> {
    let listener =
        TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address} (metrics.listen)"))?;
    let bound = listener.local_addr()?;
    info!(address = %bound, "metrics, health and readiness are served");
    tasks.keep("the task that serves metrics", serve(listener, role, tasks.clone()));
    Ok(bound)
}

async fn serve<R: Monitored>(listener: TcpListener, role: Arc<R>, tasks: Tasks) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            () = tasks.stop().cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (socket, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "cannot accept a connection for metrics");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            warn!(%peer, "connection for metrics refused: {MAX_CONNECTIONS} are open");
            continue;
        };
        let (role, of) = (role.clone(), tasks.clone());
        tasks.spawn(async move {
            let _place = place;
            let stop = of.stop().clone();
            let service = service_fn(|request: Request<Incoming>| {
                let (role, of) = (role.clone(), of.clone());
                async move { Ok::<_, Infallible>(answer(&request, &*role, &of).await) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADERS)
                .serve_connection(TokioIo::new(socket), service);
            if let Some(Err(error)) = stop.run_until_cancelled(connection).await {
                debug!(%peer, %error, "connection for metrics closed");
            }
        });
    }
}

async fn answer<B, R: Monitored>(request: &Request<B>, role: &R, tasks: &Tasks) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET".to_owned());
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match request.uri().path() {
        "/metrics" => metrics(role).await,
        "/healthz" => match tasks.failure() {
            None => text(StatusCode::OK, "ok".to_owned()),
            Some(reason) => text(StatusCode::SERVICE_UNAVAILABLE, reason.to_owned()),
        },
        "/readyz" => match role.missing().await {
            missing if missing.is_empty() => text(StatusCode::OK, "ready".to_owned()),
            missing => text(StatusCode::SERVICE_UNAVAILABLE, missing.join("\n")),
        },
        _ => text(StatusCode::NOT_FOUND, "there are /metrics, /healthz and /readyz".to_owned()),
    }
}

async fn metrics<R: Monitored>(role: &R) -> Response<Full<Bytes>> {
    match figures::encode(role.figures().await) {
        Ok(encoded) => body(StatusCode::OK, OPEN_METRICS, encoded),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

fn text(status: StatusCode, words: String) -> Response<Full<Bytes>> {
    body(status, "text/plain; charset=utf-8", words + "\n")
}

fn body(status: StatusCode, kind: &'static str, words: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(words.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use http_body_util::BodyExt as _;

    use super::*;

    #[derive(Default)]
    struct Role(Mutex<Vec<String>>);

    impl Monitored for Role {
        async fn figures(&self) -> Vec<Figure> {
            let codes = [("code", "open-replayed".to_owned())];
            vec![
                Figure::counter("refused", "Refused", vec![(codes.to_vec(), 3)]),
                Figure::gauge("ledger_entries", "Entries", 7_u64),
                Figure::gauge("operator_word_age_seconds", "Age", 1.5),
            ]
        }

        async fn missing(&self) -> Vec<String> {
            self.0.lock().unwrap().clone()
        }
    }

    async fn get(role: &Role, tasks: &Tasks, method: &str, path: &str) -> (u16, String) {
        let request = Request::builder().method(method).uri(path).body(()).unwrap();
        let response = answer(&request, role, tasks).await;
        let (status, body) = (response.status().as_u16(), response.into_body().collect().await.unwrap());
        (status, String::from_utf8(body.to_bytes().to_vec()).unwrap())
    }

    #[tokio::test]
    async fn figures_are_open_metrics() {
        let (status, text) = get(&Role::default(), &Tasks::default(), "GET", "/metrics").await;
        assert_eq!(status, 200);
        let expected = "# HELP sealcast_refused Refused.\n# TYPE sealcast_refused counter\n\
                        sealcast_refused_total{code=\"open-replayed\"} 3\n\
                        # HELP sealcast_ledger_entries Entries.\n# TYPE sealcast_ledger_entries gauge\n\
                        sealcast_ledger_entries 7\n\
                        # HELP sealcast_operator_word_age_seconds Age.\n\
                        # TYPE sealcast_operator_word_age_seconds gauge\n\
                        sealcast_operator_word_age_seconds 1.5\n# EOF\n";
        assert_eq!(text, expected);
    }

    #[tokio::test]
    async fn ready_is_not_healthy() {
        let (role, tasks) = (Role::default(), Tasks::default());
        assert_eq!(get(&role, &tasks, "GET", "/readyz").await, (200, "ready\n".into()));
        role.0.lock().unwrap().extend(["no hub".to_owned(), "no keys of plant".to_owned()]);
        assert_eq!(get(&role, &tasks, "GET", "/readyz").await, (503, "no hub\nno keys of plant\n".into()));
        assert_eq!(get(&role, &tasks, "GET", "/healthz").await, (200, "ok\n".into()));
        tasks.keep("the control task", std::future::ready(()));
        tasks.failed().await;
        assert_eq!(get(&role, &tasks, "GET", "/healthz").await, (503, "the control task has ended\n".into()));
        assert_eq!(get(&role, &tasks, "POST", "/metrics").await.0, 405);
        assert_eq!(get(&role, &tasks, "GET", "/").await.0, 404);
    }

    #[tokio::test]
    async fn it_is_served_over_http_until_the_role_ends() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

        let tasks = Tasks::default();
        let address = open("127.0.0.1:0".parse().unwrap(), Arc::new(Role::default()), &tasks).await.unwrap();
        let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
        socket.write_all(b"GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("ready\n"), "{answer}");
        // One that says nothing does not hold up the end.
        let _silent = tokio::net::TcpStream::connect(address).await.unwrap();
        tasks.end(Duration::from_secs(240)).await.unwrap();
    }
}
