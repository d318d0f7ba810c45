//! Broker to client.

use bytes::Bytes;
use sealcast_topic::TopicName;

use super::connecting::lower_aliases;
use super::lane::{Answer, Held, Ready, Rendered, Slot};
use super::subscribing::Merged;
use super::types::{AnswerError, CloseReason, Connected, Delivery, DeliveryId, Output, Outstanding};
use super::up::shown;
use super::{Phase, Proxy, Subscriptions};
use crate::packets::{
    Ack, AckKind, Connack, Disconnect, Frame, MAX_REMAINING_BYTES, PacketId, PacketType, ParseError, Properties,
    Property, PropertySet, Publish, Qos, Text, Version,
};

impl Proxy {
    /// Answers [`Output::Delivery`] with the opened payload.
    ///
    /// `restored` are the encoded properties from inside the seal. They take the place of the broker's own of these
    /// kinds ([`Property::is_sealed`]), which nobody vouches for. `extra` are user properties of the agent's own;
    /// sealed ones of the same name, or whose name begins with `sealcast-`, are dropped, so that a sender cannot pretend
    /// to be the agent. They are left out where only they make the frame too large. MQTT 3.1.1 carries neither. If the frame exceeds the client's
    /// limit it is swallowed and [`Output::DeliveryTooLarge`] follows.
    ///
    /// # Errors
    /// [`AnswerError::NotWaiting`]; [`AnswerError::Properties`] if `restored` is malformed: the delivery still waits.
    pub fn deliver(
        &mut self,
        id: DeliveryId,
        payload: Bytes,
        restored: Bytes,
        extra: &[(&str, &str)],
    ) -> Result<(), AnswerError> {
        if !self.down.is_waiting(id.0) {
            return Err(AnswerError::NotWaiting);
        }
        let restored = Properties::parse(restored, PropertySet::Sealed).map_err(AnswerError::Properties)?;
        let forged =
            |p: &Property| matches!(p, Property::User(name, _) if extra.iter().any(|(n, _)| name.as_str() == *n));
        let inner = restored.iter().filter(|p| !p.is_agents() && !forged(p)).cloned().collect();
        let own = |text: &str| Text::lossy(text, usize::from(u16::MAX));
        let extra = extra.iter().map(|(name, value)| Property::User(own(name), own(value))).collect();
        self.answer_delivery(id, Answer::Replace { payload, inner, extra })
    }

    /// Answers [`Output::Delivery`]: it goes down as it came, but for user properties whose name begins with `sealcast-`:
    /// an application that relies on what its agent says of a message must not take the broker's word for it.
    ///
    /// # Errors
    /// [`AnswerError::NotWaiting`].
    pub fn pass(&mut self, id: DeliveryId) -> Result<(), AnswerError> {
        self.answer_delivery(id, Answer::PassUntrusted)
    }

    /// Answers [`Output::Delivery`]: it does not go down. The broker gets its acknowledgement from here; the client
    /// never sees the packet identifier.
    ///
    /// # Errors
    /// [`AnswerError::NotWaiting`].
    pub fn swallow(&mut self, id: DeliveryId) -> Result<(), AnswerError> {
        self.answer_delivery(id, Answer::Withhold(None))
    }

    /// Gives the client a QoS 0 message of the agent's own, if it has subscribed to `topic`. `properties` are left out in
    /// MQTT 3.1.1. `false`: it has not subscribed, is not connected, or does not take so large a frame.
    pub fn inject(&mut self, topic: &TopicName, payload: Bytes, properties: &[(&str, &str)]) -> bool {
        if !matches!(self.phase, Phase::Open) || !self.session.subscriptions.wants(topic.as_str()) {
            return false;
        }
        let own = |text: &str| Text::lossy(text, usize::from(u16::MAX));
        let properties = properties.iter().map(|(name, value)| Property::User(own(name), own(value))).collect();
        let publish = Publish {
            dup: false,
            qos: Qos::AtMostOnce,
            retain: false,
            topic: Some(topic.clone()),
            packet_id: None,
            properties,
            payload,
        };
        match publish.encode(self.version) {
            Ok(bytes) if bytes.len() <= self.client_max_bytes => {
                self.counters.injected += 1;
                self.outputs.push_back(Output::ToClient(bytes));
                true
            }
            _ => false,
        }
    }

