//! Retained messages: who may have how many, and which ones a filter matches.

use std::cell::Cell;
use std::ops::Bound;
use std::sync::Arc;

use super::Core;
use super::effects::JournalRecord;
use super::usage::{Class, Load};
use crate::cause::Cause;
use crate::message::Message;

impl Core {
    /// Whether `device` (or the hub) may have a retained message of so many bytes on `topic`, in place of what is there;
    /// else why not.
    pub(super) fn may_retain(&self, device: Option<&str>, topic: &str, bytes: usize) -> Result<(), &'static str> {
        let class = Class::of(&self.router, topic);
        let old = self.retained.get(topic);
        let fits = |mut load: Load, old: Option<&Arc<Message>>, limit: Load| {
            if let Some(old) = old {
                load.remove(old.cost());
            }
            load.has_room(1, bytes, limit)
        };
        if let Some(device) = device {
            let own = old.filter(|old| old.sender.as_deref() == Some(device));
            let limit = class.device_retained_limit(&self.limits);
            if !fits(self.usages.of(device).retained.of(class), own, limit) {
                return Err("the device has as many retained messages as one device may");
            }
        }
        if !fits(self.usages.retained(class), old, class.retained_limit(&self.limits)) {
            return Err("the broker has as many retained messages as it may");
        }
        Ok(())
    }

    pub(super) fn retain(&mut self, message: &Arc<Message>) {
        let allowed = self.may_retain(message.sender.as_deref(), &message.topic, message.cost());
        let class = Class::of(&self.router, &message.topic);
        if let Some(old) = self.retained.remove(&message.topic) {
            self.usages.retain_end(class, &old);
            if message.payload.is_empty() {
                self.fx.record(JournalRecord::RetainedEnd { topic: message.topic.clone() });
            }
        }
        if message.payload.is_empty() {
            return;
        }
        // Wills, the hub's own messages, and what an interceptor has changed have not been judged before.
        if let Err(reason) = allowed {
            let device = message.sender.as_deref().unwrap_or("hub");
            let code = Cause::RetainedFull;
            self.causes.add(code);
            tracing::warn!(%code, device, topic = %message.topic, "message delivered, but not retained: {reason}");
            self.fx.record(JournalRecord::RetainedEnd { topic: message.topic.clone() });
            return;
        }
        self.usages.retain(class, message);
        self.fx.record(JournalRecord::Retained(message.clone()));
        self.retained.insert(message.topic.clone(), message.clone());
    }

    /// Retained messages that match: only topics that begin as the filter does are looked at, and counted in `looked`.
    pub(super) fn retained_for<'a>(
        &'a self,
        filter: &'a str,
        looked: &'a Cell<usize>,
        now_ms: u64,
    ) -> impl Iterator<Item = &'a Arc<Message>> {
        let literal = filter.split(['+', '#']).next().unwrap_or(filter);
        // `a/#` matches `a` too.
        let prefix = literal.strip_suffix('/').filter(|_| literal.len() < filter.len()).unwrap_or(literal);
        let end = if literal.len() < filter.len() { Bound::Unbounded } else { Bound::Included(filter) };
        self.retained
            .range::<str, _>((Bound::Included(prefix), end))
            .take_while(move |(topic, _)| topic.starts_with(prefix))
            .inspect(|_| looked.set(looked.get() + 1))
            .filter(move |(topic, message)| self.router.filter_matches(filter, topic) && !message.expired(now_ms))
            .map(|(_, message)| message)
    }
}
