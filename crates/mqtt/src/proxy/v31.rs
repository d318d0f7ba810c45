//! A client of MQTT 3.1 at a broker that is spoken to in MQTT 3.1.1.
//!
//! The packets are the same but for four things. CONNECT names another protocol, and needs a client identifier. DUP may
//! stand where later versions have no flags. CONNACK does not say whether there is a session. SUBACK cannot refuse a
//! filter: the server grants it and sends nothing (MQTT 3.1, 3.8).

use bytes::Bytes;

use super::Proxy;
use super::types::Output;
use super::up::shown;
use crate::packets::{Connack, Connect, Frame, PacketType, Suback, Version, reason};

/// Why a CONNECT of MQTT 3.1 is refused.
pub(super) const NO_CLIENT_ID: &str = "MQTT 3.1 has no client without a client identifier";
/// Why nothing comes by a filter that the client was granted.
const NOT_TOLD: &str = "the broker refused it, which MQTT 3.1 has no way to tell the client";

/// The version in which the broker is spoken to for a client of `version`.
pub(super) fn upstream_version(version: Version) -> Version {
    if version == Version::V31 { Version::V311 } else { version }
}

/// Whether a broker of MQTT 3.1 has to refuse the client's identifier. Longer ones than 23 characters are the broker's to
/// judge: MQTT 3.1.1 has no such limit, and clients that call themselves 3.1 go beyond it.
pub(super) fn lacks_client_id(connect: &Connect) -> bool {
    connect.version == Version::V31 && connect.client_id.as_str().is_empty()
}

impl Proxy {
    /// A CONNACK or SUBACK as the client's own version has it.
    pub(super) fn in_clients_version(&self, bytes: Bytes) -> Bytes {
        if !self.client_is_v31 {
            return bytes;
        }
        let Ok(frame) = Frame::from_bytes(bytes.clone()) else { return bytes };
        let changed = match frame.packet() {
            PacketType::Connack => Connack::parse(&frame, self.version)
                .ok()
                .and_then(|connack| Connack { session_present: false, ..connack }.encode(self.version).ok()),
            PacketType::Suback => Suback::parse(&frame, self.version).ok().and_then(|suback| {
                let codes = suback.codes.iter().map(|code| reason::suback(*code, Version::V31)).collect();
                Suback { codes, ..suback }.encode(self.version).ok()
            }),
            _ => None,
        };
        changed.unwrap_or(bytes)
    }

    /// The broker has refused these filters. A client of MQTT 3.1 does not learn it, so a person has to.
    pub(super) fn tell_refused(&mut self, filters: &[Box<str>]) {
        if self.client_is_v31 {
            let told =
                filters.iter().map(|filter| Output::FilterUnfit { filter: shown(filter), reason: NOT_TOLD.into() });
            self.outputs.extend(told);
        }
    }
}
