//! Who decides on the valve: an ordinary MQTT client that is told temperatures and gives commands.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Result, bail};
use sealcast_node::{now_ms, upstream::Upstream};
use tokio::{sync::watch, task::JoinHandle};

use crate::app::App;

/// From here on the valve is to be open, in °C.
pub const OPENS_AT: f64 = 25.0;
/// Below this it is to be shut.
const SHUTS_BELOW: f64 = 24.5;
/// What opens the valve.
const OPEN: &str = "on";
/// What shuts it.
const SHUT: &str = "off";

/// See the module.
pub struct Controller {
    told: Arc<Mutex<Vec<(u64, f64)>>>,
    task: JoinHandle<Result<()>>,
}

impl Controller {
    /// Connects to an agent; the valve is shut until a temperature says otherwise.
    ///
    /// `believed` has the temperature that it was told last.
    pub async fn start(
        agent: &Upstream,
        temperature: &str,
        valve: &'static str,
        believed: watch::Sender<f64>,
    ) -> Result<Self> {
        let mut app = App::connect(agent, "controller").await?;
        app.subscribe(temperature).await?;
        let told = Arc::new(Mutex::new(Vec::new()));
        let heard = told.clone();
        let task = tokio::spawn(async move {
            let mut open = false;
            while let Some(message) = app.recv().await {
                let Some(degrees) = std::str::from_utf8(&message.payload).ok().and_then(|text| text.parse().ok())
                else {
                    bail!("no temperature: {:?}", message.payload);
                };
                believed.send_replace(degrees);
                lock(&heard).push((now_ms(), degrees));
                open = degrees >= OPENS_AT || open && degrees >= SHUTS_BELOW;
                // Said each time: a command may be lost, and somebody else may have moved the valve.
                app.publish(valve, false, if open { OPEN } else { SHUT }.as_bytes()).await?;
            }
            bail!("the controller's connection has ended");
        });
        Ok(Self { told, task })
    }

    /// What it was told from `since_ms` on: Unix ms and °C.
    pub fn told(&self, since_ms: u64) -> Vec<(u64, f64)> {
        lock(&self.told).iter().copied().filter(|(time_ms, _)| *time_ms >= since_ms).collect()
    }

    /// Ends it; an error if it has ended before.
    pub async fn stop(self) -> Result<()> {
        self.task.abort();
        match self.task.await {
            Ok(outcome) => outcome,
            Err(_) => Ok(()),
        }
    }
}

fn lock(told: &Mutex<Vec<(u64, f64)>>) -> MutexGuard<'_, Vec<(u64, f64)>> {
    told.lock().unwrap_or_else(PoisonError::into_inner)
}
