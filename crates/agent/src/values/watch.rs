//! What happens to values without a client: silence, kept reports, alarms, fail-safe. One task, woken by time and by the
//! clients; and what the agent's own connection brings of the topics that a fail-safe is for.

use std::{
    sync::{Arc, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use sealcast_agent_core::{Arrival, Denied, Received, Route};
use sealcast_mqtt::{Properties, TopicName, check_carried};
use sealcast_node::{Answer, now_ms};
use sealcast_seal::{Content, Opener, Purpose, QosClass};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};
use zeroize::Zeroizing;

use super::{
    Incoming, OWN_CONNECTION, Values,
    alarm::{Alarm, Kind},
    arrive::Arrived,
    guard::{Guard, Said},
    marks,
    own::{Brought, Outlet, Own, Unsent, Watch},
};
use crate::{
    data::DataPlane,
    store::{MAX_RETAINED, Retained},
};

/// What could not be done (no key, no connection) is tried again after so long.
const RETRY: Duration = Duration::from_secs(1);
/// The longest sleep.
const TICK: Duration = Duration::from_secs(60);
/// How often they are tried: a minute.
const MAX_TRIES: u32 = 60;
/// What was saved is logged so often, and what is remembered of epochs that are gone forgotten.
const TIDY_EVERY_MS: u64 = 600_000;

impl Values {
    /// The connection to the broker is new: what the one before carried last may not have arrived.
    pub fn link_up(&self) {
        self.state().alarms.tell_again();
        self.cut(OWN_CONNECTION);
        self.wake.notify_one();
    }

    /// The broker refused something that the agent itself published.
    pub fn link_refused(&self) {
        self.cut(OWN_CONNECTION);
    }

    /// Takes in what the agent's own connection brought: values of topics with a fail-safe, and alarms of their senders.
    pub fn brought(&self, data: &DataPlane, message: Brought) {
        // The broker decides what comes here, whatever was subscribed to.
        let fail_safe = || self.rules.quality.find(&message.topic).is_some_and(|rules| rules.fail_safe().is_some());
        if self.rules.alarm_device(&message.topic).is_none() && !fail_safe() {
            return;
        }
        let mut watch = self.watching();
        if self.take_in(data, &mut watch.opener, &message).is_some() && watch.has_room(message.payload.len()) {
            watch.waiting.push_back((message, 0));
        }
    }

    /// `Some` if it is worth trying again.
    fn take_in(&self, data: &DataPlane, opener: &mut Opener, message: &Brought) -> Option<()> {
        let topic = TopicName::new(&message.topic).ok()?;
        let group = match data.route(topic.as_str()) {
            Route::Group(group) => group,
            Route::Behind(_) => return Some(()),
            // A deleted retained message, or a topic that nobody seals: nothing that could be believed.
            _ => return None,
        };
        if message.payload.is_empty() {
            return None;
        }
        let now = now_ms();
        let qos = message.dup.map_or(sealcast_seal::Qos::AtMostOnce, |dup| sealcast_seal::Qos::Acknowledged { dup });
        let arrival = Arrival { qos, retain: message.retain, away: None };
        let opened = match data.open(opener, group, topic.as_str(), &message.payload, arrival, now) {
            Ok(Received::Message(opened)) => opened,
            Ok(Received::Repeated) | Err(Denied::Refused(_)) => return None,
            Err(Denied::NotYet(_) | Denied::Behind(_)) => return Some(()),
        };
        let receipt = opened.receipt();
        opener.mark_delivered(&receipt);
        opener.mark_acknowledged(&receipt);
        let arrived = Arrived {
            topic: &topic,
            sender: opened.sender(),
            tolerance_ms: data.freshness().clock_tolerance_ms,
            frame: &message.payload,
            payload: Bytes::copy_from_slice(opened.payload()),
            props: Bytes::copy_from_slice(opened.props()),
            sealed_ms: opened.sealed_ms(),
            age_ms: opened.age_ms(),
            retained: message.retain,
            stale: data.freshness().is_stale(topic.as_str(), message.retain, opened.age_ms()),
        };
        if marks::read(&arrived.props).is_ok_and(|(said, _)| said.alarm) {
            match serde_json::from_slice::<Alarm>(&arrived.payload) {
                // A member of one group must not open the valve of another, nor speak for another device.
                Ok(alarm)
                    if self.rules.alarm_topic(arrived.sender.as_str(), &alarm.topic) != topic.as_str()
                        || !data.may_speak_of(arrived.sender, &alarm.topic) =>
                {
                    let (sender, about) = (arrived.sender, &alarm.topic);
                    debug!(%sender, %topic, about, "alarm ignored: its sender may not raise it");
                }
                // Silence is what the fail-safe notices by itself.
                Ok(alarm) if alarm.kind != Kind::Silent && alarm.over_ms.is_none() => {
                    // It may have been told, or told again, much later than it was raised.
                    let at_ms = alarm.last_ms.min(arrived.sealed_ms);
                    let said = Said { sender: arrived.sender, at_ms, tolerance_ms: arrived.tolerance_ms };
                    self.bad(&alarm.topic, said, now);
                }
                Ok(_) => {}
                Err(error) => debug!(%error, topic = message.topic, "alarm ignored: it cannot be read"),
            }
        } else if self.rules.quality.find(topic.as_str()).is_some_and(|rules| rules.fail_safe().is_some())
            // As MQTT 3.1.1 clients get it: what is held back from them is no good value.
            && let Incoming::Withhold(reason) = self.arrive(&arrived, false, now)
        {
            debug!(topic = message.topic, reason, "not a good value");
        }
        None
    }

    /// Runs until `stop`.
    pub async fn run(self: Arc<Self>, out: Outlet, stop: CancellationToken) {
        let mut tidied_ms = now_ms();
        loop {
            let now = now_ms();
            let undone = self.handle_timeout(&out, now);
            if now.saturating_sub(tidied_ms) >= TIDY_EVERY_MS {
                tidied_ms = now;
                self.log_savings();
                out.data.forget_old_epochs(&mut self.watching().opener);
            }
            let pause = match self.poll_timeout() {
                _ if undone => RETRY,
                Some(at_ms) => Duration::from_millis(at_ms.saturating_sub(now_ms())).min(TICK),
                None => TICK,
            };
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.wake.notified(), if !undone => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
        self.log_savings();
    }

    fn watching(&self) -> MutexGuard<'_, Watch> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn poll_timeout(&self) -> Option<u64> {
        let state = self.state();
        let fail_safe = state.fail_safes.values().filter_map(Guard::poll_timeout).min();
        let engines = [state.checker.poll_timeout(), state.reporter.poll_timeout(), state.archiver.poll_timeout()];
        let others = [state.alarms.poll_timeout(), fail_safe, self.outbox.poll_timeout()];
        engines.into_iter().chain(others).flatten().min()
    }

    /// `true` if something could not be done for now.
    fn handle_timeout(&self, out: &Outlet, now: u64) -> bool {
        let again = self.try_waiting(&out.data);
        let (fired, kept) = {
            let mut state = self.state();
            state.checker.handle_timeout(now);
            state.dirty |= state.archiver.poll_timeout().is_some_and(|due| due <= now);
            state.archiver.handle_timeout(now);
            self.note_events(&mut state, now);
            let fired: Vec<_> = state
                .fail_safes
                .iter_mut()
                .filter_map(|(topic, fail_safe)| Some((topic.clone(), fail_safe.handle_timeout(now)?)))
                .collect();
            let mut due = std::mem::take(&mut state.late);
            while let Some((topic, _)) = state.reporter.poll_kept(now) {
                state.dirty = true;
                due.insert(topic);
            }
            let kept = |topic: String| state.kept.remove(&topic).map(|message| (topic, message));
            let kept: Vec<_> = due.into_iter().filter_map(kept).collect();
            (fired, kept)
        };
        for (topic, output) in fired {
            self.act(&topic, Some(output));
        }
        if let Err(error) = self.persist() {
            if !self.store.is_failing() {
                error!("{error:#}");
            }
            // Nothing of them may be sent.
            let mut state = self.state();
            for (topic, message) in kept {
                if !state.kept.contains_key(&topic) {
                    state.kept.insert(topic.clone(), message);
                    state.late.insert(topic);
                }
            }
            return true;
        }
        let mut late = false;
        for (topic, mut message) in kept {
            // Before it is sent, so that a cut is after it.
            self.state().settle(&topic, OWN_CONNECTION);
            let Err(error) = self.send(out, &topic, &mut message) else { continue };
            let mut state = self.state();
            // If not, a newer one has been sent meanwhile.
            let newest = state.settled.get(&topic) == Some(&OWN_CONNECTION);
            if newest {
                // The next one is sent whatever it is.
                state.settled.remove(&topic);
            }
            match error {
                Unsent::NotYet(reason) => {
                    debug!(topic, reason, "a reading that waited for min_interval_ms has to wait longer");
                    if newest && !state.kept.contains_key(&topic) {
                        state.kept.insert(topic.clone(), message);
                        state.late.insert(topic);
                        late = true;
                    }
                }
                Unsent::Refused(reason) => {
                    warn!(topic, reason, "a reading that waited for min_interval_ms was not sent");
                }
            }
        }
        let archives_wait = self.send_archives(out, now);
        self.tell(out, now) || archives_wait || late || again
    }

    fn try_waiting(&self, data: &DataPlane) -> bool {
        let mut watch = self.watching();
        for (message, tries) in std::mem::take(&mut watch.waiting) {
            if self.take_in(data, &mut watch.opener, &message).is_some() && tries < MAX_TRIES {
                watch.waiting.push_back((message, tries + 1));
            }
        }
        !watch.waiting.is_empty()
    }

    /// Publishes alarms and their ends. `true` if one must be tried again.
    fn tell(&self, out: &Outlet, now: u64) -> bool {
        let due = self.state().alarms.due(now);
        let mut undone = false;
        for alarm in due {
            let topic = self.rules.alarm_topic(self.device.as_str(), &alarm.topic);
            let payload = Bytes::from(serde_json::to_vec(&alarm).unwrap_or_default());
            let mut props = Properties::new();
            marks::add(&mut props, marks::ALARM, "1");
            marks::set_type(&mut props, "application/json");
            let props = props.encode().unwrap_or_default();
            let over = alarm.over_ms.is_some();
            let mut sent = self.send(out, &topic, &mut Own { retain: !over, props, payload, recorded: None });
            if over && sent.is_ok() {
                // Nobody could tell the broker's empty message from a forged one: the end is said before it, sealed.
                let mut empty = Own { retain: true, props: Bytes::new(), payload: Bytes::new(), recorded: None };
                sent = self.send(out, &topic, &mut empty);
            }
            match sent {
                Ok(()) => self.state().alarms.told(&alarm, now),
                Err(error) => {
                    debug!(topic, %error, "an alarm waits");
                    undone = true;
                }
            }
        }
        undone
    }

    /// Seals a message and publishes it over the agent's own connection.
    pub(super) fn send(&self, out: &Outlet, topic: &str, message: &mut Own) -> Result<(), Unsent> {
        let frame = self.prepare(out, topic, message)?;
        out.link.publish(topic, message.retain, frame).map_err(|error| Unsent::NotYet(error.to_string()))
    }

    /// The same; gives what the broker will say of it.
    pub(super) fn send_told(&self, out: &Outlet, topic: &str, message: &mut Own) -> Result<Answer, Unsent> {
        let frame = self.prepare(out, topic, message)?;
        out.link.publish_told(topic, message.retain, frame).map_err(|error| Unsent::NotYet(error.to_string()))
    }

    /// Seals a message, and stores what has to be on disk before it leaves.
    fn prepare(&self, out: &Outlet, topic: &str, message: &mut Own) -> Result<Vec<u8>, Unsent> {
        let Own { retain, props, payload, recorded } = message;
        let retain = *retain;
        // A prefix may have made it too long, and the connection would cut it off to the name of another one.
        TopicName::new(topic).map_err(|error| Unsent::Refused(error.to_string()))?;
        check_carried(topic).map_err(|error| Unsent::Refused(error.to_string()))?;
        let group = match out.data.route(topic) {
            Route::Group(group) => group,
            Route::Behind(reason) => return Err(Unsent::NotYet(reason)),
            _ => {
                let reason = format!("no group covers {topic}: create a group with a filter that matches it");
                return Err(Unsent::Refused(reason));
            }
        };
        let now = now_ms();
        let frame = if payload.is_empty() {
            Vec::new()
        } else {
            let class = QosClass::Acknowledged;
            let content = Content { purpose: Purpose::Message, class, retain, props, payload };
            out.data.seal(group, topic, &content, now).map_err(|denied| match denied {
                Denied::Refused(reason) => Unsent::Refused(reason),
                denied => Unsent::NotYet(denied.to_string()),
            })?
        };
        if retain {
            let kept = Retained {
                topic: topic.to_owned(),
                time_ms: now,
                props: props.to_vec(),
                payload: Zeroizing::new(payload.to_vec()),
            };
            if !self.store.keep_retained(&kept).map_err(|error| Unsent::NotYet(format!("{error:#}")))? {
                return Err(Unsent::Refused(format!(
                    "{MAX_RETAINED} retained messages are kept already, which is the limit"
                )));
            }
        }
        // Once, if it has to be tried again.
        if let Some((original, at_ms)) = recorded {
            // On disk before the message goes out, as for one that a client publishes.
            let last = || out.data.last_sequence(group, topic);
            out.readings.record(topic, original, last, *at_ms).map_err(|error| Unsent::NotYet(error.to_string()))?;
        }
        *recorded = None;
        Ok(frame)
    }
}
