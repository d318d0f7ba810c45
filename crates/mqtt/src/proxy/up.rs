//! Client to broker.

use bytes::Bytes;
use sealcast_topic::TopicName;

use super::connecting::{NO_CLIENT_ID, connect_request, lacks_client_id, upstream_version};
use super::lane::{Answer, Held, Ready, Rendered, Slot};
use super::subscribing::Judged;
use super::types::{
    AnswerError, CloseReason, ConnectCode, Output, PublishId, PublishRefusal, PublishRequest, RefuseCode,
};
use super::{Phase, Proxy};
use crate::packets::{
    Ack, AckKind, Connect, Disconnect, Frame, MAX_REMAINING_BYTES, PacketId, PacketType, ParseError, Properties,
    Property, Publish, Qos, Version, reason,
};
use crate::topic::{NotCarried, check_carried};

/// As much of a topic is shown to a person, in characters.
const MAX_SHOWN: usize = 100;
/// The remaining length has 1 byte at least, 4 at most.
const MAX_LENGTH_GROWTH: usize = 3;

impl Proxy {
    /// Answers [`Output::Publish`] with the sealed payload. The properties given in
    /// [`PublishRequest::sealed_properties`] leave the outside; message expiry and topic alias stay there. If the
    /// frame exceeds the broker's limit, [`Output::PublishTooLarge`] follows.
    ///
    /// # Errors
    /// [`AnswerError::NotWaiting`].
    pub fn seal_done(&mut self, id: PublishId, payload: Bytes) -> Result<(), AnswerError> {
        self.answer_publish(id, Answer::Replace { payload, inner: Vec::new(), extra: Vec::new() })
    }

    /// Answers [`Output::Publish`]: it goes up as it came.
    ///
    /// # Errors
    /// [`AnswerError::NotWaiting`].
    pub fn pass_clear(&mut self, id: PublishId) -> Result<(), AnswerError> {
        self.answer_publish(id, Answer::Pass)
    }

    /// Answers [`Output::Publish`]: it does not go up.
    ///
    /// MQTT 5 at QoS 1 and 2: PUBACK or PUBREC with code and reason. MQTT 3.1.1 at QoS 1 and 2: the connection ends,
    /// since it has no negative acknowledgement and what was not sent must not be acknowledged; a client that
    /// reconnects will send it again. QoS 0: dropped and counted, unless `refusal.disconnect`.
    ///
    /// The acknowledgement is not held back until the broker has acknowledged earlier messages.
    ///
    /// # Errors
    /// [`AnswerError::NotWaiting`].
    pub fn refuse(&mut self, id: PublishId, refusal: PublishRefusal) -> Result<(), AnswerError> {
        self.answer_publish(id, Answer::Withhold(Some(refusal)))
    }

    /// Answers [`Output::Publish`]: it does not go up, and the client is told that it has been taken. QoS 1: PUBACK. QoS 2:
    /// PUBREC, and PUBCOMP when its PUBREL comes. QoS 0: nothing.
    ///
    /// For what need not be sent, and for what must not be sent where MQTT 3.1.1 has no way to say so. As with
    /// [`Proxy::refuse`] the acknowledgement may overtake those of the broker.
    ///
    /// # Errors
    /// [`AnswerError::NotWaiting`].
    pub fn acknowledge(&mut self, id: PublishId) -> Result<(), AnswerError> {
        self.answer_publish(id, Answer::Acknowledge)
    }

    pub(super) fn answer_publish(&mut self, id: PublishId, answer: Answer) -> Result<(), AnswerError> {
        if !self.up.answer(id.0, answer) {
            return Err(AnswerError::NotWaiting);
        }
        self.flush_up();
        Ok(())
    }

    /// Takes one frame from the client. `false` if there is none or it must wait.
    pub(super) fn step_client(&mut self) -> bool {
        if let Some(error) = self.client.fault.take_if(|_| self.up.is_empty()) {
            self.fail_client(error);
            return true;
        }
        if self.client.done || !self.lane_has_room(&self.up) {
            return false;
        }
        let packet = match self.client.splitter.peek_packet() {
            Ok(Some(packet)) => packet,
            Ok(None) => return false,
            Err(error) => {
                if self.is_closed() {
                    return false;
                }
                self.fault_client(error);
                return true;
            }
        };
        let takes = match self.phase {
            Phase::AwaitConnect | Phase::Open => true,
            // The limits are not known before CONNACK; only extended authentication goes on meanwhile.
            Phase::AwaitConnack => packet == PacketType::Auth,
            Phase::AwaitAnswer { .. } | Phase::Closed => false,
        };
        if !takes {
            return false;
        }
        match self.client.splitter.next_frame() {
            Ok(Some(frame)) => {
                let frame = if self.client_is_v31 { frame.without_stray_dup() } else { frame };
                if let Err(error) = self.client_frame(frame) {
                    self.fault_client(error);
                }
                true
            }
            Ok(None) => false,
            Err(error) => {
                self.fault_client(error);
                true
            }
        }
    }

