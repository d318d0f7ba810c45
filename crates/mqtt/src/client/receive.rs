//! What comes from the server.

use std::time::Instant;

use super::keep_alive::KeepAlive;
use super::reason::Reason;
use super::types::{CloseReason, Connected, Outcome, Output, ServerLimits};
use super::{Client, MAX_OUTPUTS, Phase, Request, RequestKind};
use crate::packets::{
    Ack, Connack, Disconnect, Frame, PacketType, ParseError, Properties, Property, Publish, Qos, Suback, Unsuback,
    Version, reason,
};

/// Why a frame ends the connection.
struct Fault {
    /// For DISCONNECT.
    code: u8,
    error: ParseError,
}

impl From<ParseError> for Fault {
    fn from(error: ParseError) -> Self {
        Self { code: error.reason_code(), error }
    }
}

impl Default for ServerLimits {
    fn default() -> Self {
        let (receive_maximum, max_qos) = (u16::MAX, Qos::ExactlyOnce);
        Self { receive_maximum, max_packet_bytes: None, max_qos, retain: true, wildcards: true, keep_alive_s: None }
    }
}

impl ServerLimits {
    fn read(properties: &Properties) -> Self {
        let mut limits = Self::default();
        for property in properties {
            match property {
                Property::ReceiveMaximum(max) => limits.receive_maximum = *max,
                Property::MaximumPacketSize(max) => limits.max_packet_bytes = Some(*max),
                Property::MaximumQos(0) => limits.max_qos = Qos::AtMostOnce,
                Property::MaximumQos(_) => limits.max_qos = Qos::AtLeastOnce,
                Property::RetainAvailable(available) => limits.retain = *available != 0,
                Property::WildcardSubscriptions(available) => limits.wildcards = *available != 0,
                Property::ServerKeepAlive(seconds) => limits.keep_alive_s = Some(*seconds),
                _ => {}
            }
        }
        limits
    }
}

impl<P, R> Client<P, R> {
    /// Whether bytes of the server are to be read. Not while outputs wait to be taken, nor while so many messages of an
    /// MQTT 3.1.1 server, which cannot be told a bound, wait for their PUBACK to be sent.
    pub fn wants_input(&self) -> bool {
        self.phase != Phase::Closed && !self.outputs_full() && !self.receipts_hold_up()
    }

    /// Whether it is the caller that keeps the server's bytes from being read.
    pub(super) fn waits_for_caller(&self) -> bool {
        self.outputs_full() || self.receipts_hold_up() && self.receipts.waits_for_caller()
    }

    fn outputs_full(&self) -> bool {
        self.outputs.len() >= MAX_OUTPUTS
    }

    fn receipts_hold_up(&self) -> bool {
        self.version != Version::V5 && self.receipts_full()
    }

    fn receipts_full(&self) -> bool {
        self.receipts.len() >= usize::from(self.config.receive_maximum)
    }

    /// The server has sent `bytes`.
    pub fn handle_input(&mut self, bytes: &[u8], now: Instant) {
        self.keep_alive.note_heard(now);
        self.splitter.feed(bytes);
        while self.phase != Phase::Closed {
            let handled = match self.splitter.next_frame() {
                Ok(None) => return,
                Ok(Some(frame)) => self.handle_frame(&frame, now),
                Err(error) => Err(error.into()),
            };
            if let Err(Fault { code, error }) = handled {
                if self.version == Version::V5 && self.is_open() {
                    self.queue_disconnect(code);
                }
                self.close(CloseReason::Protocol(error));
            }
        }
    }

    /// The server's stream has ended.
    pub fn handle_eof(&mut self) {
        self.close(CloseReason::Eof);
    }

    /// The stream broke, for a reason that a person can read.
    pub fn handle_broken(&mut self, reason: &str) {
        self.close(CloseReason::Broken(reason.into()));
    }

    fn handle_frame(&mut self, frame: &Frame, now: Instant) -> Result<(), Fault> {
        match (self.phase, frame.packet()) {
            (Phase::Connecting(_), PacketType::Connack) => self.handle_connack(frame, now),
            (Phase::Open, PacketType::Publish) => self.handle_publish(frame),
            (Phase::Open, PacketType::Puback) => self.handle_puback(frame),
            (Phase::Open, PacketType::Suback | PacketType::Unsuback) => self.handle_subscription_ack(frame),
            (Phase::Open, PacketType::Pingresp) => {
                let pong = self.keep_alive.note_pong().flatten();
                self.outputs.extend(pong.map(Output::Pong));
                Ok(())
            }
            (Phase::Open, PacketType::Disconnect) if self.version == Version::V5 => {
                let Disconnect { code, properties } = Disconnect::parse(frame, self.version)?;
                self.close(CloseReason::Disconnected(Reason::with_properties(code, &properties)));
                Ok(())
            }
            (_, other) => Err(ParseError::Unexpected(other).into()),
        }
    }

