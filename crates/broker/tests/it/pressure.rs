//! Full queues: nothing that was acknowledged is dropped, nobody waits for ever, and control traffic has its own room.

use std::{io::Write as _, net::TcpStream, time::Duration};

use sealcast_broker::{Cause, ClassLimits, Limits, Qos, Stats};

use crate::client::{Client, Connect};
use crate::{PATIENCE, any_port, tcp_broker};

/// A running broker beside a test that blocks.
pub struct Broker {
    runtime: tokio::runtime::Runtime,
    running: Option<sealcast_broker::Running>,
    pub addr: std::net::SocketAddr,
}

impl Broker {
    pub fn start(dir: Option<&std::path::Path>, limits: Limits) -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let running = runtime.block_on(tcp_broker(dir, any_port(), limits));
        let addr = running.addrs()[0];
        Self { runtime, running: Some(running), addr }
    }

    pub fn handle(&self) -> sealcast_broker::Handle {
        self.running.as_ref().unwrap().handle().clone()
    }

    pub fn stats(&self) -> Stats {
        self.runtime.block_on(self.handle().stats()).unwrap()
    }

    pub fn until(&self, what: &str, reached: impl Fn(Stats) -> bool) {
        let deadline = std::time::Instant::now() + PATIENCE;
        while !reached(self.stats()) {
            assert!(std::time::Instant::now() < deadline, "not in time: {what}: {:?}", self.stats());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn publish(&self, topic: &str, payload: &str, retain: bool) {
        let payload = payload.to_owned();
        self.runtime.block_on(self.handle().publish(topic, payload, Qos::AtLeastOnce, retain)).unwrap();
    }

    pub fn stop(mut self) {
        assert!(self.runtime.block_on(self.running.take().unwrap().shutdown(Duration::from_secs(10))));
    }
}

pub fn clean(id: &str, v5: bool) -> Connect<'_> {
    Connect { id, v5, clean: true, ..Connect::default() }
}

pub fn kept(id: &str, v5: bool) -> Connect<'_> {
    Connect { id, v5, expiry_s: 3600, ..Connect::default() }
}

pub fn small(max_queued_messages: usize) -> Limits {
    let application = ClassLimits { max_queued_messages, ..ClassLimits::default() };
    Limits { application, ..Limits::default() }
}

/// The same, where who is held up is never closed for it.
pub fn patient(max_queued_messages: usize) -> Limits {
    Limits { publish_patience: 3 * PATIENCE, ..small(max_queued_messages) }
}

/// A session that is away and has subscribed to `filter`.
pub fn leave(broker: &Broker, id: &str, filter: &str) {
    let (mut client, _) = Client::connect(broker.addr, &kept(id, true));
    client.subscribe(filter, 1);
    client.disconnect();
}

/// What a session that comes back is sent, up to `count` messages; each is acknowledged.
pub fn take(broker: &Broker, id: &str, count: usize) -> Vec<Vec<u8>> {
    let (mut client, present) = Client::connect(broker.addr, &kept(id, true));
    assert!(present);
    let got = (0..count)
        .map(|_| {
            let message = client.message();
            client.ack(0x40, message.id).unwrap();
            message.payload
        })
        .collect();
    client.nothing_more();
    got
}

