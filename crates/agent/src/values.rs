//! Values, shared by the clients' connections and the agent's own task: `sealcast_agent_core::values` decides, and this writes
//! to disk, wakes and hands out.
//!
//! What the checks and the reports remember is on disk before anything that depends on it leaves the agent: whoever judges
//! calls [`Values::persist`] before it writes to a socket.

mod archive;
mod outlet;
mod task;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use sealcast_agent_core::{
    Step, Uncommitted,
    session::{ClientEvent, Refused},
    values::{self, Brought, Due, Local, Output, ValueRules, ValueWrite},
};
use sealcast_identity::DeviceId;
use sealcast_node::now_ms;
use sealcast_quality::FailSafeOutput;
use tokio::sync::{Notify, broadcast};
use tracing::{info, warn};

pub use self::outlet::Outlet;
use super::{data::DataPlane, events::Events, store::Store};

/// How many of the agent's own messages a local client may be behind.
const LOCAL_QUEUE: usize = 256;
/// As which client the agent does what it does for itself.
const AGENT: &str = "the agent itself";

/// See the module.
pub struct Values {
    rules: Arc<ValueRules>,
    store: Arc<Store>,
    state: Mutex<State>,
    /// Held while rows are being written: whoever has nothing to write still waits for what others took along.
    writing: Mutex<()>,
    wake: Notify,
    local: broadcast::Sender<Arc<Local>>,
    events: Arc<Events>,
}

struct State {
    values: values::Values,
    /// Until when the agent's own task sleeps, Unix ms. Nothing while it works: it looks once more before it sleeps.
    sleeps_until_ms: u64,
}

impl Values {
    /// With what the last run stored.
    pub fn new(
        device: DeviceId,
        rules: Arc<ValueRules>,
        store: Arc<Store>,
        events: Arc<Events>,
        now_ms: u64,
    ) -> Result<Self> {
        let values = values::Values::new(device, rules.clone(), &store.values()?, store.archive()?, now_ms)?;
        Ok(Self {
            rules,
            store,
            state: Mutex::new(State { values, sleeps_until_ms: 0 }),
            writing: Mutex::default(),
            wake: Notify::new(),
            local: broadcast::Sender::new(LOCAL_QUEUE),
            events,
        })
    }

    /// What is configured.
    pub fn rules(&self) -> &Arc<ValueRules> {
        &self.rules
    }

    /// Messages of the agent's own from now on.
    pub fn local(&self) -> broadcast::Receiver<Arc<Local>> {
        self.local.subscribe()
    }

    /// Takes in what the agent's own connection brought: values of topics with a fail-safe, and alarms of their senders.
    pub fn brought(&self, data: &DataPlane, message: Brought) {
        self.with(|values| values.brought(&data.keyring(), message, now_ms()));
    }

    /// Writes down what was judged since the last call that succeeded, by anybody.
    pub fn persist(&self) -> Result<()> {
        self.commit(values::Values::take_writes).map(drop)
    }

    /// Writes down what `take` gives, and gives what follows from it.
    fn commit(&self, take: impl FnOnce(&mut values::Values) -> Step<ValueWrite, Due>) -> Result<Vec<Due>> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let step = self.with(take);
        let mut archived = false;
        let outcome = step.commit(|writes| {
            archived = writes.iter().any(|write| matches!(write, ValueWrite::Archive(_)));
            self.store.write_values(writes)
        });
        match outcome {
            Ok(due) => {
                if archived {
                    self.wake.notify_one();
                }
                Ok(due)
            }
            Err(Uncommitted { error, step }) => {
                self.with(|values| values.put_back(step, now_ms()));
                Err(error)
            }
        }
    }

    /// Every call goes through here: what follows at once happens, and the agent's own task wakes earlier if it must. Whoever
    /// judges calls [`Self::persist`] before the consequences leave the agent.
    pub fn with<T>(&self, call: impl FnOnce(&mut values::Values) -> T) -> T {
        let mut state = self.state();
        let answer = call(&mut state.values);
        let mut said = Vec::new();
        while let Some(output) = state.values.poll_output() {
            match output {
                // An error says that there are no local clients.
                Output::Local(message) => drop(self.local.send(Arc::new(message))),
                Output::Refused { topic, bytes, why } => {
                    let what = Refused::Delivery { bytes };
                    self.events.note(&ClientEvent { what, client: AGENT.to_owned(), topic, why });
                }
                Output::FailSafe { topic, output } => said.push((topic, output)),
            }
        }
        if state.values.poll_timeout().is_some_and(|due_ms| due_ms < state.sleeps_until_ms) {
            state.sleeps_until_ms = 0;
            self.wake.notify_one();
        }
        drop(state);
        for (topic, output) in said {
            match output {
                FailSafeOutput::Publish { .. } => warn!(topic, "{output}"),
                FailSafeOutput::Ended { .. } => info!(topic, "{output}"),
            }
        }
        answer
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
