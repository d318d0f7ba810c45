//! Who listens to which messages at the doors.

use std::collections::{BTreeMap, BTreeSet};

use sealcast_agent_core::Cause;
use sealcast_ledger::TopicFilter;
use tokio::sync::{mpsc, oneshot};
use tracing::warn;

use super::message::{Incoming, Item, Refused};

/// Listeners of all doors together.
const MAX_LISTENERS: usize = 512;

/// See the module. Listeners have the ids that [`super::Bus`] gave them.
#[derive(Default)]
pub(super) struct Listeners(BTreeMap<u64, Entry>);

struct Entry {
    filter: TopicFilter,
    sender: mpsc::Sender<Item>,
    /// What the broker had kept is still to come.
    initial: bool,
    done: Option<oneshot::Sender<Result<(), Refused>>>,
}

impl Listeners {
    /// Takes a listener in; `done` is told when the broker sends its messages. `false` if there are too many.
    pub(super) fn enter(
        &mut self,
        id: u64,
        filter: TopicFilter,
        sender: mpsc::Sender<Item>,
        done: oneshot::Sender<Result<(), Refused>>,
    ) -> bool {
        if self.0.len() >= MAX_LISTENERS {
            let _ = done.send(Err(Refused::Unavailable(format!("the limit of {MAX_LISTENERS} listeners is reached"))));
            return false;
        }
        self.0.insert(id, Entry { filter, sender, initial: true, done: Some(done) });
        true
    }

    /// Lets a listener go.
    pub(super) fn remove(&mut self, id: u64) {
        self.0.remove(&id);
    }

    /// What all of them listen to.
    pub(super) fn filters(&self) -> BTreeSet<String> {
        self.0.values().map(|entry| entry.filter.to_string()).collect()
    }

    /// What a listener's filter is.
    pub(super) fn filter(&self, id: u64) -> Option<&TopicFilter> {
        self.0.get(&id).map(|entry| &entry.filter)
    }

    /// Listeners that are to be subscribed on a new connection: all, or those of which a session that goes on does not know
    /// what they have. What the broker had kept is to come for each.
    pub(super) fn begin(&mut self, session_present: bool) -> Vec<u64> {
        let wanted = |entry: &Entry| !session_present || entry.done.is_some() || entry.initial;
        let wanted = self.0.iter_mut().filter(|(_, entry)| wanted(entry));
        wanted
            .map(|(id, entry)| {
                entry.initial = true;
                *id
            })
            .collect()
    }

    /// The broker sends what a listener wants. `false` if it is gone.
    pub(super) fn granted(&mut self, id: u64) -> bool {
        let Some(entry) = self.0.get_mut(&id) else { return false };
        if let Some(done) = entry.done.take() {
            let _ = done.send(Ok(()));
        }
        true
    }

    /// A listener gets nothing.
    pub(super) fn refuse(&mut self, id: u64, refused: Refused) {
        if let Some(done) = self.0.remove(&id).and_then(|entry| entry.done) {
            let _ = done.send(Err(refused));
        }
    }

    /// What the broker had kept for a listener has come.
    pub(super) fn current(&mut self, id: u64) {
        if let Some(entry) = self.0.get_mut(&id) {
            entry.initial = false;
            let _ = entry.sender.try_send(Item::Current);
        }
    }

    /// Hands out a message of the broker. Gives the listeners that did not take it.
    pub(super) fn hand_out(&self, message: &Incoming, retain: bool) -> Vec<u64> {
        // What the broker had kept comes again with each subscription, and is new to that listener alone.
        self.hand_to(message, |_, entry| !retain || entry.initial)
    }

    /// Hands out a message of the agent's own, to one listener or to all. Gives the listeners that did not take it.
    pub(super) fn hand_out_local(&mut self, message: &Incoming, to: Option<u64>) -> Vec<u64> {
        for (id, entry) in &mut self.0 {
            // Whoever still waits for the broker begins without it.
            if to.is_none_or(|to| to == *id)
                && entry.filter.matches(message.topic.as_str())
                && let Some(done) = entry.done.take()
            {
                let _ = done.send(Ok(()));
            }
        }
        self.hand_to(message, |id, _| to.is_none_or(|to| to == id))
    }

    fn hand_to(&self, message: &Incoming, wanted: impl Fn(u64, &Entry) -> bool) -> Vec<u64> {
        let mut gone = Vec::new();
        for (id, entry) in &self.0 {
            if wanted(*id, entry)
                && entry.filter.matches(message.topic.as_str())
                && let Err(error) = entry.sender.try_send(Item::Message(message.clone()))
            {
                if matches!(error, mpsc::error::TrySendError::Full(_)) {
                    warn!(code = %Cause::ClientSlow, filter = %entry.filter, "a listener was dropped: it does not read its messages");
                }
                gone.push(*id);
            }
        }
        gone
    }

    /// Listeners whose owner has gone.
    pub(super) fn gone(&self) -> Vec<u64> {
        self.0.iter().filter(|(_, entry)| entry.sender.is_closed()).map(|(id, _)| *id).collect()
    }
}
