//! What the hub keeps for a node that was away: its method `sealcast_kept`.

use alloy_primitives::Bytes;
use sealcast_ledger::Hash;
use serde::{Deserialize, Serialize};

/// Messages in one [`KeptQuery::have`].
pub const MAX_HAVE: usize = 1_024;

/// What a node asks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeptQuery {
    /// [`KeptPage::next`] of the last answer, so that only what is newer comes.
    pub after: Option<String>,
    /// Topics and SHA-256 of the messages that the node has published, and that the hub should keep.
    pub have: Vec<(String, Hash)>,
}

/// The answer: messages of others for the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptPage {
    /// Topics and payloads, in the order in which the hub got them.
    pub messages: Vec<(String, Bytes)>,
    /// What to ask with for those behind them.
    pub next: String,
    /// There are some already.
    pub more: bool,
    /// Topics of [`KeptQuery::have`] of which the hub does not keep that message.
    pub lacks: Vec<String>,
}
