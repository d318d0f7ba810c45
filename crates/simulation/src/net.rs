//! Connections between agents and the broker: whole frames in both directions, which may stand on the way for long.

use std::collections::{BTreeMap, VecDeque};

use anyhow::{Context as _, Result, anyhow};
use bytes::{Bytes, BytesMut};
use sealcast_broker_core::ConnId;
use sealcast_mqtt::{Connect, Frame, PacketType, Version};

/// Longest frame.
pub const MAX_FRAME: usize = 4 << 20;

/// Who is at the agent's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The agent's own connection.
    Control { device: usize },
    /// That of one of its clients.
    Client { device: usize, client: usize },
}

/// One connection.
pub struct Wire {
    /// Who is at the agent's end.
    pub end: End,
    /// By its CONNECT, once that was sent.
    pub version: Version,
    /// The broker has had its CONNECT.
    pub connected: bool,
    /// Frames to the broker.
    pub up: VecDeque<Frame>,
    /// Frames to the agent.
    pub down: VecDeque<Bytes>,
    /// The agent sends nothing more.
    pub up_ended: bool,
    /// The broker sends nothing more.
    pub down_ended: bool,
    /// The broker reads from it.
    pub reads: bool,
    part: BytesMut,
}

impl Wire {
    /// The broker has died: what is on the way is lost, and the agent will hear of it.
    pub fn broker_gone(&mut self) {
        self.up.clear();
        self.down.clear();
        (self.connected, self.down_ended) = (false, true);
    }
}

/// See the module.
#[derive(Default)]
pub struct Net {
    /// By number.
    pub wires: BTreeMap<ConnId, Wire>,
    last: ConnId,
}

impl Net {
    /// A new connection.
    pub fn open(&mut self, end: End) -> ConnId {
        self.last += 1;
        let wire = Wire {
            end,
            version: Version::V5,
            connected: false,
            up: VecDeque::new(),
            down: VecDeque::new(),
            up_ended: false,
            down_ended: false,
            reads: true,
            part: BytesMut::new(),
        };
        self.wires.insert(self.last, wire);
        self.last
    }

    /// The agent writes. Gives the frames that are whole now, with the version that they are in.
    pub fn send_up(&mut self, conn: ConnId, bytes: &[u8]) -> Result<Vec<(Version, Frame)>> {
        let Some(wire) = self.wires.get_mut(&conn) else { return Ok(Vec::new()) };
        wire.part.extend_from_slice(bytes);
        let mut frames = Vec::new();
        while let Some(frame) = take(&mut wire.part, wire.version)? {
            if frame.packet() == PacketType::Connect {
                wire.version = Connect::parse(&frame).map_err(|error| anyhow!("{error}"))?.version;
            }
            frames.push((wire.version, frame.clone()));
            wire.up.push_back(frame);
        }
        Ok(frames)
    }

    /// The agent closes its end. What it has written arrives.
    pub fn end_up(&mut self, conn: ConnId) {
        if let Some(wire) = self.wires.get_mut(&conn) {
            wire.up_ended = true;
        }
    }

    /// The connection breaks: what is on the way is lost.
    pub fn cut(&mut self, conn: ConnId) {
        if let Some(wire) = self.wires.get_mut(&conn) {
            wire.up.clear();
            wire.down.clear();
            (wire.up_ended, wire.down_ended) = (true, true);
        }
    }

    /// Connections of an end that are not over on the agent's side.
    pub fn of(&self, wanted: impl Fn(End) -> bool) -> Vec<ConnId> {
        self.wires.iter().filter(|(_, wire)| wanted(wire.end) && !wire.up_ended).map(|(conn, _)| *conn).collect()
    }
}

/// A frame off the front of `bytes`.
pub fn take(bytes: &mut BytesMut, version: Version) -> Result<Option<Frame>> {
    Frame::take(bytes, version, MAX_FRAME).map_err(|error| anyhow!("{error}")).context("what was sent is not MQTT")
}
