//! Reason codes (MQTT 5 2.4) and return codes (MQTT 3.1.1 3.2.2.3) in words.

use std::fmt;

use crate::packets::{Properties, Property, Text, reason};

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

    /// The code of a CONNACK. A server of MQTT 3.1.1 answers a CONNECT of MQTT 5 in its own way.
    pub(super) fn of_connack(code: u8, properties: &Properties) -> Self {
        Self::with_properties(reason::from_connack_v311(code), properties)
    }

    /// The standard's name of the code.
    pub fn name(&self) -> Option<&'static str> {
        reason::name(self.code)
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
