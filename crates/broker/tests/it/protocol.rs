use std::time::{Duration, Instant};

use sealcast_broker::{ClassLimits, Limits};

use crate::client::{Client, Connect};
use crate::{PATIENCE, any_port, tcp_broker};

/// Runs a blocking test body against a broker in memory.
fn with_broker(limits: Limits, body: impl FnOnce(std::net::SocketAddr) + Send + 'static) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let broker = tcp_broker(None, any_port(), limits).await;
        let addr = broker.addrs()[0];
        tokio::task::spawn_blocking(move || body(addr)).await.unwrap();
        assert!(broker.shutdown(PATIENCE).await);
    });
}

fn clean(id: &str, v5: bool) -> Connect<'_> {
    Connect { id, v5, clean: true, ..Connect::default() }
}

fn kept(id: &str, v5: bool) -> Connect<'_> {
    Connect { id, v5, expiry_s: 1000, ..Connect::default() }
}

#[test]
fn both_versions_talk_to_each_other() {
    with_broker(Limits::default(), |addr| {
        let (mut three, _) = Client::connect(addr, &clean("three", false));
        let (mut five, _) = Client::connect(addr, &clean("five", true));
        assert_eq!(three.subscribe("a/+", 2), 2);
        assert_eq!(five.subscribe("a/#", 1), 1);
        for qos in 0..3 {
            five.publish("a/b", &[qos], qos << 1, 7).unwrap();
            let message = three.message();
            assert_eq!((message.qos, &message.payload[..]), (qos, &[qos][..]));
        }
    });
}

#[test]
fn retained_messages_come_once_and_go_when_emptied() {
    with_broker(Limits::default(), |addr| {
        let (mut publisher, _) = Client::connect(addr, &clean("p", false));
        publisher.publish_acked("r/1", b"one", 1, 1);
        publisher.publish_acked("r/1", b"two", 1, 2);
        publisher.publish_acked("r/2", b"gone", 1, 3);
        publisher.publish_acked("r/2", b"", 1, 4);
        let (mut reader, _) = Client::connect(addr, &clean("s", true));
        assert_eq!(reader.subscribe("r/#", 1), 1);
        let message = reader.message();
        assert_eq!((message.payload.as_slice(), message.retain), (&b"two"[..], true));
        reader.nothing_more();
        // A live message has RETAIN 0; "retain handling 2" brings none.
        publisher.publish_acked("r/1", b"live", 1, 5);
        assert!(!reader.message().retain);
        assert_eq!(reader.subscribe("r/+", 0x21), 1);
        reader.nothing_more();
    });
}

#[test]
fn wills_are_sent_unless_the_client_says_goodbye() {
    with_broker(Limits::default(), |addr| {
        let (mut reader, _) = Client::connect(addr, &clean("s", false));
        reader.subscribe("will/#", 1);
        let will = |topic, delay| Some((topic, &b"dead"[..], 1, false, delay));
        let (polite, _) = Client::connect(addr, &Connect { will: will("will/polite", 0), ..clean("a", false) });
        polite.disconnect();
        let (rude, _) = Client::connect(addr, &Connect { will: will("will/rude", 0), ..clean("b", false) });
        drop(rude);
        assert_eq!(reader.message().topic, "will/rude");
        let (late, _) = Client::connect(addr, &Connect { will: will("will/late", 1), ..kept("c", true) });
        drop(late);
        assert_eq!(reader.message().topic, "will/late");
        // Back before the delay is over: no will. Of those that are due one after the other, a later one shows it.
        let delay = Duration::from_secs(2);
        let mut too_slow = 0;
        loop {
            let (back, _) = Client::connect(addr, &Connect { will: will("will/back", 2), ..kept("d", true) });
            let left = Instant::now();
            drop(back);
            let (_again, present) = Client::connect(addr, &kept("d", true));
            assert!(present);
            if left.elapsed() < delay {
                break;
            }
            // This machine may have been too slow; then the will was right.
            too_slow += 1;
        }
        let (later, _) = Client::connect(addr, &Connect { will: will("will/later", 2), ..kept("e", true) });
        drop(later);
        let come = std::iter::from_fn(|| Some(reader.message().topic).filter(|topic| topic != "will/later"));
        assert!(come.inspect(|topic| assert_eq!(topic, "will/back")).count() <= too_slow);
    });
}

