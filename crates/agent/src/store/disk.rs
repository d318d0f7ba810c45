//! Whether the disk takes what the agent writes, and what the log says of it.

use std::{
    path::PathBuf,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rusqlite::ErrorCode;
use tracing::{error, info};

/// A disk that fails again and again is told of at most this often.
const QUIET: Duration = Duration::from_secs(60);

/// The disk of one file, as its writes show it.
pub(super) struct Disk {
    file: PathBuf,
    failing: AtomicBool,
    /// When the log last said that the disk fails.
    told: Mutex<Option<Instant>>,
}

impl Disk {
    pub(super) fn new(file: PathBuf) -> Self {
        Self { file, failing: AtomicBool::new(false), told: Mutex::default() }
    }

    /// Whether the last write failed because of the disk.
    pub(super) fn is_failing(&self) -> bool {
        self.failing.load(Ordering::SeqCst)
    }

    /// What became of a write.
    pub(super) fn noted<T>(&self, outcome: rusqlite::Result<T>) -> rusqlite::Result<T> {
        match &outcome {
            Ok(_) => self.note_success(),
            Err(error) if is_disks(error) => self.note_failure(error),
            Err(_) => {}
        }
        outcome
    }

    fn note_failure(&self, failure: &rusqlite::Error) {
        if self.failing.swap(true, Ordering::SeqCst) {
            return;
        }
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_some_and(|at| at.elapsed() < QUIET) {
            return;
        }
        *told = Some(Instant::now());
        error!(
            "{} cannot be written: {failure}. Nothing that depends on a write may leave the agent, so it closes its clients' \
             connections. Make room on the disk, or repair it: the agent then goes on by itself, and nothing that was \
             acknowledged is lost",
            self.file.display()
        );
    }

    fn note_success(&self) {
        if self.failing.swap(false, Ordering::SeqCst) {
            info!("{} can be written again: clients may connect", self.file.display());
        }
    }
}

/// Whether an error is the disk's, not the statement's.
pub(super) fn is_disks(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DiskFull | ErrorCode::SystemIoFailure | ErrorCode::ReadOnly | ErrorCode::CannotOpen)
    )
}
