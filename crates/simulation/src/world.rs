//! Everybody together, in one thread and one time: what each [`Event`] does, and what is looked at after it.

mod quiet;

use anyhow::{Context as _, Error, Result};
use sealcast_agent_core::{Now, control::Input};
use sealcast_ledger::{Hash, Record};
use sealcast_mqtt::Qos;
use sealcast_topic::ControlTopic;

use crate::{
    agent::{Agent, Around, Stop},
    cast::{Cast, START_MS},
    client::{Client, State},
    event::{CLIENTS, DEVICES, Event},
    ghost::{Ghost, Violation, device_of},
    hub::{Hub, forged, replayed},
    net::{End, Net},
    rng::Rng,
};

/// How often the operator says how far the ledger is, ms.
const ATTEST_EVERY_MS: u64 = 5_000;
/// Small things without an end are a fault of the system.
const MOST_MOVES: usize = 200_000;

/// See the module.
pub struct World {
    cast: Cast,
    now: Now,
    net: Net,
    hub: Hub,
    agents: Vec<Agent>,
    clients: Vec<Client>,
    /// What must hold.
    pub ghost: Ghost,
    /// How often an agent has died.
    pub deaths: u64,
    /// When the operator says next how far the ledger is, by [`Now::run_ms`].
    attest_ms: u64,
}

/// Something small that can happen.
#[derive(Clone, Copy, Debug)]
enum Move {
    /// An agent takes a frame of a client.
    ClientUp(usize),
    /// A client takes a frame of its agent.
    ClientDown(usize),
    /// The broker takes a frame.
    Up(u64),
    /// An agent takes a frame of the broker for a client.
    Down(usize),
    /// An agent takes a frame of the broker for itself.
    ControlDown(usize),
    /// The broker's journal is written.
    Write,
    /// The hub follows the ledger.
    Follow,
    /// The relay answers a call.
    Answer(usize),
}

impl World {
    /// Devices with their agents, a group of all of them, and everybody connected.
    ///
    /// # Errors
    /// The system does not come up.
    pub fn new() -> Result<Self> {
        let cast = Cast::new(DEVICES)?;
        let now = Now { unix_ms: START_MS + 1_000, run_ms: 50 };
        let ghost = Ghost::new(&cast);
        let mut world = Self {
            hub: Hub::new(&cast, now),
            net: Net::default(),
            agents: (0..DEVICES).map(Agent::new).collect(),
            clients: (0..CLIENTS).map(Client::new).collect(),
            ghost,
            deaths: 0,
            attest_ms: 0,
            now,
            cast,
        };
        world.apply(Event::Quiet)?;
        Ok(world)
    }

    /// Lets something happen, and looks at everything afterwards.
    ///
    /// # Errors
    /// A part did what it may never do.
    pub fn apply(&mut self, event: Event) -> Result<()> {
        self.happen(event).with_context(|| format!("{event:?}"))?;
        self.check_heads();
        Ok(())
    }

    /// The invariants that do not hold any more.
    pub fn violations(&self) -> &[Violation] {
        &self.ghost.violations
    }

    /// Writes of all disks: that succeeded, failed, and failed although they are there.
    pub fn writes(&self) -> [u64; 3] {
        let sum = |place: usize| self.agents.iter().map(|agent| agent.disk.counts[place]).sum();
        [sum(0), sum(1), sum(2)]
    }

    /// Records on the ledger.
    pub fn records(&self) -> u64 {
        self.cast.ledger.replica().height()
    }

