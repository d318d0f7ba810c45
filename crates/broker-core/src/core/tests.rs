//! The core by calls: what a full queue leads to.
#![allow(clippy::unwrap_used)]

mod restart;
mod room;
mod shares;
mod waits;

use bytes::Bytes;
use sealcast_mqtt::{Connect, PacketId, Property, Publish, Text, Version, Will, reason};

use super::*;
use crate::limits::ClassLimits;
use crate::packets::{Outgoing, Subscribed};
use crate::policy::{Attempt, Peer, PolicyRefusal};

/// The device is the user name. Topics below `g/` are for a group, which `outsider` is not in. Every device does work for
/// those below `all/`.
struct Names;

impl Policy for Names {
    fn connect(&self, attempt: &Attempt<'_>) -> Result<Peer, PolicyRefusal> {
        Ok(attempt.username.unwrap_or("device").into())
    }
    fn may_publish(&self, _: &Peer, _: &str) -> bool {
        true
    }
    fn may_subscribe(&self, _: &str, _: &str) -> bool {
        true
    }
    fn group(&self, topic: &str) -> Option<u64> {
        topic.starts_with("g/").then_some(1)
    }
    fn is_member(&self, device: &str, _: u64) -> bool {
        !device.starts_with("outsider")
    }
    fn is_announcement(&self, topic: &str) -> bool {
        topic.starts_with("all/")
    }
}

const START_MS: u64 = 1_000_000;

struct Bench {
    core: Core,
    now_ms: u64,
    next: ConnId,
    /// What is not in the journal yet.
    records: Vec<JournalRecord>,
    journal: Image,
}

impl Bench {
    fn new(limits: Limits) -> Self {
        Self {
            core: Core::new(limits, Arc::new(Names), None),
            now_ms: START_MS,
            next: 1,
            records: Vec::new(),
            journal: Image::default(),
        }
    }

    fn connect(
        &mut self,
        device: &str,
        client_id: &str,
        version: Version,
        change: impl FnOnce(&mut Connect),
    ) -> ConnId {
        let conn = self.next;
        self.next += 1;
        let mut connect = Connect {
            version,
            bridge: false,
            client_id: Text::new(client_id).unwrap(),
            clean_start: false,
            keep_alive_s: 0,
            properties: Properties::from_iter([
                Property::SessionExpiry(100_000),
                Property::ReceiveMaximum(1),
                Property::RequestProblemInfo(0),
            ]),
            will: None,
            username: Some(Text::new(device).unwrap()),
            password: None,
        };
        change(&mut connect);
        self.core.handle_connect(conn, None, connect, self.now_ms);
        conn
    }

    fn v5(&mut self, device: &str, client_id: &str) -> ConnId {
        self.connect(device, client_id, Version::V5, |_| {})
    }

    fn input(&mut self, conn: ConnId, packet: Incoming) -> Vec<(ConnId, Outgoing)> {
        self.core.handle_packet(conn, packet, self.now_ms);
        self.outputs()
    }

    fn outputs(&mut self) -> Vec<(ConnId, Outgoing)> {
        let effects = self.core.take_effects(self.now_ms);
        self.records.extend(effects.records);
        effects
            .outputs
            .into_iter()
            .filter_map(|o| if let Output::Send(conn, packet) = o { Some((conn, packet)) } else { None })
            .collect()
    }

    /// The reason code of SUBACK. What is sent for it is lost.
    fn subscribe(&mut self, conn: ConnId, filter: &str) -> u8 {
        self.subscribe_at(conn, filter, Qos::AtLeastOnce)
    }

    fn subscribe_at(&mut self, conn: ConnId, filter: &str, qos: Qos) -> u8 {
        self.subscribe_all_at(conn, &[filter], qos)[0]
    }

    fn subscribe_all(&mut self, conn: ConnId, filters: &[&str]) -> Vec<u8> {
        self.subscribe_all_at(conn, filters, Qos::AtLeastOnce)
    }

