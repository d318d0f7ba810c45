//! Packets to bytes.

use bytes::{BufMut, BytesMut};

use super::{Outgoing, Version};
use crate::message::{Message, MessageProperties, Qos};

fn put_varint(out: &mut impl BufMut, mut value: usize) {
    loop {
        let byte = (value & 0x7F) as u8;
        value >>= 7;
        if value == 0 {
            out.put_u8(byte);
            return;
        }
        out.put_u8(byte | 0x80);
    }
}

fn varint_size(value: usize) -> usize {
    match value {
        0..=0x7F => 1,
        0x80..=0x3FFF => 2,
        0x4000..=0x1F_FFFF => 3,
        _ => 4,
    }
}

/// Every text and binary field was decoded from a 16-bit length or checked against it, so nothing is cut here.
fn put_binary(out: &mut impl BufMut, bytes: &[u8]) {
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    out.put_u16(length);
    out.put_slice(bytes.get(..usize::from(length)).unwrap_or(bytes));
}

fn put_message_properties(out: &mut impl BufMut, properties: &MessageProperties, expiry_s: Option<u32>, ids: &[u32]) {
    if let Some(format) = properties.payload_format {
        out.put_u8(0x01);
        out.put_u8(format);
    }
    if let Some(expiry_s) = expiry_s {
        out.put_u8(0x02);
        out.put_u32(expiry_s);
    }
    if let Some(content_type) = &properties.content_type {
        out.put_u8(0x03);
        put_binary(out, content_type.as_bytes());
    }
    if let Some(topic) = &properties.response_topic {
        out.put_u8(0x08);
        put_binary(out, topic.as_bytes());
    }
    if let Some(data) = &properties.correlation_data {
        out.put_u8(0x09);
        put_binary(out, data);
    }
    for id in ids {
        out.put_u8(0x0B);
        put_varint(out, *id as usize);
    }
    for (name, value) in &properties.user {
        out.put_u8(0x26);
        put_binary(out, name.as_bytes());
        put_binary(out, value.as_bytes());
    }
}

/// Message properties for the journal: a property block with its length in front. The expiry is the interval as
/// published; when it ends is stored beside it.
pub(crate) fn encode_properties_blob(properties: &MessageProperties) -> Vec<u8> {
    let mut block = Vec::new();
    put_message_properties(&mut block, properties, properties.expiry_s, &[]);
    let mut out = Vec::with_capacity(block.len() + 4);
    put_varint(&mut out, block.len());
    out.extend_from_slice(&block);
    out
}

/// Size of a PUBLISH on the wire, in bytes, for a client that limits it.
pub(crate) fn publish_size(version: Version, message: &Message, qos: Qos, ids: &[u32]) -> usize {
    let mut size = 2 + message.topic.len() + message.payload.len();
    if qos != Qos::AtMostOnce {
        size += 2;
    }
    if version == Version::V5 {
        let mut block = Vec::new();
        put_message_properties(&mut block, &message.properties, message.properties.expiry_s, ids);
        size += varint_size(block.len()) + block.len();
    }
    1 + varint_size(size) + size
}

/// Reason codes of MQTT 5 in terms of MQTT 3 (§3.2.2.3 of 3.1.1).
fn connack_v3(code: u8) -> u8 {
    match code {
        0 => 0,
        0x84 => 1,
        0x85 => 2,
        0x86 => 4,
        0x87 | 0x8A | 0x8C => 5,
        _ => 3,
    }
}

