//! A ledger, and a broker's core that judges by it.

use std::sync::{Arc, RwLock};

use sealcast_broker_core::{ConnId, Core, Incoming, Limits, Outgoing, Output, PeerCertificate, Subscribed};
use sealcast_ledger::{Body, GroupNumber, Record, Replica, Revoked};
use sealcast_mqtt::{Connect, PacketId, Properties, Property, Publish, Qos, Text, TopicName, Version, Will};
use sealcast_topic::CONTROL_LEVEL;

use crate::{
    LedgerPolicy, Readers, SharedReplica,
    testing::{NOW_MS, Site},
};

pub struct World {
    site: Site,
    replica: SharedReplica,
    pub core: Core,
    connections: ConnId,
}

impl World {
    pub fn new(readers: Readers) -> Self {
        let site = Site::new();
        let replica = Arc::new(RwLock::new(Replica::new(*site.replica().genesis())));
        let policy = LedgerPolicy { replica: replica.clone(), readers };
        let limits = Limits { reserved_levels: vec![CONTROL_LEVEL.to_owned()], ..Limits::default() };
        let core = Core::new(limits, Arc::new(policy), None);
        Self { site, replica, core, connections: 0 }
    }

    /// The broker's replica hears what the ledger took.
    fn apply(&mut self, record: &Record) {
        self.replica.write().unwrap().apply(record).unwrap();
    }

    pub fn operate(&mut self, body: &Body) {
        let record = self.site.operate(body);
        self.apply(&record);
    }

    /// Registers a device with a new key, also one that has one.
    pub fn register(&mut self, name: &str) -> PeerCertificate {
        let (_, certificate, record) = self.site.register(name);
        self.apply(&record);
        PeerCertificate::from_leaf(certificate.der())
    }

    pub fn group(&mut self, name: &str, filter: &str) -> GroupNumber {
        let record = self.site.group(name, filter);
        self.apply(&record);
        self.site.replica().group_by_name(&name.parse().unwrap()).unwrap().number
    }

    pub fn grant(&mut self, group: GroupNumber, device: &str) {
        let record = self.site.grant(group, device);
        self.apply(&record);
    }

    pub fn revoke(&mut self, group: GroupNumber, device: &str) {
        let device = self.site.number(device);
        self.operate(&Body::Revoked(Revoked { group, device, reason: "test".parse().unwrap() }));
    }

    /// The connection, if it is accepted.
    pub fn connect(&mut self, by: &PeerCertificate, client_id: &str, will: Option<&str>) -> Option<ConnId> {
        self.connections += 1;
        let conn = self.connections;
        self.core.handle_connect(conn, Some(by), connect(client_id, will), NOW_MS);
        let accepted = |packet: &(ConnId, Outgoing)| matches!(packet.1, Outgoing::ConnAck { code: 0, .. });
        self.outputs().iter().any(accepted).then_some(conn)
    }

    /// The connection breaks. Gives who gets a message for it.
    pub fn close(&mut self, conn: ConnId) -> Vec<ConnId> {
        self.core.handle_closed(conn, NOW_MS);
        let outputs = self.outputs();
        self.receivers(outputs)
    }

    /// Connects, and gives the topics of what comes by itself.
    pub fn connect_and_receive(&mut self, by: &PeerCertificate, client_id: &str) -> Vec<String> {
        self.connections += 1;
        let connect = connect(client_id, None);
        self.core.handle_connect(self.connections, Some(by), connect, NOW_MS);
        let mut topics = Vec::new();
        loop {
            let outputs = self.outputs();
            let messages = outputs.iter().filter_map(|(_, packet)| match packet {
                Outgoing::Publish { message, .. } => Some(message.topic.to_string()),
                _ => None,
            });
            topics.extend(messages);
            if self.receivers(outputs).is_empty() {
                return topics;
            }
        }
    }

    pub fn outputs(&mut self) -> Vec<(ConnId, Outgoing)> {
        let outputs = self.core.take_effects(NOW_MS).outputs.into_iter();
        outputs
            .filter_map(|output| match output {
                Output::Send(conn, packet) => Some((conn, packet)),
                _ => None,
            })
            .collect()
    }

    pub fn send(&mut self, conn: ConnId, topic: &str, retain: bool) {
        let publish = Publish {
            dup: false,
            qos: Qos::AtLeastOnce,
            retain,
            topic: Some(TopicName::new(topic).unwrap()),
            packet_id: PacketId::new(1),
            properties: Properties::new(),
            payload: "x".into(),
        };
        self.core.handle_packet(conn, Incoming::Publish(publish), NOW_MS);
    }

    /// The reason code of PUBACK, and who got the message.
    pub fn publish(&mut self, conn: ConnId, topic: &str, retain: bool) -> (Option<u8>, Vec<ConnId>) {
        self.send(conn, topic, retain);
        let outputs = self.outputs();
        let code = outputs.iter().find_map(|(to, packet)| match packet {
            Outgoing::PubAck { code, .. } if *to == conn => Some(*code),
            _ => None,
        });
        (code, self.receivers(outputs))
    }

    /// Who got a message. Each is acknowledged.
    pub fn receivers(&mut self, outputs: Vec<(ConnId, Outgoing)>) -> Vec<ConnId> {
        let mut receivers = Vec::new();
        for (conn, packet) in outputs {
            if let Outgoing::Publish { id, qos, .. } = packet {
                receivers.push(conn);
                if qos > Qos::AtMostOnce {
                    self.core.handle_packet(conn, Incoming::PubAck { id }, NOW_MS);
                }
            }
        }
        receivers
    }

    /// The reason codes of SUBACK, and how many retained messages came.
    pub fn subscribe(&mut self, conn: ConnId, filters: &[&str]) -> (Vec<u8>, usize) {
        let filters = filters.iter().map(|filter| ((*filter).to_owned(), Subscribed::new(Qos::AtLeastOnce))).collect();
        self.core.handle_packet(conn, Incoming::Subscribe { id: 1, filters }, NOW_MS);
        let outputs = self.outputs();
        let codes = outputs.iter().find_map(|(_, packet)| match packet {
            Outgoing::SubAck { codes, .. } => Some(codes.clone()),
            _ => None,
        });
        (codes.unwrap(), self.receivers(outputs).len())
    }
}

fn connect(client_id: &str, will: Option<&str>) -> Connect {
    let will = will.map(|topic| Will {
        topic: TopicName::new(topic).unwrap(),
        payload: "will".into(),
        qos: Qos::AtLeastOnce,
        retain: false,
        properties: Properties::new(),
    });
    Connect {
        clean_start: false,
        properties: Properties::from_iter([Property::SessionExpiry(100_000), Property::RequestProblemInfo(0)]),
        will,
        ..Connect::new(Version::V5, Text::new(client_id).unwrap())
    }
}
