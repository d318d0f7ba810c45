//! SIGKILL in the middle of traffic: the groups go on, and no message that a publisher saw acknowledged is lost to a
//! member with a persistent session.

use std::{
    collections::BTreeSet,
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::harness::{Agent, Hub, Process, mosquitto_sub, until, until_joined};

const TOPIC: &str = "hsu0001/count";
/// `mosquitto_sub` options of a persistent session.
const SESSION: [&str; 3] = ["-i", "member", "-c"];

/// Publishes 0, 1, 2 … one after the other and remembers which were acknowledged.
struct Publisher {
    stop: Arc<AtomicBool>,
    /// Held to keep it from publishing.
    acknowledged: Arc<Mutex<BTreeSet<u32>>>,
    thread: thread::JoinHandle<()>,
}

impl Publisher {
    fn start(port: String) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(Mutex::new(BTreeSet::new()));
        let (stopped, done) = (stop.clone(), acknowledged.clone());
        let thread = thread::spawn(move || {
            for number in 0.. {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                let mut done = done.lock().unwrap();
                // With QoS 1 mosquitto_pub succeeds only once it has its PUBACK.
                let mut command = Command::new("timeout");
                command.args(["3", "mosquitto_pub", "-h", "127.0.0.1", "-p", &port, "-t", TOPIC, "-q", "1"]);
                command.args(["-m", &number.to_string()]).stderr(std::process::Stdio::null());
                if command.status().is_ok_and(|status| status.success()) {
                    done.insert(number);
                } else {
                    thread::sleep(Duration::from_millis(100));
                }
                drop(done);
                thread::yield_now();
            }
        });
        Self { stop, acknowledged, thread }
    }

    fn finish(self) -> BTreeSet<u32> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        Arc::into_inner(self.acknowledged).unwrap().into_inner().unwrap()
    }
}

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
    let dirs = ["1111", "1112"].map(|device| hub.enroll(device));
    hub.group("hsu0001", "hsu0001/#", &["1111", "1112"]);
    let sender = Agent::start(&dirs[0], &[]);
    let mut receiver = Agent::start(&dirs[1], &[]);
    until_joined(&sender, &receiver, "hsu0001/probe");
    let mut member = receiver.subscribe(TOPIC, &SESSION);
    let publisher = Publisher::start(sender.port().to_owned());
    let mut received = Received::default();
    received.until_more(&mut member, 10);

    for _ in 0..2 {
        hub.kill();
        received.take(&mut member);
        hub.restart();
        // mosquitto_sub connects again by itself, and so do the agents.
        received.until_more(&mut member, 10);

        receiver.kill();
        thread::sleep(Duration::from_millis(300));
        received.take(&mut member);
        receiver.restart();
        received.until_more(&mut member, 10);
    }

    // The member is away for a while; the broker keeps what comes, and is killed with it in its hands.
    // mosquitto_sub acknowledges what arrives after SIGTERM and does not print it: so nothing may be on its way then.
    {
        let acknowledged = publisher.acknowledged.lock().unwrap();
        until("all that was acknowledged so far has arrived", || {
            received.take(&mut member);
            acknowledged.is_subset(&received.0)
        });
        received.add(member.end());
    }
    thread::sleep(Duration::from_millis(500));
    hub.kill();
    hub.restart();
    thread::sleep(Duration::from_millis(1_000));
    member = mosquitto_sub(receiver.port(), TOPIC, &SESSION);
    received.until_more(&mut member, 5);

    let acknowledged = publisher.finish();
    assert!(acknowledged.len() > 30, "{}", acknowledged.len());
    let mut last = Instant::now();
    let mut missing = acknowledged.len();
    // Until nothing more comes for a while.
    while missing > 0 && last.elapsed() < Duration::from_secs(15) {
        received.take(&mut member);
        let now = acknowledged.difference(&received.0).count();
        if now != missing {
            (missing, last) = (now, Instant::now());
        }
        thread::sleep(Duration::from_millis(50));
    }
    let lost: Vec<_> = acknowledged.difference(&received.0).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?} of {}", acknowledged.len());

    // The group's keys go on turning after all that.
    let third = hub.enroll("1113");
    hub.operate(&["group", "grant", "hsu0001", "1113"]);
    let third = Agent::start(&third, &[]);
    let mut joined = third.subscribe("hsu0001/after", &[]);
    until("a new member reads", || {
        sender.publish("hsu0001/after", "still here", &[]);
        joined.message(Duration::from_millis(500)).is_some()
    });
}
