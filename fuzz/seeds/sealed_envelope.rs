//! The genuine frames, and seeds made of them.

use std::fs;

use sealcast_identity::SigningKey;
use sealcast_seal::{Content, Delivery, DeliveryKind, Freshness, HandOver, Opened, Opener, Purpose, QosClass};

use crate::{body::frames as genuine, write::fuzz_path};

type Failure = Box<dyn std::error::Error>;

/// Writes `fuzz/fixtures/frames.bin`. Signatures are made anew, so the corpus has to be made anew after it.
pub fn write_fixture() -> Result<(), Failure> {
    let mut out = Vec::new();
    for frame in frames()? {
        out.extend(u16::try_from(frame.len())?.to_be_bytes());
        out.extend(frame);
    }
    Ok(fs::write(fuzz_path("fixtures/frames.bin"), out)?)
}

fn frames() -> Result<Vec<Vec<u8>>, Failure> {
    let message =
        Content { purpose: Purpose::Message, retain: false, class: QosClass::AtMostOnce, props: &[], payload: b"21.5" };
    let contents = [
        message,
        Content { class: QosClass::Acknowledged, props: b"\x01\x01\x03\0\x04text", ..message },
        Content { retain: true, payload: b"{\"t\":21.5}", ..message },
        Content { purpose: Purpose::Will, payload: b"gone", ..message },
        Content { purpose: Purpose::Reseal { sealed_ms: genuine::NOW - 1000 }, retain: true, ..message },
        Content { payload: b"", ..message },
        Content { purpose: Purpose::Tombstone, payload: b"", ..message },
    ];
    let mut frames = Vec::new();
    for group in [genuine::SIGNED, genuine::UNSIGNED] {
        let mut keys = genuine::group_keys(group, 0);
        let key: std::sync::Arc<SigningKey> = genuine::signing_key(0);
        let mut sealer = keys.sealer_at(genuine::start(), &key)?;
        for (content, height) in contents.iter().zip(39..) {
            sealer.follow_ledger(height, |_| Some([height as u8; 32]));
            frames.push(sealer.seal(genuine::NOW, genuine::TOPIC, content)?);
        }
        // Batches whose paths have one, two and three hashes.
        for size in [2, 3, 5] {
            let batch: Vec<_> = contents.iter().take(size).map(|content| (genuine::TOPIC, *content)).collect();
            for frame in sealer.seal_batch(genuine::NOW, &batch) {
                frames.push(frame?);
            }
        }
    }
    Ok(frames)
}

pub fn seeds() -> Result<Vec<(String, Vec<u8>)>, Failure> {
    let fixture = fs::read(fuzz_path("fixtures/frames.bin"))?;
    let frames: Vec<&[u8]> = genuine::parts(&fixture).collect();
    let mut seeds = Vec::new();
    for (place, frame) in frames.iter().enumerate() {
        for how in [0, 1, 2, 4 + 16] {
            seeds.push((format!("seed-raw-{place}-{how}"), [&[0, how, 0][..], frame].concat()));
        }
        let place = u8::try_from(place)?;
        seeds.push((format!("seed-same-{place}"), vec![1, 0, place]));
        seeds.push((format!("seed-changed-{place}"), vec![1, 0, place, 0, 20, 1]));
        seeds.push((format!("seed-cut-{place}"), vec![1, 0x40, place, 1]));
        seeds.push((format!("seed-longer-{place}"), vec![1, 0x80, place, 1]));
    }
    let mut opener = Opener::new();
    let freshness = Freshness::unlimited(1000);
    for frame in &frames {
        let delivery = Delivery { kind: DeliveryKind::Live, hand_over: HandOver::AtMostOnce, freshness: &freshness };
        for keys in [genuine::group_keys(genuine::SIGNED, 1), genuine::group_keys(genuine::UNSIGNED, 1)] {
            let opened = opener.open(&keys, genuine::TOPIC, frame, &delivery, genuine::NOW);
            let Ok(Opened::Message(message) | Opened::Tombstone(message)) = opened else { continue };
            opener.mark_delivered(&message.receipt());
            opener.mark_acknowledged(&message.receipt());
        }
    }
    seeds.push(("seed-import".to_owned(), [&[2][..], &opener.export()].concat()));
    seeds.push(("seed-import-empty".to_owned(), [&[2][..], &Opener::new().export()].concat()));
    let mut rows = vec![3];
    for row in opener.changes().rows {
        let value = row.value.unwrap_or_default();
        let Ok(length) = u8::try_from(value.len()) else { continue };
        rows.push(u8::try_from(row.key.len())?);
        rows.extend(row.key);
        rows.push(length);
        rows.extend(value);
    }
    seeds.push(("seed-restore".to_owned(), rows));
    for flags in 0..0x80 {
        let how = flags % 16;
        let plaintext =
            [&[4, how, 0, 1, flags, flags, 0, 7, 7][..], &[3, 1, 1, 2], &[0x5A; 38], &[1, 2], &[0x5A; 64]].concat();
        seeds.push((format!("seed-insider-{flags}"), plaintext));
    }
    Ok(seeds)
}
