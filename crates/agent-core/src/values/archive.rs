//! Archives: the points that the swinging doors let out become SenML messages on a topic of their own.
//!
//! They are written to disk together with the doors' state, before the messages that they came from are answered, and stay
//! there until the broker has acknowledged them. So each arrives at least once, whatever is killed or refused for a while;
//! one that arrives twice is the same point.

use sealcast_mqtt::Properties;
use sealcast_quality::{Archived, Marks};
use sealcast_reading::{ConfigError, Encoder, OutputConfig, Reading, Record, SenmlOutput};
use tracing::warn;

use super::{marks, rules::ValueRules, writes::ArchiveMessage};

/// Messages that wait on disk; what comes while there are so many is not archived.
const MAX_WAITING: u64 = 100_000;
/// Points in one message.
const MAX_POINTS: usize = 64;
/// SenML takes earlier times as relative to now (RFC 8428 §4.5.3): a clock that stands so is not set.
const FIRST_MS: u64 = (1 << 28) * 1_000;

/// Makes the messages, and counts those that wait on disk.
pub(super) struct Archives {
    encoder: Encoder,
    waiting: u64,
}

impl Archives {
    /// With so many that the last run left.
    pub fn new(waiting: u64) -> Result<Self, ConfigError> {
        Ok(Self { encoder: Encoder::new(OutputConfig::SenmlJson(SenmlOutput::default()))?, waiting })
    }

    /// The messages for `points`, as many as there is room for. They count as waiting from now on: never fewer wait than
    /// are counted, but for those that a write which failed has put on disk all the same.
    pub fn messages(&mut self, rules: &ValueRules, points: &[Archived]) -> Vec<ArchiveMessage> {
        let mut messages = Vec::new();
        for points in points.chunk_by(|a, b| a.topic == b.topic).flat_map(|points| points.chunks(MAX_POINTS)) {
            let Some(first) = points.first() else { continue };
            if self.waiting >= MAX_WAITING {
                warn!(
                    topic = first.topic,
                    "not archived, because {MAX_WAITING} archive messages already wait to be sent"
                );
                continue;
            }
            match self.message(rules, &first.topic, points) {
                Ok(message) => {
                    messages.push(message);
                    self.waiting += 1;
                }
                Err(error) => warn!(topic = first.topic, "not archived: {error}"),
            }
        }
        messages
    }

    fn message(&self, rules: &ValueRules, topic: &str, points: &[Archived]) -> Result<ArchiveMessage, String> {
        let record = |archived: &Archived| {
            let point = &archived.point;
            let (value, unit, time_ms) = (point.value.clone(), point.unit.clone(), Some(point.time_ms));
            let reading = Reading { value, unit, time_ms, sequence: None };
            Record { name: senml_name(topic, &archived.name), reading }
        };
        let records: Vec<_> = points.iter().map(record).collect();
        let payload = self.encoder.encode(&records).map_err(|error| error.to_string())?;
        let mut props = Properties::new();
        marks::add(&mut props, marks::ARCHIVE, "1");
        marks::set_type(&mut props, self.encoder.media_type());
        if rules.quality.find(topic).is_some_and(|rules| rules.has_checks()) {
            let all = points.iter().fold(Marks::NONE, |all, archived| Marks(all.0 | archived.point.marks.0));
            marks::add(&mut props, marks::CHECK, &marks::text(all));
        }
        let props = props.encode().map_err(|error| error.to_string())?;
        Ok(ArchiveMessage { topic: rules.archive_topic(topic), props, payload })
    }

    /// So many wait at most.
    pub fn waiting(&self) -> u64 {
        self.waiting
    }

    /// So many are no longer on disk.
    pub fn forgotten(&mut self, count: u64) {
        self.waiting = self.waiting.saturating_sub(count);
    }
}

/// SenML's name of a reading: its own, or that of its topic, with `_` for what a name may not have (RFC 8428 §4.5.1).
fn senml_name(topic: &str, name: &str) -> String {
    let name = if name.is_empty() { topic } else { name };
    let allowed = |c: char| if c.is_ascii_alphanumeric() || "-:./_".contains(c) { c } else { '_' };
    let name: String = name.chars().map(allowed).collect();
    let name = name.trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
    if name.is_empty() { "reading".to_owned() } else { name.to_owned() }
}

/// The device's reading with a time that SenML can carry.
pub(super) fn dated(reading: &Reading, now_ms: u64) -> Reading {
    Reading { time_ms: reading.time_ms.filter(|time_ms| *time_ms >= FIRST_MS).or(Some(now_ms)), ..reading.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_senml_names() {
        for (topic, name, expected) in [
            ("plant/1/temp", "", "plant/1/temp"),
            ("/plant/°C", "", "plant/_C"),
            ("t", "urn:dev:ow:10e2073a01080063", "urn:dev:ow:10e2073a01080063"),
            ("°", "", "reading"),
        ] {
            assert_eq!(senml_name(topic, name), expected);
        }
    }
}
