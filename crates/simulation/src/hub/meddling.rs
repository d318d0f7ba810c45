//! What a broker makes up that has been taken over.

use bytes::Bytes;
use sealcast_mqtt::{Properties, Publish, Qos, TopicName};

use super::Carried;
use crate::rng::Rng;

/// What a hostile broker makes of something that it has carried.
pub fn forged(carried: &Carried, rng: &mut Rng) -> Publish {
    let mut payload = carried.payload.to_vec();
    let mut topic = carried.topic.clone();
    match rng.below(5) {
        0 => topic = moved(&topic, rng),
        1 => payload.truncate(rng.place(payload.len())),
        2 => payload = format!("21.{:06}", rng.below(1_000)).into_bytes(),
        3 => payload.extend_from_slice(&rng.next().to_be_bytes()),
        _ => {
            let place = rng.place(payload.len());
            payload.get_mut(place).map(|byte| *byte ^= 1 << rng.below(8)).unwrap_or_default();
        }
    }
    publish(topic, payload.into(), rng)
}

/// The same as it was carried, perhaps with other flags.
pub fn replayed(carried: &Carried, rng: &mut Rng) -> Publish {
    publish(carried.topic.clone(), carried.payload.clone(), rng)
}

fn publish(topic: TopicName, payload: Bytes, rng: &mut Rng) -> Publish {
    let qos = [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce][rng.place(3)];
    let dup = qos != Qos::AtMostOnce && rng.once_in(2);
    Publish { dup, qos, retain: false, topic: Some(topic), packet_id: None, properties: Properties::new(), payload }
}

fn moved(topic: &TopicName, rng: &mut Rng) -> TopicName {
    let kinds = ["plain", "good", "hot", "warm", "live"];
    let name = format!("plant/{}/{}", rng.below(5), kinds[rng.place(kinds.len())]);
    TopicName::new(&name).unwrap_or_else(|_| topic.clone())
}