    fn happen(&mut self, event: Event) -> Result<()> {
        let now_ms = self.now.unix_ms;
        match event {
            Event::Publish { client, kind, qos, retain } => {
                let qos = Qos::from_bits(qos).unwrap_or(Qos::AtMostOnce);
                self.clients[client].publish(&mut self.ghost, kind, qos, retain).map(drop)
            }
            Event::Connect { client } => self.connect(client),
            Event::Cut { client } => self.cut(client),
            Event::Leave { client } if self.clients[client].state == State::Online => self.clients[client].leave(),
            Event::Leave { .. } => Ok(()),
            Event::Move { seed, moves } => self.some_moves(&mut Rng::new(seed), moves),
            Event::Settle => self.settle(),
            Event::Pass { ms } => self.pass(ms),
            Event::Grant { device } => {
                if self.cast.grant(device, now_ms).is_ok() {
                    self.ghost.granted(device);
                }
                Ok(())
            }
            Event::Revoke { device } => {
                if self.cast.revoke(device, now_ms).is_ok() {
                    self.ghost.revoked(device, now_ms);
                }
                Ok(())
            }
            Event::RevokeDevice { device } => {
                if self.cast.revoke_device(device, now_ms).is_ok() {
                    self.ghost.revoked(device, now_ms);
                    self.ghost.sessions_end((0..CLIENTS).filter(|client| device_of(*client) == device));
                }
                Ok(())
            }
            Event::Register { device } => {
                drop(self.cast.register(device, now_ms));
                Ok(())
            }
            Event::Reset => {
                if self.cast.reset(now_ms).is_ok() {
                    (0..DEVICES).for_each(|device| self.ghost.disrupted(device));
                }
                Ok(())
            }
            Event::Restart { device } => self.restart(device),
            Event::CopyFolder { device } => {
                self.agents[device].disk.copy();
                Ok(())
            }
            Event::PutBack { device } => self.put_back(device),
            Event::Crash { device, writes, death } => {
                self.agents[device].disk.set_trap(writes, death);
                Ok(())
            }
            Event::DiskFails { device, ms, persisted } => {
                self.agents[device].disk.fail_until(self.now.run_ms + ms, persisted);
                Ok(())
            }
            Event::CutLink { device } => self.with_agent(device, |agent, around| {
                agent.cut_link(around);
                Ok(())
            }),
            Event::CrashHub { persisted } => {
                self.hub.crash(&mut self.net, persisted, self.now);
                Ok(())
            }
            Event::Quiet => self.quiet(),
            hostile => {
                self.hostility(hostile);
                Ok(())
            }
        }
    }

    fn hostility(&mut self, event: Event) {
        match event {
            Event::Forge { client, seed } | Event::Replay { client, seed } if !self.hub.carried.is_empty() => {
                let mut rng = Rng::new(seed);
                let carried = self.hub.carried[rng.place(self.hub.carried.len())].clone();
                let forge = matches!(event, Event::Forge { .. });
                let publish = if forge { forged(&carried, &mut rng) } else { replayed(&carried, &mut rng) };
                self.ghost.meddled(client, &publish.payload);
                self.hub.inject(&mut self.net, client, publish);
            }
            Event::Hold { client } => {
                self.hub.hold(client);
                self.ghost.disordered(client);
            }
            Event::LetGo { seed } => {
                if let Some((client, payload)) = self.hub.let_go(&mut self.net, &mut Rng::new(seed)) {
                    self.ghost.meddled(client, &payload);
                }
            }
            Event::Withhold { device, word } => {
                self.ghost.disrupted(device);
                self.hub.withhold(&self.cast, device, word);
            }
            Event::PushAgain { device, record } => {
                let records = self.cast.ledger.records();
                if let Some(record) = records.len().checked_sub(1 + record).and_then(|place| records.get(place)) {
                    let payload = record.encode();
                    self.push(device, payload);
                }
            }
            Event::PushForged { device, seed } => {
                if let Some(payload) = self.forged_record(&mut Rng::new(seed)) {
                    self.push(device, payload);
                }
            }
            _ => {}
        }
    }

    fn push(&mut self, device: usize, payload: Vec<u8>) {
        let topic = ControlTopic::Ledger.to_string();
        self.agents[device].push(Input::Message { topic, payload: payload.into() });
    }