#[test]
fn rights_are_enforced() {
    with_broker(Limits::default(), |addr| {
        let refused = |v5| Client::try_connect(addr, &Connect { user: Some("revoked"), ..clean("x", v5) }).unwrap().2;
        assert_eq!((refused(true), refused(false)), (0x87, 5));
        let forbidden_will = Connect { will: Some(("forbidden/x", b"", 0, false, 0)), ..clean("x", true) };
        assert_eq!(Client::try_connect(addr, &forbidden_will).unwrap().2, 0x87);

        let (mut five, _) = Client::connect(addr, &Connect { user: Some("1111"), ..clean("c", true) });
        assert_eq!(five.subscribe("forbidden/#", 0), 0x87);
        assert_eq!(five.subscribe("$share/g/forbidden/#", 0), 0x87);
        assert_eq!(five.publish_acked("forbidden/x", b"", 0, 1), 0x87);
        assert_eq!(five.publish_acked("keys/1112", b"", 0, 2), 0x87);
        assert_eq!(five.publish_acked("keys/1111", b"", 0, 3), 0);
        five.publish("forbidden/x", b"", 4, 4).unwrap();
        let (first, body) = five.read().unwrap();
        assert_eq!((first, &body[..3]), (0x50, &[0, 4, 0x87][..]));

        let (mut three, _) = Client::connect(addr, &clean("c3", false));
        assert_eq!(three.subscribe("forbidden/#", 0), 0x80);
        three.publish("forbidden/x", b"", 2, 1).unwrap();
        three.closed();
    });
}

#[test]
fn no_local_on_a_shared_subscription_is_a_protocol_error() {
    with_broker(Limits::default(), |addr| {
        const NO_LOCAL: u8 = 4;
        let (mut client, _) = Client::connect(addr, &clean("c", true));
        assert_eq!(client.subscribe("work", NO_LOCAL), 0);
        assert_eq!(client.subscribe("$share/g/work", 0), 0);
        // Packet identifier, no properties, one filter with its options.
        let mut body = vec![0, 9, 0, 0, 13];
        body.extend(b"$share/g/work");
        body.push(NO_LOCAL | 1);
        client.send(0x82, &body).unwrap();
        assert_eq!(client.closed(), Some(0x82));
    });
}

#[test]
fn a_protocol_level_that_is_not_spoken_is_refused_in_the_form_that_its_client_knows() {
    with_broker(Limits::default(), |addr| {
        let refused = |name: &[u8], level: u8| {
            let mut client = Client::open(addr, false).unwrap();
            let body = [&[0, name.len() as u8][..], name, &[level, 2, 0, 0, 0, 1, b'c']].concat();
            client.send(0x10, &body).unwrap();
            let answer = client.read().unwrap();
            assert_eq!(client.closed(), None);
            answer
        };
        assert_eq!(refused(b"MQTT", 6), (0x20, vec![0, 0x84, 0]), "CONNACK of MQTT 5: code and properties");
        assert_eq!(refused(b"MQTT", 0x7F), (0x20, vec![0, 0x84, 0]));
        assert_eq!(refused(b"MQTT", 3), (0x20, vec![0, 1]));
        assert_eq!(refused(b"MQIsdp", 2), (0x20, vec![0, 1]));
    });
}

#[test]
fn a_bridge_gets_no_message_of_its_own_and_sees_which_are_retained() {
    with_broker(Limits::default(), |addr| {
        for v5 in [false, true] {
            let (mut bridge, _) = Client::connect(addr, &Connect { bridge: true, ..clean("b", v5) });
            let (mut other, _) = Client::connect(addr, &clean("o", v5));
            assert_eq!((bridge.subscribe("home/#", 1), other.subscribe("home/#", 1)), (1, 1));
            bridge.publish("home/1", b"from the bridge", 0, 0).unwrap();
            assert_eq!(other.message().payload, b"from the bridge");
            other.publish("home/2", b"kept", 1, 0).unwrap();
            let message = bridge.message();
            assert_eq!((message.payload.as_slice(), message.retain), (&b"kept"[..], true));
            assert!(!other.message().retain, "who is no bridge gets it as a new message");
            bridge.nothing_more();
            Client::connect(addr, &clean("d", v5)).0.publish_acked("home/2", b"", 1, 3);
        }
    });
}

