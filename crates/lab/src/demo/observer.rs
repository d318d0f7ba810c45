//! Somebody with a valid certificate who subscribes straight at the broker, and writes down what arrives where TLS ends.

use anyhow::{Context as _, Result, bail};
use sealcast_mqtt::{Frame, PacketType, Publish, Splitter, Version};
use sealcast_node::{
    now_ms,
    tls::{Stream, Upstream},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use super::wire::{Capture, Direction};
use crate::app::PATIENCE;

const MAX_FRAME: usize = 1 << 20;

/// The observer.
pub struct Observer {
    stream: Box<dyn Stream>,
    splitter: Splitter,
    /// Everything that went over its connection.
    pub capture: Capture,
}

impl Observer {
    /// Connects and subscribes to `filters` with QoS 0.
    pub async fn open(upstream: &Upstream, filters: &[&str]) -> Result<Self> {
        let stream = upstream.connect().await?;
        let mut observer = Self { stream, splitter: Splitter::new(MAX_FRAME), capture: Capture::new() };
        // CONNECT, MQTT 3.1.1, clean session, no keep alive (3.1): it sends nothing however long the experiment takes.
        let mut connect = b"\x00\x04MQTT\x04\x02\x00\x00".to_vec();
        connect.extend(text("observer")?);
        observer.send(0x10, &connect).await?;
        observer.expect(PacketType::Connack).await?;
        let mut subscribe = 1_u16.to_be_bytes().to_vec();
        for filter in filters {
            subscribe.extend(text(filter)?);
            subscribe.push(0);
        }
        observer.send(0x82, &subscribe).await?;
        observer.expect(PacketType::Suback).await?;
        Ok(observer)
    }

    /// The next message on `topic`; others are passed over.
    pub async fn next(&mut self, topic: &str) -> Result<Publish> {
        loop {
            let frame = self.expect(PacketType::Publish).await?;
            let publish = Publish::parse(&frame, Version::V311)?;
            if publish.topic.as_ref().is_some_and(|found| found.as_str() == topic) {
                return Ok(publish);
            }
        }
    }

    async fn send(&mut self, first: u8, body: &[u8]) -> Result<()> {
        let length = u8::try_from(body.len()).ok().filter(|length| *length < 128).context("a short frame")?;
        let mut frame = vec![first, length];
        frame.extend(body);
        self.capture.add(Direction::ToBroker, now_ms() * 1_000, &frame);
        self.stream.write_all(&frame).await?;
        Ok(self.stream.flush().await?)
    }

    async fn expect(&mut self, kind: PacketType) -> Result<Frame> {
        let mut chunk = vec![0; 4_096];
        loop {
            if let Some(frame) = self.splitter.next_frame()? {
                self.capture.add(Direction::ToClient, now_ms() * 1_000, frame.bytes());
                if frame.packet() == kind {
                    return Ok(frame);
                }
                continue;
            }
            match timeout(PATIENCE, self.stream.read(&mut chunk)).await {
                Err(_) => bail!("the broker did not send {kind:?}"),
                Ok(Ok(0)) => bail!("the broker closed the observer's connection"),
                Ok(read) => self.splitter.feed(chunk.get(..read?).unwrap_or_default()),
            }
        }
    }
}

/// An MQTT string: its length in two bytes, then itself.
fn text(text: &str) -> Result<Vec<u8>> {
    let length = u16::try_from(text.len())?;
    Ok([&length.to_be_bytes(), text.as_bytes()].concat())
}
