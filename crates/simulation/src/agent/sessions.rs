//! Connections of local clients, each with its own to the broker.

use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use sealcast_agent_core::{
    Now,
    control::Input,
    session::{Annotate, Effect, Memory, NotOpened, Opened, Session, Settings, Shared, Write},
};
use sealcast_broker_core::ConnId;
use sealcast_mqtt::{Ack, AckKind, Frame, PacketType, Property, Publish, SessionState, Version};
use sealcast_seal::Opener;
use sealcast_topic::is_control;

use super::{
    Agent, Around, Process, Stop,
    conn::{Conn, ROOM},
    fatal,
};
use crate::{
    disk::{Disk, Failed, Seen, Writes},
    ghost::device_of,
    net::{End, MAX_FRAME, take},
};

/// How long a message waits for a key, ms.
const KEY_WAIT_MS: u64 = 10_000;

impl Agent {
    /// A client opens a connection. `false` if nobody listens, or its last one is not over.
    pub fn accept(&mut self, around: &Around<'_>, client: usize) -> bool {
        let Some(process) = &mut self.process else { return false };
        if process.conns.contains_key(&client) {
            return false;
        }
        let settings = Settings {
            connection: process.values.next_client(),
            address: format!("client {client}"),
            annotate: Annotate::All,
            login: false,
            copies: true,
            max_packet_bytes: MAX_FRAME,
            key_wait_ms: KEY_WAIT_MS,
        };
        let rules: &Arc<_> = process.values.rules();
        let session = Session::new(settings, rules, around.now);
        let conn = Conn { session, wire: None, part: bytes::BytesMut::new(), closed: false };
        process.conns.insert(client, conn);
        true
    }

    /// A client's connection breaks.
    pub fn client_gone(&mut self, client: usize) {
        if let Some(conn) = self.process.as_mut().and_then(|process| process.conns.get_mut(&client)) {
            conn.session.handle_client_eof();
        }
    }

    /// Whether a client's frames are taken.
    pub fn takes_up(&self, client: usize) -> bool {
        self.conn(client).is_some_and(|conn| conn.session.wants_client_bytes())
    }

    /// Whether frames of the broker for a client are taken.
    pub fn takes_down(&self, client: usize) -> bool {
        self.conn(client).is_some_and(|conn| conn.wire.is_some() && conn.session.wants_broker_bytes())
    }

    fn conn(&self, client: usize) -> Option<&Conn> {
        self.process.as_ref()?.conns.get(&client)
    }

    /// The next frame of a client. `false` if there is none, or none is taken.
    pub fn take_up(&mut self, around: &mut Around<'_>, client: usize) -> bool {
        let Some(conn) = self.process.as_mut().and_then(|process| process.conns.get_mut(&client)) else { return false };
        if !conn.session.wants_client_bytes() {
            return false;
        }
        let Some(bytes) = around.clients[client].outbox.pop_front() else { return false };
        conn.session.handle_client(&bytes);
        true
    }

    /// The next frame of the broker for a client, or the end of the connection. `false` if there is neither.
    pub fn take_down_for(&mut self, around: &mut Around<'_>, client: usize) -> bool {
        let Some(conn) = self.process.as_mut().and_then(|process| process.conns.get_mut(&client)) else { return false };
        let (Some(id), true) = (conn.wire, conn.session.wants_broker_bytes()) else { return false };
        let Some(wire) = around.net.wires.get_mut(&id) else { return false };
        if let Some(bytes) = wire.down.pop_front() {
            let version = wire.version;
            let frame = Frame::from_bytes(bytes.clone());
            if let Some(publish) = frame.ok().and_then(|frame| Publish::parse(&frame, version).ok()) {
                around.ghost.arrives(client, id, &publish);
            }
            conn.session.handle_broker(&bytes);
            return true;
        }
        if wire.down_ended {
            conn.session.handle_broker_eof();
            conn.wire = None;
            around.net.end_up(id);
            return true;
        }
        false
    }

    pub(super) fn run_sessions(&mut self, around: &mut Around<'_>) -> Result<bool, Stop> {
        let Some((process, disk)) = self.parts() else { return Ok(false) };
        let mut any = false;
        let clients: Vec<usize> = process.conns.keys().copied().collect();
        for client in clients {
            while process.session_step(disk, around, client)? {
                any = true;
            }
        }
        Ok(any)
    }
}

impl Process {
    /// `false` if there is nothing to do.
    fn session_step(&mut self, disk: &mut Disk, around: &mut Around<'_>, client: usize) -> Result<bool, Stop> {
        let Self { keyring, values, retained, record, conns, .. } = self;
        let Some(conn) = conns.get_mut(&client) else { return Ok(false) };
        if conn.closed {
            self.session_over(around, client);
            return Ok(true);
        }
        let mut shared = Shared { keyring, values, retained, record, disk_fails: disk.is_failing() };
        let Some(step) = conn.session.poll(&mut shared, ROOM, around.now) else { return Ok(false) };
        let mut stored = false;
        let committed = step.commit(|writes| {
            stored = writes.iter().any(|write| matches!(write, Write::Client { .. }));
            self.write(disk, writes, around.now)
        });
        match committed {
            Ok(effects) => {
                if stored {
                    around.ghost.windows_stored(client);
                }
                for effect in effects {
                    disk.before_effect().map_err(|_| Stop::Died)?;
                    self.session_effect(disk, around, client, effect)?;
                }
            }
            Err(uncommitted) => {
                fatal(uncommitted.error).map_or(Ok(()), Err)?;
                if let Some(conn) = self.conns.get_mut(&client) {
                    conn.closed |= conn.session.handle_uncommitted();
                }
            }
        }
        Ok(true)
    }