#[test]
fn a_client_that_is_still_sending_reads_why_it_is_refused() {
    with_broker(Limits { max_packet_bytes: 2000, ..Limits::default() }, |addr| {
        for _ in 0..20 {
            let (mut client, _) = Client::connect(addr, &clean("c", true));
            // What follows the packet that is too large nobody reads as packets.
            let sent = client.publish("a", &[0; 1 << 20], 0, 0);
            assert!(sent.is_ok(), "{sent:?}");
            assert_eq!(client.closed(), Some(0x95));
        }
    });
}

#[test]
fn bad_topics_end_the_connection() {
    with_broker(Limits::default(), |addr| {
        for (topic, code) in [("a/+", 0x90), ("a/#", 0x90), ("a\0b", 0x81), ("", 0x82)] {
            let (mut client, _) = Client::connect(addr, &clean("c", true));
            client.publish(topic, b"", 0, 0).unwrap();
            assert_eq!(client.closed(), Some(code), "{topic:?}");
        }
        let (mut client, _) = Client::connect(addr, &clean("c", true));
        assert_eq!(client.subscribe("a/#/b", 0), 0x8F);
    });
}

#[test]
fn an_offline_session_gets_what_it_missed_in_order() {
    with_broker(Limits::default(), |addr| {
        for v5 in [false, true] {
            let (mut reader, present) = Client::connect(addr, &kept("s", v5));
            assert!(!present);
            reader.subscribe("q", 1);
            reader.disconnect();
            let (mut publisher, _) = Client::connect(addr, &clean("p", false));
            for id in 1..=500u16 {
                publisher.publish_acked("q", &id.to_be_bytes(), 0, id);
            }
            let (mut reader, present) = Client::connect(addr, &kept("s", v5));
            assert!(present);
            for id in 1..=500u16 {
                let message = reader.message();
                assert_eq!(message.payload, id.to_be_bytes());
                reader.ack(0x40, message.id).unwrap();
            }
            reader.nothing_more();
            reader.disconnect();
            let (_, present) = Client::connect(addr, &clean("s", v5));
            assert!(!present);
        }
    });
}

#[test]
fn what_is_not_acknowledged_comes_again_with_dup_and_its_identifier() {
    with_broker(Limits::default(), |addr| {
        let (mut reader, _) = Client::connect(addr, &kept("s", false));
        reader.subscribe("q/#", 2);
        let (mut publisher, _) = Client::connect(addr, &clean("p", false));
        for id in 1..=3u16 {
            publisher.publish_acked("q/1", &[id as u8], 0, id);
        }
        let first: Vec<_> = (0..3).map(|_| reader.message()).collect();
        drop(reader);
        let (mut reader, _) = Client::connect(addr, &kept("s", false));
        for before in &first {
            let again = reader.message();
            assert!(again.dup && (again.id, &again.payload) == (before.id, &before.payload));
            reader.ack(0x40, again.id).unwrap();
        }
        reader.nothing_more();

        // QoS 2, cut after PUBREC: PUBREL comes, the message does not.
        publisher.publish("q/2", b"x", 4, 9).unwrap();
        assert_eq!(publisher.read().unwrap().0, 0x50);
        let message = reader.message();
        reader.ack(0x50, message.id).unwrap();
        assert_eq!(reader.read().unwrap().0, 0x62);
        drop(reader);
        let (mut reader, _) = Client::connect(addr, &kept("s", false));
        assert_eq!(reader.read().unwrap(), (0x62, message.id.to_be_bytes().to_vec()));
        reader.ack(0x70, message.id).unwrap();
        reader.nothing_more();

        // The publisher repeats its QoS 2 message: not delivered twice.
        publisher.publish("q/2", b"x", 4 | 8, 9).unwrap();
        assert_eq!(publisher.read().unwrap().0, 0x50);
        publisher.ack(0x62, 9).unwrap();
        assert_eq!(publisher.read().unwrap().0, 0x70);
        reader.nothing_more();
    });
}

