//! What the proxy and its driver say to each other.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use bytes::Bytes;
use sealcast_topic::TopicName;
use thiserror::Error;

use super::Subscriptions;
use crate::packets::{PacketId, ParseError, Properties, Qos, Text, Version, reason};

/// Bounds of one [`crate::Proxy`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProxyConfig {
    /// Largest frame accepted from either side, in bytes. Told to both sides in MQTT 5.
    pub max_frame_bytes: u32,
    /// Most bytes by which sealing has to make a frame larger: envelope, signature and property framing. The client is told
    /// to send so much less than the broker takes.
    pub seal_overhead_bytes: u32,
    /// Most bytes by which the frame of a message that is received may have been made larger: in a batch, it is by more. The
    /// broker is told to send so much more than the client takes.
    pub open_overhead_bytes: u32,
    /// Most topic aliases for each way (MQTT 5). The sides' own maxima are lowered to it.
    pub max_topic_aliases: u16,
    /// Most frames that wait behind an unanswered request, for each way.
    pub max_waiting_frames: usize,
    /// Most bytes that wait, for each way; one frame may exceed it.
    pub max_waiting_bytes: usize,
}

impl Default for ProxyConfig {
    /// 1 MiB frames and as much waiting, 64 aliases, 128 waiting frames (as many as share a signature), 108 bytes of overhead: 100 for an envelope that is
    /// signed alone, 4 for the length of the sealed properties, 3 for a longer remaining length, 1 in reserve. In a batch an
    /// envelope has 326.
    fn default() -> Self {
        Self {
            max_frame_bytes: 1 << 20,
            seal_overhead_bytes: 108,
            open_overhead_bytes: 302,
            max_topic_aliases: 64,
            max_waiting_frames: 128,
            max_waiting_bytes: 1 << 20,
        }
    }
}

/// Names a [`PublishRequest`] within its proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublishId(pub(super) u64);

/// Names a [`Delivery`]. Counts on from one connection to the next of the same session ([`SessionState`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryId(pub(super) u64);

/// What [`crate::Proxy::poll`] asks of its driver, in the order it has to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Write to the broker.
    ToBroker(Bytes),
    /// Write to the client.
    ToClient(Bytes),
    /// Answer with [`crate::Proxy::accept`] or [`crate::Proxy::refuse_connect`]. Nothing else happens before that.
    Connect(Box<ConnectRequest>),
    /// The broker has answered CONNECT; the frame for the client follows.
    Connected(Connected),
    /// Answer with `seal_done`, `pass_clear`, `refuse` or `acknowledge`.
    Publish(PublishRequest),
    /// Answer with `deliver`, `pass` or `swallow`.
    Delivery(Delivery),
    /// The broker granted subscriptions, these filters among them; the SUBACK is before this.
    Subscribed(Vec<Box<str>>),
    /// The broker ended some of the client's subscriptions at its request.
    Unsubscribed,
    /// The client has a QoS 1 or 2 delivery for good: PUBACK or its first PUBREC, be it one that refuses. Comes before
    /// the frame that tells the broker, so that it can be written down first. Not only at PUBCOMP: a broker that never
    /// sends PUBREL could else pass the same message off as not acknowledged for ever, each time under a new identifier.
    Acked(DeliveryId),
    /// The broker refused a publish: PUBACK or PUBREC with a reason code of 0x80 or above (MQTT 5 3.4.2.1, 3.5.2.1). The
    /// frame that tells the client follows.
    PublishRejected {
        /// Its topic.
        topic: TopicName,
        /// The reason code.
        code: u8,
    },
    /// The client's publish has a topic for which a broker may close the connection ([`crate::check_carried`]), or
    /// such a response topic. It was refused as [`crate::Proxy::refuse`] describes.
    PublishUnfit {
        /// Its topic, shortened.
        topic: Box<str>,
        /// What is wrong with it.
        reason: Box<str>,
    },
    /// A filter for which a broker may close the connection was refused in SUBACK or UNSUBACK. Or the broker refused one
    /// that a client of MQTT 3.1 asked for, which cannot be told.
    FilterUnfit {
        /// The filter, shortened.
        filter: Box<str>,
        /// What is wrong with it.
        reason: Box<str>,
    },
    /// A publish that was sealed or passed is larger than the broker accepts. It was refused, or dropped at QoS 0.
    PublishTooLarge {
        /// Which one.
        id: PublishId,
        /// Its topic.
        topic: TopicName,
        /// Bytes of the frame that would have been sent.
        size: usize,
        /// The broker's limit in bytes.
        max: usize,
    },
    /// A delivery is larger than the client accepts. It was acknowledged to the broker and dropped.
    DeliveryTooLarge {
        /// Which one.
        id: DeliveryId,
        /// Its topic.
        topic: TopicName,
        /// Bytes of the frame that would have been sent.
        size: usize,
        /// The client's limit in bytes.
        max: usize,
    },
    /// The broker sent an MQTT 3.1.1 client a message that is larger than the proxy takes. It was acknowledged and dropped as
    /// it came: the broker, which cannot be told of the limit, would send it again on each connection.
    DeliveryOversized {
        /// Its topic, shortened.
        topic: Box<str>,
        /// Bytes of the frame.
        size: usize,
        /// The proxy's limit in bytes.
        max: usize,
    },
    /// The broker sent a message with a bad topic or bad properties. It was acknowledged and dropped: closing would let
    /// one bad publisher cut off every subscriber for as long as the broker keeps its message.
    DeliveryInvalid(ParseError),
    /// The end: write what was put out before, then close both connections. Nothing follows.
    Closed(CloseReason),
}

