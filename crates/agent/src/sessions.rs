//! What an agent remembers of its local clients between their connections: which messages they have seen, and which they
//! have not acknowledged.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result};
use sealcast_mqtt::{DeliveryId, SessionState};
use sealcast_seal::{Opener, Receipt};
use tokio::sync::OwnedMutexGuard;
use tokio_util::sync::CancellationToken;

use super::{
    client::{DRAIN, TAKE_OVER},
    data::DataPlane,
    store::Store,
};

/// How long a connection that was taken over may take to end: what its client has sent goes out first, then both sides are
/// seen off. It gives up by itself a little earlier.
const FAREWELL: Duration = TAKE_OVER.saturating_add(DRAIN).saturating_add(Duration::from_secs(3));

/// Local clients by id, while the agent runs.
#[derive(Default)]
pub struct Sessions(Mutex<HashMap<String, Arc<Session>>>);

/// One local client.
#[derive(Default)]
pub struct Session {
    state: Mutex<State>,
    /// Held by the client's one connection.
    connection: Arc<tokio::sync::Mutex<()>>,
    /// Ends that connection.
    end: Mutex<CancellationToken>,
}

/// See [`Session`].
#[derive(Default)]
pub struct State {
    /// What the client has seen.
    pub opener: Opener,
    /// What it has not acknowledged, as MQTT sees it.
    pub mqtt: SessionState,
    /// The same, as messages.
    pub receipts: HashMap<DeliveryId, (Receipt, FrameId)>,
    /// Until when the client is known to have been here, Unix ms; `None` if it was never here before.
    pub seen_ms: Option<u64>,
}

/// Tells sealed frames apart: the authentication tag at their end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FrameId([u8; 16]);

impl FrameId {
    /// Of a frame; of something that is too short for one, zeros.
    pub fn of(frame: &[u8]) -> Self {
        Self(frame.last_chunk().copied().unwrap_or_default())
    }
}

impl State {
    /// Whether the client was given this frame and has not acknowledged it.
    pub fn is_unacknowledged(&self, frame: FrameId) -> bool {
        self.receipts.values().any(|(_, given)| *given == frame)
    }
}

/// A session in the hands of its one connection.
pub struct Held {
    session: Arc<Session>,
    /// Cancelled when another connection of the same client takes over.
    pub ended: CancellationToken,
    _connection: OwnedMutexGuard<()>,
}

impl Held {
    /// The session's state.
    pub fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.session.state)
    }
}

impl Sessions {
    /// The session of `client_id`, taken from the connection that has it. Clients that leave the choice of an id to the
    /// broker are all called "", and are not the same one.
    pub async fn open(&self, client_id: &str, store: &Store, data: &DataPlane) -> Result<Held> {
        let session = if client_id.is_empty() { Arc::default() } else { self.find(client_id, store)? };
        let ended = CancellationToken::new();
        std::mem::replace(&mut *lock(&session.end), ended.clone()).cancel();
        let connection = tokio::time::timeout(FAREWELL, session.connection.clone().lock_owned())
            .await
            .context("an earlier connection of this client does not end")?;
        data.forget_old_epochs(&mut lock(&session.state).opener);
        Ok(Held { session, ended, _connection: connection })
    }

    fn find(&self, client_id: &str, store: &Store) -> Result<Arc<Session>> {
        let mut sessions = lock(&self.0);
        if let Some(session) = sessions.get(client_id) {
            return Ok(session.clone());
        }
        let mut state = State::default();
        if let Some(stored) = store.client(client_id)? {
            let rows = stored.windows.iter().map(|(key, value)| (key.as_slice(), value.as_slice()));
            state = State { opener: Opener::restore(rows)?, seen_ms: Some(stored.seen_ms), ..State::default() };
        }
        let session = Arc::new(Session { state: Mutex::new(state), ..Session::default() });
        sessions.insert(client_id.to_owned(), session.clone());
        Ok(session)
    }

    /// Lets go of a session; it is forgotten unless it is to be gone on with, or another connection waits for it.
    pub fn close(&self, client_id: &str, held: Held, keep: bool) {
        let mut sessions = lock(&self.0);
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