    fn handle_connack(&mut self, frame: &Frame, now: Instant) -> Result<(), Fault> {
        let Connack { session_present, code, properties } = Connack::parse(frame, self.version)?;
        if code != 0 {
            self.close(CloseReason::Refused(Reason::of_connack(code, &properties)));
            return Ok(());
        }
        // Whoever begins anew knows nothing that could go on (MQTT 5 3.2.2.1.1).
        if session_present && self.clean_start {
            return Err(ParseError::Bits("session present").into());
        }
        self.limits = ServerLimits::read(&properties);
        let keep_alive_s = self.limits.keep_alive_s.unwrap_or(self.keep_alive_s);
        self.keep_alive = KeepAlive::new(keep_alive_s, self.config.ping_patience, now);
        self.phase = Phase::Open;
        let assigned_client_id =
            properties.find(|p| if let Property::AssignedClientId(id) = p { Some(id.clone()) } else { None });
        let connected = Connected { session_present, assigned_client_id, limits: self.limits };
        self.outputs.push_back(Output::Connected(connected));
        Ok(())
    }

    fn handle_publish(&mut self, frame: &Frame) -> Result<(), Fault> {
        let publish = Publish::parse(frame, self.version)?;
        // None was allowed to the server.
        if let Some(alias) = publish.properties.topic_alias() {
            return Err(ParseError::Alias(alias).into());
        }
        let receipt = match (publish.qos, publish.packet_id) {
            (Qos::AtMostOnce, _) => None,
            (Qos::AtLeastOnce, Some(id)) => {
                if self.version == Version::V5 && self.receipts_full() {
                    let error = ParseError::Unexpected(PacketType::Publish);
                    return Err(Fault { code: reason::RECEIVE_MAXIMUM_EXCEEDED, error });
                }
                Some(self.receipts.push(id))
            }
            // Nobody subscribed with QoS 2.
            _ => return Err(Fault { code: reason::PROTOCOL_ERROR, error: ParseError::Bits("QoS") }),
        };
        self.outputs.push_back(Output::Message(publish, receipt));
        Ok(())
    }

    fn handle_puback(&mut self, frame: &Frame) -> Result<(), Fault> {
        let ack = Ack::parse(frame, self.version)?;
        // One that answers nothing says nothing of any message.
        let Some(token) = self.outgoing.answered(ack.packet_id) else { return Ok(()) };
        self.ids.release(ack.packet_id);
        let outcome = match ack.is_error() {
            true => Outcome::Refused(Reason::with_properties(ack.code, &ack.properties)),
            false => Outcome::Taken,
        };
        self.outputs.push_back(Output::Published(token, outcome));
        Ok(())
    }

    fn handle_subscription_ack(&mut self, frame: &Frame) -> Result<(), Fault> {
        let (kind, packet_id, codes) = match frame.packet() {
            PacketType::Suback => {
                let Suback { packet_id, codes, .. } = Suback::parse(frame, self.version)?;
                (RequestKind::Subscribe, packet_id, codes)
            }
            _ => {
                let Unsuback { packet_id, codes, .. } = Unsuback::parse(frame, self.version)?;
                (RequestKind::Unsubscribe, packet_id, codes)
            }
        };
        if self.requests.get(&packet_id).is_none_or(|request| request.kind != kind || !request.sent) {
            return Ok(());
        }
        let Some(Request { filters, token, .. }) = self.requests.remove(&packet_id) else { return Ok(()) };
        self.ids.release(packet_id);
        let silent = kind == RequestKind::Unsubscribe && self.version != Version::V5;
        if codes.len() != if silent { 0 } else { filters } {
            return Err(ParseError::Bits("number of reason codes").into());
        }
        self.outputs.push_back(match kind {
            RequestKind::Subscribe => {
                let results = codes.iter().map(|code| match Qos::from_bits(*code) {
                    Some(qos) => Ok(Ok(qos)),
                    None if *code >= reason::FIRST_FAILURE => Ok(Err(Reason::new(*code))),
                    None => Err(ParseError::Bits("SUBACK reason code")),
                });
                Output::Subscribed(token, results.collect::<Result<_, _>>()?)
            }
            RequestKind::Unsubscribe if silent => Output::Unsubscribed(token, vec![Ok(()); filters]),
            RequestKind::Unsubscribe => {
                let result = |code: &u8| if *code >= reason::FIRST_FAILURE { Err(Reason::new(*code)) } else { Ok(()) };
                Output::Unsubscribed(token, codes.iter().map(result).collect())
            }
        });
        Ok(())
    }
}
