//! One sender's window: which of its last counters one local client has seen, and which of those it acknowledged.

/// Counters that a window looks back: a message that was overtaken by one with a counter higher by this much is refused,
/// as it cannot be told from a replay any more.
///
/// There is a window for each class of QoS, but both classes, and all topics, count on one counter. In one class, messages
/// come out of order when (a) a topic is published with QoS 1 and subscribed with QoS 0, beside a topic of the same
/// sender that is subscribed with QoS 1: the broker queues the latter alone; (b) the session resumes and the broker sends
/// what was in flight again; (c) subscriptions overlap, are shared, or several brokers or upstream connections carry the
/// messages of one sender. So keep to one subscribed QoS for a sender's topics if queues may be longer than this, and
/// limit what is in flight (Receive Maximum) well below it.
pub const WINDOW: u32 = 1024;
const WORDS: usize = WINDOW as usize / 64;

/// What a window knows of a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// Never seen, or rather: newer than the window's oldest, and not in it.
    New,
    /// Handed to the client, which has not acknowledged it: the broker may send it again (DUP).
    Delivered,
    /// Handed to the client and done with, or too far back to tell: a replay.
    Done,
}

/// A sliding bitmap over one key's counters. [`Self::check`] changes nothing: a frame is marked once it was handed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayWindow {
    /// Largest counter seen; `None` before the first.
    top: Option<u32>,
    /// Bit `counter % WINDOW`, for counters in `top - WINDOW + 1 ..= top`.
    delivered: [u64; WORDS],
    acknowledged: [u64; WORDS],
}

impl Default for ReplayWindow {
    fn default() -> Self {
        Self::new()
    }
}

impl ReplayWindow {
    /// Bytes of [`Self::export`].
    pub const BYTES: usize = 5 + 2 * 8 * WORDS;

    /// Nothing seen.
    pub fn new() -> Self {
        Self { top: None, delivered: [0; WORDS], acknowledged: [0; WORDS] }
    }

    /// What is known of `counter`.
    pub fn check(&self, counter: u32) -> Seen {
        match self.top {
            None => Seen::New,
            Some(top) if counter > top => Seen::New,
            Some(top) if top - counter >= WINDOW => Seen::Done,
            Some(_) if is_set(&self.acknowledged, counter) => Seen::Done,
            Some(_) if is_set(&self.delivered, counter) => Seen::Delivered,
            Some(_) => Seen::New,
        }
    }

    /// `counter` was handed to the client.
    pub fn mark_delivered(&mut self, counter: u32) {
        if self.reach(counter) {
            set(&mut self.delivered, counter);
        }
    }

    /// `counter` was handed to the client and is done with: acknowledged, or QoS 0.
    pub fn mark_acknowledged(&mut self, counter: u32) {
        if self.reach(counter) {
            set(&mut self.delivered, counter);
            set(&mut self.acknowledged, counter);
        }
    }

    /// Largest counter seen.
    pub fn top(&self) -> Option<u32> {
        self.top
    }

    /// Appends [`Self::BYTES`] bytes.
    pub fn export(&self, out: &mut Vec<u8>) {
        out.push(self.top.is_some().into());
        out.extend_from_slice(&self.top.unwrap_or(0).to_be_bytes());
        for word in self.delivered.iter().chain(&self.acknowledged) {
            out.extend_from_slice(&word.to_be_bytes());
        }
    }

    /// Reads what [`Self::export`] wrote.
    pub fn import(bytes: &[u8; Self::BYTES]) -> Option<Self> {
        let ([some, top @ ..], words) = bytes.split_first_chunk::<5>()?;
        let mut window = Self::new();
        window.top = match some {
            0 => return Some(window),
            1 => Some(u32::from_be_bytes(*top)),
            _ => return None,
        };
        let (words, _) = words.as_chunks::<8>();
        for (word, bytes) in window.delivered.iter_mut().chain(&mut window.acknowledged).zip(words) {
            *word = u64::from_be_bytes(*bytes);
        }
        Some(window)
    }

    /// Slides the window up to `counter` if it is above; whether it is within.
    fn reach(&mut self, counter: u32) -> bool {
        let Some(top) = self.top else {
            self.top = Some(counter);
            return true;
        };
        if counter <= top {
            return top - counter < WINDOW;
        }
        if counter - top >= WINDOW {
            (self.delivered, self.acknowledged) = ([0; WORDS], [0; WORDS]);
        } else {
            for passed in top + 1..=counter {
                clear(&mut self.delivered, passed);
                clear(&mut self.acknowledged, passed);
            }
        }
        self.top = Some(counter);
        true
    }
}

fn place(counter: u32) -> (usize, u64) {
    let bit = counter % WINDOW;
    ((bit / 64) as usize, 1 << (bit % 64))
}

// `place` is below WORDS by construction, so indexing cannot panic.
fn is_set(bits: &[u64; WORDS], counter: u32) -> bool {
    let (word, bit) = place(counter);
    bits[word] & bit != 0
}

fn set(bits: &mut [u64; WORDS], counter: u32) {
    let (word, bit) = place(counter);
    bits[word] |= bit;
}

fn clear(bits: &mut [u64; WORDS], counter: u32) {
    let (word, bit) = place(counter);
    bits[word] &= !bit;
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Deliver(u32),
        Acknowledge(u32),
        Restart,
    }

    fn step() -> impl Strategy<Value = Step> {
        let counter = prop_oneof![0..3000u32, 0..64u32, (1 << 24) - 2000..1u32 << 24];
        prop_oneof![
            6 => counter.clone().prop_map(Step::Deliver),
            4 => counter.prop_map(Step::Acknowledge),
            1 => Just(Step::Restart),
        ]
    }

    proptest! {
        /// Against two sets that forget nothing.
        #[test]
        fn knows_what_the_model_knows(steps in proptest::collection::vec(step(), 1..200), probe in 0..3000u32) {
            let mut window = ReplayWindow::new();
            let (mut delivered, mut done) = (HashSet::new(), HashSet::new());
            let mut top = None;
            for step in steps {
                match step {
                    Step::Deliver(counter) | Step::Acknowledge(counter) => {
                        if top.is_none_or(|top| counter > top || top - counter < WINDOW) {
                            delivered.insert(counter);
                            if matches!(step, Step::Acknowledge(_)) {
                                done.insert(counter);
                            }
                        }
                        if matches!(step, Step::Deliver(_)) {
                            window.mark_delivered(counter);
                        } else {
                            window.mark_acknowledged(counter);
                        }
                        top = top.max(Some(counter));
                    }
                    Step::Restart => {
                        let mut bytes = Vec::new();
                        window.export(&mut bytes);
                        let bytes = bytes.as_slice().try_into().expect("as long as it says");
                        prop_assert_eq!(ReplayWindow::import(bytes), Some(window.clone()));
                    }
                }
                let near = top.unwrap_or(0);
                for counter in [probe, near, near.saturating_sub(1), near.saturating_sub(WINDOW - 1),
                                near.saturating_sub(WINDOW), near + 1] {
                    let expected = match top {
                        Some(top) if counter <= top && top - counter >= WINDOW => Seen::Done,
                        _ if done.contains(&counter) => Seen::Done,
                        _ if delivered.contains(&counter) => Seen::Delivered,
                        _ => Seen::New,
                    };
                    prop_assert_eq!(window.check(counter), expected, "counter {} top {:?}", counter, top);
                }
            }
        }
    }
}
