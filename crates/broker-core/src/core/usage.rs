//! What each device has of the broker, so that one device cannot fill the limits that all share, and control traffic
//! does not compete with application traffic for them.

use std::collections::HashMap;
use std::sync::Arc;

use crate::limits::{ClassLimits, Limits};
use crate::message::Message;
use crate::router::Router;

/// What a message is for. Each class has limits of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Topics of the devices' own clients.
    Application,
    /// Topics below a reserved level: keys, Welcomes, the ledger.
    Control,
}

impl Class {
    pub(super) fn of(router: &Router, topic: &str) -> Self {
        if router.is_control(topic) { Self::Control } else { Self::Application }
    }

    fn limits(self, limits: &Limits) -> &ClassLimits {
        match self {
            Self::Application => &limits.application,
            Self::Control => &limits.control,
        }
    }

    /// What may wait for one session.
    pub(super) fn queue_limit(self, limits: &Limits) -> Load {
        let limits = self.limits(limits);
        Load { messages: limits.max_queued_messages, bytes: limits.max_queued_bytes }
    }

    /// What may wait for all sessions of one device, or be in flight to them.
    pub(super) fn device_queued_limit(self, limits: &Limits) -> Load {
        let limits = self.limits(limits);
        Load { messages: limits.max_device_queued_messages, bytes: limits.max_device_queued_bytes }
    }

    /// The same for all devices together.
    pub(super) fn total_queued_limit(self, limits: &Limits) -> Load {
        let limits = self.limits(limits);
        Load { messages: limits.max_total_queued_messages, bytes: limits.max_total_queued_bytes }
    }

    /// What all devices may have retained.
    pub(super) fn retained_limit(self, limits: &Limits) -> Load {
        let limits = self.limits(limits);
        Load { messages: limits.max_retained, bytes: limits.max_retained_bytes }
    }

    /// What one device may have retained.
    pub(super) fn device_retained_limit(self, limits: &Limits) -> Load {
        let limits = self.limits(limits);
        Load { messages: limits.max_device_retained, bytes: limits.max_device_retained_bytes }
    }
}

/// Messages and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Load {
    pub messages: usize,
    pub bytes: usize,
}

impl Load {
    pub(super) fn add(&mut self, bytes: usize) {
        self.messages += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }

    pub(super) fn remove(&mut self, bytes: usize) {
        self.messages = self.messages.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// Whether `messages` more with so many bytes stay within `limit`.
    pub(super) fn has_room(self, messages: usize, bytes: usize, limit: Self) -> bool {
        self.messages.saturating_add(messages) <= limit.messages && self.bytes.saturating_add(bytes) <= limit.bytes
    }

    /// The greater of both in each.
    pub(super) fn max(self, other: Self) -> Self {
        Self { messages: self.messages.max(other.messages), bytes: self.bytes.max(other.bytes) }
    }

    /// How much of `limit` it is, to compare with others: the greater of its two parts.
    pub(super) fn part_of(self, limit: Self) -> usize {
        let part = |have: usize, limit: usize| have.saturating_mul(1 << 20) / limit.max(1);
        part(self.messages, limit.messages).max(part(self.bytes, limit.bytes))
    }

    /// Whether it is at most three quarters of `limit`.
    pub(super) fn is_low(self, limit: Self) -> bool {
        self.messages <= limit.messages / 4 * 3 && self.bytes <= limit.bytes / 4 * 3
    }
}

/// A [`Load`] for each class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Loads {
    application: Load,
    control: Load,
}

impl Loads {
    pub(super) fn of(&self, class: Class) -> Load {
        match class {
            Class::Application => self.application,
            Class::Control => self.control,
        }
    }

    pub(super) fn of_mut(&mut self, class: Class) -> &mut Load {
        match class {
            Class::Application => &mut self.application,
            Class::Control => &mut self.control,
        }
    }
}

/// What there is no room in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bound {
    /// The queue of a session.
    Session,
    /// The queues of a device's sessions together.
    Device,
    /// The queues of all sessions together.
    Total,
}

/// How often something has been turned away since the operator was told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Reminder {
    told_ms: Option<u64>,
    turned_away: u64,
}

/// The operator is reminded this often.
const REMIND_MS: u64 = 60_000;