    fn client_frame(&mut self, frame: Frame) -> Result<(), ParseError> {
        if matches!(self.phase, Phase::AwaitConnect) {
            return self.client_connect(frame);
        }
        match frame.packet() {
            PacketType::Publish => self.client_publish(frame)?,
            PacketType::Puback | PacketType::Pubrec | PacketType::Pubrel | PacketType::Pubcomp => {
                self.client_ack(frame)?;
                return Ok(());
            }
            PacketType::Pingreq => {
                self.outputs.push_back(Output::ToBroker(frame.into_bytes()));
                return Ok(());
            }
            PacketType::Disconnect => {
                self.forgoes_will = Disconnect::parse(&frame, self.version)?.code != reason::DISCONNECT_WITH_WILL;
                self.client.done = true;
                self.up.push(Slot::Last(frame.into_bytes(), CloseReason::ClientDisconnect));
            }
            PacketType::Auth if self.version == Version::V5 => self.up.push(Slot::Frame(frame.into_bytes())),
            PacketType::Subscribe => {
                let judged = self.subscribing.subscribe(frame, self.version)?;
                self.take_filters(judged);
            }
            PacketType::Unsubscribe => {
                let judged = self.subscribing.unsubscribe(frame, self.version);
                self.take_filters(judged);
            }
            other => return Err(ParseError::Unexpected(other)),
        }
        self.flush_up();
        Ok(())
    }

    fn client_connect(&mut self, frame: Frame) -> Result<(), ParseError> {
        if frame.packet() != PacketType::Connect {
            return Err(ParseError::Unexpected(frame.packet()));
        }
        let connect = match Connect::parse(&frame) {
            Ok(connect) => connect,
            Err(error) => {
                self.reject_connect(&frame, &error);
                return Err(error);
            }
        };
        self.client_is_v31 = connect.version == Version::V31;
        self.version = upstream_version(connect.version);
        self.client.splitter.set_version(connect.version);
        if lacks_client_id(&connect) {
            self.send_connack(ConnectCode::ClientIdentifierNotValid.code(self.version), NO_CLIENT_ID);
            self.finish(CloseReason::ConnectRefused { reason: NO_CLIENT_ID.to_owned() });
            return Ok(());
        }
        if let Some(error) = connect.will.as_ref().and_then(|will| unfit(&will.topic, &will.properties)) {
            let reason = format!("the will's {error}");
            self.send_connack(ConnectCode::TopicNameInvalid.code(self.version), &reason);
            self.finish(CloseReason::ConnectRefused { reason });
            return Ok(());
        }
        let maximum = connect.properties.maximum_packet_size().map_or(MAX_REMAINING_BYTES, |size| size as usize);
        self.client_max_bytes = maximum;
        self.down_aliases = connect.properties.topic_alias_maximum().min(self.config.max_topic_aliases);
        self.reason_on_acks = connect.properties.request_problem_info() != 0;
        let request = connect_request(&connect);
        self.phase = Phase::AwaitAnswer { frame: frame.into_bytes(), connect: Box::new(connect) };
        self.outputs.push_back(Output::Connect(Box::new(request)));
        Ok(())
    }

    /// Says why in the client's own version where that is known (MQTT 3.1.1 3.1.2.2, MQTT 5 3.1.2.2).
    fn reject_connect(&mut self, frame: &Frame, error: &ParseError) {
        self.version = match (Connect::parse_version(frame), error) {
            (Ok(Version::V5), _) => Version::V5,
            (_, ParseError::Protocol { .. }) => error.answer_version(),
            _ => return,
        };
        let code = error.reason_code();
        let code = if self.version == Version::V5 { code } else { reason::connack_v311(code) };
        self.send_connack(code, &error.to_string());
    }

    fn client_publish(&mut self, frame: Frame) -> Result<(), ParseError> {
        let publish = Publish::parse_clients(&frame, self.version)?;
        let topic = self.up.resolve(&publish, self.up_aliases)?;
        if let Some(packet_id) = publish.packet_id {
            // Its identifier stands for this message from now on.
            self.session.acknowledged.remove(&packet_id);
        }
        let id = self.next_publish;
        self.next_publish += 1;
        if let Some(error) = unfit(&topic, &publish.properties) {
            self.outputs.push_back(Output::PublishUnfit { topic: shown(topic.as_str()), reason: error.clone().into() });
            let disconnect = self.version == Version::V311 || publish.qos == Qos::AtMostOnce;
            let refusal = PublishRefusal { code: RefuseCode::TopicNameInvalid, reason: error, disconnect };
            let answer = Some(Answer::Withhold(Some(refusal)));
            self.up.push(Slot::Held(Box::new(Held { id, frame: frame.into_bytes(), publish, topic, answer })));
            return Ok(());
        }
        let (inside, _) = publish.properties.partition_sealed();
        let max_payload_bytes = self.max_payload_bytes(frame.bytes().len(), &publish, &topic);
        self.outputs.push_back(Output::Publish(PublishRequest {
            id: PublishId(id),
            topic: topic.clone(),
            qos: publish.qos,
            retain: publish.retain,
            dup: publish.dup,
            payload: publish.payload.clone(),
            // Every value was read from the wire, so it fits its field.
            sealed_properties: inside.without_agents().encode().unwrap_or_default(),
            max_payload_bytes,
        }));
        self.up.push(Slot::Held(Box::new(Held { id, frame: frame.into_bytes(), publish, topic, answer: None })));
        Ok(())
    }

