//! Why the broker refuses a client's connection: in words, and once, since clients try again every few seconds.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use sealcast_mqtt::{Version, reason};

/// Clients whose last answer is remembered; those beyond are told of each time.
const MAX_CLIENTS: usize = 4096;

/// The last refusal of each client.
#[derive(Default)]
pub struct Refusals(Mutex<BTreeMap<String, u8>>);

impl Refusals {
    /// The broker has accepted a client.
    pub fn note_accepted(&self, client: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(client);
    }

    /// Takes in the code by which the broker refused a client. Whether it is another one than the time before.
    pub fn is_news(&self, client: &str, code: u8) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if last.len() >= MAX_CLIENTS && !last.contains_key(client) {
            return true;
        }
        last.insert(client.to_owned(), code) != Some(code)
    }
}

/// A CONNACK code that is not 0 (MQTT 3.1.1, 3.2.2.3; MQTT 5, 3.2.2.2).
pub fn reason(version: Version, code: u8) -> &'static str {
    let v5 = version == Version::V5;
    match if v5 { code } else { reason::from_connack_v311(code) } {
        reason::UNSUPPORTED_VERSION => "the broker does not speak this version of MQTT",
        reason::CLIENT_IDENTIFIER_NOT_VALID => "the broker does not accept the client identifier",
        // MQTT 3.1.1 has no code of its own for a quota.
        reason::SERVER_UNAVAILABLE if !v5 => {
            "the broker is not available, or this device has as many sessions there as it may, online and offline \
             (limits.max_device_sessions in hub.toml)"
        }
        reason::BAD_USER_NAME_OR_PASSWORD => "bad user name or password",
        reason::NOT_AUTHORIZED => {
            "not authorized: the broker does not let in the login or the certificate that the agent shows, or the device may \
             not publish its will"
        }
        reason::SERVER_UNAVAILABLE => "the broker is not available",
        reason::SERVER_BUSY => "the broker is busy",
        reason::BANNED => "banned: the device is revoked",
        reason::QUOTA_EXCEEDED => {
            "quota exceeded: this device has as many sessions there as it may, online and offline \
             (limits.max_device_sessions in hub.toml)"
        }
        _ => "see the reason code",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_is_news_once() {
        let refusals = Refusals::default();
        let seen = [("a", 0x97), ("a", 0x97), ("b", 0x97), ("a", 0x88), ("a", 0x88)];
        let news: Vec<bool> = seen.iter().map(|(client, code)| refusals.is_news(client, *code)).collect();
        assert_eq!(news, [true, false, true, true, false]);
        refusals.note_accepted("a");
        assert!(refusals.is_news("a", 0x88));
        assert!(reason(Version::V5, 0x97).contains("max_device_sessions"));
        assert!(reason(Version::V311, 3).contains("max_device_sessions"));
    }
}