/// Appends `packet` to `out`.
pub(crate) fn encode(version: Version, packet: &Outgoing, out: &mut BytesMut) {
    let v5 = version == Version::V5;
    match packet {
        Outgoing::ConnAck { session_present, code, properties } => {
            let mut body = Vec::with_capacity(32);
            body.put_u8(u8::from(*session_present));
            body.put_u8(if v5 { *code } else { connack_v3(*code) });
            if v5 {
                let mut block = Vec::new();
                if let Some(properties) = properties {
                    if let Some(expiry_s) = properties.session_expiry_s {
                        block.put_u8(0x11);
                        block.put_u32(expiry_s);
                    }
                    block.put_u8(0x21);
                    block.put_u16(properties.receive_max);
                    block.put_u8(0x27);
                    block.put_u32(properties.max_packet_bytes);
                    if let Some(id) = &properties.assigned_client_id {
                        block.put_u8(0x12);
                        put_binary(&mut block, id.as_bytes());
                    }
                    block.put_u8(0x22);
                    block.put_u16(properties.alias_max);
                }
                put_varint(&mut body, block.len());
                body.extend_from_slice(&block);
            }
            out.put_u8(0x20);
            put_varint(out, body.len());
            out.put_slice(&body);
        }
        Outgoing::Publish { message, qos, retain, dup, id, subscription_ids, remaining_s } => {
            let mut block = Vec::new();
            let mut size = 2 + message.topic.len() + message.payload.len();
            if *qos != Qos::AtMostOnce {
                size += 2;
            }
            if v5 {
                put_message_properties(&mut block, &message.properties, *remaining_s, subscription_ids);
                size += varint_size(block.len()) + block.len();
            }
            out.reserve(size + 5);
            out.put_u8(0x30 | (u8::from(*dup) << 3) | ((*qos as u8) << 1) | u8::from(*retain));
            put_varint(out, size);
            put_binary(out, message.topic.as_bytes());
            if *qos != Qos::AtMostOnce {
                out.put_u16(*id);
            }
            if v5 {
                put_varint(out, block.len());
                out.put_slice(&block);
            }
            out.put_slice(&message.payload);
        }
        Outgoing::PubAck { id, code } => put_ack(out, 0x40, *id, *code, v5),
        Outgoing::PubRec { id, code } => put_ack(out, 0x50, *id, *code, v5),
        Outgoing::PublishRefused { qos, id, code, topic, reason } => {
            let mut block = Vec::with_capacity(16 + topic.len() + reason.len());
            block.put_u8(0x1F);
            put_binary(&mut block, reason.as_bytes());
            block.put_u8(0x26);
            put_binary(&mut block, b"topic");
            put_binary(&mut block, topic.as_bytes());
            out.put_u8(if *qos == Qos::ExactlyOnce { 0x50 } else { 0x40 });
            put_varint(out, 3 + varint_size(block.len()) + block.len());
            out.put_u16(*id);
            out.put_u8(*code);
            put_varint(out, block.len());
            out.put_slice(&block);
        }
        Outgoing::PubRel { id, code } => put_ack(out, 0x62, *id, *code, v5),
        Outgoing::PubComp { id, code } => put_ack(out, 0x70, *id, *code, v5),
        Outgoing::SubAck { id, codes } => {
            out.put_u8(0x90);
            put_varint(out, 2 + usize::from(v5) + codes.len());
            out.put_u16(*id);
            if v5 {
                out.put_u8(0);
            }
            for code in codes {
                out.put_u8(if !v5 && *code >= 0x80 { 0x80 } else { *code });
            }
        }
        Outgoing::UnsubAck { id, codes } => {
            out.put_u8(0xB0);
            put_varint(out, if v5 { 3 + codes.len() } else { 2 });
            out.put_u16(*id);
            if v5 {
                out.put_u8(0);
                out.put_slice(codes);
            }
        }
        Outgoing::PingResp => out.put_slice(&[0xD0, 0]),
        Outgoing::Disconnect { code } => {
            // An MQTT 3 broker just closes.
            if v5 {
                out.put_slice(&[0xE0, 1, *code]);
            }
        }
    }
}

fn put_ack(out: &mut BytesMut, first: u8, id: u16, code: u8, v5: bool) {
    let with_code = v5 && code != 0;
    out.put_u8(first);
    out.put_u8(2 + u8::from(with_code));
    out.put_u16(id);
    if with_code {
        out.put_u8(code);
    }
}
