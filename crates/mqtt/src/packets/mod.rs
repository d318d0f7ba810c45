//! The codec: every control packet of MQTT 3.1, 3.1.1 (OASIS 2014) and 5 (OASIS 2019), from bytes and into bytes, for
//! clients, for servers and for the proxy between them.
//!
//! Reading copies neither payloads nor texts: they share the frame's buffer. A packet is written behind what a buffer
//! already holds, in one pass, once its length is known.

mod ack;
mod coded;
mod connack;
mod connect;
mod disconnect;
mod error;
mod frame;
mod packet;
mod packet_id;
mod packet_type;
mod properties;
mod property;
mod property_set;
mod publish;
mod qos;
pub mod reason;
mod subscribe;
mod version;
mod wire;

pub use ack::{Ack, AckKind};
pub use connack::Connack;
pub use connect::{Connect, Will};
pub use disconnect::{Auth, Disconnect};
pub use error::{EncodeError, MAX_FILTERS, ParseError};
pub use frame::{Frame, MAX_REMAINING_BYTES, Splitter};
pub use packet::Packet;
pub use packet_id::PacketId;
pub use packet_type::PacketType;
pub use properties::Properties;
pub use property::Property;
pub use property_set::{MAX_PROPERTIES, PropertySet};
pub use publish::{Publish, PublishHead};
pub use qos::Qos;
pub use subscribe::{RetainHandling, Suback, Subscribe, SubscriptionOptions, Unsuback, Unsubscribe};
pub use version::Version;
pub use wire::Text;
