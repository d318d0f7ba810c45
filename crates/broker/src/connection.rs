//! One client connection: frames in, packets out. Decoding and encoding happen here, all decisions in the core.

mod out;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::timeout;

use crate::core::ConnId;
use crate::reason;
use crate::server::{Event, Shared, Stranger};
use crate::tls::PeerCertificate;
use crate::wire::{self, Outgoing, Version, WireError};
use out::Out;

pub(crate) use out::ConnOut;

/// How long a client may take to close its end.
const FAREWELL: Duration = Duration::from_secs(1);
/// Packets are gathered up to this size before they are written.
const WRITE_BYTES: usize = 64 * 1024;

/// Serves a client until either side ends it.
pub(crate) async fn serve<S>(
    stream: S,
    certificate: Option<PeerCertificate>,
    stranger: Stranger,
    conn: ConnId,
    shared: Arc<Shared>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut buffer = BytesMut::with_capacity(4096);
    let max = shared.limits.max_packet_bytes;
    let Ok(Ok(Some((first, body)))) =
        timeout(shared.limits.connect_timeout, read_frame(&mut reader, &mut buffer, max, None)).await
    else {
        return;
    };
    let connect = match wire::decode_connect(first, body) {
        Ok(connect) => connect,
        Err(error) => {
            tracing::debug!(conn, "connection refused: {error}");
            if matches!(error, WireError::Version { .. } | WireError::ClientId) {
                let refusal = Outgoing::ConnAck { session_present: false, code: error.code(), properties: None };
                let mut out = BytesMut::new();
                wire::encode(error.answer_version(), &refusal, &mut out);
                let _ = timeout(FAREWELL, writer.write_all(&out)).await;
                see_off(&mut reader, &mut writer).await;
            }
            return;
        }
    };
    // The policy lets it stay or closes it at once: from here on it holds no place that a stranger could.
    drop(stranger);
    let version = connect.version;
    // MQTT 5, §3.1.2.10: one and a half times the keep-alive; 0 switches it off.
    let silence = (connect.keep_alive_s > 0).then(|| Duration::from_millis(u64::from(connect.keep_alive_s) * 1500));
    let (queue, packets) = mpsc::unbounded_channel();
    let out =
        Arc::new(ConnOut { queue, waiting: AtomicUsize::new(0), kill: Notify::new(), reads: watch::Sender::new(true) });
    let event =
        Event::Connect { conn, certificate: certificate.map(Box::new), connect: Box::new(connect), out: out.clone() };
    if shared.events.send(event).await.is_err() {
        return;
    }
    let told = tokio::select! {
        () = read_loop(&mut reader, buffer, version, silence, conn, &out, &shared) => false,
        told = write_loop(&mut writer, packets, version, &out, &shared) => told,
        () = out.kill.notified() => false,
    };
    let _ = shared.events.send(Event::Closed { conn }).await;
    if told {
        see_off(&mut reader, &mut writer).await;
    }
}

/// Says that no more comes and reads until the client has closed too. A socket that is closed with bytes unread resets the
/// connection, and the client would lose the reason that it was just told.
async fn see_off<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(reader: &mut R, writer: &mut W) {
    let mut sink = [0; 4096];
    let _ = timeout(FAREWELL, async {
        writer.shutdown().await?;
        while reader.read(&mut sink).await? > 0 {}
        std::io::Result::Ok(())
    })
    .await;
}

async fn read_loop<R: AsyncRead + Unpin>(
    reader: &mut R,
    mut buffer: BytesMut,
    version: Version,
    silence: Option<Duration>,
    conn: ConnId,
    out: &ConnOut,
    shared: &Shared,
) {
    let mut reads = out.reads.subscribe();
    let code = loop {
        // The client is not silent while nobody listens.
        let _ = reads.wait_for(|reads| *reads).await;
        let (first, body) = match read_frame(reader, &mut buffer, shared.limits.max_packet_bytes, silence).await {
            Ok(Some(frame)) => frame,
            Ok(None) => return,
            Err(Unread::Silent) => break reason::KEEP_ALIVE_TIMEOUT,
            Err(Unread::Wire(error)) => {
                tracing::debug!(conn, "packet refused: {error}");
                break error.code();
            }
        };
        let permit = shared.memory(body.len()).await;
        match wire::decode_packet(version, first, body) {
            Ok(packet) => {
                if shared.events.send(Event::Packet { conn, packet, _permit: permit }).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::debug!(conn, "packet refused: {error}");
                break error.code();
            }
        }
    };
    // The core answers with DISCONNECT and Close; the writer ends the connection.
    if shared.events.send(Event::Failed { conn, code }).await.is_ok() {
        std::future::pending::<()>().await;
    }
}

/// Why no packet could be read.
enum Unread {
    Wire(WireError),
    /// Nothing came for too long.
    Silent,
}

impl From<WireError> for Unread {
    fn from(error: WireError) -> Self {
        Self::Wire(error)
    }
}

/// The next packet: first byte and body. `None` at the end of the stream or when it breaks. No more than `silence` may pass
/// between two reads, not for the packet: a large one takes its time, and no ping can come before it has ended.
async fn read_frame<R: AsyncRead + Unpin>(
    reader: &mut R,
    buffer: &mut BytesMut,
    max: usize,
    silence: Option<Duration>,
) -> Result<Option<(u8, Bytes)>, Unread> {
    loop {
        if let Some((header, body)) = wire::frame_length(buffer, max)?
            && buffer.len() >= header + body
        {
            let mut frame = buffer.split_to(header + body).freeze();
            let body = frame.split_off(header);
            return Ok(frame.first().map(|first| (*first, body)));
        }
        buffer.reserve(4096);
        let read = reader.read_buf(buffer);
        let read = match silence {
            Some(silence) => timeout(silence, read).await.map_err(|_| Unread::Silent)?,
            None => read.await,
        };
        match read {
            Ok(0) | Err(_) => return Ok(None),
            Ok(_) => {}
        }
    }
}

/// Writes what the driver has for the client. Whether all of it was written and the driver wants the connection closed.
async fn write_loop<W: AsyncWrite + Unpin>(
    writer: &mut W,
    mut packets: mpsc::UnboundedReceiver<Out>,
    version: Version,
    out: &ConnOut,
    shared: &Shared,
) -> bool {
    let mut bytes = BytesMut::new();
    let mut open = true;
    while open {
        let Some(first) = packets.recv().await else { return false };
        let mut next = Some(first);
        let mut cost = 0;
        while let Some(item) = next {
            match item {
                Out::Packet(packet) => {
                    cost += packet.cost();
                    wire::encode(version, &packet, &mut bytes);
                }
                Out::Close => open = false,
            }
            next = if open && bytes.len() < WRITE_BYTES { packets.try_recv().ok() } else { None };
        }
        // Each write has its own patience: a large packet takes as long as it takes while the client reads.
        while !bytes.is_empty() {
            if !matches!(timeout(shared.limits.write_timeout, writer.write_buf(&mut bytes)).await, Ok(Ok(1..))) {
                return false;
            }
        }
        if !matches!(timeout(shared.limits.write_timeout, writer.flush()).await, Ok(Ok(()))) {
            return false;
        }
        if bytes.capacity() > 4 * WRITE_BYTES {
            // It was a large packet; its memory is not kept for the next one.
            bytes = BytesMut::new();
        }
        out.waiting.fetch_sub(cost, Ordering::Relaxed);
    }
    true
}