    /// With the properties that go inside still outside, a topic in the place of its alias, and the longest remaining length.
    fn max_payload_bytes(&self, frame_bytes: usize, publish: &Publish, topic: &TopicName) -> usize {
        let around = frame_bytes.saturating_sub(publish.payload.len()) + topic.as_str().len() + MAX_LENGTH_GROWTH;
        self.broker_max_bytes.saturating_sub(around)
    }

    fn take_filters(&mut self, judged: Judged) {
        for refused in judged.refused {
            let reason = refused.error.to_string().into();
            self.outputs.push_back(Output::FilterUnfit { filter: shown(&refused.filter), reason });
        }
        self.up.extend(judged.pass.map(Slot::Frame));
        let answer = judged.answer.map(|answer| self.in_clients_version(answer));
        self.outputs.extend(answer.map(Output::ToClient));
    }

    fn client_ack(&mut self, frame: Frame) -> Result<(), ParseError> {
        let ack = Ack::parse(&frame, self.version)?;
        if ack.kind == AckKind::Pubrel && self.session.acknowledged.remove(&ack.packet_id) {
            self.ack_downstream(AckKind::Pubcomp, ack.packet_id);
            return Ok(());
        }
        let outstanding = self.session.delivered.get(&ack.packet_id).copied();
        let qos = match ack.kind {
            AckKind::Puback => Some(Qos::AtLeastOnce),
            // PUBCOMP alone: an earlier connection broke before PUBREC, and the message was withheld when it came again.
            AckKind::Pubrec | AckKind::Pubcomp => Some(Qos::ExactlyOnce),
            AckKind::Pubrel => None,
        };
        if let Some(delivery) = outstanding.filter(|delivery| Some(delivery.qos) == qos) {
            self.session.delivered.remove(&ack.packet_id);
            if ack.kind == AckKind::Pubrec {
                self.session.received.insert(ack.packet_id);
            }
            self.outputs.push_back(Output::Acked(delivery.id));
        }
        if ack.kind == AckKind::Pubcomp || (ack.kind == AckKind::Pubrec && ack.is_error()) {
            self.session.received.remove(&ack.packet_id);
        }
        self.outputs.push_back(Output::ToBroker(frame.into_bytes()));
        Ok(())
    }

    pub(super) fn flush_up(&mut self) {
        while let Some(ready) = self.up.next_ready() {
            match ready {
                Ready::Frame(bytes) => self.outputs.push_back(Output::ToBroker(bytes)),
                Ready::Last(bytes, reason) => {
                    self.outputs.push_back(Output::ToBroker(bytes));
                    self.finish(reason);
                }
                Ready::Held(held, Answer::Withhold(refusal)) => {
                    let refusal = refusal.unwrap_or_else(|| PublishRefusal {
                        code: RefuseCode::Unspecified,
                        reason: String::new(),
                        disconnect: false,
                    });
                    self.refuse_held(&held, refusal);
                }
                Ready::Held(held, Answer::Acknowledge) => self.acknowledge_held(&held),
                Ready::Held(held, Answer::Announce(announcement)) => self.announce_held(held, announcement),
                Ready::Held(held, answer) => self.publish_held(held, answer),
            }
        }
    }

    fn acknowledge_held(&mut self, held: &Held) {
        self.counters.publish_withheld += 1;
        let Some(packet_id) = held.publish.packet_id else { return };
        if held.publish.qos == Qos::ExactlyOnce {
            if held.publish.dup {
                // As for a refusal: the broker may hold this identifier from before.
                self.released.insert(packet_id);
                self.ack_upstream(AckKind::Pubrel, packet_id);
            }
            self.session.acknowledged.insert(packet_id);
            self.ack_downstream(AckKind::Pubrec, packet_id);
        } else {
            self.ack_downstream(AckKind::Puback, packet_id);
        }
    }

