//! What all sessions of a device, and all sessions together, may have on their way.

use super::*;

fn of_device(messages: usize) -> Bench {
    let application = ClassLimits { max_device_queued_messages: messages, ..ClassLimits::default() };
    Bench::new(Limits { application, ..Limits::default() })
}

fn of_all(messages: usize) -> Bench {
    let application = ClassLimits { max_total_queued_messages: messages, ..ClassLimits::default() };
    Bench::new(Limits { application, ..Limits::default() })
}

impl Bench {
    fn publish_all(&mut self, conn: ConnId, topic: &str, ids: std::ops::RangeInclusive<u16>) {
        for id in ids {
            assert_eq!(self.publish(conn, id, topic, |_| {}), Some(0), "{topic} {id}");
        }
    }

    fn old(&mut self, client_id: &str) -> ConnId {
        self.connect("publisher", client_id, Version::V311, |_| {})
    }
}

#[test]
fn the_sessions_of_a_device_have_a_bound_together() {
    let mut bench = of_device(4);
    bench.leave("d", "a", "a");
    bench.leave("d", "b", "b");
    bench.leave("e", "a", "other");
    let p = bench.v5("publisher", "p");
    bench.publish_all(p, "a", 1..=3);
    bench.publish_all(p, "b", 4..=4);
    for topic in ["a", "b"] {
        assert_eq!(bench.publish(p, 5, topic, |_| {}), Some(0x97), "{topic}");
    }
    bench.publish_all(p, "other", 1..=4);
    // It counts what there is, not what there was.
    assert_eq!(bench.take("d", "a").1.len(), 3);
    bench.publish_all(p, "b", 5..=7);
    assert_eq!(bench.publish(p, 8, "b", |_| {}), Some(0x97));
}

#[test]
fn who_waits_for_a_device_goes_on_when_another_session_of_it_drains() {
    let mut bench = of_device(4);
    bench.leave("d", "a", "a");
    bench.leave("d", "b", "b");
    let p = bench.v5("publisher", "p");
    bench.publish_all(p, "a", 1..=4);
    let old = bench.old("old");
    assert_eq!(bench.publish(old, 9, "b", |_| {}), None);
    let a = bench.v5("d", "a");
    let out = bench.outputs();
    let (_, Outgoing::Publish { id, .. }) = out.last().unwrap() else { panic!("{out:?}") };
    let out = bench.input(a, Incoming::PubAck { id: *id });
    assert_eq!(acked(&out, old, 9), Some(0));
    assert_eq!(bench.take("d", "b").1, ["9"]);
}

#[test]
fn who_waits_for_all_goes_on_when_any_session_drains_or_ends() {
    for ends in [false, true] {
        let mut bench = of_all(4);
        // Members of the group: nothing is taken from them.
        bench.leave("d", "a", "g/a");
        bench.leave("e", "b", "g/b");
        let p = bench.v5("publisher", "p");
        bench.publish_all(p, "g/a", 1..=4);
        let old = bench.old("old");
        assert_eq!(bench.publish(old, 9, "g/b", |_| {}), None);
        assert_eq!(bench.publish(p, 5, "g/b", |_| {}), Some(0x97));
        let out = if ends {
            bench.core.handle_disconnect_device("d");
            bench.outputs()
        } else {
            let a = bench.v5("d", "a");
            let out = bench.outputs();
            let (_, Outgoing::Publish { id, .. }) = out.last().unwrap() else { panic!("{out:?}") };
            bench.input(a, Incoming::PubAck { id: *id })
        };
        assert_eq!(acked(&out, old, 9), Some(0));
        assert_eq!(bench.take("e", "b").1, ["9"]);
    }
}

/// Who is held up waits for the bounds that are passed now, not for those that were when it came.
#[test]
fn who_waits_for_a_session_waits_for_its_device_too() {
    let application = ClassLimits { max_device_queued_messages: 8, ..queues(4) };
    let mut bench = Bench::new(Limits { application, ..Limits::default() });
    bench.leave("d", "a", "a");
    bench.leave("d", "b", "b");
    let p = bench.v5("publisher", "p");
    bench.publish_all(p, "a", 1..=4);
    let old = bench.old("old");
    assert_eq!(bench.publish(old, 9, "a", |_| {}), None);
    bench.publish_all(p, "b", 1..=4);
    // The device is not low when the session is.
    let a = bench.v5("d", "a");
    let out = bench.outputs();
    let (_, Outgoing::Publish { id, .. }) = out.last().unwrap() else { panic!("{out:?}") };
    let out = bench.input(a, Incoming::PubAck { id: *id });
    assert_eq!((acked(&out, old, 9), bench.core.stats().held_up), (None, 1));
    bench.core.handle_packet(a, Incoming::Disconnect { code: 0, session_expiry_s: None }, bench.now_ms);
    let b = bench.v5("d", "b");
    let mut out = bench.outputs();
    while acked(&out, old, 9).is_none() {
        let (_, Outgoing::Publish { id, .. }) = out.last().unwrap() else { panic!("{out:?}") };
        out = bench.input(b, Incoming::PubAck { id: *id });
    }
}