    /// The next record after the head, as somebody would have it who may not write it.
    fn forged_record(&self, rng: &mut Rng) -> Option<Vec<u8>> {
        let records = self.cast.ledger.records();
        let last = records.last()?;
        let model = records.get(rng.place(records.len()))?;
        let (index, time_s) = (last.index + 1, last.time_s + rng.below(3));
        let head = match rng.below(2) {
            0 => Hash::of(&rng.next().to_be_bytes()),
            _ => Record::next_head(&last.head, index, time_s, &model.entry, &self.cast.genesis.id),
        };
        Some(Record { index, time_s, entry: model.entry.clone(), head }.encode())
    }

    fn connect(&mut self, client: usize) -> Result<()> {
        if self.clients[client].state != State::Away {
            return Ok(());
        }
        self.with_agent(device_of(client), |agent, around| {
            if agent.accept(around, client) {
                around.clients[client].connect()?;
            }
            agent.run(around)
        })
    }

    fn cut(&mut self, client: usize) -> Result<()> {
        self.clients[client].lost();
        self.with_agent(device_of(client), |agent, around| {
            agent.client_gone(client);
            agent.run(around)
        })
    }

    fn restart(&mut self, device: usize) -> Result<()> {
        self.with_agent(device, |agent, around| {
            agent.kill(around);
            agent.start(around)
        })
    }

    /// A copy of which nothing shows that it is one is not put back: there is one that is as new.
    fn put_back(&mut self, device: usize) -> Result<()> {
        self.settle()?;
        let Some(copied) = self.agents[device].disk.copied().map(|past| past.checkpoint) else { return Ok(()) };
        let kept = self.hub.kept_checkpoint(&self.cast, device);
        if copied.zip(kept).is_none_or(|(copied, kept)| kept.number <= copied.number) {
            return Ok(());
        }
        self.ghost.put_back(device, &self.cast);
        self.with_agent(device, |agent, around| {
            agent.kill(around);
            agent.disk.put_back();
            agent.start(around)
        })
    }

