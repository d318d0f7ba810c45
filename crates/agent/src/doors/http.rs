//! The HTTP door: `POST` or `PUT /topics/<topic>` publishes, `GET` gives the last value or a stream of server-sent events.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes, HttpBody},
    extract::{Request, State},
    response::Response,
};
use base64::Engine as _;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::{HeaderMap, Method, StatusCode, Uri, body::Frame, header};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use sealcast_agent_core::Cause;
use sealcast_ledger::TopicFilter;
use sealcast_mqtt::{Text, TopicName};
use sealcast_node::accepted;
use tokio::{net::TcpListener, sync::Semaphore, time::Interval};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{
    bus::{Bus, Incoming, Item, Listener, Outgoing, Refused},
    rate::Rate,
    settings::{Door, Token},
    topic,
};

const MAX_CONNECTIONS: usize = 128;
const MAX_STREAMS: usize = 64;
const MAX_TYPE_BYTES: usize = 256;
const HEADERS: Duration = Duration::from_secs(10);
const BODY: Duration = Duration::from_secs(30);
/// A comment on a stream without messages, so that both ends see when the other is gone.
const BEAT: Duration = Duration::from_secs(15);
const DRAIN: Duration = Duration::from_secs(2);
const BASE64: base64::engine::GeneralPurpose = base64::engine::general_purpose::STANDARD;

struct Http {
    bus: Bus,
    token: Option<Token>,
    rate: Rate,
    max_body_bytes: usize,
    streams: Arc<Semaphore>,
}

/// Serves until `stop`.
pub async fn serve(listener: TcpListener, door: Door, token: Option<Token>, bus: Bus, stop: CancellationToken) {
    let http = Arc::new(Http {
        token,
        rate: Rate::new(door.max_per_second),
        max_body_bytes: door.max_payload_bytes.min(bus.max_payload_bytes()),
        streams: Arc::new(Semaphore::new(MAX_STREAMS)),
        bus,
    });
    let router = Router::new().fallback(answer).with_state(http);
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let graceful = GracefulShutdown::new();
    loop {
        let (tcp, _) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accepted("the HTTP door", || listener.accept()) => accepted,
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            let code = Cause::TooManyClients;
            warn!(%code, "HTTP door: connection refused, because {MAX_CONNECTIONS} connections are already open");
            continue;
        };
        let _ = tcp.set_nodelay(true);
        let (router, watcher, stop) = (router.clone(), graceful.watcher(), stop.clone());
        tokio::spawn(async move {
            let _place = place;
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADERS)
                .max_buf_size(64 << 10)
                .serve_connection(TokioIo::new(tcp), TowerToHyperService::new(router));
            // Streams have no end of their own: they are cut a little after the others were asked to finish.
            let ending = async {
                stop.cancelled().await;
                tokio::time::sleep(Duration::from_millis(500)).await;
            };
            tokio::select! {
                outcome = watcher.watch(connection) => if let Err(error) = outcome {
                    debug!(%error, "HTTP");
                },
                () = ending => {}
            }
        });
    }
    let _ = tokio::time::timeout(DRAIN, graceful.shutdown()).await;
}

async fn answer(State(http): State<Arc<Http>>, request: Request) -> Response {
    match http.handle(request).await {
        Ok(response) => response,
        Err((status, reason)) => {
            let mut response = Response::new(Body::from(format!("{reason}\n")));
            *response.status_mut() = status;
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/plain; charset=utf-8"));
            if status == StatusCode::METHOD_NOT_ALLOWED {
                headers.insert(header::ALLOW, header::HeaderValue::from_static("GET, POST, PUT"));
            }
            if status == StatusCode::UNAUTHORIZED {
                headers.insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
            }
            response
        }
    }
}

type Failure = (StatusCode, String);

fn failure(status: StatusCode) -> impl FnOnce(String) -> Failure {
    move |reason| (status, reason)
}

fn refused(refused: &Refused) -> Failure {
    let status = match refused {
        Refused::Denied(_) => StatusCode::FORBIDDEN,
        Refused::Content(_) => StatusCode::CONFLICT,
        Refused::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
        Refused::Invalid(_) => StatusCode::BAD_REQUEST,
        Refused::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, refused.to_string())
}

impl Http {
    async fn handle(&self, request: Request) -> Result<Response, Failure> {
        self.admit(request.headers())?;
        // After it: whoever is not let in does not use up what the others have.
        if !self.rate.admit() {
            return Err((StatusCode::TOO_MANY_REQUESTS, "too many requests a second (http.max_per_second)".into()));
        }
        let bad = |reason| failure(StatusCode::BAD_REQUEST)(reason);
        if !request.uri().path().starts_with("/topics/") {
            return Err((StatusCode::NOT_FOUND, "the only path is /topics/<topic>".into()));
        }
        let topic = topic::of_path(request.uri().path()).map_err(bad)?;
        match *request.method() {
            Method::POST | Method::PUT => self.publish(&topic, request).await,
            Method::GET => {
                let filter: TopicFilter =
                    topic.parse().map_err(|error| bad(format!("{topic:?} is not a topic filter: {error}")))?;
                if wants_events(request.headers()) {
                    self.stream(filter, request.uri()).await
                } else {
                    self.last(&topic, filter).await
                }
            }
            _ => Err((StatusCode::METHOD_NOT_ALLOWED, "the methods are GET, POST and PUT".into())),
        }
    }

