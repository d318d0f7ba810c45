//! What the agent's own connection brings of the topics that a fail-safe is for: their values, and their senders' alarms.

use sealcast_mqtt::TopicName;
use sealcast_seal::{HandOver, Message};
use tracing::debug;

use super::{
    Values,
    alarm::{Alarm, Kind},
    arrive::{Arrived, Incoming},
    guard::Said,
    marks,
    output::Output,
    waiting::Brought,
};
use crate::{Arrival, Denied, Keyring, Received, Route, Why};

/// What a message may be believed to be.
enum Opened {
    Message(TopicName, Box<Message>),
    /// It is worth trying again.
    NotYet,
    /// A deleted retained message, a topic that nobody seals, or what does not open.
    Nothing,
}

impl Values {
    /// Takes in what the agent's own connection brought: values of topics with a fail-safe, and alarms of their senders.
    pub fn brought(&mut self, keyring: &Keyring, message: Brought, now_ms: u64) {
        // The broker decides what comes here, whatever was subscribed to.
        if self.rules.alarm_device(&message.topic).is_none() && !self.has_fail_safe(&message.topic) {
            return;
        }
        if self.take_in(keyring, &message, now_ms) {
            self.waiting.push(message, 0, now_ms);
        }
    }

    /// Drops what is remembered of epochs that are gone.
    pub fn forget_old_epochs(&mut self, keyring: &Keyring) {
        keyring.forget_old_epochs(&mut self.opener);
    }

    /// Tries what waits for a key, if it is time.
    pub(super) fn try_waiting(&mut self, keyring: &Keyring, now_ms: u64) {
        for (message, tries) in self.waiting.take(now_ms) {
            if self.take_in(keyring, &message, now_ms) {
                self.waiting.push(message, tries + 1, now_ms);
            }
        }
    }

    /// `true` if it is worth trying again.
    fn take_in(&mut self, keyring: &Keyring, message: &Brought, now_ms: u64) -> bool {
        let (topic, opened) = match self.open(keyring, message, now_ms) {
            Opened::Message(topic, opened) => (topic, opened),
            Opened::NotYet => return true,
            Opened::Nothing => return false,
        };
        let arrived = Arrived::new(&topic, &message.payload, &opened, message.retain, keyring.freshness());
        if marks::read(&arrived.props).is_ok_and(|(said, _)| said.alarm) {
            self.hear_alarm(&arrived, |about| keyring.may_speak_of(arrived.sender, about), now_ms);
        } else if self.has_fail_safe(topic.as_str())
            // As MQTT 3.1.1 clients get it: what is held back from them is no good value.
            && let Incoming::Withhold(why) = self.arrive(&arrived, false, now_ms)
        {
            self.not_good(message, why);
        }
        false
    }

    /// An alarm of another device; `may_speak_of` tells whether that device is granted the topic.
    pub(super) fn hear_alarm(&mut self, arrived: &Arrived<'_>, may_speak_of: impl Fn(&str) -> bool, now_ms: u64) {
        let Arrived { topic, sender, .. } = arrived;
        let alarm = match serde_json::from_slice::<Alarm>(&arrived.payload) {
            Ok(alarm) => alarm,
            Err(error) => return debug!(%error, %topic, "alarm ignored: it cannot be read"),
        };
        // A member of one group must not open the valve of another, nor speak for another device.
        if self.rules.alarm_topic(sender.as_str(), &alarm.topic) != topic.as_str() || !may_speak_of(&alarm.topic) {
            return debug!(%sender, %topic, about = alarm.topic, "alarm ignored: its sender may not raise it");
        }
        // Silence is what the fail-safe notices by itself.
        if alarm.kind == Kind::Silent || alarm.over_ms.is_some() {
            return;
        }
        // It may have been told, or told again, much later than it was raised.
        let at_ms = alarm.last_ms.min(arrived.sealed_ms);
        self.bad(&alarm.topic, Said { sender, at_ms, tolerance_ms: arrived.tolerance_ms }, now_ms);
    }

    fn not_good(&mut self, message: &Brought, why: Why) {
        debug!(code = %why.cause, topic = message.topic, reason = why.text, "not a good value");
        let (topic, bytes) = (message.topic.clone(), message.payload.len());
        self.outputs.push_back(Output::Refused { topic, bytes, why });
    }

    fn has_fail_safe(&self, topic: &str) -> bool {
        self.rules.quality.find(topic).is_some_and(|rules| rules.fail_safe().is_some())
    }

    fn open(&mut self, keyring: &Keyring, message: &Brought, now_ms: u64) -> Opened {
        let Ok(topic) = TopicName::new(&message.topic) else { return Opened::Nothing };
        let group = match keyring.route(topic.as_str()) {
            Route::Group(group) => group,
            Route::Behind(_) => return Opened::NotYet,
            _ => return Opened::Nothing,
        };
        if message.payload.is_empty() {
            return Opened::Nothing;
        }
        let hand_over = message.dup.map_or(HandOver::AtMostOnce, |dup| HandOver::Acknowledged { dup });
        let arrival = Arrival { hand_over, retain: message.retain, away: None, copy: false };
        match keyring.open(&mut self.opener, group, topic.as_str(), &message.payload, arrival, now_ms) {
            Ok(Received::Message(opened)) => {
                let receipt = opened.receipt();
                self.opener.mark_delivered(&receipt);
                self.opener.mark_acknowledged(&receipt);
                Opened::Message(topic, Box::new(opened))
            }
            Ok(Received::Deleted(opened)) => {
                self.opener.mark_acknowledged(&opened.receipt());
                Opened::Nothing
            }
            Ok(Received::Repeated) => Opened::Nothing,
            Err(Denied::Refused(why)) => {
                self.not_good(message, why);
                Opened::Nothing
            }
            Err(Denied::NotYet(_) | Denied::Behind(_)) => Opened::NotYet,
        }
    }
}
