use std::{collections::BTreeMap, error::Error};

use super::*;
use crate::{
    Delivery, DeliveryKind, Epoch, EpochSecret, Freshness, HandOver, LeafIndex, Ledger, Member, OpenError, Opened,
    Opener, QosClass,
};

const TOPIC: &str = "a/b";
const NOW: u64 = u64::MAX >> 24;
const FRESHNESS: Freshness = Freshness {
    live_max_age_ms: None,
    retained_max_age_ms: None,
    offline_max_age_ms: None,
    clock_tolerance_ms: 0,
    epoch_grace_ms: None,
};
const LIVE: Delivery<'static> =
    Delivery { kind: DeliveryKind::Live, hand_over: HandOver::AtMostOnce, freshness: &FRESHNESS };

fn content(payload: &[u8]) -> Content<'_> {
    Content { purpose: Purpose::Message, retain: false, class: QosClass::AtMostOnce, props: &[], payload }
}

/// On the last leaf, with the largest start, in an epoch whose tag has all bits set: the widest key id.
fn widest(authenticity: Authenticity) -> Result<(GroupKeys, Sealer), Box<dyn Error>> {
    let key = Arc::new(SigningKey::generate()?);
    let own_leaf = LeafIndex::new(LeafIndex::MAX.into()).ok_or("a leaf")?;
    let device: sealcast_identity::DeviceId = "1111".parse()?;
    let ledger = Ledger { chain_id: u64::MAX, contract: [0xFF; 20] };
    let mut keys = GroupKeys::new(ledger, GroupNumber(u16::MAX), "hsu0001", device.clone(), 0);
    keys.insert_epoch(Epoch {
        id: EpochId { generation: u32::MAX, epoch: u64::MAX },
        secret: EpochSecret::new([7; 32]),
        own_leaf,
        roster: BTreeMap::from([(own_leaf, Member { name: device, key: *key.public() })]),
        authenticity,
        since_ms: 0,
        began_at: Some(0),
    })?;
    let sealer = keys.sealer_at(Start::LARGEST, &key)?;
    Ok((keys, sealer))
}

#[test]
fn the_widest_header_adds_exactly_100_bytes_signed_and_36_unsigned() -> Result<(), Box<dyn Error>> {
    for (authenticity, overhead) in [(Authenticity::Signature, 100), (Authenticity::Group, 36)] {
        let (keys, mut sealer) = widest(authenticity)?;
        sealer.next = Header::MAX_COUNTER;
        sealer.follow_ledger(u64::MAX, |_| Some([0xFF; 32]));
        let frame = sealer.seal(NOW, TOPIC, &content(&[0; 50]))?;
        assert_eq!(frame.len() - 50, overhead);
        let _opened = Opener::new().open(&keys, TOPIC, &frame, &LIVE, NOW)?;
    }
    Ok(())
}

#[test]
fn asks_for_a_start_after_the_last_counter() -> Result<(), Box<dyn Error>> {
    let (_keys, mut sealer) = widest(Authenticity::Group)?;
    sealer.next = Header::MAX_COUNTER;
    sealer.seal(NOW, TOPIC, &content(b"last"))?;
    for _ in 0..3 {
        let refused = sealer.seal(NOW, TOPIC, &content(b"more"));
        assert!(matches!(refused, Err(SealError::NeedStart { start: Start::LARGEST, .. })));
    }
    Ok(())
}

/// Counters that end within a batch leave a message that is alone.
#[test]
fn a_batch_ends_with_the_counters() -> Result<(), Box<dyn Error>> {
    for left in 1..4 {
        let (keys, mut sealer) = widest(Authenticity::Signature)?;
        sealer.next = Header::MAX_COUNTER + 1 - left;
        let batch = [(TOPIC, content(b"1")), (TOPIC, content(b"2")), (TOPIC, content(b"3")), (TOPIC, content(b"4"))];
        let frames = sealer.seal_batch(NOW, &batch);
        for (at, frame) in frames.iter().enumerate() {
            match frame {
                Ok(frame) => {
                    let opened = Opener::new().open(&keys, TOPIC, frame, &LIVE, NOW)?;
                    assert!(matches!(opened, Opened::Message(message) if message.is_signed()));
                }
                Err(error) => assert!(matches!(error, SealError::NeedStart { .. }), "{error}"),
            }
            assert_eq!(frame.is_ok(), at < left as usize, "{at} with {left} left");
        }
    }
    Ok(())
}