/// A queue that is nearly full has room: what was turned away for its device needs no more of it than that.
#[test]
fn who_waits_for_a_device_does_not_wait_until_the_session_is_low() {
    let application = ClassLimits { max_device_queued_messages: 12, ..queues(8) };
    let mut bench = Bench::new(Limits { application, ..Limits::default() });
    bench.leave("d", "a", "a");
    bench.leave("d", "b", "b");
    let p = bench.v5("publisher", "p");
    bench.publish_all(p, "a", 1..=7);
    bench.publish_all(p, "b", 1..=5);
    let old = bench.old("old");
    assert_eq!(bench.publish(old, 9, "a", |_| {}), None);
    bench.connect("d", "b", Version::V5, |connect| connect.clean_start = true);
    let out = bench.outputs();
    assert_eq!(acked(&out, old, 9), Some(0));
}

/// The operator may have sessions ended that are full; one that others leave no room for is not that.
#[test]
fn a_session_is_not_ended_for_what_others_hold() {
    let application = ClassLimits { max_total_queued_messages: 4, ..queues(3) };
    let hour = std::time::Duration::from_secs(3600);
    let mut bench = Bench::new(Limits { application, full_session_expiry: Some(hour), ..Limits::default() });
    bench.leave("d", "a", "g/a");
    bench.leave("e", "b", "g/b");
    let p = bench.v5("publisher", "p");
    bench.publish_all(p, "g/a", 1..=3);
    bench.publish_all(p, "g/b", 4..=4);
    for topic in ["g/b", "g/a"] {
        assert_eq!(bench.publish(p, 5, topic, |_| {}), Some(0x97));
    }
    bench.now_ms += 3_600_000;
    bench.core.handle_timeout(bench.now_ms);
    assert_eq!(bench.sessions(), 2);
    assert_eq!(bench.take("e", "b").1, ["4"]);
}

#[test]
fn a_session_that_is_sent_its_messages_at_once_is_not_held_up_by_others() {
    let application =
        ClassLimits { max_device_queued_messages: 2, max_total_queued_messages: 3, ..ClassLimits::default() };
    let mut bench = Bench::new(Limits { application, max_packet_bytes: 1024, ..Limits::default() });
    bench.leave("d", "away", "g/a");
    bench.leave("e", "away", "g/b");
    let p = bench.v5("publisher", "p");
    bench.publish_all(p, "g/a", 1..=2);
    bench.publish_all(p, "g/b", 3..=3);
    for device in ["d", "e", "f"] {
        let reader =
            bench.connect(device, "reader", Version::V5, |connect| connect.properties.set(Property::ReceiveMaximum(5)));
        let topic = format!("g/at/{device}");
        bench.subscribe(reader, &topic);
        bench.publish_all(p, &topic, 1..=5);
        assert_eq!(bench.publish(p, 6, &topic, |_| {}), Some(0x97), "its window is full");
        bench.input(reader, Incoming::PubAck { id: 1 });
        bench.publish_all(p, &topic, 6..=6);
        // Beyond one large packet, what is in flight counts, or a client that acknowledges nothing had no bound.
        bench.input(reader, Incoming::PubAck { id: 2 });
        let large = |publish: &mut Publish| publish.payload = Bytes::from(vec![0; 1000]);
        assert_eq!(bench.publish(p, 7, &topic, large), Some(0x97));
        for id in 3..=6 {
            bench.input(reader, Incoming::PubAck { id });
        }
        assert_eq!(bench.publish(p, 7, &topic, large), Some(0));
        assert_eq!(bench.publish(p, 8, &topic, |_| {}), Some(0x97));
    }
}

