//! What sessions leave to their shares, with the journal and restarts in between.

use super::*;

impl Bench {
    /// The broker ends after everything that has come out so far was written, and starts again.
    fn restart(&mut self) {
        for record in self.records.drain(..) {
            self.journal.apply(&record);
        }
        self.core = Core::new(Limits::default(), Arc::new(Names), None).with_slice(1);
        self.core.restore(self.journal.restored(), self.now_ms);
    }

    /// All that is to be handed over is.
    fn hand_over(&mut self) {
        while self.core.poll_timeout() == Some(0) {
            self.core.handle_timeout(self.now_ms);
            self.outputs();
        }
    }

    fn ends(&mut self, device: &str, client_id: &str) {
        self.connect(device, client_id, Version::V5, |connect| connect.clean_start = true);
        self.outputs();
    }
}

/// `d`/`a` has `messages` by a share of which nobody else is a member. Another session keeps them in the journal.
fn bench(messages: u16) -> Bench {
    let mut bench = Bench::new(Limits::default());
    bench.leave("d", "log", "q");
    bench.leave("d", "a", "$share/s/q");
    let p = bench.connect("d", "p", Version::V5, |connect| connect.properties = Properties::new());
    for id in 1..=messages {
        assert_eq!(bench.publish(p, id, "q", |_| {}), Some(0));
    }
    bench
}

#[test]
fn a_crash_between_two_slices_loses_nothing_and_doubles_nothing() {
    let mut bench = Bench::new(Limits::default());
    bench.leave("d", "b", "$share/s/q");
    bench.restart();
    // It is online, and has the highest number of a session.
    let a = bench.v5("d", "a");
    bench.subscribe(a, "$share/s/q");
    let p = bench.connect("d", "p", Version::V5, |connect| connect.properties = Properties::new());
    for id in 1..=4 {
        assert_eq!(bench.publish(p, id, "q", |_| {}), Some(0));
    }
    bench.input(a, Incoming::Disconnect { code: 0, session_expiry_s: Some(0) });
    assert_eq!(bench.core.left.len(), 3);
    bench.restart();
    assert_eq!(bench.core.left.len(), 3);
    bench.v5("d", "new");
    bench.outputs();
    assert_eq!(bench.core.left.len(), 2);
    bench.restart();
    bench.hand_over();
    bench.restart();
    assert_eq!(bench.take("d", "b").1, ["1", "2", "3", "4"]);
    assert_eq!(bench.take("d", "new").1, [""; 0]);
    assert!(bench.core.stored.is_empty());
}

#[test]
fn what_nobody_else_gets_is_gone_from_the_journal() {
    let mut bench = bench(3);
    bench.ends("d", "a");
    bench.hand_over();
    bench.restart();
    bench.leave("d", "late", "$share/s/q");
    bench.hand_over();
    assert_eq!(bench.take("d", "late").1, [""; 0]);
}

/// It goes out once, so it must be gone from the journal before.
#[test]
fn what_goes_to_a_member_at_qos_0_is_not_handed_over_again() {
    let mut bench = bench(1);
    let zero = bench.v5("d", "zero");
    bench.subscribe_at(zero, "$share/s/q", Qos::AtMostOnce);
    bench.connect("d", "a", Version::V5, |connect| connect.clean_start = true);
    let before = bench.records.len();
    let out = bench.outputs();
    assert!(out.iter().any(|(to, packet)| *to == zero && matches!(packet, Outgoing::Publish { .. })), "{out:?}");
    let once = |record: &JournalRecord| matches!(record, JournalRecord::DeliveredOnce { .. }) && record.gates();
    assert_eq!(bench.records[before..].iter().filter(|record| once(record)).count(), 1);
    bench.restart();
    bench.leave("d", "late", "$share/s/q");
    assert_eq!(bench.take("d", "late").1, [""; 0]);
}

/// The journal does not have what went out at QoS 1. A client that must not take a message twice asks for DUP.
#[test]
fn what_may_have_gone_out_before_a_restart_says_that_it_may_be_a_second_try() {
    let mut bench = Bench::new(Limits::default());
    let subscriber = bench.v5("d", "subscriber");
    bench.subscribe(subscriber, "q");
    let p = bench.connect("d", "p", Version::V5, |connect| connect.properties = Properties::new());
    assert_eq!(bench.publish(p, 1, "q", |_| {}), Some(0));
    bench.restart();
    let subscriber = bench.v5("d", "subscriber");
    let again = |(to, packet): (ConnId, Outgoing)| match packet {
        Outgoing::Publish { dup, .. } => Some((to, dup)),
        _ => None,
    };
    assert_eq!(bench.outputs().into_iter().filter_map(again).collect::<Vec<_>>(), [(subscriber, true)]);
    // What comes after the restart is new.
    let p = bench.connect("d", "p", Version::V5, |connect| connect.properties = Properties::new());
    bench.outputs();
    bench.input(subscriber, Incoming::PubAck { id: 1 });
    let out = bench.input(p, Incoming::Publish(publish_to("q", 2)));
    assert_eq!(out.into_iter().filter_map(again).collect::<Vec<_>>(), [(subscriber, false)]);
}
