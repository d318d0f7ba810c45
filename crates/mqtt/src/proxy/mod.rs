//! The state machine between one local client and the broker.
//!
//! Each way is a lane of frames in their order. A PUBLISH waits in its lane until the driver has answered; several may
//! wait at once and be answered in any order, and they leave in the order they came. Frames behind wait too, except
//! acknowledgements and pings, which stand in no order to messages: holding them back would stop the other way, or
//! break the connection while a key is being waited for.
//!
//! Invariant: no packet of a withheld message reaches the other side, and each side's packet identifiers, receive
//! maximum and topic aliases stay as that side sees them.

mod connecting;
mod deleting;
mod down;
mod lane;
mod subscribing;
mod subscriptions;
mod types;
mod up;
mod v31;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use sealcast_topic::TopicName;

use crate::packets::{
    Ack, AckKind, Connack, Connect, Disconnect, EncodeError, MAX_REMAINING_BYTES, PacketId, ParseError, Properties,
    Property, Splitter, Text, Version, reason,
};
use lane::Lane;
use subscribing::Pending;

pub use subscriptions::{MAX_SUBSCRIPTIONS, Subscriptions};
pub use types::{
    AnswerError, CloseReason, ConnectCode, ConnectRequest, Connected, Counters, Credentials, Delivery, DeliveryId,
    Output, Outstanding, ProxyConfig, PublishId, PublishRefusal, PublishRequest, RefuseCode, SessionState, WillAnswer,
    WillRequest,
};

/// Longest reason string that is made here, in bytes.
const MAX_REASON_BYTES: usize = 512;

enum Phase {
    /// Nothing but CONNECT may come.
    AwaitConnect,
    /// The driver decides on CONNECT.
    AwaitAnswer { frame: Bytes, connect: Box<Connect> },
    /// CONNECT has gone to the broker.
    AwaitConnack,
    /// Messages flow.
    Open,
    /// Done.
    Closed,
}

struct Side {
    splitter: Splitter,
    eof: bool,
    /// Its last packet is in the lane; what comes after it is not read.
    done: bool,
    /// What is wrong with its last packet.
    fault: Option<ParseError>,
}

/// One local client and its connection to the broker.
///
/// Feed it with [`Proxy::handle_client`] and [`Proxy::handle_broker`], then call [`Proxy::poll`] until it returns
/// `None`, also after each answer. Read from a side only while `wants_client_bytes` or `wants_broker_bytes` says so.
///
/// The driver answers each [`Output::Publish`] and [`Output::Delivery`] once, within the client's keep alive: a client
/// that only publishes sends no pings that could overtake.
pub struct Proxy {
    config: ProxyConfig,
    phase: Phase,
    /// What the broker is spoken to in, MQTT 3.1.1 or 5, and the client too unless `client_is_v31`.
    version: Version,
    /// The client speaks MQTT 3.1. Few brokers still do, so to the broker it is one of MQTT 3.1.1.
    client_is_v31: bool,
    client: Side,
    broker: Side,
    up: Lane,
    down: Lane,
    outputs: VecDeque<Output>,
    session: SessionState,
    /// QoS 2 publishes refused on redelivery: the broker was sent PUBREL for them, its PUBCOMP is not for the client.
    released: BTreeSet<PacketId>,
    /// Topics of MQTT 5 publishes that the broker has not answered; as many as there are packet identifiers at most.
    published: BTreeMap<PacketId, TopicName>,
    client_max_bytes: usize,
    broker_max_bytes: usize,
    up_aliases: u16,
    down_aliases: u16,
    reason_on_acks: bool,
    next_publish: u64,
    subscribing: Pending,
    /// Go up in the place of the client's own.
    credentials: Option<Credentials>,
    /// The code and reason with which the connection ends once what the client has sent has gone up.
    closing: Option<(u8, String)>,
    /// The client's DISCONNECT asks the broker to forget the will.
    forgoes_will: bool,
    counters: Counters,
}

impl Proxy {
    /// A proxy for a client that has just opened its connection.
    pub fn new(config: ProxyConfig) -> Self {
        let side =
            || Side { splitter: Splitter::new(config.max_frame_bytes as usize), eof: false, done: false, fault: None };
        Self {
            config,
            phase: Phase::AwaitConnect,
            version: Version::V311,
            client_is_v31: false,
            client: side(),
            broker: side(),
            up: Lane::default(),
            down: Lane::default(),
            outputs: VecDeque::new(),
            session: SessionState::default(),
            released: BTreeSet::new(),
            published: BTreeMap::new(),
            client_max_bytes: MAX_REMAINING_BYTES,
            broker_max_bytes: MAX_REMAINING_BYTES,
            up_aliases: 0,
            down_aliases: 0,
            reason_on_acks: true,
            next_publish: 0,
            subscribing: Pending::default(),
            credentials: None,
            closing: None,
            forgoes_will: false,
            counters: Counters::default(),
        }
    }

