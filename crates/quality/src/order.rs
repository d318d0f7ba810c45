//! Stamps and counts that should rise: whether one goes back, repeats or leaves a gap.

use crate::{
    codec::{Reader, StateError, Writer},
    series::Stored,
};

/// The last stamp or count that was believed, and the one that goes against it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Order {
    last: Option<u64>,
    /// Below `last` and rising: how it went on, and for how many readings.
    rival: Option<(u64, u32)>,
}

/// How a stamp or count follows the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Follows {
    First,
    /// By how much it is ahead.
    Forward(u64),
    Same,
    /// The last one, and by how much this is behind.
    Back {
        last: u64,
        by: u64,
    },
    /// Was behind, and rose for so many readings that it is the new truth.
    Believed {
        readings: u32,
    },
}

impl Order {
    /// Judges `value` and remembers it. If `blocking`, one that goes back is believed only after `accept_after` rising
    /// ones, since a late message must not turn the clock back; else at once.
    pub fn follow(&mut self, value: u64, wrap: Option<u64>, blocking: bool, accept_after: u32) -> Follows {
        let value = wrap.map_or(value, |wrap| value % wrap);
        let Some(last) = self.last else {
            self.last = Some(value);
            return Follows::First;
        };
        // The rule may have had no wrap, or a larger one, when it was stored.
        let last = wrap.map_or(last, |wrap| last % wrap);
        if let (Some((before, _)), Some(wrap)) = (&mut self.rival, wrap) {
            *before %= wrap;
        }
        let (ahead, behind) = distance(last, value, wrap);
        if value == last {
            return Follows::Same;
        }
        if behind == 0 {
            self.last = Some(value);
            self.rival = None;
            return Follows::Forward(ahead);
        }
        let readings = match self.rival {
            Some((before, readings)) if distance(before, value, wrap).0 > 0 => readings.saturating_add(1),
            _ => 1,
        };
        let believed = readings >= accept_after;
        if !blocking || believed {
            self.last = Some(value);
            self.rival = None;
        } else {
            self.rival = Some((value, readings));
        }
        if blocking && believed { Follows::Believed { readings } } else { Follows::Back { last, by: behind } }
    }
}

/// How far `value` is ahead of `last`, or behind it; one of the two is 0.
fn distance(last: u64, value: u64, wrap: Option<u64>) -> (u64, u64) {
    match wrap {
        None => (value.saturating_sub(last), last.saturating_sub(value)),
        Some(wrap) => {
            // Both are below `wrap`.
            let ahead = if value >= last { value - last } else { wrap - last + value };
            if ahead <= wrap / 2 { (ahead, 0) } else { (0, wrap - ahead) }
        }
    }
}

impl Stored for Order {
    fn write(&self, out: &mut Writer) {
        out.option(self.last, Writer::varint);
        out.option(self.rival, |out, (value, readings)| {
            out.varint(value);
            out.varint(readings.into());
        });
    }

    fn read(bytes: &mut Reader<'_>) -> Result<Self, StateError> {
        Ok(Self {
            last: bytes.option(Reader::varint)?,
            rival: bytes.option(|bytes| Ok((bytes.varint()?, bytes.u32()?)))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(values: &[u64], wrap: Option<u64>, blocking: bool, last: Follows) {
        let mut order = Order::default();
        let found = values.iter().map(|value| order.follow(*value, wrap, blocking, 3)).last();
        assert_eq!(found, Some(last), "{values:?}");
    }

    #[test]
    fn follows() {
        check(&[5], None, false, Follows::First);
        check(&[5, 9], None, false, Follows::Forward(4));
        check(&[5, 5], None, false, Follows::Same);
        check(&[9, 5], None, false, Follows::Back { last: 9, by: 4 });
        check(&[9, 5, 6], None, false, Follows::Forward(1));
        check(&[9, 5, 6], None, true, Follows::Back { last: 9, by: 3 });
        check(&[9, 5, 6, 7], None, true, Follows::Believed { readings: 3 });
        check(&[9, 5, 6, 7, 8], None, true, Follows::Forward(1));
        check(&[9, 5, 6, 10, 7], None, true, Follows::Back { last: 10, by: 3 });
        check(&[254, 255, 0], Some(256), false, Follows::Forward(1));
        check(&[3, 254], Some(256), false, Follows::Back { last: 3, by: 5 });
        check(&[u64::MAX, 0], Some(u64::MAX), false, Follows::Same);
    }
    #[test]
    fn a_wrap_may_be_new() {
        let mut order = Order::default();
        order.follow(1000, None, true, 3);
        order.follow(900, None, true, 3);
        assert_eq!(order.follow(9, Some(16), true, 3), Follows::Forward(1), "1000 is 8 now");
        assert_eq!(order.follow(8, Some(16), true, 3), Follows::Back { last: 9, by: 1 });
    }
}
