//! The newest summaries about one subject, bounded.

use std::collections::VecDeque;

use super::event::{Event, Summary};

/// How many summaries a history keeps of records about devices, groups and keys.
const CONTROL_KEPT: usize = 64;
/// How many summaries a history keeps of readings and anchors.
const DATA_KEPT: usize = 16;

/// The newest summaries about one subject.
#[derive(Debug, Clone, Default)]
pub(super) struct History {
    control: VecDeque<Summary>,
    data: VecDeque<Summary>,
}

impl History {
    pub(super) fn push(&mut self, summary: Summary) {
        let (queue, kept) = match summary.event {
            Event::Reading { .. } | Event::Anchored { .. } => (&mut self.data, DATA_KEPT),
            _ => (&mut self.control, CONTROL_KEPT),
        };
        if queue.len() == kept {
            queue.pop_front();
        }
        queue.push_back(summary);
    }

    pub(super) fn in_order(&self) -> Vec<&Summary> {
        let mut all: Vec<_> = self.all().collect();
        all.sort_by_key(|summary| summary.index);
        all
    }

    /// In no order.
    pub(super) fn all(&self) -> impl Iterator<Item = &Summary> {
        self.control.iter().chain(&self.data)
    }
}
