//! A client of an MQTT broker: one connection, MQTT 3.1.1 or 5.
//!
//! Bytes from the server go in by [`Client::handle_input`], those for it come out of [`Client::poll_transmit`], and what
//! the caller is to know out of [`Client::poll_output`]. The caller owns socket and clock:
//!
//! - Transmit before waiting, and whenever the socket takes more.
//! - Read only while [`Client::wants_input`] says so: a caller that does not take its outputs holds up the server.
//! - Call [`Client::handle_timeout`] when [`Client::poll_timeout`] is reached.
//!
//! A message of QoS 1 is published with a token, and the token comes back with what became of it. Nothing is sent again by
//! itself: when the connection ends, the caller learns of each message whether it may have arrived, and decides. So a session
//! that goes on holds the server's side of the state only, which at QoS 1 is enough for both (MQTT 5 4.1).
//!
//! QoS 2 is not spoken. Who subscribes gets at most QoS 1, and a server that sends more all the same is disconnected.

mod ids;
mod keep_alive;
mod outgoing;
mod reason;
mod receipts;
mod receive;
mod types;

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use bytes::Bytes;
use sealcast_topic::FilterError;

use self::ids::PacketIds;
use self::keep_alive::{Due, KeepAlive};
use self::outgoing::{Outgoing, Queued};
use self::receipts::Receipts;
use crate::packets::{
    Ack, AckKind, Connect, Disconnect, EncodeError, PacketId, Properties, Property, Publish, Qos, Splitter, Subscribe,
    SubscriptionOptions, Text, Unsubscribe, Version,
};
use crate::topic::{NotCarried, check_filter};

pub use self::reason::Reason;
pub use self::types::{
    CloseReason, Config, Connected, Message, Outcome, Output, Receipt, Rejected, RequestError, ServerLimits,
};

/// SUBSCRIBE and UNSUBSCRIBE together, and PINGREQ of the caller, that may be without their answer, sent or not.
const MAX_REQUESTS: usize = 1024;
/// Outputs that may wait before no more is read.
const MAX_OUTPUTS: usize = 64;
const PINGREQ: Bytes = Bytes::from_static(&[0xC0, 0]);

/// One connection to a server. `P` are the caller's tokens for publishes, `R` those for its other requests.
pub struct Client<P, R> {
    config: Config,
    version: Version,
    clean_start: bool,
    keep_alive_s: u16,
    phase: Phase,
    limits: ServerLimits,
    splitter: Splitter,
    control: VecDeque<Control>,
    outgoing: Outgoing<P>,
    requests: BTreeMap<PacketId, Request<R>>,
    ids: PacketIds,
    receipts: Receipts,
    keep_alive: KeepAlive<R>,
    outputs: VecDeque<Output<P, R>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// CONNACK may take until then.
    Connecting(Instant),
    Open,
    Closed,
}

/// A frame that no window holds back. Each has a bound: there is one CONNECT, one DISCONNECT and one PINGREQ of the keep
/// alive, and [`MAX_REQUESTS`] of the caller's. Acknowledgements wait in [`Receipts`].
enum Control {
    Frame(Bytes),
    Request(PacketId, Bytes),
    Ping,
}

struct Request<R> {
    kind: RequestKind,
    filters: usize,
    token: R,
    /// A server cannot answer what it has not got.
    sent: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RequestKind {
    Subscribe,
    Unsubscribe,
}

impl<P, R> Client<P, R> {
    /// A client whose stream to the server has just been opened. Of `connect`'s properties, those that say what this side
    /// takes are set from `config`.
    ///
    /// # Errors
    /// If a field of `connect` is too long for MQTT.
    pub fn new(mut connect: Connect, config: Config, now: Instant) -> Result<Self, EncodeError> {
        connect.properties = connect
            .properties
            .iter()
            .filter(|p| !matches!(p, Property::TopicAliasMaximum(_)))
            .cloned()
            .chain([
                Property::ReceiveMaximum(config.receive_maximum),
                Property::MaximumPacketSize(config.max_packet_bytes),
            ])
            .collect();
        let frame = connect.encode()?;
        Ok(Self {
            config,
            version: connect.version,
            clean_start: connect.clean_start,
            keep_alive_s: connect.keep_alive_s,
            phase: Phase::Connecting(now + config.connect_patience),
            limits: ServerLimits::default(),
            splitter: Splitter::new(config.max_packet_bytes as usize),
            control: VecDeque::from([Control::Frame(frame)]),
            outgoing: Outgoing::default(),
            requests: BTreeMap::new(),
            ids: PacketIds::default(),
            receipts: Receipts::default(),
            keep_alive: KeepAlive::new(connect.keep_alive_s, config.ping_patience, now),
            outputs: VecDeque::new(),
        })
    }

