//! What the simulation has found: each with the events that are left of its seed.

use sealcast_simulation::{Death, Event, Event::*, Kind::*, run};

fn check(events: &[Event]) {
    if let Err(failure) = run(events) {
        panic!("{failure}");
    }
}

/// The broker's journal does not have what went out at QoS 1. After a restart it sent such a message as a new one, and the
/// agent, which had handed it to a client that never acknowledged it, took it for a replay: the client never got it.
#[test]
fn a_message_in_flight_survives_the_hub_and_its_client_s_connection() {
    check(&[
        Publish { client: 4, kind: Live, qos: 1, retain: false },
        Publish { client: 4, kind: Flagged, qos: 1, retain: false },
        Crash { device: 0, writes: 4, death: Death::Lost },
        Settle,
        Publish { client: 2, kind: Plain, qos: 1, retain: true },
        Move { seed: 1949279888765681901, moves: 4 },
        Publish { client: 1, kind: Plain, qos: 2, retain: false },
        Connect { client: 4 },
        Move { seed: 13373662222620794598, moves: 14 },
        CutLink { device: 1 },
        Move { seed: 6218986666387014624, moves: 3 },
        Move { seed: 12718718760723672393, moves: 8 },
        Move { seed: 10189400551359306639, moves: 4 },
        CrashHub { persisted: false },
        Quiet,
    ]);
}

/// A device was revoked, and granted again before a commit had removed it. It had heard of the first only, so it refused a
/// message of the next epoch for good, although it was to have that epoch's key.
#[test]
fn a_device_that_is_granted_again_gets_what_came_before_it_heard_so() {
    check(&[
        CutLink { device: 0 },
        Reset,
        Settle,
        DiskFails { device: 1, ms: 12602, persisted: false },
        Revoke { device: 3 },
        Revoke { device: 0 },
        Publish { client: 1, kind: Plain, qos: 2, retain: false },
        Settle,
        CrashHub { persisted: false },
        Grant { device: 3 },
        Restart { device: 1 },
        Quiet,
    ]);
}