    fn subscribe_all_at(&mut self, conn: ConnId, filters: &[&str], qos: Qos) -> Vec<u8> {
        self.outputs();
        let filters = filters.iter().map(|filter| ((*filter).to_owned(), Subscribed::new(qos))).collect();
        let out = self.input(conn, Incoming::Subscribe { id: 1, filters });
        out.iter()
            .find_map(|(_, p)| if let Outgoing::SubAck { codes, .. } = p { Some(codes.clone()) } else { None })
            .unwrap()
    }

    /// A session that is away.
    fn leave(&mut self, device: &str, client_id: &str, filter: &str) {
        let conn = self.v5(device, client_id);
        assert!(self.subscribe(conn, filter) < 3);
        self.disconnect(conn, 0);
    }

    fn disconnect(&mut self, conn: ConnId, code: u8) {
        self.input(conn, Incoming::Disconnect { code, session_expiry_s: None });
    }

    /// The reason code of PUBACK, if one comes.
    fn publish(&mut self, conn: ConnId, id: u16, topic: &str, change: impl FnOnce(&mut Publish)) -> Option<u8> {
        let mut publish = publish_to(topic, id);
        change(&mut publish);
        let out = self.input(conn, Incoming::Publish(publish));
        acked(&out, conn, id)
    }

    /// What a session that comes back gets, everything acknowledged; its connection.
    fn take(&mut self, device: &str, client_id: &str) -> (ConnId, Vec<String>) {
        let conn = self.v5(device, client_id);
        let out = self.outputs();
        (conn, self.read(conn, out))
    }

    /// The connection, and whether its session was there.
    fn comes_back(&mut self, device: &str, client_id: &str) -> (ConnId, bool) {
        self.outputs();
        let conn = self.v5(device, client_id);
        let out = self.outputs();
        let present = out.iter().find_map(|(_, packet)| match packet {
            Outgoing::ConnAck { session_present, .. } => Some(*session_present),
            _ => None,
        });
        (conn, present.unwrap())
    }

    fn read(&mut self, conn: ConnId, mut out: Vec<(ConnId, Outgoing)>) -> Vec<String> {
        let mut got = Vec::new();
        while !out.is_empty() {
            let mut next = Vec::new();
            for (to, packet) in out {
                if let (true, Outgoing::Publish { message, id, .. }) = (to == conn, packet) {
                    got.push(String::from_utf8_lossy(&message.payload).into_owned());
                    next.extend(self.input(conn, Incoming::PubAck { id }));
                }
            }
            out = next;
        }
        got
    }

    fn sessions(&self) -> usize {
        self.core.stats().sessions
    }
}

fn publish_to(topic: &str, id: u16) -> Publish {
    Publish {
        dup: false,
        topic: Some(TopicName::new(topic).unwrap()),
        payload: Bytes::from(id.to_string()),
        qos: Qos::AtLeastOnce,
        retain: false,
        packet_id: PacketId::new(id),
        properties: Properties::new(),
    }
}

fn acked(out: &[(ConnId, Outgoing)], conn: ConnId, want: u16) -> Option<u8> {
    out.iter().find_map(|(to, packet)| match packet {
        Outgoing::PubAck { id, code } if (*to, *id) == (conn, want) => Some(*code),
        _ => None,
    })
}

fn queues(max_queued_messages: usize) -> ClassLimits {
    ClassLimits { max_queued_messages, ..ClassLimits::default() }
}