    /// Whether the server has accepted the connection, and it is not over.
    pub fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Whether one more message may be published.
    pub fn has_room(&self) -> bool {
        self.is_open() && self.outgoing.has_room(self.config.max_queued, self.config.max_queued_bytes)
    }

    /// Whether every published message has its outcome.
    pub fn is_idle(&self) -> bool {
        self.outgoing.is_empty()
    }

    /// Publishes a message behind those before it. [`Output::Published`] says what became of it.
    ///
    /// # Errors
    /// [`RequestError`]; [`RequestError::Full`] passes when the server answers.
    pub fn publish(&mut self, message: &Message, token: P) -> Result<(), Rejected<P>> {
        match self.encode_publish(message) {
            Ok((frame, id)) => {
                self.outgoing.push(Queued { frame, id, token });
                Ok(())
            }
            Err(error) => Err(Rejected { token, error }),
        }
    }

    fn encode_publish(&mut self, message: &Message) -> Result<(Bytes, Option<PacketId>), RequestError> {
        if !self.is_open() {
            return Err(RequestError::NotConnected);
        }
        if message.qos > self.limits.max_qos.min(Qos::AtLeastOnce) {
            return Err(RequestError::Qos(message.qos));
        }
        if message.retain && !self.limits.retain {
            return Err(RequestError::Retain);
        }
        if !self.has_room() {
            return Err(RequestError::Full);
        }
        let packet_id = match message.qos {
            Qos::AtMostOnce => None,
            _ => Some(self.ids.take().ok_or(RequestError::Full)?),
        };
        let publish = Publish {
            dup: false,
            qos: message.qos,
            retain: message.retain,
            topic: Some(message.topic.clone()),
            packet_id,
            properties: message.properties.clone(),
            payload: message.payload.clone(),
        };
        let frame = publish.encode(self.version).map_err(RequestError::from).and_then(|frame| self.check_size(frame));
        if frame.is_err() {
            packet_id.into_iter().for_each(|id| self.ids.release(id));
        }
        Ok((frame?, packet_id))
    }

    /// Subscribes to each filter with the most QoS that its messages may have: 0 or 1.
    ///
    /// # Errors
    /// [`RequestError`], with the token.
    pub fn subscribe(&mut self, filters: &[(&str, Qos)], token: R) -> Result<(), Rejected<R>> {
        if let Some((_, qos)) = filters.iter().find(|(_, qos)| *qos > Qos::AtLeastOnce) {
            return Err(Rejected { token, error: RequestError::Qos(*qos) });
        }
        let encode = |packet_id, version| {
            let filters = filters.iter().map(|(filter, qos)| Ok((text(filter)?, SubscriptionOptions::new(*qos))));
            let filters = filters.collect::<Result<_, _>>()?;
            Subscribe { packet_id, properties: Properties::new(), filters }.encode(version)
        };
        self.request(RequestKind::Subscribe, filters.iter().map(|(filter, _)| *filter), encode, token)
    }

    /// Ends subscriptions.
    ///
    /// # Errors
    /// [`RequestError`], with the token.
    pub fn unsubscribe(&mut self, filters: &[&str], token: R) -> Result<(), Rejected<R>> {
        let encode = |packet_id, version| {
            let filters = filters.iter().map(|filter| text(filter)).collect::<Result<_, _>>()?;
            Unsubscribe { packet_id, properties: Properties::new(), filters }.encode(version)
        };
        self.request(RequestKind::Unsubscribe, filters.iter().copied(), encode, token)
    }

    fn request<'a>(
        &mut self,
        kind: RequestKind,
        filters: impl ExactSizeIterator<Item = &'a str>,
        encode: impl FnOnce(PacketId, Version) -> Result<Bytes, EncodeError>,
        token: R,
    ) -> Result<(), Rejected<R>> {
        let count = filters.len();
        match self.encode_request(filters, encode) {
            Ok((id, frame)) => {
                self.requests.insert(id, Request { kind, filters: count, token, sent: false });
                self.control.push_back(Control::Request(id, frame));
                Ok(())
            }
            Err(error) => Err(Rejected { token, error }),
        }
    }

