//! Seeds: what coap-client sends, and exchanges with it.

type Failure = Box<dyn std::error::Error>;

/// An operation that sends these bytes from a peer.
fn raw(peer: u8, datagram: &[u8]) -> Vec<u8> {
    [&[0, peer, datagram.len() as u8], datagram].concat()
}

const GET: &[u8] = b"\x42\x01\x00\x01\xaa\xbb\xb6topics\x01a\x01b";
const OBSERVE: &[u8] = b"\x41\x01\x00\x02\x01\x60\x56topics\x01a";
const PUT: &[u8] = b"\x42\x03\x00\x03\xaa\xbb\xb6topics\x01a\x11\x32\xff{\"v\":21.5}";
const DISCOVER: &[u8] = b"\x40\x01\x00\x04\xbb.well-known\x04core";
const PING: &[u8] = b"\x40\x00\x00\x05";
const GUARDED: &[u8] = b"\x40\x03\x00\x06\xb6topics\x01a\x4d\x0dtoken=sesame-sesame-sesame\xff1";

pub fn seeds() -> Result<Vec<(String, Vec<u8>)>, Failure> {
    let file = |flags: u8, operations: &[Vec<u8>]| [&[flags], operations.concat().as_slice()].concat();
    let passes = |ms: u16| [&[3, 0], ms.to_be_bytes().as_slice()].concat();
    let answer = |kind: u8, length: u8| vec![4 | kind << 3, 0, length];
    let news = |length: u8| vec![5 | 1 << 3, 0, length];
    // Confirmable, with these options' bits and what they take; 1024 bytes.
    let block = |choice: u8, id: u8, option: u8, value: u8| vec![1, 1, choice, 0, id, option | 64, value];
    let again = vec![7, 0];
    let ack = vec![6, 0];
    let reset = vec![6 | 16, 0];
    // More of each than there may be.
    let get = |peer: u8, token: u8, id: u8, options: &[u8]| [&[1, peer, 4 | token << 5, 0, id], options].concat();
    let mut uploads = Vec::new();
    let mut downloads = Vec::new();
    let mut observers = Vec::new();
    let mut exchanges = Vec::new();
    for peer in 0..40 {
        uploads.push(vec![1, peer, 0, 0, peer, 1 | 64, 0x0e]);
        downloads.extend([get(peer, 0, 1, &[0, 0]), answer(7, 200)]);
    }
    for at in 0..70 {
        observers.extend([get(at, at / 64, at, &[4, 0, 0]), answer(0, 0)]);
        exchanges.push(get(at, 0, at, &[0, 0]));
    }
    observers.extend((0..70).map(|at| vec![5 | 1 << 3, at, 2]));
    observers.extend([passes(65_000), passes(65_000)]);
    let mut pending = Vec::new();
    for round in 0..5 {
        pending.extend((0..60).map(|peer| get(peer, 0, round, &[0, 0])));
        pending.push(passes(1000));
        pending.extend((0..60).map(|_| answer(6, 1)));
    }
    Ok(vec![
        ("seed-many-uploads".into(), file(0, &uploads)),
        ("seed-many-downloads".into(), file(0, &downloads)),
        ("seed-many-observers".into(), file(0, &observers)),
        ("seed-many-exchanges".into(), file(0, &exchanges)),
        ("seed-many-pending".into(), file(0, &pending)),
        ("seed-get".into(), file(0, &[raw(0, GET), answer(6, 2), again.clone(), raw(0, PING), raw(1, DISCOVER)])),
        ("seed-get-none".into(), file(4, &[raw(0, GET), answer(0, 0)])),
        (
            "seed-get-large".into(),
            file(0, &[raw(0, GET), answer(7, 200), block(0x0c, 9, 2, 0x16), block(0x0c, 10, 2, 0x26)]),
        ),
        ("seed-put".into(), file(0, &[raw(0, PUT), answer(0, 0), again.clone()])),
        (
            "seed-put-late".into(),
            file(0, &[raw(0, PUT), passes(1000), answer(2, 250), passes(3000), passes(6000), ack.clone()]),
        ),
        ("seed-put-lost".into(), file(0, &[raw(0, PUT), passes(1000), answer(1, 1), passes(65_000), passes(65_000)])),
        (
            "seed-put-blocks".into(),
            file(0, &[block(0, 1, 1, 0x0e), block(0, 2, 1, 0x1e), block(0, 3, 1, 0x2e), block(0, 4, 1, 0x3e)]),
        ),
        (
            "seed-observe".into(),
            file(0, &[raw(0, OBSERVE), answer(6, 1), news(2), ack.clone(), news(200), news(3), ack, reset]),
        ),
        (
            "seed-observe-lost".into(),
            file(0, &[raw(0, OBSERVE), answer(0, 0), news(2), passes(65_000), vec![5 | 31 << 3, 0]]),
        ),
        ("seed-guarded".into(), file(1, &[raw(0, GUARDED), answer(0, 0), raw(0, PUT), raw(2, GET)])),
        (
            "seed-rate".into(),
            file(2, &[raw(0, GET), raw(1, GET), raw(2, GET), raw(3, GET), raw(4, GET), raw(5, GET), raw(6, PUT)]),
        ),
        (
            "seed-malformed".into(),
            file(0, &[raw(0, b"\x4f\x01\0\x01"), raw(0, b"\x40\x01\0\x02\xff"), raw(0, b"\x40\x01\0\x03\xf0")]),
        ),
    ])
}
