//! The CoAP door: what anybody on the network may send, from several peers, while time passes and the broker answers.
//!
//! Input: flags, then operations. Whatever comes, memory is bounded, each datagram that leaves is CoAP and goes to somebody
//! who sent one, a repeated datagram does nothing twice, without the token nothing is done, and it ends.

use std::{collections::BTreeSet, net::SocketAddr};

use coap_lite::{CoapOption, MessageClass, MessageType, Packet, RequestType};
use sealcast_coap::{Counts, Limits, Output, Refused, Server, Value};

const MAX_PAYLOAD_BYTES: usize = 3000;
/// A block of 1024 bytes, and room for token and options.
const MAX_DATAGRAM_BYTES: usize = 1280;
const MAX_OPERATIONS: usize = 1000;
const MAX_OUTPUTS: usize = Counts::MOST.pending + Counts::MOST.exchanges + Counts::MOST.observers;
const TOKEN: &[u8] = b"sesame-sesame-sesame";
const TOPICS: [&str; 4] = ["a", "a/b", "plant/boiler/temperature", "a/\u{0}"];

/// Whose answer the server waits for.
enum Waiting {
    Publish(u64),
    Last(u64),
}

struct World {
    server: Server,
    guarded: bool,
    now_ms: u64,
    waiting: Vec<Waiting>,
    observers: BTreeSet<u64>,
    /// Peers that sent something.
    peers: BTreeSet<SocketAddr>,
    /// Confirmable messages that were sent.
    sent: Vec<(SocketAddr, u16)>,
    /// The last datagram that came.
    last: Option<(SocketAddr, Vec<u8>)>,
    exchanges: BTreeSet<u64>,
}

pub fn run(data: &[u8]) {
    let Some((flags, rest)) = data.split_first() else { return };
    let guarded = flags & 1 == 1;
    let limits =
        Limits { max_payload_bytes: MAX_PAYLOAD_BYTES, max_per_second: if flags & 2 == 0 { 10_000 } else { 5 } };
    let check = guarded.then(|| -> sealcast_coap::TokenCheck { Box::new(|given| given == TOKEN) });
    let seed = if flags & 4 == 0 { 7 } else { 0xffff_ffff };
    let mut world = World {
        server: Server::new(limits, check, seed, 1000),
        guarded,
        now_ms: 1000,
        waiting: Vec::new(),
        observers: BTreeSet::new(),
        peers: BTreeSet::new(),
        sent: Vec::new(),
        last: None,
        exchanges: BTreeSet::new(),
    };
    let mut bytes = Bytes(rest);
    for _ in 0..MAX_OPERATIONS {
        if bytes.0.is_empty() {
            break;
        }
        world.step(&mut bytes);
    }
    world.end();
}

/// Numbers taken off the front; 0 when there are no more.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn u8(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn u16(&mut self) -> u16 {
        u16::from_be_bytes([self.u8(), self.u8()])
    }

    fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

fn pick<T>(things: &mut Vec<T>, which: u8) -> Option<T> {
    let count = things.len();
    (count > 0).then(|| things.swap_remove(usize::from(which) % count))
}

