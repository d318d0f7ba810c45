//! What the broker reads off a connection, and out of its journal.
//!
//! Input: 0 and a stream of packets, or 1 and a journal's properties.

use sealcast_broker_core::fuzz;
use sealcast_topic::{TopicName, check_filter, matches};

pub fn run(data: &[u8]) {
    match data {
        [0, stream @ ..] => {
            let count = fuzz::packets(stream, 4096);
            assert!(count <= stream.len() / 2);
        }
        [1, blob @ ..] => fuzz::journalled_properties(blob),
        [2, texts @ ..] => {
            let texts = String::from_utf8_lossy(texts);
            let (filter, topic) = texts.split_once('\n').unwrap_or((&texts, ""));
            let (filter_good, topic_good) = (check_filter(filter).is_ok(), TopicName::check(topic).is_ok());
            let matched = matches(filter, topic);
            if filter_good && topic_good && filter == topic {
                assert!(matched, "a topic matches itself");
            }
        }
        _ => {}
    }
}
