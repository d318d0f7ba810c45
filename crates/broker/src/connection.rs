//! One client connection: frames in, packets out. Decoding and encoding happen here, all decisions in the core.

mod out;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use sealcast_broker_core::{Cause, ConnId, Incoming, Outgoing, PeerCertificate};
use sealcast_mqtt::{Connect, Frame, ParseError, Version, reason};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::timeout;

use crate::server::{ServerEvent, Shared, Stranger};
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
    let first = read_frame(&mut reader, &mut buffer, Version::V5, shared.limits.max_packet_bytes, None);
    let Ok(Ok(Some(frame))) = timeout(shared.limits.connect_timeout, first).await else { return };
    let connect = match read_connect(&frame) {
        Ok(connect) => connect,
        Err(unfit) => {
            let code = Cause::Protocol;
            shared.note_refused(code);
            tracing::debug!(%code, conn, "connection refused: {unfit}");
            if let Some((version, code)) = unfit.answer() {
                let refusal = Outgoing::ConnAck { session_present: false, code, properties: None };
                let mut out = BytesMut::new();
                if refusal.put(version, &mut out).is_ok() {
                    let _ = timeout(FAREWELL, writer.write_all(&out)).await;
                }
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
    let event = ServerEvent::Connect {
        conn,
        certificate: certificate.map(Box::new),
        connect: Box::new(connect),
        out: out.clone(),
    };
    if shared.events.send(event).await.is_err() {
        return;
    }
    let told = tokio::select! {
        () = read_loop(&mut reader, buffer, version, silence, conn, &out, &shared) => false,
        told = write_loop(&mut writer, packets, version, &out, &shared) => told,
        () = out.kill.notified() => false,
    };
    let _ = shared.events.send(ServerEvent::Closed { conn }).await;
    if told {
        see_off(&mut reader, &mut writer).await;
    }
}

/// Why a CONNECT is of no use.
#[derive(Debug, thiserror::Error)]
enum UnfitConnect {
    #[error(transparent)]
    Unreadable(#[from] ParseError),
    #[error("the client leaves its identifier to the broker, but wants its session kept")]
    NoClientId,
}

impl UnfitConnect {
    /// In which version CONNACK says why, with which code. Other clients are not answered: what they speak is not known.
    fn answer(&self) -> Option<(Version, u8)> {
        match self {
            Self::Unreadable(error @ ParseError::Protocol { .. }) => {
                Some((error.answer_version(), error.reason_code()))
            }
            Self::Unreadable(_) => None,
            Self::NoClientId => Some((Version::V311, reason::CLIENT_IDENTIFIER_NOT_VALID)),
        }
    }
}

/// MQTT 5 lets every client leave its identifier to the broker, MQTT 3.1.1 those whose session ends with the connection
/// (§3.1.3.1 of each), MQTT 3.1 none.
fn read_connect(frame: &Frame) -> Result<Connect, UnfitConnect> {
    let connect = Connect::parse(frame)?;
    let fit = match connect.version {
        Version::V5 => true,
        Version::V311 => connect.clean_start || !connect.client_id.as_str().is_empty(),
        Version::V31 => !connect.client_id.as_str().is_empty(),
    };
    if fit { Ok(connect) } else { Err(UnfitConnect::NoClientId) }
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
        let frame = match read_frame(reader, &mut buffer, version, shared.limits.max_packet_bytes, silence).await {
            Ok(Some(frame)) => frame,
            Ok(None) => return,
            Err(Unread::Silent) => break reason::KEEP_ALIVE_TIMEOUT,
            Err(Unread::Unreadable(error)) => {
                tracing::debug!(code = %Cause::Protocol, conn, "packet refused: {error}");
                break error.reason_code();
            }
        };
        let permit = shared.memory(frame.bytes().len()).await;
        match Incoming::parse(&frame, version) {
            Ok(packet) => {
                if shared.events.send(ServerEvent::Packet { conn, packet, _permit: permit }).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::debug!(code = %Cause::Protocol, conn, "packet refused: {error}");
                break error.reason_code();
            }
        }
    };
    // The core answers with DISCONNECT and Close; the writer ends the connection.
    if shared.events.send(ServerEvent::Failed { conn, code }).await.is_ok() {
        std::future::pending::<()>().await;
    }
}

/// Why no packet could be read.
enum Unread {
    Unreadable(ParseError),
    /// Nothing came for too long.
    Silent,
}

impl From<ParseError> for Unread {
    fn from(error: ParseError) -> Self {
        Self::Unreadable(error)
    }
}

/// The next packet. `None` at the end of the stream or when it breaks. No more than `silence` may pass
/// between two reads, not for the packet: a large one takes its time, and no ping can come before it has ended.
async fn read_frame<R: AsyncRead + Unpin>(
    reader: &mut R,
    buffer: &mut BytesMut,
    version: Version,
    max: usize,
    silence: Option<Duration>,
) -> Result<Option<Frame>, Unread> {
    loop {
        if let Some(frame) = Frame::take(buffer, version, max)? {
            return Ok(Some(frame));
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
                    if let Err(error) = packet.put(version, &mut bytes) {
                        tracing::error!("connection closed: a packet for its client cannot be written: {error}");
                        return false;
                    }
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
