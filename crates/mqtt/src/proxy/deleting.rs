//! What deletes a retained message: an empty PUBLISH with RETAIN, which the broker has to read and which therefore is not
//! sealed. On its way up its sealed announcement goes before it; on its way down it is nobody's word but the broker's.

use bytes::Bytes;

use super::Proxy;
use super::lane::{Answer, Held, Slot};
use super::types::{AnswerError, DeliveryId, Output, PublishId};
use crate::packets::{Ack, AckKind, Properties, Property, Publish, Qos, Text};

impl Proxy {
    /// Answers [`Output::Publish`] of an empty retained message: `announcement` goes up without RETAIN, and then the client's
    /// own PUBLISH, as it came. At QoS 1 and 2 that waits until the broker has acknowledged the announcement, which is sent
    /// with QoS 1 under the same packet identifier. If the broker refuses it, the client is refused.
    ///
    /// # Errors
    /// [`AnswerError::NotWaiting`].
    pub fn announce(&mut self, id: PublishId, announcement: Bytes) -> Result<(), AnswerError> {
        self.answer_publish(id, Answer::Announce(announcement))
    }

    /// Answers [`Output::Delivery`]: the client gets an empty payload, with these user properties of the agent's own and no
    /// others. MQTT 5 only: without the properties it does not get it.
    ///
    /// # Errors
    /// [`AnswerError::NotWaiting`].
    pub fn deliver_empty(&mut self, id: DeliveryId, properties: &[(&str, &str)]) -> Result<(), AnswerError> {
        let own = |text: &str| Text::lossy(text, usize::from(u16::MAX));
        let inner = properties.iter().map(|(name, value)| Property::User(own(name), own(value))).collect();
        self.answer_delivery(id, Answer::Replace { payload: Bytes::new(), inner, extra: Vec::new() })
    }

    /// Sends the announcement of `held`, which follows at once or waits for its acknowledgement.
    pub(super) fn announce_held(&mut self, mut held: Box<Held>, announcement: Bytes) {
        // Of a second try at QoS 2 the broker may hold the packet identifier, and take nothing else under it.
        let packet_id = held.publish.packet_id.filter(|_| held.publish.qos == Qos::AtLeastOnce || !held.publish.dup);
        let publish = Publish {
            dup: false,
            qos: if packet_id.is_some() { Qos::AtLeastOnce } else { Qos::AtMostOnce },
            retain: false,
            topic: Some(held.topic.clone()),
            packet_id,
            properties: Properties::new(),
            payload: announcement,
        };
        match publish.encode(self.version) {
            Ok(bytes) if bytes.len() <= self.broker_max_bytes => self.outputs.push_back(Output::ToBroker(bytes)),
            encoded => return self.refuse_too_large(&held, encoded.map_or(usize::MAX, |bytes| bytes.len())),
        }
        self.counters.published_sealed += 1;
        match packet_id {
            None => self.publish_held(held, Answer::Pass),
            Some(packet_id) => {
                self.note_published(packet_id, &held.topic);
                held.answer = Some(Answer::Announced);
                self.up.push_front(Slot::Held(held));
            }
        }
    }

    /// Takes the broker's answer to an announcement. `false`: it answers something else.
    pub(super) fn take_announced(&mut self, ack: &Ack) -> bool {
        let held = if ack.kind == AckKind::Puback { self.up.take_announced(ack.packet_id) } else { None };
        let Some(held) = held else { return false };
        if !ack.is_error() {
            self.publish_held(held, Answer::Pass);
        } else {
            self.counters.publish_refused += 1;
            let kind = if held.publish.qos == Qos::ExactlyOnce { AckKind::Pubrec } else { AckKind::Puback };
            let reason =
                ack.properties.find(|p| if let Property::ReasonString(text) = p { Some(text.clone()) } else { None });
            self.send_refusal(kind, ack.packet_id, ack.code, reason.as_ref().map_or("", |text| text.as_str()));
        }
        self.flush_up();
        true
    }
}
