//! A proxy whose driver changes nothing must be as good as a wire.

use proptest::collection::vec;
use proptest::prelude::*;
use sealcast_mqtt::*;

use crate::harness::*;

/// How the driver that changes nothing says so.
#[derive(Debug, Clone, Copy)]
enum Identity {
    /// `pass` and `pass_clear`.
    Pass,
    /// `seal_done` and `deliver` with what it was given.
    Rebuild,
}

fn answer_all(rig: &mut Rig, identity: Identity) {
    loop {
        let events = rig.take_events();
        if events.is_empty() {
            return;
        }
        for event in events {
            if rig.proxy.is_closed() {
                return; // what was asked before the end is void
            }
            match (event, identity) {
                (Output::Publish(request), Identity::Pass) => {
                    rig.answer(|proxy| proxy.pass_clear(request.id));
                }
                (Output::Publish(request), Identity::Rebuild) => {
                    rig.answer(|proxy| proxy.seal_done(request.id, request.payload));
                }
                (Output::Delivery(delivery), Identity::Pass) => {
                    rig.answer(|proxy| proxy.pass(delivery.id));
                }
                (Output::Delivery(delivery), Identity::Rebuild) => {
                    let (inside, _) = delivery.properties.partition_sealed();
                    let restored = inside.encode().unwrap();
                    rig.answer(|proxy| proxy.deliver(delivery.id, delivery.payload, restored, &[]));
                }
                _ => {}
            }
        }
    }
}

fn publishes(version: Version) -> BoxedStrategy<Vec<u8>> {
    let qos = prop_oneof![Just(Qos::AtMostOnce), Just(Qos::AtLeastOnce), Just(Qos::ExactlyOnce)];
    ("[a-z/]{1,30}", qos, 1..20u16, any::<(bool, bool)>(), vec(any::<u8>(), 0..300), any::<Option<u32>>(), 0..10u16)
        .prop_map(move |(name, qos, packet_id, (dup, retain), payload, expiry, alias)| {
            let mut properties = Properties::new();
            if version == Version::V5 {
                expiry.into_iter().for_each(|seconds| properties.push(Property::MessageExpiry(seconds)));
                if alias > 5 {
                    properties.push(Property::TopicAlias(alias));
                }
                // What travels inside comes last, so that rebuilding keeps the order too.
                properties.push(Property::User(text("k"), text(&name)));
            }
            let packet_id = (qos != Qos::AtMostOnce).then(|| id(packet_id));
            let dup = dup && qos != Qos::AtMostOnce;
            let topic = Some(topic(&name));
            Publish { dup, qos, retain, topic, packet_id, properties, payload: payload.into() }
                .encode(version)
                .unwrap()
                .to_vec()
        })
        .boxed()
}

fn acks(version: Version) -> BoxedStrategy<Vec<u8>> {
    let kind = prop_oneof![Just(AckKind::Puback), Just(AckKind::Pubrec), Just(AckKind::Pubrel), Just(AckKind::Pubcomp)];
    (kind, 1..20u16, 0..3usize)
        .prop_map(move |(kind, packet_id, form)| {
            let short = ack(kind, packet_id, version).to_vec();
            // The longer forms of MQTT 5 that say the same.
            let tail: &[u8] = if version == Version::V5 { [&[][..], &[0], &[0, 0]][form] } else { &[] };
            [&[short[0], short[1] + tail.len() as u8], &short[2..], tail].concat()
        })
        .boxed()
}

/// Frames that nobody parses: their content is anything.
fn opaque(first: &'static [u8]) -> BoxedStrategy<Vec<u8>> {
    (prop::sample::select(first), vec(any::<u8>(), 0..100))
        .prop_map(|(first, content)| [vec![first, content.len() as u8], content].concat())
        .boxed()
}

fn client_frames(version: Version) -> impl Strategy<Value = Vec<Vec<u8>>> {
    let opaque_types: &'static [u8] =
        if version == Version::V5 { &[0x82, 0xA2, 0xC0, 0xF0] } else { &[0x82, 0xA2, 0xC0] };
    vec(prop_oneof![publishes(version), acks(version), opaque(opaque_types)], 0..20)
}

fn broker_frames(version: Version) -> impl Strategy<Value = Vec<Vec<u8>>> {
    let opaque_types: &'static [u8] =
        if version == Version::V5 { &[0x90, 0xB0, 0xD0, 0xF0] } else { &[0x90, 0xB0, 0xD0] };
    vec(prop_oneof![publishes(version), acks(version), opaque(opaque_types)], 0..20)
}