#[test]
fn mqtt_5_is_told_that_the_queue_is_full() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(Some(dir.path()), small(3));
    leave(&broker, "s", "q");
    let (mut publisher, _) = Client::connect(broker.addr, &clean("p", true));
    for id in 1..=3 {
        assert_eq!(publisher.publish_acked("q", &[id as u8], 0, id), 0);
    }
    assert_eq!(publisher.publish_acked("q", &[4], 0, 4), 0x97, "QoS 1");
    publisher.publish("q", &[5], 4, 5).unwrap();
    let (first, body) = publisher.read().unwrap();
    assert_eq!((first, &body[..3]), (0x50, &[0, 5, 0x97][..]), "QoS 2: PUBREC");
    // The identifier is free again, and the message was not half taken.
    assert_eq!(publisher.publish_acked("other", b"x", 0, 5), 0);
    assert_eq!(publisher.publish_acked("q", b"kept?", 1, 6), 0x97);
    assert_eq!(broker.stats().retained, 0, "what was refused is not retained either");
    publisher.publish("q", b"QoS 0 waits for no queue", 0, 0).unwrap();
    publisher.nothing_more();
    assert_eq!(broker.stats().refused, 3);
    broker.stop();

    // The queue is as long after a restart, and empties.
    let broker = Broker::start(Some(dir.path()), small(3));
    let (mut publisher, _) = Client::connect(broker.addr, &clean("p", true));
    assert_eq!(publisher.publish_acked("q", &[4], 0, 4), 0x97);
    assert_eq!(take(&broker, "s", 3), [[1], [2], [3]]);
    assert_eq!(publisher.publish_acked("q", &[4], 0, 5), 0);
    assert_eq!(take(&broker, "s", 1), [[4]]);
}

#[test]
fn mqtt_3_waits_until_there_is_room() {
    let limits = patient(4);
    let broker = Broker::start(None, limits);
    leave(&broker, "s", "q");
    let (mut publisher, _) = Client::connect(broker.addr, &clean("p", false));
    // More than are read ahead of a connection that is held up.
    let all = 2000u16;
    let sender = std::thread::spawn({
        let mut publisher = publisher.another().unwrap();
        move || {
            for id in 1..=all {
                publisher.publish("q", &id.to_be_bytes(), 2, id).unwrap();
            }
            publisher.send(0xC0, &[]).unwrap();
        }
    });
    for id in 1..=4u16 {
        assert_eq!(publisher.read().unwrap(), (0x40, id.to_be_bytes().to_vec()));
    }
    broker.until("the publisher waits", |stats| stats.held_up == 1);
    let (mut reader, _) = Client::connect(broker.addr, &kept("s", true));
    for want in 1..=all {
        let message = reader.message();
        assert_eq!(message.payload, want.to_be_bytes());
        reader.ack(0x40, message.id).unwrap();
    }
    // What came behind them is handled too; a ping waits for no publish.
    let (mut acks, mut answered) = (Vec::new(), false);
    while acks.len() < usize::from(all - 4) || !answered {
        match publisher.read().unwrap() {
            (0x40, id) => acks.push(u16::from_be_bytes([id[0], id[1]])),
            other => answered = other == (0xD0, vec![]),
        }
    }
    assert!(acks.into_iter().eq(5..=all));
    sender.join().unwrap();
    reader.nothing_more();
    assert_eq!(broker.stats().held_up, 0);
}

#[test]
fn mqtt_3_is_disconnected_after_a_while_and_its_message_is_nobodys() {
    let broker = Broker::start(None, Limits { publish_patience: Duration::from_millis(100), ..small(1) });
    leave(&broker, "s", "q");
    for qos in [1, 2] {
        let (mut publisher, _) = Client::connect(broker.addr, &clean("p", false));
        publisher.publish("q", b"first", 2, 1).unwrap();
        if qos == 1 {
            assert_eq!(publisher.read().unwrap().0, 0x40);
        }
        publisher.publish("q", b"second", qos << 1, 2).unwrap();
        assert_eq!(publisher.closed(), None);
    }
    broker.until("nobody waits", |stats| stats.held_up == 0);
    assert_eq!(take(&broker, "s", 1), [b"first"]);
}

#[test]
fn a_client_that_fills_its_own_queue_empties_it() {
    let broker = Broker::start(None, patient(2));
    let (mut client, _) = Client::connect(broker.addr, &kept("c", false));
    client.subscribe("q", 1);
    let all = 200u16;
    for id in 1..=all {
        client.publish("q", &id.to_be_bytes(), 2, id).unwrap();
    }
    let (mut got, mut acked) = (Vec::new(), 0);
    while got.len() < usize::from(all) || acked < all {
        let (first, body) = client.read().unwrap();
        if first == 0x40 {
            acked += 1;
            continue;
        }
        let message = client.parse(first, &body);
        got.push(u16::from_be_bytes([message.payload[0], message.payload[1]]));
        // Behind publishes that wait.
        client.ack(0x40, message.id).unwrap();
    }
    assert!(got.into_iter().eq(1..=all));
}

