//! Calls that wait for their answer, by what names them in both messages: the id of JSON-RPC.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use sealcast_ledger_client::CallId;
use sealcast_mqtt::TopicName;
use tokio::sync::{mpsc, oneshot};

use super::event::LinkError;

/// Calls that wait to be published, ahead of the messages.
const MAX_OUTGOING_CALLS: usize = 256;
const MAX_CALLS: usize = 1024;

type Waiting = HashMap<CallId, oneshot::Sender<Result<Vec<u8>, LinkError>>>;

/// A request on its way.
pub(super) struct Call {
    pub(super) id: CallId,
    pub(super) topic: TopicName,
    pub(super) request: Bytes,
}

/// See the module. Cheap to clone.
#[derive(Clone)]
pub(super) struct Calls {
    waiting: Arc<Mutex<Waiting>>,
    requests: mpsc::Sender<Call>,
}

impl Calls {
    /// With the requests that are to be published.
    pub(super) fn new() -> (Self, mpsc::Receiver<Call>) {
        let (requests, receiver) = mpsc::channel(MAX_OUTGOING_CALLS);
        (Self { waiting: Arc::default(), requests }, receiver)
    }

    /// Publishes a request and waits for its answer.
    pub(super) async fn call(&self, call: Call) -> Result<Vec<u8>, LinkError> {
        let id = call.id;
        let (sender, receiver) = oneshot::channel();
        {
            let mut waiting = self.waiting();
            if waiting.len() >= MAX_CALLS {
                return Err(LinkError::Busy);
            }
            waiting.insert(id, sender);
        }
        let _forget = Forget { calls: self, id };
        let closed = || LinkError::Down("the link is closed".into());
        self.requests.send(call).await.map_err(|_| closed())?;
        receiver.await.unwrap_or_else(|_| Err(closed()))
    }

    /// A call's answer has come, or it will not.
    pub(super) fn answer(&self, id: &CallId, answer: Result<Vec<u8>, LinkError>) {
        let call = self.waiting().remove(id);
        if let Some(call) = call {
            // Whoever has given up wants none.
            let _ = call.send(answer);
        }
    }

    /// None of them will have an answer.
    pub(super) fn fail(&self, error: &LinkError) {
        let waiting = std::mem::take(&mut *self.waiting());
        for call in waiting.into_values() {
            let _ = call.send(Err(error.clone()));
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes a call that is given up out of the table.
struct Forget<'a> {
    calls: &'a Calls,
    id: CallId,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.calls.waiting().remove(&self.id);
    }
}
