//! What the broker lets clients use and reach.

use std::time::Duration;

use sealcast_topic::CONTROL_LEVEL;

/// Bounds on what clients may use and reach. Each default suits a fleet of a few thousand devices on one hub.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Largest packet accepted from a client, in bytes (default 1 MiB). Told to MQTT 5 clients.
    pub max_packet_bytes: usize,
    /// What application traffic may use. While a session's queue is full, a PUBLISH that would add to it is not accepted:
    /// see [`crate::Core`].
    pub application: ClassLimits,
    /// What control traffic may use: topics below [`Self::reserved_levels`]. Application traffic takes nothing of it. A
    /// session that has no room for another control message ends, with its connection: what it misses is retained, or can
    /// be asked for again.
    pub control: ClassLimits,
    /// How long an MQTT 3 publisher is held up while a session that its message is for has no room (default 20 s). Then
    /// its connection is closed, with the message unacknowledged.
    pub publish_patience: Duration,
    /// An offline session whose own queue has been full for so long ends (default `None`: never). Its messages are given up,
    /// which the client sees as a session that is not present.
    pub full_session_expiry: Option<Duration>,
    /// QoS 1 and 2 messages sent to a client and not yet acknowledged (default 64); a lower Receive Maximum of the
    /// client wins. Also the Receive Maximum told to MQTT 5 clients, and the bound on incomplete inbound QoS 2.
    pub max_inflight: u16,
    /// Sessions, online and offline (default 100,000). A CONNECT beyond it is refused as "quota exceeded".
    pub max_sessions: usize,
    /// Sessions of one device, online and offline (default 1,024). A CONNECT beyond it is refused as "quota exceeded".
    pub max_device_sessions: usize,
    /// Places of one device for connections for which [`crate::Policy::is_control`] holds, beyond
    /// [`Self::max_device_sessions`] and [`Self::max_sessions`] (default 8). Only a session that ends with its connection
    /// gets one.
    pub max_device_control_sessions: usize,
    /// Connections at once, including those that have not sent CONNECT (default 20,000).
    pub max_connections: usize,
    /// Subscriptions of one session (default 1,000).
    pub max_subscriptions: usize,
    /// Connections of one address (in IPv6 one /64) that have not sent a complete CONNECT (default 64). More are closed
    /// at once, so that one host without a certificate cannot take all connections.
    pub max_unauthenticated: usize,
    /// The same for loopback addresses (default 1,024), where a whole site may sit behind one of them.
    pub max_unauthenticated_loopback: usize,
    /// First levels of topics that a wildcard in the first level of a filter does not match, as none matches `$…`
    /// topics (default `sealcast`): who wants them must name them, and so asks [`crate::Policy::may_subscribe`].
    pub reserved_levels: Vec<String>,
    /// Messages that a device may publish at once to topics for which [`crate::Policy::is_announcement`] holds (default 16).
    /// More are refused as "quota exceeded".
    pub max_announcements: u32,
    /// After so long it may publish one more (default 10 s).
    pub announcement_interval: Duration,
    /// Longest session expiry (default 30 days). Also that of MQTT 3 sessions with `clean_session = 0`. A lower value
    /// counts for stored sessions too, from the next start on.
    pub max_session_expiry: Duration,
    /// Bytes that wait for one connection that does not read (default 8 MiB): QoS 0 is dropped beyond it, and the
    /// connection is closed beyond four times as much. At least [`Self::max_packet_bytes`] counts.
    pub max_outbound_bytes: usize,
    /// Time from accept to a complete CONNECT, TLS handshake included (default 15 s).
    pub connect_timeout: Duration,
    /// Time in which a client must take some more bytes of what is written to it (default 30 s).
    pub write_timeout: Duration,
}

/// Bounds on one class of traffic, see [`Limits::application`] and [`Limits::control`].
#[derive(Clone, Debug)]
pub struct ClassLimits {
    /// QoS 1 and 2 messages that wait for one session beyond those in flight (default 100,000).
    pub max_queued_messages: usize,
    /// Bytes of them, properties included (default 256 MiB).
    pub max_queued_bytes: usize,
    /// QoS 1 and 2 messages that wait for all sessions of one device or are in flight to them, a message counted once for
    /// each session and each shared subscription (default 400,000).
    pub max_device_queued_messages: usize,
    /// Bytes of them, properties included (default 512 MiB: two full queues).
    pub max_device_queued_bytes: usize,
    /// The same for all sessions of all devices together (default 2,000,000).
    pub max_total_queued_messages: usize,
    /// Bytes of them, properties included (default 4 GiB: eight devices at their bound).
    pub max_total_queued_bytes: usize,
    /// Retained messages (default 100,000).
    pub max_retained: usize,
    /// Bytes of them, properties included (default 256 MiB).
    pub max_retained_bytes: usize,
    /// Retained messages that one device has published last (default 10,000). A PUBLISH beyond it is refused as "quota
    /// exceeded", which MQTT 3 says by closing the connection.
    pub max_device_retained: usize,
    /// Bytes of them, properties included (default 64 MiB).
    pub max_device_retained_bytes: usize,
}

impl Default for ClassLimits {
    fn default() -> Self {
        Self {
            max_queued_messages: 100_000,
            max_queued_bytes: 256 * 1024 * 1024,
            max_device_queued_messages: 400_000,
            max_device_queued_bytes: 512 * 1024 * 1024,
            max_total_queued_messages: 2_000_000,
            max_total_queued_bytes: 4 * 1024 * 1024 * 1024,
            max_retained: 100_000,
            max_retained_bytes: 256 * 1024 * 1024,
            max_device_retained: 10_000,
            max_device_retained_bytes: 64 * 1024 * 1024,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_packet_bytes: 1024 * 1024,
            application: ClassLimits::default(),
            control: ClassLimits::default(),
            publish_patience: Duration::from_secs(20),
            full_session_expiry: None,
            max_inflight: 64,
            max_sessions: 100_000,
            max_device_sessions: 1_024,
            max_device_control_sessions: 8,
            max_connections: 20_000,
            max_subscriptions: 1_000,
            max_unauthenticated: 64,
            max_unauthenticated_loopback: 1_024,
            reserved_levels: vec![CONTROL_LEVEL.to_owned()],
            max_announcements: 16,
            announcement_interval: Duration::from_secs(10),
            max_session_expiry: Duration::from_secs(30 * 24 * 3600),
            max_outbound_bytes: 8 * 1024 * 1024,
            connect_timeout: Duration::from_secs(15),
            write_timeout: Duration::from_secs(30),
        }
    }
}