impl Reminder {
    /// Counts one more; how many there were, if the operator is to be told now.
    pub(super) fn count(&mut self, now_ms: u64) -> Option<u64> {
        self.turned_away += 1;
        if self.told_ms.is_some_and(|at| now_ms.saturating_sub(at) < REMIND_MS) {
            return None;
        }
        self.told_ms = Some(now_ms);
        Some(std::mem::take(&mut self.turned_away))
    }
}

/// What one device has. Bounded by the limits on sessions and retained messages: who has nothing is not kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    /// Sessions in the common quota.
    pub sessions: usize,
    /// Sessions in places that are reserved for control connections.
    pub control_sessions: usize,
    pub retained: Loads,
    /// What waits for its sessions or is in flight to them.
    pub queued: Loads,
    /// What of it is given up first when there is no room.
    surplus: Loads,
    /// Somebody waits until its queues have room.
    blocked: Option<Reminder>,
}

#[derive(Default)]
pub(super) struct Usages {
    devices: HashMap<Arc<str>, Usage>,
    /// What all devices and the hub have retained.
    retained: Loads,
    /// What waits for all sessions or is in flight to them.
    queued: Loads,
    /// What of it is given up first when there is no room.
    surplus: Loads,
    /// Somebody waits until there is room in that.
    blocked: Option<Reminder>,
}

impl Usages {
    pub(super) fn of(&self, device: &str) -> Usage {
        self.devices.get(device).copied().unwrap_or_default()
    }

    pub(super) fn retained(&self, class: Class) -> Load {
        self.retained.of(class)
    }

    pub(super) fn queued(&self, class: Class) -> Load {
        self.queued.of(class)
    }

    /// The device that has the most of what is given up first when all queues together are full.
    pub(super) fn largest_surplus(&self, class: Class, limits: &Limits) -> Option<&Arc<str>> {
        // Every message that is turned away asks: devices are looked through only if a session ends by it.
        if self.surplus.of(class).messages == 0 {
            return None;
        }
        let limit = class.total_queued_limit(limits);
        let some = self.devices.iter().filter(|(_, usage)| usage.surplus.of(class).messages > 0);
        some.max_by_key(|(device, usage)| (usage.surplus.of(class).part_of(limit), *device)).map(|(device, _)| device)
    }

    pub(super) fn queue(&mut self, device: &Arc<str>, class: Class, bytes: usize, surplus: bool) {
        self.queued.of_mut(class).add(bytes);
        if surplus {
            self.surplus.of_mut(class).add(bytes);
        }
        self.change(device, |usage| {
            usage.queued.of_mut(class).add(bytes);
            if surplus {
                usage.surplus.of_mut(class).add(bytes);
            }
        });
    }

    pub(super) fn queue_end(&mut self, device: &Arc<str>, class: Class, bytes: usize, surplus: bool) {
        self.leave(class, bytes, surplus);
        self.left_end(device, class, bytes, surplus);
    }

    /// What an ended session has left, until another gets it, leaves room to all, and none to its device: that must not
    /// fill its queues again and again meanwhile.
    pub(super) fn leave(&mut self, class: Class, bytes: usize, surplus: bool) {
        self.queued.of_mut(class).remove(bytes);
        if surplus {
            self.surplus.of_mut(class).remove(bytes);
        }
    }

    pub(super) fn left_end(&mut self, device: &Arc<str>, class: Class, bytes: usize, surplus: bool) {
        self.change(device, |usage| {
            usage.queued.of_mut(class).remove(bytes);
            if surplus {
                usage.surplus.of_mut(class).remove(bytes);
            }
        });
    }

    /// The bound that so much more for a device would pass. A bound lower than `least` counts as that.
    pub(super) fn passed(&self, device: &str, class: Class, more: Load, least: Load, limits: &Limits) -> Option<Bound> {
        let fits = |queued: Loads, limit: Load| queued.of(class).has_room(more.messages, more.bytes, limit.max(least));
        if !fits(self.of(device).queued, class.device_queued_limit(limits)) {
            return Some(Bound::Device);
        }
        (!fits(self.queued, class.total_queued_limit(limits))).then_some(Bound::Total)
    }

    /// Somebody waits for room in the queues of a device, or of all.
    pub(super) fn block(&mut self, device: &str, bound: Bound) -> Option<&mut Reminder> {
        match bound {
            Bound::Session => None,
            Bound::Device => Some(self.devices.get_mut(device)?.blocked.get_or_insert_default()),
            Bound::Total => Some(self.blocked.get_or_insert_default()),
        }
    }

