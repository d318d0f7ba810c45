//! A client, a proxy and a broker as byte strings.

use bytes::Bytes;
use sealcast_mqtt::*;

/// A proxy with what it has put out so far.
pub struct Rig {
    pub proxy: Proxy,
    pub to_broker: Vec<u8>,
    pub to_client: Vec<u8>,
    /// Everything but bytes.
    pub events: Vec<Output>,
}

impl Rig {
    /// Before CONNECT.
    pub fn fresh() -> Self {
        Self::with_config(ProxyConfig::default())
    }

    pub fn with_config(config: ProxyConfig) -> Self {
        let proxy = Proxy::new(config);
        Self { proxy, to_broker: Vec::new(), to_client: Vec::new(), events: Vec::new() }
    }

    /// Connected, nothing pending.
    pub fn open(version: Version) -> Self {
        Self::resumed(version, SessionState::default(), &[], &[])
    }

    /// Connected with a session, and with properties in CONNECT and CONNACK.
    pub fn resumed(version: Version, session: SessionState, asked: &[Property], given: &[Property]) -> Self {
        let mut rig = Self::fresh();
        let mut connect = connect(version);
        connect.properties = asked.iter().cloned().collect();
        rig.client(&connect.encode().unwrap());
        rig.proxy.accept(WillAnswer::AsIs, session).unwrap();
        let connack = Connack { session_present: true, code: 0, properties: given.iter().cloned().collect() };
        rig.broker(&connack.encode(version).unwrap());
        rig.clear();
        rig
    }

    pub fn clear(&mut self) {
        self.to_broker.clear();
        self.to_client.clear();
        self.events.clear();
    }

    pub fn client(&mut self, bytes: &[u8]) -> &mut Self {
        self.proxy.handle_client(bytes);
        self.run()
    }

    pub fn broker(&mut self, bytes: &[u8]) -> &mut Self {
        self.proxy.handle_broker(bytes);
        self.run()
    }

    pub fn run(&mut self) -> &mut Self {
        while let Some(output) = self.proxy.poll() {
            match output {
                Output::ToBroker(bytes) => self.to_broker.extend_from_slice(&bytes),
                Output::ToClient(bytes) => self.to_client.extend_from_slice(&bytes),
                event => self.events.push(event),
            }
        }
        self
    }

    /// The events since the last call.
    pub fn take_events(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.events)
    }

    /// The frames to the broker since the last call.
    pub fn take_broker(&mut self) -> Vec<Frame> {
        frames(&std::mem::take(&mut self.to_broker))
    }

    /// The frames to the client since the last call.
    pub fn take_client(&mut self) -> Vec<Frame> {
        frames(&std::mem::take(&mut self.to_client))
    }

    /// The only publish request since the last call.
    pub fn request(&mut self) -> PublishRequest {
        match self.take_events().as_slice() {
            [Output::Publish(request)] => request.clone(),
            other => panic!("one publish request expected, not {other:?}"),
        }
    }

    /// The only delivery since the last call.
    pub fn delivery(&mut self) -> Delivery {
        match self.take_events().as_slice() {
            [Output::Delivery(delivery)] => delivery.clone(),
            other => panic!("one delivery expected, not {other:?}"),
        }
    }

    /// Answers and polls.
    pub fn answer(&mut self, answer: impl FnOnce(&mut Proxy) -> Result<(), AnswerError>) -> &mut Self {
        answer(&mut self.proxy).unwrap();
        self.run()
    }
}

pub fn frames(bytes: &[u8]) -> Vec<Frame> {
    let mut splitter = Splitter::new(MAX_REMAINING_BYTES);
    splitter.feed(bytes);
    let frames = std::iter::from_fn(|| splitter.next_frame().unwrap()).collect();
    assert_eq!(splitter.buffered_bytes(), 0, "half a frame was put out");
    frames
}

pub fn connect(version: Version) -> Connect {
    Connect {
        version,
        bridge: false,
        clean_start: false,
        keep_alive_s: 60,
        properties: Properties::new(),
        client_id: text("pump-7"),
        will: None,
        username: None,
        password: None,
    }
}

pub fn text(text: &str) -> Text {
    Text::new(text).unwrap()
}

pub fn topic(topic: &str) -> TopicName {
    TopicName::new(topic).unwrap()
}

pub fn id(id: u16) -> PacketId {
    PacketId::new(id).unwrap()
}

/// A message to `hsu/1` with payload `21.5`; the packet identifier is 7.
pub fn message(qos: Qos) -> Publish {
    Publish {
        dup: false,
        qos,
        retain: false,
        topic: Some(topic("hsu/1")),
        packet_id: (qos != Qos::AtMostOnce).then(|| id(7)),
        properties: Properties::new(),
        payload: Bytes::from_static(b"21.5"),
    }
}

pub fn ack(kind: AckKind, packet_id: u16, version: Version) -> Bytes {
    Ack::success(kind, id(packet_id)).encode(version).unwrap()
}

pub fn parse(frames: &[Frame], version: Version) -> Publish {
    match frames {
        [frame] => Publish::parse(frame, version).unwrap(),
        other => panic!("one frame expected, not {other:?}"),
    }
}

pub fn refusal() -> PublishRefusal {
    PublishRefusal { code: RefuseCode::NotAuthorized, reason: "hsu/1 belongs to no group".into(), disconnect: false }
}

pub const VERSIONS: [Version; 2] = [Version::V311, Version::V5];
pub const QOS: [Qos; 3] = [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce];
