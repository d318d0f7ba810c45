//! The experiment's applications: ordinary MQTT clients that know nothing of Sealcast.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use rumqttc::{AsyncClient, Event, Incoming, MqttOptions, NetworkOptions, QoS};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::timeout,
};

use crate::tls::Upstream;

/// How long anything in the experiment may take before it counts as not happening. It is long for a computer that has
/// other work as well; nothing waits for it in vain when all is well.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A message that an application received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The topic.
    pub topic: String,
    /// The payload.
    pub payload: Bytes,
    /// Whether it came as the topic's retained message.
    pub retain: bool,
}

/// An MQTT 3.1.1 client, connected to an agent or straight to the broker.
pub struct App {
    client: AsyncClient,
    messages: mpsc::UnboundedReceiver<Message>,
    acks: watch::Receiver<Acks>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Acks {
    connected: bool,
    subscribed: u32,
    published: u32,
    failed: bool,
}

impl App {
    /// Connects as `client_id`.
    pub async fn connect(upstream: &Upstream, client_id: &str) -> Result<Self> {
        let mut options = MqttOptions::new(client_id, upstream.host(), upstream.port());
        options.set_keep_alive(Duration::from_secs(30)).set_max_packet_size(1 << 20, 1 << 20);
        if let Some(config) = upstream.tls() {
            options.set_transport(rumqttc::Transport::tls_with_config(rumqttc::TlsConfiguration::Rustls(config)));
        }
        let (client, mut events) = AsyncClient::new(options, 64);
        let mut network = NetworkOptions::new();
        network.set_tcp_nodelay(true);
        events.set_network_options(network);
        let (message_sender, messages) = mpsc::unbounded_channel();
        let (ack_sender, acks) = watch::channel(Acks::default());
        let task = tokio::spawn(async move {
            loop {
                match events.poll().await {
                    Ok(Event::Incoming(Incoming::Publish(publish))) => {
                        let message =
                            Message { topic: publish.topic, payload: publish.payload, retain: publish.retain };
                        if message_sender.send(message).is_err() {
                            return;
                        }
                    }
                    Ok(Event::Incoming(Incoming::ConnAck(_))) => ack_sender.send_modify(|acks| acks.connected = true),
                    Ok(Event::Incoming(Incoming::SubAck(_))) => ack_sender.send_modify(|acks| acks.subscribed += 1),
                    Ok(Event::Incoming(Incoming::PubAck(_))) => ack_sender.send_modify(|acks| acks.published += 1),
                    Ok(_) => {}
                    Err(_) => {
                        ack_sender.send_modify(|acks| acks.failed = true);
                        return;
                    }
                }
            }
        });
        let mut app = Self { client, messages, acks, task };
        app.wait("a connection", |acks| acks.connected).await.with_context(|| format!("{client_id} at {upstream}"))?;
        Ok(app)
    }

    /// Subscribes with QoS 1 and waits until the broker has said so.
    pub async fn subscribe(&mut self, filter: &str) -> Result<()> {
        let before = self.acks.borrow().subscribed;
        self.client.subscribe(filter, QoS::AtLeastOnce).await?;
        self.wait("a SUBACK", |acks| acks.subscribed > before).await
    }

    /// Publishes with QoS 1 and waits for the acknowledgement.
    pub async fn publish(&mut self, topic: &str, retain: bool, payload: &[u8]) -> Result<()> {
        let before = self.acks.borrow().published;
        self.client.publish(topic, QoS::AtLeastOnce, retain, payload).await?;
        self.wait("a PUBACK", |acks| acks.published > before).await
    }

    /// Publishes all with QoS 1 in that order, and waits for the last acknowledgement.
    pub async fn publish_all(&mut self, topic: &str, payloads: &[Vec<u8>], patience: Duration) -> Result<()> {
        let before = self.acks.borrow().published;
        let wanted = before + u32::try_from(payloads.len())?;
        let work = async {
            for payload in payloads {
                self.client.publish(topic, QoS::AtLeastOnce, false, payload.clone()).await?;
            }
            let acks = self.acks.wait_for(|acks| acks.failed || acks.published >= wanted).await?;
            if acks.published < wanted {
                bail!("the connection ended before all were acknowledged");
            }
            Ok(())
        };
        timeout(patience, work).await.context("messages were not acknowledged in time")?
    }

    /// The next message; `None` when the connection has ended.
    pub async fn recv(&mut self) -> Option<Message> {
        self.messages.recv().await
    }

    /// The next message, or `None` if there is none within `patience`.
    pub async fn next(&mut self, patience: Duration) -> Option<Message> {
        timeout(patience, self.recv()).await.ok().flatten()
    }

    async fn wait(&mut self, what: &str, reached: impl Fn(&Acks) -> bool) -> Result<()> {
        let outcome = timeout(PATIENCE, self.acks.wait_for(|acks| acks.failed || reached(acks))).await;
        match outcome {
            Err(_) => bail!("no sign of {what} within {} s", PATIENCE.as_secs()),
            Ok(acks) if acks.as_ref().is_ok_and(|acks| reached(acks)) => Ok(()),
            Ok(_) => bail!("the connection ended before {what}"),
        }
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.task.abort();
    }
}
