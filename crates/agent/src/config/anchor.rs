//! Whether what a device sends is anchored on the ledger.

use anyhow::{Result, ensure};
use sealcast_agent_core::AnchorRules;
use serde::Deserialize;

const DAY_MS: u64 = 86_400_000;

/// `[anchor]`: each anchor is an entry on the ledger.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AnchorFile {
    /// A group's messages are anchored when there are so many new ones. Default 1,000.
    every_messages: u64,
    /// Or when the first of the new ones is so many seconds old. Default 600.
    every_s: u64,
    /// For how many days messages are kept for proofs. Default 30.
    keep_days: u64,
    /// Whether their payloads are kept, too, or only digests. Default true.
    payloads: bool,
}

impl Default for AnchorFile {
    fn default() -> Self {
        Self { every_messages: 1_000, every_s: 600, keep_days: 30, payloads: true }
    }
}

impl AnchorFile {
    /// Checks every value.
    pub fn validate(self) -> Result<AnchorRules> {
        let Self { every_messages, every_s, keep_days, payloads } = self;
        ensure!((1..=1_000_000).contains(&every_messages), "anchor: every_messages must be from 1 to 1000000");
        ensure!((10..=604_800).contains(&every_s), "anchor: every_s must be from 10 to 604800, which is a week");
        ensure!((1..=36_500).contains(&keep_days), "anchor: keep_days must be from 1 to 36500");
        Ok(AnchorRules { every_messages, every_ms: every_s * 1000, keep_ms: keep_days * DAY_MS, payloads })
    }
}
