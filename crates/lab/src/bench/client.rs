//! A client of a benchmark: plain MQTT 3.1.1 on a stream, as little as there can be between the clock and the socket.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::BytesMut;
use sealcast_mqtt::{
    Connect, Frame, Packet, PacketId, PacketType, Properties, Qos, Subscribe, SubscriptionOptions, Text, Version,
};
use sealcast_node::{tls::Stream, upstream::Upstream};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

/// What all of them speak.
pub const VERSION: Version = Version::V311;
/// Bytes that are written, or read, at a time.
pub const CHUNK: usize = 64 << 10;
/// How long nothing may arrive.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A client that the broker, or the agent, has accepted.
pub async fn connect(upstream: &Upstream, client_id: &str) -> Result<Box<dyn Stream>> {
    let connect = Connect::new(VERSION, Text::new(client_id)?);
    let mut stream = upstream.connect().await?;
    ask(&mut stream, &Packet::Connect(Box::new(connect)), PacketType::Connack).await?;
    Ok(stream)
}

/// Subscribes to one filter.
pub async fn subscribe(stream: &mut Box<dyn Stream>, filter: &str, qos: Qos) -> Result<()> {
    let subscribe = Subscribe {
        packet_id: PacketId::new(1).context("1 is an identifier")?,
        properties: Properties::new(),
        filters: vec![(Text::new(filter)?, SubscriptionOptions::new(qos))],
    };
    ask(stream, &Packet::Subscribe(subscribe), PacketType::Suback).await
}

/// Reads what comes next, and appends it.
pub async fn read(stream: &mut (impl tokio::io::AsyncRead + Unpin), bytes: &mut BytesMut) -> Result<()> {
    bytes.reserve(CHUNK);
    let read = timeout(PATIENCE, stream.read_buf(bytes)).await.context("nothing came in time")??;
    ensure!(read > 0, "the connection was closed");
    Ok(())
}

/// Sends a packet and waits for the one that answers it.
async fn ask(stream: &mut Box<dyn Stream>, packet: &Packet, answer: PacketType) -> Result<()> {
    let mut bytes = BytesMut::new();
    packet.put(VERSION, &mut bytes)?;
    stream.write_all(&bytes).await?;
    stream.flush().await?;
    bytes.clear();
    loop {
        if let Some(frame) = Frame::take(&mut bytes, VERSION, CHUNK)? {
            ensure!(frame.packet() == answer && bytes.is_empty(), "{:?} instead of {answer:?}", frame.packet());
            return Ok(());
        }
        read(stream, &mut bytes).await?;
    }
}
