//! What becomes of what the proxy says.

use super::{
    Effect, Refused, Session, Shared,
    state::{Publishing, Until, Waiting},
};
use crate::{Cause, Now, Why};
use sealcast_mqtt::{Output, reason};

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
            Output::Subscribed(filters) => {
                self.note_subscribed(filters);
                self.greet = true;
                self.handle_resubscribed();
            }
            Output::Unsubscribed => self.handle_resubscribed(),
            Output::Acked(id) => self.handle_acked(id),
            Output::PublishRejected { topic, code } => {
                let rules = match code {
                    reason::NOT_AUTHORIZED => {
                        "; if the broker is your own: do its rules name the topic (`sealcast broker config`)?"
                    }
                    _ => "",
                };
                let name = reason::name(code).unwrap_or("it does not say why");
                let reason = format!("the broker refused it: {name} ({code:#04x}){rules}");
                self.not_sent(shared, topic.as_str(), Why::new(Cause::BrokerRefused, reason));
            }
            Output::PublishTooLarge { topic, size, max, .. } => {
                let reason = format!(
                    "it has {size} bytes once it is sealed, but the broker takes at most {max}: raise max_packet_bytes in hub.toml"
                );
                self.not_sent(shared, topic.as_str(), Why::new(Cause::TooLargeForBroker, reason));
            }
            Output::PublishUnfit { topic, reason } => {
                self.publish_refused(&topic, Why::new(Cause::TopicUnfit, reason));
            }
            Output::FilterUnfit { filter, reason } => {
                self.tell(Refused::Subscription, &filter, Why::new(Cause::TopicUnfit, reason));
            }
            Output::DeliveryTooLarge { id, topic, size, max } => {
                // The broker hears that the client has it.
                self.handle_acked(id);
                let text = format!("it has {size} bytes, but the client takes at most {max}");
                let why = Why::new(Cause::TooLargeForClient, text);
                self.tell(Refused::Delivery { bytes: size }, topic.as_str(), why);
            }
            Output::DeliveryOversized { topic, size, max } => {
                let reason = format!(
                    "it has {size} bytes, but the agent takes at most {max}: raise max_packet_bytes in agent.toml"
                );
                let why = Why::new(Cause::TooLargeForAgent, reason);
                self.tell(Refused::Delivery { bytes: size }, &topic, why);
            }
            Output::DeliveryInvalid(error) => {
                let why = Why::new(Cause::BrokerMalformed, format!("the broker sent a malformed message: {error}"));
                self.tell(Refused::Delivery { bytes: 0 }, "", why);
            }
            Output::Closed(reason) => self.handle_closed(&reason),
        }
    }
}
