//! What is under way, and what was said before.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
};

use coap_lite::{CoapOption, MessageClass, MessageType, Packet, RequestType, ResponseType};

use crate::{
    Limits, Output, Refused, TokenCheck, Value,
    answer::{Answer, empty, etag, message},
    block::{self, Block, MAX_BLOCK_BYTES, put_uint},
    rate::Rate,
};

pub(crate) const MAX_EXCHANGES: usize = 64;
const MAX_SEEN: usize = 1024;
pub(crate) const MAX_UPLOADS: usize = 32;
const MAX_DOWNLOADS: usize = 32;
pub(crate) const MAX_OBSERVERS: usize = 64;
const MAX_PENDING: usize = 256;
/// EXCHANGE_LIFETIME (RFC 7252 §4.8.2): how long a message id stands for the same message.
const EXCHANGE_LIFETIME_MS: u64 = 247_000;
/// How long a transfer in blocks may rest.
const TRANSFER_LIFETIME_MS: u64 = 60_000;
/// An answer that takes longer comes apart from the acknowledgement (RFC 7252 §5.2.2).
pub(crate) const ANSWER_SOON_MS: u64 = 1_000;
/// ACK_TIMEOUT times ACK_RANDOM_FACTOR (RFC 7252 §4.8).
pub(crate) const ACK_TIMEOUT_MS: u64 = 3_000;
const MAX_RETRANSMIT: u32 = 4;

/// The state of the door.
pub struct Server {
    pub(crate) limits: Limits,
    pub(crate) token: Option<TokenCheck>,
    pub(crate) rate: Rate,
    pub(crate) outputs: VecDeque<Output>,
    pub(crate) next: u64,
    message_id: u16,
    sequence: u32,
    pub(crate) exchanges: BTreeMap<u64, Exchange>,
    /// Messages that came, with what was answered: a repeated one gets the same, and is not done again.
    seen: BTreeMap<(SocketAddr, u16), Vec<u8>>,
    seen_order: VecDeque<(u64, (SocketAddr, u16))>,
    pub(crate) uploads: VecDeque<Upload>,
    pub(crate) downloads: VecDeque<Download>,
    pub(crate) observers: BTreeMap<u64, Observer>,
    pending: BTreeMap<u16, Pending>,
}

/// How much a [`Server`] holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Requests that are not answered yet.
    pub exchanges: usize,
    /// Message ids that are remembered, each with its answer.
    pub seen: usize,
    /// Payloads that are being put together.
    pub uploads: usize,
    /// Values of which more blocks may be asked for.
    pub downloads: usize,
    /// Observers.
    pub observers: usize,
    /// Confirmable messages that are not acknowledged.
    pub pending: usize,
}

impl Counts {
    /// What there is never more of.
    pub const MOST: Self = Self {
        exchanges: MAX_EXCHANGES,
        seen: MAX_SEEN,
        uploads: MAX_UPLOADS,
        downloads: MAX_DOWNLOADS,
        observers: MAX_OBSERVERS,
        pending: MAX_PENDING,
    };
}

/// A request that is not answered yet.
pub(crate) struct Exchange {
    pub peer: SocketAddr,
    pub message_id: u16,
    pub token: Vec<u8>,
    pub confirmable: bool,
    pub acknowledged: bool,
    pub acknowledge_at_ms: u64,
    pub topic: String,
    pub block1: Option<Block>,
    pub block2: Option<Block>,
    pub observer: Option<u64>,
}

pub(crate) struct Upload {
    pub peer: SocketAddr,
    pub topic: String,
    pub bytes: Vec<u8>,
    pub last_ms: u64,
}

pub(crate) struct Download {
    pub peer: SocketAddr,
    pub topic: String,
    pub message: Value,
    pub last_ms: u64,
}

pub(crate) struct Observer {
    pub peer: SocketAddr,
    pub token: Vec<u8>,
    pub topic: String,
    pub szx: u8,
    /// The confirmable notification that is not acknowledged, and the newest message since.
    pub waits: Option<u16>,
    pub newest: Option<Value>,
}

/// A confirmable message that is not acknowledged.
struct Pending {
    peer: SocketAddr,
    bytes: Vec<u8>,
    next_ms: u64,
    attempts: u32,
    observer: Option<u64>,
}

