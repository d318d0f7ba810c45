//! An MQTT client of this process on its stream to a broker: [`Client`] decides, and this moves the bytes.
//!
//! The stream may be TCP, TLS or a pipe inside the process.

use std::convert::Infallible;

use anyhow::Result;
use bytes::BytesMut;
use sealcast_mqtt::{
    Connect,
    client::{Client, Config, Output},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf},
    time::{Instant, sleep_until, timeout_at},
};
use tracing::debug;

use crate::tls::Stream;

/// Bytes that are read, and gathered to be written, at a time.
const CHUNK: usize = 16 << 10;

/// See the module. `P` are the tokens of publishes, `R` those of other requests.
pub struct Connection<P, R> {
    client: Client<P, R>,
    reader: ReadHalf<Box<dyn Stream>>,
    writer: WriteHalf<Box<dyn Stream>>,
    input: BytesMut,
    output: Outgoing,
}

/// What is to be written.
#[derive(Default)]
struct Outgoing {
    bytes: BytesMut,
    /// Bytes were written that the stream may still hold back, as TLS does.
    held: bool,
    /// A write failed. What the broker has sent before, such as the reason, is still read.
    deaf: bool,
}

impl<P, R> Connection<P, R> {
    /// Sends CONNECT on a stream that has just been opened.
    ///
    /// # Errors
    /// If a field of `connect` is too long for MQTT.
    pub fn new(stream: Box<dyn Stream>, connect: Connect, config: Config) -> Result<Self> {
        let client = Client::new(connect, config, now())?;
        let (reader, writer) = tokio::io::split(stream);
        Ok(Self { client, reader, writer, input: BytesMut::new(), output: Outgoing::default() })
    }

    /// For requests. What they come to is written by [`Self::next`] and [`Self::hold`].
    pub fn client(&mut self) -> &mut Client<P, R> {
        &mut self.client
    }

    /// Whether one more message may be published.
    pub fn has_room(&mut self) -> bool {
        self.fill();
        self.client.has_room()
    }

    /// Asks for a sign of life behind what was requested before.
    pub fn ping(&mut self, token: R) -> bool {
        self.client.ping(token, now()).is_ok()
    }

    /// The next output. Nothing is lost if this is given up and called again. Behind [`Output::Closed`] there is none, and
    /// this waits for ever.
    pub async fn next(&mut self) -> Output<P, R> {
        loop {
            match self.client.poll_output() {
                Some(output) => return output,
                None => self.step().await,
            }
        }
    }

    /// Keeps the connection alive while its owner cannot take the next output.
    pub async fn hold(&mut self) -> Infallible {
        loop {
            self.step().await;
        }
    }

    /// Writes the last bytes, and lets the broker close the stream.
    pub async fn finish(mut self, deadline: Instant) {
        while !self.output.deaf && self.gather() {}
        see_off("broker", self.reader.unsplit(self.writer), &self.output.bytes, deadline).await;
    }

    /// Waits until something can be done, and does it.
    async fn step(&mut self) {
        if self.output.bytes.is_empty() {
            // One large message must not keep its memory for good.
            self.output.bytes = BytesMut::new();
        }
        self.fill();
        let wake = self.client.poll_timeout();
        let (reads, writes) = (self.client.wants_input(), self.output.has_work());
        // Writing ends by itself, because the broker must answer before more is sent. What has come counts before time that
        // has passed.
        tokio::select! {
            biased;
            () = self.output.write(&mut self.writer), if writes => {}
            read = read_some(&mut self.reader, &mut self.input), if reads => match read {
                Ok(0) => self.client.handle_eof(),
                Ok(_) => self.client.handle_input(&self.input.split(), now()),
                Err(error) => self.client.handle_broken(&error.to_string()),
            },
            () = sleep_until(wake.map_or_else(Instant::now, Instant::from_std)), if wake.is_some() => {
                self.client.handle_timeout(now());
            }
            else => std::future::pending().await,
        }
    }

    fn fill(&mut self) {
        while !self.output.deaf && self.output.bytes.len() < CHUNK && self.gather() {}
    }

    /// Takes one frame of the client's; `false` if it has none.
    fn gather(&mut self) -> bool {
        let frame = self.client.poll_transmit(now());
        frame.inspect(|frame| self.output.bytes.extend_from_slice(frame)).is_some()
    }
}

impl Outgoing {
    fn has_work(&self) -> bool {
        !self.deaf && (self.held || !self.bytes.is_empty())
    }

