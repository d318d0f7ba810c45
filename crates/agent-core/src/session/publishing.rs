//! What a client publishes: judged, sealed, or refused with the reason.

use sealcast_ledger::GroupNumber;
use sealcast_mqtt::{PublishRefusal, PublishRequest, Qos, RefuseCode, Version};
use sealcast_seal::{Content, Purpose};
use zeroize::Zeroizing;

use super::{
    DISK_FAILS, Refused, Session, Shared, Write, class,
    state::{Publishing, Until, Waiting},
};
use crate::{Cause, Denied, Now, Retained, Route, Why, values::Judged};

pub(super) const CONTROL_TOPIC: &str = "Sealcast's own topics are for the agents themselves";
const BROKERS_TOPIC: &str = "not sent: topics that begin with $ are the broker's own";

impl Session {
    /// Takes what the client publishes: what is for a group and may go is sealed at [`Self::seal_batch`].
    pub(super) fn attend_publish(
        &mut self,
        shared: &mut Shared<'_>,
        publishing: Box<Publishing>,
        until: Until,
        now: Now,
    ) {
        let route = shared.keyring.route(publishing.request.topic.as_str());
        if !matches!((&route, &self.batch), (Route::Group(group), Some(batch)) if batch.group == *group) {
            self.seal_batch(shared, now);
        }
        // A message before this one was refused in the one way that some clients understand.
        if self.is_over() {
            return;
        }
        let denied = match route {
            Route::Group(group) => return self.attend_sealed(shared, group, publishing, until, now),
            Route::Clear => return self.answered(|proxy| proxy.pass_clear(publishing.request.id)),
            Route::Brokers => return self.publish_brokers(&publishing.request),
            Route::Control => Denied::Refused(Why::new(Cause::ControlTopic, CONTROL_TOPIC)),
            Route::Behind(why) => Denied::Behind(why),
            Route::Refused(why) => Denied::Refused(why),
        };
        self.deny_publish(shared, publishing, &denied, until, now);
    }

    /// Takes a message for a group.
    fn attend_sealed(
        &mut self,
        shared: &mut Shared<'_>,
        group: GroupNumber,
        mut publishing: Box<Publishing>,
        until: Until,
        now: Now,
    ) {
        if !publishing.judged {
            if !self.judge(shared, &mut publishing.request, now) {
                return;
            }
            publishing.judged = true;
        }
        let request = &publishing.request;
        if request.retain && request.payload.is_empty() {
            self.seal_batch(shared, now);
            return self.delete(shared, group, publishing, until, now);
        }
        // Those that come after the first meet the same key ring.
        let allowed = if self.batch.is_some() { Ok(()) } else { shared.keyring.may_seal(group, now.unix_ms) };
        match allowed {
            Ok(()) => self.put_in_batch(shared, group, publishing, until, now),
            Err(denied) => self.deny_publish(shared, publishing, &denied, until, now),
        }
    }

    /// What becomes of a message that cannot be sealed, or not now.
    pub(super) fn deny_publish(
        &mut self,
        shared: &mut Shared<'_>,
        publishing: Box<Publishing>,
        denied: &Denied,
        mut until: Until,
        now: Now,
    ) {
        if shared.disk_fails {
            // It is not acknowledged, so its client sends it again when the disk has room.
            shared.values.not_sent(publishing.request.topic.as_str());
            self.give_up(DISK_FAILS);
        } else if self.may_wait(shared.keyring, denied, &mut until, now) {
            self.waiting.push_back((Waiting::Publish(publishing), until));
        } else {
            self.refuse(shared, &publishing.request, denied.why().clone());
        }
    }

    /// An empty retained message deletes what the broker keeps, so the broker has to read it. A tombstone goes before it.
    fn delete(
        &mut self,
        shared: &mut Shared<'_>,
        group: GroupNumber,
        publishing: Box<Publishing>,
        until: Until,
        now: Now,
    ) {
        // A message before this one was refused.
        if self.is_over() {
            return;
        }
        let request = &publishing.request;
        let content = Content {
            purpose: Purpose::Tombstone,
            class: class(request.qos),
            retain: false,
            props: &request.sealed_properties,
            payload: &request.payload,
        };
        let sealed = shared.keyring.seal(group, request.topic.as_str(), &content, now.unix_ms);
        match sealed.and_then(|frame| self.keep(shared, request, now).map(|()| frame)) {
            Ok(frame) => {
                let topic = request.topic.as_str();
                self.writes.extend(Write::sent(shared.keyring, group, topic, &content, now.unix_ms));
                self.answered(|proxy| proxy.announce(request.id, frame.into()));
            }
            Err(denied) => self.deny_publish(shared, publishing, &denied, until, now),
        }
    }

    /// Has written down what the broker will keep.
    pub(super) fn keep(&mut self, shared: &mut Shared<'_>, request: &PublishRequest, now: Now) -> Result<(), Denied> {
        let retained = Retained {
            topic: request.topic.as_str().to_owned(),
            time_ms: now.unix_ms,
            props: request.sealed_properties.to_vec(),
            payload: Zeroizing::new(request.payload.to_vec()),
        };
        shared.retained.keep(&retained).map_err(|error| Denied::Refused(error.into()))?;
        self.writes.push(Write::Retained(retained));
        Ok(())
    }

    fn refuse(&mut self, shared: &mut Shared<'_>, request: &PublishRequest, why: Why) {
        let reason = why.text.clone();
        self.not_sent(shared, request.topic.as_str(), why);
        // At QoS 0 and in MQTT 3.1.1 there is no other way to say it than to end the connection. MQTT 5's acknowledgement
        // says it, and other messages of the client go on.
        let disconnect = self.version == Version::V311 || request.qos == Qos::AtMostOnce;
        let refusal = PublishRefusal { code: RefuseCode::NotAuthorized, reason, disconnect };
        self.answered(|proxy| proxy.refuse(request.id, refusal));
    }

    /// Bridges tell on such topics whether they are connected. Nothing is sent, and the connection stays.
    fn publish_brokers(&mut self, request: &PublishRequest) {
        self.publish_refused(request.topic.as_str(), Why::new(Cause::BrokersTopic, BROKERS_TOPIC));
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
            Judged::Acknowledge(cause) => {
                self.publish_refused(request.topic.as_str(), Why::new(cause, spared(cause)));
                self.answered(|proxy| proxy.acknowledge(request.id));
                return false;
            }
            Judged::Blocked(blocked) => blocked,
        };
        self.publish_refused(request.topic.as_str(), Why::new(blocked.cause, blocked.summary));
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
    pub(super) fn not_sent(&mut self, shared: &mut Shared<'_>, topic: &str, why: Why) {
        shared.values.not_sent(topic);
        self.publish_refused(topic, why);
    }

    pub(super) fn publish_refused(&mut self, topic: &str, why: Why) {
        self.tell(Refused::Publish, topic, why);
    }
}

/// Why a message is acknowledged, and need not be sent.
fn spared(cause: Cause) -> &'static str {
    match cause {
        Cause::Unchanged => "not sent: `report` says that it tells nothing new",
        Cause::TooSoon => {
            "not sent yet: it comes too soon after the last one; the newest is sent when min_interval_ms is over"
        }
        _ => "not sent: it has no value, so `output` has nothing to write",
    }
}
