//! `[limits]` of `hub.toml`: what one device, and all together, may use of the hub's broker.

use std::time::Duration;

use anyhow::{Result, ensure};
use sealcast_broker::{ClassLimits, Limits};
use serde::Deserialize;

/// The table as it stands in the file. Control traffic has limits of its own, which are not keys.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsFile {
    /// Connections at once. Default 20,000.
    max_connections: usize,
    /// Sessions, online and offline. Default 100,000.
    max_sessions: usize,
    /// Sessions of one device, online and offline. Default 1,024: four times an agent's `max_clients`.
    max_device_sessions: usize,
    /// Longest time that an offline session is kept, in hours. Default 720: 30 days.
    session_expiry_hours: u32,
    /// Most messages that wait for one session. Default 100,000.
    max_queued_messages: usize,
    /// Most bytes that wait for one session. Default 268,435,456.
    max_queued_bytes: usize,
    /// Most messages that wait for all sessions of one device or are in flight to them. Default 400,000.
    max_device_queued_messages: usize,
    /// Most bytes of them. Default 536,870,912: two full queues.
    max_device_queued_bytes: usize,
    /// Most messages that wait for all sessions of all devices or are in flight to them. Default 2,000,000.
    max_total_queued_messages: usize,
    /// Most bytes of them. Default 4,294,967,296: eight devices at their bound.
    max_total_queued_bytes: usize,
    /// How long an MQTT 3.1.1 publisher is held up while a queue is full, in ms. Default 20,000.
    publish_wait_ms: u64,
    /// An offline session whose queue has been full for so many hours ends; 0 for never. Default 0.
    full_session_hours: u32,
    /// Most retained messages. Default 100,000.
    max_retained: usize,
    /// Most bytes of them. Default 268,435,456.
    max_retained_bytes: usize,
    /// Most retained messages of one device. Default 10,000.
    max_device_retained: usize,
    /// Most bytes of them. Default 67,108,864.
    max_device_retained_bytes: usize,
}

impl Default for LimitsFile {
    fn default() -> Self {
        let limits = Limits::default();
        let application = limits.application;
        Self {
            max_connections: limits.max_connections,
            max_sessions: limits.max_sessions,
            max_device_sessions: limits.max_device_sessions,
            session_expiry_hours: u32::try_from(limits.max_session_expiry.as_secs() / 3600).unwrap_or(u32::MAX),
            max_queued_messages: application.max_queued_messages,
            max_queued_bytes: application.max_queued_bytes,
            max_device_queued_messages: application.max_device_queued_messages,
            max_device_queued_bytes: application.max_device_queued_bytes,
            max_total_queued_messages: application.max_total_queued_messages,
            max_total_queued_bytes: application.max_total_queued_bytes,
            publish_wait_ms: u64::try_from(limits.publish_patience.as_millis()).unwrap_or(u64::MAX),
            full_session_hours: 0,
            max_retained: application.max_retained,
            max_retained_bytes: application.max_retained_bytes,
            max_device_retained: application.max_device_retained,
            max_device_retained_bytes: application.max_device_retained_bytes,
        }
    }
}

/// A queue takes at least so many messages of the largest size.
const LEAST_QUEUE_MESSAGES: usize = 4;

