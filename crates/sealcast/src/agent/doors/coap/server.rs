//! The protocol of the CoAP door as a state machine: datagrams and answers in, [`Output`]s out, time passed in.
//!
//! Bounds: requests under way, remembered message ids, uploads, snapshots of what is downloaded, observers and
//! confirmable messages each have one; what is beyond is refused (5.03) or forgets the oldest.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    time::{Duration, Instant},
};

use coap_lite::{CoapOption, MessageClass, MessageType, Packet, RequestType, ResponseType};
use sealcast_ledger::TopicFilter;
use sealcast_mqtt::{Text, TopicName};

use super::{
    super::{
        bus::{Incoming, Outgoing, Refused},
        rate::Rate,
        settings::Token,
    },
    block::{self, Block, MAX_BLOCK_BYTES, put_uint, uint},
};

const MAX_EXCHANGES: usize = 64;
const MAX_SEEN: usize = 1024;
const MAX_UPLOADS: usize = 32;
const MAX_DOWNLOADS: usize = 32;
const MAX_OBSERVERS: usize = 64;
const MAX_PENDING: usize = 256;
const MAX_REASON_BYTES: usize = 400;
/// EXCHANGE_LIFETIME (RFC 7252 §4.8.2): how long a message id stands for the same message.
const EXCHANGE_LIFETIME: Duration = Duration::from_secs(247);
/// How long a transfer in blocks may rest.
const TRANSFER_LIFETIME: Duration = Duration::from_secs(60);
/// An answer that takes longer comes apart from the acknowledgement (RFC 7252 §5.2.2).
const ANSWER_SOON: Duration = Duration::from_secs(1);
/// ACK_TIMEOUT times ACK_RANDOM_FACTOR (RFC 7252 §4.8).
const ACK_TIMEOUT: Duration = Duration::from_secs(3);
const MAX_RETRANSMIT: u32 = 4;

/// What the driver has to do.
#[derive(Debug)]
pub enum Output {
    /// Send a datagram.
    Send(SocketAddr, Vec<u8>),
    /// Publish, then [`Server::handle_published`].
    Publish {
        /// The request.
        exchange: u64,
        /// What it says.
        message: Outgoing,
    },
    /// Ask for the last value, then [`Server::handle_last`].
    Last {
        /// The request.
        exchange: u64,
        /// Of which topic.
        topic: TopicFilter,
    },
    /// The same, and then [`Server::handle_news`] for each message, or [`Server::handle_lost`].
    Observe {
        /// The request.
        exchange: u64,
        /// Who observes.
        observer: u64,
        /// Which topic.
        topic: TopicFilter,
    },
    /// The observer is gone.
    Unobserve(u64),
}

/// Limits of a [`Server`].
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Largest payload, in blocks or not.
    pub max_payload_bytes: usize,
    /// Most requests a second.
    pub max_per_second: u32,
}

/// The state of the door.
pub struct Server {
    limits: Limits,
    token: Option<Token>,
    rate: Rate,
    outputs: VecDeque<Output>,
    next: u64,
    message_id: u16,
    sequence: u32,
    exchanges: BTreeMap<u64, Exchange>,
    /// Messages that came, with what was answered: a repeated one gets the same, and is not done again.
    seen: BTreeMap<(SocketAddr, u16), Vec<u8>>,
    seen_order: VecDeque<(Instant, (SocketAddr, u16))>,
    uploads: VecDeque<Upload>,
    downloads: VecDeque<Download>,
    observers: BTreeMap<u64, Observer>,
    pending: BTreeMap<u16, Pending>,
}

/// A request that is not answered yet.
struct Exchange {
    peer: SocketAddr,
    message_id: u16,
    token: Vec<u8>,
    confirmable: bool,
    acknowledged: bool,
    acknowledge_at: Instant,
    topic: String,
    block1: Option<Block>,
    block2: Option<Block>,
    observer: Option<u64>,
}

struct Upload {
    peer: SocketAddr,
    topic: String,
    bytes: Vec<u8>,
    last: Instant,
}

struct Download {
    peer: SocketAddr,
    topic: String,
    message: Incoming,
    last: Instant,
}