#[test]
fn a_publisher_that_leaves_waits_no_longer() {
    let broker = Broker::start(None, patient(1));
    leave(&broker, "s", "q");
    let (mut first, _) = Client::connect(broker.addr, &clean("p", false));
    first.publish("q", b"first", 2, 1).unwrap();
    assert_eq!(first.read().unwrap().0, 0x40);
    first.publish("q", b"second", 2, 2).unwrap();
    broker.until("it waits", |stats| stats.held_up == 1);
    first.disconnect();
    broker.until("it has gone", |stats| (stats.held_up, stats.connections) == (0, 0));
    assert_eq!(take(&broker, "s", 1), [b"first"]);
}

#[test]
fn those_who_wait_go_on_when_the_session_ends() {
    let broker = Broker::start(None, patient(1));
    leave(&broker, "s", "q");
    let (mut publisher, _) = Client::connect(broker.addr, &clean("p", false));
    for id in 1..=3u16 {
        publisher.publish("q", b"x", 2, id).unwrap();
    }
    assert_eq!(publisher.read().unwrap(), (0x40, vec![0, 1]));
    broker.until("it waits", |stats| stats.held_up == 1);
    // What an operator can do about a session that nobody comes back to.
    let (_new, present) = Client::connect(broker.addr, &Connect { clean: true, ..kept("s", true) });
    assert!(!present);
    assert_eq!(publisher.read().unwrap(), (0x40, vec![0, 2]));
    assert_eq!(publisher.read().unwrap(), (0x40, vec![0, 3]));
}

#[test]
fn an_offline_session_that_is_full_for_too_long_ends_if_the_operator_says_so() {
    let limits =
        Limits { publish_patience: 3 * PATIENCE, full_session_expiry: Some(Duration::from_millis(200)), ..small(1) };
    let broker = Broker::start(None, limits);
    leave(&broker, "s", "q");
    let (mut publisher, _) = Client::connect(broker.addr, &clean("p", false));
    for id in 1..=2u16 {
        publisher.publish("q", b"x", 2, id).unwrap();
        assert_eq!(publisher.read().unwrap(), (0x40, id.to_be_bytes().to_vec()));
    }
    assert_eq!(broker.stats().sessions, 1, "the publisher's");
}

#[test]
fn a_lower_expiry_counts_for_stored_sessions() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(Some(dir.path()), Limits::default());
    leave(&broker, "s", "q");
    broker.stop();
    let broker = Broker::start(Some(dir.path()), Limits { max_session_expiry: Duration::from_secs(1), ..small(1) });
    broker.until("the session has ended", |stats| stats.sessions == 0);
}

#[test]
fn wills_and_the_hubs_messages_go_to_those_who_have_room() {
    let broker = Broker::start(None, small(1));
    leave(&broker, "full", "q");
    broker.publish("q", "first", false);
    leave(&broker, "free", "q");
    broker.publish("q", "second", false);
    let will = Connect { will: Some(("q", b"will", 1, true, 0)), ..clean("w", true) };
    drop(Client::connect(broker.addr, &will));
    broker.until("the will is out", |stats| stats.retained == 1);
    assert_eq!(broker.stats().skipped, 3, "second at `full`, the will at both");
    assert_eq!(take(&broker, "full", 1), [b"first"]);
    assert_eq!(take(&broker, "free", 1), [b"second"]);
}

