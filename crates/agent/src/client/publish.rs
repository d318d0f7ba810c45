//! What a client publishes: judged, sealed, recorded, or refused with the reason.

use sealcast_agent_core::{Denied, Route, values::Judged};
use sealcast_mqtt::{PublishRequest, Refusal, RefuseCode, Version};
use sealcast_node::now_ms;
use sealcast_seal::{Content, Purpose};
use tracing::debug;
use zeroize::Zeroizing;

use super::{BROKERS_TOPIC, CONTROL_TOPIC, Client, Publishing, Until, Waiting, class};
use crate::{
    events::Event,
    store::{DiskFails, MAX_RETAINED, Retained},
};

impl Client {
    /// Seals what the client publishes, if it may go. Gives it back if it has to wait.
    pub(super) fn attend_publish(&mut self, mut publishing: Box<Publishing>, until: &mut Until) -> Option<Waiting> {
        let route = self.shared.data.route(publishing.request.topic.as_str());
        if route == Route::Brokers {
            self.publish_brokers(&publishing.request);
            return None;
        }
        if matches!(route, Route::Group(_)) && !publishing.judged {
            if !self.judge(&mut publishing.request) {
                return None;
            }
            publishing.judged = true;
        }
        let request = &publishing.request;
        let topic = request.topic.as_str();
        // It deletes what the broker keeps, which only the broker can do.
        let deletes = request.retain && request.payload.is_empty();
        let sealed = match route {
            Route::Clear => Ok(None),
            Route::Control => Err(Denied::Refused(CONTROL_TOPIC.into())),
            Route::Brokers => Err(Denied::Refused(BROKERS_TOPIC.into())),
            Route::Behind(reason) => Err(Denied::Behind(reason)),
            Route::Refused(reason) => Err(Denied::Refused(reason)),
            Route::Group(group) => {
                let now = now_ms();
                let content = Content {
                    purpose: Purpose::Message,
                    class: class(request.qos),
                    retain: request.retain,
                    props: &request.sealed_properties,
                    payload: &request.payload,
                };
                let sealed =
                    if deletes { Ok(None) } else { self.shared.data.seal(group, topic, &content, now).map(Some) };
                let sealed = match sealed {
                    Ok(frame) if request.retain => match self.keep_retained(request, now) {
                        Ok(true) => Ok(frame),
                        Ok(false) => Err(Denied::Refused(format!(
                            "{MAX_RETAINED} retained messages are kept already, which is the limit"
                        ))),
                        Err(reason) => Err(Denied::Refused(reason)),
                    },
                    sealed => sealed,
                };
                // On disk before the message goes out, and with it the acknowledgement comes in.
                let last = || self.shared.data.last_sequence(group, topic);
                match sealed {
                    Ok(Some(frame)) => match self.shared.readings.record(topic, &publishing.original, last, now) {
                        Ok(()) => Ok(Some(frame)),
                        Err(error) => Err(Denied::NotYet(error.to_string())),
                    },
                    sealed => sealed,
                }
            }
        };
        // It is not acknowledged, so its client sends it again when the disk has room.
        if sealed.is_err() && self.shared.store.is_failing() {
            self.shared.values.not_sent(topic);
            self.give_up = Some(DiskFails.to_string());
            return None;
        }
        let answered = match sealed {
            Ok(Some(frame)) => self.proxy.seal_done(request.id, frame.into()),
            Ok(None) => self.proxy.pass_clear(request.id),
            Err(denied) if self.may_wait(&denied, until) => return Some(Waiting::Publish(publishing)),
            Err(denied) => {
                let reason = denied.to_string();
                self.not_sent(topic, reason.clone());
                // At QoS 0 and in MQTT 3.1.1 there is no other way to say it than to end the connection. MQTT 5's
                // acknowledgement says it, and other messages of the client go on.
                let disconnect = self.version == Version::V311 || request.qos == sealcast_mqtt::Qos::AtMostOnce;
                self.proxy.refuse(request.id, Refusal { code: RefuseCode::NotAuthorized, reason, disconnect })
            }
        };
        if let Err(error) = answered {
            debug!(%error);
        }
        None
    }

    /// Bridges tell on such topics whether they are connected. Nothing is sent, and the connection stays.
    fn publish_brokers(&mut self, request: &PublishRequest) {
        self.shared.events.note(self.who(), request.topic.as_str(), BROKERS_TOPIC);
        let refusal = Refusal { code: RefuseCode::TopicNameInvalid, reason: BROKERS_TOPIC.into(), disconnect: false };
        self.refuse_and_stay(request, refusal);
    }

    /// Checks the values of a message for a group, and changes them as is configured. `false`: it was answered.
    fn judge(&mut self, request: &mut PublishRequest) -> bool {
        let judged = self.shared.values.publish(request, self.number, now_ms());
        self.judged = true;
        let blocked = match judged {
            Judged::Send => return true,
            Judged::Acknowledge => {
                self.answered(|proxy| proxy.acknowledge(request.id));
                return false;
            }
            Judged::Blocked(blocked) => blocked,
        };
        self.publish_refused(request.topic.as_str(), blocked.summary);
        let refusal = Refusal { code: blocked.code, reason: blocked.reason, disconnect: false };
        self.refuse_and_stay(request, refusal);
        false
    }

    /// MQTT 3.1.1 has no acknowledgement that says no, and a connection that ended would have the message sent again: there
    /// the client is told that it was taken.
    fn refuse_and_stay(&mut self, request: &PublishRequest, refusal: Refusal) {
        let tells = self.version == Version::V5 || request.qos == sealcast_mqtt::Qos::AtMostOnce;
        self.answered(|proxy| if tells { proxy.refuse(request.id, refusal) } else { proxy.acknowledge(request.id) });
    }

    /// A message whose values were judged does not go out after all.
    pub(super) fn not_sent(&self, topic: &str, reason: String) {
        self.shared.values.not_sent(topic);
        self.publish_refused(topic, reason);
    }

    pub(super) fn publish_refused(&self, topic: &str, reason: String) {
        let (client, topic) = (self.label.clone(), topic.to_owned());
        self.shared.events.put(&self.name, Event::PublishRefused { client, topic, reason });
    }

    fn keep_retained(&self, request: &PublishRequest, now: u64) -> Result<bool, String> {
        let message = Retained {
            topic: request.topic.as_str().to_owned(),
            time_ms: now,
            props: request.sealed_properties.to_vec(),
            payload: Zeroizing::new(request.payload.to_vec()),
        };
        self.shared.store.keep_retained(&message).map_err(|error| format!("{error:#}"))
    }
}