    /// With a token, whoever has it. Without one, programs of this machine, but not the web pages in its browsers: those
    /// send an `Origin`, or come under a name that was made to point here.
    fn admit(&self, headers: &HeaderMap) -> Result<(), Failure> {
        if let Some(token) = &self.token {
            let given = headers.get(header::AUTHORIZATION).and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
            return match given {
                Some(given) if token.is(given) => Ok(()),
                _ => Err((StatusCode::UNAUTHORIZED, "the token of http.token_file is missing or wrong".into())),
            };
        }
        // Without CORS a GET has no `Origin`, but every present browser says where it comes from (W3C Fetch Metadata).
        let elsewhere = headers.get("sec-fetch-site").is_some_and(|site| site != "none");
        if elsewhere || headers.contains_key(header::ORIGIN) {
            return Err((StatusCode::FORBIDDEN, "requests from web pages need http.token_file".into()));
        }
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        if is_loopback_name(host) {
            return Ok(());
        }
        Err((StatusCode::FORBIDDEN, "without http.token_file, the host must be 127.0.0.1 or localhost".into()))
    }

    async fn publish(&self, topic: &str, request: Request) -> Result<Response, Failure> {
        let bad = |reason| failure(StatusCode::BAD_REQUEST)(reason);
        let name = TopicName::new(topic).map_err(|error| bad(format!("{topic:?} is not a topic: {error}")))?;
        let (mut retain, mut wait) = (false, true);
        for (key, value) in topic::query(request.uri().query()).map_err(bad)? {
            match (key.as_str(), value.as_str()) {
                ("retain", "1" | "true") => retain = true,
                ("retain", "0" | "false") | ("qos", "1") => {}
                ("qos", "0") => wait = false,
                _ => return Err(bad(format!("{key}={value}: allowed are retain=0, retain=1, qos=0 and qos=1"))),
            }
        }
        let content_type = match request.headers().get(header::CONTENT_TYPE).map(|value| value.to_str()) {
            None => None,
            // What curl says of any body when it was told nothing.
            Some(Ok("application/x-www-form-urlencoded")) => None,
            Some(Ok(text)) if text.len() <= MAX_TYPE_BYTES => {
                Some(Text::new(text).map_err(|error| bad(format!("Content-Type: {error}")))?)
            }
            Some(_) => return Err(bad(format!("Content-Type: must be ASCII of at most {MAX_TYPE_BYTES} bytes"))),
        };
        let collect = Limited::new(request.into_body(), self.max_body_bytes).collect();
        let payload = match tokio::time::timeout(BODY, collect).await {
            Err(_) => return Err((StatusCode::REQUEST_TIMEOUT, "the body did not come in time".into())),
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                let reason = format!("the body has more than {} bytes (http.max_payload_bytes)", self.max_body_bytes);
                return Err((StatusCode::PAYLOAD_TOO_LARGE, reason));
            }
            Ok(Err(error)) => return Err(bad(format!("the body ended early: {error}"))),
            Ok(Ok(collected)) => collected.to_bytes(),
        };
        let message = Outgoing { topic: name, payload, retain, content_type };
        let status = if wait {
            self.bus.publish(message).await.map_err(|error| refused(&error))?;
            StatusCode::NO_CONTENT
        } else {
            let bus = self.bus.clone();
            // What becomes of it is nobody's wish to know; what is refused is told of where all refusals are.
            tokio::spawn(async move { bus.publish(message).await });
            StatusCode::ACCEPTED
        };
        let mut response = Response::new(Body::empty());
        *response.status_mut() = status;
        Ok(response)
    }

    async fn last(&self, topic: &str, filter: TopicFilter) -> Result<Response, Failure> {
        TopicName::new(topic).map_err(|_| {
            (StatusCode::BAD_REQUEST, "a filter stands for many values: ask for text/event-stream".to_owned())
        })?;
        let last = self.bus.last(filter).await.map_err(|error| refused(&error))?;
        let Some(message) = last else {
            return Err((StatusCode::NOT_FOUND, format!("no retained value on {topic} that this device can read")));
        };
        let kind = match &message.content_type {
            Some(kind) => kind.as_str(),
            None if std::str::from_utf8(&message.payload).is_ok() => "text/plain; charset=utf-8",
            None => "application/octet-stream",
        };
        let kind =
            header::HeaderValue::from_str(kind).unwrap_or(header::HeaderValue::from_static("application/octet-stream"));
        let mut response = Response::new(Body::from(message.payload));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, kind);
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, header::HeaderValue::from_static("nosniff"));
        // A member may publish a page: opened in a browser, it must not run with this door's origin and read all topics.
        let sandbox = header::HeaderValue::from_static("default-src 'none'; sandbox");
        headers.insert(header::CONTENT_SECURITY_POLICY, sandbox);
        headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
        Ok(response)
    }

    async fn stream(&self, filter: TopicFilter, uri: &Uri) -> Result<Response, Failure> {
        let bad = |reason| failure(StatusCode::BAD_REQUEST)(reason);
        let mut base64 = false;
        for (key, value) in topic::query(uri.query()).map_err(bad)? {
            match (key.as_str(), value.as_str()) {
                ("as", "text") => base64 = false,
                ("as", "base64") => base64 = true,
                _ => return Err(bad(format!("{key}={value}: allowed are as=text and as=base64"))),
            }
        }
        let place = self.streams.clone().try_acquire_owned().map_err(|_| {
            (
                StatusCode::SERVICE_UNAVAILABLE,
                format!("{MAX_STREAMS} event streams are already open, which is the limit: close one"),
            )
        })?;
        let listener = self.bus.listen_soon(filter).await.map_err(|error| refused(&error))?;
        let mut beat = tokio::time::interval(BEAT);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut response = Response::new(Body::new(Events { listener, beat, base64, _place: place }));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/event-stream"));
        headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
        Ok(response)
    }
}

