//! Bytes to packets. Nothing here panics on any input.

use bytes::{Buf, Bytes};

use super::{Connect, Incoming, Publish, SubOptions, Version, Will, WireError};
use crate::message::{MessageProperties, Qos};

type Result<T> = std::result::Result<T, WireError>;

const SHORT: WireError = WireError::Malformed("it ends early");

/// Length of the whole packet at the start of `bytes`: `None` while the fixed header is incomplete.
pub(crate) fn frame_length(bytes: &[u8], max: usize) -> Result<Option<(usize, usize)>> {
    let mut remaining = 0usize;
    for index in 1..=4 {
        let Some(&byte) = bytes.get(index) else { return Ok(None) };
        remaining |= usize::from(byte & 0x7F) << (7 * (index - 1));
        if byte & 0x80 == 0 {
            let header = index + 1;
            return if header + remaining > max { Err(WireError::TooLarge) } else { Ok(Some((header, remaining))) };
        }
    }
    Err(WireError::Malformed("remaining length of more than four bytes"))
}

struct Reader(Bytes);

impl Reader {
    fn u8(&mut self) -> Result<u8> {
        if self.0.is_empty() { Err(SHORT) } else { Ok(self.0.get_u8()) }
    }

    fn u16(&mut self) -> Result<u16> {
        if self.0.len() < 2 { Err(SHORT) } else { Ok(self.0.get_u16()) }
    }

    fn u32(&mut self) -> Result<u32> {
        if self.0.len() < 4 { Err(SHORT) } else { Ok(self.0.get_u32()) }
    }