impl Server {
    /// Nothing under way. `seed` is where message ids begin.
    pub fn new(limits: Limits, token: Option<TokenCheck>, seed: u32, now_ms: u64) -> Self {
        Self {
            limits,
            token,
            rate: Rate::new(limits.max_per_second, now_ms),
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

    /// How much is under way and remembered.
    pub fn counts(&self) -> Counts {
        Counts {
            exchanges: self.exchanges.len(),
            seen: self.seen.len().max(self.seen_order.len()),
            uploads: self.uploads.len(),
            downloads: self.downloads.len(),
            observers: self.observers.len(),
            pending: self.pending.len(),
        }
    }

    /// When [`Server::handle_timeout`] is to be called.
    pub fn poll_timeout(&self) -> Option<u64> {
        let acks = self.exchanges.values().filter(|e| e.confirmable && !e.acknowledged).map(|e| e.acknowledge_at_ms);
        acks.chain(self.pending.values().map(|pending| pending.next_ms)).min()
    }

    /// Acknowledges what takes long, and sends again what was not acknowledged.
    pub fn handle_timeout(&mut self, now_ms: u64) {
        let mut late = Vec::new();
        for exchange in self.exchanges.values_mut() {
            if exchange.confirmable && !exchange.acknowledged && exchange.acknowledge_at_ms <= now_ms {
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
        for (id, pending) in self.pending.iter_mut().filter(|(_, pending)| pending.next_ms <= now_ms) {
            if pending.attempts >= MAX_RETRANSMIT {
                lost.push(*id);
                continue;
            }
            pending.attempts += 1;
            pending.next_ms = now_ms.saturating_add(ACK_TIMEOUT_MS << pending.attempts);
            self.outputs.push_back(Output::Send(pending.peer, pending.bytes.clone()));
        }
        for id in lost {
            if let Some(Pending { observer: Some(observer), .. }) = self.pending.remove(&id) {
                self.forget_observer(observer);
            }
        }
        self.uploads.retain(|upload| now_ms.saturating_sub(upload.last_ms) < TRANSFER_LIFETIME_MS);
        self.downloads.retain(|download| now_ms.saturating_sub(download.last_ms) < TRANSFER_LIFETIME_MS);
    }

    /// A datagram came. Any bytes are safe.
    pub fn handle_datagram(&mut self, peer: SocketAddr, bytes: &[u8], now_ms: u64) {
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
            (MessageType::Acknowledgement, _) => self.handle_ack(peer, id, now_ms),
            (MessageType::Reset, _) => self.handle_reset(peer, id),
            (kind, MessageClass::Request(method)) => {
                self.handle_request(peer, &packet, method, kind == MessageType::Confirmable, now_ms);
            }
            // A ping (RFC 7252 §4.3), or an answer to nothing that was asked.
            (MessageType::Confirmable, _) => {
                self.outputs.push_back(Output::Send(peer, empty(MessageType::Reset, id)));
            }
            (MessageType::NonConfirmable, _) => {}
        }
    }

    /// A publish came to its end.
    pub fn handle_published(&mut self, exchange: u64, outcome: Result<(), Refused>, now_ms: u64) {
        let Some(exchange) = self.exchanges.remove(&exchange) else { return };
        let mut answer = match outcome {
            Ok(()) => Answer::new(ResponseType::Changed),
            Err(refused) => Answer::refused(&refused),
        };
        if let Some(block) = exchange.block1 {
            answer = answer.with(CoapOption::Block1, block.encode());
        }
        self.answer(&exchange, answer, now_ms);
    }

    /// The last value is there, or is known not to be.
    pub fn handle_last(&mut self, exchange: u64, outcome: Result<Option<Value>, Refused>, now_ms: u64) {
        let Some(exchange) = self.exchanges.remove(&exchange) else { return };
        let observer = exchange.observer.filter(|observer| self.observers.contains_key(observer));
        let answer = match (outcome, observer) {
            (Ok(Some(message)), _) => {
                let mut answer = self.content(exchange.peer, &exchange.topic, message, exchange.block2, now_ms);
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
        self.answer(&exchange, answer, now_ms);
    }

    /// A message on an observed topic.
    pub fn handle_news(&mut self, observer: u64, message: Value, now_ms: u64) {
        let Some(entry) = self.observers.get_mut(&observer) else { return };
        if entry.waits.is_some() {
            // Whoever is slow gets the newest state (RFC 7641 §4.5.2).
            entry.newest = Some(message);
            return;
        }
        self.notify(observer, message, now_ms);
    }

    /// Nothing more comes for that observer.
    pub fn handle_lost(&mut self, observer: u64) {
        self.forget_observer(observer);
    }

    fn handle_ack(&mut self, peer: SocketAddr, id: u16, now_ms: u64) {
        if self.pending.get(&id).is_none_or(|pending| pending.peer != peer) {
            return;
        }
        let Some(Pending { observer: Some(observer), .. }) = self.pending.remove(&id) else { return };
        let Some(entry) = self.observers.get_mut(&observer) else { return };
        entry.waits = None;
        if let Some(message) = entry.newest.take() {
            self.notify(observer, message, now_ms);
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
        now_ms: u64,
    ) {
        let id = packet.header.message_id;
        if let Some(answer) = self.seen.get(&(peer, id)) {
            if confirmable && !answer.is_empty() {
                self.outputs.push_back(Output::Send(peer, answer.clone()));
            }
            return;
        }
        self.remember(peer, id, now_ms);
        let mut exchange = Exchange {
            peer,
            message_id: id,
            token: packet.get_token().to_vec(),
            confirmable,
            acknowledged: false,
            acknowledge_at_ms: now_ms.saturating_add(ANSWER_SOON_MS),
            topic: String::new(),
            block1: None,
            block2: None,
            observer: None,
        };
        if let Err(answer) = self.begin(&mut exchange, packet, method, now_ms) {
            self.answer(&exchange, answer, now_ms);
            return;
        }
        self.exchanges.insert(self.next, exchange);
        self.next += 1;
    }

    /// A representation, or the block of it that was asked for. What has several is kept until it was fetched.
    pub(crate) fn content(
        &mut self,
        peer: SocketAddr,
        topic: &str,
        message: Value,
        asked: Option<Block>,
        now_ms: u64,
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
            self.downloads.push_back(Download { peer, topic: topic.to_owned(), message, last_ms: now_ms });
        }
        answer
    }

    fn notify(&mut self, observer: u64, message: Value, now_ms: u64) {
        let Some(entry) = self.observers.get(&observer) else { return };
        let (peer, token, topic) = (entry.peer, entry.token.clone(), entry.topic.clone());
        let asked = message.payload.len() > Block { szx: entry.szx, ..Block::FIRST }.bytes();
        let block = asked.then_some(Block { szx: entry.szx, ..Block::FIRST });
        let answer = self.content(peer, &topic, message, block, now_ms);
        let answer = answer.with(CoapOption::Observe, put_uint(self.next_sequence()));
        let id = self.send_confirmable(peer, &token, answer, Some(observer), now_ms);
        if let Some(entry) = self.observers.get_mut(&observer) {
            entry.waits = id;
        }
    }

    fn answer(&mut self, exchange: &Exchange, answer: Answer, now_ms: u64) {
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
                self.send_confirmable(exchange.peer, &exchange.token, answer, None, now_ms);
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
        now_ms: u64,
    ) -> Option<u16> {
        if self.pending.len() >= MAX_PENDING {
            return None;
        }
        let id = self.next_message_id();
        let bytes = message(MessageType::Confirmable, id, token, answer)?;
        self.outputs.push_back(Output::Send(peer, bytes.clone()));
        self.pending
            .insert(id, Pending { peer, bytes, next_ms: now_ms.saturating_add(ACK_TIMEOUT_MS), attempts: 0, observer });
        Some(id)
    }

    pub(crate) fn forget_observer(&mut self, observer: u64) {
        if self.observers.remove(&observer).is_some() {
            self.pending.retain(|_, pending| pending.observer != Some(observer));
            self.outputs.push_back(Output::Unobserve(observer));
        }
    }

    fn remember(&mut self, peer: SocketAddr, id: u16, now_ms: u64) {
        while let Some((then_ms, key)) = self.seen_order.front().copied()
            && (self.seen_order.len() >= MAX_SEEN || now_ms.saturating_sub(then_ms) > EXCHANGE_LIFETIME_MS)
        {
            self.seen_order.pop_front();
            self.seen.remove(&key);
        }
        self.seen.insert((peer, id), Vec::new());
        self.seen_order.push_back((now_ms, (peer, id)));
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
