//! A limit on requests a second, for several at a time.

use std::{
    sync::{Mutex, PoisonError},
    time::Instant,
};

/// The doors' token bucket, behind a lock and by the clock.
pub struct Rate {
    since: Instant,
    bucket: Mutex<sealcast_coap::Rate>,
}

impl Rate {
    /// Full.
    pub fn new(per_second: u32) -> Self {
        Self { since: Instant::now(), bucket: Mutex::new(sealcast_coap::Rate::new(per_second, 0)) }
    }

    /// Whether one more may pass.
    pub fn admit(&self) -> bool {
        let now_ms = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.bucket.lock().unwrap_or_else(PoisonError::into_inner).admit(now_ms)
    }
}
