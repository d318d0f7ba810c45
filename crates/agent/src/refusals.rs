//! Why the broker refuses a client's connection: in words, and once, since clients try again every few seconds.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use sealcast_mqtt::Version;

/// Clients whose last answer is remembered; those beyond are told of each time.
const MAX_CLIENTS: usize = 4096;

/// The last refusal of each client.
#[derive(Default)]
pub struct Refusals(Mutex<BTreeMap<String, u8>>);

impl Refusals {
    /// Takes in the code of a CONNACK. Whether it refuses the client for another reason than the time before.
    pub fn is_news(&self, client: &str, code: u8) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if code == 0 {
            last.remove(client);
            return false;
        }
        if last.len() >= MAX_CLIENTS && !last.contains_key(client) {
            return true;
        }
        last.insert(client.to_owned(), code) != Some(code)
    }
}

/// A CONNACK code that is not 0 (MQTT 3.1.1, 3.2.2.3; MQTT 5, 3.2.2.2).
pub fn reason(version: Version, code: u8) -> &'static str {
    match (version, code) {
        (Version::V311, 1) | (Version::V5, 0x84) => "the broker does not speak this version of MQTT",
        (Version::V311, 2) | (Version::V5, 0x85) => "the broker does not accept the client identifier",
        (Version::V311, 3) => {
            "the broker is not available, or this device has as many sessions there as it may, online and offline \
             (limits.max_device_sessions in hub.toml)"
        }
        (Version::V311, 4) | (Version::V5, 0x86) => "bad user name or password",
        (Version::V311, 5) | (Version::V5, 0x87) => {
            "not authorized: the hub does not know the device's certificate, or the device may not publish its will"
        }
        (Version::V5, 0x88) => "the broker is not available",
        (Version::V5, 0x89) => "the broker is busy",
        (Version::V5, 0x8A) => "banned: the device is revoked",
        (Version::V5, 0x97) => {
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
        let seen = [("a", 0x97), ("a", 0x97), ("b", 0x97), ("a", 0x88), ("a", 0), ("a", 0x88)];
        let news: Vec<bool> = seen.iter().map(|(client, code)| refusals.is_news(client, *code)).collect();
        assert_eq!(news, [true, false, true, true, false, true]);
        assert!(reason(Version::V5, 0x97).contains("max_device_sessions"));
        assert!(reason(Version::V311, 3).contains("max_device_sessions"));
    }
}
