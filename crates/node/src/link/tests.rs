#![allow(clippy::unwrap_used)]

use std::{
    net::SocketAddr,
    sync::OnceLock,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use bytes::Bytes;
use sealcast_broker::{Attempt, Broker, BrokerConfig, Limits, ListenerConfig, Peer, Policy, PolicyRefusal, Running};
use sealcast_identity::{Root, SigningKey, TrustAnchor};
use sealcast_ledger::LedgerId;
use sealcast_ledger_client::AnswerSigner;
use sealcast_mqtt::{Frame, PacketType, Publish, Splitter, Version};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use sealcast_topic::Wire;

use super::*;
use crate::now_ms;

const PATIENCE: Duration = Duration::from_secs(120);

/// What is refused, and what is refused until it is granted.
#[derive(Default)]
struct Gate {
    granted: Arc<AtomicBool>,
}

impl Policy for Gate {
    fn connect(&self, _: &Attempt<'_>) -> Result<Peer, PolicyRefusal> {
        Ok("node".into())
    }

    fn may_publish(&self, _: &Peer, topic: &str) -> bool {
        !topic.contains("refused")
    }

    fn may_subscribe(&self, _: &str, filter: &str) -> bool {
        filter != "granted/#" || self.granted.load(Ordering::SeqCst)
    }
}

async fn broker() -> (Running, SocketAddr) {
    broker_with(Gate::default()).await
}

async fn broker_with(gate: Gate) -> (Running, SocketAddr) {
    broker_within(gate, Limits::default()).await
}

async fn broker_within(gate: Gate, limits: Limits) -> (Running, SocketAddr) {
    let listeners = vec![ListenerConfig::Tcp { addr: ([127, 0, 0, 1], 0).into() }];
    let config = BrokerConfig { listeners, data_dir: None, limits };
    let broker = Broker::start(config, Arc::new(gate), None).await.unwrap();
    let addr = broker.addrs()[0];
    (broker, addr)
}

fn open(addr: SocketAddr, node: &str, filters: &[&str]) -> (Link, mpsc::Receiver<LinkEvent>, Tasks) {
    let tasks = Tasks::default();
    let upstream = Upstream::new(addr.to_string().parse().unwrap(), None);
    let filters: Vec<String> = filters.iter().map(|filter| (*filter).to_owned()).collect();
    let (link, events) = Link::open(&upstream, node, &filters, Some(hub(node).1), &tasks).unwrap();
    (link, events, tasks)
}

/// A request, and what names it.
fn request() -> (CallId, Vec<u8>) {
    let id = CallId::random().unwrap();
    (id, format!(r#"{{"jsonrpc":"2.0","id":"{id}","method":"m"}}"#).into_bytes())
}

fn answer(id: CallId) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":"{id}","result":null}}"#)
}

/// The hub's signature, and what tells it for a node: of the same network each time.
fn hub(node: &str) -> (&'static AnswerSigner, AnswerVerifier) {
    static NETWORK: OnceLock<(AnswerSigner, TrustAnchor)> = OnceLock::new();
    const LEDGER: LedgerId = LedgerId { chain_id: 1, address: [1; 20] };
    let (signer, anchor) = NETWORK.get_or_init(|| {
        let life = Duration::from_secs(86_400);
        let root = Root::create("test", now_ms(), life).unwrap();
        let authority = root.create_authority("test", now_ms(), life).unwrap();
        let key = SigningKey::generate().unwrap();
        let issued = authority.issue_hub_client(key.public(), now_ms(), life).unwrap();
        let chain = issued.chain().map(|certificate| certificate.der().to_vec());
        let anchor = TrustAnchor::new(authority.root().clone()).unwrap();
        (AnswerSigner::new(LEDGER, key, &chain), anchor)
    });
    (signer, AnswerVerifier::new(LEDGER, node, anchor.clone()))
}

async fn next(events: &mut mpsc::Receiver<LinkEvent>) -> LinkEvent {
    timeout(PATIENCE, events.recv()).await.unwrap().unwrap()
}

#[tokio::test]
async fn what_the_broker_says_of_a_message_is_told_to_its_owner() {
    let (_broker, addr) = broker().await;
    let (link, mut events, _tasks) = open(addr, "node", &["taken/#"]);
    assert!(matches!(next(&mut events).await, LinkEvent::Up));
    let taken = link.publish_told("taken/a", false, b"1".to_vec()).unwrap();
    let refused = link.publish_told("refused/a", false, b"2".to_vec()).unwrap();
    let after = link.publish_told("taken/b", false, b"3".to_vec()).unwrap();
    assert_eq!(timeout(PATIENCE, taken).await.unwrap(), Ok(Ok(())));
    assert!(timeout(PATIENCE, refused).await.unwrap().unwrap().is_err());
    assert_eq!(timeout(PATIENCE, after).await.unwrap(), Ok(Ok(())));
    link.publish("taken/c", false, b"4".to_vec()).unwrap();
    let (mut messages, mut refusals, mut takings) = (Vec::new(), Vec::new(), Vec::new());
    while messages.len() < 3 || refusals.is_empty() || takings.is_empty() {
        match next(&mut events).await {
            LinkEvent::Taken { topic } => takings.push(topic),
            LinkEvent::Message { topic, payload, dup, .. } => messages.push((topic, payload, dup)),
            LinkEvent::Refused { topic, .. } => refusals.push(topic),
            other => panic!("{other:?}"),
        }
    }
    let message = |topic: &str, payload| (topic.to_owned(), Bytes::from_static(payload), Some(false));
    assert_eq!(messages, [message("taken/a", b"1"), message("taken/b", b"3"), message("taken/c", b"4")]);
    assert_eq!((refusals, takings), (vec!["refused/a".to_owned()], vec!["taken/c".to_owned()]));
}

#[tokio::test]
async fn what_the_broker_refused_is_asked_for_again_when_the_ledger_has_something_new() {
    let gate = Gate::default();
    let granted = gate.granted.clone();
    let (broker, addr) = broker_with(gate).await;
    let ledger = ControlTopic::Ledger.to_string();
    let (_link, mut events, _tasks) = open(addr, "node", &[&ledger, "granted/#"]);
    assert!(matches!(next(&mut events).await, LinkEvent::Up));
    let publish = async |topic: &str, retain| {
        broker.handle().publish(topic, "x", sealcast_broker::Qos::AtLeastOnce, retain).await.unwrap();
    };
    publish("granted/kept", true).await;
    for grant in [false, true] {
        granted.store(grant, Ordering::SeqCst);
        publish(&ledger, false).await;
        assert!(matches!(next(&mut events).await, LinkEvent::Message { topic, .. } if topic == ledger));
    }
    assert!(matches!(next(&mut events).await, LinkEvent::Message { topic, .. } if topic == "granted/kept"));
}

#[tokio::test]
async fn a_call_whose_request_is_refused_does_not_wait_for_its_answer() {
    let (_broker, addr) = broker().await;
    let (link, mut events, _tasks) = open(addr, "refused", &[]);
    assert!(matches!(next(&mut events).await, LinkEvent::Up));
    let (_, request) = request();
    let answer = link.call(request).await;
    assert!(matches!(answer, Err(LinkError::Refused(_))), "{answer:?}");
}

#[tokio::test]
async fn an_answer_is_the_hubs_and_the_calls_that_has_its_id() {
    let (broker, addr) = broker().await;
    let mut requests = broker.handle().subscribe(ControlTopic::Request { node: "+" }.to_string(), 8).await.unwrap();
    let (link, mut events, _tasks) = open(addr, "node", &[]);
    assert!(matches!(next(&mut events).await, LinkEvent::Up));
    let [(first, first_request), (second, second_request)] = [request(), request()];
    let answering = async {
        for request in [&first_request, &second_request] {
            let received = timeout(PATIENCE, requests.recv()).await.unwrap().unwrap();
            assert_eq!(received.payload, *request);
            assert!(received.properties.is_empty(), "{:?}", received.properties);
        }
        let topic = ControlTopic::Response { node: "node" }.to_string();
        let signed = |id| hub("node").0.sign("node", answer(id).as_bytes()).unwrap();
        let made_up = [b"garbage".to_vec(), answer(first).into_bytes(), hub("node").0.sign("1111", b"{}").unwrap()];
        for payload in made_up.into_iter().chain([CallId::random().unwrap(), second, first].map(signed)) {
            broker.handle().publish(&*topic, payload, sealcast_broker::Qos::AtLeastOnce, false).await.unwrap();
        }
    };
    let (first_answer, second_answer, ()) =
        tokio::join!(link.call(first_request.clone()), link.call(second_request.clone()), answering);
    assert_eq!(first_answer.unwrap(), answer(first).as_bytes());
    assert_eq!(second_answer.unwrap(), answer(second).as_bytes());
    assert!(matches!(link.call(b"no id".to_vec()).await, Err(LinkError::Unnamed)));
}

async fn accept(listener: &TcpListener) -> TcpStream {
    timeout(PATIENCE, listener.accept()).await.unwrap().unwrap().0
}

/// The hub answers whoever asks, with much more than was asked: a broker that takes nothing must not have it all kept.
#[tokio::test]
async fn what_waits_for_a_broker_that_takes_nothing_is_bounded() {
    const TRIES: usize = 1000;
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let (link, mut events, _tasks) = open(listener.local_addr().unwrap(), "node", &[]);
    for _ in 0..2 {
        let mute = Mute::accept(&listener).await;
        assert!(matches!(next(&mut events).await, LinkEvent::Up));
        let publish = |_: &usize| link.publish("t", false, vec![0; 1 << 20]);
        let taken = (0..TRIES).take_while(|at| publish(at).is_ok()).count();
        assert!((MAX_OUTGOING_BYTES >> 20..TRIES).contains(&taken), "{taken}");
        assert!(matches!(publish(&0), Err(LinkError::Busy)));
        drop(mute);
        assert!(matches!(next(&mut events).await, LinkEvent::Down(_)));
    }
}

/// A broker that takes connections and subscriptions, and answers nothing else.
struct Mute {
    stream: TcpStream,
    splitter: Splitter,
}

impl Mute {
    async fn accept(listener: &TcpListener) -> Self {
        let stream = accept(listener).await;
        let mut mute = Self::greeted(stream, &[0x20, 3, 0, 0, 0]).await;
        let subscribe = mute.read().await;
        assert_eq!(subscribe.packet(), PacketType::Subscribe);
        let id: [u8; 2] = *subscribe.content().first_chunk().unwrap();
        mute.stream.write_all(&[0x90, 4, id[0], id[1], 0, 1]).await.unwrap();
        mute
    }

    /// One that answers CONNECT in this way.
    async fn greeted(stream: TcpStream, connack: &[u8]) -> Self {
        let mut mute = Self { stream, splitter: Splitter::new(1 << 20) };
        assert_eq!(mute.read().await.packet(), PacketType::Connect);
        mute.stream.write_all(connack).await.unwrap();
        mute
    }

    async fn read(&mut self) -> Frame {
        loop {
            if let Some(frame) = self.splitter.next_frame().unwrap() {
                return frame;
            }
            let mut bytes = [0; 4096];
            let count = timeout(PATIENCE, self.stream.read(&mut bytes)).await.unwrap().unwrap();
            assert!(count > 0, "the link has closed its connection");
            self.splitter.feed(&bytes[..count]);
        }
    }

    async fn published(&mut self) -> Bytes {
        Publish::parse(&self.read().await, Version::V5).unwrap().payload
    }
}

#[tokio::test]
async fn what_a_cut_swallows_is_told_and_not_sent_again() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let (link, mut events, tasks) = open(listener.local_addr().unwrap(), "node", &[]);
    assert!(matches!(link.publish("t", false, Vec::new()), Err(LinkError::Down(_))), "not connected yet");
    let mut mute = Mute::accept(&listener).await;
    assert!(matches!(next(&mut events).await, LinkEvent::Up));

    let (_, request) = request();
    let calling = tokio::spawn({
        let (link, request) = (link.clone(), request.clone());
        async move { link.call(request).await }
    });
    assert_eq!(mute.published().await, request);
    // More than may be on their way at a time.
    let answers: Vec<_> = (0..1000).map(|_| link.publish_told("t", false, b"before".to_vec()).unwrap()).collect();
    assert_eq!(mute.published().await, "before");
    drop(mute);
    for answer in answers {
        assert!(timeout(PATIENCE, answer).await.unwrap().is_err());
    }
    let called = calling.await.unwrap();
    assert!(matches!(called, Err(LinkError::Down(_))), "{called:?}");
    assert!(matches!(next(&mut events).await, LinkEvent::Down(_)));

    let mut mute = Mute::accept(&listener).await;
    assert!(matches!(next(&mut events).await, LinkEvent::Up));
    link.publish("t", false, b"after".to_vec()).unwrap();
    assert_eq!(mute.published().await, "after");

    // Who ends says so.
    let (ended, last) = tokio::join!(tasks.end(PATIENCE), async {
        let last = mute.read().await;
        drop(mute);
        last
    });
    ended.unwrap();
    assert_eq!(last.packet(), PacketType::Disconnect);
}

/// As when a cluster has lost a node: the subscriptions are granted, and nothing comes.
#[tokio::test]
async fn after_a_call_without_an_answer_a_link_subscribes_again() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let (link, mut events, _tasks) = open(listener.local_addr().unwrap(), "node", &[]);
    let mut mute = Mute::accept(&listener).await;
    assert!(matches!(next(&mut events).await, LinkEvent::Up));
    link.unanswered.notify_one();
    let subscribe = mute.read().await;
    assert_eq!(subscribe.packet(), PacketType::Subscribe);
    let answers = ControlTopic::Response { node: "node" }.to_string();
    assert!(subscribe.content().windows(answers.len()).any(|part| part == answers.as_bytes()));
}

