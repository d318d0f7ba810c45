//! Between one agent and the hub's broker, in the hub's place: carries everything, keeps the ledger's newest entries to itself, as a
//! hub would that hides a revocation from one device, shows another ledger, or repeats an old word of the operator.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use sealcast_identity::SigningKey;
use sealcast_ledger::{Hash, LedgerId, Record};
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
    forks: AtomicBool,
    replays: AtomicBool,
    /// Of each record that was carried: its time and head, as they were shown.
    shown: Mutex<BTreeMap<u64, (u64, Hash)>>,
    /// The operator's first word.
    word: Mutex<Option<Vec<u8>>>,
    words: AtomicUsize,
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
            withholds: AtomicBool::default(),
            forks: AtomicBool::default(),
            replays: AtomicBool::default(),
            shown: Mutex::default(),
            word: Mutex::default(),
            words: AtomicUsize::default(),
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

    /// Shows entries from now on as if their blocks were of a second later: a ledger that verifies, and is another one.
    pub fn fork(&self) {
        self.liar.forks.store(true, Ordering::SeqCst);
    }

    /// Gives the operator's first word in the place of each one from now on.
    pub fn replay(&self) {
        self.liar.replays.store(true, Ordering::SeqCst);
    }

    /// How many words of the operator have passed.
    pub fn words(&self) -> usize {
        self.liar.words.load(Ordering::SeqCst)
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
        let Some(publish) = control_message(&frame) else {
            agent.write_all(&frame.into_bytes()).await?;
            continue;
        };
        let is_record = publish.topic.as_ref().unwrap().as_str() == "sealcast/v1/ledger";
        if is_record && liar.withholds.load(Ordering::SeqCst) {
            if publish.qos == Qos::AtLeastOnce {
                let puback = Ack::success(AckKind::Puback, publish.packet_id.unwrap());
                hub.write_all(&puback.encode(Version::V5).unwrap()).await?;
                hub.flush().await?;
            }
            continue;
        }
        agent.write_all(&liar.change(publish).encode(Version::V5).unwrap()).await?;
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
    fn change(&self, mut publish: Publish) -> Publish {
        match publish.topic.as_ref().unwrap().as_str() {
            "sealcast/v1/ledger" => {
                publish.payload = self.show(Record::decode(&publish.payload).unwrap()).encode().into();
                publish
            }
            "sealcast/v1/head" => {
                self.words.fetch_add(1, Ordering::SeqCst);
                let first = self.word.lock().unwrap().get_or_insert_with(|| publish.payload.to_vec()).clone();
                if self.replays.load(Ordering::SeqCst) {
                    publish.payload = first.into();
                }
                publish
            }
            _ => self.change_answer(publish),
        }
    }

    /// A record as the agent is shown it, always in the same way.
    fn show(&self, record: Record) -> Record {
        let mut shown = self.shown.lock().unwrap();
        let before = record.index.checked_sub(1).and_then(|before| shown.get(&before).copied());
        let (time_s, head) = *shown.entry(record.index).or_insert_with(|| match before {
            Some((before_s, previous)) if self.forks.load(Ordering::SeqCst) => {
                let time_s = before_s.max(record.time_s) + 1;
                (time_s, Record::next_head(&previous, record.index, time_s, &record.entry, &self.ledger))
            }
            _ => (record.time_s, record.head),
        });
        Record { time_s, head, ..record }
    }

    /// An answer to "what does the ledger have from here on?" says what this side shows: nothing more, or other records. It is
    /// signed as the hub would.
    fn change_answer(&self, mut publish: Publish) -> Publish {
        // `1 | length | chain | signature | answer`, see `AnswerSigner`.
        let mut rest = publish.payload.get(1..).unwrap_or_default();
        let mut chain = part(&mut rest);
        let mut certificates = Vec::new();
        while !chain.is_empty() {
            certificates.push(part(&mut chain).to_vec());
        }
        let Some(Ok(mut answer)) = rest.get(64..).map(serde_json::from_slice::<Value>) else { return publish };
        if let Some(records) = answer.pointer_mut("/result/records") {
            let withholds = self.withholds.load(Ordering::SeqCst);
            let given: Vec<Value> = match records.as_array() {
                Some(records) if !withholds => records.iter().map(|record| self.show_in_answer(record)).collect(),
                _ => Vec::new(),
            };
            *records = json!(given);
            let signer = AnswerSigner::new(self.ledger, self.key.clone(), &certificates);
            publish.payload = signer.sign(&self.node, answer.to_string().as_bytes()).unwrap().into();
        }
        publish
    }

    fn show_in_answer(&self, record: &Value) -> Value {
        let bytes = hex::decode(&record.as_str().unwrap()[2..]).unwrap();
        json!(format!("0x{}", hex::encode(self.show(Record::decode(&bytes).unwrap()).encode())))
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
