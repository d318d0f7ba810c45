//! What an agent remembers of its local clients between their connections, and which connection has it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result};
use sealcast_agent_core::session::{DRAIN_MS, Memory, TAKE_OVER_MS};
use sealcast_seal::Opener;
use tokio::sync::OwnedMutexGuard;
use tokio_util::sync::CancellationToken;

use super::store::Store;

/// How long a connection that was taken over may take to end: what its client has sent goes out first, then both sides are
/// seen off. It gives up by itself a little earlier.
const FAREWELL: Duration = Duration::from_millis(TAKE_OVER_MS + DRAIN_MS + 3_000);

/// Local clients by id, while the agent runs.
#[derive(Default)]
pub struct Sessions(Mutex<HashMap<String, Arc<Session>>>);

/// One local client.
#[derive(Default)]
struct Session {
    /// While no connection has it.
    memory: Mutex<Memory>,
    /// Held by the client's one connection.
    connection: Arc<tokio::sync::Mutex<()>>,
    /// Ends that connection.
    end: Mutex<CancellationToken>,
}

/// A session in the hands of its one connection.
pub struct Held {
    session: Arc<Session>,
    /// Cancelled when another connection of the same client takes over.
    pub ended: CancellationToken,
    _connection: OwnedMutexGuard<()>,
}

impl Held {
    /// What is remembered of the client; [`Sessions::close`] takes it back.
    pub fn take_memory(&self) -> Memory {
        std::mem::take(&mut *lock(&self.session.memory))
    }
}

impl Sessions {
    /// The session of `client_id`, taken from the connection that has it. Clients that leave the choice of an id to the
    /// broker are all called "", and are not the same one.
    pub async fn open(&self, client_id: &str, store: &Store) -> Result<Held> {
        let session = if client_id.is_empty() { Arc::default() } else { self.find(client_id, store)? };
        let ended = CancellationToken::new();
        std::mem::replace(&mut *lock(&session.end), ended.clone()).cancel();
        let connection = tokio::time::timeout(FAREWELL, session.connection.clone().lock_owned())
            .await
            .context("an earlier connection of this client does not end")?;
        Ok(Held { session, ended, _connection: connection })
    }

    fn find(&self, client_id: &str, store: &Store) -> Result<Arc<Session>> {
        let mut sessions = lock(&self.0);
        if let Some(session) = sessions.get(client_id) {
            return Ok(session.clone());
        }
        let mut memory = Memory::default();
        if let Some(stored) = store.client(client_id)? {
            let rows = stored.windows.iter().map(|(key, value)| (key.as_slice(), value.as_slice()));
            memory = Memory { opener: Opener::restore(rows)?, seen_ms: Some(stored.seen_ms), ..Memory::default() };
        }
        let session = Arc::new(Session { memory: Mutex::new(memory), ..Session::default() });
        sessions.insert(client_id.to_owned(), session.clone());
        Ok(session)
    }

    /// Lets go of a session; it is forgotten unless it is to be gone on with, or another connection waits for it.
    pub fn close(&self, client_id: &str, held: Held, memory: Memory, keep: bool) {
        let mut sessions = lock(&self.0);
        *lock(&held.session.memory) = memory;
        let Held { session, .. } = held;
        // One reference is the table's, one is ours.
        if !keep && Arc::strong_count(&session) <= 2 {
            sessions.remove(client_id);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
