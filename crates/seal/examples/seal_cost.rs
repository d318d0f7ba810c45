//! What the envelope costs next to its bare cryptography: `cargo run --release -p sealcast-seal --example seal_cost`.
#![allow(clippy::print_stdout)]

use std::{
    collections::BTreeMap,
    error::Error,
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use sealcast_identity::SigningKey;
use sealcast_seal::{
    Authenticity, Content, Delivery, DeliveryKind, Epoch, EpochId, EpochSecret, Freshness, GroupKeys, GroupNumber,
    HandOver, LeafIndex, Ledger, Member, Opened, Opener, Purpose, QosClass, raw::Raw,
};

const TOPIC: &str = "hsu/0001/temperature";
const NOW_MS: u64 = 1_795_366_800_000;

fn main() -> Result<(), Box<dyn Error>> {
    println!("{:<10} {:>7} {:>12} {:>12} {:>7}", "", "bytes", "frame", "raw", "ratio");
    for authenticity in [Authenticity::Signature, Authenticity::Group] {
        for bytes in [100, 1024, 16_384] {
            measure(authenticity, bytes)?;
        }
    }
    Ok(())
}

fn measure(authenticity: Authenticity, bytes: usize) -> Result<(), Box<dyn Error>> {
    let signed = authenticity == Authenticity::Signature;
    let key = Arc::new(SigningKey::generate()?);
    let leaf = LeafIndex::new(0).ok_or("leaf 0")?;
    let name: sealcast_identity::DeviceId = "1111".parse()?;
    let ledger = Ledger { chain_id: 5318, contract: [7; 20] };
    let mut keys = GroupKeys::new(ledger, GroupNumber(1), "hsu0001", name.clone(), 2);
    keys.insert_epoch(Epoch {
        id: EpochId { generation: 0, epoch: 1 },
        secret: EpochSecret::new([7; 32]),
        own_leaf: leaf,
        roster: BTreeMap::from([(leaf, Member { name, key: *key.public() })]),
        authenticity,
        since_ms: NOW_MS,
        began_at: Some(1),
    })?;
    let mut sealer = keys.sealer(&key)?;
    sealer.follow_ledger(100, |_| Some([7; 32]));
    let payload = vec![0x55; bytes];
    let content = Content {
        purpose: Purpose::Message,
        retain: false,
        class: QosClass::AtMostOnce,
        props: &[],
        payload: &payload,
    };
    let freshness = Freshness::unlimited(0);
    let delivery = Delivery { kind: DeliveryKind::Live, hand_over: HandOver::AtMostOnce, freshness: &freshness };
    let mut raw = Raw::on_topic(TOPIC, bytes, signed)?;
    let mut opener = Opener::new();
    // Small batches, so that frames and bare buffers alike stay in the cache, taken in turns, and of each the quickest:
    // the machine is shared.
    let rounds = 64;
    let batches = if signed { 60 } else { 3000 };
    let mut best = [Duration::MAX; 4];
    for _ in 0..batches {
        let start = Instant::now();
        for _ in 0..rounds {
            black_box(sealer.seal(NOW_MS, TOPIC, &content)?);
        }
        best[0] = best[0].min(start.elapsed());

        let start = Instant::now();
        for _ in 0..rounds {
            black_box(raw.seal()?);
        }
        best[1] = best[1].min(start.elapsed());

        let frames: Vec<_> = (0..rounds).map(|_| sealer.seal(NOW_MS, TOPIC, &content)).collect::<Result<_, _>>()?;
        let start = Instant::now();
        for frame in &frames {
            let Opened::Message(message) = opener.open(&keys, TOPIC, frame, &delivery, NOW_MS)? else {
                return Err("sealed again".into());
            };
            opener.mark_delivered(&message.receipt());
            black_box(message.payload());
        }
        best[2] = best[2].min(start.elapsed());

        let start = Instant::now();
        for _ in 0..rounds {
            black_box(raw.open()?);
        }
        best[3] = best[3].min(start.elapsed());
    }
    let kind = if signed { "signed" } else { "unsigned" };
    for (what, frame, raw) in [("seal", best[0], best[1]), ("open", best[2], best[3])] {
        let micros = |total: Duration| total.as_secs_f64() * 1e6 / f64::from(rounds);
        let ratio = frame.as_secs_f64() / raw.as_secs_f64();
        println!("{kind:<8} {what} {bytes:>6} {:>9.2} us {:>9.2} us {ratio:>7.2}", micros(frame), micros(raw));
    }
    Ok(())
}
