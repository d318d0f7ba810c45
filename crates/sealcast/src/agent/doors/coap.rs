//! The CoAP door (RFC 7252): `PUT` or `POST /topics/<topic>` publishes, `GET` gives the last value, and with Observe
//! (RFC 7641) what follows. Large payloads go block by block (RFC 7959).
//!
//! [`Server`] is the protocol, without sockets; this module owns the socket and asks the doors' MQTT client.

use std::{
    collections::BTreeMap,
    future::pending,
    net::SocketAddr,
    time::{Duration, Instant},
};

use sealcast_coap::{Limits, Output, Publish, Server, TokenCheck, Value};
use sealcast_ledger::TopicFilter;
use tokio::{
    net::UdpSocket,
    sync::mpsc,
    task::{AbortHandle, JoinSet},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{
    bus::{Bus, Incoming, Item, Outgoing, Refused},
    settings::{Door, Token},
};

/// Larger datagrams are cut off, and then malformed.
const MAX_DATAGRAM_BYTES: usize = 2048;
const MAX_EVENTS: usize = 256;
/// What the broker had kept may come a little after it said that all was sent.
const GRACE: Duration = Duration::from_millis(200);

enum Event {
    Published(u64, Result<(), Refused>),
    Last(u64, Result<Option<Incoming>, Refused>),
    News(u64, Incoming),
    Lost(u64),
}

/// Serves until `stop`.
pub async fn serve(socket: UdpSocket, door: Door, token: Option<Token>, bus: Bus, stop: CancellationToken) {
    let limits = Limits {
        max_payload_bytes: door.max_payload_bytes.min(bus.max_payload_bytes()),
        max_per_second: door.max_per_second,
    };
    let token = token.map(|token| -> TokenCheck { Box::new(move |given| token.is(given)) });
    let start = Instant::now();
    let now_ms = || u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    let mut server = Server::new(limits, token, seed(), now_ms());
    let (events, mut happened) = mpsc::channel(MAX_EVENTS);
    let mut tasks: JoinSet<()> = JoinSet::new();
    let mut observers: BTreeMap<u64, (AbortHandle, u64)> = BTreeMap::new();
    let mut datagram = vec![0; MAX_DATAGRAM_BYTES];
    loop {
        while let Some(output) = server.poll() {
            match output {
                Output::Send(peer, bytes) => send(&socket, peer, &bytes).await,
                Output::Publish { exchange, message } => {
                    let (bus, events) = (bus.clone(), events.clone());
                    tasks.spawn(async move {
                        let outcome = bus.publish(outgoing(message)).await;
                        let _ = events.send(Event::Published(exchange, outcome)).await;
                    });
                }
                Output::Last { exchange, topic } => {
                    let (bus, events) = (bus.clone(), events.clone());
                    tasks.spawn(async move {
                        let outcome = bus.last(topic).await;
                        let _ = events.send(Event::Last(exchange, outcome)).await;
                    });
                }
                Output::Observe { exchange, observer, topic } => {
                    let task = tasks.spawn(observe(bus.clone(), exchange, observer, topic, events.clone()));
                    observers.insert(observer, (task, exchange));
                }
                Output::Unobserve(observer) => {
                    if let Some((task, exchange)) = observers.remove(&observer) {
                        task.abort();
                        // If it was not answered yet nobody else will, and it would hold its place for good.
                        let ended = sealcast_coap::Refused::Unavailable("the observation was ended".into());
                        server.handle_last(exchange, Err(ended), now_ms());
                    }
                }
            }
        }
        let wake = server.poll_timeout();
        let timer = async {
            match wake {
                Some(then_ms) => tokio::time::sleep(Duration::from_millis(then_ms.saturating_sub(now_ms()))).await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            received = socket.recv_from(&mut datagram) => match received {
                Ok((length, peer)) => {
                    server.handle_datagram(peer, datagram.get(..length).unwrap_or_default(), now_ms());
                }
                // On Linux also that an earlier datagram found nobody.
                Err(error) => debug!(%error, "CoAP"),
            },
            Some(event) = happened.recv() => match event {
                Event::Published(exchange, outcome) => server.handle_published(exchange, outcome.map_err(refused), now_ms()),
                Event::Last(exchange, outcome) => server.handle_last(exchange, last(outcome), now_ms()),
                Event::News(observer, message) => server.handle_news(observer, value(message), now_ms()),
                Event::Lost(observer) => server.handle_lost(observer),
            },
            Some(_) = tasks.join_next(), if !tasks.is_empty() => {}
            () = timer => server.handle_timeout(now_ms()),
        }
    }
}

fn outgoing(message: Publish) -> Outgoing {
    let Publish { topic, payload, retain, content_type } = message;
    Outgoing { topic, payload, retain, content_type }
}

fn value(message: Incoming) -> Value {
    Value { payload: message.payload, content_type: message.content_type }
}

fn last(outcome: Result<Option<Incoming>, Refused>) -> Result<Option<Value>, sealcast_coap::Refused> {
    outcome.map(|message| message.map(value)).map_err(refused)
}

fn refused(refused: Refused) -> sealcast_coap::Refused {
    use sealcast_coap::Refused as Coap;
    match refused {
        Refused::Denied(reason) => Coap::Forbidden(reason),
        Refused::Content(reason) => Coap::Conflict(reason),
        Refused::TooLarge(reason) => Coap::TooLarge(reason),
        Refused::Invalid(reason) => Coap::BadRequest(reason),
        Refused::Unavailable(reason) => Coap::Unavailable(reason),
    }
}

async fn send(socket: &UdpSocket, peer: SocketAddr, bytes: &[u8]) {
    if let Err(error) = socket.send_to(bytes, peer).await {
        debug!(%peer, %error, "CoAP: not sent");
    }
}

/// The last value answers the request, what follows is news.
async fn observe(bus: Bus, exchange: u64, observer: u64, topic: TopicFilter, events: mpsc::Sender<Event>) {
    let mut listener = match bus.listen_soon(topic).await {
        Ok(listener) => listener,
        Err(refused) => {
            let _ = events.send(Event::Last(exchange, Err(refused))).await;
            return;
        }
    };
    let mut current = false;
    let first = loop {
        let item = if current { tokio::time::timeout(GRACE, listener.next()).await } else { Ok(listener.next().await) };
        match item {
            Ok(Some(Item::Message(message))) => break Some(message),
            Ok(Some(Item::Current)) => current = true,
            Ok(None) | Err(_) => break None,
        }
    };
    if events.send(Event::Last(exchange, Ok(first))).await.is_err() {
        return;
    }
    while let Some(item) = listener.next().await {
        if let Item::Message(message) = item
            && events.send(Event::News(observer, message)).await.is_err()
        {
            return;
        }
    }
    warn!(observer, "CoAP observer removed: it is too slow for its messages");
    let _ = events.send(Event::Lost(observer)).await;
}

/// Where message ids and sequence numbers begin: not where they began before a restart.
fn seed() -> u32 {
    let mut bytes = [0; 4];
    // Without randomness the clock will do: nothing secret hangs on it.
    if aws_lc_rs::rand::fill(&mut bytes).is_err() {
        return crate::now_ms() as u32;
    }
    u32::from_be_bytes(bytes)
}
