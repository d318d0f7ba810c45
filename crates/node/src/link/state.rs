//! Whether a link has a connection.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Whether there is a connection, or why not. Cheap to clone.
#[derive(Clone)]
pub(super) struct State(Arc<Mutex<Result<(), String>>>);

impl Default for State {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Err("not connected yet".into()))))
    }
}

impl State {
    pub(super) fn now(&self) -> Result<(), String> {
        self.lock().clone()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Result<(), String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