/// A client wants to connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectRequest {
    /// MQTT 3.1.1 or 5. A client of MQTT 3.1 counts as one of 3.1.1.
    pub version: Version,
    /// May be empty: then see [`Connected::assigned_client_id`].
    pub client_id: Text,
    /// Clean Start, or Clean Session in MQTT 3.1.1.
    pub clean_start: bool,
    /// Seconds; 0: none.
    pub keep_alive_s: u16,
    /// MQTT 5: seconds, `u32::MAX`: for ever. MQTT 3.1.1: 0 with Clean Session, otherwise `u32::MAX`.
    pub session_expiry_s: u32,
    /// User name and password, which the broker gets unchanged ([`crate::Proxy::set_credentials`] replaces them).
    pub credentials: Credentials,
    /// The will to be sealed.
    pub will: Option<WillRequest>,
}

/// User name and password. `Debug` shows neither.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Credentials {
    /// User name.
    pub username: Option<Text>,
    /// Password.
    pub password: Option<Bytes>,
}

/// The will of a [`ConnectRequest`].
#[derive(Clone, PartialEq, Eq)]
pub struct WillRequest {
    /// Its topic.
    pub topic: TopicName,
    /// Its payload.
    pub payload: Bytes,
    /// Its quality of service.
    pub qos: Qos,
    /// Its retain flag.
    pub retain: bool,
    /// How long after the end of the connection the broker publishes it, in seconds (MQTT 5).
    pub delay_s: u32,
    /// Encoded properties that go inside the seal ([`crate::Property::is_sealed`]), as [`PublishRequest`] has them.
    pub sealed_properties: Bytes,
}

/// What becomes of the will.
#[derive(Clone, PartialEq, Eq)]
pub enum WillAnswer {
    /// CONNECT goes on as it came: there is no will, or it may be in the clear.
    AsIs,
    /// This payload replaces the will's, and the properties given in [`WillRequest::sealed_properties`] leave the
    /// outside. At most 65,535 bytes.
    Sealed(Bytes),
    /// CONNECT goes on without it.
    Dropped,
}

/// Why a connection is refused (CONNACK; MQTT 5 3.2.2.2 and the nearest return code of MQTT 3.1.1 3.2.2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // the standard's names
pub enum ConnectCode {
    Unspecified,
    ClientIdentifierNotValid,
    BadUserNameOrPassword,
    NotAuthorized,
    ServerUnavailable,
    TopicNameInvalid,
    QuotaExceeded,
}

impl ConnectCode {
    pub(super) fn code(self, version: Version) -> u8 {
        let code = match self {
            Self::Unspecified => reason::UNSPECIFIED,
            Self::ClientIdentifierNotValid => reason::CLIENT_IDENTIFIER_NOT_VALID,
            Self::BadUserNameOrPassword => reason::BAD_USER_NAME_OR_PASSWORD,
            Self::NotAuthorized => reason::NOT_AUTHORIZED,
            Self::ServerUnavailable => reason::SERVER_UNAVAILABLE,
            Self::TopicNameInvalid => reason::TOPIC_NAME_INVALID,
            Self::QuotaExceeded => reason::QUOTA_EXCEEDED,
        };
        if version == Version::V5 { code } else { reason::connack_v311(code) }
    }
}

