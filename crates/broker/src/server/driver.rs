//! The event loop around the core.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sealcast_broker_core::{ConnId, Core, JournalRecord, Limits, LocalId, Message, Output, Received};
use tokio::sync::{mpsc, oneshot, watch};

use super::event::ServerEvent;
use crate::connection::ConnOut;
use crate::journal::Journal;
use crate::sighting::Sighting;

/// Events handled between two looks at the journal: what shares a commit at least.
const ROUND: usize = 256;
/// Outputs after which a round ends early: a SUBSCRIBE may bring all that is retained.
const ROUND_OUTPUTS: usize = 10_000;
/// Bytes of records that wait for the disk; beyond it no more events are taken, so that publishers feel it, and no more of
/// what ended sessions have left is handed over.
const UNWRITTEN_BYTES: usize = 32 * 1024 * 1024;

pub(crate) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

pub(super) struct Driver {
    core: Core,
    journal: Option<Journal>,
    limits: Limits,
    connections: HashMap<ConnId, Arc<ConnOut>>,
    locals: HashMap<LocalId, mpsc::Sender<Received>>,
    /// Who watches all that is published.
    taps: Vec<mpsc::Sender<Sighting>>,
    /// Hub messages whose publisher waits.
    waiting: HashMap<u64, oneshot::Sender<()>>,
    next_token: u64,
    /// Outputs with the journal number that must be durable first; in order.
    held: VecDeque<(u64, Vec<Output>)>,
    /// Journal numbers with their bytes that are not durable yet.
    unwritten: VecDeque<(u64, usize)>,
    unwritten_bytes: usize,
    durable: u64,
    /// The last number that outputs wait for.
    gate: u64,
}

impl Driver {
    pub(super) fn new(core: Core, journal: Option<Journal>, limits: Limits) -> Self {
        Self {
            core,
            journal,
            limits,
            connections: HashMap::new(),
            locals: HashMap::new(),
            taps: Vec::new(),
            waiting: HashMap::new(),
            next_token: 1,
            held: VecDeque::new(),
            unwritten: VecDeque::new(),
            unwritten_bytes: 0,
            durable: 0,
            gate: 0,
        }
    }

    pub(super) async fn run(
        mut self,
        mut events: mpsc::Receiver<ServerEvent>,
        mut durable: mpsc::UnboundedReceiver<u64>,
        stop: Arc<watch::Sender<bool>>,
        failure: Arc<OnceLock<String>>,
    ) {
        let mut stopping = stop.subscribe();
        // Restoring may have ended sessions.
        self.flush();
        loop {
            let timer = self
                .core
                .poll_timeout()
                .map_or(Duration::from_secs(3600), |at| Duration::from_millis(at.saturating_sub(now_ms())));
            tokio::select! {
                biased;
                number = durable.recv(), if self.journal.is_some() => match number {
                    Some(number) => self.written(number),
                    None => break,
                },
                _ = stopping.wait_for(|stop| *stop) => {
                    self.core.handle_shutdown(now_ms());
                    self.flush();
                    break;
                }
                event = events.recv(), if self.unwritten_bytes < UNWRITTEN_BYTES => {
                    let Some(event) = event else { break };
                    self.handle(event);
                    for _ in 1..ROUND {
                        if self.core.outputs() >= ROUND_OUTPUTS {
                            break;
                        }
                        let Ok(event) = events.try_recv() else { break };
                        self.handle(event);
                    }
                    self.flush();
                }
                () = tokio::time::sleep(timer), if self.unwritten_bytes < UNWRITTEN_BYTES => {
                    self.core.handle_timeout(now_ms());
                    self.flush();
                }
            }
        }
        events.close();
        if let Some(mut journal) = self.journal.take() {
            // Joins the writer thread, which ends when it has written all.
            let closed = tokio::task::spawn_blocking(move || journal.close());
            while let Some(number) = durable.recv().await {
                self.written(number);
            }
            match closed.await {
                Ok(Ok(())) => {}
                Ok(Err(reason)) => drop(failure.set(reason)),
                Err(_) => drop(failure.set("the thread that closes the broker's journal panicked".to_owned())),
            }
        }
        stop.send_replace(true);
        for connection in self.connections.values() {
            connection.close();
        }
    }