struct Observer {
    peer: SocketAddr,
    token: Vec<u8>,
    topic: String,
    szx: u8,
    /// The confirmable notification that is not acknowledged, and the newest message since.
    waits: Option<u16>,
    newest: Option<Incoming>,
}

/// A confirmable message that is not acknowledged.
struct Pending {
    peer: SocketAddr,
    bytes: Vec<u8>,
    next: Instant,
    attempts: u32,
    observer: Option<u64>,
}

/// An answer before it is put in a message.
struct Answer {
    code: ResponseType,
    options: Vec<(CoapOption, Vec<u8>)>,
    payload: Vec<u8>,
}

impl Answer {
    fn new(code: ResponseType) -> Self {
        Self { code, options: Vec::new(), payload: Vec::new() }
    }

    /// With a diagnostic payload (RFC 7252 §5.5.2).
    fn refusal(code: ResponseType, reason: &str) -> Self {
        let mut end = reason.len().min(MAX_REASON_BYTES);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        Self { code, options: Vec::new(), payload: reason.get(..end).unwrap_or_default().as_bytes().to_vec() }
    }

    fn with(mut self, option: CoapOption, value: Vec<u8>) -> Self {
        self.options.push((option, value));
        self
    }

    fn refused(refused: &Refused) -> Self {
        let code = match refused {
            Refused::Denied(_) => ResponseType::Forbidden,
            Refused::Content(_) => ResponseType::Conflict,
            Refused::TooLarge(_) => ResponseType::RequestEntityTooLarge,
            Refused::Invalid(_) => ResponseType::BadRequest,
            Refused::Unavailable(_) => ResponseType::ServiceUnavailable,
        };
        Self::refusal(code, &refused.to_string())
    }
}

/// What a request asks for, apart from its code.
struct Target {
    topic: TopicName,
    filter: TopicFilter,
    retain: bool,
}