impl World {
    fn step(&mut self, bytes: &mut Bytes<'_>) {
        let (what, which) = (bytes.u8(), bytes.u8());
        match what & 7 {
            0 => {
                let length = usize::from(bytes.u8());
                let datagram = bytes.take(length).to_vec();
                self.datagram(peer(which), datagram);
            }
            1 | 2 => {
                let datagram = request(what, bytes);
                self.datagram(peer(which), datagram);
            }
            3 => {
                let unit = if what & 8 == 0 { 1 } else { 100 };
                self.now_ms += u64::from(bytes.u16()) * unit;
                self.time_passes();
            }
            4 => match pick(&mut self.waiting, which) {
                Some(Waiting::Publish(exchange)) => {
                    let outcome = outcome(what >> 3, bytes.u8()).map(drop);
                    self.server.handle_published(exchange, outcome, self.now_ms);
                }
                Some(Waiting::Last(exchange)) => {
                    let outcome = outcome(what >> 3, bytes.u8());
                    self.server.handle_last(exchange, outcome, self.now_ms);
                }
                None => {}
            },
            5 => {
                let observers: Vec<u64> = self.observers.iter().copied().collect();
                // Also of one that is gone, as the driver's task may not know it yet.
                let observer = observers.get(usize::from(which) % observers.len().max(1)).copied().unwrap_or(1);
                if what >> 3 == 31 {
                    self.server.handle_lost(observer);
                } else {
                    self.server.handle_news(observer, value(what >> 3, bytes.u8()), self.now_ms);
                }
            }
            6 => {
                let Some((to, id)) = pick(&mut self.sent, which) else { return };
                let from = if what & 8 == 0 { to } else { peer(which) };
                let [high, low] = id.to_be_bytes();
                self.datagram(from, vec![if what & 16 == 0 { 0x60 } else { 0x70 }, 0, high, low]);
            }
            _ => {
                let Some((from, datagram)) = self.last.clone() else { return };
                self.server.handle_datagram(from, &datagram, self.now_ms);
                for output in self.outputs(&datagram) {
                    assert!(matches!(output, Output::Send(..)), "done twice: {output:?}");
                }
                return;
            }
        }
        let nothing_came = self.outputs(&[]);
        assert!(nothing_came.iter().all(|output| matches!(output, Output::Send(..) | Output::Unobserve(_))));
    }

    fn datagram(&mut self, from: SocketAddr, datagram: Vec<u8>) {
        self.peers.insert(from);
        self.server.handle_datagram(from, &datagram, self.now_ms);
        let outputs = self.outputs(&datagram);
        let asks = |output: &&Output| !matches!(output, Output::Send(..) | Output::Unobserve(_));
        assert!(outputs.iter().filter(asks).count() <= 1, "one datagram asks one thing: {outputs:?}");
        self.last = Some((from, datagram));
    }

    /// Takes and checks what is to be done.
    fn outputs(&mut self, datagram: &[u8]) -> Vec<Output> {
        let outputs: Vec<Output> = std::iter::from_fn(|| self.server.poll()).take(MAX_OUTPUTS + 1).collect();
        assert!(outputs.len() <= MAX_OUTPUTS, "it ends");
        for output in &outputs {
            let exchange = match output {
                Output::Send(to, bytes) => {
                    assert!(self.peers.contains(to), "nobody asked from {to}");
                    assert!(bytes.len() <= MAX_DATAGRAM_BYTES, "{} bytes", bytes.len());
                    let packet = Packet::from_bytes(bytes).expect("what is sent can be read");
                    if packet.header.get_type() == MessageType::Confirmable {
                        self.sent.push((*to, packet.header.message_id));
                    }
                    continue;
                }
                Output::Unobserve(observer) => {
                    assert!(self.observers.remove(observer), "it was observed");
                    continue;
                }
                Output::Publish { exchange, message } => {
                    assert!(message.payload.len() <= MAX_PAYLOAD_BYTES);
                    self.waiting.push(Waiting::Publish(*exchange));
                    exchange
                }
                Output::Last { exchange, .. } => {
                    self.waiting.push(Waiting::Last(*exchange));
                    exchange
                }
                Output::Observe { exchange, observer, .. } => {
                    assert!(self.observers.insert(*observer));
                    self.waiting.push(Waiting::Last(*exchange));
                    exchange
                }
            };
            assert!(self.exchanges.insert(*exchange), "a request is answered once");
            let has_token = datagram.windows(TOKEN.len()).any(|part| part == TOKEN);
            assert!(!self.guarded || has_token, "without the token nothing is done");
        }
        let (counts, most) = (self.server.counts(), Counts::MOST);
        assert!(counts.exchanges <= most.exchanges && counts.seen <= most.seen, "{counts:?}");
        assert!(counts.uploads <= most.uploads && counts.downloads <= most.downloads, "{counts:?}");
        assert!(counts.observers <= most.observers && counts.pending <= most.pending, "{counts:?}");
        assert_eq!(counts.observers, self.observers.len());
        assert_eq!(counts.exchanges, self.waiting.len(), "a request that nobody will answer");
        outputs
    }

    fn time_passes(&mut self) {
        self.server.handle_timeout(self.now_ms);
        assert!(self.server.poll_timeout().is_none_or(|wake_ms| wake_ms > self.now_ms));
    }