/// Calls and publishes through a broker that takes no MQTT 5, and answers such a CONNECT in this way.
async fn speaks_to_an_old_broker(answer_to_v5: &'static [u8]) {
    let (broker, addr) = broker().await;
    let front = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let front_addr = front.local_addr().unwrap();
    let relaying = tokio::spawn(async move {
        let mut refused = accept(&front).await;
        let connect = read_connect(&mut refused).await;
        assert_eq!(connect[8], 5, "MQTT 5 is tried first");
        refused.write_all(answer_to_v5).await.unwrap();
        drop(refused);
        let mut client = accept(&front).await;
        let connect = read_connect(&mut client).await;
        assert_eq!(connect[8], 4, "then MQTT 3.1.1");
        let mut server = TcpStream::connect(addr).await.unwrap();
        server.write_all(&connect).await.unwrap();
        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
    });
    let mut requests = broker.handle().subscribe(ControlTopic::Request { node: "+" }.to_string(), 8).await.unwrap();
    let (link, mut events, tasks) = open(front_addr, "node", &["t/#"]);
    assert!(matches!(next(&mut events).await, LinkEvent::Up), "the first attempt is not told");
    let (id, request) = request();
    let answering = async {
        assert_eq!(timeout(PATIENCE, requests.recv()).await.unwrap().unwrap().payload, *request);
        let topic = ControlTopic::Response { node: "node" }.to_string();
        let signed = hub("node").0.sign("node", answer(id).as_bytes()).unwrap();
        broker.handle().publish(topic, signed, sealcast_broker::Qos::AtLeastOnce, false).await.unwrap();
    };
    let (called, ()) = tokio::join!(link.call(request.clone()), answering);
    assert_eq!(called.unwrap(), answer(id).as_bytes());
    let taken = link.publish_told("t/a", false, b"1".to_vec()).unwrap();
    assert_eq!(timeout(PATIENCE, taken).await.unwrap(), Ok(Ok(())));
    assert!(matches!(next(&mut events).await, LinkEvent::Message { topic, .. } if topic == "t/a"));
    tasks.end(PATIENCE).await.unwrap();
    relaying.await.unwrap();
}

