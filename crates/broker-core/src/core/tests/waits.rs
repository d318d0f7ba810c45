//! MQTT 3 publishers that wait for a session without room, or for a member of a share.

use super::*;

/// Two MQTT 3 publishers wait for a full session: one for `q`, one for `r`.
fn two_wait(subscribe: &[&str]) -> (Bench, [ConnId; 3]) {
    let mut bench = Bench::new(Limits { application: queues(1), ..Limits::default() });
    let a = bench.v5("d", "a");
    bench.subscribe_all(a, subscribe);
    let p = bench.v5("d", "p");
    for id in 1..=2 {
        assert_eq!(bench.publish(p, id, "q", |_| {}), Some(0));
    }
    let old = ["q", "r"].map(|topic| {
        let old = bench.connect("d", topic, Version::V311, |_| {});
        assert_eq!(bench.publish(old, 3, topic, |_| {}), None);
        old
    });
    (bench, [a, old[0], old[1]])
}

#[test]
fn who_waits_goes_on_when_the_session_unsubscribes() {
    for (subscribed, given_up) in [(["q", "r"], "q"), (["$share/s/q", "r"], "$share/s/q")] {
        let (mut bench, [a, q, r]) = two_wait(&subscribed);
        let out = bench.input(a, Incoming::Unsubscribe { id: 1, filters: vec![given_up.into()] });
        assert_eq!([acked(&out, q, 3), acked(&out, r, 3)], [Some(0), None], "{given_up}");
        assert_eq!(bench.core.stats().held_up, 1);
    }
}

#[test]
fn who_waits_goes_on_when_the_session_lowers_its_subscription() {
    let (mut bench, [a, q, r]) = two_wait(&["q", "r"]);
    let filters = vec![("q".to_owned(), Subscribed::new(Qos::AtMostOnce))];
    let out = bench.input(a, Incoming::Subscribe { id: 1, filters });
    assert_eq!([acked(&out, q, 3), acked(&out, r, 3)], [Some(0), None]);
}

#[test]
fn who_waits_tries_again_within_the_same_time() {
    let (mut bench, [a, q, _]) = two_wait(&["q", "r", "+"]);
    bench.now_ms += 19_000;
    // Another of its subscriptions matches all the same.
    let out = bench.input(a, Incoming::Unsubscribe { id: 1, filters: vec!["q".into()] });
    assert_eq!((acked(&out, q, 3), bench.core.stats().held_up), (None, 2));
    bench.now_ms += 1_000;
    bench.core.handle_timeout(bench.now_ms);
    assert_eq!(bench.core.stats().held_up, 0, "its connection is closed");
}

#[test]
fn who_waits_goes_on_when_a_message_expires() {
    let mut bench = Bench::new(Limits { application: queues(1), ..Limits::default() });
    bench.leave("d", "s", "q");
    let p = bench.v5("d", "p");
    assert_eq!(bench.publish(p, 1, "q", |publish| publish.properties.set(Property::MessageExpiry(1))), Some(0));
    let old = bench.connect("d", "old", Version::V311, |_| {});
    assert_eq!(bench.publish(old, 2, "q", |_| {}), None);
    bench.now_ms += 1000;
    assert!(bench.core.poll_timeout().is_some_and(|at| at <= bench.now_ms));
    bench.core.handle_timeout(bench.now_ms);
    let out = bench.outputs();
    assert_eq!(acked(&out, old, 2), Some(0));
    assert_eq!(bench.take("d", "s").1, ["2"]);
}

