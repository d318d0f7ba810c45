//! When the control task has to look at the series of what this device sends: not for each message.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use anyhow::Result;
use sealcast_agent_core::{SeriesState, session::Write};
use sealcast_ledger::GroupNumber;
use tokio::sync::Notify;

/// See the module.
pub struct SeriesNews {
    every: u64,
    /// Of the groups that have something new: after how many messages more they are looked at.
    left: Mutex<BTreeMap<GroupNumber, u64>>,
    news: Notify,
}

impl SeriesNews {
    /// A series is looked at when it has its first new message, and when it has `every`.
    pub fn new(every: u64) -> Self {
        Self { every, left: Mutex::default(), news: Notify::new() }
    }

    /// These are on disk.
    pub fn note(&self, writes: &[Write]) {
        let groups =
            writes.iter().filter_map(|write| if let Write::Sent { group, .. } = write { Some(*group) } else { None });
        let mut left = None;
        for group in groups {
            let left = left.get_or_insert_with(|| self.left());
            match left.get_mut(&group) {
                None => {
                    left.insert(group, self.every.saturating_sub(1));
                    self.news.notify_one();
                }
                Some(0) => {}
                Some(more) => {
                    *more -= 1;
                    if *more == 0 {
                        self.news.notify_one();
                    }
                }
            }
        }
    }

    /// What `read` gives of the disk. Whoever notes something meanwhile is heard afterwards.
    pub fn list(&self, read: impl FnOnce() -> Result<Vec<SeriesState>>) -> Result<Vec<SeriesState>> {
        let mut left = self.left();
        let series = read()?;
        let new = series.iter().filter(|series| series.new > 0);
        *left = new.map(|series| (series.group, self.every.saturating_sub(series.new))).collect();
        Ok(series)
    }

    /// Resolves when a series has to be looked at.
    pub async fn news(&self) {
        self.news.notified().await;
    }

    fn left(&self) -> MutexGuard<'_, BTreeMap<GroupNumber, u64>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
