//! Any control packet.

use bytes::BytesMut;

use super::ack::Ack;
use super::connack::Connack;
use super::connect::Connect;
use super::disconnect::{Auth, Disconnect};
use super::error::{EncodeError, ParseError};
use super::frame::Frame;
use super::packet_type::PacketType;
use super::publish::Publish;
use super::subscribe::{Suback, Subscribe, Unsuback, Unsubscribe};
use super::version::Version;
use super::wire::put_frame;

/// A control packet of either side.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)] // the standard's names
pub enum Packet {
    Connect(Box<Connect>),
    Connack(Connack),
    Publish(Publish),
    /// PUBACK, PUBREC, PUBREL or PUBCOMP.
    Ack(Ack),
    Subscribe(Subscribe),
    Suback(Suback),
    Unsubscribe(Unsubscribe),
    Unsuback(Unsuback),
    Pingreq,
    Pingresp,
    Disconnect(Disconnect),
    Auth(Auth),
}

impl Packet {
    /// Reads the packet in a frame. CONNECT says itself which version it is of.
    ///
    /// # Errors
    /// [`ParseError`]; AUTH before MQTT 5 is [`ParseError::Unexpected`].
    pub fn parse(frame: &Frame, version: Version) -> Result<Self, ParseError> {
        Ok(match frame.packet() {
            PacketType::Connect => Self::Connect(Box::new(Connect::parse(frame)?)),
            PacketType::Connack => Self::Connack(Connack::parse(frame, version)?),
            PacketType::Publish => Self::Publish(Publish::parse(frame, version)?),
            PacketType::Puback | PacketType::Pubrec | PacketType::Pubrel | PacketType::Pubcomp => {
                Self::Ack(Ack::parse(frame, version)?)
            }
            PacketType::Subscribe => Self::Subscribe(Subscribe::parse(frame, version)?),
            PacketType::Suback => Self::Suback(Suback::parse(frame, version)?),
            PacketType::Unsubscribe => Self::Unsubscribe(Unsubscribe::parse(frame, version)?),
            PacketType::Unsuback => Self::Unsuback(Unsuback::parse(frame, version)?),
            PacketType::Pingreq => empty(frame, Self::Pingreq)?,
            PacketType::Pingresp => empty(frame, Self::Pingresp)?,
            PacketType::Disconnect => Self::Disconnect(Disconnect::parse(frame, version)?),
            PacketType::Auth if version != Version::V5 => return Err(ParseError::Unexpected(PacketType::Auth)),
            PacketType::Auth => Self::Auth(Auth::parse(frame, version)?),
        })
    }

    /// Appends the frame to `out`.
    ///
    /// # Errors
    /// [`EncodeError`]; `out` is as it was.
    pub fn put(&self, version: Version, out: &mut BytesMut) -> Result<(), EncodeError> {
        match self {
            Self::Connect(connect) => connect.put(out),
            Self::Connack(connack) => connack.put(version, out),
            Self::Publish(publish) => publish.put(version, out),
            Self::Ack(ack) => ack.put(version, out),
            Self::Subscribe(subscribe) => subscribe.put(version, out),
            Self::Suback(suback) => suback.put(version, out),
            Self::Unsubscribe(unsubscribe) => unsubscribe.put(version, out),
            Self::Unsuback(unsuback) => unsuback.put(version, out),
            Self::Pingreq => put_frame(out, 0xC0, 0, |_| Ok(())),
            Self::Pingresp => put_frame(out, 0xD0, 0, |_| Ok(())),
            Self::Disconnect(disconnect) => disconnect.put(version, out),
            Self::Auth(auth) => auth.put(version, out),
        }
    }
}

fn empty(frame: &Frame, packet: Packet) -> Result<Packet, ParseError> {
    match frame.content().len() {
        0 => Ok(packet),
        trailing => Err(ParseError::Trailing(trailing)),
    }
}
