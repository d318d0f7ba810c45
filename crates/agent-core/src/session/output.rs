//! What becomes of what the proxy says.

use sealcast_mqtt::Output;
use tracing::warn;

use super::{
    ClientEvent, Effect, Session, Shared,
    state::{Publishing, Until, Waiting},
};
use crate::Now;

impl Session {
    pub(super) fn handle_output(&mut self, shared: &mut Shared<'_>, output: Output, now: Now) {
        let until = Until { deadline_ms: now.run_ms.saturating_add(self.settings.key_wait_ms), news: None };
        match output {
            Output::ToBroker(bytes) => self.effects.push(Effect::ToBroker(bytes)),
            Output::ToClient(bytes) => self.effects.push(Effect::ToClient(bytes)),
            Output::Connect(request) => {
                self.begin_connect(&request);
                if self.settings.login {
                    self.ask_for_login(request);
                } else {
                    self.attend(shared, Waiting::Connect(request), until, now);
                }
            }
            Output::Connected(connected) => self.handle_connected(&connected, now),
            Output::Publish(request) => {
                let original = request.payload.clone();
                let publishing = Box::new(Publishing { request, original, judged: false });
                self.attend(shared, Waiting::Publish(publishing), until, now);
            }
            Output::Delivery(delivery) => self.attend(shared, Waiting::Delivery(delivery), until, now),
            Output::Subscribed(_) => {
                self.greet = true;
                self.handle_resubscribed();
            }
            Output::Unsubscribed => self.handle_resubscribed(),
            Output::Acked(id) => self.handle_acked(id),
            Output::PublishRejected { topic, code } => {
                let reason = format!("the broker refused it with reason code {code:#04x}");
                self.not_sent(shared, topic.as_str(), reason);
            }
            Output::PublishTooLarge { topic, size, max, .. } => {
                let reason = format!(
                    "it has {size} bytes once it is sealed, but the broker takes at most {max}: raise max_packet_bytes in hub.toml"
                );
                self.not_sent(shared, topic.as_str(), reason);
            }
            Output::PublishUnfit { topic, reason } => self.publish_refused(&topic, reason.into()),
            Output::FilterUnfit { filter, reason } => {
                let (client, topic, reason) = (self.label.clone(), filter.into(), reason.into());
                self.tell(ClientEvent::NotSubscribed { client, topic, reason });
            }
            Output::DeliveryTooLarge { id, size, max } => {
                // The broker hears that the client has it.
                self.handle_acked(id);
                warn!(client = self.label, size, max, "message dropped: larger than the client accepts");
            }
            Output::DeliveryOversized { topic, size, max } => {
                let reason = format!(
                    "it has {size} bytes, but the agent takes at most {max}: raise max_packet_bytes in agent.toml"
                );
                let (client, topic) = (self.label.clone(), topic.into());
                self.tell(ClientEvent::DeliveryRefused { client, topic, bytes: size, reason });
            }
            Output::DeliveryInvalid(error) => {
                warn!(client = self.label, %error, "message dropped: the broker sent a malformed one");
            }
            Output::Closed(reason) => self.handle_closed(&reason),
        }
    }
}