    /// Takes bytes from the client.
    pub fn handle_client(&mut self, bytes: &[u8]) {
        if !self.is_closed() && !self.client.done {
            self.client.splitter.feed(bytes);
        }
    }

    /// Takes bytes from the broker.
    pub fn handle_broker(&mut self, bytes: &[u8]) {
        if !self.is_closed() && !self.broker.done {
            self.broker.splitter.feed(bytes);
        }
    }

    /// The client's connection has ended. What it sent before still goes up, then follows [`Output::Closed`].
    pub fn handle_client_eof(&mut self) {
        self.client.eof = true;
    }

    /// The broker's connection has ended. What it sent before still goes down, then follows [`Output::Closed`].
    pub fn handle_broker_eof(&mut self) {
        self.broker.eof = true;
    }

    /// The next thing to do, or `None` until more bytes or an answer come.
    pub fn poll(&mut self) -> Option<Output> {
        loop {
            if let Some(output) = self.outputs.pop_front() {
                return Some(output);
            }
            // Both ways get a turn, so that a flood on one does not starve the other.
            let up = self.step_client();
            let down = self.step_broker();
            if !up && !down && self.outputs.is_empty() && !self.step_eof() {
                return None;
            }
        }
    }

    /// Whether to read from the client now. `false` while too much waits, or the client has said DISCONNECT.
    pub fn wants_client_bytes(&self) -> bool {
        !self.is_closed()
            && self.closing.is_none()
            && !self.client.eof
            && !self.client.done
            && self.has_room(&self.client, &self.up)
    }

    /// Whether to read from the broker now. `false` while too much waits.
    pub fn wants_broker_bytes(&self) -> bool {
        let connected = matches!(self.phase, Phase::AwaitConnack | Phase::Open);
        connected && !self.broker.eof && !self.broker.done && self.has_room(&self.broker, &self.down)
    }

    /// Answers [`Output::Connect`]: CONNECT goes to the broker.
    ///
    /// `session` is what an earlier connection of the same client id left ([`Proxy::session`]), or the default. It is
    /// forgotten if the broker has no session.
    ///
    /// # Errors
    /// [`AnswerError::NotWaiting`], or [`AnswerError::Will`] if there is no will or it is too long.
    pub fn accept(&mut self, will: WillAnswer, session: SessionState) -> Result<(), AnswerError> {
        let Phase::AwaitAnswer { frame, connect } = &self.phase else { return Err(AnswerError::NotWaiting) };
        let bytes = connecting::connect_upstream(&self.config, frame, connect, will, self.credentials.clone())?;
        self.session = session;
        self.phase = Phase::AwaitConnack;
        self.outputs.push_back(Output::ToBroker(bytes));
        Ok(())
    }

    /// Answers [`Output::Connect`]: the client gets CONNACK with that code, in MQTT 5 with `reason`, and is closed.
    ///
    /// # Errors
    /// [`AnswerError::NotWaiting`].
    pub fn refuse_connect(&mut self, code: ConnectCode, reason: &str) -> Result<(), AnswerError> {
        if !matches!(self.phase, Phase::AwaitAnswer { .. }) {
            return Err(AnswerError::NotWaiting);
        }
        self.send_connack(code.code(self.version), reason);
        self.finish(CloseReason::ConnectRefused { reason: reason.to_owned() });
        Ok(())
    }

    /// Ends the connection from the agent's side; in MQTT 5 the client is told `code` and `reason`.
    pub fn close(&mut self, code: u8, reason: &str) {
        if !self.is_closed() {
            self.send_farewell(code, reason);
            self.finish(CloseReason::Agent(reason.to_owned()));
        }
    }

    /// As [`Proxy::close`], once what the client has sent so far has gone up: no more is read from it. What waits for an
    /// answer holds up the end; a driver that cannot wait so long calls [`Proxy::close`].
    pub fn close_when_drained(&mut self, code: u8, reason: &str) {
        if matches!(self.phase, Phase::Open) {
            self.closing = Some((code, reason.to_owned()));
        } else {
            self.close(code, reason);
        }
    }

    /// The largest packet that the broker takes, where that is known from elsewhere. Counts for a client of MQTT 3.1.1, in
    /// which the broker does not say it. Call it before [`Proxy::accept`].
    pub fn set_broker_max_bytes(&mut self, max: usize) {
        self.broker_max_bytes = max;
    }

