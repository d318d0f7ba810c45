//! Processes of a test: started on free ports, waited for by what they print, ended by id when the test ends.

mod agent;
mod books;
mod chain;
mod cluster;
mod endpoint;
mod hub;
mod intruder;
mod log;
mod mosquitto;
mod port;
mod process;
mod publisher;
mod relay;
/// Choices that a seed decides.
#[path = "../../../simulation/src/rng.rs"]
#[allow(dead_code, reason = "the simulation makes more of them")]
mod rng;
mod soft_token;
mod stand_in;
mod subscriber;
mod traffic;

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

pub use self::{
    agent::{Agent, configure},
    chain::{Anvil, geth},
    cluster::Cluster,
    endpoint::{Answers, Endpoint},
    hub::Hub,
    intruder::Intruder,
    mosquitto::{Mosquitto, own_certificate, secret_file},
    port::Port,
    process::{PATIENCE, Process, output, refuse, sealcast, sealcast_after, succeed},
    publisher::Publisher,
    relay::Relay,
    rng::Rng,
    soft_token::SoftToken,
    stand_in::{Armed, Fault, Line, StandIn, Subject, Way, Wire},
    subscriber::{mosquitto_sub, mosquitto_sub_at},
    traffic::Traffic,
};

/// A payload that no other message has.
pub fn unique(name: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("{name}-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Waits until `reached`, looking again and again; fails the test after [`PATIENCE`].
pub fn until(what: &str, mut reached: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !reached() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Waits until `reader` reads what `writer` publishes: a device that is granted reads nothing from before it has joined.
/// None of what is published for this is on its way any more afterwards.
pub fn until_joined(writer: &Agent, reader: &Agent, topic: &str) {
    let mut probe = reader.subscribe(topic, &[]);
    until("the group has its keys", || {
        // Whoever is cut off subscribes anew by itself, and gives up when that is refused.
        if probe.exit_code().is_some() {
            probe = reader.subscribe(topic, &[]);
        }
        // Refused as long as the writer has no keys. If it was sent before the reader had them, it never comes.
        writer.try_publish(topic, "probe", &[]) && probe.message(PROBE_INTERVAL).is_some()
    });
    let last = unique("joined");
    writer.publish(topic, &last, &[]);
    probe.before(&last);
}

/// How long to wait for a message before the next one is sent, where the first one may be lost. Any time would do.
pub const PROBE_INTERVAL: Duration = Duration::from_millis(500);
