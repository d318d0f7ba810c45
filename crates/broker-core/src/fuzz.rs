//! The entry point of `fuzz/bodies/broker_wire.rs`. Hidden: it is no part of the API.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use sealcast_mqtt::{Connect, Frame, PacketId, Properties, Property, PropertySet, Publish, Version};

use crate::message::Message;
use crate::packets::{Incoming, Outgoing, publish_size};

/// Reads packets off `stream` as a connection does, each in all versions. What is read of a PUBLISH must survive being
/// sent on and being journalled. Returns how many packets there were.
///
/// # Panics
/// If it does not.
pub fn packets(stream: &[u8], max_packet_bytes: usize) -> usize {
    let mut stream = BytesMut::from(stream);
    let mut count = 0;
    while let Ok(Some(frame)) = Frame::take(&mut stream, Version::V31, max_packet_bytes) {
        if let Ok(Connect { will: Some(mut will), .. }) = Connect::parse(&frame) {
            will.properties.retain(Property::is_forwarded);
            journalled(&will.properties);
        }
        for version in [Version::V31, Version::V311, Version::V5] {
            if let Ok(Incoming::Publish(publish)) = Incoming::parse(&frame, version) {
                sent_on(version, publish);
            }
        }
        count += 1;
    }
    count
}

/// Reads properties out of a journal.
pub fn journalled_properties(blob: &[u8]) {
    if let Ok(properties) = Properties::parse_with_length(&Bytes::copy_from_slice(blob), PropertySet::Publish) {
        journalled(&properties);
    }
}

fn journalled(properties: &Properties) {
    let Ok(blob) = properties.encode_with_length() else { panic!("what was read cannot be written") };
    let back = Properties::parse_with_length(&blob, PropertySet::Publish);
    assert_eq!(back.as_ref(), Ok(properties), "the journal keeps properties");
}

fn sent_on(version: Version, publish: Publish) {
    let Publish { topic, payload, qos, retain, packet_id, mut properties, .. } = publish;
    properties.retain(Property::is_forwarded);
    journalled(&properties);
    // An alias alone is nothing to send on.
    let Some(topic) = topic else { return };
    let remaining_s = properties.message_expiry_s();
    let message = Message { seq: 1, topic, payload, qos, retain, properties, expires_ms: None, sender: None };
    let message = Arc::new(message);
    let packet = Outgoing::Publish {
        message: Arc::clone(&message),
        qos,
        retain,
        dup: false,
        id: packet_id.map_or(0, PacketId::value),
        subscription_ids: Vec::new(),
        remaining_s,
    };
    let mut out = BytesMut::new();
    assert_eq!(packet.put(version, &mut out), Ok(()));
    assert_eq!(out.len(), publish_size(version, &message, qos, &[]), "the size is known before");
    let Ok(frame) = Frame::from_bytes(out.freeze()) else { panic!("no packet") };
    let Ok(back) = Publish::parse(&frame, version) else { panic!("what was sent on cannot be read") };
    assert_eq!((back.topic.as_ref(), &back.payload), (Some(&message.topic), &message.payload));
    assert_eq!((back.qos, back.retain, back.packet_id), (qos, retain, packet_id));
    let sorted = |properties: &Properties| {
        let mut list: Vec<Property> = properties.iter().cloned().collect();
        list.sort_by_key(Property::id);
        list
    };
    assert_eq!(sorted(&back.properties), sorted(&message.properties));
}
