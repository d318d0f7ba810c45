//! Seeds: each packet in each version, conversations through a proxy, and what a server says to a client.

use bytes::Bytes;
use sealcast_mqtt::{
    Ack, AckKind, Auth, Connack, Connect, Disconnect, PacketId, Properties, Property, Publish, Qos, RetainHandling,
    Subscribe, SubscriptionOptions, Text, TopicName, Unsuback, Unsubscribe, Version, Will,
};

type Failure = Box<dyn std::error::Error>;

pub fn seeds() -> Result<Vec<(String, Vec<u8>)>, Failure> {
    let mut seeds = Vec::new();
    for (kind, bytes) in packets(Version::V31)? {
        seeds.push((format!("seed-v31-{kind}"), [&[0, 0xFF][..], &bytes].concat()));
    }
    for (version, name) in [(Version::V311, "v311"), (Version::V5, "v5")] {
        let packets = packets(version)?;
        for (kind, bytes) in &packets {
            seeds.push((format!("seed-{name}-{kind}"), [&[0, 0xFF][..], bytes].concat()));
        }
        let stream: Vec<u8> = packets.iter().flat_map(|(_, bytes)| bytes.to_vec()).collect();
        for chunk in [1, 7] {
            seeds.push((format!("seed-{name}-stream-{chunk}"), [&[0, chunk][..], &stream].concat()));
        }
        let served = [&[3, u8::from(version == Version::V5)][..], &served(version)?].concat();
        seeds.push((format!("seed-{name}-client"), served));
        for policy in 0..4 {
            let talk = conversation(version, policy)?;
            for config in [0, 0x1F] {
                let bytes = [&[1, config][..], &talk].concat();
                seeds.push((format!("seed-{name}-proxy-{policy}-{config}"), bytes));
            }
        }
    }
    seeds.push(("seed-properties".to_owned(), [&[2][..], &message_properties()?.encode()?].concat()));
    Ok(seeds)
}

fn text(text: &str) -> Result<Text, Failure> {
    Ok(Text::new(text)?)
}

fn message_properties() -> Result<Properties, Failure> {
    Ok(Properties::from_iter([
        Property::PayloadFormat(1),
        Property::ContentType(text("text/plain")?),
        Property::User(text("unit")?, text("C")?),
    ]))
}

fn id(id: u16) -> Result<PacketId, Failure> {
    PacketId::new(id).ok_or_else(|| "packet id 0".into())
}

fn properties(version: Version, list: impl IntoIterator<Item = Property>) -> Properties {
    if version == Version::V5 { list.into_iter().collect() } else { Properties::new() }
}

fn connect(version: Version) -> Result<Connect, Failure> {
    Ok(Connect {
        version,
        bridge: false,
        clean_start: false,
        keep_alive_s: 60,
        properties: properties(version, [Property::SessionExpiry(600), Property::TopicAliasMaximum(4)]),
        client_id: text("pump-7")?,
        will: Some(Will {
            topic: TopicName::new("hsu/1/state")?,
            payload: Bytes::from_static(b"gone"),
            qos: Qos::AtLeastOnce,
            retain: true,
            properties: properties(version, message_properties()?.iter().cloned()),
        }),
        username: Some(text("user")?),
        password: Some(Bytes::from_static(b"secret")),
    })
}

fn publish(version: Version, qos: Qos, packet_id: u16, alias: Option<(u16, bool)>) -> Result<Bytes, Failure> {
    let alias = alias.filter(|_| version == Version::V5);
    let named = alias.is_none_or(|(_, named)| named);
    let mut list = properties(version, message_properties()?.iter().cloned());
    if let Some((alias, _)) = alias {
        list.push(Property::TopicAlias(alias));
    }
    let message = Publish {
        dup: false,
        qos,
        retain: false,
        topic: if named { Some(TopicName::new("hsu/1")?) } else { None },
        packet_id: if qos == Qos::AtMostOnce { None } else { Some(id(packet_id)?) },
        properties: list,
        payload: Bytes::from_static(b"21.5"),
    };
    Ok(message.encode(version)?)
}

fn ack(version: Version, kind: AckKind, packet_id: u16, code: u8) -> Result<Bytes, Failure> {
    let mut ack = Ack::success(kind, id(packet_id)?);
    if version == Version::V5 && code != 0 {
        ack.code = code;
        ack.properties = Properties::from_iter([Property::ReasonString(text("no")?)]);
    }
    Ok(ack.encode(version)?)
}

fn connack(version: Version, session_present: bool) -> Result<Bytes, Failure> {
    let list = properties(version, [Property::TopicAliasMaximum(4), Property::MaximumPacketSize(4096)]);
    Ok(Connack { session_present, code: 0, properties: list }.encode(version)?)
}

