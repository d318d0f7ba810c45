//! What a session that ends leaves to the other members of its shared subscriptions.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// `g/sh` has a share with one member, `outsider`/`a`, which is away and has two messages; then `member`/`b` joins.
fn bench() -> (Bench, ConnId) {
    let mut bench = Bench::new(Limits { application: queues(2), ..Limits::default() });
    bench.leave("outsider", "a", "$share/s/g/sh");
    let p = bench.v5("member", "p");
    for id in 1..=2 {
        assert_eq!(bench.publish(p, id, "g/sh", |_| {}), Some(0));
    }
    bench.leave("member", "b", "$share/s/g/sh");
    (bench, p)
}

/// The session `outsider`/`a` has ended.
fn b_has_them(mut bench: Bench, also: &[&str]) {
    bench.outputs();
    assert_eq!(bench.take("member", "b").1, [&["1", "2"][..], also].concat());
    assert!(bench.core.stored.is_empty(), "nothing is left behind");
}

#[test]
fn a_session_that_is_ended_for_its_full_queue_leaves_them() {
    let (mut bench, p) = bench();
    let o = bench.v5("outsider", "a");
    bench.subscribe(o, "g/all");
    bench.disconnect(o, 0);
    // One is in flight, one waits: this one fits, the next does not.
    assert_eq!(bench.publish(p, 3, "g/all", |_| {}), Some(0));
    assert_eq!(bench.sessions(), 3);
    assert_eq!(bench.publish(p, 4, "g/all", |_| {}), Some(0));
    assert_eq!(bench.sessions(), 2, "nobody waits for the outsider");
    b_has_them(bench, &[]);
}

#[test]
fn a_session_that_expires_leaves_them() {
    let (mut bench, _) = bench();
    bench.now_ms += 99_999_000;
    let b = bench.v5("member", "b");
    bench.disconnect(b, 0);
    bench.now_ms += 1_000;
    bench.core.handle_timeout(bench.now_ms);
    assert_eq!(bench.sessions(), 2);
    b_has_them(bench, &[]);
}

#[test]
fn a_clean_start_leaves_them() {
    let (mut bench, _) = bench();
    bench.connect("outsider", "a", Version::V5, |connect| connect.clean_start = true);
    b_has_them(bench, &[]);
}

#[test]
fn a_revoked_device_leaves_them() {
    let (mut bench, _) = bench();
    bench.core.handle_disconnect_device("outsider");
    b_has_them(bench, &[]);
}

#[test]
fn what_all_sessions_of_a_device_leave_moves_once() {
    let mut bench = Bench::new(Limits::default());
    for n in 0..20 {
        bench.leave("outsider", &format!("a{n}"), "$share/s/q");
    }
    let p = bench.v5("member", "p");
    for id in 1..=40 {
        assert_eq!(bench.publish(p, id, "q", |_| {}), Some(0));
    }
    bench.leave("member", "b", "$share/s/q");
    bench.core.handle_disconnect_device("outsider");
    let records = bench.core.take_effects(bench.now_ms).records;
    assert_eq!(records.iter().filter(|record| matches!(record, JournalRecord::Delivery { .. })).count(), 40);
    assert_eq!(bench.take("member", "b").1.len(), 40);
}

#[test]
fn many_are_handed_over_in_slices() {
    let application = ClassLimits { max_device_queued_messages: 25, ..ClassLimits::default() };
    let limits = Limits { application, ..Limits::default() };
    let mut bench = Bench::new(limits.clone());
    bench.core = Core::new(limits, Arc::new(Names), None).with_slice(10);
    bench.leave("d", "a", "$share/s/q");
    bench.leave("d", "other", "other");
    let p = bench.v5("p", "p");
    for id in 1..=25 {
        assert_eq!(bench.publish(p, id, "q", |_| {}), Some(0));
    }
    let old = bench.connect("p", "old", Version::V311, |_| {});
    assert_eq!(bench.publish(old, 1, "other", |_| {}), None, "the device is full");
    bench.leave("e", "b", "$share/s/q");
    bench.connect("d", "a", Version::V5, |connect| connect.clean_start = true);
    let state = |bench: &Bench| (bench.core.longest_queue(), bench.core.left.len(), bench.core.stats().queued);
    assert_eq!((state(&bench), bench.core.poll_timeout()), ((0, 25, 25), Some(0)));
    // Until it is handed over, it counts for the device that left it.
    let of_d = |bench: &Bench| bench.core.usages.of("d").queued.of(Class::Application).messages;
    assert_eq!(of_d(&bench), 25);
    assert_eq!(acked(&bench.outputs(), old, 1), Some(0), "a slice has made room");
    assert_eq!((state(&bench), of_d(&bench)), ((10, 15, 26), 16));
    bench.core.handle_timeout(bench.now_ms);
    bench.outputs();
    assert_eq!((state(&bench), bench.core.poll_timeout()), ((20, 5, 26), Some(0)));
    bench.core.handle_timeout(bench.now_ms);
    bench.outputs();
    assert_eq!(state(&bench), (25, 0, 26));
    assert_ne!(bench.core.poll_timeout(), Some(0));
    let want: Vec<String> = (1..=25).map(|id| id.to_string()).collect();
    assert_eq!(bench.take("e", "b").1, want);
    assert_eq!(bench.take("d", "other").1, ["1"]);
    assert!(bench.core.stored.is_empty());
}

