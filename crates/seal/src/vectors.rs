//! The test vectors of docs/envelope.md. Signatures are random, so those of the file are put into what is sealed anew; all
//! other bytes come out the same.

use std::{collections::BTreeMap, error::Error, fs, path::PathBuf, sync::Arc};

use sealcast_identity::SigningKey;
use serde_json::{Value, json};

use crate::{
    Authenticity, Content, Delivery, DeliveryKind, Epoch, EpochId, EpochSecret, Freshness, GroupKeys, GroupNumber,
    HandOver, LeafIndex, Ledger, Member, Opened, Opener, Purpose, QosClass, Sealer, Start,
};

type Outcome = Result<(), Box<dyn Error>>;
/// How it is signed, and its bytes.
type Frame = (&'static str, Vec<u8>);

const NOW_MS: u64 = 1_795_366_800_000;
const LEDGER: Ledger = Ledger { chain_id: 5318, contract: [0xC7; 20] };
const NUMBER: u16 = 7;
const EPOCH: EpochId = EpochId { generation: 0, epoch: 3 };
const BEGAN_AT: u64 = 40;
const HEIGHT: u64 = BEGAN_AT + 5;
const START: u32 = 0x5EA1ED;
const TOPICS: [&str; 2] = ["hsu0001/room1/temperature", "hsu0001/room1/setpoint"];

fn path(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs")).join(name)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Result<Vec<u8>, Box<dyn Error>> {
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| Ok(u8::from_str_radix(std::str::from_utf8(pair)?, 16)?)).collect()
}

fn secret() -> [u8; 32] {
    std::array::from_fn(|i| i as u8)
}

fn head() -> [u8; 32] {
    std::array::from_fn(|i| 0xFF - 7 * i as u8)
}

/// A key that is no secret: its scalar is 2. PKCS#8 by RFC 5958 and RFC 5915, without the public key.
fn key() -> Result<Arc<SigningKey>, Box<dyn Error>> {
    let mut der = unhex("3041020100301306072a8648ce3d020106082a8648ce3d030107042730250201010420")?;
    der.extend([0; 31]);
    der.push(2);
    Ok(Arc::new(SigningKey::from_pkcs8_der(&der)?))
}

fn group(authenticity: Authenticity) -> Result<GroupKeys, Box<dyn Error>> {
    let own_leaf = LeafIndex::new(1).ok_or("a leaf")?;
    let name: sealcast_identity::DeviceId = "1112".parse()?;
    let mut keys = GroupKeys::new(LEDGER, GroupNumber(NUMBER), "hsu0001", name.clone(), 0);
    keys.insert_epoch(Epoch {
        id: EPOCH,
        secret: EpochSecret::new(secret()),
        own_leaf,
        roster: BTreeMap::from([(own_leaf, Member { name, key: *key()?.public() })]),
        authenticity,
        since_ms: NOW_MS,
        began_at: Some(BEGAN_AT),
    })?;
    Ok(keys)
}

/// A sealer, and the keys that it stops with.
fn sealer(authenticity: Authenticity) -> Result<(GroupKeys, Sealer), Box<dyn Error>> {
    let mut keys = group(authenticity)?;
    let mut sealer = keys.sealer_at(Start::new(START).ok_or("24 bits")?, &key()?)?;
    sealer.follow_ledger(HEIGHT, |height| (height == HEIGHT).then(head));
    Ok((keys, sealer))
}

/// Each kind of message.
fn contents() -> Vec<(&'static str, Content<'static>)> {
    let message = Content {
        purpose: Purpose::Message,
        retain: false,
        class: QosClass::AtMostOnce,
        props: &[],
        payload: b"temperature 27.0",
    };
    let [temperature, setpoint] = TOPICS;
    vec![
        (temperature, message),
        (setpoint, Content { class: QosClass::Acknowledged, retain: true, props: b"\x03\0\x0atext/plain", ..message }),
        (temperature, Content { purpose: Purpose::Will, payload: b"away", ..message }),
        (setpoint, Content { purpose: Purpose::Reseal { sealed_ms: NOW_MS - 86_400_000 }, retain: true, ..message }),
        (setpoint, Content { purpose: Purpose::Tombstone, payload: b"", ..message }),
    ]
}

/// All frames in the order of the file, with the mode of each.
fn frames() -> Result<Vec<Frame>, Box<dyn Error>> {
    let (_keys, mut unsigned) = sealer(Authenticity::Group)?;
    let (_signed_keys, mut signed) = sealer(Authenticity::Signature)?;
    let mut frames = Vec::new();
    for (topic, content) in contents() {
        frames.push(("group", unsigned.seal(NOW_MS, topic, &content)?));
    }
    for (topic, content) in contents() {
        frames.push(("alone", signed.seal(NOW_MS, topic, &content)?));
    }
    for frame in signed.seal_batch(NOW_MS, &contents()) {
        frames.push(("batch", frame?));
    }
    Ok(frames)
}

