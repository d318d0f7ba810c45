//! A connection of a local client.

use sealcast_agent_core::{Now, session::Session};
use sealcast_broker_core::ConnId;

/// Bytes that may wait for a client.
pub(super) const ROOM: usize = 1 << 16;

/// See the module.
pub(super) struct Conn {
    pub session: Session,
    pub wire: Option<ConnId>,
    /// What it has for its client that is not a whole frame yet.
    pub part: bytes::BytesMut,
    pub closed: bool,
}

impl Conn {
    pub fn poll_timeout(&self, now: Now) -> Option<u64> {
        self.session.poll_timeout(now, ROOM)
    }
}
