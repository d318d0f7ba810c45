//! The agent: the sidecar of one device. Its MQTT clients connect to it as if it were the broker; it seals what they publish and
//! opens what they receive.
//!
//! It sees the ledger through its own replica and over JSON-RPC, so that nothing of the hub is linked into it.

mod agent;
pub mod audit;
pub mod cli;
mod client;
mod clock;
mod config;
mod control;
mod counts;
mod data;
pub mod doctor;
mod doors;
pub mod enroll;
mod events;
mod folder;
mod incidents;
pub mod init;
mod key_log;
mod listeners;
mod lost;
mod outside;
mod readings;
mod refusals;
mod renewal;
mod reporter;
mod series;
mod sessions;
mod store;
pub mod topics;
mod values;
pub mod why;

pub use sealcast_agent_core::{
    Cause,
    session::{ClientEvent, Refused},
    values::{Alarm, AlarmKind},
};

pub use self::{
    agent::{Agent, Options, read_replica, read_replica_with_progress, run, stored_records, upstream},
    config::{Agent as AgentConfig, AgentFile, read_schemas},
    folder::{Folder, genesis},
    store::Store,
};
