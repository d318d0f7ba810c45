//! `--window`: times of a recording that a person has labelled.

use sealcast_quality::Tried;

/// A part of the recording that is counted apart, by the device's stamps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Its first moment, Unix ms.
    pub from_ms: u64,
    /// Its last moment, Unix ms.
    pub to_ms: u64,
}

impl Window {
    /// Whether the reading is of it.
    pub fn holds(self, tried: &Tried) -> bool {
        (self.from_ms..=self.to_ms).contains(&tried.time_ms)
    }
}
