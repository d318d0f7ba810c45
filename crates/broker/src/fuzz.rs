//! The entry point of `fuzz/bodies/broker_wire.rs`. Hidden: it is no part of the API.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::{
    message::{Message, MessageProperties},
    wire::{
        Incoming, Outgoing, Publish, Version, decode_connect, decode_packet, decode_properties_blob, encode,
        encode_properties_blob, frame_length, publish_size,
    },
};

/// Reads packets off `stream` as a connection does, each in all versions. What is read of a PUBLISH must survive being
/// sent on and being journalled. Returns how many packets there were.
///
/// # Panics
/// If it does not.
pub fn packets(mut stream: Bytes, max_packet_bytes: usize) -> usize {
    let mut count = 0;
    while let Ok(Some((header, body))) = frame_length(&stream, max_packet_bytes) {
        if stream.len() < header + body {
            break;
        }
        let mut frame = stream.split_to(header + body);
        let body = frame.split_off(header);
        let Some(&first) = frame.first() else { break };
        if let Ok(connect) = decode_connect(first, body.clone()) {
            let _ = connect.will.map(|will| journalled(&will.properties));
        }
        for version in [Version::V31, Version::V311, Version::V5] {
            if let Ok(Incoming::Publish(publish)) = decode_packet(version, first, body.clone()) {
                sent_on(version, publish);
            }
        }
        count += 1;
    }
    count
}

/// Reads properties out of a journal.
pub fn journalled_properties(blob: &[u8]) {
    if let Ok(properties) = decode_properties_blob(blob) {
        journalled(&properties);
    }
}

fn journalled(properties: &MessageProperties) {
    let blob = encode_properties_blob(properties);
    assert_eq!(decode_properties_blob(&blob).as_ref(), Ok(properties), "the journal keeps properties");
}

fn sent_on(version: Version, publish: Publish) {
    journalled(&publish.properties);
    let Publish { topic, payload, qos, retain, id, properties, .. } = publish;
    let remaining_s = properties.expiry_s;
    let topic: Arc<str> = topic.into();
    let message = Message { seq: 1, topic, payload, qos, retain, properties, expires_ms: None, sender: None };
    let message = Arc::new(message);
    let packet = Outgoing::Publish {
        message: Arc::clone(&message),
        qos,
        retain,
        dup: false,
        id,
        subscription_ids: Vec::new(),
        remaining_s,
    };
    let mut out = BytesMut::new();
    encode(version, &packet, &mut out);
    assert_eq!(out.len(), publish_size(version, &message, qos, &[]), "the size is known before");
    let mut frame = out.freeze();
    let Ok(Some((header, body))) = frame_length(&frame, usize::MAX) else { panic!("no packet") };
    assert_eq!(frame.len(), header + body);
    let body = frame.split_off(header);
    let Some(Ok(Incoming::Publish(back))) = frame.first().map(|first| decode_packet(version, *first, body)) else {
        panic!("what was sent on cannot be read");
    };
    assert_eq!((&*back.topic, &back.payload), (&*message.topic, &message.payload));
    assert_eq!((back.qos, back.retain, back.id, &back.properties), (qos, retain, id, &message.properties));
}