/// The broker's answer to CONNECT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connected {
    /// 0: accepted. Otherwise the broker closes, and the proxy with it.
    pub code: u8,
    /// The broker still has the session. If not, the proxy has forgotten its [`SessionState`].
    pub session_present: bool,
    /// Chosen by the broker because the client had none (MQTT 5).
    pub assigned_client_id: Option<Text>,
    /// Overrides the client's, in seconds (MQTT 5).
    pub server_keep_alive_s: Option<u16>,
    /// Overrides the client's, in seconds (MQTT 5).
    pub session_expiry_s: Option<u32>,
}

/// A message that the client publishes. `Debug` shows the payload's length only.
///
/// An empty payload with `retain` deletes the broker's retained message: sealing it would put one there instead
/// ([`crate::Proxy::announce`]).
#[derive(Clone, PartialEq, Eq)]
pub struct PublishRequest {
    /// To answer by.
    pub id: PublishId,
    /// Its topic, also where an alias stands for it.
    pub topic: TopicName,
    /// Quality of service.
    pub qos: Qos,
    /// Retain flag.
    pub retain: bool,
    /// The client may have sent it before.
    pub dup: bool,
    /// The application's bytes.
    pub payload: Bytes,
    /// Encoded MQTT 5 properties that go inside the seal ([`crate::Property::is_sealed`]). Empty if none. User
    /// properties whose name begins with `sealcast-` are not among them: they are for the receiving agent to set.
    pub sealed_properties: Bytes,
    /// The longest sealed payload with which the broker is sure to take it.
    pub max_payload_bytes: usize,
}

/// A message that the broker delivers. `Debug` shows the payload's length only.
#[derive(Clone, PartialEq, Eq)]
pub struct Delivery {
    /// To answer by.
    pub id: DeliveryId,
    /// Its topic, also where an alias stands for it.
    pub topic: TopicName,
    /// Quality of service.
    pub qos: Qos,
    /// The broker took it from its retained messages (or the subscription asked to keep the flag).
    pub retain: bool,
    /// The broker says that it may have sent it before.
    pub dup: bool,
    /// The earlier delivery under the same packet identifier that the client has not acknowledged. A message that was
    /// handed on then may be handed on again; any other message that comes twice is a replay.
    pub redelivery_of: Option<DeliveryId>,
    /// How many of the client's filters match the topic. A broker may send a copy for each of them (MQTT 5 3.3.4). 1 if
    /// none is known that does.
    pub copies: usize,
    /// The bytes from the broker.
    pub payload: Bytes,
    /// The properties beside the payload, as the broker gave them: not authenticated.
    pub properties: Properties,
}

/// Why a publish is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishRefusal {
    /// For PUBACK and PUBREC.
    pub code: RefuseCode,
    /// For a person: what is wrong and what to do. Cut where the client's packet limit asks for it.
    pub reason: String,
    /// Also end the connection, which is the only way to refuse aloud at QoS 0.
    pub disconnect: bool,
}

/// Reason codes that PUBACK, PUBREC and DISCONNECT all have (MQTT 5 3.4.2.1, 3.5.2.1, 3.14.2.1).
///
/// 0x95 (packet too large) is not among them: clients reject it in a PUBACK. A message too large for the broker is
/// refused by 0x97.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // the standard's names
#[repr(u8)]
pub enum RefuseCode {
    Unspecified = reason::UNSPECIFIED,
    ImplementationSpecific = reason::IMPLEMENTATION_SPECIFIC,
    NotAuthorized = reason::NOT_AUTHORIZED,
    TopicNameInvalid = reason::TOPIC_NAME_INVALID,
    QuotaExceeded = reason::QUOTA_EXCEEDED,
    PayloadFormatInvalid = reason::PAYLOAD_FORMAT_INVALID,
}

