//! A real machine's recording through two agents and a broker: how much is sent, and how far the receiver is from the truth.

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Instant,
};

use sealcast_mqtt::{
    Ack, AckKind, PacketId, PacketType, Properties, Property, Publish, Qos, Splitter, TopicName, Version,
};
use sealcast_quality::Recording;

use crate::harness::{Agent, Hub, PATIENCE};

const CYCLE_MS: u64 = 300_000;
const WINDOW: usize = 32;
/// Published after the recording, whose values are all below: it is beyond any band, so it is sent, and last.
const END: f64 = 1_000.0;

/// A client of as few parts as this needs.
struct Client {
    socket: TcpStream,
    splitter: Splitter,
    version: Version,
}

impl Client {
    fn connect(agent: &Agent, id: &str, version: Version) -> Self {
        let socket = TcpStream::connect(&agent.listen).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut client = Self { socket, splitter: Splitter::new(1 << 20), version };
        let level = if version == Version::V5 { 5 } else { 4 };
        let mut content = vec![0, 4, b'M', b'Q', b'T', b'T', level, 2, 0, 0];
        if version == Version::V5 {
            content.push(0);
        }
        content.extend_from_slice(&[0, u8::try_from(id.len()).unwrap()]);
        content.extend_from_slice(id.as_bytes());
        client.send(0x10, &content);
        client.until(PacketType::Connack);
        client
    }

    fn send(&mut self, first: u8, content: &[u8]) {
        let frame = [&[first, u8::try_from(content.len()).unwrap()], content].concat();
        self.socket.write_all(&frame).unwrap();
    }

    fn frame(&mut self) -> Option<sealcast_mqtt::Frame> {
        loop {
            if let Some(frame) = self.splitter.next_frame().unwrap() {
                return Some(frame);
            }
            let mut bytes = [0; 16 << 10];
            match self.socket.read(&mut bytes) {
                Ok(count @ 1..) => self.splitter.feed(&bytes[..count]),
                _ => return None,
            }
        }
    }

    fn until(&mut self, packet: PacketType) {
        while self.frame().expect("an answer").packet() != packet {}
    }

    fn subscribe(&mut self, filter: &str) {
        let mut content = vec![0, 1, 0, 0, u8::try_from(filter.len()).unwrap()];
        content.extend_from_slice(filter.as_bytes());
        content.push(1);
        self.send(0x82, &content);
        self.until(PacketType::Suback);
    }

    /// Publishes with QoS 1, [`WINDOW`] at a time.
    fn publish_all(&mut self, topic: &str, payloads: impl Iterator<Item = String>) {
        let mut open = 0;
        for (at, payload) in payloads.enumerate() {
            let packet_id = PacketId::new(u16::try_from(at % 60_000 + 1).unwrap());
            let publish = Publish {
                dup: false,
                qos: Qos::AtLeastOnce,
                retain: false,
                topic: Some(TopicName::new(topic).unwrap()),
                packet_id,
                properties: Properties::new(),
                payload: payload.into(),
            };
            self.socket.write_all(&publish.encode(self.version).unwrap()).unwrap();
            open += 1;
            while open >= WINDOW {
                self.until(PacketType::Puback);
                open -= 1;
            }
        }
        for _ in 0..open {
            self.until(PacketType::Puback);
        }
    }
}

/// One value that the application got.
struct Got {
    time_ms: u64,
    value: f64,
    repeated: bool,
}

/// All until [`END`].
fn receive(mut client: Client) -> Vec<Got> {
    let mut all = Vec::new();
    client.socket.set_read_timeout(Some(PATIENCE)).unwrap();
    loop {
        let frame = client.frame().expect("the end of the recording");
        if frame.packet() != PacketType::Publish {
            continue;
        }
        let publish = Publish::parse(&frame, Version::V5).unwrap();
        if let Some(packet_id) = publish.packet_id {
            let ack = Ack::success(AckKind::Puback, packet_id).encode(Version::V5).unwrap();
            client.socket.write_all(&ack).unwrap();
        }
        let property = |wanted: &str| {
            publish.properties.iter().find_map(|property| match property {
                Property::User(name, value) if name.as_str() == wanted => Some(value.as_str().to_owned()),
                _ => None,
            })
        };
        let reading: serde_json::Value = serde_json::from_slice(&publish.payload).unwrap();
        let repeated = property("sealcast-repeated").is_some();
        let time_ms = if repeated {
            property("sealcast-time-ms").unwrap().parse().unwrap()
        } else {
            reading["ts"].as_u64().unwrap()
        };
        let value = reading["t"].as_f64().unwrap();
        if value == END {
            return all;
        }
        all.push(Got { time_ms, value, repeated });
    }
}