    pub(super) fn answer_delivery(&mut self, id: DeliveryId, answer: Answer) -> Result<(), AnswerError> {
        if !self.down.answer(id.0, answer) {
            return Err(AnswerError::NotWaiting);
        }
        self.flush_down();
        Ok(())
    }

    /// Takes one frame from the broker. `false` if there is none or it must wait.
    pub(super) fn step_broker(&mut self) -> bool {
        let connected = matches!(self.phase, Phase::AwaitConnack | Phase::Open);
        if !connected || self.broker.done || !self.lane_has_room(&self.down) {
            return false;
        }
        let frame = match self.broker.splitter.next_frame() {
            Ok(Some(frame)) => Ok(frame),
            Ok(None) => return false,
            Err(ParseError::TooLarge { size, max }) if self.skips_oversized() => {
                return match self.skip_oversized(size, max) {
                    Ok(skipped) => skipped,
                    Err(error) => {
                        self.fail_broker(error);
                        true
                    }
                };
            }
            Err(error) => Err(error),
        };
        if let Err(error) = frame.and_then(|frame| self.broker_frame(frame)) {
            self.fail_broker(error);
        }
        true
    }

    /// A broker of MQTT 5 was told the limit and does not exceed it.
    fn skips_oversized(&self) -> bool {
        self.version == Version::V311 && matches!(self.phase, Phase::Open)
    }

    /// `false` until enough of the message has come.
    fn skip_oversized(&mut self, size: usize, max: usize) -> Result<bool, ParseError> {
        let too_large = |error| match error {
            ParseError::Unexpected(_) => ParseError::TooLarge { size, max },
            error => error,
        };
        let Some(start) = self.broker.splitter.skip_publish().map_err(too_large)? else { return Ok(false) };
        let (qos, packet_id) = Publish::parse_receipt(&start)?;
        self.counters.delivery_too_large += 1;
        let topic = shown(&Publish::parse_topic_lossy(&start));
        self.outputs.push_back(Output::DeliveryOversized { topic, size, max });
        self.withhold(qos, packet_id);
        Ok(true)
    }

    fn broker_frame(&mut self, frame: Frame) -> Result<(), ParseError> {
        let v5 = self.version == Version::V5;
        if matches!(self.phase, Phase::AwaitConnack) {
            return match frame.packet() {
                PacketType::Connack => self.broker_connack(frame),
                PacketType::Auth if v5 => {
                    self.outputs.push_back(Output::ToClient(frame.into_bytes()));
                    Ok(())
                }
                other => Err(ParseError::Unexpected(other)),
            };
        }
        match frame.packet() {
            PacketType::Publish => self.broker_publish(frame)?,
            PacketType::Puback | PacketType::Pubrec | PacketType::Pubrel | PacketType::Pubcomp => {
                return self.broker_ack(frame);
            }
            PacketType::Pingresp => {
                self.outputs.push_back(Output::ToClient(frame.into_bytes()));
                return Ok(());
            }
            PacketType::Disconnect if v5 => {
                let code = Disconnect::parse(&frame, self.version)?.code;
                self.broker.done = true;
                self.down.push(Slot::Last(frame.into_bytes(), CloseReason::BrokerDisconnect { code }));
            }
            PacketType::Auth if v5 => self.down.push(Slot::Frame(frame.into_bytes())),
            PacketType::Suback => {
                let (bytes, Merged { granted, refused, .. }) = self.subscribing.suback(frame, self.version);
                let bytes = self.in_clients_version(bytes);
                self.down.push(Slot::Frame(bytes));
                self.flush_down();
                self.tell_refused(&refused);
                if !granted.is_empty() {
                    for filter in &granted {
                        self.session.subscriptions.grant(filter);
                    }
                    self.outputs.push_back(Output::Subscribed(granted));
                }
            }
            PacketType::Unsuback => {
                let (bytes, ended) = self.subscribing.unsuback(frame, self.version);
                self.down.push(Slot::Frame(bytes));
                if !ended.is_empty() {
                    ended.iter().for_each(|filter| self.session.subscriptions.end(filter));
                    self.outputs.push_back(Output::Unsubscribed);
                }
            }
            other => return Err(ParseError::Unexpected(other)),
        }
        self.flush_down();
        Ok(())
    }

