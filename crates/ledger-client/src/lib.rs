//! What an agent needs of the ledger: to submit entries and to read records, over anything that carries a message.
//!
//! It knows JSON-RPC and the few methods that a relay offers. It has no EVM, no wallet, and none of Ethereum's types
//! beyond bytes and the ABI, so it links into an agent on a gateway. It decides nothing about entries either: what a
//! relay gives out is for a [`Replica`](sealcast_ledger::Replica) to check.
//!
//! | module | what |
//! | --- | --- |
//! | `channel` | [`Channel`]: carries one message there and its answer back |
//! | `call_id` | [`CallId`]: the id of a request and its answer |
//! | `json_rpc` | requests and answers (JSON-RPC 2.0), and [`rpc_code`] |
//! | `error` | [`NodeError`] and [`SubmitError`], which the hub's own client gives too |
//! | `endpoints` | [`Endpoints`]: nodes of one EVM network, and which of them is asked; [`Finality`] |
//! | `entry_log`, `places` | entries as a node's logs have them: [`record`], [`Places`] |
//! | `network` | [`NetworkLedger`]: entries from the network, for an agent that believes no hub |
//! | `kept` | [`KeptQuery`] and [`KeptPage`]: what the hub keeps for whoever was away |
//! | `report` | [`NodeReport`]: what an agent tells of itself |
//! | `remote` | [`RemoteLedger`]: the client |
//! | `signed` | [`AnswerSigner`] and [`AnswerVerifier`]: answers that nobody but the hub can give |

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod call_id;
mod channel;
mod endpoints;
mod entry_log;
mod error;
mod finality;
mod json_rpc;
mod kept;
mod network;
mod places;
mod remote;
mod report;
pub mod rpc_code;
mod signed;

pub use call_id::CallId;
pub use channel::{AnyChannel, Channel, ChannelError};
pub use endpoints::Endpoints;
pub use entry_log::{ENTRY_TOPIC, record};
pub use error::{NodeError, SubmitError};
pub use finality::{Finality, FinalityError};
pub use json_rpc::RETRY_AFTER_MS;
pub use kept::{KeptPage, KeptQuery, MAX_HAVE};
pub use network::{EndpointState, MAX_LATE_MS, NetworkLedger};
pub use places::{Comparison, Other, Page, Places, missing};
pub use remote::{Head, MAX_RELAY_ENTRIES, RemoteLedger};
pub use report::{
    MAX_REPORT_BYTES, NodeReport, ReportError, SharedPoint, SharedSeries, SharedVerdict, SignedReport, ValueAlarm,
};
pub use signed::{AnswerError, AnswerSigner, AnswerVerifier};