    /// Whether somebody must wait on for a device whose session has room itself: application traffic alone waits.
    pub(super) fn is_blocked(&mut self, device: &str, limits: &Limits) -> bool {
        let class = Class::Application;
        for (queued, limit, bound) in [
            (self.of(device).queued, class.device_queued_limit(limits), Bound::Device),
            (self.queued, class.total_queued_limit(limits), Bound::Total),
        ] {
            if !queued.of(class).is_low(limit) {
                self.block(device, bound);
                return true;
            }
        }
        false
    }

    /// Whether those who wait for a device may go on: once its queues are low again.
    pub(super) fn unblock(&mut self, device: &str, limits: &Limits) -> bool {
        let class = Class::Application;
        let blocked = self.devices.get_mut(device).filter(|usage| usage.blocked.is_some());
        let low = |usage: &&mut Usage| usage.queued.of(class).is_low(class.device_queued_limit(limits));
        let Some(usage) = blocked.filter(low) else { return false };
        usage.blocked = None;
        if *usage == Usage::default() {
            self.devices.remove(device);
        }
        true
    }

    /// The same for those who wait for room in all queues together.
    pub(super) fn unblock_all(&mut self, limits: &Limits) -> bool {
        let class = Class::Application;
        let low = self.queued.of(class).is_low(class.total_queued_limit(limits));
        low && self.blocked.take().is_some()
    }

    fn change(&mut self, device: &Arc<str>, change: impl FnOnce(&mut Usage)) {
        if let Some(usage) = self.devices.get_mut(device) {
            change(usage);
            if *usage == Usage::default() {
                self.devices.remove(device);
            }
            return;
        }
        let mut usage = Usage::default();
        change(&mut usage);
        if usage != Usage::default() {
            self.devices.insert(device.clone(), usage);
        }
    }

    pub(super) fn session(&mut self, device: &Arc<str>, reserved: bool) {
        self.change(device, |usage| match reserved {
            true => usage.control_sessions += 1,
            false => usage.sessions += 1,
        });
    }

    pub(super) fn session_end(&mut self, device: &Arc<str>, reserved: bool) {
        self.change(device, |usage| match reserved {
            true => usage.control_sessions = usage.control_sessions.saturating_sub(1),
            false => usage.sessions = usage.sessions.saturating_sub(1),
        });
    }

    /// The hub's own messages are nobody's.
    pub(super) fn retain(&mut self, class: Class, message: &Message) {
        self.retained.of_mut(class).add(message.cost());
        if let Some(device) = &message.sender {
            self.change(device, |usage| usage.retained.of_mut(class).add(message.cost()));
        }
    }

    pub(super) fn retain_end(&mut self, class: Class, message: &Message) {
        self.retained.of_mut(class).remove(message.cost());
        if let Some(device) = &message.sender {
            self.change(device, |usage| usage.retained.of_mut(class).remove(message.cost()));
        }
    }
}

#[cfg(test)]
mod tests {
    use sealcast_mqtt::{Properties, Qos, TopicName};

    use super::*;

    #[test]
    fn who_has_nothing_is_not_kept() {
        let mut usages = Usages::default();
        let device: Arc<str> = "1111".into();
        let message = |sender: Option<&Arc<str>>| Message {
            seq: 1,
            topic: TopicName::new("a").unwrap(),
            payload: bytes::Bytes::new(),
            qos: Qos::AtLeastOnce,
            retain: true,
            properties: Properties::new(),
            expires_ms: None,
            sender: sender.cloned(),
        };
        let (own, hubs) = (message(Some(&device)), message(None));
        usages.session(&device, false);
        usages.session(&device, true);
        usages.retain(Class::Control, &own);
        usages.retain(Class::Control, &hubs);
        let usage = usages.of("1111");
        assert_eq!((usage.sessions, usage.control_sessions), (1, 1));
        assert_eq!(usage.retained.of(Class::Control), Load { messages: 1, bytes: own.cost() });
        assert_eq!(usage.retained.of(Class::Application), Load::default());
        assert_eq!(usages.retained(Class::Control).messages, 2);
        usages.session_end(&device, false);
        usages.session_end(&device, true);
        usages.retain_end(Class::Control, &own);
        usages.retain_end(Class::Control, &hubs);
        assert_eq!((usages.of("1111"), usages.devices.len()), (Usage::default(), 0));
        assert_eq!(usages.retained(Class::Control), Load::default());
    }
}
