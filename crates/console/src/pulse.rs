//! The console's own tasks.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use sealcast_broker::{Handle, Sighting};
use sealcast_node::Tasks;
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};

use crate::console::Console;

/// How often passing messages are told.
const BEAT: Duration = Duration::from_millis(100);
/// Beats from one look at everything to the next.
const BEATS: u32 = 10;
/// Messages that are taken together.
const BATCH: usize = 1024;
/// Above so many messages in such a time, the next ones wait for the end of it.
const MAX_PER_WINDOW: usize = 50;
const WINDOW: Duration = Duration::from_millis(10);
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

    /// Takes what the broker passes on. To be woken for each message would cost the broker more than the message does, so
    /// what is above [`MAX_PER_WINDOW`] messages in a [`WINDOW`] waits for the next.
    async fn listen(self: Arc<Self>, mut messages: mpsc::Receiver<Sighting>, tasks: Tasks) {
        let mut batch = Vec::with_capacity(BATCH);
        let (mut in_window, mut next) = (0, Instant::now() + WINDOW);
        loop {
            if in_window > MAX_PER_WINDOW {
                sleep_until(next).await;
            }
            if next <= Instant::now() {
                (in_window, next) = (0, Instant::now() + WINDOW);
            }
            let taken = tokio::select! {
                () = tasks.stop().cancelled() => return,
                taken = messages.recv_many(&mut batch, BATCH) => taken,
            };
            if taken == 0 {
                return tasks.stop().cancelled().await;
            }
            self.take(&batch);
            batch.clear();
            in_window += taken;
        }
    }
}
