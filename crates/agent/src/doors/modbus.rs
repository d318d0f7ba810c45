//! The Modbus TCP door: the agent is the client. It polls coils and registers and publishes what they say, and writes
//! coils and registers when a message says so.
//!
//! One connection and one task for each device or gateway: one that is away holds up none but itself. [`mod@line`] decides
//! what is asked, without sockets and clock; [`driver`] asks it. A command is the newest of its topic: those that it
//! overtook are not written, nor one that the device could not take in time.

mod driver;
mod faults;
mod line;
mod plan;
pub mod settings;
mod unit;
mod value;

use std::time::{Duration, Instant};

use bytes::Bytes;
use sealcast_mqtt::Text;
use sealcast_node::now_ms;
use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use self::{
    driver::News,
    faults::{About, Faults},
    line::{Line, WriteId},
    settings::{Modbus, Write},
    value::{Command, command},
};
use super::bus::{Bus, Item, Outgoing};

/// How long a reading waits for the broker.
const READING_AGE: Duration = Duration::from_secs(5);
/// Readings that wait to be published: so many, and twice all that is polled, since all of it can come at once.
const MIN_QUEUED: usize = 64;
/// Commands on their way to the line, which keeps the newest of each.
const MAX_COMMANDS: usize = 64;
const LISTEN_AGAIN: Duration = Duration::from_secs(3);

/// Polls and writes one device, or a gateway's units, until `stop`.
pub async fn serve(config: Modbus, bus: Bus, stop: CancellationToken) {
    let device = config.device.clone();
    let name = device.to_string();
    let polled: usize = config.units.iter().map(|unit| unit.reads.len()).sum();
    let line = Line::new(config, Instant::now());
    let (readings, queue) = mpsc::channel(MIN_QUEUED.max(2 * polled));
    let (commands, pending) = mpsc::channel(MAX_COMMANDS);
    let mut tasks = JoinSet::new();
    tasks.spawn(publish(name.clone(), queue, bus.clone()));
    for (id, write) in line.writes() {
        tasks.spawn(listen(name.clone(), id, write.clone(), bus.clone(), commands.clone()));
    }
    let tell = |line: &Line, news| match news {
        News::Reading(id, payload) => {
            let Some(read) = line.read(id) else { return };
            let message = Outgoing {
                topic: read.topic.clone(),
                payload: Bytes::from(payload),
                retain: read.retain,
                content_type: Text::new(read.encoder.media_type()).ok(),
            };
            if readings.try_send((Instant::now(), message)).is_err() {
                debug!(device = name, topic = %read.topic, "Modbus: a reading is dropped, because earlier ones still wait for the broker");
            }
        }
        News::Notice(notice) if notice.warn => warn!(device = name, about = notice.about, "Modbus: {}", notice.text),
        News::Notice(notice) => info!(device = name, about = notice.about, "Modbus: {}", notice.text),
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = driver::run(line, device, pending, tell) => {}
        // None of them ends before this one: it has panicked.
        _ = tasks.join_next() => {}
    }
    // Dropped with `tasks`, the others end too.
}

async fn publish(device: String, mut queue: mpsc::Receiver<(Instant, Outgoing)>, bus: Bus) {
    let mut faults = Faults::default();
    while let Some((read, message)) = queue.recv().await {
        // It would be sealed with the time of now, as if the device had just said it.
        if read.elapsed() > READING_AGE {
            continue;
        }
        let topic = message.topic.as_str().to_owned();
        let about = About::Read(topic.clone());
        match bus.publish(message).await {
            Ok(()) if faults.over(&about) => info!(device, topic, "Modbus: published again"),
            Ok(()) => {}
            Err(refused) => {
                let reason = refused.to_string();
                if faults.put(about, &reason) {
                    warn!(device, topic, reason, "Modbus: not published");
                }
            }
        }
    }
}

async fn listen(device: String, id: WriteId, write: Write, bus: Bus, commands: mpsc::Sender<(WriteId, Command)>) {
    loop {
        match bus.listen(write.topic.clone()).await {
            Ok(mut listener) => {
                while let Some(item) = listener.next().await {
                    let Item::Message(message) = item else { continue };
                    match command(&write, &message.payload, now_ms()) {
                        Ok(command) => {
                            if commands.send((id, command)).await.is_err() {
                                return;
                            }
                        }
                        Err(reason) => warn!(device, topic = %message.topic, reason, "Modbus: not written"),
                    }
                }
            }
            Err(refused) => warn!(device, topic = write.topic.as_str(), reason = %refused, "Modbus"),
        }
        tokio::time::sleep(LISTEN_AGAIN).await;
    }
}
