//! What the owner of the broker decides: who may connect, publish and subscribe, and (for the demo) what a hostile
//! broker does to messages.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use sealcast_mqtt::{Qos, reason};

use crate::cause::Cause;
use crate::certificate::PeerCertificate;

/// What the owner of the broker knows a device by, such as the SHA-256 of its key.
pub type Credential = [u8; 32];

/// Who is behind a connection, as [`Policy::connect`] has found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Peer {
    /// The device's name: sessions belong to it, [`crate::Core::handle_disconnect_device`] takes it, and with client
    /// certificates it is usually their CN.
    pub device: Arc<str>,
    /// By which it connected. The device may have another one by now.
    pub credential: Option<Credential>,
}

impl From<&str> for Peer {
    /// A device that has no credential.
    fn from(device: &str) -> Self {
        Self { device: device.into(), credential: None }
    }
}

/// A client that wants to connect.
#[derive(Debug)]
pub struct Attempt<'a> {
    /// The verified client certificate; `None` on a plain TCP listener.
    pub certificate: Option<&'a PeerCertificate>,
    /// Client identifier from CONNECT; empty when the client leaves the choice to the broker.
    pub client_id: &'a str,
    /// User name from CONNECT.
    pub username: Option<&'a str>,
}

/// Why a client is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyRefusal {
    /// Not authorized, for this reason, which the log gets: CONNACK 0x87 (MQTT 5), 5 (MQTT 3).
    NotAuthorized(&'static str),
    /// Banned, such as a revoked device, for this reason, which the log gets: CONNACK 0x8A, 5 in MQTT 3.
    Banned(&'static str),
    /// Bad user name or password: CONNACK 0x86, 4 in MQTT 3.
    BadCredentials,
    /// Client identifier not valid: CONNACK 0x85, 2 in MQTT 3.
    ClientId,
    /// Not now: CONNACK 0x88, 3 in MQTT 3.
    Unavailable,
}

impl PolicyRefusal {
    /// What the log calls it.
    pub(crate) fn cause(self) -> Cause {
        match self {
            Self::NotAuthorized(_) => Cause::NotAuthorized,
            Self::Banned(_) => Cause::Banned,
            Self::BadCredentials => Cause::BadCredentials,
            Self::ClientId => Cause::ClientId,
            Self::Unavailable => Cause::Unavailable,
        }
    }

    pub(crate) fn code(self) -> u8 {
        match self {
            Self::NotAuthorized(_) => reason::NOT_AUTHORIZED,
            Self::Banned(_) => reason::BANNED,
            Self::BadCredentials => reason::BAD_USER_NAME_OR_PASSWORD,
            Self::ClientId => reason::CLIENT_IDENTIFIER_NOT_VALID,
            Self::Unavailable => reason::SERVER_UNAVAILABLE,
        }
    }
}

impl fmt::Display for PolicyRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAuthorized(why) | Self::Banned(why) => why,
            Self::BadCredentials => "bad user name or password",
            Self::ClientId => "client identifier not valid",
            Self::Unavailable => "unavailable",
        })
    }
}

/// Access rules. Called from the broker's single core task: answers must be cheap and must not block.
pub trait Policy: Send + Sync + 'static {
    /// Decides on a CONNECT and names the device behind it.
    fn connect(&self, attempt: &Attempt<'_>) -> Result<Peer, PolicyRefusal>;

    /// Whether `peer` may publish to `topic` (a valid topic name). Asked for wills too, at CONNECT and when they are due.
    fn may_publish(&self, peer: &Peer, topic: &str) -> bool;

    /// Why it may not, for the log: asked only when it is logged.
    fn why_not_publish(&self, _peer: &Peer, _topic: &str) -> String {
        "the device may not publish to this topic".into()
    }

    /// Whether `device` may subscribe to `filter` (a valid filter, without `$share/<group>/`).
    fn may_subscribe(&self, device: &str, filter: &str) -> bool;

    /// The group that the messages on `topic` are for, by a number of the owner's choosing; `None` if they are for anybody.
    /// Publishers wait for the group's members, and for no other device: a session of another whose queue is full is
    /// ended, since one that has no use for the messages must not stop those for whom they are. What waits for members
    /// does not count against their sessions when one must end because the queues of all together are full.
    fn group(&self, _topic: &str) -> Option<u64> {
        None
    }

    /// Whether `device` is a member of a group that [`Self::group`] has named. Answers are kept as long as
    /// [`Self::version`] stays.
    fn is_member(&self, _device: &str, _group: u64) -> bool {
        true
    }

    /// Whether messages for a group go to its members only, whatever other devices have subscribed to: also what was queued
    /// for a device when it still was a member, and what is retained.
    fn members_only(&self) -> bool {
        false
    }

    /// Changes whenever an answer of [`Self::is_member`] may have changed. Asked at each packet.
    fn version(&self) -> u64 {
        0
    }

    /// Whether every device does work for what is published on `topic`. A device may publish to such topics only so often:
    /// [`crate::Limits::max_announcements`].
    fn is_announcement(&self, _topic: &str) -> bool {
        false
    }

    /// Whether a client of `device` with this identifier is the device's control connection, for which
    /// [`crate::Limits::control`] reserves places. The client chooses its identifier: this is no proof.
    fn is_control(&self, _device: &str, _client_id: &str) -> bool {
        false
    }
}

/// A message in the hands of an [`Interceptor`].
#[derive(Clone, Debug)]
pub struct Intercepted {
    /// Topic name; a change to something that is no valid topic name drops the message.
    pub topic: String,
    /// Payload.
    pub payload: Bytes,
    /// Quality of service; lowering it is allowed.
    pub qos: Qos,
    /// RETAIN flag.
    pub retain: bool,
}

/// What becomes of an intercepted message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interception {
    /// Goes on, as changed.
    Forward,
    /// Vanishes; its sender still gets an acknowledgement.
    Drop,
}

/// A hostile broker's hand on every PUBLISH: clients', wills and the hub's own, before it is retained or
/// routed. A [`crate::HubMessage`] can go past it. Called from the core task:
/// must not block.
pub trait Interceptor: Send + Sync + 'static {
    /// Sees and may change `message`; `sender` is the device's name, `None` for the hub itself.
    fn publish(&self, sender: Option<&str>, message: &mut Intercepted) -> Interception;
}
