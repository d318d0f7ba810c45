//! What an agent remembers of its local clients between their connections, and which connection has it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result};
use sealcast_agent_core::session::{DRAIN_MS, Memory, TAKE_OVER_MS};
use sealcast_mqtt::SessionState;
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
    /// While no connection has it. `None` also if a connection was lost with it: then the disk knows.
    memory: Mutex<Option<Memory>>,
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
    pub fn take_memory(&self, client_id: &str, store: &Store) -> Result<Memory> {
        match lock(&self.session.memory).take() {
            Some(memory) => Ok(memory),
            None if client_id.is_empty() => Ok(Memory::default()),
            None => read(client_id, store),
        }
    }

    /// Whether another connection waits for it. For whoever has locked the table.
    fn is_wanted(&self) -> bool {
        // One reference is the table's, one is ours.
        Arc::strong_count(&self.session) > 2
    }
}

impl Sessions {
    /// The session of `client_id`, taken from the connection that has it. Clients that leave the choice of an id to the
    /// broker are all called "", and are not the same one.
    pub async fn open(&self, client_id: &str) -> Result<Held> {
        let session = if client_id.is_empty() { Arc::default() } else { self.find(client_id) };
        let ended = CancellationToken::new();
        std::mem::replace(&mut *lock(&session.end), ended.clone()).cancel();
        let connection = tokio::time::timeout(FAREWELL, session.connection.clone().lock_owned())
            .await
            .context("an earlier connection of this client does not end")?;
        Ok(Held { session, ended, _connection: connection })
    }

    fn find(&self, client_id: &str) -> Arc<Session> {
        lock(&self.0).entry(client_id.to_owned()).or_default().clone()
    }

    /// Lets go of a session. What is remembered of the client stays in memory if `keep` says so, or another connection waits
    /// for it; else the disk knows it.
    pub fn close(&self, client_id: &str, held: Held, memory: Memory, keep: bool) {
        let mut sessions = lock(&self.0);
        if keep || held.is_wanted() {
            *lock(&held.session.memory) = Some(memory);
        } else {
            sessions.remove(client_id);
        }
    }

    /// Lets go of a session whose memory was not taken.
    pub fn leave(&self, client_id: &str, held: Held) {
        let mut sessions = lock(&self.0);
        if lock(&held.session.memory).is_none() && !held.is_wanted() {
            sessions.remove(client_id);
        }
    }
}

/// What the disk knows of a client.
fn read(client_id: &str, store: &Store) -> Result<Memory> {
    let Some(stored) = store.client(client_id)? else { return Ok(Memory::default()) };
    let rows = stored.windows.iter().map(|(key, value)| (key.as_slice(), value.as_slice()));
    let mqtt = SessionState { subscriptions: stored.filters.iter().collect(), ..SessionState::default() };
    Ok(Memory { opener: Opener::restore(rows)?, mqtt, seen_ms: Some(stored.seen_ms), ..Memory::default() })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use sealcast_agent_core::session::Write;

    use super::*;

    #[tokio::test]
    async fn the_memory_of_a_connection_that_died_is_read_from_the_disk() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let store = Store::create(dir.path())?;
        let changes = Opener::default().changes();
        let filters = vec!["plant/#".to_owned()];
        let subscriptions = Write::Subscriptions { id: "pump".into(), filters: filters.clone() };
        store.commit_session(&[Write::Client { id: "pump".into(), changes, seen_ms: 5 }, subscriptions], 0)?;
        let sessions = Sessions::default();
        for _ in 0..2 {
            let held = sessions.open("pump").await?;
            let memory = held.take_memory("pump", &store)?;
            assert_eq!(memory.seen_ms, Some(5));
            assert!(memory.mqtt.subscriptions.granted().eq(&filters));
        }
        Ok(())
    }

    #[tokio::test]
    async fn what_is_only_in_memory_is_kept_and_what_was_not_taken_is_not_lost() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let store = Store::create(dir.path())?;
        let sessions = Sessions::default();
        let held = sessions.open("pump").await?;
        sessions.close("pump", held, Memory { seen_ms: Some(7), ..Memory::default() }, true);
        // The broker is away.
        let held = sessions.open("pump").await?;
        sessions.leave("pump", held);
        let held = sessions.open("pump").await?;
        let memory = held.take_memory("pump", &store)?;
        assert_eq!(memory.seen_ms, Some(7));
        sessions.close("pump", held, memory, false);
        assert!(lock(&sessions.0).is_empty());
        let held = sessions.open("valve").await?;
        sessions.leave("valve", held);
        assert!(lock(&sessions.0).is_empty(), "a client that never came in leaves nothing");
        Ok(())
    }
}