#[test]
fn what_is_for_nobody_in_particular_is_given_up_for_a_group_to_go_on() {
    let mut bench = of_all(10);
    bench.leave("d", "member", "g/a");
    bench.leave("e", "small", "small");
    bench.leave("f", "large", "large");
    bench.leave("h", "last", "g/b");
    let p = bench.v5("publisher", "p");
    bench.publish_all(p, "g/a", 1..=5);
    bench.publish_all(p, "small", 6..=7);
    bench.publish_all(p, "large", 8..=10);
    // The largest goes first. What a member waits for is not touched, although it is more.
    bench.publish_all(p, "g/b", 11..=13);
    assert_eq!(bench.sessions(), 4);
    assert_eq!(bench.core.stats().queued, 10);
    assert!(!bench.comes_back("f", "large").1);
    bench.publish_all(p, "g/b", 14..=14);
    assert!(!bench.comes_back("e", "small").1);
    assert_eq!(bench.take("h", "last").1, ["11", "12", "13", "14"]);
    assert_eq!(bench.take("d", "member").1, ["1", "2", "3", "4", "5"]);
}

/// A device outside the group fills all queues with messages of a topic of no group, spread over its sessions.
#[test]
fn who_fills_all_queues_with_what_is_for_nobody_is_refused_and_ends_first() {
    let mut bench = of_all(12);
    // The largest session holds what a group owes to it, and more surplus than any other session.
    bench.leave("victim", "log", "#");
    let p = bench.v5("publisher", "p");
    bench.publish_all(p, "g/a", 1..=3);
    bench.publish_all(p, "x", 4..=5);
    // Seven copies of one message, which are judged one by one.
    for n in 0..7 {
        bench.leave("outsider", &format!("{n}"), "own");
    }
    let flood = bench.v5("outsider", "flood");
    bench.input(flood, Incoming::Subscribe { id: 1, filters: vec![("own".into(), Subscribed::new(Qos::AtMostOnce))] });
    bench.publish_all(flood, "own", 1..=1);
    assert_eq!(bench.core.stats().queued, 13, "`log` has a copy too");
    let refused = Some(reason::QUOTA_EXCEEDED);
    assert_eq!(bench.publish(flood, 2, "own", |_| {}), refused, "nobody ends for it");
    assert_eq!(bench.publish(flood, 3, "x", |_| {}), refused);
    assert_eq!(bench.sessions(), 10);
    // For the group, sessions of the device end that has the most surplus, though each of them has little.
    bench.publish_all(p, "g/a", 6..=8);
    assert_eq!(bench.sessions(), 6);
    assert_eq!(bench.take("victim", "log").1, ["1", "2", "3", "4", "5", "1", "6", "7", "8"]);
}

#[test]
fn a_device_outside_the_group_holds_nobody_up_by_its_other_sessions() {
    let mut bench = of_device(4);
    bench.leave("outsider", "a", "a");
    bench.leave("outsider", "b", "g/#");
    let p = bench.v5("publisher", "p");
    bench.publish_all(p, "a", 1..=4);
    bench.publish_all(p, "g/x", 5..=5);
    assert!(!bench.comes_back("outsider", "b").1);
    assert_eq!(bench.take("outsider", "a").1.len(), 4, "that is for it");
}

#[test]
fn control_messages_are_counted_by_themselves() {
    let control = ClassLimits { max_device_queued_messages: 4, max_total_queued_messages: 6, ..ClassLimits::default() };
    let application =
        ClassLimits { max_device_queued_messages: 1, max_total_queued_messages: 1, ..ClassLimits::default() };
    let mut bench = Bench::new(Limits { application, control, ..Limits::default() });
    let keys = |device: &str| format!("sealcast/v1/keys/{device}");
    bench.leave("d", "app", "a");
    for (device, client_id) in [("d", "1"), ("d", "2"), ("e", "1"), ("f", "1")] {
        bench.leave(device, client_id, &keys(device));
    }
    let p = bench.v5("publisher", "p");
    bench.publish_all(p, "a", 1..=1);
    bench.publish_all(p, &keys("d"), 1..=2);
    assert_eq!(bench.sessions(), 6);
    // The device's bound: the session that does not keep up ends, and the other one has room then.
    bench.publish_all(p, &keys("d"), 3..=3);
    assert_eq!(bench.sessions(), 5);
    // The bound of all: the one that holds the most ends.
    bench.publish_all(p, &keys("e"), 1..=3);
    bench.publish_all(p, &keys("f"), 1..=1);
    assert_eq!(bench.sessions(), 4);
    assert_eq!(bench.take("f", "1").1, ["1"]);
    assert_eq!(bench.take("d", "app").1, ["1"], "application messages are not touched");
}

