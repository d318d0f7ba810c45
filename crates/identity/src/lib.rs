//! Who a node is: its P-256 key, its certificate, and the decisions of the CA that issues it.
//!
//! Sans-IO: nothing here opens a socket or a file or reads a clock. Times are passed in as milliseconds since the Unix
//! epoch, key material comes from aws-lc's generator.

mod id;
mod key;

pub use id::{DeviceId, DeviceIdError};
pub use key::{KeyError, PublicKey, Signature, SigningKey};
