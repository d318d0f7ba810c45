//! What a client publishes: judged, sealed, recorded, or refused with the reason.

use sealcast_ledger::GroupNumber;
use sealcast_mqtt::{PublishRefusal, PublishRequest, Qos, RefuseCode, Version};
use sealcast_seal::{Content, Purpose};
use zeroize::Zeroizing;

use super::{
    ClientEvent, DISK_FAILS, Session, Shared, Write, class,
    state::{Publishing, Until, Waiting},
};
use crate::{Denied, Now, Retained, Route, values::Judged};

pub(super) const CONTROL_TOPIC: &str = "topics below sealcast/ are for the agents themselves";
const BROKERS_TOPIC: &str = "not sent: topics that begin with $ are the broker's own";

/// What goes to the broker of a message that may go.
enum Outgoing {
    AsItIs,
    Sealed(Vec<u8>),
    /// As it is, once this tombstone has gone before it.
    Announced(Vec<u8>),
}

impl Session {
    /// Seals what the client publishes, if it may go. Gives it back if it has to wait.
    pub(super) fn attend_publish(
        &mut self,
        shared: &mut Shared<'_>,
        mut publishing: Box<Publishing>,
        until: &mut Until,
        now: Now,
    ) -> Option<Waiting> {
        let route = shared.keyring.route(publishing.request.topic.as_str());
        if route == Route::Brokers {
            self.publish_brokers(&publishing.request);
            return None;
        }
        if matches!(route, Route::Group(_)) && !publishing.judged {
            if !self.judge(shared, &mut publishing.request, now) {
                return None;
            }
            publishing.judged = true;
        }
        let outgoing = match route {
            Route::Clear => Ok(Outgoing::AsItIs),
            Route::Control => Err(Denied::Refused(CONTROL_TOPIC.into())),
            Route::Brokers => Err(Denied::Refused(BROKERS_TOPIC.into())),
            Route::Behind(reason) => Err(Denied::Behind(reason)),
            Route::Refused(reason) => Err(Denied::Refused(reason)),
            Route::Group(group) => self.seal(shared, group, &publishing, now),
        };
        let request = &publishing.request;
        match outgoing {
            Ok(Outgoing::Sealed(frame)) => self.answered(|proxy| proxy.seal_done(request.id, frame.into())),
            Ok(Outgoing::Announced(frame)) => self.answered(|proxy| proxy.announce(request.id, frame.into())),
            Ok(Outgoing::AsItIs) => self.answered(|proxy| proxy.pass_clear(request.id)),
            // It is not acknowledged, so its client sends it again when the disk has room.
            Err(_) if shared.disk_fails => {
                shared.values.not_sent(request.topic.as_str());
                self.give_up(DISK_FAILS);
            }
            Err(denied) if self.may_wait(shared.keyring, &denied, until, now) => {
                return Some(Waiting::Publish(publishing));
            }
            Err(denied) => self.refuse(shared, request, denied.to_string()),
        }
        None
    }

    /// Seals a message for a group, and has written down what must be before it goes out.
    fn seal(
        &mut self,
        shared: &mut Shared<'_>,
        group: GroupNumber,
        publishing: &Publishing,
        now: Now,
    ) -> Result<Outgoing, Denied> {
        let Publishing { request, original, .. } = publishing;
        let topic = request.topic.as_str();
        // It deletes what the broker keeps, so the broker has to read it.
        let deletes = request.retain && request.payload.is_empty();
        let content = Content {
            purpose: if deletes { Purpose::Tombstone } else { Purpose::Message },
            class: class(request.qos),
            retain: request.retain && !deletes,
            props: &request.sealed_properties,
            payload: &request.payload,
        };
        let frame = shared.keyring.seal(group, topic, &content, now.unix_ms)?;
        if request.retain {
            let retained = Retained {
                topic: topic.to_owned(),
                time_ms: now.unix_ms,
                props: request.sealed_properties.to_vec(),
                payload: Zeroizing::new(request.payload.to_vec()),
            };
            shared.retained.keep(&retained).map_err(|error| Denied::Refused(error.to_string()))?;
            self.writes.push(Write::Retained(retained));
        }
        if deletes {
            return Ok(Outgoing::Announced(frame));
        }
        let last = shared.keyring.last_sequence(group, topic).unwrap_or(0);
        self.writes.extend(Write::readings(shared.record, topic, original, last, now.unix_ms));
        Ok(Outgoing::Sealed(frame))
    }

    fn refuse(&mut self, shared: &mut Shared<'_>, request: &PublishRequest, reason: String) {
        self.not_sent(shared, request.topic.as_str(), reason.clone());
        // At QoS 0 and in MQTT 3.1.1 there is no other way to say it than to end the connection. MQTT 5's acknowledgement
        // says it, and other messages of the client go on.
        let disconnect = self.version == Version::V311 || request.qos == Qos::AtMostOnce;
        let refusal = PublishRefusal { code: RefuseCode::NotAuthorized, reason, disconnect };
        self.answered(|proxy| proxy.refuse(request.id, refusal));
    }

    /// Bridges tell on such topics whether they are connected. Nothing is sent, and the connection stays.
    fn publish_brokers(&mut self, request: &PublishRequest) {
        self.note(request.topic.as_str(), BROKERS_TOPIC);
        let refusal =
            PublishRefusal { code: RefuseCode::TopicNameInvalid, reason: BROKERS_TOPIC.into(), disconnect: false };
        self.refuse_and_stay(request, refusal);
    }

    /// Checks the values of a message for a group, and changes them as is configured. `false`: it was answered.
    fn judge(&mut self, shared: &mut Shared<'_>, request: &mut PublishRequest, now: Now) -> bool {
        let judged = shared.values.publish(request, self.settings.connection, now.unix_ms);
        self.judged |= shared.values.rules().apply_to(request.topic.as_str());
        let blocked = match judged {
            Judged::Send => return true,
            Judged::Acknowledge => {
                self.answered(|proxy| proxy.acknowledge(request.id));
                return false;
            }
            Judged::Blocked(blocked) => blocked,
        };
        self.publish_refused(request.topic.as_str(), blocked.summary);
        let refusal = PublishRefusal { code: blocked.code, reason: blocked.reason, disconnect: false };
        self.refuse_and_stay(request, refusal);
        false
    }

    /// MQTT 3.1.1 has no acknowledgement that says no, and a connection that ended would have the message sent again: there
    /// the client is told that it was taken.
    fn refuse_and_stay(&mut self, request: &PublishRequest, refusal: PublishRefusal) {
        let tells = self.version == Version::V5 || request.qos == Qos::AtMostOnce;
        self.answered(|proxy| if tells { proxy.refuse(request.id, refusal) } else { proxy.acknowledge(request.id) });
    }

    /// A message whose values were judged does not go out after all.
    pub(super) fn not_sent(&mut self, shared: &mut Shared<'_>, topic: &str, reason: String) {
        shared.values.not_sent(topic);
        self.publish_refused(topic, reason);
    }

    pub(super) fn publish_refused(&mut self, topic: &str, reason: String) {
        let (client, topic) = (self.label.clone(), topic.to_owned());
        self.tell(ClientEvent::PublishRefused { client, topic, reason });
    }
}