#[test]
fn what_expires_in_one_session_makes_room_for_others() {
    let mut bench = of_all(2);
    bench.leave("d", "a", "g/a");
    bench.leave("e", "b", "g/b");
    let p = bench.v5("publisher", "p");
    for (id, expiry_s) in [(1, 9), (2, 1)] {
        let soon = |publish: &mut Publish| publish.properties.set(Property::MessageExpiry(expiry_s));
        assert_eq!(bench.publish(p, id, "g/a", soon), Some(0));
    }
    assert_eq!(bench.publish(p, 3, "g/b", |_| {}), Some(0x97));
    bench.now_ms += 1000;
    assert_eq!(bench.publish(p, 3, "g/b", |_| {}), Some(0));
    assert_eq!(bench.core.poll_timeout(), Some(START_MS + 9000), "the next one is awaited");
    bench.core.handle_disconnect_device("d");
    bench.core.handle_disconnect_device("e");
    assert_eq!(bench.core.poll_timeout(), None, "nothing is awaited of those");
}

#[test]
fn empty_queues_take_all_that_is_retained_and_no_more() {
    let lower = |application| Bench::new(Limits { application, ..Limits::default() });
    let defaults = ClassLimits::default;
    for mut bench in [
        lower(queues(2)),
        lower(ClassLimits { max_device_queued_messages: 2, ..defaults() }),
        lower(ClassLimits { max_total_queued_messages: 2, ..defaults() }),
        lower(ClassLimits { max_queued_bytes: 100, ..defaults() }),
        lower(ClassLimits { max_device_queued_bytes: 100, ..defaults() }),
        lower(ClassLimits { max_total_queued_bytes: 100, ..defaults() }),
    ] {
        let p = bench.v5("publisher", "p");
        for id in 1..=4 {
            assert_eq!(bench.publish(p, id, &format!("r/{id}"), |publish| publish.retain = true), Some(0));
        }
        let reader = bench.v5("d", "reader");
        assert_eq!(bench.subscribe_all(reader, &["r/#", "r/+"]), [1, 0x97], "each of them once");
        assert_eq!(bench.subscribe(reader, "r/#"), 0x97, "three wait, and one is in flight");
        assert_eq!(bench.core.stats().queued, 4);
    }
}

/// Filters that overlap bring the same messages again. At QoS 0 nothing waits for room, and there is a bound all the same.
#[test]
fn one_packet_brings_no_more_than_all_that_is_retained_or_may_be_queued() {
    for (limit, want) in [(2, vec![0, 0x97, 0, 0x97, 0x97]), (9, vec![0, 0, 0, 0x97, 0x97])] {
        let mut bench = Bench::new(Limits { application: queues(limit), ..Limits::default() });
        let p = bench.v5("publisher", "p");
        for id in 1..=4 {
            assert_eq!(bench.publish(p, id, &format!("r/{id}"), |publish| publish.retain = true), Some(0));
        }
        let reader = bench.v5("d", "reader");
        bench.outputs();
        // They bring four, four, none, four and one.
        let filters =
            if limit == 2 { ["r/#", "r/+", "other", "#", "r/1/#"] } else { ["r/#", "r/+", "r/1", "#", "+/2"] };
        let filters = filters.map(|filter| (filter.to_owned(), Subscribed::new(Qos::AtMostOnce))).to_vec();
        let out = bench.input(reader, Incoming::Subscribe { id: 1, filters });
        let codes =
            out.iter().find_map(|(_, p)| if let Outgoing::SubAck { codes, .. } = p { Some(codes) } else { None });
        assert_eq!(codes, Some(&want), "{limit}");
    }
}

#[test]
fn one_packet_holds_its_filters_against_so_many_retained_topics_at_most() {
    const TOPICS: usize = 1_000;
    let mut bench = Bench::new(Limits::default());
    let p = bench.v5("d", "p");
    for at in 0..TOPICS {
        bench.publish(p, 1, &format!("t{at}/x"), |publish| publish.retain = true);
    }
    let a = bench.v5("d", "a");
    let filters: Vec<String> = (0..TOPICS).map(|at| format!("+/{at}")).collect();
    let filters: Vec<&str> = filters.iter().map(String::as_str).collect();
    let codes = bench.subscribe_all(a, &filters);
    let (taken, refused) = codes.split_at(500);
    assert!(taken.iter().all(|code| *code == 1) && refused.iter().all(|code| *code == reason::QUOTA_EXCEEDED));
    // What names its topics is held against those alone.
    let named: Vec<String> = (0..TOPICS / 2).map(|at| format!("t{at}/x")).collect();
    let named: Vec<&str> = named.iter().map(String::as_str).collect();
    assert!(bench.subscribe_all(a, &named).iter().all(|code| *code == 1));
}
