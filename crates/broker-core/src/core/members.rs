//! Who is in which group. The policy is asked once for each device and group, until its rules change: each delivery asks.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use crate::policy::Policy;

/// Answers that are kept at a time.
const MAX_KNOWN: usize = 65_536;

/// See the module.
pub(super) struct Members {
    policy: Arc<dyn Policy>,
    /// Of the policy's rules by which the answers are.
    version: u64,
    known: RefCell<Known>,
}

#[derive(Default)]
struct Known {
    /// By group and device.
    answers: HashMap<u64, HashMap<Arc<str>, bool>>,
    number: usize,
}

impl Members {
    pub(super) fn new(policy: Arc<dyn Policy>) -> Self {
        Self { version: policy.version(), policy, known: RefCell::default() }
    }

    /// Forgets answers by rules that have changed. To be called before each event.
    pub(super) fn refresh(&mut self) {
        let version = self.policy.version();
        if version != self.version {
            *self = Self { version, policy: self.policy.clone(), known: RefCell::default() };
        }
    }

    pub(super) fn include(&self, device: &str, group: u64) -> bool {
        let mut known = self.known.borrow_mut();
        if let Some(answer) = known.answers.get(&group).and_then(|devices| devices.get(device)) {
            return *answer;
        }
        if known.number >= MAX_KNOWN {
            *known = Known::default();
        }
        let answer = self.policy.is_member(device, group);
        known.answers.entry(group).or_default().insert(device.into(), answer);
        known.number += 1;
        answer
    }

    /// Whether messages for a group go to nobody else.
    pub(super) fn are_exclusive(&self) -> bool {
        self.policy.members_only()
    }

    /// Whether a message for this group, or for anybody, goes to a device.
    pub(super) fn may_receive(&self, device: &str, group: Option<u64>) -> bool {
        group.is_none_or(|group| !self.are_exclusive() || self.include(device, group))
    }
}
