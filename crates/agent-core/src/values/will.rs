//! What is sealed of a client's will.

use bytes::Bytes;
use sealcast_mqtt::{RefuseCode, WillRequest};
use sealcast_quality::{Action, Checker, Input};
use sealcast_reading::NamedReading;

use super::{
    Values,
    findings::blocked_by,
    marks,
    publish::{Blocked, document, unreadable},
};
use crate::Cause;

/// What is sealed of a will.
#[derive(Debug, PartialEq)]
pub struct Will {
    /// The payload, converted if the topic's messages are.
    pub payload: Bytes,
    /// The encoded properties.
    pub props: Bytes,
}

impl Values {
    /// What is to be sealed of a client's will. Nobody knows what will have been before it, so it is judged as a first
    /// reading is, says nothing of checks, and leaves no trace.
    ///
    /// # Errors
    /// Why it may not be left with the broker.
    pub fn will(&self, will: &WillRequest, now_ms: u64) -> Result<Will, Blocked> {
        let mut props = marks::parse(&will.sealed_properties).map_err(|error| Blocked::malformed(&error))?;
        let topic = will.topic.as_str();
        let quality = self.rules.quality.find(topic).filter(|rules| rules.has_checks());
        let format = self.rules.publish(topic);
        let mut payload = will.payload.clone();
        // An empty retained message deletes what the broker keeps: it is no value.
        if (quality.is_some() || format.is_some()) && !(will.retain && payload.is_empty()) {
            let format = format.unwrap_or(&self.plain);
            let records = format.decoder.decode(&payload, now_ms).map_err(|error| unreadable(&error))?;
            let document = document(quality, &payload);
            let mut checker = Checker::new(self.rules.quality.clone(), now_ms);
            let (document, expected) = (document.as_ref(), format.decoder.expects());
            for NamedReading { name, reading } in &records {
                let verdict = checker.handle_reading(&Input { topic, name, reading, document, expected }, now_ms);
                if verdict.action() == Action::Block {
                    let code = RefuseCode::ImplementationSpecific;
                    let summary = blocked_by(&verdict);
                    return Err(Blocked { cause: Cause::Blocked, code, reason: verdict.to_string(), summary });
                }
            }
            if let Some(encoder) = &format.encoder {
                payload = encoder.encode(&records).map_err(|error| unreadable(&error))?.into();
                marks::set_type(&mut props, encoder.media_type());
            }
            if records.iter().all(|record| record.reading.is_empty()) {
                marks::add(&mut props, marks::EMPTY, "1");
            }
        }
        Ok(Will { payload, props: props.encode().unwrap_or_default() })
    }
}
