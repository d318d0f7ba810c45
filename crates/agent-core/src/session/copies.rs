//! Messages that a client is to have more than once, because several of its filters match them.
//!
//! MQTT lets a broker send a copy for each such filter (MQTT 5 3.3.4). They are one sealed frame, so to the replay windows
//! all but the first are replays. What is noted here says how many copies there may be, and how many there were: those are
//! let past the windows, and no other. Of a frame that is not noted the windows decide alone.

use std::collections::{HashMap, VecDeque};

/// Frames that are noted for one client, as many as a replay window looks back. Of a frame that more of them have overtaken,
/// no further copy is taken.
const MAX_COPIED: usize = 1024;

/// Tells sealed frames apart: the authentication tag at their end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FrameId([u8; 16]);

impl FrameId {
    /// Of a frame; of something that is too short for one, zeros.
    pub fn of(frame: &[u8]) -> Self {
        Self(frame.last_chunk().copied().unwrap_or_default())
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Copies {
    frames: HashMap<FrameId, Copied>,
    /// The oldest first.
    order: VecDeque<FrameId>,
}

/// Copies of one frame.
#[derive(Debug, Clone, Copy)]
struct Copied {
    allowed: usize,
    handed_on: usize,
    /// The client has them for good: acknowledged, or QoS 0.
    done: usize,
}

impl Copies {
    /// Whether the client is to have another copy of a frame that it was given before.
    pub(super) fn expects(&self, frame: FrameId) -> bool {
        self.frames.get(&frame).is_some_and(|copied| copied.handed_on < copied.allowed)
    }

    /// Whether the frame is noted.
    pub(super) fn knows(&self, frame: FrameId) -> bool {
        self.frames.contains_key(&frame)
    }

    /// The client was given a copy, of as many as `allowed`.
    pub(super) fn hand_on(&mut self, frame: FrameId, allowed: usize) {
        if let Some(copied) = self.frames.get_mut(&frame) {
            copied.handed_on += 1;
        } else if allowed > 1 {
            if self.order.len() >= MAX_COPIED
                && let Some(oldest) = self.order.pop_front()
            {
                self.frames.remove(&oldest);
            }
            self.frames.insert(frame, Copied { allowed, handed_on: 1, done: 0 });
            self.order.push_back(frame);
        }
    }

    /// The client has a copy for good. Whether it has all that it was given: as long as it has not, the broker may send one
    /// of them again.
    pub(super) fn finish(&mut self, frame: FrameId) -> bool {
        let Some(copied) = self.frames.get_mut(&frame) else { return true };
        copied.done += 1;
        copied.done >= copied.handed_on
    }

    /// The broker has forgotten the session, and with it what it was to send.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(number: u32) -> FrameId {
        FrameId::of(&[&[0; 12][..], &number.to_be_bytes()].concat())
    }

    #[test]
    fn as_many_as_filters_match_and_no_more() {
        let mut copies = Copies::default();
        assert!(!copies.expects(frame(1)), "the windows decide on the first");
        for expected in [true, true, false] {
            copies.hand_on(frame(1), 3);
            assert_eq!(copies.expects(frame(1)), expected);
        }
        copies.hand_on(frame(2), 1);
        assert!(!copies.knows(frame(2)), "one of its kind");
    }

    #[test]
    fn it_is_done_with_when_the_client_has_all_that_it_was_given() {
        let mut copies = Copies::default();
        assert!(copies.finish(frame(1)), "not noted");
        copies.hand_on(frame(1), 3);
        copies.hand_on(frame(1), 3);
        assert_eq!((copies.finish(frame(1)), copies.finish(frame(1))), (false, true));
    }

    #[test]
    fn they_are_bounded() {
        let mut copies = Copies::default();
        (0..2000).for_each(|number| copies.hand_on(frame(number), 2));
        assert_eq!((copies.frames.len(), copies.order.len()), (MAX_COPIED, MAX_COPIED));
        assert!(!copies.expects(frame(0)) && copies.expects(frame(1999)));
    }
}
