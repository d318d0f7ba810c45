//! Answers the JSON-RPC calls of devices. A call's own id names its answer.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use sealcast_broker::{Handle, Peer, Qos, Received};
use sealcast_chain::{Closed, Gate, Ledger, MAX_RELAY_REQUEST_BYTES, Relay as Node, RelayLimits};
use sealcast_group::PublicGroups;
use sealcast_hub_core::SharedReplica;
use sealcast_ledger::{Body, SignedEntry};
use sealcast_node::{Tasks, now_ms};
use sealcast_parts::{Assembler, Limits};
use sealcast_topic::ControlTopic;
use tokio::sync::{mpsc, watch};
use tracing::{debug, warn};

use crate::outside::Counts;

/// Calls from devices that wait to be answered.
pub const MAX_CALLS_WAITING: usize = 4096;
/// Calls by one key of a device that are answered at a time; more are dropped, so that nobody takes the relay from the
/// others. By key: whoever has a former one must not take it from the present one, least of all from the operator.
const MAX_CALLS_PER_KEY: usize = 16;
/// Calls in parts, by device.
const PARTS: Limits = Limits {
    message_bytes: MAX_RELAY_REQUEST_BYTES,
    topic_bytes: 8 * MAX_RELAY_REQUEST_BYTES,
    total_bytes: 64 * MAX_RELAY_REQUEST_BYTES,
    age_ms: 60_000,
};
/// How long the hub's replica may be behind its ledger.
const BEHIND: Duration = Duration::from_secs(10);

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Relay {
    node: Arc<Node>,
    ledger: Ledger,
    /// Height of the hub's replica.
    known: watch::Receiver<u64>,
    broker: Handle,
    counts: Arc<Counts>,
}

impl Relay {
    /// A relay to `ledger`, within `limits`, for what `gate` lets pass. `known` is the height of the replica by which the
    /// broker judges.
    pub fn new(
        ledger: Ledger,
        limits: RelayLimits,
        gate: Gate,
        known: watch::Receiver<u64>,
        broker: Handle,
        counts: Arc<Counts>,
    ) -> Self {
        let node = Node::with_gate(ledger.clone(), limits, gate);
        Self { node: Arc::new(node), ledger, known, broker, counts }
    }

    /// The filter of the calls.
    pub fn requests() -> String {
        ControlTopic::Request { node: "+" }.to_string()
    }

    /// Takes the calls until `tasks` end, each in a task of its own.
    pub async fn run(self, mut calls: mpsc::Receiver<Received>, tasks: Tasks) {
        let (turns, start) = (Turns::default(), Instant::now());
        let mut parts = Assembler::new(PARTS);
        loop {
            let call = tokio::select! {
                () = tasks.stop().cancelled() => return,
                call = calls.recv() => call,
            };
            let Some(call) = call else {
                // The broker has stopped, and says why.
                return tasks.stop().cancelled().await;
            };
            let Some(sender) = call.sender else { continue };
            let now_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
            let request = match parts.take(&sender.device, call.payload, now_ms) {
                Ok(Some(request)) => request,
                Ok(None) => continue,
                Err(error) => {
                    debug!(sender = %sender.device, %error, "a call was dropped");
                    continue;
                }
            };
            let Some(turn) = turns.take(&sender) else {
                debug!(sender = %sender.device, "a call was dropped: {MAX_CALLS_PER_KEY} calls by this key are under way");
                continue;
            };
            self.counts.calls.fetch_add(1, Ordering::Relaxed);
            tasks.spawn(self.clone().answer(sender.device, request, turn));
        }
    }

    async fn answer(mut self, sender: Arc<str>, request: Bytes, turn: Turn) {
        let answer = self.node.handle(&request).await;
        // Whoever learns of a grant may act on it at once, and the broker's rules are the replica's.
        if let Ok(height) = self.ledger.height().await
            && tokio::time::timeout(BEHIND, self.known.wait_for(|known| *known >= height)).await.is_err()
        {
            warn!(
                "the hub's replica is behind its ledger: a device may learn of a record before the broker's rules know it"
            );
        }
        drop(turn);
        // To the sender by its certificate.
        let topic = ControlTopic::Response { node: &sender }.to_string();
        if let Err(error) = self.broker.publish(topic, answer, Qos::AtLeastOnce, false).await {
            warn!(%sender, %error, "the answer to a device's call could not be published");
        }
    }
}

/// Lets through what members would follow: a void commit costs everybody an epoch of the ledger, and space for ever.
pub fn gate(replica: SharedReplica, groups: Arc<Mutex<PublicGroups>>) -> Gate {
    Box::new(move |entry: &SignedEntry| {
        let Body::Commit(commit) = entry.body() else { return Ok(()) };
        let replica = replica.read().unwrap_or_else(PoisonError::into_inner);
        let groups = groups.lock().unwrap_or_else(PoisonError::into_inner);
        if groups.is_behind(commit) {
            return Err(Closed::NotYet);
        }
        let time_s = replica.last_time_s().max(now_ms() / 1000);
        let judged = groups.check(&replica, entry.originator(), commit, time_s);
        judged.map_err(|why| Closed::Rejected(format!("the commit would be void: {why}")))
    })
}

/// Calls under way, by device and key.
#[derive(Clone, Default)]
struct Turns(Arc<Mutex<BTreeMap<Peer, usize>>>);

/// A call under way, until it is dropped.
struct Turn {
    turns: Turns,
    caller: Peer,
}

impl Turns {
    fn take(&self, caller: &Peer) -> Option<Turn> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let calls = counts.entry(caller.clone()).or_default();
        if *calls >= MAX_CALLS_PER_KEY {
            return None;
        }
        *calls += 1;
        Some(Turn { turns: self.clone(), caller: caller.clone() })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut counts = self.turns.0.lock().unwrap_or_else(PoisonError::into_inner);
        match counts.get_mut(&self.caller) {
            Some(calls) if *calls > 1 => *calls -= 1,
            _ => {
                counts.remove(&self.caller);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_calls_by_a_former_key_take_no_turn_of_the_present_one() {
        let by = |credential| Peer { device: "operator".into(), credential: Some([credential; 32]) };
        let turns = Turns::default();
        let mut held: Vec<Option<Turn>> = (0..MAX_CALLS_PER_KEY).map(|_| turns.take(&by(1))).collect();
        assert!(held.iter().all(Option::is_some) && turns.take(&by(1)).is_none());
        assert!(turns.take(&by(2)).is_some());
        held.pop();
        assert!(turns.take(&by(1)).is_some());
        held.clear();
        assert!(turns.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty());
    }
}