/// Two MQTT 3 clients, each with a full session that the other publishes to, resend more than is kept of a connection
/// that is held up before they acknowledge anything.
#[test]
fn acknowledgements_behind_more_than_is_kept_are_seen() {
    for other in ["a", "b"] {
        let mut bench = Bench::new(Limits { application: queues(2), ..Limits::default() });
        let connect = |bench: &mut Bench, id: &str| bench.connect("d", id, Version::V311, |_| {});
        for id in BTreeSet::from(["a", other]) {
            let conn = connect(&mut bench, id);
            bench.subscribe(conn, &format!("to/{id}"));
            bench.disconnect(conn, 0);
            let p = bench.v5("d", "p");
            for n in 1..=2 {
                assert_eq!(bench.publish(p, n, &format!("to/{id}"), |_| {}), Some(0));
            }
        }
        let a = connect(&mut bench, "a");
        let mut sent = bench.outputs();
        let conns = if other == "a" { vec![(a, "a")] } else { vec![(a, "b"), (connect(&mut bench, other), "a")] };
        sent.extend(bench.outputs());
        for (conn, to) in &conns {
            // The session has one in flight and one that waits: the first fits, the others do not.
            assert_eq!(bench.publish(*conn, 1, &format!("to/{to}"), |_| {}), Some(0));
            for id in 2..=2000 {
                assert_eq!(bench.publish(*conn, id, &format!("to/{to}"), |_| {}), None);
            }
        }
        let mut answers = Vec::new();
        let mut closed = BTreeSet::new();
        while let Some((conn, packet)) = sent.pop() {
            match packet {
                Outgoing::Publish { id, .. } => sent.extend(bench.input(conn, Incoming::PubAck { id })),
                Outgoing::PubAck { id, .. } => answers.push((conn, id)),
                Outgoing::Disconnect { .. } => drop(closed.insert(conn)),
                _ => {}
            }
        }
        for (conn, _) in conns {
            let ids: BTreeSet<u16> = answers.iter().filter(|(to, _)| *to == conn).map(|(_, id)| *id).collect();
            assert!(ids.len() < 1999, "{}", ids.len());
            assert!(ids.iter().copied().eq(2..2 + ids.len() as u16), "none after one that was dropped");
        }
        // The one that was closed comes back, and the other goes on then.
        assert!(!answers.is_empty() && !closed.is_empty());
    }
}

/// Two members that are away and full, and an MQTT 3 publisher that waits for one of them; the other one.
fn waiting(bench: &mut Bench) -> (ConnId, &'static str) {
    for client_id in ["a", "b"] {
        bench.leave(client_id, client_id, "$share/s/q");
    }
    let p = bench.v5("d", "p");
    for id in 1..=2 {
        assert_eq!(bench.publish(p, id, "q", |_| {}), Some(0));
    }
    let old = bench.connect("d", "old", Version::V311, |_| {});
    assert_eq!(bench.publish(old, 3, "q", |_| {}), None);
    let by = bench.core.connections[&old].pressure.wait.as_ref().unwrap().by;
    (old, if &*bench.core.sessions[&by].key.client_id == "a" { "b" } else { "a" })
}

#[test]
fn who_waits_for_a_share_goes_on_when_any_member_has_room() {
    let mut bench = Bench::new(Limits { application: queues(1), ..Limits::default() });
    let (old, other) = waiting(&mut bench);
    let conn = bench.v5(other, other);
    let out = bench.outputs();
    assert_eq!(acked(&out, old, 3), Some(0), "its message is in flight, and none waits");
    assert_eq!(bench.read(conn, out).len(), 2);
    assert!(bench.core.share_waits.is_empty());
}

#[test]
fn who_waits_for_a_share_goes_on_when_a_member_joins() {
    let mut bench = Bench::new(Limits { application: queues(1), ..Limits::default() });
    let (old, _) = waiting(&mut bench);
    let new = bench.v5("new", "new");
    let filters = vec![("$share/s/q".to_owned(), Subscribed::new(Qos::AtLeastOnce))];
    let out = bench.input(new, Incoming::Subscribe { id: 1, filters });
    assert_eq!(acked(&out, old, 3), Some(0));
}

/// A member's own queue is empty, but its device has no room until another session of it drains.
#[test]
fn who_waits_for_a_share_goes_on_when_the_device_of_a_member_has_room() {
    let application = ClassLimits { max_device_queued_messages: 4, ..queues(2) };
    let mut bench = Bench::new(Limits { application, ..Limits::default() });
    let p = bench.v5("p", "p");
    for device in ["a", "c"] {
        bench.leave(device, "s", "$share/s/q");
    }
    for id in 1..=4 {
        assert_eq!(bench.publish(p, id, "q", |_| {}), Some(0));
    }
    for client_id in ["0", "1"] {
        bench.leave("b", client_id, "more");
    }
    for id in 1..=2 {
        assert_eq!(bench.publish(p, id, "more", |_| {}), Some(0));
    }
    bench.leave("b", "s", "$share/s/q");
    let old = bench.connect("d", "old", Version::V311, |_| {});
    assert_eq!(bench.publish(old, 5, "q", |_| {}), None);
    let by = bench.core.connections[&old].pressure.wait.as_ref().unwrap().by;
    assert_eq!(&*bench.core.sessions[&by].key.device, "a");
    let b = bench.v5("b", "0");
    let out = bench.outputs();
    let (_, Outgoing::Publish { id, .. }) = out.last().unwrap() else { panic!("{out:?}") };
    let out = bench.input(b, Incoming::PubAck { id: *id });
    assert_eq!(acked(&out, old, 5), Some(0));
    assert_eq!(bench.take("b", "s").1, ["5"]);
}
