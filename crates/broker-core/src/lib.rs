//! What the embedded MQTT broker decides: sessions, subscriptions, retained messages, deliveries, and who waits for room.
//!
//! [`Core`] is a state machine without sockets, files or clock. `sealcast-broker` drives it with connections and a journal
//! in SQLite; `sealcast-simulation` drives it by calls. [`Image`] is what any journal of it has to hold.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod cause;
mod certificate;
mod core;
mod fault;
#[doc(hidden)]
pub mod fuzz;
mod limits;
mod message;
mod packets;
mod policy;
mod router;
mod topic;

pub use cause::{Cause, Counts};
pub use certificate::PeerCertificate;
pub use limits::{ClassLimits, Limits};
pub use message::{Message, Received};
pub use packets::{ConnAckProperties, Incoming, Outgoing, Subscribed};
pub use policy::{Attempt, Credential, Intercepted, Interception, Interceptor, Peer, Policy, PolicyRefusal};
pub use router::{LocalId, SessionId};
pub use sealcast_mqtt::{Properties, Qos};
pub use topic::{TopicError, parse_topic, validate_filter};

pub use crate::core::{
    ConnId, Core, Delivery, Effects, HubMessage, Image, JournalRecord, Output, Restored, RestoredSession, SessionKey,
    Stats,
};