#[test]
fn one_that_has_unsubscribed_keeps_them_until_it_ends() {
    let (mut bench, _) = bench();
    let o = bench.v5("outsider", "a");
    bench.input(o, Incoming::Unsubscribe { id: 1, filters: vec!["$share/s/g/sh".into()] });
    bench.disconnect(o, 0);
    assert_eq!(bench.take("outsider", "a").1, ["1", "2"]);

    let (mut bench, _) = self::bench();
    let o = bench.v5("outsider", "a");
    bench.input(o, Incoming::Unsubscribe { id: 1, filters: vec!["$share/s/g/sh".into()] });
    bench.input(o, Incoming::Disconnect { code: 0, session_expiry_s: Some(0) });
    b_has_them(bench, &[]);
}

#[test]
fn with_the_last_member_they_end() {
    let mut bench = Bench::new(Limits::default());
    bench.leave("d", "a", "$share/s/q");
    let p = bench.v5("d", "p");
    assert_eq!(bench.publish(p, 1, "q", |_| {}), Some(0));
    assert_eq!(bench.core.stored.len(), 1);
    bench.connect("d", "a", Version::V5, |connect| connect.clean_start = true);
    bench.outputs();
    assert!(bench.core.stored.is_empty());
    assert_eq!(bench.take("d", "a").1, [""; 0]);
}

#[test]
fn what_has_been_sent_at_qos_2_goes_to_nobody_else() {
    let mut bench = Bench::new(Limits::default());
    let a = bench.connect("d", "a", Version::V5, |connect| connect.properties.set(Property::ReceiveMaximum(2)));
    bench.subscribe_at(a, "$share/s/q", Qos::ExactlyOnce);
    let p = bench.v5("d", "p");
    let twice = |publish: &mut Publish| publish.qos = Qos::ExactlyOnce;
    // In flight are 1 at QoS 2 and 2 at QoS 1; 3 and 4 wait.
    bench.publish(p, 1, "q", twice);
    assert_eq!(bench.publish(p, 2, "q", |_| {}), Some(0));
    bench.publish(p, 3, "q", twice);
    assert_eq!(bench.publish(p, 4, "q", |_| {}), Some(0));
    bench.leave("d", "b", "$share/s/q");
    bench.input(a, Incoming::Disconnect { code: 0, session_expiry_s: Some(0) });
    assert_eq!(bench.take("d", "b").1, ["2", "3", "4"]);
    assert!(bench.core.stored.is_empty());
}

#[test]
fn a_member_is_preferred_while_its_client_is_there() {
    let mut bench = Bench::new(Limits::default());
    bench.leave("d", "a", "$share/s/q");
    bench.leave("d", "b", "$share/s/q");
    let p = bench.v5("d", "p");
    let b = bench.v5("d", "b");
    for id in 1..=3 {
        assert_eq!(bench.publish(p, id, "q", |_| {}), Some(0));
    }
    bench.disconnect(b, 0);
    let a = bench.v5("d", "a");
    for id in 4..=6 {
        assert_eq!(bench.publish(p, id, "q", |_| {}), Some(0));
    }
    bench.disconnect(a, 0);
    assert_eq!([bench.take("d", "a").1, bench.take("d", "b").1], [["4", "5", "6"], ["1", "2", "3"]]);
}

/// Nobody can be told that it has no room, and nothing is dropped.
#[test]
fn a_member_without_room_gets_them_all_the_same() {
    let (mut bench, p) = bench();
    for id in 3..=4 {
        assert_eq!(bench.publish(p, id, "g/sh", |_| {}), Some(0));
    }
    assert_eq!(bench.publish(p, 5, "g/sh", |_| {}), Some(0x97), "`b` is full");
    bench.core.handle_disconnect_device("outsider");
    bench.outputs();
    assert_eq!(bench.core.longest_queue(), 4);
    assert_eq!(bench.publish(p, 5, "g/sh", |_| {}), Some(0x97));
    // In the order in which they were published.
    b_has_them(bench, &["3", "4"]);
}

