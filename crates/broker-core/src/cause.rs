//! Why the broker refuses a client, a message or a subscription: one code for each cause, and how often it was met.
//! `docs/reasons.md` explains them.

use sealcast_mqtt::codes;

codes! {
    /// What keeps a client from the broker, or a message from its receivers.
    pub enum Cause {
        /// The broker has as many connections as it may.
        Connections = "hub-connections",
        /// As many connections of one host as it may have have not said yet who they are.
        Strangers = "hub-strangers",
        /// There was no TLS handshake.
        Handshake = "hub-handshake",
        /// The device may not connect.
        NotAuthorized = "hub-not-authorized",
        /// The device is revoked.
        Banned = "hub-banned",
        /// Bad user name or password.
        BadCredentials = "hub-bad-credentials",
        /// Client identifier not valid.
        ClientId = "hub-client-id",
        /// Nobody can connect now.
        Unavailable = "hub-unavailable",
        /// The will's topic is not one that the broker carries.
        WillTopic = "hub-will-topic",
        /// The device may not publish its will.
        Will = "hub-will",
        /// The device has as many sessions as it may.
        DeviceSessions = "hub-device-sessions",
        /// The broker has as many sessions as it may.
        Sessions = "hub-sessions",
        /// The client broke MQTT's rules.
        Protocol = "hub-protocol",
        /// The client sent nothing for too long.
        KeepAlive = "hub-keep-alive",

        /// The device may not publish to the topic.
        Publish = "hub-publish",
        /// The device announces too often.
        Announcements = "hub-announcements",
        /// No more can be retained.
        RetainedFull = "hub-retained-full",
        /// The queue of a session is full.
        SessionFull = "hub-session-full",
        /// The queues of a device are full.
        DeviceFull = "hub-device-full",
        /// The queues of all sessions are full.
        AllFull = "hub-all-full",
        /// An MQTT 3 publisher has waited for too long.
        Waited = "hub-waited",
        /// A session was ended because it does not keep up.
        SlowSession = "hub-slow-session",
        /// An offline session was ended because its queue was full for too long.
        FullSession = "hub-full-session",

        /// The filter is not valid.
        Filter = "hub-filter",
        /// The device may not subscribe to the filter.
        Subscribe = "hub-subscribe",
        /// The session has as many subscriptions as it may.
        Subscriptions = "hub-subscriptions",
        /// The session has as many shared subscriptions as it may.
        Shares = "hub-shares",
        /// The retained messages that a subscription brings do not fit.
        RetainedRoom = "hub-retained-room",
    }
}

/// How often each cause was met since the broker started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts([u64; Cause::ALL.len()]);

impl Counts {
    /// How often `cause` was met.
    pub fn of(&self, cause: Cause) -> u64 {
        self.0.get(cause as usize).copied().unwrap_or_default()
    }

    pub(crate) fn add(&mut self, cause: Cause) {
        if let Some(count) = self.0.get_mut(cause as usize) {
            *count += 1;
        }
    }
}