    fn broker_connack(&mut self, frame: Frame) -> Result<(), ParseError> {
        let mut connack = Connack::parse(&frame, self.version)?;
        let accepted = connack.code == 0;
        if accepted && !connack.session_present {
            // Delivery ids go on counting: the driver may still remember old ones.
            self.session.swallowed.clear();
            self.session.delivered.clear();
            self.session.received.clear();
            self.session.acknowledged.clear();
            self.session.subscriptions = Subscriptions::default();
        }
        let properties = &connack.properties;
        self.outputs.push_back(Output::Connected(Connected {
            code: connack.code,
            session_present: connack.session_present,
            assigned_client_id: properties
                .find(|p| if let Property::AssignedClientId(id) = p { Some(id.clone()) } else { None }),
            server_keep_alive_s: properties
                .find(|p| if let Property::ServerKeepAlive(seconds) = p { Some(*seconds) } else { None }),
            session_expiry_s: properties.session_expiry_s(),
        }));
        let mut bytes = self.in_clients_version(frame.into_bytes());
        if accepted && self.version == Version::V5 {
            let limit = connack.properties.maximum_packet_size();
            self.broker_max_bytes = limit.map_or(MAX_REMAINING_BYTES, |size| size as usize);
            self.up_aliases = connack.properties.topic_alias_maximum().min(self.config.max_topic_aliases);
            let lowered = limit
                .unwrap_or(u32::MAX)
                .min(self.config.max_frame_bytes)
                .saturating_sub(self.config.seal_overhead_bytes)
                .max(1);
            let original = connack.clone();
            connack.properties.set(Property::MaximumPacketSize(lowered));
            lower_aliases(&mut connack.properties, self.config.max_topic_aliases);
            if connack != original {
                // Properties that were read fit; if one more does not, the broker's own frame serves as well.
                bytes = connack.encode(Version::V5).unwrap_or(bytes);
            }
        }
        self.outputs.push_back(Output::ToClient(bytes));
        if accepted {
            self.phase = Phase::Open;
        } else {
            self.finish(CloseReason::BrokerRefused { code: connack.code });
        }
        Ok(())
    }

    fn broker_publish(&mut self, frame: Frame) -> Result<(), ParseError> {
        let (qos, packet_id) = Publish::parse_receipt(&frame)?;
        let parsed = Publish::parse(&frame, self.version)
            .and_then(|publish| self.down.resolve(&publish, self.down_aliases).map(|topic| (publish, topic)));
        let (publish, topic) = match parsed {
            Ok(parsed) => parsed,
            Err(error) => {
                // Only what a publisher can bring about is forgiven. An alias is the broker's own doing, but one that
                // stood in a forgiven message is unknown here and has to be forgiven too.
                let Ok(alias) = Publish::scan_topic_alias(&frame, self.version) else { return Err(error) };
                if alias.is_some_and(|alias| alias == 0 || alias > self.down_aliases) {
                    return Err(error);
                }
                if let Some(alias) = alias {
                    self.down.forget_alias(alias);
                }
                self.counters.delivery_invalid += 1;
                self.outputs.push_back(Output::DeliveryInvalid(error));
                self.withhold(qos, packet_id);
                return Ok(());
            }
        };
        let copies = self.copies(topic.as_str());
        let id = self.session.next_delivery;
        self.session.next_delivery += 1;
        let earlier = packet_id.and_then(|packet_id| self.session.delivered.get(&packet_id));
        self.outputs.push_back(Output::Delivery(Delivery {
            id: DeliveryId(id),
            topic: topic.clone(),
            qos,
            retain: publish.retain,
            dup: publish.dup,
            redelivery_of: earlier.filter(|_| publish.dup).map(|outstanding| outstanding.id),
            copies,
            payload: publish.payload.clone(),
            properties: publish.properties.clone(),
        }));
        self.down.push(Slot::Held(Box::new(Held { id, frame: frame.into_bytes(), publish, topic, answer: None })));
        Ok(())
    }

