//! What is sealed, before it is sealed.

/// What a frame is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A message that is published now.
    Message,
    /// A will: sealed now, published by the broker when the client vanishes. Receivers do not hold it to the limit for
    /// live messages.
    Will,
    /// A retained message, sealed again by its publisher because the epoch turned. Receivers see it only as a retained
    /// message, with its first time: sealing again makes nothing fresh.
    Reseal {
        /// When it was sealed first, Unix ms.
        sealed_ms: u64,
    },
    /// Says that its sender deletes the topic's retained message. It has no payload. Published without RETAIN, for those
    /// who are there; the broker deletes the message because of an empty one, which is not sealed.
    Tombstone,
}

/// The quality of service that a message is published with, as far as it decides on the order of delivery: brokers queue
/// one class and hand the other one on past that queue, so receivers keep a replay window for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QosClass {
    /// QoS 0.
    AtMostOnce,
    /// QoS 1 or 2.
    Acknowledged,
}

/// What is sealed.
#[derive(Clone, Copy)]
pub struct Content<'a> {
    /// What for.
    pub purpose: Purpose,
    /// Whether it is published with RETAIN (always so for [`Purpose::Reseal`], never for [`Purpose::Tombstone`]).
    /// Authenticated: no broker can hand on as retained what was not. An empty retained payload deletes the retained
    /// message and must be sent clear, or the broker does not see it.
    pub retain: bool,
    /// The QoS of the PUBLISH that carries it (of a will: its will QoS). Authenticated: a broker that delivers it with
    /// another QoS does not move it to the other window.
    pub class: QosClass,
    /// MQTT 5 properties that travel inside, as encoded property bytes without their length; empty for none.
    pub props: &'a [u8],
    /// The application's bytes.
    pub payload: &'a [u8],
}