    fn handle(&mut self, event: ServerEvent) {
        let now = now_ms();
        match event {
            ServerEvent::Connect { conn, certificate, connect, out } => {
                self.connections.insert(conn, out);
                self.core.handle_connect(conn, certificate.as_deref(), *connect, now);
            }
            ServerEvent::Packet { conn, packet, _permit } => self.core.handle_packet(conn, packet, now),
            ServerEvent::Refused { cause } => self.core.note_refused(cause),
            ServerEvent::Failed { conn, code } => self.core.handle_failed(conn, code, now),
            ServerEvent::Closed { conn } => {
                self.connections.remove(&conn);
                self.core.handle_closed(conn, now);
            }
            ServerEvent::Publish { message, done } => {
                let token = self.next_token;
                self.next_token += 1;
                self.waiting.insert(token, done);
                self.core.handle_hub_publish(*message, token, now);
            }
            ServerEvent::Subscribe { filter, sender, done } => {
                let id = self.core.handle_local_subscribe(filter, now);
                self.locals.insert(id, sender);
                let _ = done.send(());
            }
            ServerEvent::Tap { sender, done } => {
                self.taps.push(sender);
                self.core.set_watched(true);
                let _ = done.send(());
            }
            ServerEvent::Connected { done } => {
                let _ = done.send(self.core.connected().map(str::to_owned).collect());
            }
            ServerEvent::DisconnectDevice { device, done } => {
                let _ = done.send(self.core.handle_disconnect_device(&device));
            }
            ServerEvent::NewCredential { device, credential, done } => {
                let _ = done.send(self.core.handle_new_credential(&device, credential));
            }
            ServerEvent::Stats { done } => {
                let _ = done.send(self.core.stats());
            }
        }
    }

    /// Hands records to the journal and outputs on, or keeps them until they may go.
    fn flush(&mut self) {
        let effects = self.core.take_effects(now_ms());
        for (conn, reads) in effects.reading {
            if let Some(connection) = self.connections.get(&conn) {
                connection.set_reading(reads);
            }
        }
        if let Some(journal) = &mut self.journal
            && !effects.records.is_empty()
        {
            let gates = effects.records.iter().any(JournalRecord::gates);
            let bytes = effects.records.iter().map(JournalRecord::cost).sum();
            let number = journal.append(effects.records);
            self.unwritten.push_back((number, bytes));
            self.unwritten_bytes += bytes;
            if gates {
                self.gate = number;
            }
        }
        if effects.outputs.is_empty() {
            return;
        }
        if self.gate > self.durable {
            self.held.push_back((self.gate, effects.outputs));
        } else {
            self.release(effects.outputs);
        }
    }

    /// Everything up to `number` is on disk.
    fn written(&mut self, number: u64) {
        self.durable = self.durable.max(number);
        while let Some((_, bytes)) = self.unwritten.pop_front_if(|(number, _)| *number <= self.durable) {
            self.unwritten_bytes -= bytes;
        }
        while let Some((_, outputs)) = self.held.pop_front_if(|(gate, _)| *gate <= self.durable) {
            self.release(outputs);
        }
    }

    fn release(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Send(conn, packet) => {
                    // One packet of the largest size must not make the next one the last.
                    let limit = self.limits.max_outbound_bytes.max(self.limits.max_packet_bytes);
                    if let Some(connection) = self.connections.get(&conn)
                        && !connection.send(packet, limit)
                    {
                        let (device, client_id) = self.core.who(conn).unwrap_or_default();
                        tracing::warn!(
                            device,
                            client_id,
                            limit_bytes = 4 * limit,
                            "connection cut: the client does not read, and as many bytes wait for it as may"
                        );
                        connection.kill();
                        self.connections.remove(&conn);
                    }
                }
                Output::Close(conn) => {
                    if let Some(connection) = self.connections.remove(&conn) {
                        connection.close();
                    }
                }
                Output::Local(id, received) => self.local(id, *received),
                Output::Published(message) => self.published(&message),
                Output::Done(token) => {
                    if let Some(done) = self.waiting.remove(&token) {
                        let _ = done.send(());
                    }
                }
            }
        }
    }

    /// Who watches may miss messages: the broker waits for none of them.
    fn published(&mut self, message: &Message) {
        self.taps.retain(|tap| match tap.try_reserve() {
            Ok(place) => {
                place.send(Sighting::of(message));
                true
            }
            Err(error) => matches!(error, mpsc::error::TrySendError::Full(())),
        });
        self.core.set_watched(!self.taps.is_empty());
    }

    fn local(&mut self, id: LocalId, received: Received) {
        let Some(sender) = self.locals.get(&id) else { return };
        match sender.try_send(received) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(lost)) => {
                tracing::warn!(topic = %lost.topic, "message dropped for a subscriber inside the hub: it has \
                    not taken the messages before it");
            }
            Err(mpsc::error::TrySendError::Closed(_)) => {
                self.locals.remove(&id);
                self.core.handle_local_unsubscribe(id);
            }
        }
    }
}