    /// How many copies of a message the broker may send. A filter brings messages before it is known to be granted.
    fn copies(&mut self, topic: &str) -> usize {
        let subscriptions = &mut self.session.subscriptions;
        let matching = subscriptions.delivered(topic) + self.subscribing.matching(topic, subscriptions);
        matching.max(1)
    }

    fn broker_ack(&mut self, frame: Frame) -> Result<(), ParseError> {
        let ack = Ack::parse(&frame, self.version)?;
        if matches!(ack.kind, AckKind::Puback | AckKind::Pubrec)
            && let Some(topic) = self.published.remove(&ack.packet_id)
            && ack.is_error()
        {
            self.outputs.push_back(Output::PublishRejected { topic, code: ack.code });
        }
        if self.take_announced(&ack) {
            return Ok(());
        }
        match ack.kind {
            AckKind::Pubrel if self.session.swallowed.remove(&ack.packet_id) => {
                self.ack_upstream(AckKind::Pubcomp, ack.packet_id);
            }
            AckKind::Pubcomp if self.released.remove(&ack.packet_id) => {}
            _ => self.outputs.push_back(Output::ToClient(frame.into_bytes())),
        }
        Ok(())
    }

    pub(super) fn flush_down(&mut self) {
        while let Some(ready) = self.down.next_ready() {
            match ready {
                Ready::Frame(bytes) => self.outputs.push_back(Output::ToClient(bytes)),
                Ready::Last(bytes, reason) => {
                    self.outputs.push_back(Output::ToClient(bytes));
                    self.finish(reason);
                }
                Ready::Held(held, Answer::Withhold(_)) => {
                    self.counters.delivery_swallowed += 1;
                    self.withhold(held.publish.qos, held.publish.packet_id);
                }
                Ready::Held(held, answer) => self.deliver_held(held, answer),
            }
        }
    }

    fn deliver_held(&mut self, held: Box<Held>, answer: Answer) {
        let max = self.client_max_bytes;
        let opened = matches!(answer, Answer::Replace { .. });
        let id = DeliveryId(held.id);
        let (qos, packet_id, topic) = (held.publish.qos, held.publish.packet_id, held.topic.clone());
        match self.down.render(*held, answer, self.version, max) {
            Rendered::Fits(bytes) => {
                let counter =
                    if opened { &mut self.counters.delivered_opened } else { &mut self.counters.delivered_clear };
                *counter += 1;
                if let Some(packet_id) = packet_id {
                    self.session.swallowed.remove(&packet_id);
                    self.session.received.remove(&packet_id);
                    self.session.delivered.insert(packet_id, Outstanding { id, qos });
                }
                self.outputs.push_back(Output::ToClient(bytes));
            }
            Rendered::TooLarge(size) => {
                self.counters.delivery_too_large += 1;
                self.outputs.push_back(Output::DeliveryTooLarge { id, topic, size, max });
                self.withhold(qos, packet_id);
            }
        }
    }

    /// Acknowledges in the client's place.
    fn withhold(&mut self, qos: Qos, packet_id: Option<PacketId>) {
        match (qos, packet_id) {
            (Qos::AtLeastOnce, Some(packet_id)) => self.ack_upstream(AckKind::Puback, packet_id),
            (Qos::ExactlyOnce, Some(packet_id)) => {
                // A client that got this message on an earlier connection waits for its PUBREL.
                let known = self.session.received.contains(&packet_id)
                    || self.session.delivered.get(&packet_id).is_some_and(|d| d.qos == Qos::ExactlyOnce);
                if !known {
                    self.session.swallowed.insert(packet_id);
                }
                self.ack_upstream(AckKind::Pubrec, packet_id);
            }
            _ => {}
        }
    }
}
