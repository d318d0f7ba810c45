//! SIGKILL in the middle of traffic: the groups go on, and no message that a publisher saw acknowledged is lost to a
//! member with a persistent session.

use std::{
    collections::BTreeSet,
    thread,
    time::{Duration, Instant},
};

use crate::harness::{Agent, Hub, PATIENCE, PROBE_INTERVAL, Process, Publisher, mosquitto_sub, until};

const TOPIC: &str = "hsu0001/count";
/// `mosquitto_sub` options of a persistent session.
const SESSION: [&str; 3] = ["-i", "member", "-c"];

#[derive(Default)]
struct Received(BTreeSet<u32>);

impl Received {
    fn take(&mut self, member: &mut Process) {
        self.add(member.pending());
    }

    fn add(&mut self, lines: Vec<String>) {
        for line in lines {
            self.0.extend(line.strip_prefix("hsu0001/count ").and_then(|number| number.parse::<u32>().ok()));
        }
    }

    fn until_more(&mut self, member: &mut Process, more: usize) {
        let goal = self.0.len() + more;
        until("traffic flows", || {
            self.take(member);
            self.0.len() >= goal
        });
    }
}

#[test]
fn nothing_acknowledged_is_lost_when_hub_or_agent_is_killed() {
    let mut hub = Hub::start();
    let [sender, mut receiver] = hub.pair("hsu0001", ["", ""]);
    let mut member = receiver.subscribe(TOPIC, &SESSION);
    let publisher = Publisher::start(sender.port(), TOPIC);
    let mut received = Received::default();
    received.until_more(&mut member, 10);

    for _ in 0..2 {
        hub.kill();
        received.take(&mut member);
        hub.restart();
        // mosquitto_sub connects again by itself, and so do the agents.
        received.until_more(&mut member, 10);

        receiver.kill();
        publisher.until_more(2);
        received.take(&mut member);
        receiver.restart();
        received.until_more(&mut member, 10);
    }

    // The member is away for a while; the broker keeps what comes, and is killed with it in its hands.
    // mosquitto_sub acknowledges what arrives after SIGTERM and does not print it: so nothing may be on its way then.
    let acknowledged = publisher.pause();
    until("all that was acknowledged so far has arrived", || {
        received.take(&mut member);
        acknowledged.is_subset(&received.0)
    });
    received.add(member.end());
    publisher.go_on();
    publisher.until_more(5);
    hub.kill();
    hub.restart();
    publisher.until_more(5);
    member = mosquitto_sub(receiver.port(), TOPIC, &SESSION);
    received.until_more(&mut member, 5);

    let acknowledged = publisher.finish();
    assert!(acknowledged.len() > 30, "{}", acknowledged.len());
    let deadline = Instant::now() + PATIENCE;
    loop {
        received.take(&mut member);
        let missing: Vec<_> = acknowledged.difference(&received.0).collect();
        if missing.is_empty() {
            break;
        }
        let total = acknowledged.len();
        assert!(Instant::now() < deadline, "acknowledged and not here after {PATIENCE:?}: {missing:?} of {total}");
        thread::sleep(Duration::from_millis(50));
    }

    // The group's keys go on turning after all that.
    let third = hub.enroll("1113");
    hub.operate(&["group", "grant", "hsu0001", "1113"]);
    let third = Agent::start(&third, &[]);
    let mut joined = third.subscribe("hsu0001/after", &[]);
    until("a new member reads", || {
        sender.try_publish("hsu0001/after", "still here", &[]) && joined.message(PROBE_INTERVAL).is_some()
    });
}
