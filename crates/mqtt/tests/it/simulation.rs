//! A well behaved client and broker with a driver that decides at random and answers out of order: whatever it does,
//! every message ends acknowledged on the side it came from, and only what it let through arrives, in order.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use sealcast_mqtt::*;

use crate::harness::*;

#[derive(Debug, Clone, Copy)]
struct Plan {
    qos: Qos,
    /// Let through, or withheld.
    through: bool,
    /// An announcement goes up before it.
    announced: bool,
    /// Picks the request that is answered in its round.
    turn: u8,
    alias: bool,
}

fn plans() -> impl Strategy<Value = Vec<Plan>> {
    let qos = prop_oneof![Just(Qos::AtMostOnce), Just(Qos::AtLeastOnce), Just(Qos::ExactlyOnce)];
    let plan = (qos, any::<bool>(), any::<bool>(), any::<u8>(), any::<bool>());
    vec(plan.prop_map(|(qos, through, announced, turn, alias)| Plan { qos, through, announced, turn, alias }), 1..30)
}

/// The receiving end of either way: acknowledges, and knows aliases.
#[derive(Default)]
struct Receiver {
    aliases: BTreeMap<u16, TopicName>,
    seen: Vec<(TopicName, Bytes)>,
}

impl Receiver {
    /// What it answers to `frame`.
    fn take(&mut self, frame: &Frame, v: Version) -> Vec<u8> {
        let reply = |kind, packet_id: PacketId| ack(kind, packet_id.value(), v).to_vec();
        match frame.packet() {
            PacketType::Publish => {
                let publish = Publish::parse(frame, v).unwrap();
                let alias = publish.properties.topic_alias();
                if let (Some(topic), Some(alias)) = (&publish.topic, alias) {
                    self.aliases.insert(alias, topic.clone());
                }
                let topic = publish.topic.unwrap_or_else(|| self.aliases[&alias.unwrap()].clone());
                self.seen.push((topic, publish.payload));
                match (publish.qos, publish.packet_id) {
                    (Qos::AtLeastOnce, Some(packet_id)) => reply(AckKind::Puback, packet_id),
                    (Qos::ExactlyOnce, Some(packet_id)) => reply(AckKind::Pubrec, packet_id),
                    _ => Vec::new(),
                }
            }
            PacketType::Pubrel => reply(AckKind::Pubcomp, Ack::parse(frame, v).unwrap().packet_id),
            _ => Vec::new(),
        }
    }
}

/// The sending end: what is open, by packet identifier.
#[derive(Default)]
struct Sender {
    open: BTreeMap<PacketId, Qos>,
    released: BTreeSet<PacketId>,
    refused: usize,
    named: BTreeSet<u16>,
}

impl Sender {
    fn send(&mut self, number: usize, plan: Plan, v: Version) -> Vec<u8> {
        let packet_id = (plan.qos != Qos::AtMostOnce).then(|| id(number as u16 + 1));
        if let Some(packet_id) = packet_id {
            self.open.insert(packet_id, plan.qos);
        }
        let alias = (number % 3) as u16 + 1;
        let by_alias = plan.alias && v == Version::V5;
        let known = by_alias && !self.named.insert(alias);
        Publish {
            dup: false,
            qos: plan.qos,
            retain: false,
            topic: (!known).then(|| topic_of(number)),
            packet_id,
            properties: by_alias.then_some(Property::TopicAlias(alias)).into_iter().collect(),
            payload: payload_of(number),
        }
        .encode(v)
        .unwrap()
        .to_vec()
    }

    fn take(&mut self, frame: &Frame, v: Version) -> Vec<u8> {
        let Ok(answer) = Ack::parse(frame, v) else { return Vec::new() };
        let packet_id = answer.packet_id;
        match answer.kind {
            AckKind::Puback => assert_eq!(self.open.remove(&packet_id), Some(Qos::AtLeastOnce)),
            AckKind::Pubrec if answer.is_error() => {
                assert_eq!(self.open.remove(&packet_id), Some(Qos::ExactlyOnce));
            }
            AckKind::Pubrec => {
                assert_eq!(self.open.get(&packet_id), Some(&Qos::ExactlyOnce));
                assert!(self.released.insert(packet_id), "PUBREC twice");
                return ack(AckKind::Pubrel, packet_id.value(), v).to_vec();
            }
            AckKind::Pubcomp => {
                assert!(self.released.contains(&packet_id), "PUBCOMP before PUBREC");
                assert_eq!(self.open.remove(&packet_id), Some(Qos::ExactlyOnce));
            }
            AckKind::Pubrel => {}
        }
        self.refused += usize::from(answer.is_error());
        Vec::new()
    }
}

fn topic_of(number: usize) -> TopicName {
    topic(&format!("hsu/{}", number % 3))
}

fn payload_of(number: usize) -> Bytes {
    Bytes::from(format!("message {number}"))
}

fn announcement_of(payload: &Bytes) -> Bytes {
    [b"before ", payload.as_ref()].concat().into()
}

