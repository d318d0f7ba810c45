//! What is counted for whoever watches the agent, and no other part keeps.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// See the module.
#[derive(Default)]
pub struct Counts {
    /// Local clients that are connected.
    pub clients: AtomicUsize,
    /// When the device's certificate ends, Unix s.
    pub certificate_ends_s: AtomicU64,
}

/// A client that is connected, until this is dropped.
pub struct Present<'a>(&'a AtomicUsize);

impl Counts {
    /// A client has connected.
    pub fn enter(&self) -> Present<'_> {
        self.clients.fetch_add(1, Ordering::Relaxed);
        Present(&self.clients)
    }
}

impl Drop for Present<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