    /// Has an agent do something. If it dies of it, it starts again.
    fn with_agent(
        &mut self,
        device: usize,
        act: impl FnOnce(&mut Agent, &mut Around<'_>) -> Result<(), Stop>,
    ) -> Result<()> {
        let Self { cast, now, net, hub, agents, clients, ghost, deaths, .. } = self;
        let agent = &mut agents[device];
        let now = agent.clock(*now);
        let mut around = Around { net, hub, clients, ghost, cast, now };
        let mut outcome = act(agent, &mut around);
        while let Err(Stop::Died) = outcome {
            *deaths += 1;
            agent.kill(&mut around);
            agent.check_disk(around.cast, now).context("after a crash")?;
            outcome = agent.start(&mut around);
        }
        match outcome {
            Ok(()) | Err(Stop::Died) => Ok(()),
            Err(Stop::Broken(error)) => Err(error.context(format!("device {device}"))),
        }
    }

    fn some_moves(&mut self, rng: &mut Rng, moves: usize) -> Result<()> {
        for _ in 0..moves {
            let all = self.moves();
            if all.is_empty() {
                break;
            }
            self.make(all[rng.place(all.len())])?;
        }
        Ok(())
    }

    /// Everything that needs no time.
    fn settle(&mut self) -> Result<()> {
        for device in 0..DEVICES {
            self.run(device)?;
        }
        for made in 0.. {
            let all = self.moves();
            if all.is_empty() {
                break;
            }
            anyhow::ensure!(made < MOST_MOVES, "it never settles: {all:?}");
            for one in all {
                self.make(one)?;
            }
        }
        Ok(())
    }

    fn run(&mut self, device: usize) -> Result<()> {
        if self.agents[device].is_running() {
            self.with_agent(device, Agent::run)
        } else {
            self.with_agent(device, Agent::start)
        }
    }

    fn moves(&self) -> Vec<Move> {
        let mut moves = Vec::new();
        for (place, client) in self.clients.iter().enumerate() {
            if !client.outbox.is_empty() && self.agents[device_of(place)].takes_up(place) {
                moves.push(Move::ClientUp(place));
            }
            if client.may_receive() {
                moves.push(Move::ClientDown(place));
            }
        }
        for (conn, wire) in &self.net.wires {
            if !wire.up.is_empty() && wire.reads || wire.up_ended {
                moves.push(Move::Up(*conn));
            }
            if !wire.up_ended && (!wire.down.is_empty() || wire.down_ended) {
                match wire.end {
                    End::Control { device } => moves.push(Move::ControlDown(device)),
                    End::Client { client, device } if self.agents[device].takes_down(client) => {
                        moves.push(Move::Down(client));
                    }
                    End::Client { .. } => {}
                }
            }
        }
        if self.hub.has_unwritten() {
            moves.push(Move::Write);
        }
        if self.hub.is_behind(&self.cast) {
            moves.push(Move::Follow);
        }
        moves.extend((0..self.hub.calls()).map(Move::Answer));
        moves
    }

    fn make(&mut self, one: Move) -> Result<()> {
        let now = self.now;
        match one {
            Move::ClientUp(client) => self.with_agent(device_of(client), |agent, around| {
                agent.take_up(around, client);
                agent.run(around)
            }),
            Move::ClientDown(client) => self.clients[client].receive(&mut self.ghost).map(drop),
            Move::Up(conn) => self.hub.receive(&self.cast, &mut self.net, conn, now).map(drop),
            Move::Down(client) => self.with_agent(device_of(client), |agent, around| {
                agent.take_down_for(around, client);
                agent.run(around)
            }),
            Move::ControlDown(device) => self.with_agent(device, |agent, around| {
                agent.take_down(around);
                agent.run(around)
            }),
            Move::Write => {
                self.hub.write(&mut self.net);
                Ok(())
            }
            Move::Follow => self.hub.follow(&self.cast, &mut self.net, now).map(drop),
            Move::Answer(place) if place < self.hub.calls() => {
                self.hub.answer(&mut self.cast, &mut self.net, place, now)
            }
            Move::Answer(_) => Ok(()),
        }
    }

    /// Time passes, from one thing that is due to the next, and nothing else happens.
    fn pass(&mut self, ms: u64) -> Result<()> {
        let end_ms = self.now.run_ms + ms;
        while self.now.run_ms < end_ms {
            self.tick(end_ms)?;
        }
        Ok(())
    }

    /// Time passes until something is due, but not beyond `end_ms`.
    fn tick(&mut self, end_ms: u64) -> Result<()> {
        let due = self.agents.iter().filter_map(|agent| agent.poll_timeout(agent.clock(self.now))).min();
        let next_ms = due.unwrap_or(end_ms).min(self.attest_ms).clamp(self.now.run_ms + 1, end_ms);
        self.now.unix_ms += next_ms - self.now.run_ms;
        self.now.run_ms = next_ms;
        self.hub.handle_timeout(&mut self.net, self.now);
        if self.attest_ms <= self.now.run_ms {
            self.attest()?;
        }
        (0..DEVICES).try_for_each(|device| self.run(device))
    }

    fn attest(&mut self) -> Result<()> {
        let (said, statement) = self.cast.attest(self.now.unix_ms)?;
        self.ghost.attested(said);
        self.attest_ms = self.now.run_ms + ATTEST_EVERY_MS;
        self.hub.attest(&mut self.net, statement.into(), self.now)
    }

    /// Every replica is the ledger, as far as it goes.
    fn check_heads(&mut self) {
        let ledger = self.cast.ledger.replica();
        for (device, agent) in self.agents.iter().enumerate() {
            let Some(replica) = agent.keyring().map(|keyring| keyring.replica()) else { continue };
            let height = replica.height();
            if ledger.head_at(height) != Some(replica.head()) {
                let what = format!("device {device} has another ledger at height {height}");
                self.ghost.violated("all replicas are the ledger", what);
            }
        }
    }
}

/// The whole chain of an error in one line.
pub fn chain(error: &Error) -> String {
    format!("{error:#}")
}