impl LimitsFile {
    /// Checks every value.
    pub fn validate(self, max_packet_bytes: usize) -> Result<Limits> {
        let within = |key: &str, value: usize, least: usize, most: usize| {
            ensure!((least..=most).contains(&value), "limits.{key}: must be from {least} to {most}");
            Ok(())
        };
        within("max_connections", self.max_connections, 1, 1_000_000)?;
        within("max_sessions", self.max_sessions, 1, 10_000_000)?;
        within("max_device_sessions", self.max_device_sessions, 1, 1_000_000)?;
        for (key, value) in [
            ("max_queued_messages", self.max_queued_messages),
            ("max_device_queued_messages", self.max_device_queued_messages),
            ("max_total_queued_messages", self.max_total_queued_messages),
        ] {
            within(key, value, 1, 10_000_000)?;
        }
        for (key, value) in [
            ("max_queued_bytes", self.max_queued_bytes),
            ("max_device_queued_bytes", self.max_device_queued_bytes),
            ("max_total_queued_bytes", self.max_total_queued_bytes),
        ] {
            within(key, value, LEAST_QUEUE_MESSAGES * max_packet_bytes, 1 << 40)?;
        }
        within("max_retained", self.max_retained, 0, 10_000_000)?;
        within("max_retained_bytes", self.max_retained_bytes, 0, 1 << 40)?;
        within("max_device_retained", self.max_device_retained, 0, 10_000_000)?;
        within("max_device_retained_bytes", self.max_device_retained_bytes, 0, 1 << 40)?;
        ensure!(
            (1..=87_600).contains(&self.session_expiry_hours),
            "limits.session_expiry_hours: must be from 1 to 87600"
        );
        ensure!(self.full_session_hours <= 87_600, "limits.full_session_hours: must be at most 87600");
        ensure!(
            (100..=3_600_000).contains(&self.publish_wait_ms),
            "limits.publish_wait_ms: must be from 100 to 3600000"
        );
        ensure!(
            self.max_device_sessions <= self.max_sessions,
            "limits.max_device_sessions: must be at most limits.max_sessions, which is {}",
            self.max_sessions
        );
        let hours = |hours: u32| Duration::from_secs(u64::from(hours) * 3600);
        Ok(Limits {
            max_packet_bytes,
            max_connections: self.max_connections,
            max_sessions: self.max_sessions,
            max_device_sessions: self.max_device_sessions,
            max_session_expiry: hours(self.session_expiry_hours),
            application: ClassLimits {
                max_queued_messages: self.max_queued_messages,
                max_queued_bytes: self.max_queued_bytes,
                max_device_queued_messages: self.max_device_queued_messages,
                max_device_queued_bytes: self.max_device_queued_bytes,
                max_total_queued_messages: self.max_total_queued_messages,
                max_total_queued_bytes: self.max_total_queued_bytes,
                max_retained: self.max_retained,
                max_retained_bytes: self.max_retained_bytes,
                max_device_retained: self.max_device_retained,
                max_device_retained_bytes: self.max_device_retained_bytes,
            },
            publish_patience: Duration::from_millis(self.publish_wait_ms),
            full_session_expiry: (self.full_session_hours > 0).then(|| hours(self.full_session_hours)),
            ..Limits::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{AgentFile, HubFile};
    use crate::link::MAX_MESSAGE_BYTES;

    #[test]
    fn the_default_has_room_for_all_clients_of_an_agent() -> Result<()> {
        let hub = HubFile::default().validate()?;
        assert!(hub.limits.max_device_sessions >= 4 * AgentFile::default().validate()?.max_clients);
        assert_eq!(hub.limits.max_packet_bytes, MAX_MESSAGE_BYTES);
        assert_eq!(hub.limits.full_session_expiry, None);
        Ok(())
    }

    #[test]
    fn each_key_sets_its_own_limit() -> Result<()> {
        let text = "[limits]\nmax_queued_messages = 1\nmax_device_queued_messages = 2\nmax_total_queued_messages = 3\n\
                    max_queued_bytes = 100000001\nmax_device_queued_bytes = 100000002\nmax_total_queued_bytes = 100000003";
        let limits = toml::from_str::<HubFile>(text)?.validate()?.limits;
        let ClassLimits { max_queued_messages, max_device_queued_messages, max_total_queued_messages, .. } =
            limits.application;
        assert_eq!((max_queued_messages, max_device_queued_messages, max_total_queued_messages), (1, 2, 3));
        let ClassLimits { max_queued_bytes, max_device_queued_bytes, max_total_queued_bytes, .. } = limits.application;
        let bytes = [max_queued_bytes, max_device_queued_bytes, max_total_queued_bytes];
        assert_eq!(bytes, [100_000_001, 100_000_002, 100_000_003]);
        assert_eq!(limits.control.max_total_queued_messages, ClassLimits::default().max_total_queued_messages);
        Ok(())
    }

    #[test]
    fn bad_limits_are_named() {
        for (text, part) in [
            ("[limits]\nmax_session = 1", "max_session"),
            ("[limits]\nmax_device_sessions = 0", "limits.max_device_sessions: must be from 1 to"),
            (
                "[limits]\nmax_sessions = 10",
                "limits.max_device_sessions: must be at most limits.max_sessions, which is 10",
            ),
            ("[limits]\nmax_queued_messages = 0", "limits.max_queued_messages"),
            ("[limits]\nmax_queued_bytes = 1000", "limits.max_queued_bytes: must be from 16777216 to"),
            ("[limits]\nmax_device_queued_messages = 0", "limits.max_device_queued_messages: must be from 1 to"),
            ("[limits]\nmax_device_queued_bytes = 1000", "limits.max_device_queued_bytes: must be from 16777216 to"),
            ("[limits]\nmax_total_queued_messages = 0", "limits.max_total_queued_messages: must be from 1 to"),
            ("[limits]\nmax_total_queued_bytes = 1000", "limits.max_total_queued_bytes: must be from 16777216 to"),
            (
                "max_packet_bytes = 8388608\n[limits]\nmax_queued_bytes = 16777216",
                "limits.max_queued_bytes: must be from 33554432 to",
            ),
            ("[limits]\nsession_expiry_hours = 0", "limits.session_expiry_hours"),
            ("[limits]\npublish_wait_ms = 1", "limits.publish_wait_ms: must be from 100 to 3600000"),
        ] {
            let read = || toml::from_str::<HubFile>(text)?.validate();
            let error = read().map_or_else(|error| format!("{error:#}"), |_| "accepted".into());
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