async fn read_connect(stream: &mut TcpStream) -> Vec<u8> {
    let mut head = [0; 2];
    stream.read_exact(&mut head).await.unwrap();
    let mut rest = vec![0; usize::from(head[1])];
    stream.read_exact(&mut rest).await.unwrap();
    [&head[..], &rest].concat()
}

#[tokio::test]
async fn a_broker_that_refuses_mqtt_5_is_spoken_to_in_the_older_version() {
    speaks_to_an_old_broker(&[0x20, 2, 0, 1]).await;
}

#[tokio::test]
async fn a_broker_that_closes_at_mqtt_5_is_spoken_to_in_the_older_version() {
    speaks_to_an_old_broker(&[]).await;
}

#[tokio::test]
async fn a_broker_that_cannot_do_what_is_needed_is_refused_with_the_reason() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let (_link, mut events, _tasks) = open(listener.local_addr().unwrap(), "node", &[]);
    // Maximum QoS 0.
    let mut mute = Mute::greeted(accept(&listener).await, &[0x20, 5, 0, 0, 2, 0x24, 0]).await;
    assert_eq!(mute.read().await.packet(), PacketType::Disconnect);
    drop(mute);
    let LinkEvent::Down(reason) = next(&mut events).await else { panic!("it is of no use") };
    assert!(reason.contains("QoS 1"), "{reason}");
}

