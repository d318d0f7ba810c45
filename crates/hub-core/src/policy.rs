//! Who may do what at the hub's broker, by the ledger as it is now.
//!
//! Whatever is on a group's topics is for devices that are granted in the group. What a stranger writes there opens nowhere,
//! but it could flood the members and replace what is retained for them. What a stranger gets from there it cannot open,
//! but sees when who sends how much; [`Readers::Anyone`] lets it see that. The control topics are each their owners' alone,
//! and only a filter that names their first level reaches them ([`sealcast_broker_core::Limits::reserved_levels`]).

use std::sync::{Arc, PoisonError, RwLock};

use sealcast_broker_core::{Attempt, Credential, Peer, Policy, PolicyRefusal};
use sealcast_identity::{CLIENT_ID_PREFIX, Certificate, DeviceId, OPERATOR_NAME, PublicKey};
use sealcast_ledger::{Device, GroupNumber, Replica, TopicFilter};
use sealcast_topic::{ControlTopic, covers, is_control, overlap};

use crate::{CertificateRefusal, holder_of};

/// The hub's copy of the ledger, shared with the task that follows it.
pub type SharedReplica = Arc<RwLock<Replica>>;

/// The broker's rules.
#[derive(Clone)]
pub struct LedgerPolicy {
    /// The hub's own replica.
    pub replica: SharedReplica,
    /// Who gets the messages of groups.
    pub readers: Readers,
}

/// Who gets the sealed messages of a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Readers {
    /// Devices that are granted in the group.
    #[default]
    Granted,
    /// Every active device, though it cannot open them.
    Anyone,
}

impl LedgerPolicy {
    fn judge(&self, certificate: &Certificate) -> Result<Peer, PolicyRefusal> {
        let replica = self.replica.read().unwrap_or_else(PoisonError::into_inner);
        let holder = holder_of(&replica, certificate).map_err(|refusal| match refusal {
            CertificateRefusal::DeviceRevoked => PolicyRefusal::Banned(refusal.reason()),
            _ => PolicyRefusal::NotAuthorized(refusal.reason()),
        })?;
        // By both it is the key that the ledger has.
        Ok(Peer { device: holder.name().into(), credential: Some(certificate.public_key().fingerprint()) })
    }
}

impl Policy for LedgerPolicy {
    fn connect(&self, attempt: &Attempt<'_>) -> Result<Peer, PolicyRefusal> {
        let certificate = attempt.certificate.ok_or(PolicyRefusal::NotAuthorized("it has no certificate"))?;
        let certificate = Certificate::from_der(certificate.der())
            .map_err(|_| PolicyRefusal::NotAuthorized("the certificate cannot be read"))?;
        self.judge(&certificate)
    }

    /// Whoever is not in a topic's group cannot open its messages, and so must not stop the members.
    fn group(&self, topic: &str) -> Option<u64> {
        let replica = self.replica.read().unwrap_or_else(PoisonError::into_inner);
        replica.group_for_topic(topic).map(|group| group.get().into())
    }

    fn is_member(&self, device: &str, group: u64) -> bool {
        let replica = self.replica.read().unwrap_or_else(PoisonError::into_inner);
        let number = u16::try_from(group).ok().and_then(GroupNumber::new);
        number.is_some_and(|group| is_granted(&replica, device, group))
    }

    fn members_only(&self) -> bool {
        self.readers == Readers::Granted
    }

    fn version(&self) -> u64 {
        self.replica.read().unwrap_or_else(PoisonError::into_inner).rights_version()
    }

    /// Every agent takes every device's keys.
    fn is_announcement(&self, topic: &str) -> bool {
        matches!(ControlTopic::parse(topic), Some(ControlTopic::Keys { .. }))
    }

    /// What a node's own connection (`Link` of `sealcast-node`) calls itself, at agents and in the operator's commands.
    fn is_control(&self, device: &str, client_id: &str) -> bool {
        client_id.strip_prefix(CLIENT_ID_PREFIX).and_then(|rest| rest.strip_prefix(device)).is_some()
    }

