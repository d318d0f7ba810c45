//! Readings in their order, and the times between them.

use sealcast_reading::Value;

/// Most readings in one recording.
pub const MAX_READINGS: usize = 10_000_000;

/// One recorded reading.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    /// The device's stamp, Unix ms.
    pub time_ms: u64,
    /// Its value.
    pub value: Value,
}

/// Readings in the order in which they came.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Recording {
    /// The readings.
    pub readings: Vec<Recorded>,
}

impl Recording {
    /// The first part of it, `part` from 0 to 1: what rules are learnt from.
    pub fn first(&self, part: f64) -> Self {
        let count = (self.readings.len() as f64 * part.clamp(0.0, 1.0)) as usize;
        Self { readings: self.readings.iter().take(count).cloned().collect() }
    }

    /// The median time between readings; `None` with fewer than two, or if no stamp rises.
    pub fn period_ms(&self) -> Option<u64> {
        let mut gaps: Vec<u64> = self.gaps_ms().filter(|gap| *gap > 0).collect();
        gaps.sort_unstable();
        gaps.get(gaps.len() / 2).copied()
    }

    /// A time of arrival for each reading: they go on as the stamps do, and by one period where a stamp does not rise,
    /// since time itself never goes back.
    pub fn arrivals_ms(&self) -> Vec<u64> {
        let period_ms = self.period_ms().unwrap_or(1000);
        let mut now_ms = self.readings.first().map_or(0, |first| first.time_ms);
        let mut arrivals = Vec::with_capacity(self.readings.len());
        arrivals.extend(self.readings.first().map(|_| now_ms));
        for gap_ms in self.gaps_ms() {
            now_ms = now_ms.saturating_add(if gap_ms == 0 { period_ms } else { gap_ms });
            arrivals.push(now_ms);
        }
        arrivals
    }

    /// Between each two; 0 where the stamp does not rise.
    fn gaps_ms(&self) -> impl Iterator<Item = u64> {
        self.readings.iter().zip(self.readings.iter().skip(1)).map(|(a, b)| b.time_ms.saturating_sub(a.time_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_never_goes_back() {
        let recording = Recording::from_csv("10,1\n20,1\n30,1\n5,1\n15,1").unwrap();
        assert_eq!(recording.arrivals_ms(), [10_000, 20_000, 30_000, 40_000, 50_000]);
    }
}