#[test]
fn refuses_what_no_frame_can_carry() -> Result<(), Box<dyn Error>> {
    let (_keys, mut sealer) = widest(Authenticity::Group)?;
    assert_eq!(sealer.seal(1, "", &content(b"")), Err(SealError::Topic(0)));
    assert_eq!(sealer.seal(1, &"a".repeat(65_536), &content(b"")), Err(SealError::Topic(65_536)));
    let huge = vec![0; MAX_VARINT];
    assert_eq!(sealer.seal(1, TOPIC, &content(&huge)), Err(SealError::TooLarge(MAX_VARINT)));
    let tombstone = Content { purpose: Purpose::Tombstone, ..content(b"") };
    for wrong in [Content { payload: b"1", ..tombstone }, Content { retain: true, ..tombstone }] {
        assert_eq!(sealer.seal(1, TOPIC, &wrong), Err(SealError::Tombstone));
    }
    assert_eq!(sealer.sealed(), 0, "no counter is spent on them");
    Ok(())
}

/// Seals `plaintext` as it is, as a member that does not keep to the format could.
fn seal_inside(sealer: &mut Sealer, plaintext: &[u8]) -> Result<Vec<u8>, Box<dyn Error>> {
    let ctr = ctr(NOW, sealer.take_counter()?);
    let mut frame = Vec::new();
    write_header(sealer.key_id, ctr, &mut frame);
    let header_bytes = frame.len();
    frame.extend_from_slice(plaintext);
    Ok(sealer.encrypt(TOPIC, Draft { frame, header_bytes, ctr })?)
}

#[test]
fn a_plaintext_has_one_form_and_no_unknown_flags() -> Result<(), Box<dyn Error>> {
    let (keys, mut sealer) = widest(Authenticity::Group)?;
    let mut open = |inside: &[u8]| -> Result<Result<Opened, OpenError>, Box<dyn Error>> {
        let frame = seal_inside(&mut sealer, &[&inside[..1], &[0; 3], &inside[1..]].concat())?;
        Ok(Opener::new().open(&keys, TOPIC, &frame, &LIVE, NOW))
    };
    assert!(open(&[0x40])?.is_ok(), "empty payload");
    assert!(open(&[0x41, 2, 9, 9, 1])?.is_ok(), "two bytes of properties, one of payload");
    assert!(open(&[0x44])?.is_ok(), "published with QoS 1");
    assert!(matches!(open(&[0x59, 1, 9])?, Ok(Opened::Tombstone(_))), "with a property");
    for flags in [0x60, 0x80, 0xC0] {
        assert!(matches!(open(&[flags])?, Err(OpenError::Flags { flags: found, .. }) if found == flags));
    }
    let malformed: [&[u8]; 11] = [
        &[0x00],                            // signed, without room for a signature
        &[0x20],                            // in a batch, without room for its place
        &[0x41],                            // properties announced, nothing there
        &[0x41, 0],                         // properties announced, none there
        &[0x41, 2, 9],                      // cut off
        &[0x41, 0x81, 0x00, 9],             // their length not in its shortest form
        &[0x41, 0xFF, 0xFF, 0xFF, 0xFF, 1], // nor longer than four bytes
        &[0x41, 0xFF],                      // cut off within the length
        &[0x50],                            // sealed again, not retained
        &[0x5A],                            // a tombstone, and retained
        &[0x58, 1],                         // a tombstone with a payload
    ];
    for inside in malformed {
        assert!(matches!(open(inside)?, Err(OpenError::Malformed { .. })), "{inside:02x?}");
    }
    let (keys, mut sealer) = widest(Authenticity::Group)?;
    let unsaid = seal_inside(&mut sealer, &[0x40, 0xFF, 0xF0, 0x01])?;
    assert!(matches!(Opener::new().open(&keys, TOPIC, &unsaid, &LIVE, NOW), Err(OpenError::Malformed { .. })));
    Ok(())
}

/// Wrong trees: too small, too large, a place outside, a path that is cut off or too long.
#[test]
fn a_batch_has_one_form() -> Result<(), Box<dyn Error>> {
    let (keys, mut sealer) = widest(Authenticity::Signature)?;
    let whole = [&[0x20, 0, 0, 0][..], b"21.5", &[7; 32], &[0, 1], &[9; 64]].concat();
    let mut open = |inside: &[u8]| -> Result<Option<OpenError>, Box<dyn Error>> {
        let frame = seal_inside(&mut sealer, inside)?;
        Ok(Opener::new().open(&keys, TOPIC, &frame, &LIVE, NOW).err())
    };
    let place = whole.len() - 66;
    assert!(matches!(open(&whole)?, Some(OpenError::BadSignature { .. })), "well formed, and not signed");
    for (index, last) in [(0, 0), (2, 1), (0, 64), (0, 255), (255, 255), (0, 7)] {
        let mut wrong = whole.clone();
        wrong[place..place + 2].copy_from_slice(&[index, last]);
        assert!(matches!(open(&wrong)?, Some(OpenError::Malformed { .. })), "{index} of {last}");
    }
    let cut = [&whole[..4], &whole[place - 31..]].concat();
    assert!(matches!(open(&cut)?, Some(OpenError::Malformed { .. })), "cut off");
    Ok(())
}
