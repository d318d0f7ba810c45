//! Nodes of one EVM network, of which one is asked until it does not answer.

use std::{
    borrow::Cow,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use alloy_primitives::{Address, Bytes, U64};
use alloy_sol_types::SolCall;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{
    AnyChannel, Channel, Finality, NodeError,
    entry_log::{self, EntryLog},
    json_rpc::Caller,
};

/// See the module. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Endpoints {
    all: Arc<[Endpoint]>,
    /// The one that is asked. Clones ask the same one.
    present: Arc<AtomicUsize>,
    finality: Finality,
}

/// A node, and what people call it.
#[derive(Clone, Debug)]
struct Endpoint {
    name: Arc<str>,
    caller: Arc<Caller<AnyChannel>>,
}

/// The endpoints that did not answer, and why.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("; "))]
struct Silent(Vec<String>);

impl Endpoints {
    /// Nodes with a name for the log each. The first that answers is asked.
    pub fn new<C: Channel>(all: impl IntoIterator<Item = (String, C)>, finality: Finality) -> Self {
        let endpoint = |(name, channel): (String, C)| Endpoint {
            name: name.into(),
            caller: Arc::new(Caller::new(AnyChannel::new(channel))),
        };
        Self { all: all.into_iter().map(endpoint).collect(), present: Arc::default(), finality }
    }

    /// When a block counts as one that stays.
    pub fn finality(&self) -> Finality {
        self.finality
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.all.len()
    }

    /// The one that is asked at present.
    pub fn name(&self) -> &str {
        self.all.get(self.present.load(Ordering::Relaxed)).map_or("", |endpoint| &endpoint.name)
    }

    /// Each as if it were the only one.
    pub fn each(&self) -> impl Iterator<Item = Self> {
        self.all.iter().map(|endpoint| self.alone(endpoint))
    }

    /// Those that are not asked at present, each as if it were the only one.
    pub fn others(&self) -> impl Iterator<Item = Self> {
        let present = self.present.load(Ordering::Relaxed);
        let others = self.all.iter().enumerate().filter(move |(at, _)| *at != present);
        others.map(|(_, endpoint)| self.alone(endpoint))
    }

    /// The same ones, of which the one at this place is asked first. What becomes of it changes nothing here.
    pub(crate) fn beginning_with(&self, at: usize) -> Self {
        Self { present: Arc::new(AtomicUsize::new(at)), ..self.clone() }
    }

    fn alone(&self, endpoint: &Endpoint) -> Self {
        Self { all: Arc::new([endpoint.clone()]), present: Arc::default(), finality: self.finality }
    }

    /// Asks another one from now on, as the present one's answers are wrong for this reason.
    pub fn turn_away(&self, why: &dyn std::fmt::Display) {
        if self.count() > 1 {
            tracing::warn!(endpoint = %self.name(), "another endpoint of the ledger's network is asked from now on: {why}");
            let at = self.present.load(Ordering::Relaxed);
            self.present.store((at + 1) % self.count(), Ordering::Relaxed);
        }
    }

    /// Asks the node that answered last, then the others.
    pub async fn request<R: DeserializeOwned>(
        &self,
        method: impl Into<Cow<'static, str>>,
        params: impl Serialize,
    ) -> Result<R, NodeError> {
        let method = method.into();
        let first = self.present.load(Ordering::Relaxed);
        let count = self.count();
        let mut silent = Vec::new();
        for at in (first..first + count).map(|at| at % count) {
            let Some(Endpoint { name, caller }) = self.all.get(at) else { break };
            match caller.request(method.clone(), &params).await {
                Err(NodeError::Transport { source, .. }) => silent.push(format!("{name}: {source}")),
                answered => {
                    self.note_answer(at, first, &silent);
                    return answered;
                }
            }
        }
        Err(NodeError::Transport { method, source: Silent(silent).into() })
    }

    /// Says in the log which endpoint answers, if it is not the one that did before.
    fn note_answer(&self, at: usize, before: usize, silent: &[String]) {
        if at != before && self.present.swap(at, Ordering::Relaxed) != at {
            tracing::warn!(
                endpoint = %self.name(),
                "another endpoint of the ledger's network is asked from now on; no answer from {}",
                silent.join("; ")
            );
        }
    }

    /// The network's chain id.
    pub async fn chain_id(&self) -> Result<u64, NodeError> {
        self.request::<U64>("eth_chainId", ()).await.map(|id| id.to())
    }

    /// The newest final block, as a parameter for a request.
    pub async fn final_block(&self) -> Result<String, NodeError> {
        let latest = match self.finality {
            Finality::Blocks(_) => self.request::<U64>("eth_blockNumber", ()).await?.to(),
            _ => 0,
        };
        Ok(self.finality.block(latest))
    }

    /// The number of the newest final block; `None` if there is none yet.
    pub async fn final_number(&self) -> Result<Option<u64>, NodeError> {
        #[derive(Deserialize)]
        struct Head {
            number: U64,
        }
        let block = self.final_block().await?;
        if let Some(number) = block.strip_prefix("0x") {
            let number = u64::from_str_radix(number, 16);
            return number.map(Some).map_err(|error| NodeError::answer("eth_blockNumber", error));
        }
        let head: Option<Head> = self.request("eth_getBlockByNumber", (block, false)).await?;
        Ok(head.map(|head| head.number.to()))
    }

    /// What a contract's view gives, on the newest final state.
    pub async fn view<C: SolCall>(&self, to: Address, call: C) -> Result<C::Return, NodeError> {
        let request = json!({ "to": to, "input": Bytes::from(call.abi_encode()) });
        let output: Bytes = self.request("eth_call", (request, self.final_block().await?)).await?;
        if output.is_empty() {
            let what = format!("there is no contract at {to}: the endpoint shows another chain, or is behind");
            return Err(NodeError::answer(C::SIGNATURE, what));
        }
        C::abi_decode_returns_validate(&output).map_err(|error| NodeError::answer(C::SIGNATURE, error))
    }

    pub(crate) async fn entries(&self, filter: &Value) -> Result<Vec<EntryLog>, NodeError> {
        self.request(entry_log::METHOD, filter).await
    }
}
