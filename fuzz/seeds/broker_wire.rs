//! Seeds: what clients send, version 3.1.1 and 5, and filters.

type Failure = Box<dyn std::error::Error>;

const PACKETS: &[(&str, &[u8])] = &[
    ("connect-31", b"\x10\x10\0\x06MQIsdp\x03\x02\0\x3C\0\x02p7"),
    ("connect-311", b"\x10\x21\0\x04MQTT\x04\xE6\0\x3C\0\x02p7\0\x03a/b\0\x01x\0\x01u\0\x06secret"),
    ("connect-5", b"\x10\x2C\0\x04MQTT\x05\x06\0\x3C\x0D\x11\0\0\x02\x58\x21\0\x05\x27\0\0\x10\0\0\x02p7\x07\x18\0\0\0\x01\x01\x01\0\x03a/b\0\x01x"),
    ("publish-0", b"\x30\x09\0\x05hsu/1ok"),
    ("publish-1", b"\x32\x0B\0\x05hsu/1\0\x07ok"),
    ("publish-5", b"\x34\x1C\0\x05hsu/1\0\x08\x10\x01\x01\x02\0\0\0\x05\x23\0\x01\x26\0\x01a\0\x01b\0ok"),
    ("puback", b"\x40\x02\0\x07"),
    ("pubrec-5", b"\x50\x04\0\x08\x97\0"),
    ("pubrel", b"\x62\x02\0\x08"),
    ("pubcomp", b"\x70\x02\0\x08"),
    ("subscribe-311", b"\x82\x0A\0\x01\0\x05hsu/#\x01"),
    ("subscribe-5", b"\x82\x0D\0\x01\x02\x0B\x03\0\x05hsu/#\x2D"),
    ("unsubscribe", b"\xA2\x09\0\x02\0\x05hsu/#"),
    ("unsubscribe-5", b"\xA2\x0A\0\x02\0\0\x05hsu/#"),
    ("pingreq", b"\xC0\0"),
    ("disconnect", b"\xE0\0"),
    ("disconnect-5", b"\xE0\x07\x04\x05\x11\0\0\0\x0A"),
];

pub fn seeds() -> Result<Vec<(String, Vec<u8>)>, Failure> {
    let mut seeds = Vec::new();
    let mut stream = vec![0];
    for (name, packet) in PACKETS {
        seeds.push((format!("seed-{name}"), [&[0], *packet].concat()));
        stream.extend_from_slice(packet);
    }
    seeds.push(("seed-stream".to_owned(), stream));
    seeds.push((
        "seed-blob".to_owned(),
        b"\x01\x16\x01\x01\x03\0\x01t\x08\0\x03a/b\x09\0\x01c\x26\0\x01a\0\x01b".to_vec(),
    ));
    for (place, texts) in
        ["hsu/#\nhsu/1", "+/1\nhsu/1", "$share/g/a/#\na/b", "a/b\na/b", "$SYS/#\n$SYS/x"].iter().enumerate()
    {
        seeds.push((format!("seed-filter-{place}"), [&[2], texts.as_bytes()].concat()));
    }
    Ok(seeds)
}