    /// As the agent does it: what is remembered of values first, the rest in another transaction.
    fn write(&mut self, disk: &mut Disk, writes: &[Write], now: Now) -> Result<(), Failed> {
        if writes.contains(&Write::Values) {
            let step = self.values.take_writes();
            if let Err(uncommitted) = step.commit(|writes| disk.commit(&Writes::Values(writes), now.run_ms)) {
                self.values.put_back(uncommitted.step, now.unix_ms);
                return Err(uncommitted.error);
            }
        }
        if writes.iter().all(|write| *write == Write::Values) {
            return Ok(());
        }
        disk.commit(&Writes::Session(writes), now.run_ms)
    }

    fn session_effect(
        &mut self,
        disk: &mut Disk,
        around: &mut Around<'_>,
        client: usize,
        effect: Effect,
    ) -> Result<(), Stop> {
        let Some(conn) = self.conns.get_mut(&client) else { return Ok(()) };
        match effect {
            Effect::ToClient(bytes) => {
                conn.part.extend_from_slice(&bytes);
                let version = conn.session.version();
                while let Some(frame) = take(&mut conn.part, version)? {
                    handed(around, client, version, &frame)?;
                    around.clients[client].inbox.extend_from_slice(frame.bytes());
                }
            }
            Effect::ToBroker(bytes) => {
                if let Some(wire) = conn.wire {
                    for (version, frame) in around.net.send_up(wire, &bytes)? {
                        sent(around, &self.keyring, client, wire, version, &frame)?;
                    }
                }
            }
            Effect::Open { id } => self.open(disk, around, client, &id)?,
            Effect::AskForNews => self.control.handle(Input::NewsWanted),
            Effect::Close { .. } => conn.closed = true,
            Effect::Connected { .. }
            // No session asks for a login.
            | Effect::CheckLogin { .. }
            | Effect::Refused { .. }
            | Effect::Tell(_) => {}
        }
        Ok(())
    }

    fn open(&mut self, disk: &mut Disk, around: &mut Around<'_>, client: usize, id: &str) -> Result<(), Stop> {
        let Some(conn) = self.conns.get_mut(&client) else { return Ok(()) };
        if !disk.probe(around.now.run_ms) {
            conn.session.not_opened(NotOpened::Disk);
            return Ok(());
        }
        let memory = match self.memories.remove(id) {
            Some(memory) => memory,
            None => stored(disk, id)?,
        };
        conn.wire = Some(around.net.open(End::Client { device: device_of(client), client }));
        conn.session.opened(Opened { memory, max_packet_bytes: None, credentials: None }, &self.keyring);
        Ok(())
    }

    fn session_over(&mut self, around: &mut Around<'_>, client: usize) {
        let Some(conn) = self.conns.remove(&client) else { return };
        if let Some(wire) = conn.wire {
            around.net.end_up(wire);
        }
        let name = conn.session.name().to_owned();
        if let Some((memory, true)) = conn.session.into_memory() {
            self.memories.insert(name, memory);
        }
        around.clients[client].hang_up();
    }
}

/// What is on disk of a client.
fn stored(disk: &Disk, id: &str) -> Result<Memory, Stop> {
    let Some(Seen { ms, windows, filters }) = disk.files.clients.get(id) else { return Ok(Memory::default()) };
    let rows = windows.iter().map(|(key, value)| (key.as_slice(), value.as_slice()));
    let opener = Opener::restore(rows).context("a client's windows")?;
    let mqtt = SessionState { subscriptions: filters.iter().collect(), ..SessionState::default() };
    Ok(Memory { opener, mqtt, seen_ms: Some(*ms), ..Memory::default() })
}

fn handed(around: &mut Around<'_>, client: usize, version: Version, frame: &Frame) -> Result<(), Stop> {
    if frame.packet() == PacketType::Publish {
        let publish = Publish::parse(frame, version).map_err(|error| anyhow!("an agent sends its client {error}"))?;
        let sender = publish.properties.iter().find_map(|property| match property {
            Property::User(name, value) if name.as_str() == "sealcast-sender" => Some(value.as_str().to_owned()),
            _ => None,
        });
        around.ghost.handed(around.cast, client, &publish, sender.as_deref(), around.now);
    }
    Ok(())
}

fn sent(
    around: &mut Around<'_>,
    keyring: &sealcast_agent_core::Keyring,
    client: usize,
    wire: ConnId,
    version: Version,
    frame: &Frame,
) -> Result<(), Stop> {
    let malformed = |error| anyhow!("an agent sends the broker {error}");
    match frame.packet() {
        PacketType::Publish => {
            let publish = Publish::parse(frame, version).map_err(malformed)?;
            let topic = publish.topic.as_deref().unwrap_or_default();
            if !is_control(topic) {
                around.ghost.leaves(around.cast, device_of(client), keyring, topic, &publish.payload, around.now);
            }
        }
        PacketType::Puback | PacketType::Pubrec => {
            let ack = Ack::parse(frame, version).map_err(malformed)?;
            debug_assert!(matches!(ack.kind, AckKind::Puback | AckKind::Pubrec));
            around.ghost.settles(client, wire, ack.packet_id.value());
        }
        _ => {}
    }
    Ok(())
}
