//! Parts of control messages: genuine ones in any order with bytes changed, and any bytes, on a few topics, while time
//! passes.
//!
//! Whatever comes, memory is bounded, and what is put together is the message that its parts name.

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use sealcast_parts::{Assembler, HEADER_BYTES, Limits, MARKER, cut};

const LIMITS: Limits = Limits { message_bytes: 600, topic_bytes: 2000, total_bytes: 5000, age_ms: 1000 };
const MAX_OPERATIONS: usize = 500;

/// `what u8 | argument u16 | bytes that depend on what`, again and again.
pub fn run(data: &[u8]) {
    let mut assembler = Assembler::new(LIMITS);
    let genuine: Vec<Bytes> = (1..=8u8).flat_map(|fill| parts(vec![fill; usize::from(fill) * 90])).collect();
    let (mut bytes, mut now_ms) = (data, 0u64);
    for _ in 0..MAX_OPERATIONS {
        let Some(([what, high, low], rest)) = bytes.split_first_chunk::<3>() else { break };
        let argument = u16::from_be_bytes([*high, *low]);
        bytes = rest;
        let payload = match what & 3 {
            0 => genuine[usize::from(argument) % genuine.len()].clone(),
            1 => {
                let mut part = genuine[usize::from(argument & 63) % genuine.len()].to_vec();
                let place = usize::from(argument >> 6) % part.len();
                part[place] ^= what >> 2 | 1;
                part.into()
            }
            2 => {
                let (any, rest) = bytes.split_at(usize::from(argument & 0x3FF).min(bytes.len()));
                bytes = rest;
                Bytes::copy_from_slice(any)
            }
            _ => {
                now_ms += u64::from(argument);
                continue;
            }
        };
        take(&mut assembler, ["a", "b", "c", "d"][usize::from(what >> 2 & 3)], payload, now_ms);
    }
}

fn take(assembler: &mut Assembler, topic: &str, payload: Bytes, now_ms: u64) {
    let taken = assembler.take(topic, payload.clone(), now_ms);
    assert!(assembler.bytes() <= LIMITS.total_bytes);
    let Ok(Some(message)) = taken else { return };
    if payload.first() != Some(&MARKER) {
        return assert_eq!(message, payload);
    }
    assert!(message.len() <= LIMITS.message_bytes);
    assert_eq!(&digest(&SHA256, &message).as_ref()[..16], &payload[2..18]);
}

fn parts(message: Vec<u8>) -> Vec<Bytes> {
    cut(message.into(), HEADER_BYTES + 90).expect("a few parts")
}