    fn ack_downstream(&mut self, kind: AckKind, packet_id: PacketId) {
        if let Ok(bytes) = Ack::success(kind, packet_id).encode(self.version) {
            self.outputs.push_back(Output::ToClient(bytes));
        }
    }

    pub(super) fn publish_held(&mut self, held: Box<Held>, answer: Answer) {
        let max = self.broker_max_bytes;
        let sealed = matches!(answer, Answer::Replace { .. });
        let receipt = Receipt::of(&held);
        match self.up.render(*held, answer, self.version, max) {
            Rendered::Fits(bytes) => {
                let counter =
                    if sealed { &mut self.counters.published_sealed } else { &mut self.counters.published_clear };
                *counter += 1;
                if let Some(packet_id) = receipt.packet_id {
                    self.note_published(packet_id, &receipt.topic);
                }
                self.outputs.push_back(Output::ToBroker(bytes));
            }
            Rendered::TooLarge(size) => self.refuse_oversized(&receipt, size),
        }
    }

    /// The broker's acknowledgement, which may refuse it, names the packet identifier alone.
    pub(super) fn note_published(&mut self, packet_id: PacketId, topic: &TopicName) {
        if self.version == Version::V5 {
            self.published.insert(packet_id, topic.clone());
        }
    }

    pub(super) fn refuse_too_large(&mut self, held: &Held, size: usize) {
        self.refuse_oversized(&Receipt::of(held), size);
    }

    fn refuse_oversized(&mut self, receipt: &Receipt, size: usize) {
        let (max, topic) = (self.broker_max_bytes, receipt.topic.clone());
        let reason =
            format!("packet of {size} bytes to {topic} exceeds the broker's limit of {max}: send less at once");
        self.outputs.push_back(Output::PublishTooLarge { id: PublishId(receipt.id), topic, size, max });
        self.refuse_receipt(receipt, PublishRefusal { code: RefuseCode::QuotaExceeded, reason, disconnect: false });
    }

    fn refuse_held(&mut self, held: &Held, refusal: PublishRefusal) {
        self.refuse_receipt(&Receipt::of(held), refusal);
    }

    fn refuse_receipt(&mut self, receipt: &Receipt, refusal: PublishRefusal) {
        self.counters.publish_refused += 1;
        let code = refusal.code as u8;
        match (receipt.qos, receipt.packet_id) {
            (Qos::AtLeastOnce, Some(packet_id)) if self.version == Version::V5 => {
                self.send_refusal(AckKind::Puback, packet_id, code, &refusal.reason);
            }
            (Qos::ExactlyOnce, Some(packet_id)) if self.version == Version::V5 => {
                if receipt.dup {
                    // The broker may hold this identifier from before; the client is about to use it for another
                    // message, which the broker would take for this one and drop.
                    self.released.insert(packet_id);
                    self.ack_upstream(AckKind::Pubrel, packet_id);
                }
                self.send_refusal(AckKind::Pubrec, packet_id, code, &refusal.reason);
            }
            (Qos::AtMostOnce, _) => self.counters.publish_dropped += 1,
            _ => {
                let topic = receipt.topic.clone();
                self.finish(CloseReason::PublishRefused { topic, reason: refusal.reason });
                return;
            }
        }
        if refusal.disconnect {
            self.send_farewell(code, &refusal.reason);
            let topic = receipt.topic.clone();
            self.finish(CloseReason::PublishRefused { topic, reason: refusal.reason });
        }
    }

    pub(super) fn send_refusal(&mut self, kind: AckKind, packet_id: PacketId, code: u8, reason: &str) {
        let reason = if self.reason_on_acks { reason } else { "" };
        self.send_with_reason(reason, |properties| Ack { kind, packet_id, code, properties }.encode(Version::V5));
    }
}

/// What of a held PUBLISH is needed to refuse it.
struct Receipt {
    id: u64,
    qos: Qos,
    dup: bool,
    packet_id: Option<PacketId>,
    topic: TopicName,
}

impl Receipt {
    fn of(held: &Held) -> Self {
        Self {
            id: held.id,
            qos: held.publish.qos,
            dup: held.publish.dup,
            packet_id: held.publish.packet_id,
            topic: held.topic.clone(),
        }
    }
}

/// Why a broker may close the connection for this topic, or for the response topic beside it.
fn unfit(topic: &TopicName, properties: &Properties) -> Option<String> {
    let response = properties.find(|p| if let Property::ResponseTopic(topic) = p { Some(topic.clone()) } else { None });
    let response = || check_carried(response?.as_str()).err();
    let say = |error: NotCarried| error.to_string();
    check_carried(topic.as_str()).err().map(say).or_else(|| response().map(|error| format!("response {error}")))
}

/// The start of a topic, for a person.
pub(super) fn shown(topic: &str) -> Box<str> {
    match topic.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("{}…", topic.get(..end).unwrap_or_default()).into(),
        None => topic.into(),
    }
}
