//! How often readings come: learnt from their arrivals.

use std::collections::VecDeque;

use crate::{
    codec::{Reader, StateError, Writer},
    series::Stored,
};

/// How many gaps are looked back at.
const WINDOW: usize = 15;
/// From how many gaps on a period is given.
const ENOUGH: usize = 4;

/// The cycle of one topic: the median of its last 15 gaps, which one late or lost message does not move.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Cycle {
    last_ms: Option<u64>,
    gaps_ms: VecDeque<u64>,
    median_ms: Option<u64>,
}

impl Cycle {
    /// A reading came.
    pub fn observe(&mut self, now_ms: u64) {
        if let Some(last) = self.last_ms {
            // A clock that was set back gives no gap.
            if let Some(gap) = now_ms.checked_sub(last) {
                if self.gaps_ms.len() >= WINDOW {
                    self.gaps_ms.pop_front();
                }
                self.gaps_ms.push_back(gap);
                self.median_ms = self.median();
            }
        }
        self.last_ms = Some(now_ms);
    }

    /// The learnt period in ms; `None` until five readings came.
    pub fn period_ms(&self) -> Option<u64> {
        self.median_ms
    }

    /// The largest difference of a remembered gap from the period.
    pub fn jitter_ms(&self) -> Option<u64> {
        let period = self.period_ms()?;
        self.gaps_ms.iter().map(|gap| gap.abs_diff(period)).max()
    }

    /// When the last reading came.
    pub fn last_ms(&self) -> Option<u64> {
        self.last_ms
    }

    /// `count` periods in ms, if the period is known.
    pub(crate) fn periods_ms(&self, count: f64) -> Option<u64> {
        // Saturates, which is what a limit may do.
        self.period_ms().map(|period| (period.max(1) as f64 * count) as u64)
    }

    fn median(&self) -> Option<u64> {
        if self.gaps_ms.len() < ENOUGH {
            return None;
        }
        let mut sorted = [0_u64; WINDOW];
        let sorted = sorted.get_mut(..self.gaps_ms.len())?;
        for (slot, gap) in sorted.iter_mut().zip(&self.gaps_ms) {
            *slot = *gap;
        }
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied()
    }
}

impl Stored for Cycle {
    fn write(&self, out: &mut Writer) {
        out.option(self.last_ms, Writer::varint);
        out.varint(self.gaps_ms.len() as u64);
        for gap in &self.gaps_ms {
            out.varint(*gap);
        }
    }

    fn read(bytes: &mut Reader<'_>) -> Result<Self, StateError> {
        let last_ms = bytes.option(Reader::varint)?;
        let count = bytes.varint()?;
        if count > WINDOW as u64 {
            return Err(StateError);
        }
        let gaps_ms = (0..count).map(|_| bytes.varint()).collect::<Result<_, _>>()?;
        let mut cycle = Self { last_ms, gaps_ms, median_ms: None };
        cycle.median_ms = cycle.median();
        Ok(cycle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_lost_message_does_not_move_it() {
        let mut cycle = Cycle::default();
        for at in [0, 1000, 2010, 2990] {
            cycle.observe(at);
        }
        assert_eq!(cycle.period_ms(), None);
        cycle.observe(4000);
        cycle.observe(14_000);
        cycle.observe(15_000);
        assert_eq!(cycle.period_ms(), Some(1010));
        assert_eq!(cycle.jitter_ms(), Some(8990));
        cycle.observe(3_000);
        assert_eq!(cycle.period_ms(), Some(1010));
        assert_eq!(cycle.periods_ms(2.5), Some(2525));
    }
}
