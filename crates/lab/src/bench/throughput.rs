//! `sealcast bench throughput`: how many messages a second go all the way, from one client through its agent, the hub's
//! broker and another agent to another client, in a group that signs and in one that does not.
//!
//! A few thousand messages are on their way at a time: enough to keep everything busy, and not so many that the broker has
//! to drop one. Nothing is left out of what arrives: it is compared with what was sent, byte for byte.

use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use bytes::BytesMut;
use sealcast_ledger::Authenticity;
use sealcast_mqtt::{Packet, Properties, Publish, Qos, TopicName};
use sealcast_node::{
    output,
    tls::{Stream, Upstream},
};
use serde::Serialize;
use tokio::{io::AsyncWriteExt as _, sync::watch};

use super::{
    client::{CHUNK, VERSION, connect, read, subscribe},
    site::Site,
};

const PAYLOAD_BYTES: usize = 100;
/// Messages that are on their way at most.
const WINDOW: usize = 8_000;

/// What one mode reached.
#[derive(Debug, Serialize)]
struct Row {
    mode: &'static str,
    messages: u32,
    /// In the best round.
    messages_per_s: f64,
    /// Compared with the group that does not sign.
    of_group: f64,
}

/// The group of each mode, which covers the topics below its name.
const MODES: [(&str, Authenticity); 2] = [("group", Authenticity::Group), ("signed", Authenticity::Signature)];

/// Sends so many messages in each round.
pub async fn run(messages: u32, rounds: u8, json: bool) -> Result<()> {
    let mut site = Site::new(2).await?;
    site.enrol().await?;
    site.start_agents().await?;
    for (name, authenticity) in MODES {
        site.make_group(name, authenticity, &[0, 1]).await?;
    }
    let [sender, receiver] = site.nodes.as_slice() else { bail!("two nodes") };
    let mut best = [0.0_f64; MODES.len()];
    for _ in 0..rounds {
        for ((name, _), best) in MODES.iter().zip(&mut best) {
            let rate = round(&sender.local()?, &receiver.local()?, &format!("{name}/line"), messages).await?;
            *best = best.max(rate);
        }
    }
    site.stop().await?;
    let [group, _] = best;
    let rows: Vec<Row> = MODES
        .iter()
        .zip(best)
        .map(|((mode, _), rate)| Row {
            mode,
            messages,
            messages_per_s: rate.round(),
            of_group: (rate / group * 100.0).round() / 100.0,
        })
        .collect();
    if json {
        return output::json(&rows);
    }
    let cells: Vec<[String; 3]> = rows
        .iter()
        .map(|row| [row.mode.to_owned(), format!("{:.0}", row.messages_per_s), format!("{:.2}", row.of_group)])
        .collect();
    output::table(["MODE", "MESSAGES/s", "OF GROUP"], &cells)
}

/// Messages per second, from the first one's way out until the last one has arrived.
async fn round(sender: &Upstream, receiver: &Upstream, topic: &str, messages: u32) -> Result<f64> {
    let frames = frames(topic, messages)?;
    let frame_bytes = frames.len() / messages as usize;
    let mut receiver = connect(receiver, "receiver").await?;
    subscribe(&mut receiver, topic, Qos::AtMostOnce).await?;
    let sender = connect(sender, "sender").await?;
    let (arrived, arrivals) = watch::channel(0);
    let start = Instant::now();
    tokio::try_join!(send(sender, &frames, WINDOW * frame_bytes, arrivals), receive(receiver, &frames, arrived))?;
    Ok(f64::from(messages) / start.elapsed().as_secs_f64())
}

/// All messages as they are sent, and as they arrive: at QoS 0 nothing in them changes.
fn frames(topic: &str, messages: u32) -> Result<BytesMut> {
    let mut frames = BytesMut::new();
    for at in 0..messages {
        let mut payload = format!("{at:08}").into_bytes();
        payload.resize(PAYLOAD_BYTES, b'.');
        let publish = Publish {
            dup: false,
            qos: Qos::AtMostOnce,
            retain: false,
            topic: Some(TopicName::new(topic)?),
            packet_id: None,
            properties: Properties::new(),
            payload: payload.into(),
        };
        Packet::Publish(publish).put(VERSION, &mut frames)?;
    }
    Ok(frames)
}

/// Sends `frames`, with at most `window` bytes of them on their way.
async fn send(
    mut stream: Box<dyn Stream>,
    frames: &[u8],
    window: usize,
    mut arrivals: watch::Receiver<usize>,
) -> Result<()> {
    let mut sent = 0;
    while sent < frames.len() {
        let arrived = *arrivals.wait_for(|arrived| sent < arrived + window).await.context("the receiver has ended")?;
        let end = frames.len().min(arrived + window).min(sent + CHUNK);
        stream.write_all(frames.get(sent..end).unwrap_or_default()).await?;
        sent = end;
    }
    // The connection ends when all have arrived.
    arrivals.wait_for(|arrived| *arrived == frames.len()).await.context("the receiver has ended")?;
    Ok(())
}

/// Receives `frames` and tells how many bytes of them have arrived.
async fn receive(mut stream: Box<dyn Stream>, frames: &[u8], arrived: watch::Sender<usize>) -> Result<()> {
    let mut bytes = BytesMut::with_capacity(CHUNK);
    let mut rest = frames;
    while !rest.is_empty() {
        read(&mut stream, &mut bytes).await?;
        rest = rest.strip_prefix(bytes.as_ref()).context("other messages arrived than were sent")?;
        bytes.clear();
        arrived.send_replace(frames.len() - rest.len());
    }
    Ok(())
}
