//! What a [`crate::client::Client`] and its driver say to each other.

use std::time::Duration;

use bytes::Bytes;
use sealcast_topic::TopicName;
use thiserror::Error;

use super::reason::Reason;
use crate::packets::{EncodeError, ParseError, Properties, Publish, Qos, Text};
use crate::topic::NotCarried;

/// The bounds of one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// Largest packet taken from the server, in bytes. It is told to an MQTT 5 server.
    pub max_packet_bytes: u32,
    /// Received messages of QoS 1 that may wait for [`crate::client::Client::acknowledge`]; not 0. It is told to an MQTT 5
    /// server.
    pub receive_maximum: u16,
    /// Published messages of QoS 1 that may wait for their PUBACK; not 0. The server may allow fewer.
    pub max_in_flight: u16,
    /// Published messages that may wait behind those.
    pub max_queued: usize,
    /// Bytes of all that wait there; one message may exceed it.
    pub max_queued_bytes: usize,
    /// How long the server may take to answer CONNECT.
    pub connect_patience: Duration,
    /// How long the server may be silent after a PINGREQ.
    pub ping_patience: Duration,
}

/// What an accepted connection is like (MQTT 5 3.2.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connected {
    /// The server goes on with a session of this client.
    pub session_present: bool,
    /// The client identifier that the server chose, if it was given none.
    pub assigned_client_id: Option<Text>,
    /// What the server takes.
    pub limits: ServerLimits,
}

/// What a server takes, by its CONNACK. MQTT 3.1.1 has no words for it, and the defaults hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerLimits {
    /// Messages of QoS 1 that may be unacknowledged.
    pub receive_maximum: u16,
    /// Bytes of a packet; `None` if it has set no limit.
    pub max_packet_bytes: Option<u32>,
    /// Highest QoS of a message.
    pub max_qos: Qos,
    /// Whether it keeps messages.
    pub retain: bool,
    /// Whether a filter may have wildcards.
    pub wildcards: bool,
    /// Keep alive in seconds instead of the client's own.
    pub keep_alive_s: Option<u16>,
}

/// A message to be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its topic.
    pub topic: TopicName,
    /// 0 or 1.
    pub qos: Qos,
    /// Whether the server keeps it as the topic's last one.
    pub retain: bool,
    /// Left out in MQTT 3.1.1.
    pub properties: Properties,
    /// The application's bytes.
    pub payload: Bytes,
}

/// Names a message of QoS 1 that waits to be acknowledged, on the connection that it came on.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "the server sends no more messages than it may while none is acknowledged"]
pub struct Receipt(pub(super) u64);

/// What [`crate::client::Client::poll_output`] has to tell. `P` are the tokens of publishes, `R` those of other requests.
#[derive(Debug, PartialEq, Eq)]
pub enum Output<P, R> {
    /// The server has accepted the connection.
    Connected(Connected),
    /// A message has come; with QoS 1 it is to be acknowledged.
    Message(Publish, Option<Receipt>),
    /// What became of a published message. There is one for each, at the connection's end at the latest.
    Published(P, Outcome),
    /// The server's answer to each filter of a SUBSCRIBE: the highest QoS of its messages, or why not.
    Subscribed(R, Vec<Result<Qos, Reason>>),
    /// The server's answer to each filter of an UNSUBSCRIBE.
    Unsubscribed(R, Vec<Result<(), Reason>>),
    /// The server has answered a ping.
    Pong(R),
    /// The connection is over. It is the last output; what a server had not answered by then it does not answer any more.
    Closed(CloseReason),
}

/// What became of a published message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// QoS 1: the server has taken it. QoS 0: it has been handed over to be written.
    Taken,
    /// The server has refused it.
    Refused(Reason),
    /// The connection ended before the server answered: it may have arrived or not.
    Unknown,
    /// The connection ended before it was sent.
    Unsent,
}

/// Why a connection is over.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CloseReason {
    /// The server does not accept the client.
    #[error("the broker refused the connection: {0}")]
    Refused(Reason),
    /// The server said DISCONNECT.
    #[error("the broker ended the connection: {0}")]
    Disconnected(Reason),
    /// The stream ended.
    #[error("the broker closed the connection")]
    Eof,
    /// The stream broke.
    #[error("{0}")]
    Broken(Box<str>),
    /// The server answers neither CONNECT nor PINGREQ.
    #[error("the broker does not answer")]
    Silent,
    /// The server broke the protocol.
    #[error("the broker broke MQTT's rules: {0}")]
    Protocol(#[from] ParseError),
    /// [`crate::client::Client::disconnect`] was called.
    #[error("the connection was closed here")]
    Local,
}

/// A request that was not taken, with its token.
#[derive(Debug, PartialEq, Eq)]
pub struct Rejected<T> {
    /// The caller's.
    pub token: T,
    /// Why.
    pub error: RequestError,
}

/// Why a request was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RequestError {
    /// There is no connection, or not yet.
    #[error("there is no connection to the broker")]
    NotConnected,
    /// So much waits that nothing more is taken for now.
    #[error("too much waits to be sent to the broker")]
    Full,
    /// The packet is larger than the server takes.
    #[error("packet of {size} bytes is larger than the {max} bytes that the broker takes")]
    TooLarge {
        /// Bytes of the packet.
        size: usize,
        /// The server's Maximum Packet Size.
        max: u32,
    },
    /// The server, or this client, does not carry that QoS.
    #[error("QoS {} cannot be used on this connection", *.0 as u8)]
    Qos(Qos),
    /// The server keeps no messages.
    #[error("the broker keeps no retained messages")]
    Retain,
    /// A filter that is none, or no filter at all.
    #[error("the topic filter is not valid: {0}")]
    Filter(#[from] NotCarried),
    /// MQTT cannot carry it.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}
