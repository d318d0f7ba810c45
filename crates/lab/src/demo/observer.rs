//! Somebody with a valid certificate who subscribes straight at the broker, and writes down what arrives where TLS ends.

use anyhow::{Context as _, Result, bail};
use sealcast_mqtt::{
    Connect, Frame, PacketId, PacketType, Properties, Publish, Qos, Splitter, Subscribe, SubscriptionOptions, Text,
    Version,
};
use sealcast_node::{now_ms, tls::Stream, upstream::Upstream};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use super::wire::{Capture, Direction};
use crate::app::PATIENCE;

const MAX_FRAME: usize = 1 << 20;
const VERSION: Version = Version::V311;

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
        let connect = Connect::new(VERSION, Text::new("observer")?);
        observer.send(&connect.encode()?).await?;
        observer.expect(PacketType::Connack).await?;
        let subscribe = Subscribe {
            packet_id: PacketId::new(1).context("a packet identifier")?,
            properties: Properties::new(),
            filters: filters
                .iter()
                .map(|filter| Ok((Text::new(filter)?, SubscriptionOptions::new(Qos::AtMostOnce))))
                .collect::<Result<_>>()?,
        };
        observer.send(&subscribe.encode(VERSION)?).await?;
        observer.expect(PacketType::Suback).await?;
        Ok(observer)
    }

    /// The next message on `topic`; others are passed over.
    pub async fn next(&mut self, topic: &str) -> Result<Publish> {
        loop {
            let frame = self.expect(PacketType::Publish).await?;
            let publish = Publish::parse(&frame, VERSION)?;
            if publish.topic.as_ref().is_some_and(|found| found.as_str() == topic) {
                return Ok(publish);
            }
        }
    }

    async fn send(&mut self, frame: &[u8]) -> Result<()> {
        self.capture.add(Direction::ToBroker, now_ms() * 1_000, frame);
        self.stream.write_all(frame).await?;
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
