//! Messages of a client that came together are sealed together: in a group that signs, one signature covers them all.
//!
//! A batch holds what was read and follows each other for one group. It is sealed once there is nothing more to read, or
//! it is full, or a message for elsewhere comes: no message waits for another one. One that is alone is signed alone.

use sealcast_ledger::GroupNumber;
use sealcast_mqtt::PublishRequest;
use sealcast_seal::{Content, MAX_BATCH, MAX_OVERHEAD_BATCH, Purpose};

use super::{
    Session, Shared, Write, class,
    state::{Batch, Publishing, Until},
};
use crate::{Denied, Now};

/// The length of the sealed properties takes so many bytes at most.
const MAX_LENGTH_BYTES: usize = 4;

impl Session {
    /// Adds a message that may be sealed to those that came right before it.
    pub(super) fn put_in_batch(
        &mut self,
        shared: &mut Shared<'_>,
        group: GroupNumber,
        publishing: Box<Publishing>,
        until: Until,
        now: Now,
    ) {
        // The broker takes it only if it is signed alone.
        let alone = !fits_batch(&publishing.request);
        if alone {
            self.seal_batch(shared, now);
        }
        let batch = self.batch.get_or_insert_with(|| Batch { group, messages: Vec::new() });
        batch.messages.push((publishing, until));
        if alone || batch.messages.len() == MAX_BATCH {
            self.seal_batch(shared, now);
        }
    }

    /// Seals the messages that were put together, and answers each of them in its order.
    pub(super) fn seal_batch(&mut self, shared: &mut Shared<'_>, now: Now) {
        let Some(Batch { group, messages }) = self.batch.take() else { return };
        let contents: Vec<_> = messages.iter().map(|(publishing, _)| content(&publishing.request)).collect();
        let frames = shared.keyring.seal_batch(group, &contents, now.unix_ms);
        for ((publishing, until), sealed) in messages.into_iter().zip(frames) {
            // A refusal may end the connection: what comes after it was never taken.
            if self.is_over() {
                return;
            }
            match sealed.and_then(|frame| self.note_sealed(shared, group, &publishing, now).map(|()| frame)) {
                Ok(frame) => self.answered(|proxy| proxy.seal_done(publishing.request.id, frame.into())),
                Err(denied) => self.deny_publish(shared, publishing, &denied, until, now),
            }
        }
    }

    /// Has written down what must be before a sealed message goes out.
    fn note_sealed(
        &mut self,
        shared: &mut Shared<'_>,
        group: GroupNumber,
        publishing: &Publishing,
        now: Now,
    ) -> Result<(), Denied> {
        let Publishing { request, original, .. } = publishing;
        if request.retain {
            self.keep(shared, request, now)?;
        }
        let (topic, content) = content(request);
        self.writes.extend(Write::sent(shared.keyring, group, topic, &content, now.unix_ms));
        let last = shared.keyring.last_sequence(group, topic).unwrap_or(0);
        self.writes.extend(Write::readings(shared.record, topic, original, last, now.unix_ms));
        Ok(())
    }
}

/// A message as it is sealed, with its topic.
fn content(request: &PublishRequest) -> (&str, Content<'_>) {
    let content = Content {
        purpose: Purpose::Message,
        class: class(request.qos),
        retain: request.retain,
        props: &request.sealed_properties,
        payload: &request.payload,
    };
    (request.topic.as_str(), content)
}

/// Whether the broker takes the message with the larger frame of a batch.
fn fits_batch(request: &PublishRequest) -> bool {
    let inside = request.sealed_properties.len() + request.payload.len();
    inside + MAX_LENGTH_BYTES + MAX_OVERHEAD_BATCH <= request.max_payload_bytes
}
