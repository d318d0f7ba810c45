//! Messages from one client to others, and how long they take.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::{Buf as _, BufMut as _, BytesMut};
use sealcast_mqtt::{Frame, Packet, PacketId, PacketType, Properties, Publish, Qos, TopicName};
use sealcast_node::{tls::Stream, upstream::Upstream};
use tokio::{
    io::{AsyncWriteExt as _, ReadHalf, WriteHalf, split},
    sync::{mpsc, watch},
    task::JoinSet,
};

use super::super::client::{CHUNK, VERSION, connect, read, subscribe};

/// Messages that are on their way.
#[derive(Clone, Copy)]
struct Window {
    /// So many at most.
    size: usize,
    /// More are sent when so many may be.
    least: usize,
}

/// Enough to keep everything busy, and not so many that a queue is full. With a smaller `least` the publisher would be woken
/// for each few that arrived, and send in drips what a client writes as fast as TCP takes it.
const FULL_SPEED: Window = Window { size: 4_000, least: 1_000 };
/// A payload begins with its number and the time when it was sent, in ns since the measurement's start.
const STAMP_BYTES: usize = 16;

/// Who sends to whom, and what.
#[derive(Clone)]
pub struct Load {
    /// Where the publisher connects.
    pub publisher: Upstream,
    /// Where the subscribers connect.
    pub subscriber: Upstream,
    /// The topic.
    pub topic: String,
    /// QoS 0 or 1.
    pub qos: Qos,
    /// Bytes of a payload, at least [`STAMP_BYTES`].
    pub payload_bytes: usize,
    /// How many subscribers.
    pub subscribers: usize,
    /// How many messages the publisher sends.
    pub messages: usize,
}

impl Load {
    /// Sends all messages as fast as they are taken. Gives the time until all subscribers have all of them, and the publisher
    /// all acknowledgements.
    pub async fn at_full_speed(&self) -> Result<Duration> {
        let (ticks, pace) = mpsc::unbounded_channel();
        drop(ticks);
        self.run(pace, FULL_SPEED).await.map(|(took, _)| took)
    }

    /// Sends one message at a time, so many a second. Gives what each took until the subscriber had it, in ascending order.
    pub async fn at_rate(&self, per_second: u32) -> Result<Vec<Duration>> {
        let (ticks, pace) = mpsc::unbounded_channel();
        let messages = self.messages;
        // A thread's sleep is finer than the runtime's, which counts in ms.
        let clock = std::thread::spawn(move || {
            let start = Instant::now();
            for at in 0..messages {
                let then = Duration::from_secs_f64(at as f64 / f64::from(per_second));
                std::thread::sleep(then.saturating_sub(start.elapsed()));
                if ticks.send(()).is_err() {
                    return;
                }
            }
        });
        let run = self.run(pace, Window { size: messages, least: 1 }).await;
        let _ = clock.join();
        let (_, mut latencies) = run?;
        latencies.sort_unstable();
        Ok(latencies)
    }

    async fn run(&self, pace: mpsc::UnboundedReceiver<()>, window: Window) -> Result<(Duration, Vec<Duration>)> {
        ensure!(self.payload_bytes >= STAMP_BYTES, "a payload has at least {STAMP_BYTES} bytes");
        let mut streams = Vec::new();
        for at in 0..self.subscribers {
            let mut stream = connect(&self.subscriber, &format!("subscriber-{at}")).await?;
            subscribe(&mut stream, &self.topic, self.qos).await?;
            streams.push(stream);
        }
        let (publisher, acks) = {
            let (reader, writer) = split(connect(&self.publisher, "publisher").await?);
            (writer, reader)
        };
        let start = Instant::now();
        let mut arrivals = Vec::new();
        let mut receiving = JoinSet::new();
        for stream in streams {
            let (sender, receiver) = watch::channel(0);
            arrivals.push(receiver);
            receiving.spawn(receive(stream, self.messages, start, sender));
        }
        let (acknowledged, acknowledgements) = watch::channel(0);
        let acknowledging = count_acks(acks, if self.qos == Qos::AtMostOnce { 0 } else { self.messages }, acknowledged);
        let sending = self.send(publisher, start, pace, window, arrivals, acknowledgements);
        tokio::try_join!(sending, acknowledging)?;
        let mut latencies = Vec::new();
        while let Some(received) = receiving.join_next().await {
            latencies.extend(received.context("a subscriber")??);
        }
        Ok((start.elapsed(), latencies))
    }

