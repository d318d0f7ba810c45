//! A hub shows one device less of the ledger than there is, and a revocation with it.

use sealcast_simulation::{Event::*, Kind::*, Report, run};

/// The ledger is withheld from this device.
const DEVICE: usize = 1;

/// Another device is revoked, and what the first one's client publishes after so long, sealed or not.
fn publish_after(ms: u64, word: bool) -> Report {
    let publish = Publish { client: DEVICE, kind: Plain, qos: 1, retain: false };
    let mut events = vec![Settle, Withhold { device: DEVICE, word }, Revoke { device: 2 }, Settle];
    // The operator's word comes on the way.
    events.extend((0..ms / 1_000).flat_map(|_| [Pass { ms: 1_000 }, Settle]));
    events.extend([publish, Settle]);
    run(&events).unwrap_or_else(|failure| panic!("{failure}"))
}

#[test]
fn a_device_seals_for_a_member_that_was_revoked_for_as_long_as_the_policy_lets_it_and_no_longer() {
    for word in [false, true] {
        let none = publish_after(0, word).sealed;
        for ms in [1_000, 4_000, 8_000] {
            assert_eq!(publish_after(ms, word).sealed, none, "it goes on for a while: {ms} ms, {word}");
        }
        for ms in [21_000, 60_000] {
            assert_eq!(publish_after(ms, word).sealed, none - 1, "{ms} ms, {word}");
        }
    }
}

#[test]
fn it_goes_on_when_the_ledger_is_shown_again() {
    let publish = Publish { client: DEVICE, kind: Plain, qos: 1, retain: false };
    for word in [false, true] {
        let events =
            [Settle, Withhold { device: DEVICE, word }, Revoke { device: 2 }, Pass { ms: 30_000 }, Settle, Quiet];
        let before = run(&events).unwrap_or_else(|failure| panic!("{failure}"));
        let after = run(&[&events[..], &[publish, Settle]].concat()).unwrap_or_else(|failure| panic!("{failure}"));
        assert_eq!((after.sealed, after.acknowledged), (before.sealed + 1, before.acknowledged + 1));
    }
}