#[test]
fn a_subscription_is_refused_whose_retained_messages_do_not_fit() {
    let broker = Broker::start(None, Limits { max_inflight: 1, ..small(3) });
    for n in 1..=4 {
        broker.publish(&format!("r/{n}"), "x", true);
    }
    for (v5, refused) in [(true, 0x97), (false, 0x80)] {
        let (mut client, _) = Client::connect(broker.addr, &clean("c", v5));
        assert_eq!(client.subscribe("r/#", 1), 1, "an empty queue takes all that is retained");
        let mut message = client.message();
        // Three wait. As many as are retained may.
        assert_eq!(client.subscribe("r/+", 1), refused);
        assert_eq!(client.subscribe("r/1", 1), 1);
        for topic in ["r/1", "r/2", "r/3", "r/4", "r/1"] {
            assert_eq!((message.topic.as_str(), &message.payload[..], message.retain), (topic, &b"x"[..], true));
            if topic == "r/4" {
                broker.publish("r/2", "live", false);
            }
            client.ack(0x40, message.id).unwrap();
            message = client.message();
        }
        assert_eq!((message.topic.as_str(), &message.payload[..], message.retain), ("r/2", &b"live"[..], false));
        client.nothing_more();
    }
    let (mut zero, _) = Client::connect(broker.addr, &clean("0", true));
    assert_eq!(zero.subscribe("r/#", 0), 0, "QoS 0 needs no queue");
    for _ in 0..4 {
        assert_eq!(zero.message().payload, b"x");
    }
}

#[test]
fn a_shared_subscription_passes_over_members_without_room() {
    let broker = Broker::start(None, small(2));
    for id in ["a", "b"] {
        leave(&broker, id, "$share/g/q");
    }
    let (mut publisher, _) = Client::connect(broker.addr, &clean("p", true));
    for id in 1..=4 {
        assert_eq!(publisher.publish_acked("q", b"x", 0, id), 0);
    }
    assert_eq!(publisher.publish_acked("q", b"x", 0, 5), 0x97, "all are full");
    assert_eq!(take(&broker, "a", 2).len(), 2);
    for id in 6..=7 {
        assert_eq!(publisher.publish_acked("q", b"x", 0, id), 0, "`b` is still full");
    }
    assert_eq!(take(&broker, "a", 2).len(), 2);
    assert_eq!(take(&broker, "b", 2).len(), 2);
}

#[test]
fn control_topics_have_retained_messages_of_their_own() {
    let control = ClassLimits { max_device_retained: 1, max_retained: 2, ..ClassLimits::default() };
    let application = ClassLimits { max_device_retained: 2, max_retained: 3, ..ClassLimits::default() };
    let limits = Limits { application, control, ..Limits::default() };
    let broker = Broker::start(None, limits);
    let (mut one, _) = Client::connect(broker.addr, &Connect { user: Some("1111"), ..clean("c", true) });
    for n in 1..=2 {
        assert_eq!(one.publish_acked(&format!("r/{n}"), b"x", 1, n), 0);
    }
    assert_eq!(one.publish_acked("r/3", b"x", 1, 3), 0x97);
    assert_eq!(one.publish_acked("sealcast/v1/inbox/2222/1/1111", b"Welcome", 1, 4), 0, "no matter what else it has");
    assert_eq!(one.publish_acked("sealcast/v1/inbox/3333/1/1111", b"Welcome", 1, 5), 0x97, "a limit of its own");
    let (mut two, _) = Client::connect(broker.addr, &Connect { user: Some("2222"), ..clean("c", true) });
    assert_eq!(two.publish_acked("r/4", b"x", 1, 1), 0);
    assert_eq!(two.publish_acked("r/5", b"x", 1, 2), 0x97, "of all devices: refused before it is acknowledged");
    assert_eq!(two.publish_acked("sealcast/v1/keys/2222", b"keys", 1, 3), 0, "and so for control topics");
    assert_eq!(broker.stats().retained, 5);
}