    /// Sends all messages, at each tick of `pace` one; when that has ended, as many as the window lets through.
    async fn send(
        &self,
        mut writer: WriteHalf<Box<dyn Stream>>,
        start: Instant,
        mut pace: mpsc::UnboundedReceiver<()>,
        window: Window,
        mut arrivals: Vec<watch::Receiver<usize>>,
        mut acknowledged: watch::Receiver<usize>,
    ) -> Result<()> {
        let mut bytes = BytesMut::new();
        let mut sent = 0;
        while sent < self.messages {
            let paced = pace.recv().await.is_some();
            let has_room = |done: &usize| sent + window.least <= done + window.size;
            for arrived in &mut arrivals {
                arrived.wait_for(has_room).await.context("a subscriber has ended")?;
            }
            if self.qos != Qos::AtMostOnce {
                acknowledged.wait_for(has_room).await.context("the publisher has ended")?;
            }
            let least = arrivals.iter().map(|arrived| *arrived.borrow()).min().unwrap_or(sent);
            while sent < self.messages && sent < least + window.size && bytes.len() < CHUNK {
                self.put(sent, start, &mut bytes)?;
                sent += 1;
                if paced {
                    break;
                }
            }
            writer.write_all(&bytes).await?;
            writer.flush().await?;
            bytes.clear();
        }
        // The connection ends when all have arrived.
        for arrived in &mut arrivals {
            arrived.wait_for(|arrived| *arrived == self.messages).await.context("a subscriber has ended")?;
        }
        if self.qos != Qos::AtMostOnce {
            acknowledged.wait_for(|acks| *acks == self.messages).await.context("the publisher has ended")?;
        }
        Ok(())
    }

    fn put(&self, number: usize, start: Instant, bytes: &mut BytesMut) -> Result<()> {
        let mut payload = BytesMut::with_capacity(self.payload_bytes);
        payload.put_u64(number as u64);
        payload.put_u64(start.elapsed().as_nanos() as u64);
        payload.resize(self.payload_bytes, b'.');
        let id = (self.qos != Qos::AtMostOnce).then(|| PacketId::new((number % 0xFFFF) as u16 + 1)).flatten();
        let publish = Publish {
            dup: false,
            qos: self.qos,
            retain: false,
            topic: Some(TopicName::new(&self.topic)?),
            packet_id: id,
            properties: Properties::new(),
            payload: payload.freeze(),
        };
        Ok(Packet::Publish(publish).put(VERSION, bytes)?)
    }
}

/// Receives so many messages, in their order, and acknowledges each. Gives how long each was on its way.
async fn receive(
    stream: Box<dyn Stream>,
    messages: usize,
    start: Instant,
    arrived: watch::Sender<usize>,
) -> Result<Vec<Duration>> {
    let (mut reader, mut writer) = split(stream);
    let (mut bytes, mut acks) = (BytesMut::new(), BytesMut::new());
    let mut latencies = Vec::with_capacity(messages);
    while latencies.len() < messages {
        read(&mut reader, &mut bytes).await?;
        let now = start.elapsed();
        while let Some(frame) = Frame::take(&mut bytes, VERSION, usize::MAX)? {
            let Packet::Publish(publish) = Packet::parse(&frame, VERSION)? else { bail!("{:?}", frame.packet()) };
            let mut payload = publish.payload;
            ensure!(payload.len() >= STAMP_BYTES, "another message arrived than was sent");
            let (number, sent) = (payload.get_u64(), Duration::from_nanos(payload.get_u64()));
            ensure!(number == latencies.len() as u64, "message {number} arrived in the place of {}", latencies.len());
            latencies.push(now.saturating_sub(sent));
            if let Some(id) = publish.packet_id {
                acks.put_slice(&[0x40, 2]);
                acks.put_u16(id.value());
            }
        }
        arrived.send_replace(latencies.len());
        writer.write_all(&acks).await?;
        writer.flush().await?;
        acks.clear();
    }
    Ok(latencies)
}

/// Counts so many PUBACKs.
async fn count_acks(mut reader: ReadHalf<Box<dyn Stream>>, expected: usize, count: watch::Sender<usize>) -> Result<()> {
    let mut bytes = BytesMut::new();
    let mut acks = 0;
    while acks < expected {
        read(&mut reader, &mut bytes).await?;
        while let Some(frame) = Frame::take(&mut bytes, VERSION, CHUNK)? {
            ensure!(frame.packet() == PacketType::Puback, "{:?} in the place of a PUBACK", frame.packet());
            acks += 1;
        }
        count.send_replace(acks);
    }
    Ok(())
}
