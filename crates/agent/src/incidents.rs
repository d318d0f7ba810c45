//! What did not get through lately, on disk: `sealcast why` reads it while the agent runs, and afterwards.

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result};
use sealcast_agent_core::{Incident, Incidents, Why, session::ClientEvent};
use sealcast_node::{files, now_ms};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

const FILE: &str = "refused.json";
/// More is none of ours.
const MAX_BYTES: usize = 4 << 20;
/// What comes together is written together.
const SOON: Duration = Duration::from_millis(300);
/// The file is written at most this often, however much is refused.
const PAUSE: Duration = Duration::from_secs(5);

/// See the module. The messages' own way never waits for this file.
pub struct Kept {
    file: PathBuf,
    incidents: Mutex<Incidents>,
    changed: Notify,
}

impl Kept {
    /// With what an earlier run left in `dir`.
    pub fn open(dir: &Path) -> Self {
        let before = read(dir).unwrap_or_else(|error| {
            warn!("{error:#}: the agent begins it anew");
            Vec::new()
        });
        Self { file: dir.join(FILE), incidents: Mutex::new(Incidents::new(before)), changed: Notify::new() }
    }

    /// Something was refused.
    pub fn note(&self, event: &ClientEvent) {
        self.incidents().note(event, now_ms());
        self.changed.notify_one();
    }

    /// Something is wrong with the ledger.
    pub fn note_alarm(&self, why: &Why) {
        self.incidents().note_alarm(why, now_ms());
        self.changed.notify_one();
    }

    /// Writes it down now and then, until `stop`.
    pub async fn keep(&self, stop: CancellationToken) {
        let pauses = async {
            loop {
                self.changed.notified().await;
                tokio::time::sleep(SOON).await;
                self.save();
                tokio::time::sleep(PAUSE).await;
            }
        };
        stop.run_until_cancelled(pauses).await;
    }

    /// Writes down what is new.
    pub fn save(&self) {
        let Some(incidents) = self.incidents().take_changes() else { return };
        let written = serde_json::to_vec(&incidents)
            .map_err(anyhow::Error::new)
            .and_then(|bytes| files::blocking(|| files::write(&self.file, &bytes, files::Mode::Secret)));
        if let Err(error) = written {
            debug!("what was refused cannot be kept: {error:#}");
        }
    }

    fn incidents(&self) -> MutexGuard<'_, Incidents> {
        self.incidents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the agent of the device in `dir` has refused, whether it runs or not.
pub fn read(dir: &Path) -> Result<Vec<Incident>> {
    let path = dir.join(FILE);
    if !path.try_exists().unwrap_or(true) {
        return Ok(Vec::new());
    }
    let bytes = files::read_bytes(&path, MAX_BYTES)?;
    serde_json::from_slice(&bytes).with_context(|| format!("{} cannot be read as what was refused", path.display()))
}
