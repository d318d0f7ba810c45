//! What a link publishes: messages and calls, in parts where they are long.

use bytes::Bytes;
use sealcast_mqtt::TopicName;
use sealcast_topic::is_control;
use tokio::sync::oneshot;
use tracing::warn;

use super::{
    super::{
        calls::Call,
        event::{LinkError, LinkEvent},
    },
    Connection, Driver, Owner, Publication,
};

impl Driver {
    pub(super) fn take_call(&mut self, call: Call) {
        if let Err((Owner::Call(id), reason)) = self.put(call.topic, false, call.request, Owner::Call(call.id)) {
            self.calls.answer(&id, Err(LinkError::Refused(reason)));
        }
    }

    pub(super) fn take_publication(&mut self, publication: Publication) -> Option<LinkEvent> {
        let Publication { topic, retain, payload, answer, _room } = publication;
        let owner = Owner::Message { topic: topic.clone(), answer };
        match self.put(topic, retain, payload, owner) {
            Err((Owner::Message { topic, answer }, reason)) => Some(refused(&topic, answer, reason)),
            _ => None,
        }
    }

    /// Messages of the control plane are cut; others are read by applications, which know of no parts.
    fn put(&mut self, topic: TopicName, retain: bool, payload: Bytes, owner: Owner) -> Result<(), (Owner, String)> {
        let said = self.broker.capabilities.as_ref();
        let retain = retain && said.is_none_or(|said| said.limits.retain);
        let is_control = is_control(&topic);
        let topic = match TopicName::new(&self.upstream.wire().outward(topic.as_str())) {
            Ok(topic) => topic,
            Err(error) => return Err((owner, error.to_string())),
        };
        let max = match said {
            Some(said) if is_control => {
                Some(said.max_payload_bytes(topic.as_str().len(), retain, self.upstream.part_bytes()))
            }
            _ => None,
        };
        self.broker.sending.put(topic, retain, payload, max, owner)
    }

    /// Hands what waits to the connection, as much as there is room for. Tells if a message cannot be published.
    pub(super) fn hand_over(&mut self, connection: &mut Connection) -> Option<LinkEvent> {
        while connection.has_room() {
            let piece = self.broker.sending.next()?;
            if let Err(rejected) = connection.client().publish(&piece.message, piece.whole) {
                return self.handle_refused(piece.whole, rejected.error.to_string());
            }
        }
        None
    }

    pub(super) fn handle_taken(&mut self, whole: u64) -> Option<LinkEvent> {
        match self.broker.sending.taken(whole)? {
            Owner::Message { answer: Some(answer), .. } => {
                let _ = answer.send(Ok(()));
                None
            }
            Owner::Message { topic, answer: None } => Some(LinkEvent::Taken { topic: topic.as_str().to_owned() }),
            // Its answer comes as a message.
            Owner::Call(_) => None,
        }
    }

    pub(super) fn handle_refused(&mut self, whole: u64, reason: String) -> Option<LinkEvent> {
        match self.broker.sending.refused(whole)? {
            Owner::Message { topic, answer } => Some(refused(&topic, answer, reason)),
            Owner::Call(id) => {
                self.tell_refused_call(&reason);
                self.calls.answer(&id, Err(LinkError::Refused(reason)));
                None
            }
        }
    }

    /// A node that is not heard goes on over HTTPS, and nobody would know why the broker carries nothing of it.
    fn tell_refused_call(&mut self, reason: &str) {
        if std::mem::replace(&mut self.broker.told_refused, true) {
            return;
        }
        let (node, broker) = (&self.node, &self.upstream);
        let advice = if self.upstream.is_foreign() {
            format!(
                ". By the rules that `sealcast broker config` prints, the broker's user of {node} has to be {node}: check \
                 `user`, and that the broker has these rules"
            )
        } else {
            String::new()
        };
        warn!(
            reason,
            "the broker at {broker} refuses what {node} says to the hub, which is asked over HTTPS instead{advice}"
        );
    }
}

fn refused(topic: &TopicName, answer: Option<oneshot::Sender<Result<(), String>>>, reason: String) -> LinkEvent {
    if let Some(answer) = answer {
        let _ = answer.send(Err(reason.clone()));
    }
    LinkEvent::Refused { topic: topic.as_str().to_owned(), reason }
}
