//! Between one agent and the hub's broker, in the hub's place: carries everything, or keeps the ledger's newest entries to
//! itself, as a hub would that hides a revocation from one device.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use sealcast_identity::SigningKey;
use sealcast_ledger::LedgerId;
use sealcast_ledger_client::AnswerSigner;
use sealcast_mqtt::{Ack, AckKind, Frame, PacketType, Publish, Qos, Splitter, Version};
use sealcast_node::{
    KeyFiles, files,
    tls::{self, Identity, Stream},
    upstream::Upstream,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    runtime::Runtime,
};

use super::Hub;

const MAX_FRAME_BYTES: usize = 16 << 20;

/// See the module. Ends when dropped.
pub struct Relay {
    address: SocketAddr,
    liar: Arc<Liar>,
    _runtime: Runtime,
}

/// What a hub needs to hide entries from a node.
struct Liar {
    ledger: LedgerId,
    node: String,
    key: SigningKey,
    withholds: AtomicBool,
}

impl Relay {
    /// Carries, for the agent in `dir`, to `hub`, whose folder it has.
    pub fn start(dir: &Path, hub: &Hub) -> Self {
        tls::install_provider();
        let chain: Vec<Vec<u8>> = files::certificates(&dir.join("device.pem"))
            .unwrap()
            .iter()
            .map(|certificate| certificate.der().to_vec())
            .collect();
        let key = KeyFiles::default().read(&dir.join("device.key")).unwrap();
        let root = files::certificate(&dir.join("root.pem")).unwrap();
        let identity = Identity { chain: &chain, key: &key };
        let tls = tls::client(root.der(), Some(&identity)).unwrap();
        let upstream = Upstream::new(format!("localhost:{}", hub.mqtt_port()).parse().unwrap(), Some(tls));
        let liar = Arc::new(Liar {
            ledger: files::read(&hub.path().join("ledger.address")).unwrap().trim().parse().unwrap(),
            node: files::certificate(&dir.join("device.pem")).unwrap().common_name().to_owned(),
            key: KeyFiles::default().read(&hub.path().join("server.key")).unwrap(),
            withholds: AtomicBool::new(false),
        });

        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let lies = liar.clone();
        runtime.spawn(async move {
            while let Ok((agent, _)) = listener.accept().await {
                let (upstream, liar) = (upstream.clone(), lies.clone());
                tokio::spawn(async move {
                    // The agent connects again if the hub is away.
                    if let Ok(hub) = upstream.connect().await {
                        carry(agent, hub, &liar).await;
                    }
                });
            }
        });
        Self { address, liar, _runtime: runtime }
    }

    /// For the agent's `--upstream`.
    pub fn url(&self) -> String {
        format!("mqtt://{}", self.address)
    }

    /// Whether it withholds entries from now on.
    pub fn set_withholds(&self, withholds: bool) {
        self.liar.withholds.store(withholds, Ordering::SeqCst);
    }
}

/// Until either side closes.
async fn carry(mut agent: TcpStream, mut hub: Box<dyn Stream>, liar: &Liar) {
    let mut splitter = Splitter::new(MAX_FRAME_BYTES);
    let (mut up, mut down) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        let done = tokio::select! {
            read = agent.read(&mut up) => match read {
                Ok(count @ 1..) => hub.write_all(&up[..count]).await.and(hub.flush().await),
                _ => return,
            },
            read = hub.read(&mut down) => match read {
                Ok(count @ 1..) => {
                    splitter.feed(&down[..count]);
                    hand_down(&mut splitter, &mut agent, &mut hub, liar).await
                }
                _ => return,
            },
        };
        if done.is_err() {
            return;
        }
    }
}

async fn hand_down(
    splitter: &mut Splitter,
    agent: &mut TcpStream,
    hub: &mut Box<dyn Stream>,
    liar: &Liar,
) -> std::io::Result<()> {
    while let Some(frame) = splitter.next_frame().unwrap() {
        match control_message(&frame).filter(|_| liar.withholds.load(Ordering::SeqCst)) {
            Some(publish) if publish.topic.as_ref().unwrap().as_str() == "sealcast/v1/ledger" => {
                if publish.qos == Qos::AtLeastOnce {
                    let puback = Ack::success(AckKind::Puback, publish.packet_id.unwrap());
                    hub.write_all(&puback.encode(Version::V5).unwrap()).await?;
                    hub.flush().await?;
                }
            }
            Some(publish) => agent.write_all(&liar.without_records(publish).encode(Version::V5).unwrap()).await?,
            None => agent.write_all(&frame.into_bytes()).await?,
        }
    }
    Ok(())
}

/// A PUBLISH on the agent's own connection, which is of MQTT 5, on one of Sealcast's own topics.
fn control_message(frame: &Frame) -> Option<Publish> {
    if frame.packet() != PacketType::Publish {
        return None;
    }
    let publish = Publish::parse(frame, Version::V5).ok()?;
    publish.topic.as_ref()?.as_str().starts_with("sealcast/v1/").then_some(publish)
}

impl Liar {
    /// An answer to "what does the ledger have from here on?" says: nothing more. It is signed as the hub would.
    fn without_records(&self, mut publish: Publish) -> Publish {
        // `1 | length | chain | signature | answer`, see `AnswerSigner`.
        let mut rest = publish.payload.get(1..).unwrap_or_default();
        let mut chain = part(&mut rest);
        let mut certificates = Vec::new();
        while !chain.is_empty() {
            certificates.push(part(&mut chain).to_vec());
        }
        let Some(Ok(mut answer)) = rest.get(64..).map(serde_json::from_slice::<Value>) else { return publish };
        if let Some(records) = answer.pointer_mut("/result/records") {
            *records = json!([]);
            let signer = AnswerSigner::new(self.ledger, self.key.clone(), &certificates);
            publish.payload = signer.sign(&self.node, answer.to_string().as_bytes()).unwrap().into();
        }
        publish
    }
}

/// Takes off a part behind its length; if there is none, nothing, and nothing is left.
fn part<'a>(bytes: &mut &'a [u8]) -> &'a [u8] {
    let split =
        bytes.split_first_chunk().and_then(|(length, rest)| rest.split_at_checked(u16::from_be_bytes(*length).into()));
    let (part, rest) = split.unwrap_or_default();
    *bytes = rest;
    part
}
