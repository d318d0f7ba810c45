//! What is sealed is in its group's series before it leaves.

use std::sync::Arc;

use sealcast_audit::SentKind;
use sealcast_mqtt::Qos;

use super::{
    rig::{Disk, Fleet, Rig},
    will,
};
use crate::{AnchorRules, ByFilter, session::Write, testing::START_MS};

const RULES: AnchorRules = AnchorRules { every_messages: 10, every_ms: 1_000, keep_ms: 1_000, payloads: true };

fn rig(fleet: &Fleet, rules: Option<AnchorRules>) -> Rig {
    let mut rig = Rig::with_rules(fleet.keyring(0).with_anchors(rules), Arc::default(), ByFilter::default());
    rig.connect(Some(will("away")));
    rig.publish("plant/t", Qos::AtLeastOnce, false, "21");
    rig.publish("plant/t", Qos::AtMostOnce, true, "22");
    rig.publish("plant/t", Qos::AtMostOnce, true, "");
    rig
}

fn sent(rig: &Rig) -> Vec<(SentKind, Option<&[u8]>)> {
    let messages = rig
        .written
        .iter()
        .filter_map(|write| if let Write::Sent { message, .. } = write { Some(message) } else { None });
    messages
        .map(|message| {
            assert_eq!(message.time_ms, START_MS);
            (message.kind, message.payload.as_deref())
        })
        .collect()
}

#[test]
fn each_sealed_message_is_on_disk_before_it_leaves() {
    let fleet = Fleet::new();
    let rig = rig(&fleet, Some(RULES));
    let expected: [(_, Option<&[u8]>); 4] = [
        (SentKind::Will, Some(b"away")),
        (SentKind::Message, Some(b"21")),
        (SentKind::Retained, Some(b"22")),
        (SentKind::Deletion, Some(b"")),
    ];
    assert_eq!(sent(&rig), expected);
    let (mut written, mut left) = (0, 0);
    for line in &rig.log {
        written += usize::from(line == "disk: sent");
        left += usize::from(line == "broker: PUBLISH");
        // The will's is the first; the deletion is two packets.
        assert!(left == 0 || written > left.min(3), "{:?}", rig.log);
    }
    assert!(left >= 3, "{:?}", rig.log);
}

#[test]
fn nothing_leaves_that_cannot_be_written() {
    let fleet = Fleet::new();
    let mut rig = Rig::with_rules(fleet.keyring(0).with_anchors(Some(RULES)), Arc::default(), ByFilter::default());
    rig.connect(None);
    rig.disk = Disk::Fails;
    rig.publish("plant/t", Qos::AtLeastOnce, false, "21");
    assert!(rig.published().is_empty() && rig.closed.is_some());
}

#[test]
fn digests_alone_are_kept_and_nothing_without_anchors() {
    let fleet = Fleet::new();
    let digests = rig(&fleet, Some(AnchorRules { payloads: false, ..RULES }));
    assert!(sent(&digests).len() == 4 && sent(&digests).iter().all(|(_, payload)| payload.is_none()));
    assert_eq!(sent(&rig(&fleet, None)), []);
}
