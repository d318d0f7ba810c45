//! The embedded MQTT broker: MQTT 3.1, 3.1.1 and 5.0 on one port, over mutual TLS or (for tests and the demo) plain TCP.
//!
//! ```text
//! connections ──packets──▶ core (sans-IO, one thread of control) ──records──▶ journal (SQLite, one writer thread)
//!      ▲                                │                                         │
//!      └────────────── outputs ◀────────┴───────── held until durable ◀───────────┘
//! ```
//!
//! # What survives `kill -9`
//! The core never writes to a socket. Each step yields outputs and journal records; the driver hands an output to its
//! connection only after every record made before it is on disk (WAL, `synchronous=FULL`). So:
//! - a PUBACK or PUBREC means that the message is stored for each persistent session that matched, online or not;
//! - a CONNACK or SUBACK means that the session and its subscriptions are stored; retained messages likewise;
//! - QoS 2 is exactly once across a restart of the broker: packet identifiers in both directions are journalled before
//!   the packet that depends on them is sent. QoS 1 is at least once: a PUBACK from a subscriber may be lost in a crash.
//!
//! Records of all connections that arrive while a commit runs share the next one (group commit), and a single
//! publisher may have as many messages under way as its client allows.
//!
//! A message that came by a shared subscription is owed to the share: when a session ends, another member gets what it was
//! not sent. That and the session's end are one transaction.
//!
//! Not kept: QoS 0 messages, sessions whose expiry is 0 (clean sessions), wills of clients that were online in the crash.
//!
//! # Bounds
//! Every queue has a limit, and so have the queues of a device together, and all together ([`Limits`]). What was acknowledged is never dropped to keep to one. Instead, a PUBLISH that a
//! session has no room for is not acknowledged: an MQTT 5 publisher gets 0x97, quota exceeded; an MQTT 3 publisher is
//! held up until the queue has drained, and is disconnected after [`Limits::publish_patience`]. The module
//! `core/pressure.rs` of `sealcast-broker-core` has the reasons and the rules for wills, retained messages and control topics. A client that does
//! not read loses QoS 0 messages first, then its connection.
//!
//! # Who is who
//! [`Policy::connect`] names the device behind a connection. Sessions belong to a device: two devices that use the same
//! client identifier have two sessions, and none can take over another's. There is no process-global state; any number
//! of brokers run side by side in one process.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod config;
mod connection;
mod journal;
mod server;
mod sighting;
mod tls;

pub use config::{BrokerConfig, ListenerConfig};
pub use journal::JournalError;
pub use sealcast_broker_core::{
    Attempt, Cause, ClassLimits, Counts, Credential, Intercepted, Interception, Interceptor, Limits, Peer,
    PeerCertificate, Policy, PolicyRefusal, Properties, Qos, Received, Stats, TopicError,
};
pub use server::{Broker, Handle, HandleError, MaxStrangers, Running, StartError, Stranger, Strangers, host};
pub use sighting::Sighting;
pub use tls::{TlsError, TlsIdentity};