#[test]
fn a_second_connection_takes_the_session_over_and_nothing_is_lost() {
    with_broker(Limits::default(), |addr| {
        let (mut reader, _) = Client::connect(addr, &kept("s", true));
        reader.subscribe("q", 1);
        let publisher = std::thread::spawn(move || {
            let (mut publisher, _) = Client::connect(addr, &clean("p", false));
            for id in 1..=2000u16 {
                publisher.publish_acked("q", &id.to_be_bytes(), 0, id);
            }
        });
        let mut got = Vec::new();
        for round in 1..=20 {
            while got.len() < round * 95 {
                let message = reader.message();
                got.push(u16::from_be_bytes([message.payload[0], message.payload[1]]));
                reader.ack(0x40, message.id).unwrap();
            }
            let (next, present) = Client::connect(addr, &kept("s", true));
            assert!(present);
            let old = std::mem::replace(&mut reader, next);
            assert_eq!(old.closed(), Some(0x8E));
        }
        publisher.join().unwrap();
        got.sort_unstable();
        got.dedup();
        while got.len() < 2000 {
            let message = reader.message();
            let value = u16::from_be_bytes([message.payload[0], message.payload[1]]);
            reader.ack(0x40, message.id).unwrap();
            if !got.contains(&value) {
                got.push(value);
            }
        }
    });
}

#[test]
fn a_shared_subscription_divides_messages() {
    with_broker(Limits::default(), |addr| {
        let mut readers: Vec<Client> =
            ["a", "b"].into_iter().map(|id| Client::connect(addr, &clean(id, true)).0).collect();
        for reader in &mut readers {
            assert_eq!(reader.subscribe("$share/g/work", 1), 1);
        }
        let (mut publisher, _) = Client::connect(addr, &clean("p", false));
        for id in 1..=10u16 {
            publisher.publish_acked("work", &id.to_be_bytes(), 0, id);
        }
        for reader in &mut readers {
            for _ in 0..5 {
                let message = reader.message();
                reader.ack(0x40, message.id).unwrap();
            }
            reader.nothing_more();
        }
    });
}

#[test]
fn limits_hold() {
    let application = ClassLimits { max_queued_messages: 10, ..ClassLimits::default() };
    let limits = Limits { application, max_sessions: 3, max_packet_bytes: 2000, ..Limits::default() };
    with_broker(limits, |addr| {
        let (mut reader, _) = Client::connect(addr, &Connect { receive_max: Some(2), ..kept("s", true) });
        reader.subscribe("q", 1);
        let (mut publisher, _) = Client::connect(addr, &clean("p", true));
        // Two in flight, which the client's window allows, and ten that wait.
        for id in 1..=12u16 {
            assert_eq!(publisher.publish_acked("q", &id.to_be_bytes(), 0, id), 0);
        }
        assert_eq!(publisher.publish_acked("q", b"too many", 0, 13), 0x97);
        let mut got = Vec::new();
        for _ in 0..12 {
            let message = reader.message();
            got.push(message.payload[1]);
            reader.ack(0x40, message.id).unwrap();
        }
        assert_eq!(got, (1..=12).collect::<Vec<u8>>());
        reader.nothing_more();
        let (_third, _) = Client::connect(addr, &clean("x", true));
        assert_eq!(Client::try_connect(addr, &clean("y", true)).unwrap().2, 0x97);
        publisher.publish("q", &[0; 3000], 0, 0).unwrap();
        assert_eq!(publisher.closed(), Some(0x95));
    });
}

#[test]
fn keep_alive_zero_never_ends_and_others_do() {
    with_broker(Limits::default(), |addr| {
        let (mut forever, _) = Client::connect(addr, &clean("f", true));
        let (short, _) = Client::connect(addr, &Connect { keep_alive_s: 1, ..clean("s", true) });
        assert_eq!(short.closed(), Some(0x8D));
        forever.nothing_more();
    });
}

#[test]
fn devices_do_not_share_sessions() {
    with_broker(Limits::default(), |addr| {
        let (mut one, _) = Client::connect(addr, &Connect { user: Some("1111"), ..kept("same", true) });
        let (_two, present) = Client::connect(addr, &Connect { user: Some("1112"), ..kept("same", true) });
        assert!(!present);
        one.nothing_more();
    });
}

