//! The codec: control packets of MQTT 3.1.1 and MQTT 5 from bytes and into bytes.

mod ack;
mod connack;
mod connect;
mod error;
mod frame;
mod packet;
mod property;
mod property_set;
mod publish;
mod wire;

pub use ack::{Ack, AckKind, Disconnect};
pub use connack::Connack;
pub use connect::{Connect, Will};
pub use error::{EncodeError, ParseError};
pub use frame::{Frame, MAX_REMAINING_BYTES, Splitter, Version};
pub use packet::PacketType;
pub use property::{Properties, Property};
pub use property_set::{MAX_PROPERTIES, PropertySet};
pub use publish::{PacketId, Publish, Qos};
pub use wire::Text;
pub(crate) use wire::{Reader, encode_frame, put_text};
