//! A folder is put back from a copy while others go on, whatever else happens.

use sealcast_simulation::{Death, Event, Event::*, Kind::*, run};

const DEVICE: usize = 1;

/// A copy is made and put back, with these events between.
fn check(between: &[Event], after: &[Event]) {
    let publish = |client| Publish { client, kind: Plain, qos: 1, retain: true };
    let traffic = [publish(0), publish(DEVICE), Settle];
    let events =
        [&[Settle, CopyFolder { device: DEVICE }][..], between, &traffic, &[PutBack { device: DEVICE }], after];
    let events = [&events.concat()[..], &traffic, &[Quiet], &traffic, &[Quiet]].concat();
    let report = run(&events).unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(report.noticed, 1, "{between:?}, {after:?}");
}

#[test]
fn it_is_noticed_and_the_device_is_a_member_again() {
    check(&[Restart { device: DEVICE }, Settle], &[]);
    check(&[Pass { ms: 700_000 }], &[]);
    check(&[Revoke { device: 2 }, Pass { ms: 60_000 }], &[]);
    check(&[Revoke { device: 2 }, Pass { ms: 60_000 }], &[CutLink { device: DEVICE }, Settle]);
}

#[test]
fn it_dies_at_a_write_meanwhile() {
    let mut deaths = 0;
    for writes in 0..6 {
        for death in [Death::Lost, Death::Persisted, Death::Effects(0), Death::Effects(1)] {
            let between = [Settle, CopyFolder { device: DEVICE }, Revoke { device: 2 }, Pass { ms: 60_000 }];
            let back = [PutBack { device: DEVICE }, Crash { device: DEVICE, writes, death }, Settle];
            let publish = [0, DEVICE].map(|client| Publish { client, kind: Plain, qos: 1, retain: true });
            let events = [&between[..], &back, &[Pass { ms: 90_000 }], &publish, &[Settle, Quiet]].concat();
            let report = run(&events).unwrap_or_else(|failure| panic!("{failure}"));
            deaths += report.faults["an agent died at a write"];
        }
    }
    assert_eq!(deaths, 24);
}