/// Why a proxy is done.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CloseReason {
    /// The client said DISCONNECT; it has been passed on.
    #[error("client disconnected")]
    ClientDisconnect,
    /// The client's connection ended without DISCONNECT: close the broker's likewise, it publishes the will.
    #[error("client closed its connection without DISCONNECT")]
    ClientEof,
    /// The broker said DISCONNECT (MQTT 5); it has been passed on.
    #[error("broker disconnected with reason code {code:#04x}")]
    BrokerDisconnect {
        /// Its reason code.
        code: u8,
    },
    /// The broker's connection ended.
    #[error("broker closed its connection")]
    BrokerEof,
    /// The broker refused CONNECT; its answer has been passed on.
    #[error("broker refused the connection with code {code:#04x}")]
    BrokerRefused {
        /// Its return or reason code.
        code: u8,
    },
    /// The driver refused CONNECT.
    #[error("connection refused: {reason}")]
    ConnectRefused {
        /// As given by the driver.
        reason: String,
    },
    /// A publish was refused and the connection had to end with it.
    #[error("connection ended by a refused publish to {topic}: {reason}")]
    PublishRefused {
        /// The publish's topic.
        topic: TopicName,
        /// As given by the driver.
        reason: String,
    },
    /// The client broke the protocol.
    #[error("client sent a malformed packet")]
    ClientMalformed(#[source] ParseError),
    /// The broker broke the protocol.
    #[error("broker sent a malformed packet")]
    BrokerMalformed(#[source] ParseError),
    /// The driver ended it ([`crate::Proxy::close`]).
    #[error("closed by the agent: {0}")]
    Agent(String),
}

/// An answer that does not fit what was asked.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AnswerError {
    /// Answered before, or the connection has ended meanwhile. Harmless to an asynchronous driver.
    #[error("nothing waits for this answer: it was given before or the connection has ended")]
    NotWaiting,
    /// A sealed will for a CONNECT that has none, or one that is too long. Still waits.
    #[error("sealed will does not fit its CONNECT: {0}")]
    Will(String),
    /// The restored properties are not what may stand inside a seal. Still waits: swallow the delivery.
    #[error("sealed properties are malformed")]
    Properties(#[source] ParseError),
}

/// What must outlive a connection so that the next one of the same session goes on where it ended. Bounded by the
/// number of packet identifiers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SessionState {
    /// QoS 2 deliveries that were swallowed and whose PUBREL is still to come.
    pub swallowed: BTreeSet<PacketId>,
    /// Deliveries that the client has not acknowledged.
    pub delivered: BTreeMap<PacketId, Outstanding>,
    /// QoS 2 deliveries that the client has acknowledged by PUBREC: it still waits for PUBREL, or has to answer it.
    pub received: BTreeSet<PacketId>,
    /// The next [`DeliveryId`].
    pub next_delivery: u64,
    /// QoS 2 publishes that were acknowledged here and whose PUBREL is still to come.
    pub acknowledged: BTreeSet<PacketId>,
    /// What the client is subscribed to.
    pub subscriptions: Subscriptions,
}

/// A delivery that the client has not acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outstanding {
    /// Which one.
    pub id: DeliveryId,
    /// QoS 1 or 2.
    pub qos: Qos,
}

/// What one connection has carried, in messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct Counters {
    pub published_sealed: u64,
    pub published_clear: u64,
    pub publish_refused: u64,
    /// Refused at QoS 0, where the client cannot be told. Also among `publish_refused`.
    pub publish_dropped: u64,
    /// Acknowledged in the broker's place, or at QoS 0 just not sent.
    pub publish_withheld: u64,
    /// Messages of the agent's own.
    pub injected: u64,
    pub delivered_opened: u64,
    pub delivered_clear: u64,
    pub delivery_swallowed: u64,
    pub delivery_invalid: u64,
    pub delivery_too_large: u64,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(…)")
    }
}

impl fmt::Debug for WillRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WillRequest")
            .field("topic", &self.topic)
            .field("qos", &self.qos)
            .field("retain", &self.retain)
            .field("payload_bytes", &self.payload.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for WillAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AsIs => f.write_str("AsIs"),
            Self::Dropped => f.write_str("Dropped"),
            Self::Sealed(payload) => write!(f, "Sealed({} bytes)", payload.len()),
        }
    }
}

impl fmt::Debug for PublishRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublishRequest")
            .field("id", &self.id)
            .field("topic", &self.topic)
            .field("qos", &self.qos)
            .field("retain", &self.retain)
            .field("dup", &self.dup)
            .field("payload_bytes", &self.payload.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("id", &self.id)
            .field("topic", &self.topic)
            .field("qos", &self.qos)
            .field("retain", &self.retain)
            .field("dup", &self.dup)
            .field("redelivery_of", &self.redelivery_of)
            .field("payload_bytes", &self.payload.len())
            .finish_non_exhaustive()
    }
}