#[tokio::test]
async fn a_long_control_message_goes_in_parts_and_arrives_whole() {
    let limits = Limits { max_packet_bytes: 8 << 10, ..Limits::default() };
    let (broker, addr) = broker_within(Gate::default(), limits).await;
    let topic = ControlTopic::Keys { device: "other" }.to_string();
    let mut at_broker = broker.handle().subscribe(&*topic, 64).await.unwrap();
    let (link, mut events, _tasks) = open(addr, "node", &[&topic]);
    assert!(matches!(next(&mut events).await, LinkEvent::Up));
    let long: Vec<u8> = (0..100_000_u32).flat_map(u32::to_be_bytes).collect();
    let short = b"short".to_vec();
    for message in [&long, &short] {
        let taken = link.publish_told(&topic, true, message.clone()).unwrap();
        assert_eq!(timeout(PATIENCE, taken).await.unwrap(), Ok(Ok(())));
        let LinkEvent::Message { payload, .. } = next(&mut events).await else { panic!("a message") };
        assert!(payload == *message);
    }
    let mut parts = 0;
    loop {
        let received = timeout(PATIENCE, at_broker.recv()).await.unwrap().unwrap();
        assert!(received.payload.len() < 8 << 10);
        if received.retain {
            assert_eq!(received.payload, *short, "a part alone is of no use");
            break;
        }
        parts += 1;
    }
    // 400,000 bytes, 8,138 in each.
    assert_eq!(parts, 50);
}

