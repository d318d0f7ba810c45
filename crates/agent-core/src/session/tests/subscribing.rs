//! Subscriptions by which nothing comes.

use std::sync::Arc;

use sealcast_quality::{RuleSet, TopicSpec};

use super::{
    copies::subscribe,
    rig::{Fleet, Rig},
};
use crate::{ByFilter, Cause, session::Refused, values::ValueRules};

fn told(rig: &Rig) -> Vec<&str> {
    let uncovered =
        rig.told.iter().filter(|event| event.what == Refused::Uncovered && event.why.cause == Cause::NoGroup);
    uncovered.map(|event| event.topic.as_str()).collect()
}

#[test]
fn a_subscription_that_brings_nothing_is_told_once_it_is_known_which_groups_there_are() {
    let spec: TopicSpec = serde_json::from_str(
        r#"{"filter": "plant/t", "fail_safe": {"on_silence": {"after_ms": 500, "publish": "open", "topic": "local/valve"}}}"#,
    )
    .unwrap();
    let quality = Arc::new(RuleSet::new(vec![spec]).unwrap());
    let rules = Arc::new(ValueRules::new(quality, ByFilter::default(), ByFilter::default(), None));
    let fleet = Fleet::new();
    let mut rig = Rig::with_rules(fleet.keyring(0), rules, ByFilter::default());
    rig.connect(None);
    // The agent itself publishes to one of them, and one is the broker's own.
    subscribe(&mut rig, &["plant/#", "elsewhere", "local/valve", "$SYS/#", "$share/readers/nowhere/#"]);
    assert_eq!(told(&rig), ["elsewhere", "$share/readers/nowhere/#"]);

    rig.told.clear();
    rig.keyring = fleet.world.keyring(0, fleet.world.ledger.replica().clone());
    subscribe(&mut rig, &["plant/t", "later"]);
    assert_eq!(told(&rig), [""; 0]);
    let sync = rig.keyring.begin_sync();
    assert!(rig.keyring.set_caught_up(sync));
    rig.wait(1);
    assert_eq!(told(&rig), ["later"]);
}