#[test]
fn sessions_that_end_for_each_others_wills_do_not_pile_up() {
    const SESSIONS: usize = 2_000;
    let limits = Limits { control: queues(1), max_device_sessions: SESSIONS + 1, ..Limits::default() };
    let mut bench = Bench::new(limits);
    let topic = "sealcast/v1/keys/d";
    for n in 0..SESSIONS {
        let will = Will {
            topic: TopicName::new(topic).unwrap(),
            payload: Bytes::from_static(b"will"),
            qos: Qos::AtLeastOnce,
            retain: true,
            properties: Properties::from_iter([Property::WillDelay(3600)]),
        };
        let conn = bench.connect("d", &format!("w{n}"), Version::V5, |connect| connect.will = Some(will));
        bench.subscribe(conn, topic);
        bench.disconnect(conn, 4);
    }
    let conn = bench.connect("d", "p", Version::V5, |_| {});
    assert_eq!(bench.publish(conn, 1, topic, |_| {}), Some(0));
    assert_eq!(bench.sessions(), SESSIONS + 1);
    assert_eq!(bench.publish(conn, 2, topic, |_| {}), Some(0));
    assert_eq!(bench.sessions(), 1, "all were full");
    assert_eq!(bench.core.stats().retained, 1, "their wills went out");
}

/// By whichever connection, and by wills too.
#[test]
fn a_device_makes_work_for_all_others_only_so_often() {
    let mut bench = Bench::new(Limits { max_announcements: 4, ..Limits::default() });
    let reader = bench.v5("reader", "r");
    bench.subscribe_at(reader, "#", Qos::AtMostOnce);
    let payload = Bytes::from_static(b"will");
    let will = Will {
        topic: TopicName::new("all/d").unwrap(),
        payload: payload.clone(),
        qos: Qos::AtLeastOnce,
        retain: false,
        properties: Properties::new(),
    };
    let [leaver, late_leaver] =
        ["a", "b"].map(|id| bench.connect("d", id, Version::V5, |c| c.will = Some(will.clone())));
    let [p, q] = ["p", "q"].map(|client_id| bench.v5("d", client_id));
    let wills = |bench: &mut Bench, conn| {
        bench.outputs();
        let out = bench.input(conn, Incoming::Disconnect { code: 4, session_expiry_s: None });
        out.iter().filter(|(_, p)| matches!(p, Outgoing::Publish { message, .. } if message.payload == payload)).count()
    };
    assert_eq!(wills(&mut bench, leaver), 1);
    let codes = [p, q, p, q].map(|conn| bench.publish(conn, 1, "all/d", |_| {}));
    assert_eq!(codes, [Some(0), Some(0), Some(0), Some(reason::QUOTA_EXCEEDED)]);
    assert_eq!(wills(&mut bench, late_leaver), 0);
    assert_eq!(bench.publish(p, 2, "t", |_| {}), Some(0), "not to all");
    assert_eq!(bench.publish(reader, 3, "all/r", |_| {}), Some(0), "another device's");
    assert_eq!(bench.core.stats().causes.of(Cause::Announcements), 2, "a publish and a will");
    bench.now_ms += 10_000;
    assert_eq!([4, 5].map(|id| bench.publish(p, id, "all/d", |_| {})), [Some(0), Some(reason::QUOTA_EXCEEDED)]);
}

#[test]
fn a_session_has_one_timer_however_often_its_client_comes_and_goes() {
    let hour = std::time::Duration::from_secs(3600);
    let limits = Limits { application: queues(1), full_session_expiry: Some(hour), ..Limits::default() };
    let mut bench = Bench::new(limits);
    let p = bench.v5("d", "p");
    for round in 1..=100 {
        let will = Will {
            topic: TopicName::new("will").unwrap(),
            payload: Bytes::from_static(b"will"),
            qos: Qos::AtMostOnce,
            retain: true,
            properties: Properties::from_iter([Property::WillDelay(60)]),
        };
        let conn = bench.connect("d", "a", Version::V5, |connect| connect.will = Some(will));
        assert!(bench.core.timers.is_empty());
        bench.subscribe(conn, "q");
        bench.disconnect(conn, reason::DISCONNECT_WITH_WILL);
        bench.publish(p, round, "q", |_| {});
        bench.publish(p, round, "q", |_| {});
        bench.now_ms += 1;
        assert_eq!(bench.core.timers.len(), 1);
    }
    // The will, the full queue and the expiry each have their time.
    let start = bench.now_ms - 1;
    assert_eq!(bench.core.poll_timeout(), Some(start + 60_000));
    bench.now_ms = start + 60_000;
    bench.core.handle_timeout(bench.now_ms);
    bench.outputs();
    assert_eq!(bench.core.stats().retained, 1);
    assert_eq!(bench.core.poll_timeout(), Some(start + 3_600_000));
    bench.now_ms = start + 3_600_000;
    bench.core.handle_timeout(bench.now_ms);
    assert_eq!((bench.sessions(), bench.core.poll_timeout()), (1, None));
}