fn packets(version: Version) -> Result<Vec<(&'static str, Bytes)>, Failure> {
    let v5 = version == Version::V5;
    let mut packets = vec![
        ("connect", connect(version)?.encode()?),
        ("connack", connack(version, true)?),
        ("publish-0", publish(version, Qos::AtMostOnce, 0, None)?),
        ("publish-1", publish(version, Qos::AtLeastOnce, 7, Some((1, true)))?),
        ("publish-2", publish(version, Qos::ExactlyOnce, 8, Some((1, false)))?),
        ("puback", ack(version, AckKind::Puback, 7, 0x87)?),
        ("pubrec", ack(version, AckKind::Pubrec, 8, 0)?),
        ("pubrel", ack(version, AckKind::Pubrel, 8, 0)?),
        ("pubcomp", ack(version, AckKind::Pubcomp, 8, 0x92)?),
        ("subscribe", subscribe(v5)),
        ("suback", Bytes::from_static(if v5 { b"\x90\x04\0\x01\0\x01" } else { b"\x90\x03\0\x01\x01" })),
        ("pingreq", Bytes::from_static(b"\xC0\0")),
        ("pingresp", Bytes::from_static(b"\xD0\0")),
        ("unsubscribe", unsubscribe(version)?),
        ("unsuback", unsuback(version)?),
        ("disconnect", Disconnect::default().encode(version)?),
    ];
    if v5 {
        packets.push(("subscribe-options", subscribe_with_options()?));
        packets.push(("auth", auth()?));
    }
    Ok(packets)
}

fn unsubscribe(version: Version) -> Result<Bytes, Failure> {
    let properties = properties(version, [Property::User(text("why")?, text("done")?)]);
    Ok(Unsubscribe { packet_id: id(2)?, properties, filters: vec![text("hsu/#")?, text("$share/g/a")?] }
        .encode(version)?)
}

fn unsuback(version: Version) -> Result<Bytes, Failure> {
    let properties = properties(version, [Property::ReasonString(text("no")?)]);
    let codes = if version == Version::V5 { &[0, 0x11][..] } else { &[] };
    Ok(Unsuback { packet_id: id(2)?, properties, codes: Bytes::from_static(codes) }.encode(version)?)
}

fn subscribe_with_options() -> Result<Bytes, Failure> {
    let options = SubscriptionOptions {
        qos: Qos::ExactlyOnce,
        no_local: true,
        retain_as_published: true,
        retain_handling: RetainHandling::Never,
    };
    let properties = Properties::from_iter([Property::SubscriptionId(300)]);
    Ok(Subscribe { packet_id: id(3)?, properties, filters: vec![(text("hsu/+")?, options)] }.encode(Version::V5)?)
}

fn auth() -> Result<Bytes, Failure> {
    let list = [Property::AuthMethod(text("SCRAM")?), Property::AuthData(Bytes::from_static(b"n,,"))];
    Ok(Auth { code: 0x18, properties: Properties::from_iter(list) }.encode(Version::V5)?)
}

fn subscribe(v5: bool) -> Bytes {
    Bytes::from_static(if v5 { b"\x82\x0B\0\x01\0\0\x05hsu/#\x01" } else { b"\x82\x0A\0\x01\0\x05hsu/#\x01" })
}

/// Messages of each quality both ways; the driver answers by `policy` once all is open.
fn conversation(version: Version, policy: u8) -> Result<Vec<u8>, Failure> {
    const CLIENT: u8 = 0;
    const BROKER: u8 = 3;
    let mut out = Vec::new();
    let mut say = |side: u8, policy: u8, bytes: &[u8]| {
        out.extend([side | policy << 3, bytes.len() as u8]);
        out.extend_from_slice(bytes);
    };
    say(CLIENT, 0, &connect(version)?.encode()?);
    say(BROKER, 0, &connack(version, true)?);
    say(CLIENT, policy, &subscribe(version == Version::V5));
    for side in [CLIENT, BROKER] {
        let other = if side == CLIENT { BROKER } else { CLIENT };
        say(side, policy, &publish(version, Qos::AtMostOnce, 0, None)?);
        say(side, policy, &publish(version, Qos::AtLeastOnce, 7, Some((1, true)))?);
        say(side, policy, &publish(version, Qos::ExactlyOnce, 8, Some((1, false)))?);
        say(side, policy, b"\xC0\0");
        say(other, policy, &ack(version, AckKind::Puback, 7, 0)?);
        say(other, policy, &ack(version, AckKind::Pubrec, 8, 0)?);
        say(side, policy, &ack(version, AckKind::Pubrel, 8, 0)?);
        say(other, policy, &ack(version, AckKind::Pubcomp, 8, 0)?);
    }
    say(6, policy, b"");
    say(7, policy, b"");
    say(BROKER, policy, &publish(Version::V5, Qos::ExactlyOnce, 8, None)?);
    say(CLIENT, policy, &Disconnect::default().encode(version)?);
    Ok(out)
}

/// A server that takes the client of the fuzz body, answers all it asks, and sends it messages. The client's five messages
/// have the first packet identifiers, its SUBSCRIBE and UNSUBSCRIBE the next ones.
fn served(version: Version) -> Result<Vec<u8>, Failure> {
    let v5 = version == Version::V5;
    let mut out = connack(version, true)?.to_vec();
    for message in 1..=5 {
        out.extend(ack(version, AckKind::Puback, message, if message == 2 { 0x97 } else { 0 })?);
    }
    out.extend_from_slice(if v5 { b"\x90\x05\0\x06\0\x01\x87" } else { b"\x90\x04\0\x06\x01\x80" });
    out.extend_from_slice(if v5 { b"\xB0\x04\0\x07\0\0" } else { b"\xB0\x02\0\x07" });
    out.extend_from_slice(b"\xD0\0");
    for id in 1..=6 {
        out.extend(publish(version, Qos::AtLeastOnce, id, None)?);
    }
    out.extend(publish(version, Qos::AtMostOnce, 0, None)?);
    out.extend(Disconnect::default().encode(version)?);
    Ok(out)
}