    fn varint(&mut self) -> Result<u32> {
        let mut value = 0u32;
        for shift in [0, 7, 14, 21] {
            let byte = self.u8()?;
            value |= u32::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(WireError::Malformed("variable byte integer of more than four bytes"))
    }

    fn take(&mut self, length: usize) -> Result<Bytes> {
        if self.0.len() < length { Err(SHORT) } else { Ok(self.0.split_to(length)) }
    }

    fn binary(&mut self) -> Result<Bytes> {
        let length = usize::from(self.u16()?);
        self.take(length)
    }

    fn string(&mut self) -> Result<String> {
        let text = String::from_utf8(self.binary()?.to_vec()).map_err(|_| WireError::Malformed("text is not UTF-8"))?;
        if text.contains('\0') { Err(WireError::Malformed("text contains U+0000")) } else { Ok(text) }
    }

    fn id(&mut self) -> Result<u16> {
        match self.u16()? {
            0 => Err(WireError::Protocol("packet identifier 0")),
            id => Ok(id),
        }
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[derive(Default)]
struct Properties {
    message: MessageProperties,
    subscription_ids: Vec<u32>,
    session_expiry_s: Option<u32>,
    auth_method: bool,
    no_problem_information: bool,
    will_delay_s: Option<u32>,
    receive_max: Option<u16>,
    alias: Option<u16>,
    max_packet_bytes: Option<u32>,
}

const CONNECT: &[u8] = &[0x11, 0x15, 0x16, 0x17, 0x19, 0x21, 0x22, 0x26, 0x27];
const WILL: &[u8] = &[0x01, 0x02, 0x03, 0x08, 0x09, 0x18, 0x26];
const PUBLISH: &[u8] = &[0x01, 0x02, 0x03, 0x08, 0x09, 0x23, 0x26];
const ACK: &[u8] = &[0x1F, 0x26];
const SUBSCRIBE: &[u8] = &[0x0B, 0x26];
const UNSUBSCRIBE: &[u8] = &[0x26];
const DISCONNECT: &[u8] = &[0x11, 0x1F, 0x26];

/// User properties in one packet, and filters in one SUBSCRIBE or UNSUBSCRIBE: decoded they take many times their bytes on the wire.
const MAX_REPEATED: usize = 1024;

fn properties(reader: &mut Reader, allowed: &[u8]) -> Result<Properties> {
    let length = reader.varint()? as usize;
    let mut block = Reader(reader.take(length)?);
    let mut seen = 0u64;
    let mut found = Properties::default();
    while !block.is_empty() {
        let id = block.u8()?;
        if !allowed.contains(&id) {
            return Err(WireError::Protocol("a property that does not belong in this packet"));
        }
        let bit = 1u64 << (id & 0x3F);
        if seen & bit != 0 && id != 0x26 {
            return Err(WireError::Protocol("a property twice"));
        }
        seen |= bit;
        match id {
            0x01 => match block.u8()? {
                format @ (0 | 1) => found.message.payload_format = Some(format),
                _ => return Err(WireError::Protocol("payload format indicator")),
            },
            0x02 => found.message.expiry_s = Some(block.u32()?),
            0x03 => found.message.content_type = Some(block.string()?),
            0x08 => {
                let topic = block.string()?;
                if crate::topic::validate_topic(&topic).is_err() {
                    return Err(WireError::Protocol("response topic"));
                }
                found.message.response_topic = Some(topic);
            }
            0x09 => found.message.correlation_data = Some(block.binary()?),
            0x0B => match block.varint()? {
                0 => return Err(WireError::Protocol("subscription identifier 0")),
                id => found.subscription_ids.push(id),
            },
            0x11 => found.session_expiry_s = Some(block.u32()?),
            0x15 => {
                block.string()?;
                found.auth_method = true;
            }
            0x16 => drop(block.binary()?),
            0x17 | 0x19 => match (id, block.u8()?) {
                (0x17, 0) => found.no_problem_information = true,
                (_, 0 | 1) => {}
                _ => return Err(WireError::Protocol("a flag property other than 0 or 1")),
            },
            0x18 => found.will_delay_s = Some(block.u32()?),
            0x1F => drop(block.string()?),
            0x21 => match block.u16()? {
                0 => return Err(WireError::Protocol("receive maximum 0")),
                max => found.receive_max = Some(max),
            },
            0x22 => drop(block.u16()?),
            0x23 => found.alias = Some(block.u16()?),
            0x26 if found.message.user.len() == MAX_REPEATED => {
                return Err(WireError::Protocol("more than 1024 user properties"));
            }
            0x26 => {
                let name = block.string()?;
                found.message.user.push((name, block.string()?));
            }
            0x27 => match block.u32()? {
                0 => return Err(WireError::Protocol("maximum packet size 0")),
                max => found.max_packet_bytes = Some(max),
            },
            _ => return Err(WireError::Malformed("unknown property")),
        }
    }
    Ok(found)
}

/// Reads message properties as [`super::encode_properties_blob`] wrote them.
pub(crate) fn decode_properties_blob(blob: &[u8]) -> Result<MessageProperties> {
    let mut reader = Reader(Bytes::copy_from_slice(blob));
    Ok(properties(&mut reader, PUBLISH)?.message)
}

/// The bit of the protocol level that marks a bridge.
const BRIDGE: u8 = 0x80;

/// Decodes the first packet of a connection.
pub(crate) fn decode_connect(first: u8, body: Bytes) -> Result<Connect> {
    if first != 0x10 {
        return Err(WireError::Protocol("the first packet is not CONNECT"));
    }
    let mut reader = Reader(body);
    let name = reader.string()?;
    let level = reader.u8()?;
    let (level, bridge) = (level & !BRIDGE, level & BRIDGE != 0);
    let version = match (name.as_str(), level) {
        ("MQTT", 5) => Version::V5,
        ("MQTT", 4) => Version::V311,
        ("MQIsdp", 3) => Version::V31,
        ("MQTT" | "MQIsdp", _) => return Err(WireError::Version { level }),
        _ => return Err(WireError::Malformed("protocol name")),
    };
    let flags = reader.u8()?;
    let will_flag = flags & 0x04 != 0;
    if flags & 0x01 != 0 || (!will_flag && flags & 0x38 != 0) {
        return Err(WireError::Malformed("connect flags"));
    }
    let clean_start = flags & 0x02 != 0;
    let keep_alive_s = reader.u16()?;
    let v5 = version == Version::V5;
    let found = if v5 { properties(&mut reader, CONNECT)? } else { Properties::default() };
    let client_id = reader.string()?;
    if client_id.is_empty() && !v5 && !(clean_start && version == Version::V311) {
        return Err(WireError::ClientId);
    }
    let will = if will_flag {
        let found = if v5 { properties(&mut reader, WILL)? } else { Properties::default() };
        let topic = reader.string()?;
        if crate::topic::validate_topic(&topic).is_err() {
            return Err(WireError::Malformed("will topic"));
        }
        Some(Will {
            topic,
            payload: reader.binary()?,
            qos: Qos::from_bits((flags >> 3) & 3).ok_or(WireError::Malformed("will QoS 3"))?,
            retain: flags & 0x20 != 0,
            delay_s: found.will_delay_s.unwrap_or(0),
            properties: found.message,
        })
    } else {
        None
    };
    let username = if flags & 0x80 != 0 { Some(reader.string()?) } else { None };
    if flags & 0x40 != 0 {
        if username.is_none() && !v5 {
            return Err(WireError::Malformed("a password without a user name"));
        }
        reader.binary()?;
    }
    if !reader.is_empty() {
        return Err(WireError::Malformed("bytes after the end"));
    }
    Ok(Connect {
        version,
        bridge,
        client_id,
        clean_start,
        keep_alive_s,
        username,
        will,
        session_expiry_s: v5.then(|| found.session_expiry_s.unwrap_or(0)),
        receive_max: found.receive_max.unwrap_or(u16::MAX),
        max_packet_bytes: found.max_packet_bytes,
        auth_method: found.auth_method,
        problem_information: !found.no_problem_information,
    })
}

/// Decodes any later packet.
pub(crate) fn decode_packet(version: Version, first: u8, body: Bytes) -> Result<Incoming> {
    let v5 = version == Version::V5;
    let flags = first & 0x0F;
    let kind = first >> 4;
    let fixed = match kind {
        3 => flags,
        6 | 8 | 10 => 2,
        _ => 0,
    };
    // MQTT 3.1 let DUP stand in these packets; nothing depends on it.
    if flags != fixed && !(version == Version::V31 && matches!(kind, 6 | 8 | 10)) {
        return Err(WireError::Malformed("reserved flags"));
    }
    let mut reader = Reader(body);
    let packet = match kind {
        3 => Incoming::Publish(publish(&mut reader, flags, v5)?),
        4..=7 => {
            let id = reader.id()?;
            let mut code = 0;
            if v5 && !reader.is_empty() {
                code = reader.u8()?;
                if !reader.is_empty() {
                    properties(&mut reader, ACK)?;
                }
            }
            match kind {
                4 => Incoming::PubAck { id },
                5 => Incoming::PubRec { id, code },
                6 => Incoming::PubRel { id },
                _ => Incoming::PubComp { id },
            }
        }
        8 => {
            let id = reader.id()?;
            let found = if v5 { properties(&mut reader, SUBSCRIBE)? } else { Properties::default() };
            let mut filters = Vec::new();
            while !reader.is_empty() {
                if filters.len() == MAX_REPEATED {
                    return Err(WireError::Protocol("more than 1024 filters in one SUBSCRIBE"));
                }
                let filter = reader.string()?;
                let bits = reader.u8()?;
                let retain_handling = (bits >> 4) & 3;
                let reserved = if v5 { 0xC0 } else { 0xFC };
                if bits & reserved != 0 || retain_handling == 3 {
                    return Err(WireError::Malformed("subscription options"));
                }
                let options = SubOptions {
                    qos: Qos::from_bits(bits & 3).ok_or(WireError::Malformed("QoS 3"))?,
                    no_local: bits & 4 != 0,
                    retain_as_published: bits & 8 != 0,
                    retain_handling,
                    id: found.subscription_ids.first().copied(),
                };
                if v5 && options.no_local && filter.starts_with("$share/") {
                    return Err(WireError::Protocol("No Local on a shared subscription"));
                }
                filters.push((filter, options));
            }
            if filters.is_empty() {
                return Err(WireError::Protocol("SUBSCRIBE without a filter"));
            }
            Incoming::Subscribe { id, filters }
        }
        10 => {
            let id = reader.id()?;
            if v5 {
                properties(&mut reader, UNSUBSCRIBE)?;
            }
            let mut filters = Vec::new();
            while !reader.is_empty() {
                if filters.len() == MAX_REPEATED {
                    return Err(WireError::Protocol("more than 1024 filters in one UNSUBSCRIBE"));
                }
                filters.push(reader.string()?);
            }
            if filters.is_empty() {
                return Err(WireError::Protocol("UNSUBSCRIBE without a filter"));
            }
            Incoming::Unsubscribe { id, filters }
        }
        12 => Incoming::PingReq,
        14 => {
            let mut code = 0;
            let mut session_expiry_s = None;
            if v5 && !reader.is_empty() {
                code = reader.u8()?;
                if !reader.is_empty() {
                    session_expiry_s = properties(&mut reader, DISCONNECT)?.session_expiry_s;
                }
            }
            Incoming::Disconnect { code, session_expiry_s }
        }
        1 => return Err(WireError::Protocol("a second CONNECT")),
        15 if v5 => return Err(WireError::Protocol("AUTH without an authentication method")),
        _ => return Err(WireError::Protocol("a packet that only a broker sends")),
    };
    if reader.is_empty() { Ok(packet) } else { Err(WireError::Malformed("bytes after the end")) }
}

fn publish(reader: &mut Reader, flags: u8, v5: bool) -> Result<Publish> {
    let qos = Qos::from_bits((flags >> 1) & 3).ok_or(WireError::Malformed("QoS 3"))?;
    if qos == Qos::AtMostOnce && flags & 8 != 0 {
        return Err(WireError::Malformed("DUP with QoS 0"));
    }
    let topic = reader.string()?;
    let id = if qos == Qos::AtMostOnce { 0 } else { reader.id()? };
    let found = if v5 { properties(reader, PUBLISH)? } else { Properties::default() };
    let payload = std::mem::take(&mut reader.0);
    Ok(Publish { topic, alias: found.alias, payload, qos, retain: flags & 1 != 0, id, properties: found.message })
}
