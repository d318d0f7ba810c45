//! The console's own tasks.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use sealcast_broker::{Handle, Received};
use sealcast_node::Tasks;
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval},
};

use crate::console::Console;

/// How often passing messages are told.
const BEAT: Duration = Duration::from_millis(100);
/// Beats from one look at everything to the next.
const BEATS: u32 = 10;
/// Messages that are taken together.
const BATCH: usize = 256;
/// Messages of the broker that wait. What comes beyond is not counted: the broker waits for nobody here.
const MAX_WAITING: usize = 8192;

impl Console {
    /// Runs until `tasks` end. `broker`: the hub's own, if it has one.
    pub async fn run(self: Arc<Self>, broker: Option<Handle>, tasks: Tasks) -> anyhow::Result<()> {
        if let Some(broker) = &broker {
            let messages = broker.tap(MAX_WAITING).await?;
            tasks.keep("the console's ear at the broker", self.clone().listen(messages, tasks.clone()));
        }
        tasks.beside("the console's reader of the ledger", self.clone().read_history());
        let mut beat = interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut beats, mut last) = (0, Instant::now());
        loop {
            tokio::select! {
                () = tasks.stop().cancelled() => return Ok(()),
                _ = beat.tick() => {}
            }
            self.tell_traffic();
            beats += 1;
            if beats < BEATS {
                continue;
            }
            beats = 0;
            if let Some(broker) = &broker {
                // The broker has stopped, and says why.
                let Ok(devices) = broker.connected().await else { continue };
                self.set_online(BTreeSet::from_iter(devices));
            }
            let now = Instant::now();
            self.tick(now.duration_since(last));
            last = now;
        }
    }

    async fn listen(self: Arc<Self>, mut messages: mpsc::Receiver<Received>, tasks: Tasks) {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let taken = tokio::select! {
                () = tasks.stop().cancelled() => return,
                taken = messages.recv_many(&mut batch, BATCH) => taken,
            };
            if taken == 0 {
                return tasks.stop().cancelled().await;
            }
            self.take(&batch);
            batch.clear();
        }
    }
}
