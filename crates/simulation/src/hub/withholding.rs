//! A hub that shows a device less of the ledger than there is, as one would that hides a revocation from it.
//!
//! What it sends in the place of what is new is old and true: nothing of it can be refused.

use std::collections::BTreeMap;

use bytes::Bytes;
use sealcast_ledger::Record;
use sealcast_mqtt::{Frame, Publish, Version};
use sealcast_topic::ControlTopic;

/// See the module.
#[derive(Default)]
pub(super) struct Withholding(BTreeMap<usize, Shown>);

/// All that a device is shown.
struct Shown {
    records: u64,
    /// Sent instead of a later record.
    oldest: Option<Bytes>,
    /// Sent instead of a later word of the operator, if that is withheld too.
    word: Option<Bytes>,
}

impl Withholding {
    /// This device is shown no more records than these. What was withheld from it before stays withheld.
    pub fn begin(&mut self, device: usize, records: &[Record], word: Option<Bytes>) {
        let oldest = records.first().map(|record| record.encode().into());
        let shown = self.0.entry(device).or_insert(Shown { records: records.len() as u64, oldest, word: None });
        shown.word = shown.word.take().or(word);
    }

    /// Everybody is shown everything. Gives those that were not.
    pub fn end(&mut self) -> Vec<usize> {
        std::mem::take(&mut self.0).into_keys().collect()
    }

    /// How many records a device may have at most, from this one on.
    pub fn records_from(&self, device: Option<usize>, from: u64) -> usize {
        let left = self.shown(device).map(|shown| shown.records.saturating_sub(from));
        left.map_or(usize::MAX, |left| usize::try_from(left).unwrap_or(usize::MAX))
    }

    /// What a device gets in the place of this payload, if not the payload itself.
    pub fn payload(&self, device: Option<usize>, topic: &str, payload: &[u8]) -> Option<Bytes> {
        let shown = self.shown(device)?;
        match ControlTopic::parse(topic)? {
            ControlTopic::Ledger => {
                let record = Record::decode(payload).ok()?;
                shown.oldest.clone().filter(|_| record.index >= shown.records)
            }
            ControlTopic::Head => shown.word.clone(),
            _ => None,
        }
    }

    /// The same of a packet on the device's own connection.
    pub fn instead_of(&self, device: usize, packet: &[u8], version: Version) -> Option<Bytes> {
        self.shown(Some(device))?;
        let frame = Frame::from_bytes(Bytes::copy_from_slice(packet)).ok()?;
        let publish = Publish::parse(&frame, version).ok()?;
        let payload = self.payload(Some(device), publish.topic.as_deref()?, &publish.payload)?;
        Publish { payload, ..publish }.encode(version).ok()
    }

    fn shown(&self, device: Option<usize>) -> Option<&Shown> {
        self.0.get(&device?)
    }
}