#[test]
fn a_will_whose_topic_is_too_deep_is_refused_with_the_connection() {
    for (levels, code) in [(128, 0), (129, reason::TOPIC_NAME_INVALID)] {
        let mut bench = Bench::new(Limits::default());
        let will = Will {
            topic: TopicName::new(&vec!["a"; levels].join("/")).unwrap(),
            payload: Bytes::from_static(b"will"),
            qos: Qos::AtMostOnce,
            retain: false,
            properties: Properties::new(),
        };
        bench.connect("d", "c", Version::V5, |connect| connect.will = Some(will));
        let out = bench.outputs();
        assert!(matches!(out[0].1, Outgoing::ConnAck { code: told, .. } if told == code), "{levels}: {out:?}");
        assert_eq!(bench.sessions(), usize::from(code == 0));
    }
}

#[test]
fn a_share_whose_member_is_full_waits_for_it_and_not_for_an_outsider() {
    let mut bench = Bench::new(Limits { application: queues(2), ..Limits::default() });
    bench.leave("member", "m", "$share/s/g/sh");
    let outsider = bench.v5("outsider", "o");
    bench.subscribe(outsider, "$share/s/g/sh");
    let p = bench.v5("member", "p");
    let codes: Vec<u8> = (1..=4).map(|id| bench.publish(p, id, "g/sh", |_| {}).unwrap()).collect();
    assert_eq!(codes, [0, 0, 0x97, 0x97], "the member has the first two");
    assert_eq!(bench.take("member", "m").1, ["1", "2"]);
}

#[test]
fn of_outsiders_in_a_share_one_after_the_other_is_picked() {
    let mut bench = Bench::new(Limits { application: queues(1), ..Limits::default() });
    for client_id in ["a", "b"] {
        bench.leave("outsider", client_id, "$share/s/g/sh");
    }
    let p = bench.v5("member", "p");
    for id in 1..=2 {
        assert_eq!(bench.publish(p, id, "g/sh", |_| {}), Some(0));
    }
    assert_eq!(bench.sessions(), 3);
    bench.leave("member", "m", "$share/s/g/sh");
    assert_eq!(bench.publish(p, 3, "g/sh", |_| {}), Some(0));
    assert_eq!(bench.publish(p, 4, "g/sh", |_| {}), Some(0x97));
    assert_eq!(bench.take("member", "m").1, ["3"]);
}

#[test]
fn expired_messages_make_room() {
    let mut bench = Bench::new(Limits { application: queues(2), ..Limits::default() });
    bench.leave("d", "s", "q");
    let p = bench.v5("d", "p");
    let soon = |publish: &mut Publish| publish.properties.set(Property::MessageExpiry(1));
    assert_eq!(bench.publish(p, 1, "q", soon), Some(0));
    assert_eq!(bench.publish(p, 2, "q", |_| {}), Some(0));
    assert_eq!(bench.publish(p, 3, "q", |_| {}), Some(0x97));
    bench.now_ms += 1000;
    assert_eq!(bench.publish(p, 4, "q", |_| {}), Some(0));
    assert_eq!(bench.take("d", "s").1, ["2", "4"]);
}
