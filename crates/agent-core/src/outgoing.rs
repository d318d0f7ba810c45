//! What the agent itself publishes on topics of groups, on its way out: sealed, with what has to be on disk before.

use std::fmt::Display;

use sealcast_ledger::GroupNumber;
use sealcast_mqtt::{TopicName, check_carried};
use sealcast_seal::{Content, Purpose, QosClass};
use zeroize::Zeroizing;

use crate::{
    Cause, Denied, Keyring, RecordRules, Retained, RetainedTopics, Route, Step, Why,
    session::Write,
    values::{Own, Unsent},
};

/// What is published once the writes of the same step are on disk, in the step's order.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    /// Whether the broker keeps it.
    pub retain: bool,
    /// A sealed message; empty where it deletes what the broker keeps.
    pub payload: Vec<u8>,
}

impl From<Denied> for Unsent {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Refused(why) => Self::Refused(why),
            Denied::NotYet(why) | Denied::Behind(why) => Self::NoKeyYet(why),
        }
    }
}

/// Seals a message of the agent's own. An empty retained one deletes what the broker keeps: it goes as it is, behind its
/// tombstone.
///
/// # Errors
/// It may not be sent, or not yet.
pub fn own_message(
    keyring: &mut Keyring,
    retained: &mut RetainedTopics,
    record: &RecordRules,
    topic: &str,
    message: &Own,
    now_ms: u64,
) -> Result<Step<Write, Frame>, Unsent> {
    let Own { retain, props, payload, recorded } = message;
    // A prefix may have made it too long, and the connection would cut it off to the name of another one.
    TopicName::new(topic).map_err(|error| unfit(&error))?;
    check_carried(topic).map_err(|error| unfit(&error))?;
    let group = match keyring.route(topic) {
        Route::Group(group) => group,
        Route::Behind(why) => return Err(Unsent::NoKeyYet(why)),
        _ => {
            let text = format!("no group covers {topic}: create a group with a filter that matches it");
            return Err(Unsent::Refused(Why::new(Cause::NoGroup, text)));
        }
    };
    let deletes = *retain && payload.is_empty();
    let content = Content {
        purpose: if deletes { Purpose::Tombstone } else { Purpose::Message },
        class: QosClass::Acknowledged,
        retain: *retain && !deletes,
        props,
        payload,
    };
    let mut frames = vec![Frame { retain: content.retain, payload: keyring.seal(group, topic, &content, now_ms)? }];
    if deletes {
        frames.push(Frame { retain: true, payload: Vec::new() });
    }
    let mut writes: Vec<Write> = Write::sent(keyring, group, topic, &content, now_ms).into_iter().collect();
    if *retain {
        let payload = Zeroizing::new(payload.to_vec());
        let kept = Retained { topic: topic.to_owned(), time_ms: now_ms, props: props.to_vec(), payload };
        retained.keep(&kept).map_err(|error| Unsent::Refused(error.into()))?;
        writes.push(Write::Retained(kept));
    }
    if let Some((original, at_ms)) = recorded {
        let last = keyring.last_sequence(group, topic).unwrap_or(0);
        writes.extend(Write::readings(record, topic, original, last, *at_ms));
    }
    Ok(Step::new(writes, frames))
}

fn unfit(error: &dyn Display) -> Unsent {
    Unsent::Refused(Why::new(Cause::TopicUnfit, error.to_string()))
}

