//! What the hub decides: who may do what at its broker, by the ledger.
//!
//! Sans-IO, so that `sealcast-simulation` judges by the same rules as `sealcast-hub`.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod barred;
mod holder;
mod kept;
mod policy;
#[cfg(test)]
mod testing;

pub use self::{
    barred::Barred,
    holder::{CertificateRefusal, Holder, device_of, holder_of},
    kept::{Change, Kept, Page, Place},
    policy::{LedgerPolicy, Readers, SharedReplica},
};
