//! Who may do what at the broker, by the ledger: the rules of the hub's `policy.rs`, which is above this crate.

use std::sync::{Arc, PoisonError, RwLock};

use sealcast_broker_core::{Attempt, Policy, PolicyRefusal};
use sealcast_identity::{Certificate, DeviceId};
use sealcast_ledger::{Device, GroupNumber, Replica};
use sealcast_topic::{ControlTopic, is_control};

/// What a control connection's client identifier begins with, before the device.
pub const CONTROL_PREFIX: &str = "sealcast-";

/// See the module. The hub changes the replica as it follows the ledger.
pub struct LedgerPolicy(pub Arc<RwLock<Replica>>);

impl LedgerPolicy {
    fn read<T>(&self, read: impl FnOnce(&Replica) -> T) -> T {
        read(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn is_active(&self, device: &str) -> bool {
        self.read(|replica| is_active(replica, device))
    }

    fn is_granted(&self, device: &str, group: GroupNumber) -> bool {
        self.read(|replica| is_granted(replica, device, group))
    }

    fn may_publish_inbox(&self, device: &str, addressee: &str, group: &str) -> bool {
        let Ok(group) = group.parse::<GroupNumber>() else { return false };
        if device == addressee {
            return self.is_active(device);
        }
        self.is_granted(device, group) && self.is_granted(addressee, group)
    }
}

impl Policy for LedgerPolicy {
    fn connect(&self, attempt: &Attempt<'_>) -> Result<Arc<str>, PolicyRefusal> {
        let peer = attempt.certificate.ok_or(PolicyRefusal::NotAuthorized)?;
        let certificate = Certificate::from_der(peer.der()).map_err(|_| PolicyRefusal::NotAuthorized)?;
        let id = certificate.device().map_err(|_| PolicyRefusal::NotAuthorized)?;
        self.read(|replica| match replica.device_by_id(&id) {
            None => Err(PolicyRefusal::NotAuthorized),
            Some(device) if !device.is_active() => Err(PolicyRefusal::Banned),
            Some(_) => Ok(id.as_str().into()),
        })
    }

    fn group(&self, topic: &str) -> Option<u64> {
        self.read(|replica| replica.group_for_topic(topic).map(|group| group.get().into()))
    }

    fn is_member(&self, device: &str, group: u64) -> bool {
        let group = u16::try_from(group).ok().and_then(GroupNumber::new);
        group.is_some_and(|group| self.is_granted(device, group))
    }

    fn is_control(&self, device: &str, client_id: &str) -> bool {
        client_id.strip_prefix(CONTROL_PREFIX).is_some_and(|rest| rest.starts_with(device))
    }

    fn may_publish(&self, device: &str, topic: &str) -> bool {
        if !is_control(topic) {
            return self.read(|replica| match replica.group_for_topic(topic) {
                Some(group) => is_granted(replica, device, group),
                None => is_active(replica, device),
            });
        }
        match ControlTopic::parse(topic) {
            Some(ControlTopic::Request { node }) => node == device,
            Some(ControlTopic::Keys { device: owner }) => owner == device && self.is_active(device),
            Some(ControlTopic::Inbox { device: addressee, group }) => self.may_publish_inbox(device, addressee, group),
            Some(ControlTopic::Ledger | ControlTopic::Response { .. }) | None => false,
        }
    }

    fn may_subscribe(&self, device: &str, filter: &str) -> bool {
        if !is_control(filter) {
            return true;
        }
        match ControlTopic::parse(filter) {
            Some(ControlTopic::Ledger | ControlTopic::Keys { .. }) => true,
            Some(ControlTopic::Response { node } | ControlTopic::Inbox { device: node, .. }) => node == device,
            Some(ControlTopic::Request { .. }) | None => false,
        }
    }
}

fn active<'a>(replica: &'a Replica, device: &str) -> Option<&'a Device> {
    let id: DeviceId = device.parse().ok()?;
    replica.device_by_id(&id).filter(|device| device.is_active())
}

fn is_active(replica: &Replica, device: &str) -> bool {
    active(replica, device).is_some()
}

fn is_granted(replica: &Replica, device: &str, group: GroupNumber) -> bool {
    active(replica, device).is_some_and(|device| replica.is_granted(group, device.number))
}
