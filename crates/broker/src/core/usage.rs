//! What each device has of the broker, so that one device cannot fill the limits that all share, and control traffic
//! does not compete with application traffic for them.

use std::collections::HashMap;
use std::sync::Arc;

use crate::config::{ClassLimits, Limits};
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

/// What one device has. Bounded by the limits on sessions and retained messages: who has nothing is not kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    /// Sessions in the common quota.
    pub sessions: usize,
    /// Sessions in places that are reserved for control connections.
    pub control_sessions: usize,
    pub retained: Loads,
}

#[derive(Default)]
pub(super) struct Usages {
    devices: HashMap<Arc<str>, Usage>,
    /// What all devices and the hub have retained.
    retained: Loads,
}

impl Usages {
    pub(super) fn of(&self, device: &str) -> Usage {
        self.devices.get(device).copied().unwrap_or_default()
    }

    pub(super) fn retained(&self, class: Class) -> Load {
        self.retained.of(class)
    }

    fn change(&mut self, device: &Arc<str>, change: impl FnOnce(&mut Usage)) {
        let mut usage = self.of(device);
        change(&mut usage);
        if usage == Usage::default() {
            self.devices.remove(device);
        } else {
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
    use super::*;
    use crate::message::{MessageProperties, Qos};

    #[test]
    fn who_has_nothing_is_not_kept() {
        let mut usages = Usages::default();
        let device: Arc<str> = "1111".into();
        let message = |sender: Option<&Arc<str>>| Message {
            seq: 1,
            topic: "a".into(),
            payload: bytes::Bytes::new(),
            qos: Qos::AtLeastOnce,
            retain: true,
            properties: MessageProperties::default(),
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