impl Server {
    /// Nothing under way. `seed` is where message ids begin.
    pub fn new(limits: Limits, token: Option<Token>, seed: u32, now: Instant) -> Self {
        Self {
            limits,
            token,
            rate: Rate::new(limits.max_per_second, now),
            outputs: VecDeque::new(),
            next: 0,
            message_id: (seed >> 16) as u16,
            sequence: seed & 0xff,
            exchanges: BTreeMap::new(),
            seen: BTreeMap::new(),
            seen_order: VecDeque::new(),
            uploads: VecDeque::new(),
            downloads: VecDeque::new(),
            observers: BTreeMap::new(),
            pending: BTreeMap::new(),
        }
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Server::handle_timeout`] is to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let acks = self.exchanges.values().filter(|e| e.confirmable && !e.acknowledged).map(|e| e.acknowledge_at);
        acks.chain(self.pending.values().map(|pending| pending.next)).min()
    }

    /// Acknowledges what takes long, and sends again what was not acknowledged.
    pub fn handle_timeout(&mut self, now: Instant) {
        let mut late = Vec::new();
        for exchange in self.exchanges.values_mut() {
            if exchange.confirmable && !exchange.acknowledged && exchange.acknowledge_at <= now {
                exchange.acknowledged = true;
                late.push((exchange.peer, exchange.message_id));
            }
        }
        for (peer, id) in late {
            let bytes = empty(MessageType::Acknowledgement, id);
            self.remember_answer(peer, id, &bytes);
            self.outputs.push_back(Output::Send(peer, bytes));
        }
        let mut lost = Vec::new();
        for (id, pending) in self.pending.iter_mut().filter(|(_, pending)| pending.next <= now) {
            if pending.attempts >= MAX_RETRANSMIT {
                lost.push(*id);
                continue;
            }
            pending.attempts += 1;
            pending.next = now + ACK_TIMEOUT * 2u32.saturating_pow(pending.attempts);
            self.outputs.push_back(Output::Send(pending.peer, pending.bytes.clone()));
        }
        for id in lost {
            if let Some(Pending { observer: Some(observer), .. }) = self.pending.remove(&id) {
                self.forget_observer(observer);
            }
        }
        self.uploads.retain(|upload| now.duration_since(upload.last) < TRANSFER_LIFETIME);
        self.downloads.retain(|download| now.duration_since(download.last) < TRANSFER_LIFETIME);
    }

    /// A datagram came. Any bytes are safe.
    pub fn handle_datagram(&mut self, peer: SocketAddr, bytes: &[u8], now: Instant) {
        let Ok(packet) = Packet::from_bytes(bytes) else {
            if let Some(&[first, _, high, low]) = bytes.first_chunk::<4>()
                && first & 0xf0 == 0x40
            {
                let reset = empty(MessageType::Reset, u16::from_be_bytes([high, low]));
                self.outputs.push_back(Output::Send(peer, reset));
            }
            return;
        };
        if packet.header.get_version() != 1 {
            return;
        }
        let id = packet.header.message_id;
        match (packet.header.get_type(), packet.header.code) {
            (MessageType::Acknowledgement, _) => self.handle_ack(peer, id, now),
            (MessageType::Reset, _) => self.handle_reset(peer, id),
            (kind, MessageClass::Request(method)) => {
                self.handle_request(peer, &packet, method, kind == MessageType::Confirmable, now);
            }
            // A ping (RFC 7252 §4.3), or an answer to nothing that was asked.
            (MessageType::Confirmable, _) => {
                self.outputs.push_back(Output::Send(peer, empty(MessageType::Reset, id)));
            }
            (MessageType::NonConfirmable, _) => {}
        }
    }

    /// A publish came to its end.
    pub fn handle_published(&mut self, exchange: u64, outcome: Result<(), Refused>, now: Instant) {
        let Some(exchange) = self.exchanges.remove(&exchange) else { return };
        let mut answer = match outcome {
            Ok(()) => Answer::new(ResponseType::Changed),
            Err(refused) => Answer::refused(&refused),
        };
        if let Some(block) = exchange.block1 {
            answer = answer.with(CoapOption::Block1, block.encode());
        }
        self.answer(&exchange, answer, now);
    }

    /// The last value is there, or is known not to be.
    pub fn handle_last(&mut self, exchange: u64, outcome: Result<Option<Incoming>, Refused>, now: Instant) {
        let Some(exchange) = self.exchanges.remove(&exchange) else { return };
        let observer = exchange.observer.filter(|observer| self.observers.contains_key(observer));
        let answer = match (outcome, observer) {
            (Ok(Some(message)), _) => {
                let mut answer = self.content(exchange.peer, &exchange.topic, message, exchange.block2, now);
                if observer.is_some() {
                    answer = answer.with(CoapOption::Observe, put_uint(self.next_sequence()));
                }
                answer
            }
            // An observation begins with a success (RFC 7641 §4.1), also where there is nothing to say yet.
            (Ok(None), Some(_)) => {
                Answer::new(ResponseType::Content).with(CoapOption::Observe, put_uint(self.next_sequence()))
            }
            (Ok(None), None) => {
                let reason = format!("no retained value on {} that this device can read", exchange.topic);
                Answer::refusal(ResponseType::NotFound, &reason)
            }
            (Err(refused), observer) => {
                if let Some(observer) = observer {
                    self.forget_observer(observer);
                }
                Answer::refused(&refused)
            }
        };
        self.answer(&exchange, answer, now);
    }

    /// A message on an observed topic.
    pub fn handle_news(&mut self, observer: u64, message: Incoming, now: Instant) {
        let Some(entry) = self.observers.get_mut(&observer) else { return };
        if entry.waits.is_some() {
            // Whoever is slow gets the newest state (RFC 7641 §4.5.2).
            entry.newest = Some(message);
            return;
        }
        self.notify(observer, message, now);
    }

    /// Nothing more comes for that observer.
    pub fn handle_lost(&mut self, observer: u64) {
        self.forget_observer(observer);
    }

    fn handle_ack(&mut self, peer: SocketAddr, id: u16, now: Instant) {
        if self.pending.get(&id).is_none_or(|pending| pending.peer != peer) {
            return;
        }
        let Some(Pending { observer: Some(observer), .. }) = self.pending.remove(&id) else { return };
        let Some(entry) = self.observers.get_mut(&observer) else { return };
        entry.waits = None;
        if let Some(message) = entry.newest.take() {
            self.notify(observer, message, now);
        }
    }

    fn handle_reset(&mut self, peer: SocketAddr, id: u16) {
        if self.pending.get(&id).is_some_and(|pending| pending.peer == peer)
            && let Some(Pending { observer: Some(observer), .. }) = self.pending.remove(&id)
        {
            self.forget_observer(observer);
        }
    }

    fn handle_request(
        &mut self,
        peer: SocketAddr,
        packet: &Packet,
        method: RequestType,
        confirmable: bool,
        now: Instant,
    ) {
        let id = packet.header.message_id;
        if let Some(answer) = self.seen.get(&(peer, id)) {
            if confirmable && !answer.is_empty() {
                self.outputs.push_back(Output::Send(peer, answer.clone()));
            }
            return;
        }
        self.remember(peer, id, now);
        let mut exchange = Exchange {
            peer,
            message_id: id,
            token: packet.get_token().to_vec(),
            confirmable,
            acknowledged: false,
            acknowledge_at: now + ANSWER_SOON,
            topic: String::new(),
            block1: None,
            block2: None,
            observer: None,
        };
        if let Err(answer) = self.begin(&mut exchange, packet, method, now) {
            self.answer(&exchange, answer, now);
            return;
        }
        self.exchanges.insert(self.next, exchange);
        self.next += 1;
    }

    /// Hands a request on under the number `self.next`, or answers at once.
    fn begin(
        &mut self,
        exchange: &mut Exchange,
        packet: &Packet,
        method: RequestType,
        now: Instant,
    ) -> Result<(), Answer> {
        if !self.rate.admit(now) {
            return Err(Answer::refusal(
                ResponseType::TooManyRequests,
                "too many requests a second (coap.max_per_second)",
            ));
        }
        if self.exchanges.len() >= MAX_EXCHANGES {
            return Err(Answer::refusal(ResponseType::ServiceUnavailable, "too many requests are under way"));
        }
        check_options(packet)?;
        let bad = |reason: &str| Answer::refusal(ResponseType::BadRequest, reason);
        let block = |option| match packet.get_first_option(option) {
            None => Ok(None),
            Some(value) => Block::parse(value).map(Some).ok_or_else(|| bad("malformed block option")),
        };
        (exchange.block1, exchange.block2) = (block(CoapOption::Block1)?, block(CoapOption::Block2)?);
        let path = texts(packet, CoapOption::UriPath)?;
        if path.iter().map(String::as_str).eq([".well-known", "core"]) && method == RequestType::Get {
            let mut answer = Answer::new(ResponseType::Content).with(CoapOption::ContentFormat, put_uint(40));
            answer.payload = b"</topics>;rt=\"sealcast.topics\";obs".to_vec();
            return Err(answer);
        }
        let target = self.target(&path, &texts(packet, CoapOption::UriQuery)?)?;
        target.topic.as_str().clone_into(&mut exchange.topic);
        match method {
            RequestType::Put | RequestType::Post => self.begin_publish(exchange, packet, target, now),
            RequestType::Get => self.begin_get(exchange, packet, target, now),
            _ => Err(Answer::refusal(ResponseType::MethodNotAllowed, "GET, PUT and POST")),
        }
    }

    fn target(&self, path: &[String], queries: &[String]) -> Result<Target, Answer> {
        let bad = |reason: String| Answer::refusal(ResponseType::BadRequest, &reason);
        let (mut retain, mut known) = (false, self.token.is_none());
        for query in queries {
            match query.split_once('=') {
                Some(("retain", "1")) => retain = true,
                Some(("retain", "0")) => retain = false,
                Some(("token", given)) => known = self.token.as_ref().is_none_or(|token| token.is(given.as_bytes())),
                _ => return Err(bad("there are ?retain=1 and ?token=".to_owned())),
            }
        }
        if !known {
            let reason = "the token of coap.token_file is missing or wrong: ?token=";
            return Err(Answer::refusal(ResponseType::Unauthorized, reason));
        }
        let topic = match path {
            [first, topic @ ..] if first == "topics" && !topic.is_empty() => topic.join("/"),
            _ => {
                let reason = "there is /topics/<topic> and nothing else";
                return Err(Answer::refusal(ResponseType::NotFound, reason));
            }
        };
        let wrong = |error: &dyn std::fmt::Display| bad(format!("{topic:?} is not a topic: {error}"));
        Ok(Target {
            filter: topic.parse().map_err(|error| wrong(&error))?,
            topic: TopicName::new(&topic).map_err(|error| wrong(&error))?,
            retain,
        })
    }

    fn begin_publish(
        &mut self,
        exchange: &Exchange,
        packet: &Packet,
        target: Target,
        now: Instant,
    ) -> Result<(), Answer> {
        let content_type = match packet.get_first_option(CoapOption::ContentFormat).map(|value| uint(value)) {
            None => None,
            Some(number) => {
                let name = number
                    .and_then(block::media_type)
                    .ok_or_else(|| Answer::refusal(ResponseType::UnsupportedContentFormat, "unknown content format"))?;
                Text::new(name).ok()
            }
        };
        let payload = match exchange.block1 {
            None => packet.payload.clone(),
            Some(block) => self.upload(exchange, block, &packet.payload, now)?,
        };
        if payload.len() > self.limits.max_payload_bytes {
            return Err(self.too_large());
        }
        let message = Outgoing { topic: target.topic, payload: payload.into(), retain: target.retain, content_type };
        self.outputs.push_back(Output::Publish { exchange: self.next, message });
        Ok(())
    }

    /// Takes one block; gives the whole with the last one, and an answer in its place before (RFC 7959 §2.5).
    fn upload(&mut self, exchange: &Exchange, block: Block, payload: &[u8], now: Instant) -> Result<Vec<u8>, Answer> {
        let echo = |answer: Answer| answer.with(CoapOption::Block1, block.encode());
        let place = self.uploads.iter().position(|u| u.peer == exchange.peer && u.topic == exchange.topic);
        let earlier = place.and_then(|place| self.uploads.remove(place));
        if block.more && payload.len() != block.bytes() {
            return Err(echo(Answer::refusal(ResponseType::BadRequest, "a block with others after it is full")));
        }
        let mut upload = match earlier {
            _ if block.num == 0 => {
                Upload { peer: exchange.peer, topic: exchange.topic.clone(), bytes: Vec::new(), last: now }
            }
            Some(upload) if upload.bytes.len() == block.start() => upload,
            _ => {
                let reason = "blocks before this one are missing: begin with block 0";
                return Err(echo(Answer::refusal(ResponseType::RequestEntityIncomplete, reason)));
            }
        };
        if upload.bytes.len() + payload.len() > self.limits.max_payload_bytes {
            return Err(echo(self.too_large()));
        }
        upload.bytes.extend_from_slice(payload);
        upload.last = now;
        if !block.more {
            return Ok(upload.bytes);
        }
        if self.uploads.len() >= MAX_UPLOADS {
            self.uploads.pop_front();
        }
        self.uploads.push_back(upload);
        Err(echo(Answer::new(ResponseType::Continue)))
    }

    fn too_large(&self) -> Answer {
        let max = self.limits.max_payload_bytes;
        Answer::refusal(ResponseType::RequestEntityTooLarge, &format!("more than {max} bytes (coap.max_payload_bytes)"))
            .with(CoapOption::Size1, put_uint(u32::try_from(max).unwrap_or(u32::MAX)))
    }

    fn begin_get(
        &mut self,
        exchange: &mut Exchange,
        packet: &Packet,
        target: Target,
        now: Instant,
    ) -> Result<(), Answer> {
        let observe = packet.get_first_option(CoapOption::Observe).and_then(|value| uint(value));
        if exchange.block2.is_some_and(|block| block.num > 0) {
            let kept = self.downloads.iter().find(|d| d.peer == exchange.peer && d.topic == exchange.topic);
            if let Some(message) = kept.map(|download| download.message.clone()) {
                return Err(self.content(exchange.peer, &exchange.topic, message, exchange.block2, now));
            }
        } else if let Some(observe @ (0 | 1)) = observe {
            let same = |o: &Observer| o.peer == exchange.peer && o.token == exchange.token;
            let earlier: Vec<u64> = self.observers.iter().filter(|(_, o)| same(o)).map(|(id, _)| *id).collect();
            earlier.into_iter().for_each(|id| self.forget_observer(id));
            // Without room the answer is that of a plain GET (RFC 7641 §4.1).
            if observe == 0 && self.observers.len() < MAX_OBSERVERS {
                let observer = self.next;
                exchange.observer = Some(observer);
                let entry = Observer {
                    peer: exchange.peer,
                    token: exchange.token.clone(),
                    topic: exchange.topic.clone(),
                    szx: exchange.block2.unwrap_or(Block::FIRST).szx,
                    waits: None,
                    newest: None,
                };
                self.observers.insert(observer, entry);
                self.outputs.push_back(Output::Observe { exchange: self.next, observer, topic: target.filter });
                return Ok(());
            }
        }
        self.outputs.push_back(Output::Last { exchange: self.next, topic: target.filter });
        Ok(())
    }

    /// A representation, or the block of it that was asked for. What has several is kept until it was fetched.
    fn content(
        &mut self,
        peer: SocketAddr,
        topic: &str,
        message: Incoming,
        asked: Option<Block>,
        now: Instant,
    ) -> Answer {
        let block = asked.unwrap_or(Block::FIRST);
        let (start, whole) = (block.start(), message.payload.len());
        if start >= whole && start > 0 {
            return Answer::refusal(ResponseType::BadRequest, "there is no such block");
        }
        let end = whole.min(start + block.bytes().min(MAX_BLOCK_BYTES));
        let mut answer = Answer::new(ResponseType::Content);
        answer.payload = message.payload.get(start..end).unwrap_or_default().to_vec();
        let format = match &message.content_type {
            Some(name) => block::format(name.as_str()),
            None => Some(if std::str::from_utf8(&message.payload).is_ok() { 0 } else { 42 }),
        };
        answer = answer.with(CoapOption::ETag, etag(&message.payload));
        if let Some(format) = format {
            answer = answer.with(CoapOption::ContentFormat, put_uint(format));
        }
        let more = end < whole;
        if asked.is_some() || more {
            answer = answer.with(CoapOption::Block2, Block { more, ..block }.encode());
            if start == 0 {
                answer = answer.with(CoapOption::Size2, put_uint(u32::try_from(whole).unwrap_or(u32::MAX)));
            }
        }
        self.downloads.retain(|download| download.peer != peer || download.topic != topic);
        if more {
            if self.downloads.len() >= MAX_DOWNLOADS {
                self.downloads.pop_front();
            }
            self.downloads.push_back(Download { peer, topic: topic.to_owned(), message, last: now });
        }
        answer
    }

    fn notify(&mut self, observer: u64, message: Incoming, now: Instant) {
        let Some(entry) = self.observers.get(&observer) else { return };
        let (peer, token, topic) = (entry.peer, entry.token.clone(), entry.topic.clone());
        let asked = message.payload.len() > Block { szx: entry.szx, ..Block::FIRST }.bytes();
        let block = asked.then_some(Block { szx: entry.szx, ..Block::FIRST });
        let answer = self.content(peer, &topic, message, block, now);
        let answer = answer.with(CoapOption::Observe, put_uint(self.next_sequence()));
        let id = self.send_confirmable(peer, &token, answer, Some(observer), now);
        if let Some(entry) = self.observers.get_mut(&observer) {
            entry.waits = id;
        }
    }

    fn answer(&mut self, exchange: &Exchange, answer: Answer, now: Instant) {
        match (exchange.confirmable, exchange.acknowledged) {
            (true, false) => {
                let Some(bytes) = message(MessageType::Acknowledgement, exchange.message_id, &exchange.token, answer)
                else {
                    return;
                };
                self.remember_answer(exchange.peer, exchange.message_id, &bytes);
                self.outputs.push_back(Output::Send(exchange.peer, bytes));
            }
            (true, true) => {
                self.send_confirmable(exchange.peer, &exchange.token, answer, None, now);
            }
            (false, _) => {
                let id = self.next_message_id();
                if let Some(bytes) = message(MessageType::NonConfirmable, id, &exchange.token, answer) {
                    self.outputs.push_back(Output::Send(exchange.peer, bytes));
                }
            }
        }
    }

    fn send_confirmable(
        &mut self,
        peer: SocketAddr,
        token: &[u8],
        answer: Answer,
        observer: Option<u64>,
        now: Instant,
    ) -> Option<u16> {
        if self.pending.len() >= MAX_PENDING {
            return None;
        }
        let id = self.next_message_id();
        let bytes = message(MessageType::Confirmable, id, token, answer)?;
        self.outputs.push_back(Output::Send(peer, bytes.clone()));
        self.pending.insert(id, Pending { peer, bytes, next: now + ACK_TIMEOUT, attempts: 0, observer });
        Some(id)
    }

    fn forget_observer(&mut self, observer: u64) {
        if self.observers.remove(&observer).is_some() {
            self.pending.retain(|_, pending| pending.observer != Some(observer));
            self.outputs.push_back(Output::Unobserve(observer));
        }
    }

    fn remember(&mut self, peer: SocketAddr, id: u16, now: Instant) {
        while let Some((then, key)) = self.seen_order.front().copied()
            && (self.seen_order.len() >= MAX_SEEN || now.duration_since(then) > EXCHANGE_LIFETIME)
        {
            self.seen_order.pop_front();
            self.seen.remove(&key);
        }
        self.seen.insert((peer, id), Vec::new());
        self.seen_order.push_back((now, (peer, id)));
    }

    fn remember_answer(&mut self, peer: SocketAddr, id: u16, bytes: &[u8]) {
        if let Some(answer) = self.seen.get_mut(&(peer, id)) {
            *answer = bytes.to_vec();
        }
    }

    fn next_message_id(&mut self) -> u16 {
        loop {
            self.message_id = self.message_id.wrapping_add(1);
            if !self.pending.contains_key(&self.message_id) {
                return self.message_id;
            }
        }
    }

    /// 24 bits (RFC 7641 §3.4).
    fn next_sequence(&mut self) -> u32 {
        self.sequence = (self.sequence + 1) & 0xff_ffff;
        self.sequence
    }
}

/// Options that must be understood (RFC 7252 §5.4.1) are, or the request is refused.
fn check_options(packet: &Packet) -> Result<(), Answer> {
    for (number, _) in packet.options() {
        match number {
            35 | 39 => {
                return Err(Answer::refusal(ResponseType::ProxyingNotSupported, "this is no proxy"));
            }
            3 | 7 | 11 | 15 | 17 | 23 | 27 => {}
            critical if critical % 2 == 1 => {
                let reason = format!("option {critical} is not understood");
                return Err(Answer::refusal(ResponseType::BadOption, &reason));
            }
            _ => {}
        }
    }
    Ok(())
}

fn texts(packet: &Packet, option: CoapOption) -> Result<Vec<String>, Answer> {
    let values = packet.get_option(option).into_iter().flatten();
    values
        .map(|value| String::from_utf8(value.clone()))
        .collect::<Result<_, _>>()
        .map_err(|_| Answer::refusal(ResponseType::BadOption, "an option is not UTF-8"))
}

fn etag(payload: &[u8]) -> Vec<u8> {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, payload);
    digest.as_ref().get(..4).unwrap_or_default().to_vec()
}

fn empty(kind: MessageType, id: u16) -> Vec<u8> {
    let kind = match kind {
        MessageType::Reset => 0x70,
        _ => 0x60,
    };
    let [high, low] = id.to_be_bytes();
    vec![kind, 0, high, low]
}

fn message(kind: MessageType, id: u16, token: &[u8], answer: Answer) -> Option<Vec<u8>> {
    let mut packet = Packet::new();
    packet.header.set_version(1);
    packet.header.set_type(kind);
    packet.header.message_id = id;
    packet.header.code = MessageClass::Response(answer.code);
    packet.set_token(token.to_vec());
    for (option, value) in answer.options {
        packet.add_option(option, value);
    }
    packet.payload = answer.payload;
    packet.to_bytes_with_limit(2 * MAX_BLOCK_BYTES).ok()
}

#[cfg(test)]
mod tests;