/// Seals a retained message of `group` once more, under the group's current epoch.
///
/// # Errors
/// It may not be sealed, or not yet.
pub fn sealed_again(
    keyring: &mut Keyring,
    group: GroupNumber,
    kept: &Retained,
    now_ms: u64,
) -> Result<Step<Write, Frame>, Unsent> {
    let Retained { topic, time_ms, props, payload } = kept;
    let purpose = Purpose::Reseal { sealed_ms: *time_ms };
    let content = Content { purpose, class: QosClass::Acknowledged, retain: true, props, payload };
    let payload = keyring.seal(group, topic, &content, now_ms)?;
    Ok(Step::new(Vec::new(), vec![Frame { retain: true, payload }]))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use sealcast_reading::{Decoder, InputConfig, PlainConfig};
    use sealcast_seal::{HandOver, Opener};

    use super::*;
    use crate::{
        Arrival, ByFilter, Received, RecordTable,
        testing::{START_MS, World},
        values::ValueRules,
    };

    const TOPIC: &str = "plant/pump/alarm";

    struct Scene {
        world: World,
        group: GroupNumber,
        keyring: Keyring,
        retained: RetainedTopics,
        record: RecordRules,
    }

    impl Scene {
        /// A member of a group at epoch 1, whose readings go to the ledger.
        fn new() -> Self {
            let (mut world, group) = World::with_group(2);
            world.commit(group, 0);
            let mut keyring = world.keyring(0, world.ledger.replica().clone());
            let sync = keyring.begin_sync();
            assert!(keyring.set_caught_up(sync));
            keyring.insert_epoch(&world.keys(group, 0, 1, &[0, 1]), START_MS);
            let decoder = Decoder::new(InputConfig::Number(PlainConfig::default())).unwrap();
            let table = RecordTable { decimals: Some(1), decoder: decoder.clone() };
            let tables = ByFilter::new(vec![("plant/#".parse().unwrap(), table)]);
            let record = RecordRules::new(tables, Arc::new(ValueRules::default()), decoder);
            Self { world, group, keyring, retained: RetainedTopics::default(), record }
        }

        fn step(&mut self, topic: &str, message: &Own) -> Result<Step<Write, Frame>, Unsent> {
            let Self { keyring, retained, record, .. } = self;
            own_message(keyring, retained, record, topic, message, START_MS)
        }

        /// What the message was sealed to, and what was written before.
        fn send(&mut self, topic: &str, message: &Own) -> (Vec<u8>, Vec<Write>) {
            let mut written = Vec::new();
            (one(self.step(topic, message).unwrap(), &mut written), written)
        }
    }

    fn done(step: Step<Write, Frame>, written: &mut Vec<Write>) -> Vec<Frame> {
        let effects = step.commit(|writes| {
            written.extend_from_slice(writes);
            Ok::<_, ()>(())
        });
        effects.unwrap()
    }

    fn one(step: Step<Write, Frame>, written: &mut Vec<Write>) -> Vec<u8> {
        let [Frame { payload, .. }] = <[Frame; 1]>::try_from(done(step, written)).unwrap();
        payload
    }

    fn live() -> Arrival {
        Arrival { hand_over: HandOver::Acknowledged { dup: false }, retain: false, away: None, copy: false }
    }

    fn alarm(retain: bool, recorded: bool) -> Own {
        let recorded = recorded.then(|| ("21.46".into(), START_MS));
        Own { retain, props: Default::default(), payload: "too warm".into(), recorded }
    }

    #[test]
    fn what_a_message_leaves_is_on_disk_before_it() {
        let mut scene = Scene::new();
        let (frame, written) = scene.send(TOPIC, &alarm(true, true));
        assert!(!frame.windows(8).any(|part| part == b"too warm"));
        let [Write::Retained(kept), Write::Readings { values, last: 0, .. }] = written.as_slice() else {
            panic!("{written:?}")
        };
        assert_eq!((kept.topic.as_str(), kept.payload.as_slice(), values.len()), (TOPIC, b"too warm".as_slice(), 1));
        assert_eq!(scene.send(TOPIC, &alarm(false, false)).1, []);
    }

    #[test]
    fn an_empty_message_follows_its_tombstone_and_forgets_what_was_kept() {
        let mut scene = Scene::new();
        scene.send(TOPIC, &alarm(true, false));
        let mut written = Vec::new();
        let frames = done(scene.step(TOPIC, &Own::empty()).unwrap(), &mut written);
        let [tombstone, Frame { retain: true, payload }] = &frames[..] else { panic!("{frames:?}") };
        assert_eq!((tombstone.retain, payload.as_slice()), (false, &b""[..]));
        let opened = scene.keyring.open(&mut Opener::new(), scene.group, TOPIC, &tombstone.payload, live(), START_MS);
        assert!(matches!(opened, Ok(Received::Deleted(_))), "{opened:?}");
        assert!(matches!(written.as_slice(), [Write::Retained(kept)] if kept.payload.is_empty()), "{written:?}");
        assert!(scene.retained.iter().next().is_none());
    }

    #[test]
    fn only_topics_of_groups_and_only_with_the_groups_key() {
        let mut scene = Scene::new();
        let long = format!("plant/{}", "x".repeat(65_536));
        for topic in ["elsewhere", "open/door", "sealcast/x", "plant/+", &long] {
            let refused = scene.step(topic, &alarm(true, false));
            assert!(matches!(refused, Err(Unsent::Refused(_))), "{refused:?}");
        }
        assert!(scene.retained.iter().next().is_none());
        // The ledger is at an epoch whose key this device has not got yet.
        scene.world.commit(scene.group, 1);
        let record = scene.world.ledger.records().last().unwrap();
        scene.keyring.replica_mut().apply(record).unwrap();
        let kept = Retained { topic: TOPIC.into(), time_ms: 1, props: Vec::new(), payload: b"off".to_vec().into() };
        for waits in
            [scene.step(TOPIC, &alarm(true, false)), sealed_again(&mut scene.keyring, scene.group, &kept, START_MS)]
        {
            assert!(matches!(waits, Err(Unsent::NoKeyYet(_))), "{waits:?}");
        }
    }

    #[test]
    fn a_retained_message_that_is_sealed_again_is_nothing_new_to_a_client_that_had_it() {
        let mut scene = Scene::new();
        scene.send(TOPIC, &alarm(true, false));
        let kept =
            Retained { topic: TOPIC.into(), time_ms: START_MS, props: Vec::new(), payload: b"off".to_vec().into() };
        let mut written = Vec::new();
        let step = sealed_again(&mut scene.keyring, scene.group, &kept, START_MS).unwrap();
        let frame = one(step, &mut written);
        assert_eq!(written, []);
        let open = |retain| {
            let hand_over = HandOver::Acknowledged { dup: false };
            let arrival = Arrival { hand_over, retain, away: None, copy: false };
            scene.keyring.open(&mut Opener::new(), scene.group, TOPIC, &frame, arrival, START_MS).unwrap()
        };
        assert!(matches!(open(true), Received::Message(message) if message.payload() == b"off"));
        assert!(matches!(open(false), Received::Repeated));
    }
}