#[test]
fn a_member_with_qos_0_comes_last() {
    let (mut bench, _) = bench();
    let zero = bench.v5("member", "zero");
    bench.subscribe_at(zero, "$share/s/g/sh", Qos::AtMostOnce);
    bench.core.handle_disconnect_device("outsider");
    let out = bench.outputs();
    assert_eq!(bench.read(zero, out), [""; 0]);
    assert_eq!(bench.take("member", "b").1, ["1", "2"]);
}

/// MQTT 5, §4.8.2: each shared subscription is one of its own, beside the ordinary ones, which are one together.
#[test]
fn each_share_is_a_subscription_of_its_own() {
    let mut bench = Bench::new(Limits::default());
    let a = bench.v5("d", "a");
    bench.subscribe_all(a, &["$share/s/q", "$share/t/q", "q", "#"]);
    bench.disconnect(a, 0);
    let p = bench.v5("d", "p");
    assert_eq!(bench.publish(p, 1, "q", |_| {}), Some(0));
    assert_eq!(bench.core.stats().queued, 3);
    bench.leave("d", "b", "$share/s/q");
    bench.leave("d", "c", "$share/t/q");
    bench.connect("d", "a", Version::V5, |connect| connect.clean_start = true);
    assert_eq!([bench.take("d", "b").1, bench.take("d", "c").1], [["1"], ["1"]]);
    assert!(bench.core.stored.is_empty());
    assert_eq!(bench.core.stats().queued_bytes, 0);
}

/// Each copy is counted from the beginning: when a session ends, there are no more of them than before.
#[test]
fn a_hand_over_stays_within_the_bounds() {
    const SHARES: usize = 16;
    let mut bench = Bench::new(Limits { application: queues(100), ..Limits::default() });
    let a = bench.v5("d", "a");
    let filters: Vec<String> = (0..SHARES).map(|n| format!("$share/s{n}/q")).collect();
    bench.subscribe_all(a, &filters.iter().map(String::as_str).collect::<Vec<_>>());
    let p = bench.v5("d", "p");
    let mut accepted = 0;
    while bench.publish(p, accepted + 1, "q", |_| {}) == Some(0) {
        accepted += 1;
    }
    assert_eq!(accepted, 7, "the last of them finds room for one copy and takes that of all");
    for (n, filter) in filters.iter().enumerate() {
        bench.leave("e", &format!("b{n}"), filter);
    }
    let before = bench.core.stats();
    assert_eq!(before.queued, 7 * SHARES);
    bench.input(a, Incoming::Disconnect { code: 0, session_expiry_s: Some(0) });
    let after = bench.core.stats();
    assert_eq!((after.queued, after.queued_bytes), (before.queued, before.queued_bytes));
}

/// The journal has the share and the subscription identifiers beside each delivery.
#[test]
fn what_is_kept_beside_a_message_counts() {
    let share = format!("$share/{}/q", "n".repeat(400));
    let mut bench = Bench::new(Limits::default());
    let costs = |bench: &mut Bench, filters: &[(&str, Option<u32>)]| {
        let a = bench.v5("d", "a");
        let filters = filters
            .iter()
            .map(|(filter, id)| ((*filter).to_owned(), Subscribed { id: *id, ..Subscribed::new(Qos::AtLeastOnce) }));
        bench.input(a, Incoming::Subscribe { id: 1, filters: filters.collect() });
        let p = bench.v5("d", "p");
        bench.outputs();
        bench.core.handle_packet(p, Incoming::Publish(publish_to("q", 1)), bench.now_ms);
        let records = bench.core.take_effects(bench.now_ms).records;
        let counted = (bench.core.stats().queued_bytes, records.iter().map(JournalRecord::cost).sum::<usize>());
        bench.core.handle_disconnect_device("d");
        bench.outputs();
        assert_eq!(bench.core.stats().queued_bytes, 0);
        counted
    };
    let (queued, unwritten) = costs(&mut bench, &[("q", Some(1))]);
    assert_eq!(costs(&mut bench, &[(&share, Some(1))]), (queued + share.len(), unwritten + share.len()));
    assert_eq!(costs(&mut bench, &[("q", Some(1)), ("+", Some(2)), ("#", Some(3))]), (queued + 8, unwritten + 8));
}

