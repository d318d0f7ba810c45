//! Messages that the agent's own connection brought, and that wait for a key.

use std::collections::VecDeque;

use bytes::Bytes;

use super::retry::Retry;

/// Messages that wait.
const MAX_MESSAGES: usize = 256;
/// Their bytes: the broker can have any number of large ones wait.
const MAX_BYTES: usize = 8 << 20;
/// How often each is tried: for a minute.
const MAX_TRIES: u32 = 60;

/// A message that the agent's own connection brought.
#[derive(Debug, Clone)]
pub struct Brought {
    /// Its topic.
    pub topic: String,
    /// Its bytes.
    pub payload: Bytes,
    /// Whether the broker had kept it.
    pub retain: bool,
    /// QoS 1, and whether it may have come before; `None` for QoS 0.
    pub dup: Option<bool>,
}

/// See the module.
#[derive(Default)]
pub(super) struct Waiting {
    /// With how often each was tried.
    messages: VecDeque<(Brought, u32)>,
    retry: Retry,
}

impl Waiting {
    /// A message waits, if there is room for it and it has not been tried too often.
    pub fn push(&mut self, message: Brought, tries: u32, now_ms: u64) {
        if tries > MAX_TRIES || !self.has_room(message.payload.len()) {
            return;
        }
        if self.messages.is_empty() {
            self.retry.begin(now_ms);
        }
        self.messages.push_back((message, tries));
    }

    /// Those that are to be tried now, with how often they were.
    pub fn take(&mut self, now_ms: u64) -> VecDeque<(Brought, u32)> {
        if self.retry.is_too_early(now_ms) { VecDeque::new() } else { std::mem::take(&mut self.messages) }
    }

    /// When some are to be tried, Unix ms.
    pub fn poll_timeout(&self) -> Option<u64> {
        (!self.messages.is_empty()).then(|| self.retry.not_before(0))
    }

    fn has_room(&self, bytes: usize) -> bool {
        let waiting: usize = self.messages.iter().map(|(message, _)| message.payload.len()).sum();
        self.messages.len() < MAX_MESSAGES && waiting + bytes <= MAX_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_for_a_key_is_bounded() {
        let brought = |bytes: usize| {
            let payload = Bytes::from(vec![0; bytes]);
            (Brought { topic: "t".into(), payload, retain: false, dup: None }, 0)
        };
        let mut waiting = Waiting::default();
        assert!(waiting.has_room(MAX_BYTES) && !waiting.has_room(MAX_BYTES + 1));
        waiting.messages.push_back(brought(MAX_BYTES - 10));
        assert!(waiting.has_room(10) && !waiting.has_room(11));
        waiting.messages = (0..MAX_MESSAGES).map(|_| brought(1)).collect();
        assert!(!waiting.has_room(1));
    }
}