    /// A former key gives no right to publish, in the moment before its connections are ended too.
    fn may_publish(&self, peer: &Peer, topic: &str) -> bool {
        let replica = self.replica.read().unwrap_or_else(PoisonError::into_inner);
        let device = &*peer.device;
        // The operator's key is rotated over a connection by the former one, which calls the relay until that is done.
        if device == OPERATOR_NAME && topic == (ControlTopic::Request { node: OPERATOR_NAME }).to_string() {
            return true;
        }
        let known = active(&replica, device);
        if peer.credential.is_none() || peer.credential != credential_of(&replica, device, known) {
            return false;
        }
        if !is_control(topic) {
            return may_publish_application(&replica, known, topic);
        }
        match ControlTopic::parse(topic) {
            Some(ControlTopic::Request { node }) => node == device,
            Some(ControlTopic::Head) => device == OPERATOR_NAME,
            Some(ControlTopic::Keys { device: owner } | ControlTopic::Checkpoint { device: owner }) => {
                owner == device && device != OPERATOR_NAME
            }
            Some(ControlTopic::Inbox { device: addressee, group, committer }) => {
                may_publish_inbox(&replica, device, addressee, group, committer)
            }
            Some(ControlTopic::Ledger | ControlTopic::Response { .. }) | None => false,
        }
    }

    fn why_not_publish(&self, peer: &Peer, topic: &str) -> String {
        let replica = self.replica.read().unwrap_or_else(PoisonError::into_inner);
        let device = &*peer.device;
        if peer.credential != credential(&replica, device) {
            return "the ledger knows the device by another key now".into();
        }
        match replica.group_for_topic(topic).and_then(|group| replica.group(group)) {
            Some(group) if !is_control(topic) => {
                let group = &group.name;
                format!(
                    "it is a topic of group {group}, which {device} is not granted (`sealcast group grant {group} {device}`)"
                )
            }
            _ => "the device may not publish to this topic".into(),
        }
    }

    fn may_subscribe(&self, device: &str, filter: &str) -> bool {
        if !is_control(filter) {
            return self.readers == Readers::Anyone || self.may_subscribe_application(device, filter);
        }
        match ControlTopic::parse(filter) {
            Some(ControlTopic::Ledger | ControlTopic::Head | ControlTopic::Keys { .. }) => true,
            Some(
                ControlTopic::Response { node }
                | ControlTopic::Inbox { device: node, .. }
                | ControlTopic::Checkpoint { device: node },
            ) => node == device,
            Some(ControlTopic::Request { .. }) | None => false,
        }
    }
}

impl LedgerPolicy {
    /// Not if all that a filter can match belongs to groups, and the device is granted in none of them: it would wait for
    /// nothing. Of a wider filter, such as `#`, the device gets what is allowed.
    fn may_subscribe_application(&self, device: &str, filter: &str) -> bool {
        let replica = self.replica.read().unwrap_or_else(PoisonError::into_inner);
        let device = active(&replica, device).map(|device| device.number);
        let mut is_covered = false;
        for group in replica.groups() {
            for of_group in group.filters.iter().map(TopicFilter::as_str).filter(|of_group| overlap(of_group, filter)) {
                if device.is_some_and(|device| replica.is_granted(group.number, device)) {
                    return true;
                }
                is_covered |= covers(of_group, filter);
            }
        }
        !is_covered
    }
}

/// What the ledger knows an active device, or the operator, by now: the fingerprint of its key. A renewed certificate is for
/// the same key, and ends nothing.
pub(crate) fn credential(replica: &Replica, device: &str) -> Option<Credential> {
    credential_of(replica, device, active(replica, device))
}

fn credential_of(replica: &Replica, device: &str, known: Option<&Device>) -> Option<Credential> {
    match device {
        OPERATOR_NAME => replica.key_of(replica.genesis().id.operator()).map(PublicKey::fingerprint),
        _ => known.map(|device| device.key.fingerprint()),
    }
}

fn may_publish_application(replica: &Replica, device: Option<&Device>, topic: &str) -> bool {
    // The operator holds no group key: it says who is in a group, and nothing in it.
    let may = |group| device.is_some_and(|device| replica.is_granted(group, device.number));
    replica.group_for_topic(topic).is_none_or(may)
}

/// A Welcome goes from member to member, each of which has a place of its own. Its addressee takes it away.
fn may_publish_inbox(replica: &Replica, device: &str, addressee: &str, group: &str, committer: &str) -> bool {
    let Ok(number) = group.parse::<GroupNumber>() else { return false };
    if number.to_string() != group || committer.parse::<DeviceId>().is_err() {
        return false;
    }
    let addressed = device == addressee && device != OPERATOR_NAME;
    addressed || device == committer && is_granted(replica, device, number) && is_granted(replica, addressee, number)
}

fn active<'a>(replica: &'a Replica, device: &str) -> Option<&'a Device> {
    let id: DeviceId = device.parse().ok()?;
    replica.device_by_id(&id).filter(|device| device.is_active())
}

fn is_granted(replica: &Replica, device: &str, group: GroupNumber) -> bool {
    active(replica, device).is_some_and(|device| replica.is_granted(group, device.number))
}

#[cfg(test)]
mod tests;
