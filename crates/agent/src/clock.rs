//! The agent's clocks, as its parts without a clock want them.

use std::{sync::OnceLock, time::Duration};

use sealcast_agent_core::Now;
use sealcast_node::now_ms;
use tokio::time::Instant;

/// What the clock that only goes forwards counts from.
static START: OnceLock<Instant> = OnceLock::new();

fn start() -> Instant {
    *START.get_or_init(Instant::now)
}

/// Both clocks, now.
pub fn now() -> Now {
    let run_ms = u64::try_from(start().elapsed().as_millis()).unwrap_or(u64::MAX);
    Now { unix_ms: now_ms(), run_ms }
}

/// When [`Now::run_ms`] will be that.
pub fn instant_of(run_ms: u64) -> Instant {
    start() + Duration::from_millis(run_ms)
}