/// The driver: keeps what is asked and answers one of it now and then.
#[derive(Default)]
struct Driver {
    waiting: Vec<Output>,
    acked: usize,
}

impl Driver {
    fn answer(&mut self, rig: &mut Rig, turn: usize, up: &[Plan], down: &[Plan]) {
        for event in rig.take_events() {
            match event {
                Output::Acked(_) => self.acked += 1,
                event => self.waiting.push(event),
            }
        }
        if self.waiting.is_empty() {
            return;
        }
        let plan = |plans: &[Plan], payload: &Bytes| {
            plans[std::str::from_utf8(payload).unwrap().trim_start_matches("message ").parse::<usize>().unwrap()]
        };
        match self.waiting.swap_remove(turn % self.waiting.len()) {
            Output::Publish(request) if plan(up, &request.payload).announced && plan(up, &request.payload).through => {
                rig.answer(|proxy| proxy.announce(request.id, announcement_of(&request.payload)))
            }
            Output::Publish(request) if plan(up, &request.payload).through => {
                rig.answer(|proxy| proxy.seal_done(request.id, request.payload))
            }
            Output::Publish(request) => rig.answer(|proxy| proxy.refuse(request.id, refusal())),
            Output::Delivery(delivery) if plan(down, &delivery.payload).through => {
                rig.answer(|proxy| proxy.deliver(delivery.id, delivery.payload, Bytes::new(), &[]))
            }
            Output::Delivery(delivery) => rig.answer(|proxy| proxy.swallow(delivery.id)),
            other => panic!("{other:?}"),
        };
    }
}

proptest! {
    #[test]
    fn only_what_is_let_through_arrives(v5: bool, mut up in plans(), down in plans(), frames_waiting in 1..6usize) {
        let v = if v5 { Version::V5 } else { Version::V311 };
        if !v5 {
            // A refusal ends an MQTT 3.1.1 connection; that is tested elsewhere.
            up.iter_mut().for_each(|plan| plan.through |= plan.qos != Qos::AtMostOnce);
        }
        let mut rig = Rig::with_config(ProxyConfig { max_waiting_frames: frames_waiting, ..ProxyConfig::default() });
        let aliases: Properties = v5.then_some(Property::TopicAliasMaximum(3)).into_iter().collect();
        rig.client(&Connect { properties: aliases.clone(), ..connect(v) }.encode().unwrap());
        rig.answer(|proxy| proxy.accept(WillAnswer::AsIs, SessionState::default()));
        rig.broker(&Connack { session_present: true, code: 0, properties: aliases }.encode(v).unwrap()).clear();

        let (mut client, mut broker) = (Receiver::default(), Receiver::default());
        let (mut client_out, mut broker_out) = (Sender::default(), Sender::default());
        let mut driver = Driver::default();
        // Acknowledgements may stand behind messages that wait, hence more rounds than messages.
        for round in 0..400 {
            let turn = up.get(round).or(down.get(round)).map_or(round, |plan| usize::from(plan.turn));
            if let Some(plan) = up.get(round) {
                let bytes = client_out.send(round, *plan, v);
                rig.client(&bytes);
            }
            if let Some(plan) = down.get(round) {
                let bytes = broker_out.send(round, *plan, v);
                rig.broker(&bytes);
            }
            driver.answer(&mut rig, turn, &up, &down);
            for frame in rig.take_client() {
                let reply = [client.take(&frame, v), client_out.take(&frame, v)].concat();
                rig.client(&reply);
            }
            for frame in rig.take_broker() {
                let reply = [broker.take(&frame, v), broker_out.take(&frame, v)].concat();
                rig.broker(&reply);
            }
        }
        prop_assert!(!rig.proxy.is_closed());
        prop_assert!(driver.waiting.is_empty());
        let through = |plans: &[Plan]| -> Vec<_> {
            plans.iter().copied().enumerate().filter(|(_, plan)| plan.through).collect()
        };
        let message = |number| (topic_of(number), payload_of(number));
        let sent = through(&up).into_iter().flat_map(|(number, plan)| {
            let announcement = (topic_of(number), announcement_of(&payload_of(number)));
            plan.announced.then_some(announcement).into_iter().chain([message(number)])
        });
        prop_assert_eq!(broker.seen, sent.collect::<Vec<_>>());
        prop_assert_eq!(client.seen, through(&down).into_iter().map(|(number, _)| message(number)).collect::<Vec<_>>());
        prop_assert!(client_out.open.is_empty(), "client waits for {:?}", client_out.open);
        prop_assert!(broker_out.open.is_empty(), "broker waits for {:?}", broker_out.open);
        let reliable = |plans: &[Plan], through| {
            plans.iter().filter(|plan| plan.through == through && plan.qos != Qos::AtMostOnce).count()
        };
        prop_assert_eq!(client_out.refused, reliable(&up, false));
        prop_assert_eq!(driver.acked, reliable(&down, true));
        let session = rig.proxy.session();
        prop_assert!(session.delivered.is_empty() && session.received.is_empty() && session.swallowed.is_empty());
    }
}