#[tokio::test]
async fn at_somebody_elses_broker_topics_have_the_prefix_and_names_no_dots() {
    let (broker, addr) = broker().await;
    let mut at_broker = broker.handle().subscribe("plant/#", 64).await.unwrap();
    let tasks = Tasks::default();
    let upstream = Upstream::new(addr.to_string().parse().unwrap(), None);
    let upstream = upstream.with_wire(Wire::new("plant/own").unwrap());
    let keys = ControlTopic::Keys { device: "+" }.to_string();
    let (link, mut events) =
        Link::open(&upstream, "valve-3.north", &[keys], Some(hub("valve-3.north").1), &tasks).unwrap();
    assert!(matches!(next(&mut events).await, LinkEvent::Up));
    let own = ControlTopic::Keys { device: "valve-3.north" }.to_string();
    link.publish(&own, false, b"keys".to_vec()).unwrap();
    let (mut taken, mut message) = (None, None);
    while taken.is_none() || message.is_none() {
        match next(&mut events).await {
            LinkEvent::Taken { topic } => taken = Some(topic),
            LinkEvent::Message { topic, .. } => message = Some(topic),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((taken, message), (Some(own.clone()), Some(own)));
    let (id, request) = request();
    let mut received = async || timeout(PATIENCE, at_broker.recv()).await.unwrap().unwrap();
    let answering = async {
        assert_eq!(received().await.topic.as_str(), "plant/own/keys/valve-3=north");
        assert_eq!(received().await.topic.as_str(), "plant/own/rpc/valve-3=north/request");
        let topic = "plant/own/rpc/valve-3=north/response";
        let signed = hub("valve-3.north").0.sign("valve-3.north", answer(id).as_bytes()).unwrap();
        broker.handle().publish(topic, signed, sealcast_broker::Qos::AtLeastOnce, false).await.unwrap();
    };
    let (called, ()) = tokio::join!(link.call(request.clone()), answering);
    assert_eq!(called.unwrap(), answer(id).as_bytes());
}

#[tokio::test]
async fn an_applications_message_is_not_cut() {
    let (_broker, addr) = broker().await;
    let (link, mut events, _tasks) = open(addr, "node", &["t/#"]);
    assert!(matches!(next(&mut events).await, LinkEvent::Up));
    link.publish("t/a", false, vec![0xFF; 200_000]).unwrap();
    let payload = loop {
        if let LinkEvent::Message { payload, .. } = next(&mut events).await {
            break payload;
        }
    };
    assert!(payload == vec![0xFF; 200_000]);
}
