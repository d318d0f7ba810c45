//! The CoAP door's protocol (RFC 7252) as a state machine: datagrams and answers in, [`Output`]s out, time passed in.
//!
//! `PUT` or `POST /topics/<topic>` publishes, `GET` gives the last value, and with Observe (RFC 7641) what follows. Large
//! payloads go block by block (RFC 7959).
//!
//! Bounds: requests under way, remembered message ids, uploads, snapshots of what is downloaded, observers and
//! confirmable messages each have one ([`Counts::MOST`]); what is beyond is refused (5.03) or forgets the oldest.
//!
//! Time is in ms of any clock that does not go back, from 0.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod answer;
mod block;
mod rate;
mod request;
mod server;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;

use bytes::Bytes;
use sealcast_ledger::TopicFilter;
use sealcast_mqtt::{Text, TopicName};

pub use rate::Rate;
pub use server::{Counts, Server};

/// What the driver has to do.
#[derive(Debug)]
pub enum Output {
    /// Send a datagram.
    Send(SocketAddr, Vec<u8>),
    /// Publish, then [`Server::handle_published`].
    Publish {
        /// The request.
        exchange: u64,
        /// What it says.
        message: Publish,
    },
    /// Ask for the last value, then [`Server::handle_last`].
    Last {
        /// The request.
        exchange: u64,
        /// Of which topic.
        topic: TopicFilter,
    },
    /// The same, and then [`Server::handle_news`] for each message, or [`Server::handle_lost`].
    Observe {
        /// The request.
        exchange: u64,
        /// Who observes.
        observer: u64,
        /// Which topic.
        topic: TopicFilter,
    },
    /// The observer is gone.
    Unobserve(u64),
}

/// Limits of a [`Server`].
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Largest payload, in blocks or not.
    pub max_payload_bytes: usize,
    /// Most requests a second.
    pub max_per_second: u32,
}

/// Whether what a request gave as its token is the door's; compares in constant time.
pub type TokenCheck = Box<dyn Fn(&[u8]) -> bool + Send>;

/// A message that a device sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    /// Its topic.
    pub topic: TopicName,
    /// Its bytes.
    pub payload: Bytes,
    /// Whether the broker keeps it as the topic's last value.
    pub retain: bool,
    /// Its media type.
    pub content_type: Option<Text>,
}

/// A message for a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    /// Its bytes.
    pub payload: Bytes,
    /// Its media type, if the sender gave one.
    pub content_type: Option<Text>,
}

/// Why something was not done: the answer's code (RFC 7252 §5.9.2), and the reason in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// 4.03.
    Forbidden(String),
    /// 4.09 (RFC 8132 §2.3.1).
    Conflict(String),
    /// 4.13.
    TooLarge(String),
    /// 4.00.
    BadRequest(String),
    /// 5.03.
    Unavailable(String),
}