#[allow(clippy::print_stdout, reason = "the figures are what this test is for")]
fn check(agents: &[Agent; 2], recording: &[(u64, f64, String)], band: u32, most: f64) {
    let began = Instant::now();
    let topic = format!("hsu0001/machine/{band}");
    let mut reader = Client::connect(&agents[1], &format!("reader{band}"), Version::V5);
    reader.subscribe(&topic);
    let reader = std::thread::spawn(move || receive(reader));
    let mut writer = Client::connect(&agents[0], &format!("writer{band}"), Version::V311);
    let end = (recording.last().unwrap().0 + 1, END, END.to_string());
    let all = recording.iter().chain([&end]);
    writer.publish_all(&topic, all.map(|(time, _, text)| format!(r#"{{"ts":{time},"t":{text}}}"#)));
    let got = reader.join().unwrap();

    let real = got.iter().filter(|got| !got.repeated).count();
    let part = real as f64 / recording.len() as f64;
    println!("dead band {band}: {real} of {} sent ({:.2} %), {:?}", recording.len(), part * 100.0, began.elapsed());
    assert!(part <= most, "dead band {band}: {real} sent, {:.2} %", part * 100.0);

    // Whoever holds the last one that came is never farther from the truth than the band.
    let near = |held: f64, truth: f64| (held - truth).abs() <= f64::from(band) + 1e-9;
    let mut come = got.iter().filter(|got| !got.repeated).peekable();
    let mut held = f64::NAN;
    for (time_ms, truth, _) in recording {
        if let Some(got) = come.next_if(|got| got.time_ms == *time_ms && (got.value - truth).abs() < 1e-9) {
            held = got.value;
        }
        assert!(near(held, *truth), "{held} is held at {time_ms}, truth {truth}");
    }
    assert!(come.peek().is_none(), "all came, in their order");

    // The restored cycle has each reading's time and, there too, at most the band between. For the times that came twice
    // because the clock went back, nobody can say which of both is meant.
    let mut at: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
    for got in &got {
        at.entry(got.time_ms).or_default().push(got.value);
    }
    let back = recording.windows(2).find(|pair| pair[1].0 <= pair[0].0).map(|pair| pair[1].0..=pair[0].0).unwrap();
    let last_ms = got.iter().rfind(|got| !got.repeated).map(|got| got.time_ms).unwrap();
    for (time_ms, truth, _) in recording {
        match at.get(time_ms) {
            Some(_) if back.contains(time_ms) => {}
            Some(values) => {
                assert!(values.iter().all(|value| near(*value, *truth)), "{values:?} at {time_ms}, truth {truth}");
            }
            // After the last one sent the cycle is restored up to the end's time, which comes before its own is over.
            None => assert!(*time_ms > last_ms, "nothing at {time_ms}"),
        }
    }
}

#[test]
fn a_recording_needs_a_third_or_a_twelfth_of_its_messages() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/machine_temperature_system_failure.csv");
    let text = std::fs::read_to_string(path).unwrap();
    let digits = text.lines().skip(1).map(|line| line.split_once(',').unwrap().1.to_owned());
    let recording = Recording::from_csv(&text).unwrap();
    let readings: Vec<(u64, f64, String)> = recording
        .readings
        .iter()
        .zip(digits)
        .map(|(reading, text)| (reading.time_ms, text.parse().unwrap(), text))
        .collect();
    assert_eq!(readings.len(), 22_695);

    let hub = Hub::start();
    let input = "input = { format = 'json', value = '$.t', time = '$.ts', time_format = 'ms' }";
    let rule =
        |band: u32| format!("[[quality]]\nfilter = 'hsu0001/machine/{band}'\nreport = {{ dead_band = {band} }}\n");
    let publish = format!("[[publish]]\nfilter = 'hsu0001/machine/+'\n{input}\n");
    let send = format!("{}{}{publish}", rule(1), rule(2));
    let restore = format!("restore = {{ cycle_ms = {CYCLE_MS}, heartbeat_ms = {} }}", 30 * 86_400_000_u64);
    // Debug builds and busy machines: a third of ten weeks' readings come within seconds.
    let receive = format!(
        "freshness = {{ max_age_ms = 0 }}\n[[quality]]\nfilter = 'hsu0001/machine/+'\n{restore}\n[[receive]]\nfilter = 'hsu0001/machine/+'\n{input}\n"
    );
    let agents = hub.pair("hsu0001", [&send, &receive]);
    check(&agents, &readings, 2, 0.085);
    check(&agents, &readings, 1, 0.36);
}