    /// The broker gets these in the place of the client's own. Call it before [`Proxy::accept`].
    pub fn set_credentials(&mut self, credentials: Credentials) {
        self.credentials = Some(credentials);
    }

    /// Whether the client said by DISCONNECT that its will is not to be published (MQTT 5 3.14.2.1).
    pub fn forgoes_will(&self) -> bool {
        self.forgoes_will
    }

    /// What the next connection of this session must be given. Take it after [`Output::Closed`].
    pub fn session(&self) -> &SessionState {
        &self.session
    }

    /// What has been carried so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// The protocol version, MQTT 3.1.1 or 5; MQTT 3.1.1 until CONNECT has come. A client of MQTT 3.1 counts as one of 3.1.1.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Whether [`Output::Closed`] has been put out.
    pub fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }

    fn lane_has_room(&self, lane: &Lane) -> bool {
        lane.len() < self.config.max_waiting_frames && lane.waiting_bytes() < self.config.max_waiting_bytes
    }

    fn has_room(&self, side: &Side, lane: &Lane) -> bool {
        // The start of one over the limit is read, to see what it is.
        let incomplete = !matches!(side.splitter.peek_packet(), Ok(Some(_)));
        self.lane_has_room(lane) && (incomplete || side.splitter.buffered_bytes() < self.config.max_waiting_bytes)
    }

    fn step_eof(&mut self) -> bool {
        if self.is_closed() {
            return false;
        }
        let drained = |side: &Side, lane: &Lane| {
            side.eof && lane.is_empty() && (side.done || !matches!(side.splitter.peek_packet(), Ok(Some(_))))
        };
        let sent = self.up.is_empty() && !matches!(self.client.splitter.peek_packet(), Ok(Some(_)));
        if let Some((code, reason)) = self.closing.take_if(|_| sent) {
            self.close(code, &reason);
        } else if drained(&self.client, &self.up) {
            self.finish(CloseReason::ClientEof);
        } else if drained(&self.broker, &self.down) {
            self.finish(CloseReason::BrokerEof);
        } else {
            return false;
        }
        true
    }

    fn finish(&mut self, reason: CloseReason) {
        if !self.is_closed() {
            self.phase = Phase::Closed;
            self.up = Lane::default();
            self.down = Lane::default();
            self.outputs.push_back(Output::Closed(reason));
        }
    }

    /// The client broke the protocol. What it sent before still goes up, as it does before DISCONNECT.
    fn fault_client(&mut self, error: ParseError) {
        self.client.done = true;
        self.client.fault = Some(error);
    }

    fn fail_client(&mut self, error: ParseError) {
        self.send_farewell(error.reason_code(), &error.to_string());
        self.finish(CloseReason::ClientMalformed(error));
    }

    fn fail_broker(&mut self, error: ParseError) {
        // The client did nothing wrong, and what the broker did is none of its business.
        self.send_farewell(reason::UNSPECIFIED, "broker sent a malformed packet");
        self.finish(CloseReason::BrokerMalformed(error));
    }

    /// Tells an MQTT 5 client why its connection ends. MQTT 3.1.1 has no word for it.
    fn send_farewell(&mut self, code: u8, reason: &str) {
        match (self.version, &self.phase) {
            (Version::V311, _) | (_, Phase::AwaitConnect | Phase::Closed) => {}
            (_, Phase::AwaitAnswer { .. } | Phase::AwaitConnack) => self.send_connack(code, reason),
            (_, Phase::Open) => {
                self.send_with_reason(reason, |properties| Disconnect { code, properties }.encode(Version::V5))
            }
        }
    }

    fn send_connack(&mut self, code: u8, reason: &str) {
        let version = self.version;
        self.send_with_reason(reason, |properties| {
            Connack { session_present: false, code, properties }.encode(version)
        });
    }

    /// Sends a frame to the client, without its reason string if it only fits so.
    fn send_with_reason(&mut self, reason: &str, encode: impl Fn(Properties) -> Result<Bytes, EncodeError>) {
        let text = Text::lossy(reason, MAX_REASON_BYTES);
        let full = encode(Properties::from_iter([Property::ReasonString(text)]));
        let frame = match full {
            Ok(bytes) if bytes.len() <= self.client_max_bytes && !reason.is_empty() => Ok(bytes),
            _ => encode(Properties::new()),
        };
        if let Ok(bytes) = frame {
            self.outputs.push_back(Output::ToClient(bytes));
        }
    }

    fn ack_upstream(&mut self, kind: AckKind, packet_id: PacketId) {
        if let Ok(bytes) = Ack::success(kind, packet_id).encode(self.version) {
            self.outputs.push_back(Output::ToBroker(bytes));
        }
    }
}