    async fn write(&mut self, writer: &mut (impl AsyncWrite + Unpin)) {
        let done = if self.bytes.is_empty() {
            let flushed = writer.flush().await;
            self.held = false;
            flushed
        } else {
            self.held = true;
            writer.write_buf(&mut self.bytes).await.map(drop)
        };
        if let Err(error) = done {
            debug!(%error, "writing to the broker");
            self.deaf = true;
        }
    }
}

async fn read_some(reader: &mut (impl AsyncRead + Unpin), into: &mut BytesMut) -> std::io::Result<usize> {
    into.reserve(CHUNK);
    reader.read_buf(into).await
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}

/// Writes the last bytes, says that they are the last, and reads until the other side has closed too.
///
/// A socket that is closed with bytes unread resets the connection, and the other side then drops what it has not read
/// yet: a broker the client's last messages, a client the reason why it is refused. It may also be writing, and read
/// nothing before that is taken from it; so both go on at a time.
pub async fn see_off(side: &'static str, stream: Box<dyn Stream>, last: &[u8], deadline: Instant) {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let write = async {
        writer.write_all(last).await?;
        writer.shutdown().await
    };
    let read = async {
        let mut sink = vec![0; CHUNK];
        while !matches!(reader.read(&mut sink).await, Ok(0) | Err(_)) {}
    };
    match timeout_at(deadline, async { tokio::join!(write, read).0 }).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(side, %error, "closing"),
        Err(_) => debug!(side, "it did not close its end in time"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use sealcast_mqtt::{
        Properties, Qos, Text, TopicName, Version,
        client::{CloseReason, Message, Reason},
    };
    use tokio::io::DuplexStream;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);
    const CONFIG: Config = Config {
        max_packet_bytes: 1000,
        receive_maximum: 4,
        max_in_flight: 4,
        max_queued: 4,
        max_queued_bytes: 1000,
        connect_patience: PATIENCE,
        ping_patience: PATIENCE,
    };
    const CONNACK: &[u8] = &[0x20, 2, 0, 0];

    fn connect(version: Version) -> (Connection<(), ()>, DuplexStream) {
        let (near, far) = tokio::io::duplex(64 << 10);
        let connect = Connect::new(version, Text::new("c").unwrap());
        (Connection::new(Box::new(near), connect, CONFIG).unwrap(), far)
    }

    /// A connection that the broker has accepted, which has read CONNECT.
    async fn connected() -> (Connection<(), ()>, DuplexStream) {
        let (mut connection, mut far) = connect(Version::V311);
        far.write_all(CONNACK).await.unwrap();
        assert!(matches!(connection.next().await, Output::Connected(_)));
        // 12 bytes of MQTT 3.1.1, and the client identifier.
        far.read_exact(&mut [0; 15]).await.unwrap();
        (connection, far)
    }

    #[tokio::test]
    async fn the_brokers_last_words_are_read_although_nothing_can_be_written() {
        let (mut connection, mut far) = connect(Version::V5);
        far.write_all(&[0x20, 3, 0, 0, 0, 0xE0, 1, 0x8B]).await.unwrap();
        drop(far);
        assert!(matches!(connection.next().await, Output::Connected(_)));
        let disconnected = CloseReason::Disconnected(Reason::new(0x8B));
        assert_eq!(connection.next().await, Output::Closed(disconnected));
    }

    #[tokio::test]
    async fn bytes_move_while_no_output_is_taken() {
        let (mut connection, mut far) = connected().await;
        let topic = TopicName::new("t").unwrap();
        let message =
            Message { topic, qos: Qos::AtLeastOnce, retain: false, properties: Properties::new(), payload: "p".into() };
        connection.client().publish(&message, ()).unwrap();
        let mut published = [0; 8];
        tokio::select! {
            never = connection.hold() => match never {},
            read = tokio::time::timeout(PATIENCE, far.read_exact(&mut published)) => drop(read.unwrap().unwrap()),
        }
        assert_eq!(published, [0x32, 6, 0, 1, b't', 0, 1, b'p']);
    }

    #[tokio::test]
    async fn the_end_waits_until_the_broker_has_read_everything() {
        let (mut connection, mut far) = connected().await;
        connection.client().disconnect(0);
        let broker = async {
            let mut last = Vec::new();
            far.read_to_end(&mut last).await.unwrap();
            // It may still be writing.
            far.write_all(&[0xD0, 0]).await.unwrap();
            drop(far);
            last
        };
        let (last, ()) = tokio::join!(broker, connection.finish(Instant::now() + PATIENCE));
        assert_eq!(last, [0xE0, 0]);
    }
}