fn described(at: usize, (mode, frame): &Frame) -> Value {
    let all = contents();
    let (topic, content) = &all[at % all.len()];
    let (purpose, time_ms) = match content.purpose {
        Purpose::Message => ("message", NOW_MS),
        Purpose::Will => ("will", NOW_MS),
        Purpose::Reseal { sealed_ms } => ("reseal", sealed_ms),
        Purpose::Tombstone => ("tombstone", NOW_MS),
    };
    json!({
        "mode": mode,
        "topic": topic,
        "purpose": purpose,
        "retain": content.retain,
        "acknowledged": content.class == QosClass::Acknowledged,
        "props": hex(content.props),
        "payload": hex(content.payload),
        "leaf": 1,
        "start": START,
        // The batch goes on where the messages before it have ended.
        "counter": if *mode == "batch" { at - all.len() } else { at % all.len() },
        "time_ms": time_ms,
        "height": HEIGHT,
        "frame": hex(frame),
    })
}

fn vectors(frames: &[Frame]) -> Result<Value, Box<dyn Error>> {
    let messages: Vec<Value> = frames.iter().enumerate().map(|(at, frame)| described(at, frame)).collect();
    Ok(json!({
        "chain_id": LEDGER.chain_id,
        "contract": hex(&LEDGER.contract),
        "number": NUMBER,
        "generation": EPOCH.generation,
        "epoch": EPOCH.epoch,
        "began_at": BEGAN_AT,
        "secret": hex(&secret()),
        "private_key": hex(key()?.scalar()?.as_slice()),
        "public_key": hex(key()?.public().xy()),
        "now_ms": NOW_MS,
        "head": hex(&head()),
        "messages": messages,
    }))
}

#[test]
#[ignore = "writes docs/envelope-vectors.json: only if the format changes"]
fn make_vectors() -> Outcome {
    let text = serde_json::to_string_pretty(&vectors(&frames()?)?)?;
    Ok(fs::write(path("envelope-vectors.json"), text + "\n")?)
}

/// Takes the signature out of a frame, to put it into one that is sealed anew.
fn with_signature_of(stored: &[u8], fresh: &[u8], topic: &str) -> Result<Vec<u8>, Box<dyn Error>> {
    use crate::{
        backend::{DecryptionKey, EncryptionKey, SUITE},
        header::{Header, TAG_BYTES},
        plaintext::{SIGNATURE_BYTES, write_aad},
    };
    use sframe::crypto::{DecryptionBufferView, EncryptionBufferView};

    let header = Header::parse(stored)?;
    let mut aad = Vec::new();
    write_aad(stored, header.header_bytes(), GroupNumber(NUMBER), topic, &mut aad);
    let key = DecryptionKey::derive_from(SUITE, header.key_id.bits(), secret())?;
    let mut inside = |frame: &[u8]| -> Result<Vec<u8>, Box<dyn Error>> {
        let mut data = frame.get(header.header_bytes()..).ok_or("a frame")?.to_vec();
        key.decrypt(DecryptionBufferView { aad: &mut aad, data: &mut data }, header.ctr())?;
        data.truncate(data.len() - TAG_BYTES);
        Ok(data)
    };
    let (stored, mut data) = (inside(stored)?, inside(fresh)?);
    let signature = stored.last_chunk::<SIGNATURE_BYTES>().ok_or("a signature")?;
    *data.last_chunk_mut().ok_or("room for it")? = *signature;
    let mut tag = [0; TAG_BYTES];
    let key = EncryptionKey::derive_from(SUITE, header.key_id.bits(), secret())?;
    key.encrypt(EncryptionBufferView { aad: &mut aad, data: &mut data, tag: &mut tag }, header.ctr())?;
    Ok([&fresh[..header.header_bytes()], &data, &tag].concat())
}

#[test]
fn what_is_sealed_is_what_the_vectors_say() -> Outcome {
    let stored: Value = serde_json::from_str(&fs::read_to_string(path("envelope-vectors.json"))?)?;
    let mut frames = frames()?;
    for (at, (mode, frame)) in frames.iter_mut().enumerate() {
        let message = &stored["messages"][at];
        let stored = unhex(message["frame"].as_str().ok_or("a frame")?)?;
        let topic = message["topic"].as_str().ok_or("a topic")?;
        if *mode != "group" {
            *frame = with_signature_of(&stored, frame, topic)?;
        }
        let keys = group(if *mode == "group" { Authenticity::Group } else { Authenticity::Signature })?;
        let freshness = Freshness::unlimited(0);
        let kind = if message["purpose"] == "reseal" { DeliveryKind::Retained } else { DeliveryKind::Live };
        let delivery = Delivery { kind, hand_over: HandOver::AtMostOnce, freshness: &freshness };
        let opened = Opener::new().open(&keys, topic, &stored, &delivery, NOW_MS)?;
        let (Opened::Message(opened) | Opened::Tombstone(opened)) = opened else { return Err("sealed again".into()) };
        assert_eq!(hex(opened.payload()), message["payload"]);
        assert!(opened.ledger().is_some_and(|report| report.height() == HEIGHT && report.agrees_with(&head())));
    }
    assert_eq!(vectors(&frames)?, stored);
    Ok(())
}

#[test]
fn the_description_shows_the_first_one() -> Outcome {
    let stored: Value = serde_json::from_str(&fs::read_to_string(path("envelope-vectors.json"))?)?;
    let frame = stored["messages"][0]["frame"].as_str().ok_or("a frame")?;
    let shown: String = fs::read_to_string(path("envelope.md"))?.split_whitespace().collect();
    assert!(shown.contains(frame), "docs/envelope.md does not show {frame}");
    Ok(())
}