#[test]
fn one_device_cannot_take_all_sessions() {
    with_broker(Limits { max_device_sessions: 2, ..Limits::default() }, |addr| {
        let of = |user, id| Connect { user: Some(user), ..kept(id, true) };
        let (_one, _) = Client::connect(addr, &of("1111", "a"));
        drop(Client::connect(addr, &of("1111", "b")));
        assert_eq!(Client::try_connect(addr, &of("1111", "c")).unwrap().2, 0x97);
        let (_back, present) = Client::connect(addr, &of("1111", "b"));
        assert!(present, "what it has it may go on with");
        let (_other, _) = Client::connect(addr, &of("1112", "c"));
    });
}

#[test]
fn one_device_cannot_take_all_retained_messages() {
    let application = ClassLimits { max_device_retained: 2, max_device_retained_bytes: 1000, ..ClassLimits::default() };
    let limits = Limits { application, ..Limits::default() };
    with_broker(limits, |addr| {
        let of = |user, v5| Connect { user: Some(user), ..clean("c", v5) };
        let (mut client, _) = Client::connect(addr, &of("1111", true));
        assert_eq!(client.publish_acked("r/1", b"x", 1, 1), 0);
        assert_eq!(client.publish_acked("r/1", &[0; 2000], 1, 2), 0x97, "bytes");
        assert_eq!(client.publish_acked("r/2", b"x", 1, 3), 0);
        assert_eq!(client.publish_acked("r/3", b"x", 1, 4), 0x97, "messages");
        assert_eq!(client.publish_acked("r/3", b"x", 0, 5), 0, "not retained");
        assert_eq!(client.publish_acked("r/2", b"y", 1, 6), 0, "in place of its own");
        let (mut other, _) = Client::connect(addr, &of("1112", true));
        assert_eq!(other.publish_acked("r/3", b"x", 1, 1), 0);
        assert_eq!(client.publish_acked("r/1", b"", 1, 7), 0);
        assert_eq!(client.publish_acked("r/4", b"x", 1, 8), 0, "one was deleted");
        let (mut three, _) = Client::connect(addr, &of("1111", false));
        three.publish("r/5", b"x", 3, 1).unwrap();
        assert_eq!(three.closed(), None, "MQTT 3 has no other way to refuse");
    });
}

#[test]
fn control_topics_must_be_named() {
    with_broker(Limits::default(), |addr| {
        let (mut publisher, _) = Client::connect(addr, &clean("p", true));
        publisher.publish_acked("sealcast/v1/keys", b"kept", 1, 1);
        let (mut nosy, _) = Client::connect(addr, &clean("n", true));
        let (mut named, _) = Client::connect(addr, &clean("s", true));
        for filter in ["#", "+/v1/#", "+/+/+", "$share/g/#"] {
            assert!(nosy.subscribe(filter, 0) < 0x80);
        }
        named.subscribe("sealcast/v1/#", 0);
        assert_eq!(named.message().payload, b"kept");
        publisher.publish_acked("sealcast/v1/keys", b"live", 0, 2);
        assert_eq!(named.message().payload, b"live");
        nosy.nothing_more();
    });
}

#[test]
fn connections_that_say_nothing_are_few_from_one_address() {
    // Those who say nothing stay for as long as this takes.
    let connect_timeout = 2 * PATIENCE;
    with_broker(Limits { max_unauthenticated_loopback: 2, connect_timeout, ..Limits::default() }, |addr| {
        let silent: Vec<_> = (0..2).map(|_| std::net::TcpStream::connect(addr).unwrap()).collect();
        assert!(Client::try_connect(addr, &clean("late", true)).is_err());
        drop(silent);
        let connected: Vec<_> = (0..4)
            .map(|n| {
                let deadline = Instant::now() + PATIENCE;
                loop {
                    match Client::try_connect(addr, &clean(&n.to_string(), true)) {
                        Ok((client, ..)) => break client,
                        // The broker has not noticed yet that the two have left.
                        Err(error) => assert!(Instant::now() < deadline, "{error}"),
                    }
                    std::thread::sleep(Duration::from_millis(20));
                }
            })
            .collect();
        assert_eq!(connected.len(), 4, "who has said CONNECT does not count");
    });
}