    fn encode_request<'a>(
        &mut self,
        mut filters: impl ExactSizeIterator<Item = &'a str>,
        encode: impl FnOnce(PacketId, Version) -> Result<Bytes, EncodeError>,
    ) -> Result<(PacketId, Bytes), RequestError> {
        if !self.is_open() {
            return Err(RequestError::NotConnected);
        }
        if filters.len() == 0 {
            return Err(NotCarried::from(FilterError::Empty).into());
        }
        filters.try_for_each(check_filter)?;
        if self.requests.len() >= MAX_REQUESTS {
            return Err(RequestError::Full);
        }
        let id = self.ids.take().ok_or(RequestError::Full)?;
        let frame = encode(id, self.version).map_err(RequestError::from).and_then(|frame| self.check_size(frame));
        if frame.is_err() {
            self.ids.release(id);
        }
        Ok((id, frame?))
    }

    fn check_size(&self, frame: Bytes) -> Result<Bytes, RequestError> {
        match self.limits.max_packet_bytes {
            Some(max) if frame.len() > max as usize => Err(RequestError::TooLarge { size: frame.len(), max }),
            _ => Ok(frame),
        }
    }

    /// Asks the server for a sign of life; [`Output::Pong`] is its answer, and comes behind the server's answers to what was
    /// requested before.
    ///
    /// # Errors
    /// [`RequestError`], with the token.
    pub fn ping(&mut self, token: R, now: Instant) -> Result<(), Rejected<R>> {
        let error = match self.phase {
            Phase::Open if self.keep_alive.pings() < MAX_REQUESTS => {
                self.queue_ping(Some(token), now);
                return Ok(());
            }
            Phase::Open => RequestError::Full,
            _ => RequestError::NotConnected,
        };
        Err(Rejected { token, error })
    }

    fn queue_ping(&mut self, token: Option<R>, now: Instant) {
        self.keep_alive.note_ping(token, now);
        self.control.push_back(Control::Ping);
    }

    /// The message has been dealt with, and the server may forget it. It learns so in the order in which the messages came.
    pub fn acknowledge(&mut self, receipt: Receipt) {
        self.receipts.acknowledge(receipt);
    }

    /// Ends the connection with DISCONNECT and, in MQTT 5, its reason code. What waits to be sent is not sent: wait for
    /// [`Client::is_idle`] first. Transmit once more, then close the stream.
    pub fn disconnect(&mut self, code: u8) {
        if self.is_open() {
            self.queue_disconnect(code);
        }
        self.close(CloseReason::Local);
    }

    fn queue_disconnect(&mut self, code: u8) {
        let disconnect = Disconnect { code, properties: Properties::new() }.encode(self.version);
        self.control.extend(disconnect.ok().map(Control::Frame));
    }

    fn close(&mut self, reason: CloseReason) {
        if self.phase == Phase::Closed {
            return;
        }
        self.phase = Phase::Closed;
        self.receipts.end();
        self.requests.clear();
        let (unknown, unsent) = self.outgoing.end();
        self.outputs.extend(unknown.map(|token| Output::Published(token, Outcome::Unknown)));
        self.outputs.extend(unsent.map(|token| Output::Published(token, Outcome::Unsent)));
        self.outputs.push_back(Output::Closed(reason));
    }

    /// The next bytes for the server: whole frames, in order. Also after the connection is over, for its last ones.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Bytes> {
        let frame = self.next_ack().or_else(|| self.next_control()).or_else(|| self.next_publish())?;
        self.keep_alive.note_sent(now);
        Some(frame)
    }

    fn next_ack(&mut self) -> Option<Bytes> {
        // An acknowledgement without properties always fits.
        self.receipts.next().and_then(|id| Ack::success(AckKind::Puback, id).encode(self.version).ok())
    }

    fn next_control(&mut self) -> Option<Bytes> {
        Some(match self.control.pop_front()? {
            Control::Frame(frame) => frame,
            Control::Request(id, frame) => {
                self.requests.get_mut(&id).into_iter().for_each(|request| request.sent = true);
                frame
            }
            Control::Ping => {
                self.keep_alive.note_ping_sent();
                PINGREQ
            }
        })
    }

    fn next_publish(&mut self) -> Option<Bytes> {
        let window = self.config.max_in_flight.min(self.limits.receive_maximum);
        let (frame, over) = self.outgoing.next(window)?;
        self.outputs.extend(over.map(|token| Output::Published(token, Outcome::Taken)));
        Some(frame)
    }

    /// What the caller is to know, in order.
    pub fn poll_output(&mut self) -> Option<Output<P, R>> {
        self.outputs.pop_front()
    }

    /// When [`Client::handle_timeout`] is to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.phase {
            Phase::Connecting(until) => Some(until),
            Phase::Open => self.keep_alive.poll_timeout(),
            Phase::Closed => None,
        }
    }

    /// Time has passed. If bytes have come meanwhile, hand them over first.
    pub fn handle_timeout(&mut self, now: Instant) {
        match self.phase {
            Phase::Connecting(until) if until <= now => self.close(CloseReason::Silent),
            Phase::Open => match self.keep_alive.due(now) {
                Some(Due::Ping) => self.queue_ping(None, now),
                // While the caller does not let it listen, it cannot tell that nobody speaks.
                Some(Due::GiveUp) if self.waits_for_caller() => self.keep_alive.note_heard(now),
                Some(Due::GiveUp) => self.close(CloseReason::Silent),
                None => {}
            },
            _ => {}
        }
    }
}

fn text(filter: &str) -> Result<Text, EncodeError> {
    Text::new(filter).map_err(|_| EncodeError::FieldTooLong("topic filter"))
}

#[cfg(test)]
mod tests;
