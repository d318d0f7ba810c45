//! Reason codes (MQTT 5 2.4) and return codes (MQTT 3.1.1 3.2.2.3) in words.

use std::fmt;

use crate::frame::Version;
use crate::property::{Properties, Property};
use crate::wire::Text;

/// Why a server refused something: its code, and its own words where it gave some.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// Reason code of MQTT 5; what MQTT 3.1.1 has instead is translated.
    pub code: u8,
    /// The server's Reason String.
    pub text: Option<Text>,
}

impl Reason {
    /// A code alone.
    pub fn new(code: u8) -> Self {
        Self { code, text: None }
    }

    pub(super) fn with_properties(code: u8, properties: &Properties) -> Self {
        let text = properties.find(|p| if let Property::ReasonString(text) = p { Some(text.clone()) } else { None });
        Self { code, text }
    }

    /// The code of a CONNACK.
    pub(super) fn of_connack(version: Version, code: u8, properties: &Properties) -> Self {
        let code = match (version, code) {
            (Version::V311, 1) => 0x84,
            (Version::V311, 2) => 0x85,
            (Version::V311, 3) => 0x88,
            (Version::V311, 4) => 0x86,
            (Version::V311, 5) => 0x87,
            (_, code) => code,
        };
        Self::with_properties(code, properties)
    }

    /// The standard's name of the code.
    pub fn name(&self) -> Option<&'static str> {
        Some(match self.code {
            0x00 => "success",
            0x04 => "disconnect with will message",
            0x10 => "no matching subscribers",
            0x11 => "no subscription existed",
            0x80 => "unspecified error",
            0x81 => "malformed packet",
            0x82 => "protocol error",
            0x83 => "implementation specific error",
            0x84 => "unsupported protocol version",
            0x85 => "client identifier not valid",
            0x86 => "bad user name or password",
            0x87 => "not authorized",
            0x88 => "server unavailable",
            0x89 => "server busy",
            0x8A => "banned",
            0x8B => "server shutting down",
            0x8C => "bad authentication method",
            0x8D => "keep alive timeout",
            0x8E => "session taken over",
            0x8F => "topic filter invalid",
            0x90 => "topic name invalid",
            0x91 => "packet identifier in use",
            0x92 => "packet identifier not found",
            0x93 => "receive maximum exceeded",
            0x94 => "topic alias invalid",
            0x95 => "packet too large",
            0x96 => "message rate too high",
            0x97 => "quota exceeded",
            0x98 => "administrative action",
            0x99 => "payload format invalid",
            0x9A => "retain not supported",
            0x9B => "QoS not supported",
            0x9C => "use another server",
            0x9D => "server moved",
            0x9E => "shared subscriptions not supported",
            0x9F => "connection rate exceeded",
            0xA0 => "maximum connect time",
            0xA1 => "subscription identifiers not supported",
            0xA2 => "wildcard subscriptions not supported",
            _ => return None,
        })
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.text, self.name()) {
            (Some(text), _) => f.write_str(text.as_str()),
            (None, Some(name)) => f.write_str(name),
            (None, None) => write!(f, "reason code {:#04x}", self.code),
        }
    }
}
