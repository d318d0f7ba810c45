//! In front of somebody else's broker, in the attacker's hand: what the hub's own broker lets an [`Interceptor`] do.
//!
//! Hub, agents and applications connect here, over plain TCP, and are carried to that broker, with TLS, a WebSocket and the
//! login that it wants. Each PUBLISH on its way there can be changed or kept back. What the attacker makes up or plays again goes straight to the broker, by a client of its own.

use std::{net::SocketAddr, sync::Arc};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use sealcast_broker::{Intercepted, Interception, Interceptor};
use sealcast_mqtt::{Ack, AckKind, Connect, Credentials, Frame, PacketType, Publish, Qos, Splitter, Version};
use sealcast_node::upstream::Upstream;
use tokio::{
    io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tracing::debug;

const MAX_FRAME_BYTES: usize = 16 << 20;

/// See the module. Ends when it is dropped.
pub struct StandIn {
    /// Where it listens, without TLS.
    pub address: SocketAddr,
    _accepting: JoinSet<()>,
}

impl StandIn {
    /// Carries whoever connects to `broker`.
    pub async fn start(broker: Upstream, hand: Arc<dyn Interceptor>) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("no port for the stand-in")?;
        let address = listener.local_addr()?;
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, broker, hand));
        Ok(Self { address, _accepting: accepting })
    }
}

async fn accept(listener: TcpListener, broker: Upstream, hand: Arc<dyn Interceptor>) {
    let mut carried = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = carried.join_next(), if !carried.is_empty() => {}
            accepted = listener.accept() => {
                let Ok((client, _)) = accepted else { continue };
                let (broker, hand) = (broker.clone(), hand.clone());
                carried.spawn(async move {
                    // Both sides see a closed connection, and the client comes again.
                    if let Err(error) = carry(client, &broker, &*hand).await {
                        debug!("a connection through the stand-in ended: {error:#}");
                    }
                });
            }
        }
    }
}

/// Until either side closes.
async fn carry(mut client: TcpStream, broker: &Upstream, hand: &dyn Interceptor) -> Result<()> {
    client.set_nodelay(true)?;
    let login = broker.credentials()?;
    let mut broker = broker.connect().await?;
    let mut up = Up { splitter: Splitter::new(MAX_FRAME_BYTES), version: None, login };
    let (mut from_client, mut from_broker) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        tokio::select! {
            read = client.read(&mut from_client) => match read? {
                0 => return Ok(()),
                count => up.carry(&from_client[..count], &mut broker, &mut client, hand).await?,
            },
            read = broker.read(&mut from_broker) => match read? {
                0 => return Ok(()),
                count => client.write_all(&from_broker[..count]).await?,
            },
        }
    }
}

/// The way from a client to the broker.
struct Up {
    splitter: Splitter,
    /// Once the client has said it.
    version: Option<Version>,
    /// For the broker: the clients know none.
    login: Option<Credentials>,
}

impl Up {
    async fn carry(
        &mut self,
        bytes: &[u8],
        broker: &mut (impl AsyncWrite + Unpin + ?Sized),
        client: &mut TcpStream,
        hand: &dyn Interceptor,
    ) -> Result<()> {
        self.splitter.feed(bytes);
        while let Some(frame) = self.splitter.next_frame()? {
            if frame.packet() == PacketType::Connect {
                broker.write_all(&self.connect(&frame)?).await?;
                continue;
            }
            let Some((mut publish, version)) = self.publish(&frame) else {
                broker.write_all(&frame.into_bytes()).await?;
                continue;
            };
            match (touch(&mut publish, hand), publish.packet_id) {
                (Interception::Forward, _) => broker.write_all(&publish.encode(version)?).await?,
                // Its sender must not notice.
                (Interception::Drop, Some(id)) => {
                    client.write_all(&Ack::success(AckKind::Puback, id).encode(version)?).await?;
                }
                (Interception::Drop, None) => {}
            }
        }
        Ok(broker.flush().await?)
    }

    /// CONNECT with the broker's login.
    fn connect(&mut self, frame: &Frame) -> Result<Bytes> {
        let mut connect = Connect::parse(frame)?;
        self.version = Some(connect.version);
        if let Some(Credentials { username, password }) = self.login.take() {
            (connect.username, connect.password) = (username, password);
        }
        Ok(connect.encode()?)
    }

    /// A message that the attacker can have its hand on: at QoS 2, and under a topic alias, it lets it pass.
    fn publish(&self, frame: &Frame) -> Option<(Publish, Version)> {
        let version = self.version.filter(|_| frame.packet() == PacketType::Publish)?;
        let publish = Publish::parse(frame, version).ok()?;
        (publish.topic.is_some() && publish.qos != Qos::ExactlyOnce).then_some((publish, version))
    }
}

fn touch(publish: &mut Publish, hand: &dyn Interceptor) -> Interception {
    let Some(topic) = &publish.topic else { return Interception::Forward };
    let (topic, payload) = (topic.as_str().to_owned(), publish.payload.clone());
    let mut message = Intercepted { topic, payload, qos: publish.qos, retain: publish.retain };
    let outcome = hand.publish(None, &mut message);
    publish.payload = message.payload;
    outcome
}
