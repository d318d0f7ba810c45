//! The hub: CA with EST, embedded MQTT broker, embedded ledger and relay in one process.

mod account;
mod apart;
mod carrier;
mod config;
pub mod console;
mod descriptor;
pub mod doctor;
mod est;
mod folder;
mod follower;
mod https;
mod hub;
pub mod init;
mod keeper;
mod ledger;
mod moving;
mod outside;
mod registrar;
mod relay;
mod relay_key;
mod reports;
mod revocations;
mod rotation;
mod rpc;
mod tokens;
mod up;

pub use sealcast_broker::Cause;

pub use self::{
    apart::Folders,
    config::{Hub as HubConfig, HubFile, Subscribe},
    hub::{ConsoleAt, Hub},
    moving::{Imported, check_successor, import},
    rotation::rotate_ca,
    tokens::Tokens,
    up::{Options, run},
};