#[test]
fn one_that_would_lose_a_message_comes_last() {
    let mut bench = Bench::new(Limits { application: queues(2), ..Limits::default() });
    bench.leave("d", "one", "$share/s/q");
    let zero = bench.v5("d", "zero");
    bench.subscribe_at(zero, "$share/s/q", Qos::AtMostOnce);
    bench.disconnect(zero, 0);
    let p = bench.v5("d", "p");
    let codes: Vec<_> = (1..=4).map(|id| bench.publish(p, id, "q", |_| {})).collect();
    assert_eq!(codes, [Some(0), Some(0), Some(reason::QUOTA_EXCEEDED), Some(reason::QUOTA_EXCEEDED)]);
    assert_eq!(bench.take("d", "one").1, ["1", "2"]);
}

#[test]
fn shared_subscriptions_of_a_session_are_few_and_short() {
    let mut bench = Bench::new(Limits::default());
    let a = bench.v5("d", "a");
    let filters: Vec<String> = (0..20)
        .map(|n| format!("$share/s{n}/q"))
        .chain(["$share/s0/q".into(), format!("$share/{}/q", "n".repeat(600))])
        .collect();
    bench.outputs();
    let wanted = filters.iter().map(|filter| (filter.clone(), Subscribed::new(Qos::AtLeastOnce))).collect();
    bench.core.handle_packet(a, Incoming::Subscribe { id: 1, filters: wanted }, bench.now_ms);
    let codes = bench.core.take_effects(bench.now_ms).outputs.into_iter().find_map(|output| match output {
        Output::Send(_, Outgoing::SubAck { codes, .. }) => Some(codes),
        _ => None,
    });
    let refused = reason::QUOTA_EXCEEDED;
    assert_eq!(codes, Some([vec![1; 16], vec![refused; 4], vec![1, refused]].concat()));
}

#[test]
fn a_filter_that_stands_in_one_packet_twice_brings_what_is_retained_once() {
    let mut bench = Bench::new(Limits::default());
    let p = bench.v5("d", "p");
    bench.publish(p, 1, "q", |publish| publish.retain = true);
    let a = bench.v5("d", "a");
    bench.outputs();
    let twice = ["#", "#"].map(|filter| (filter.to_owned(), Subscribed::new(Qos::AtMostOnce))).to_vec();
    bench.core.handle_packet(a, Incoming::Subscribe { id: 1, filters: twice }, bench.now_ms);
    let outputs = bench.core.take_effects(bench.now_ms).outputs;
    let brought = outputs.iter().filter(|output| matches!(output, Output::Send(_, Outgoing::Publish { .. }))).count();
    assert_eq!(brought, 1);
}

/// [`Names`], counting how often somebody asks who is in a group.
#[derive(Default)]
struct Counting(AtomicUsize);

impl Policy for Counting {
    fn connect(&self, attempt: &Attempt<'_>) -> Result<Peer, PolicyRefusal> {
        Names.connect(attempt)
    }
    fn may_publish(&self, _: &Peer, _: &str) -> bool {
        true
    }
    fn may_subscribe(&self, _: &str, _: &str) -> bool {
        true
    }
    fn group(&self, topic: &str) -> Option<u64> {
        Names.group(topic)
    }
    fn is_member(&self, device: &str, group: u64) -> bool {
        self.0.fetch_add(1, Ordering::Relaxed);
        Names.is_member(device, group)
    }
}

#[test]
fn a_slice_asks_once_who_is_in_a_group() {
    const OUTSIDERS: usize = 50;
    const MESSAGES: usize = 100;
    let policy = Arc::new(Counting::default());
    let mut bench = Bench::new(Limits::default());
    bench.core = Core::new(Limits::default(), policy.clone(), None);
    bench.leave("member", "a", "$share/s/g/q");
    let p = bench.v5("member", "p");
    for id in 1..=MESSAGES {
        assert_eq!(bench.publish(p, id as u16, "g/q", |_| {}), Some(0));
    }
    for n in 0..OUTSIDERS {
        bench.leave(&format!("outsider{n}"), "o", "$share/s/g/q");
    }
    bench.leave("x", "b", "$share/s/g/q");
    bench.connect("member", "a", Version::V5, |connect| connect.clean_start = true);
    policy.0.store(0, Ordering::Relaxed);
    bench.outputs();
    // Those that have answered before are known.
    assert_eq!(policy.0.load(Ordering::Relaxed), OUTSIDERS + 1);
    assert_eq!(bench.take("x", "b").1.len(), MESSAGES);
}
