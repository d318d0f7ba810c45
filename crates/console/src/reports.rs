//! What the agents report of themselves.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use crate::model::{Alarm, Quality, Refusals, Totals};

/// A device's last report.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// When it came, Unix ms.
    pub at: u64,
    /// Messages sealed since its agent began.
    pub sealed: u64,
    /// Messages opened.
    pub opened: u64,
    /// Messages refused.
    pub refused: Vec<Refusals>,
    /// How its topics are.
    pub quality: Vec<Quality>,
    /// What it calls a person for.
    pub alarms: Vec<Alarm>,
}

/// The last report of each device. Whoever puts one in has made sure that it is the device's.
#[derive(Debug, Default)]
pub struct Reports(Mutex<BTreeMap<String, Report>>);

impl Reports {
    /// Takes a device's report in the place of its last one.
    pub fn put(&self, device: &str, report: Report) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(device.to_owned(), report);
    }

    /// A device's last report.
    pub fn of(&self, device: &str) -> Option<Report> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(device).cloned()
    }

    /// All of them.
    pub fn all(&self) -> BTreeMap<String, Report> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Adds up what all have sealed, opened and refused.
    pub fn sum(&self, totals: &mut Totals) {
        for report in self.0.lock().unwrap_or_else(PoisonError::into_inner).values() {
            totals.sealed = totals.sealed.saturating_add(report.sealed);
            totals.opened = totals.opened.saturating_add(report.opened);
            for refused in &report.refused {
                let count = totals.refused.entry(refused.code.clone()).or_default();
                *count = count.saturating_add(refused.count);
            }
        }
    }
}

impl Report {
    /// How many messages it refused.
    pub fn refused_count(&self) -> u64 {
        self.refused.iter().fold(0, |sum, refused| sum.saturating_add(refused.count))
    }
}
