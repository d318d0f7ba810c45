//! What can go wrong between a client and the ledger.

use std::borrow::Cow;

use sealcast_ledger::Refusal;

use crate::rpc_code;

/// How many bytes of a revert that nobody knows are shown.
const SHOWN_BYTES: usize = 64;

/// A request to a node or relay failed.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// No answer, or one that is not JSON-RPC.
    #[error("the ledger's node did not answer {method}")]
    Transport {
        /// The JSON-RPC method.
        method: Cow<'static, str>,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The node refused.
    #[error("the ledger's node refused {method}: {message} (code {code})")]
    Refused {
        /// The JSON-RPC method.
        method: Cow<'static, str>,
        /// The JSON-RPC error code, one of [`rpc_code`] or the node's own.
        code: i64,
        /// The node's words.
        message: String,
        /// What the contract said, if it reverted; empty if it gave no reason.
        revert: Option<Vec<u8>>,
        /// When to come again, if a quota is exhausted and the relay says so.
        wait_ms: Option<u64>,
    },
    /// The answer is not what the method gives.
    #[error("the ledger's node gave a wrong answer to {method}: {what}")]
    Answer {
        /// The JSON-RPC method.
        method: Cow<'static, str>,
        /// What is wrong with it.
        what: String,
    },
}

impl NodeError {
    /// A node's refusal. `data` is the contract's words, if the node sent any.
    pub fn refused(
        method: impl Into<Cow<'static, str>>,
        code: i64,
        message: String,
        data: impl FnOnce() -> Option<Vec<u8>>,
    ) -> Self {
        // Nodes give a revert code 3 or, the older ones, say it in words alone.
        let reverted = code == rpc_code::REVERTED || message.contains("revert");
        let revert = reverted.then(|| data().unwrap_or_default());
        Self::Refused { method: method.into(), code, message, revert, wait_ms: None }
    }

    /// An answer that is not what `method` gives.
    pub fn answer(method: impl Into<Cow<'static, str>>, what: impl ToString) -> Self {
        Self::Answer { method: method.into(), what: what.to_string() }
    }

    /// What the contract said, if that is why the node refused; empty if it gave no reason.
    pub fn revert(&self) -> Option<&[u8]> {
        match self {
            Self::Refused { revert, .. } => revert.as_deref(),
            _ => None,
        }
    }

    /// Whether the node would give less at once.
    pub fn is_limit(&self) -> bool {
        matches!(self, Self::Refused { code: rpc_code::LIMIT, .. })
    }
}

/// Why an entry is not on the ledger, or not known to be.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// The contract refuses it. Final for this entry in the ledger's present state.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The contract reverted without one of its errors.
    #[error("the contract refused the entry for a reason that this program does not know: {0}")]
    Reverted(String),
    /// The relay refuses it, although the contract might take it: nobody would follow it. Final for this entry.
    #[error("the relay refuses the entry: {reason}")]
    Rejected {
        /// The relay's words.
        reason: String,
    },
    /// More entries wait than the relay takes, or the device writes more than it may. The same entry can be submitted
    /// again later.
    #[error("{reason}")]
    Busy {
        /// The relay's words: what is too much, and when to try again.
        reason: String,
        /// When to try again, if the relay knows.
        wait_ms: Option<u64>,
    },
    /// The engine dropped it before a block had it. It is not on the ledger; the same entry can be submitted again.
    #[error("the ledger could not store the entry: check the hub's log and disk, then try again")]
    Dropped,
    /// Sent, but not seen in a final block. It may appear yet; submitting the same entry again is safe.
    #[error("the entry was sent, but is not final after {waited_s} s: submit it again to find out")]
    Pending {
        /// How long it was waited for.
        waited_s: u64,
    },
    /// The node or relay did not answer as it should. The entry may be on the ledger; submitting it again is safe.
    #[error(transparent)]
    Node(NodeError),
    /// The wallet did not sign.
    #[error("the relay's wallet could not sign")]
    Wallet(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl SubmitError {
    /// What the contract's words say, as it gave them with its revert.
    pub fn reverted(data: &[u8]) -> Self {
        match Refusal::from_revert(data) {
            Some(refusal) => refusal.into(),
            None if data.is_empty() => Self::Reverted("no data, as for a body that is not ABI".into()),
            None => Self::Reverted(hex::encode(data.get(..SHOWN_BYTES).unwrap_or(data))),
        }
    }
}

impl From<NodeError> for SubmitError {
    fn from(error: NodeError) -> Self {
        match error.revert() {
            Some(data) => Self::reverted(data),
            None => Self::Node(error),
        }
    }
}
