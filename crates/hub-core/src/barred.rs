//! Whose connections end by what the ledger says.

use sealcast_broker_core::Credential;
use sealcast_identity::OPERATOR_NAME;
use sealcast_ledger::{Event, Former, Replica};

use crate::policy::credential;

/// Who may no longer be connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Barred {
    /// A revoked device.
    Device(String),
    /// Whoever connected as this device by a key that it had before.
    FormerDevice {
        /// The device.
        device: String,
        /// Its present one.
        credential: Credential,
    },
    /// Whoever connected as the operator by a key that it had before. The rotation is answered over such a connection.
    FormerOperator {
        /// The operator's present one.
        credential: Credential,
    },
}

impl Barred {
    /// By a record that `replica` has just applied.
    pub fn by(replica: &Replica, event: &Event) -> Option<Self> {
        match event {
            Event::DeviceRevoked { device, .. } => replica.name_of(*device).map(|name| Self::Device(name.to_owned())),
            Event::DeviceRegistered { id, former: Former::OtherKey, .. } => {
                let credential = credential(replica, id.as_str())?;
                Some(Self::FormerDevice { device: id.to_string(), credential })
            }
            Event::KeyRotated { whose, .. } if *whose == replica.genesis().id.operator() => {
                Some(Self::FormerOperator { credential: credential(replica, OPERATOR_NAME)? })
            }
            _ => None,
        }
    }
}
