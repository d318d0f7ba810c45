//! What the hub decides: who may do what at its broker, by the ledger.
//!
//! Sans-IO, so that `sealcast-simulation` judges by the same rules as `sealcast-hub`.

mod barred;
mod holder;
mod policy;

pub use self::{
    barred::Barred,
    holder::{CertificateRefusal, device_of},
    policy::{LedgerPolicy, Readers, SharedReplica},
};
