//! MQTT: the codec of all control packets, and what happens between one local client and the broker.
//!
//! The codec ([`Packet`], [`Frame`]) is for every side and every version. [`Proxy`] is a state machine between a client and a
//! broker: frames are split, the few that matter are parsed, and it decides with its driver what happens to each
//! published message. Everything else passes byte for byte.
//!
//! [`client`] is the other side: a client of a broker, for connections of the agent's own.
//!
//! Sans-IO: bytes go in by [`Proxy::handle_client`] and [`Proxy::handle_broker`], work comes out of [`Proxy::poll`].
//! It speaks MQTT 3.1.1 and MQTT 5 (OASIS standards). A client of MQTT 3.1 (`MQIsdp`) is one of MQTT 3.1.1 to the broker.
//!
//! It parses only CONNECT, CONNACK, PUBLISH, the acknowledgements and subscriptions, because only they carry what is
//! sealed, what depends on its size, and topics for which a broker would close the connection. A proxy that decoded and
//! encoded everything would have to be right about everything.

pub mod client;
mod codes;
mod packets;
mod proxy;
mod topic;

pub use codes::UnknownCode;
pub use packets::{
    Ack, AckKind, Auth, Connack, Connect, Disconnect, EncodeError, Frame, MAX_FILTERS, MAX_PROPERTIES,
    MAX_REMAINING_BYTES, Packet, PacketId, PacketType, ParseError, Properties, Property, PropertySet, Publish,
    PublishHead, Qos, RetainHandling, Splitter, Suback, Subscribe, SubscriptionOptions, Text, Unsuback, Unsubscribe,
    Version, Will, reason,
};
pub use proxy::{
    AnswerError, CloseReason, ConnectCode, ConnectRequest, Connected, Counters, Credentials, Delivery, DeliveryId,
    MAX_SUBSCRIPTIONS, Output, Outstanding, Proxy, ProxyConfig, PublishId, PublishRefusal, PublishRequest, RefuseCode,
    SessionState, Subscriptions, WillAnswer, WillRequest,
};
pub use sealcast_topic::{MAX_TOPIC_BYTES, MAX_TOPIC_LEVELS, TopicError, TopicName};
pub use topic::{NotCarried, check_carried};