fn version() -> impl Strategy<Value = Version> {
    prop_oneof![Just(Version::V311), Just(Version::V5)]
}

proptest! {
    #[test]
    fn identity_is_a_wire(
        (version, up, down) in version().prop_flat_map(|v| (Just(v), client_frames(v), broker_frames(v))),
        identity in prop_oneof![Just(Identity::Pass), Just(Identity::Rebuild)],
        chunk in 1..200usize,
    ) {
        let asked = if version == Version::V5 { vec![Property::TopicAliasMaximum(60)] } else { vec![] };
        let mut rig = Rig::resumed(version, SessionState::default(), &asked, &asked);
        let (up, down) = (up.concat(), down.concat());
        let (mut up_chunks, mut down_chunks) = (up.chunks(chunk), down.chunks(chunk));
        let (mut to_broker, mut to_client) = (Vec::new(), Vec::new());
        loop {
            let (a, b) = (up_chunks.next(), down_chunks.next());
            if a.is_none() && b.is_none() {
                break;
            }
            rig.client(a.unwrap_or_default()).broker(b.unwrap_or_default());
            answer_all(&mut rig, identity);
            to_broker.append(&mut rig.to_broker);
            to_client.append(&mut rig.to_client);
        }
        prop_assert!(!rig.proxy.is_closed());
        // Whole chunks of frames may hold an acknowledgement behind a message that was not answered yet.
        prop_assert_eq!(sorted(&to_broker), sorted(&expected_up(&up, version, identity)));
        prop_assert_eq!(sorted(&to_client), sorted(&down));
        prop_assert_eq!(in_order(&to_client), in_order(&down));
    }

    #[test]
    fn arbitrary_streams_never_panic(
        version in version(),
        up in vec(any::<u8>(), 0..200),
        down in vec(any::<u8>(), 0..200),
        open: bool,
    ) {
        let mut rig = if open { Rig::open(version) } else { Rig::fresh() };
        rig.client(&up).broker(&down);
        answer_all(&mut rig, Identity::Rebuild);
        rig.proxy.handle_client_eof();
        rig.proxy.handle_broker_eof();
        rig.run();
    }

    /// Valid streams with one byte spoilt get further than noise.
    #[test]
    fn spoilt_streams_never_panic_nor_leak(
        (version, up, down) in version().prop_flat_map(|v| (Just(v), client_frames(v), broker_frames(v))),
        spoil in any::<(prop::sample::Index, prop::sample::Index)>(),
        values: (u8, u8),
    ) {
        let asked = if version == Version::V5 { vec![Property::TopicAliasMaximum(60)] } else { vec![] };
        let mut rig = Rig::resumed(version, SessionState::default(), &asked, &asked);
        let (mut up, mut down) = (up.concat(), down.concat());
        if !up.is_empty() { let at = spoil.0.index(up.len()); up[at] = values.0; }
        if !down.is_empty() { let at = spoil.1.index(down.len()); down[at] = values.1; }
        rig.client(&up).broker(&down);
        // Not one answer has been given, so not one message may have passed.
        for frame in rig.take_broker().iter().chain(&rig.take_client()) {
            prop_assert_ne!(frame.packet(), PacketType::Publish);
        }
        answer_all(&mut rig, Identity::Rebuild);
    }
}

/// Sealing leaves out the properties that are inside.
fn expected_up(stream: &[u8], version: Version, identity: Identity) -> Vec<u8> {
    frames(stream)
        .into_iter()
        .flat_map(|frame| match (frame.packet(), identity) {
            (PacketType::Publish, Identity::Rebuild) => {
                let mut publish = Publish::parse(&frame, version).unwrap();
                publish.properties = publish.properties.partition_sealed().1;
                publish.encode(version).unwrap().to_vec()
            }
            _ => frame.into_bytes().to_vec(),
        })
        .collect()
}

fn sorted(stream: &[u8]) -> Vec<Vec<u8>> {
    let mut all: Vec<_> = frames(stream).into_iter().map(|frame| frame.into_bytes().to_vec()).collect();
    all.sort();
    all
}

/// What must stay in order among itself: all but acknowledgements and pings, and the acknowledgements.
fn in_order(stream: &[u8]) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let overtakes = |frame: &Frame| {
        use PacketType::*;
        matches!(frame.packet(), Puback | Pubrec | Pubrel | Pubcomp | Pingreq | Pingresp)
    };
    let (fast, slow): (Vec<_>, Vec<_>) = frames(stream).into_iter().partition(overtakes);
    let plain = |frames: Vec<Frame>| frames.into_iter().map(|frame| frame.into_bytes().to_vec()).collect();
    (plain(fast), plain(slow))
}