#[test]
fn a_refusal_names_its_topic_unless_the_client_wants_no_such_thing() {
    let application = ClassLimits { max_device_retained: 0, ..ClassLimits::default() };
    let broker = Broker::start(None, Limits { application, ..Limits::default() });
    let (mut client, _) = Client::connect(broker.addr, &clean("c", true));
    client.publish("a/b", b"x", 3, 7).unwrap();
    let (first, body) = client.read().unwrap();
    assert_eq!((first, &body[..3]), (0x40, &[0, 7, 0x97][..]));
    let text = String::from_utf8_lossy(&body[3..]).into_owned();
    assert!(text.contains("the device has as many retained messages as one device may"), "{text}");
    assert!(text.ends_with("\0\u{5}topic\0\u{3}a/b"), "{text}");
    let (mut terse, _) = Client::connect(broker.addr, &Connect { terse: true, ..clean("t", true) });
    terse.publish("a/b", b"x", 3, 7).unwrap();
    assert_eq!(terse.read().unwrap(), (0x40, vec![0, 7, 0x97]));
}

#[test]
fn a_control_connection_has_a_place_when_sessions_fill_the_others() {
    let places =
        Limits { max_device_sessions: 2, max_sessions: 2, max_device_control_sessions: 1, ..Limits::default() };
    let broker = Broker::start(None, places);
    let of = |id| Connect { user: Some("1111"), ..kept(id, true) };
    for id in ["a", "b"] {
        Client::connect(broker.addr, &of(id)).0.disconnect();
    }
    let code = |options: &Connect<'_>| Client::try_connect(broker.addr, options).unwrap().2;
    assert_eq!(code(&of("c")), 0x97);
    assert_eq!(code(&of("sealcast-1111-x")), 0x97, "one that stays would keep the place for itself");
    assert_eq!(code(&Connect { user: Some("2222"), ..clean("sealcast-1111-x", true) }), 0x97, "another device's name");
    let mine = Connect { user: Some("1111"), ..clean("sealcast-1111-x", true) };
    let (mut first, _) = Client::connect(broker.addr, &mine);
    assert_eq!(code(&Connect { user: Some("1111"), ..clean("sealcast-1111-y", true) }), 0x97, "the place is taken");
    first.nothing_more();
    let (second, _) = Client::connect(broker.addr, &mine);
    assert_eq!(first.closed(), Some(0x8E), "the same client takes its own place over");
    second.disconnect();
    broker.until("the place is free", |stats| stats.sessions == 2);
    let (_third, _) = Client::connect(broker.addr, &mine);
}

#[test]
fn control_messages_have_a_queue_of_their_own() {
    let control = ClassLimits { max_queued_messages: 3, ..ClassLimits::default() };
    let broker = Broker::start(None, Limits { control, ..small(2) });
    let (mut reader, _) = Client::connect(broker.addr, &Connect { receive_max: Some(1), ..kept("s", true) });
    reader.subscribe("app", 1);
    reader.subscribe("sealcast/v1/ledger", 1);
    let (mut publisher, _) = Client::connect(broker.addr, &clean("p", true));
    for id in 1..=3 {
        assert_eq!(publisher.publish_acked("app", b"x", 0, id), 0, "one in flight, two wait");
    }
    assert_eq!(publisher.publish_acked("app", b"x", 0, 4), 0x97);
    for _ in 0..3 {
        broker.publish("sealcast/v1/ledger", "record", false);
    }
    reader.message();
    reader.nothing_more();
    // It does not keep up: it ends, and stops nobody.
    assert_eq!(publisher.publish_acked("sealcast/v1/ledger", b"record", 0, 5), 0);
    assert_eq!(reader.closed(), Some(0x97));
    let (_, present) = Client::connect(broker.addr, &kept("s", true));
    assert!(!present, "which the client can see");
    assert_eq!(publisher.publish_acked("app", b"x", 0, 6), 0);
}

