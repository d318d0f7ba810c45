//! What each device has of the broker, so that one device cannot fill the limits that all share.

use std::collections::HashMap;
use std::sync::Arc;

/// What one device has. Bounded by the limits on sessions and retained messages: who has nothing is not kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    pub sessions: usize,
    pub retained: usize,
    pub retained_bytes: usize,
}

#[derive(Default)]
pub(super) struct Usages(HashMap<Arc<str>, Usage>);

impl Usages {
    pub(super) fn of(&self, device: &str) -> Usage {
        self.0.get(device).copied().unwrap_or_default()
    }

    pub(super) fn change(&mut self, device: &Arc<str>, change: impl FnOnce(&mut Usage)) {
        let mut usage = self.of(device);
        change(&mut usage);
        if usage == Usage::default() {
            self.0.remove(device);
        } else {
            self.0.insert(device.clone(), usage);
        }
    }

    pub(super) fn session(&mut self, device: &Arc<str>) {
        self.change(device, |usage| usage.sessions += 1);
    }

    pub(super) fn session_end(&mut self, device: &Arc<str>) {
        self.change(device, |usage| usage.sessions = usage.sessions.saturating_sub(1));
    }

    /// The hub's own messages (`None`) are nobody's.
    pub(super) fn retained(&mut self, device: Option<&Arc<str>>, bytes: usize) {
        let Some(device) = device else { return };
        self.change(device, |usage| {
            usage.retained += 1;
            usage.retained_bytes = usage.retained_bytes.saturating_add(bytes);
        });
    }

    pub(super) fn retained_end(&mut self, device: Option<&Arc<str>>, bytes: usize) {
        let Some(device) = device else { return };
        self.change(device, |usage| {
            usage.retained = usage.retained.saturating_sub(1);
            usage.retained_bytes = usage.retained_bytes.saturating_sub(bytes);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_nothing_is_not_kept() {
        let mut usages = Usages::default();
        let device: Arc<str> = "1111".into();
        usages.session(&device);
        usages.retained(Some(&device), 10);
        usages.retained(None, 10);
        assert_eq!(usages.of("1111"), Usage { sessions: 1, retained: 1, retained_bytes: 10 });
        usages.session_end(&device);
        usages.retained_end(Some(&device), 10);
        assert_eq!((usages.of("1111"), usages.0.len()), (Usage::default(), 0));
    }
}
