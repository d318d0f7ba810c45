//! The operator's commands: devices, groups, the ledger and its readings. They reach a running hub over its broker, with the
//! operator's key, and believe what they have verified themselves.

mod attest;
pub mod audit;
pub mod broker;
pub mod device;
pub mod doctor;
pub mod duty;
pub mod group;
mod hub_args;
pub mod init;
pub mod key;
pub mod ledger;
mod moving;
mod operator;
pub mod progress;
pub mod readings;
mod receipt;
mod source;

pub use self::operator::{Operator, OperatorArgs};