#[test]
fn a_device_that_has_no_use_for_a_topic_holds_nobody_up() {
    let broker = Broker::start(None, patient(1));
    let stranger = Connect { user: Some("stranger"), ..kept("s", true) };
    let (mut client, _) = Client::connect(broker.addr, &stranger);
    client.subscribe("#", 1);
    client.disconnect();
    leave(&broker, "member", "members/#");
    let (mut publisher, _) = Client::connect(broker.addr, &clean("p", false));
    publisher.publish_acked("members/1", b"1", 0, 1);
    // Both queues are full. The stranger's goes; the member's is waited for.
    publisher.publish("members/1", b"2", 2, 2).unwrap();
    broker.until("the publisher waits", |stats| (stats.held_up, stats.sessions) == (1, 2));
    let (_, present) = Client::connect(broker.addr, &stranger);
    assert!(!present);
    let (mut member, _) = Client::connect(broker.addr, &kept("member", true));
    for want in [b"1", b"2"] {
        let message = member.message();
        assert_eq!(message.payload, want);
        member.ack(0x40, message.id).unwrap();
    }
    assert_eq!(publisher.read().unwrap(), (0x40, vec![0, 2]));
}

#[test]
fn what_waited_for_a_session_that_is_ended_goes_to_the_rest_of_its_share() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(Some(dir.path()), small(2));
    let stranger = Connect { user: Some("stranger"), ..kept("s", true) };
    let (mut client, _) = Client::connect(broker.addr, &stranger);
    client.subscribe("$share/s/members/work", 1);
    client.subscribe("members/all", 1);
    client.disconnect();
    let (mut publisher, _) = Client::connect(broker.addr, &clean("p", true));
    for id in 1..=2 {
        assert_eq!(publisher.publish_acked("members/work", &[id as u8], 0, id), 0);
    }
    leave(&broker, "member", "$share/s/members/work");
    // The stranger's queue is full. Nobody waits for it: its session ends.
    assert_eq!(publisher.publish_acked("members/all", b"x", 0, 3), 0);
    let (_, present) = Client::connect(broker.addr, &stranger);
    assert!(!present);
    broker.stop();
    let broker = Broker::start(Some(dir.path()), small(2));
    assert_eq!(take(&broker, "member", 2), [[1], [2]]);
}

/// More than one slice, and no packet of anybody that would make the broker look: it goes on by itself.
#[test]
fn a_long_hand_over_goes_on_by_itself() {
    const MESSAGES: u16 = 1_500;
    let broker = Broker::start(None, small(usize::from(MESSAGES)));
    leave(&broker, "first", "$share/s/work");
    let (mut publisher, _) = Client::connect(broker.addr, &clean("p", true));
    for id in 1..=MESSAGES {
        assert_eq!(publisher.publish_acked("work", &id.to_be_bytes(), 0, id), 0);
    }
    // It gets them at QoS 0, and so acknowledges nothing.
    let (mut second, _) = Client::connect(broker.addr, &clean("second", true));
    second.subscribe("$share/s/work", 0);
    let (_anew, present) = Client::connect(broker.addr, &clean("first", true));
    assert!(!present);
    for want in 1..=MESSAGES {
        assert_eq!(second.message().payload, want.to_be_bytes());
    }
}

#[test]
fn whoever_is_refused_before_there_is_a_session_is_counted_by_cause() {
    let refused = |limits: Limits, cause: Cause, refused: &dyn Fn(std::net::SocketAddr) -> Vec<TcpStream>| {
        let broker = Broker::start(None, limits);
        let held = refused(broker.addr);
        broker.until(cause.code(), |stats| stats.causes.of(cause) == 1);
        drop(held);
        broker.stop();
    };
    let open = |addr| TcpStream::connect(addr).unwrap();
    let two = |addr| vec![open(addr), open(addr)];
    refused(Limits { max_connections: 1, ..Limits::default() }, Cause::Connections, &two);
    refused(Limits { max_unauthenticated_loopback: 1, ..Limits::default() }, Cause::Strangers, &two);
    refused(Limits::default(), Cause::Protocol, &|addr| {
        let mut stream = open(addr);
        // A PINGREQ is no CONNECT.
        stream.write_all(&[0xC0, 0]).unwrap();
        vec![stream]
    });
}
