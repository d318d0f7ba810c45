//! A client of MQTT 3.1 at a broker that is spoken to in MQTT 3.1.1.
//!
//! The packets are the same but for four things. CONNECT names another protocol, and needs a client identifier. DUP may
//! stand where later versions have no flags. CONNACK does not say whether there is a session. SUBACK cannot refuse a
//! filter: the server grants it and sends nothing (MQTT 3.1, 3.8).

use bytes::Bytes;

use super::Proxy;
use super::types::Output;
use super::up::shown;
use crate::packets::{Connack, Frame, PacketType, Suback, Version, reason};

/// Why nothing comes by a filter that the client was granted.
const NOT_TOLD: &str = "the broker refused it, which MQTT 3.1 has no way to tell the client";

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