    /// When nobody sends any more, it comes to rest.
    fn end(&mut self) {
        for waiting in std::mem::take(&mut self.waiting) {
            match waiting {
                Waiting::Publish(exchange) => self.server.handle_published(exchange, Ok(()), self.now_ms),
                Waiting::Last(exchange) => self.server.handle_last(exchange, Ok(None), self.now_ms),
            }
        }
        self.outputs(&[]);
        let mut wakes = 0;
        while let Some(wake_ms) = self.server.poll_timeout() {
            self.now_ms = wake_ms;
            self.time_passes();
            self.outputs(&[]);
            wakes += 1;
            assert!(wakes <= 5 * Counts::MOST.pending, "it ends");
        }
        self.now_ms += 300_000;
        self.time_passes();
        let counts = self.server.counts();
        assert_eq!((counts.exchanges, counts.pending, counts.uploads, counts.downloads), (0, 0, 0, 0));
    }
}

fn peer(which: u8) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 40_000 + u16::from(which & 63)))
}

fn value(kind: u8, length: u8) -> Value {
    let content_type = (kind & 1 == 1).then(|| sealcast_mqtt::Text::new("application/json").ok()).flatten();
    Value { payload: vec![kind; usize::from(length) * 16].into(), content_type }
}

fn outcome(kind: u8, length: u8) -> Result<Option<Value>, Refused> {
    let reason = "no: ".to_owned() + &"ü".repeat(usize::from(length) * 2);
    match kind & 15 {
        0 => Ok(None),
        1 => Err(Refused::Forbidden(reason)),
        2 => Err(Refused::Conflict(reason)),
        3 => Err(Refused::TooLarge(reason)),
        4 => Err(Refused::BadRequest(reason)),
        5 => Err(Refused::Unavailable(reason)),
        _ => Ok(Some(value(kind, length))),
    }
}

/// A genuine request, with one byte changed if `what` says so.
fn request(what: u8, bytes: &mut Bytes<'_>) -> Vec<u8> {
    let mut packet = Packet::new();
    packet.header.set_version(1);
    let confirmable = what & 8 == 0;
    packet.header.set_type(if confirmable { MessageType::Confirmable } else { MessageType::NonConfirmable });
    let choice = bytes.u8();
    let method = match choice & 7 {
        0..=2 => RequestType::Put,
        3 => RequestType::Post,
        4..=6 => RequestType::Get,
        _ => RequestType::Delete,
    };
    packet.header.code = MessageClass::Request(method);
    packet.header.message_id = bytes.u16();
    packet.set_token(vec![choice; usize::from(choice >> 5)]);
    for part in ["topics"].into_iter().chain(TOPICS[usize::from(choice >> 3) & 3].split('/')) {
        packet.add_option(CoapOption::UriPath, part.as_bytes().to_vec());
    }
    let options = bytes.u8();
    for (bit, option) in [(1, CoapOption::Block1), (2, CoapOption::Block2), (4, CoapOption::Observe)] {
        if options & bit != 0 {
            // Small numbers above all: they are those that mean something.
            let value = bytes.u8();
            let wide = if options & 128 == 0 { vec![value] } else { vec![value, bytes.u8(), bytes.u8()] };
            packet.add_option(option, if value == 0 { Vec::new() } else { wide });
        }
    }
    if options & 8 != 0 {
        packet.add_option(CoapOption::ContentFormat, vec![bytes.u8()]);
    }
    if options & 16 != 0 {
        packet.add_option(CoapOption::UriQuery, [b"token=", TOKEN].concat());
    }
    if options & 32 != 0 {
        packet.add_option(CoapOption::UriQuery, b"retain=1".to_vec());
    }
    packet.payload = vec![choice; if options & 64 == 0 { usize::from(bytes.u8()) } else { 1024 }];
    let mut datagram = packet.to_bytes_with_limit(2048).unwrap_or_default();
    if what & 7 == 2 {
        let place = usize::from(bytes.u16());
        let change = bytes.u8();
        if let Some(at) = place.checked_rem(datagram.len()) {
            datagram[at] ^= change;
        }
    }
    datagram
}
