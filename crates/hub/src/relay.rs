//! Answers the JSON-RPC calls of devices. A call's own id names its answer.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
};

use sealcast_broker::Peer;
use sealcast_chain::{Closed, Gate, Ledger, Relay as Node};
use sealcast_group::PublicGroups;
use sealcast_hub_core::SharedReplica;
use sealcast_ledger::{Body, LedgerId, SignedEntry};
use sealcast_ledger_client::AnswerSigner;
use sealcast_node::{Tasks, now_ms};
use sealcast_topic::ControlTopic;
use tokio::sync::mpsc;
use tracing::{debug, warn};

use crate::{
    carrier::{Carried, Carrier},
    follower::Known,
    outside::Counts,
};

/// Calls by one key of a device that are answered at a time; more are dropped, so that nobody takes the relay from the
/// others. By key, where it is known: whoever has a former one must not take it from the present one, least of all from the
/// operator.
const MAX_CALLS_PER_KEY: usize = 16;
/// Calls that are answered at a time of all who may not be whom they claim to be, so that they leave room for the others.
const MAX_CLAIMED_CALLS: usize = 512;

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Relay {
    node: Arc<Node>,
    ledger: Ledger,
    known: Known,
    carrier: Carrier,
    signer: Arc<AnswerSigner>,
    counts: Arc<Counts>,
    /// Of calls over HTTPS, whose device is known: whoever calls in its name over a broker takes it nothing.
    proven: Turns,
}

impl Relay {
    /// One that answers as `node` does, which is a relay to `ledger`. `known` is the height of the replica by which the
    /// broker judges; `signer` says that the answers are the hub's.
    pub fn new(
        node: Node,
        ledger: Ledger,
        known: Known,
        carrier: Carrier,
        signer: AnswerSigner,
        counts: Arc<Counts>,
    ) -> Self {
        let (node, signer, proven) = (Arc::new(node), Arc::new(signer), Turns::of(usize::MAX));
        Self { node, ledger, known, carrier, signer, counts, proven }
    }

    /// Takes the calls until `tasks` end, each in a task of its own.
    pub async fn run(self, mut calls: mpsc::Receiver<Carried>, tasks: Tasks) {
        // At the hub's own broker only the device itself publishes on the topic that names it.
        let most = if self.carrier.is_own() { usize::MAX } else { MAX_CLAIMED_CALLS };
        let turns = Turns::of(most);
        loop {
            let call = tokio::select! {
                () = tasks.stop().cancelled() => return,
                call = calls.recv() => call,
            };
            let Some(call) = call else {
                // Whatever carries them has stopped, and says why.
                return tasks.stop().cancelled().await;
            };
            let Some(ControlTopic::Request { node }) = ControlTopic::parse(&call.topic) else { continue };
            let node: Arc<str> = node.into();
            let caller = call.sender.clone().unwrap_or_else(|| Peer { device: node.clone(), credential: None });
            let Some(turn) = turns.take(&caller) else {
                debug!(%node, "a call was dropped: too many in this name, or of all, are under way");
                continue;
            };
            self.counts.calls.fetch_add(1, Ordering::Relaxed);
            tasks.spawn(self.clone().answer(node, call, turn));
        }
    }

    /// Answers a call of a device that has proven who it is; `None` if as many of its calls are under way as may be.
    pub async fn call(&self, node: &str, request: &[u8]) -> Option<Vec<u8>> {
        let _turn = self.proven.take(&Peer { device: node.into(), credential: None })?;
        Some(self.handle(node, request).await)
    }

    async fn handle(&self, node: &str, request: &[u8]) -> Vec<u8> {
        let answer = self.node.handle(node, request).await;
        if let Ok(height) = self.ledger.height().await {
            self.known.reach(height).await;
        }
        answer
    }

    async fn answer(self, node: Arc<str>, call: Carried, turn: Turn) {
        let answer = self.handle(&node, &call.payload).await;
        drop(turn);
        let topic = ControlTopic::Response { node: &node }.to_string();
        let sent = match self.signer.sign(&node, &answer) {
            Ok(signed) => self.carrier.publish(&topic, signed).await,
            Err(error) => Err(error.into()),
        };
        if let Err(error) = sent {
            warn!(%node, "the answer to a device's call could not be sent: {error:#}");
        }
    }
}

/// Lets through what its author has signed, as far as the replica knows, and what members would follow: a void commit costs
/// everybody an epoch of the ledger, and space for ever.
///
/// `here` is the contract that the relay submits to. After the ledger has moved, entries wait until the hub is started on the
/// network where it is.
pub fn gate(replica: SharedReplica, groups: Arc<Mutex<PublicGroups>>, here: LedgerId) -> Gate {
    Box::new(move |entry: &SignedEntry| {
        let replica = replica.read().unwrap_or_else(PoisonError::into_inner);
        // The contract would refuse each: it is over there, or the replica is behind and does not know that it is here.
        if *replica.current_id() != here {
            return Err(Closed::Moved(*replica.current_id()));
        }
        // Anybody may submit in anybody's name, and to try it costs the ledger much more than this.
        let key = replica.key_of(entry.originator());
        if key.is_some_and(|key| !entry.is_signed_by(key, replica.current_id())) {
            return Err(Closed::Rejected("its author has not signed it by the key that the ledger has".to_owned()));
        }
        let Body::Commit(commit) = entry.body() else { return Ok(()) };
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
#[derive(Clone)]
struct Turns {
    counts: Arc<Mutex<BTreeMap<Peer, usize>>>,
    /// Of all devices.
    most: usize,
}

/// A call under way, until it is dropped.
struct Turn {
    turns: Turns,
    caller: Peer,
}

impl Turns {
    fn of(most: usize) -> Self {
        Self { counts: Arc::default(), most }
    }

    fn take(&self, caller: &Peer) -> Option<Turn> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.values().sum::<usize>() >= self.most {
            return None;
        }
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
        let mut counts = self.turns.counts.lock().unwrap_or_else(PoisonError::into_inner);
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
        let turns = Turns::of(usize::MAX);
        let mut held: Vec<Option<Turn>> = (0..MAX_CALLS_PER_KEY).map(|_| turns.take(&by(1))).collect();
        assert!(held.iter().all(Option::is_some) && turns.take(&by(1)).is_none());
        assert!(turns.take(&by(2)).is_some());
        held.pop();
        assert!(turns.take(&by(1)).is_some());
        held.clear();
        assert!(turns.counts.lock().unwrap_or_else(PoisonError::into_inner).is_empty());
    }
}
