//! Read connections: a few, each with a snapshot of its own, off the async threads.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::store;

/// Reads at the same time. More would only queue for the cores.
const MAX_READERS: usize = 4;

/// Why nothing could be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error("the ledger's database failed: {0}")]
    Database(#[from] rusqlite::Error),
    #[error("the ledger is shutting down")]
    Closed,
}

#[derive(Clone)]
pub(crate) struct Readers {
    path: PathBuf,
    idle: Arc<Mutex<Vec<Connection>>>,
    permits: Arc<Semaphore>,
}

impl Readers {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, idle: Arc::default(), permits: Arc::new(Semaphore::new(MAX_READERS)) }
    }

    /// Reads on the calling thread, which must be one that may block, in a new snapshot.
    pub(crate) fn fresh<T>(&self, read: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, ReadError> {
        let connection = self.connection()?;
        let outcome = read(&connection)?;
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        Ok(outcome)
    }

    fn connection(&self) -> Result<Connection, ReadError> {
        let reused = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        match reused {
            Some(connection) => Ok(connection),
            None => Ok(store::open_reader(&self.path)?),
        }
    }

    /// Runs `read` on a blocking thread with one consistent snapshot.
    pub(crate) async fn read<T, E, F>(&self, read: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<ReadError> + Send + 'static,
        F: FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    {
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| ReadError::Closed)?;
        let this = self.clone();
        let task = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let mut connection = this.connection()?;
            let transaction = connection.transaction().map_err(ReadError::from)?;
            let outcome = read(&transaction);
            // Nothing was written. A connection on which this fails is not used again.
            if transaction.finish().is_ok() {
                this.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
            }
            outcome
        });
        task.await.unwrap_or_else(|_| Err(ReadError::Closed.into()))
    }
}
