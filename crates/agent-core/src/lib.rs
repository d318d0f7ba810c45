//! What an agent decides: which way a topic goes, what may be sealed and opened, and in what order with the disk.
//!
//! Sans-IO: no sockets, files, clock or tasks. Each part is fed with what happened and the time, and gives [`Step`]s: what
//! must be on disk, and what follows once it is. The crate `sealcast-agent` drives it.
//!
//! | module | what |
//! | --- | --- |
//! | `anchors` | [`AnchorRules`]: when what was sent is anchored on the ledger |
//! | `step` | [`Step`]: nothing leaves an agent before what it depends on is on disk |
//! | `cause` | [`Cause`]: why a message is not sent, or not handed on |
//! | `freshness` | [`Freshness`]: how old a message may be |
//! | `incidents` | [`Incidents`]: what did not get through lately |
//! | `keyring` | [`Keyring`]: the ledger's replica and the group keys; routing, sealing, opening |
//! | `outgoing` | [`own_message`]: what the agent itself publishes on topics of groups |
//! | `control` | [`control::Control`]: follows the ledger, agrees on group keys, submits entries |
//! | `renewal` | [`Renewal`]: when the device's certificate is renewed |
//! | `session` | [`session::Session`]: one client's connection, from its bytes to the broker's |
//! | `values` | [`values::Values`]: checks, reports, alarms, archives, fail-safes |
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod anchors;
mod by_filter;
mod cause;
pub mod control;
mod deadline;
mod freshness;
mod incidents;
mod keyring;
mod now;
mod outgoing;
mod record;
mod renewal;
mod retained;
pub mod session;
mod step;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod values;

pub use self::{
    anchors::{AnchorRules, SeriesState},
    by_filter::ByFilter,
    cause::{Cause, Weight, Why},
    freshness::{Freshness, MaxAge, Stale},
    incidents::{Incident, Incidents, Way},
    keyring::{
        Arrival, Away, ClearFilter, ClearFilterError, Denied, Doubt, GroupOverview, Keyring, LedgerSource, Overview,
        Own, Received, Route, SharedKeyring, Speaker, SyncId, Traffic,
    },
    now::Now,
    outgoing::{Frame, own_message, sealed_again},
    record::{RecordError, RecordRules, RecordTable},
    renewal::{Renewal, Warning},
    retained::{MAX_RETAINED, Retained, RetainedTopics, TooManyRetained},
    step::{Step, Uncommitted},
};
