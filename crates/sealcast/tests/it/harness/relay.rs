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

const MAX_FRAME_BYTES: usize = 16 << 20;

/// See the module. Ends when dropped.
pub struct Relay {
    address: SocketAddr,
    withholds: Arc<AtomicBool>,
    _runtime: Runtime,
}

impl Relay {
    /// Carries, for the agent in `dir`, to the hub at `mqtt`.
    pub fn start(dir: &Path, mqtt: &str) -> Self {
        tls::install_provider();
        let chain: Vec<Vec<u8>> = files::certificates(&dir.join("device.pem"))
            .unwrap()
            .iter()
            .map(|certificate| certificate.der().to_vec())
            .collect();
        let key = KeyFiles::default().read(&dir.join("device.key")).unwrap();
        let root = files::certificate(&dir.join("root.pem")).unwrap();
        let identity = Identity { chain: &chain, key: &key };
        let port = mqtt.rsplit_once(':').unwrap().1;
        let tls = tls::client(root.der(), Some(&identity)).unwrap();
        let upstream = Upstream::new(format!("localhost:{port}").parse().unwrap(), Some(tls));

        let withholds = Arc::new(AtomicBool::new(false));
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let flag = withholds.clone();
        runtime.spawn(async move {
            while let Ok((agent, _)) = listener.accept().await {
                let (upstream, withholds) = (upstream.clone(), flag.clone());
                tokio::spawn(async move {
                    // The agent connects again if the hub is away.
                    if let Ok(hub) = upstream.connect().await {
                        carry(agent, hub, &withholds).await;
                    }
                });
            }
        });
        Self { address, withholds, _runtime: runtime }
    }

    /// For the agent's `--upstream`.
    pub fn url(&self) -> String {
        format!("mqtt://{}", self.address)
    }

    /// Whether it withholds entries from now on.
    pub fn set_withholds(&self, withholds: bool) {
        self.withholds.store(withholds, Ordering::SeqCst);
    }
}

/// Until either side closes.
async fn carry(mut agent: TcpStream, mut hub: Box<dyn Stream>, withholds: &AtomicBool) {
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
                    hand_down(&mut splitter, &mut agent, &mut hub, withholds.load(Ordering::SeqCst)).await
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
    withholds: bool,
) -> std::io::Result<()> {
    while let Some(frame) = splitter.next_frame().unwrap() {
        match control_message(&frame).filter(|_| withholds) {
            Some(publish) if publish.topic.as_ref().unwrap().as_str() == "sealcast/v1/ledger" => {
                if publish.qos == Qos::AtLeastOnce {
                    let puback = Ack::success(AckKind::Puback, publish.packet_id.unwrap());
                    hub.write_all(&puback.encode(Version::V5).unwrap()).await?;
                    hub.flush().await?;
                }
            }
            Some(publish) => agent.write_all(&without_records(publish).encode(Version::V5).unwrap()).await?,
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

/// An answer to "what does the ledger have from here on?" says: nothing more.
fn without_records(mut publish: Publish) -> Publish {
    if let Ok(mut answer) = serde_json::from_slice::<Value>(&publish.payload)
        && let Some(records) = answer.pointer_mut("/result/records")
    {
        *records = json!([]);
        publish.payload = answer.to_string().into();
    }
    publish
}