fn wants_events(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted
        .flat_map(|value| value.split(','))
        .any(|part| part.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("text/event-stream")))
}

fn is_loopback_name(host: &str) -> bool {
    if let Ok(address) = host.parse::<std::net::SocketAddr>() {
        return address.ip().is_loopback();
    }
    let name = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    if let Ok(address) = name.parse::<std::net::IpAddr>() {
        return address.is_loopback();
    }
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.parse::<u16>().is_ok() => name,
        _ => host,
    };
    name.eq_ignore_ascii_case("localhost")
}

/// A stream of server-sent events (WHATWG HTML 9.2).
struct Events {
    listener: Listener,
    beat: Interval,
    base64: bool,
    _place: tokio::sync::OwnedSemaphorePermit,
}

impl HttpBody for Events {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let events = self.get_mut();
        loop {
            match events.listener.poll_next(context) {
                Poll::Ready(Some(Item::Message(message))) => {
                    return Poll::Ready(Some(Ok(Frame::data(event(&message, events.base64).into()))));
                }
                Poll::Ready(Some(Item::Current)) => {}
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => break,
            }
        }
        // The first beat is at once: it sends the headers.
        events.beat.poll_tick(context).map(|_| Some(Ok(Frame::data(Bytes::from_static(b":\n\n")))))
    }
}

/// One event: the topic as its name, the payload as its data. Text comes as it is. Data that is no text, or has a carriage
/// return, which lines cannot carry, comes as a `data:;base64,` URI; with `base64` everything comes as plain base64.
fn event(message: &Incoming, base64: bool) -> String {
    let topic: String =
        message.topic.as_str().chars().map(|c| if matches!(c, '\r' | '\n') { '\u{FFFD}' } else { c }).collect();
    let mut out = format!("event: {topic}\n");
    match std::str::from_utf8(&message.payload) {
        _ if base64 => out.extend(["data: ", &BASE64.encode(&message.payload), "\n"]),
        Ok(text) if !text.contains('\r') => {
            for line in text.split('\n') {
                out.extend(["data: ", line, "\n"]);
            }
        }
        _ => out.extend(["data: data:;base64,", &BASE64.encode(&message.payload), "\n"]),
    }
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_carry_any_payload() -> anyhow::Result<()> {
        let check = |payload: &'static [u8], base64, expected: &str| {
            let message =
                Incoming { topic: TopicName::new("a/b")?, payload: Bytes::from_static(payload), content_type: None };
            assert_eq!(event(&message, base64), expected);
            anyhow::Ok(())
        };
        check(b"21.50", false, "event: a/b\ndata: 21.50\n\n")?;
        check(b"", false, "event: a/b\ndata: \n\n")?;
        check(b"one\ntwo", false, "event: a/b\ndata: one\ndata: two\n\n")?;
        check(b"one\r\ntwo", false, "event: a/b\ndata: data:;base64,b25lDQp0d28=\n\n")?;
        check(b"\xff\x00", false, "event: a/b\ndata: data:;base64,/wA=\n\n")?;
        check(b"21.50", true, "event: a/b\ndata: MjEuNTA=\n\n")
    }

    #[test]
    fn only_names_of_this_machine_are_taken_without_a_token() {
        for (host, taken) in [
            ("127.0.0.1:8080", true),
            ("localhost", true),
            ("LOCALHOST:1", true),
            ("[::1]:80", true),
            ("[::1]", true),
            ("evil.example:8080", false),
            ("localhost.evil.example", false),
            ("192.0.2.1", false),
            ("", false),
        ] {
            assert_eq!(is_loopback_name(host), taken, "{host}");
        }
    }
}
