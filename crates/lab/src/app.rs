//! The experiment's applications: ordinary MQTT clients that know nothing of Sealcast.

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use bytes::Bytes;
use sealcast_mqtt::{
    Connect, Credentials, Properties, Qos, Text, TopicName, Version,
    client::{self, Config, Outcome, Output},
};
use sealcast_node::{connection, upstream::Upstream};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::timeout,
};

/// How long anything in the experiment may take before it counts as not happening. It is long for a computer that has
/// other work as well; nothing waits for it in vain when all is well.
pub const PATIENCE: Duration = Duration::from_secs(120);

const CONFIG: Config = Config {
    max_packet_bytes: 1 << 20,
    receive_maximum: 100,
    max_in_flight: 100,
    max_queued: 64,
    max_queued_bytes: 1 << 20,
    connect_patience: PATIENCE,
    ping_patience: PATIENCE,
};
const KEEP_ALIVE_S: u16 = 30;

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
    requests: mpsc::Sender<Request>,
    messages: mpsc::UnboundedReceiver<Message>,
    task: JoinHandle<()>,
}

enum Request {
    Publish(client::Message, Told),
    Subscribe(String, Told),
}

/// Whoever waits for the broker's answer. If the connection ends before it, this end is dropped.
type Told = oneshot::Sender<Result<()>>;
type Connection = connection::Connection<Told, Told>;

impl App {
    /// Connects as `client_id`.
    pub async fn connect(upstream: &Upstream, client_id: &str) -> Result<Self> {
        let opened = timeout(PATIENCE, open(upstream, client_id)).await;
        let connection = opened
            .unwrap_or_else(|_| bail!("no connection within {} s", PATIENCE.as_secs()))
            .with_context(|| format!("{client_id} at {upstream}"))?;
        let (requests, receiver) = mpsc::channel(64);
        let (sender, messages) = mpsc::unbounded_channel();
        Ok(Self { requests, messages, task: tokio::spawn(drive(connection, receiver, sender)) })
    }

    /// Subscribes with QoS 1 and waits until the broker has said so.
    pub async fn subscribe(&mut self, filter: &str) -> Result<()> {
        let subscribed = async {
            let (told, answer) = oneshot::channel();
            self.ask(Request::Subscribe(filter.to_owned(), told)).await?;
            answered(answer).await
        };
        timeout(PATIENCE, subscribed).await.context("no SUBACK in time")?
    }

    /// Publishes with QoS 1 and waits for the acknowledgement.
    pub async fn publish(&mut self, topic: &str, retain: bool, payload: &[u8]) -> Result<()> {
        let published = async { answered(self.send(topic, retain, payload.to_vec()).await?).await };
        timeout(PATIENCE, published).await.context("no PUBACK in time")?
    }

    /// Publishes all with QoS 1 in that order, and waits for the last acknowledgement.
    pub async fn publish_all(&mut self, topic: &str, payloads: &[Vec<u8>], patience: Duration) -> Result<()> {
        let work = async {
            let mut answers = Vec::with_capacity(payloads.len());
            for payload in payloads {
                answers.push(self.send(topic, false, payload.clone()).await?);
            }
            for answer in answers {
                answered(answer).await?;
            }
            Ok(())
        };
        timeout(patience, work).await.context("messages were not acknowledged in time")?
    }

    async fn send(&self, topic: &str, retain: bool, payload: Vec<u8>) -> Result<oneshot::Receiver<Result<()>>> {
        let message = client::Message {
            topic: TopicName::new(topic)?,
            qos: Qos::AtLeastOnce,
            retain,
            properties: Properties::new(),
            payload: payload.into(),
        };
        let (told, answer) = oneshot::channel();
        self.ask(Request::Publish(message, told)).await?;
        Ok(answer)
    }

    async fn ask(&self, request: Request) -> Result<()> {
        self.requests.send(request).await.ok().context("the connection has ended")
    }

    /// The next message; `None` when the connection has ended.
    pub async fn recv(&mut self) -> Option<Message> {
        self.messages.recv().await
    }

    /// The next message, or `None` if there is none within `patience`.
    pub async fn next(&mut self, patience: Duration) -> Option<Message> {
        timeout(patience, self.recv()).await.ok().flatten()
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answered(answer: oneshot::Receiver<Result<()>>) -> Result<()> {
    answer.await.context("the connection ended before the broker's answer")?
}

async fn open(upstream: &Upstream, client_id: &str) -> Result<Connection> {
    let Credentials { username, password } = upstream.credentials()?.unwrap_or_default();
    let connect = Connect::new(Version::V311, Text::new(client_id)?);
    let connect = Connect { keep_alive_s: KEEP_ALIVE_S, username, password, ..connect };
    let mut connection = Connection::new(upstream.connect().await?, connect, CONFIG)?;
    match connection.next().await {
        Output::Connected(_) => Ok(connection),
        Output::Closed(reason) => bail!("{reason}"),
        other => bail!("{other:?} before the connection"),
    }
}

/// Until the connection ends, or the application does.
async fn drive(
    mut connection: Connection,
    mut requests: mpsc::Receiver<Request>,
    messages: mpsc::UnboundedSender<Message>,
) {
    loop {
        let room = connection.has_room();
        tokio::select! {
            output = connection.next() => match output {
                Output::Message(publish, receipt) => {
                    let Some(topic) = publish.topic else { continue };
                    let (topic, retain) = (topic.as_str().to_owned(), publish.retain);
                    if messages.send(Message { topic, payload: publish.payload, retain }).is_err() {
                        return;
                    }
                    receipt.into_iter().for_each(|receipt| connection.client().acknowledge(receipt));
                }
                Output::Published(told, Outcome::Taken) => drop(told.send(Ok(()))),
                Output::Published(told, Outcome::Refused(reason)) => drop(told.send(Err(anyhow!("refused: {reason}")))),
                Output::Subscribed(told, results) => {
                    let refused = results.into_iter().find_map(Result::err);
                    drop(told.send(refused.map_or(Ok(()), |reason| Err(anyhow!("refused: {reason}")))));
                }
                Output::Closed(_) => return,
                Output::Published(..) | Output::Connected(_) | Output::Unsubscribed(..) | Output::Pong(_) => {}
            },
            Some(request) = requests.recv(), if room => {
                let rejected = match request {
                    Request::Publish(message, told) => connection.client().publish(&message, told),
                    Request::Subscribe(filter, told) => {
                        connection.client().subscribe(&[(&filter, Qos::AtLeastOnce)], told)
                    }
                };
                if let Err(rejected) = rejected {
                    drop(rejected.token.send(Err(rejected.error.into())));
                }
            }
        }
    }
}
