//! The time, as the driver reads it.

/// Two clocks, read together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// The wall clock, Unix ms: what messages are stamped with and judged by. It may be set, forwards or back.
    pub unix_ms: u64,
    /// Since some moment before the first call, ms: what is waited by. It only goes forwards.
    pub run_ms: u64,
}
