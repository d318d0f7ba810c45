//! What happens in a run, as a list that a seed makes and that can be shortened.

use crate::rng::Rng;

/// Devices, each with an agent.
pub const DEVICES: usize = 4;
/// Local MQTT clients: one behind each agent, and one more behind the first.
pub const CLIENTS: usize = 5;

/// Something that happens. What cannot happen now does not: so any part of a list of events is a list of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the variants say what each field is of")]
pub enum Event {
    /// A client publishes its next message.
    Publish { client: usize, kind: Kind, qos: u8, retain: bool },
    /// A client that is away connects.
    Connect { client: usize },
    /// A client's connection breaks.
    Cut { client: usize },
    /// A client says DISCONNECT.
    Leave { client: usize },
    /// So many small things happen, in an order that the seed chooses: a frame goes one hop, the broker's journal is
    /// written, a call is answered.
    Move { seed: u64, moves: usize },
    /// Everything happens that needs no time.
    Settle,
    /// Time passes.
    Pass { ms: u64 },
    /// The operator grants the group.
    Grant { device: usize },
    /// The operator takes the grant back.
    Revoke { device: usize },
    /// The operator revokes a device.
    RevokeDevice { device: usize },
    /// The CA registers a device again, with the key that it has.
    Register { device: usize },
    /// The operator resets the group.
    Reset,
    /// An agent ends between two steps and starts again.
    Restart { device: usize },
    /// An agent dies at the write after so many more, in this way.
    Crash { device: usize, writes: usize, death: Death },
    /// Somebody copies an agent's folder.
    CopyFolder { device: usize },
    /// An agent ends, and starts again from the last copy of its folder.
    PutBack { device: usize },
    /// An agent's disk takes no writes for a while; some are there all the same.
    DiskFails { device: usize, ms: u64, persisted: bool },
    /// An agent's own connection to the broker breaks.
    CutLink { device: usize },
    /// The hub dies, with what its journal was about to write on disk or not.
    CrashHub { persisted: bool },
    /// The broker sends a client a frame that it made up.
    Forge { client: usize, seed: u64 },
    /// The broker sends a client something that it has seen before.
    Replay { client: usize, seed: u64 },
    /// The broker keeps the next frame for a client back.
    Hold { client: usize },
    /// The broker sends on what it kept back.
    LetGo { seed: u64 },
    /// The hub pushes a record to an agent that it has pushed before, or does so too early.
    PushAgain { device: usize, record: usize },
    /// The hub pushes a record that was never on the ledger.
    PushForged { device: usize, seed: u64 },
    /// The hub shows a device nothing more of the ledger, and if it also withholds that, no newer word of the operator.
    Withhold { device: usize, word: bool },
    /// Faults end, everybody comes back, and time passes until nothing is left to do.
    Quiet,
}

/// What a message is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// No rule speaks of it.
    Plain,
    /// A value that a rule lets pass.
    Good,
    /// A value that a rule blocks.
    Blocked,
    /// A value that a rule flags.
    Flagged,
    /// It may not be old.
    Live,
}

/// How an agent dies at a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// Nothing of the write is on disk.
    Lost,
    /// All of it is, and nothing of what follows has happened.
    Persisted,
    /// All of it is, and so many effects have happened.
    Effects(usize),
}

impl Event {
    /// Its name, for counts.
    pub fn name(&self) -> String {
        let text = format!("{self:?}");
        text.split([' ', '{']).next().unwrap_or_default().to_owned()
    }

    /// Whether it is something that goes wrong.
    pub fn is_fault(&self) -> bool {
        use Event::*;
        !matches!(
            self,
            Publish { .. }
                | Connect { .. }
                | Leave { .. }
                | Move { .. }
                | Settle
                | Pass { .. }
                | Grant { .. }
                | CopyFolder { .. }
                | Quiet
        )
    }
}

/// So many events that this seed chooses, with quiet in between and at the end.
pub fn events(seed: u64, steps: usize) -> Vec<Event> {
    const QUIET_EVERY: usize = 120;
    let mut rng = Rng::new(seed);
    // A run of its own character: some have no hostile broker, some no faulty disks, some hardly any change of members.
    let traits = Traits { hostile: !rng.once_in(3), faulty: !rng.once_in(4), restless: !rng.once_in(3) };
    let mut events: Vec<Event> = Vec::with_capacity(steps + 1);
    while events.len() < steps {
        let quiet = events.len() % QUIET_EVERY == QUIET_EVERY - 1;
        events.push(if quiet { Event::Quiet } else { event(&mut rng, traits) });
    }
    events.push(Event::Quiet);
    events
}

#[derive(Clone, Copy)]
struct Traits {
    hostile: bool,
    faulty: bool,
    restless: bool,
}

fn event(rng: &mut Rng, traits: Traits) -> Event {
    match rng.below(100) {
        0..26 => publish(rng),
        26..48 => Event::Move { seed: rng.next(), moves: 1 + rng.place(40) },
        48..54 => Event::Settle,
        54..61 => Event::Pass { ms: [5, 50, 250, 1_000, 4_000, 20_000][rng.place(6)] + rng.below(100) },
        61..72 => Event::Connect { client: rng.place(CLIENTS) },
        72..75 => Event::Cut { client: rng.place(CLIENTS) },
        75 => Event::Leave { client: rng.place(CLIENTS) },
        76..80 => Event::Grant { device: rng.place(DEVICES) },
        80..90 if traits.faulty => fault(rng),
        90..94 if traits.restless => change(rng),
        94.. if traits.hostile => hostile(rng),
        _ => Event::Move { seed: rng.next(), moves: 1 + rng.place(10) },
    }
}

fn publish(rng: &mut Rng) -> Event {
    let kind = [Kind::Plain, Kind::Plain, Kind::Good, Kind::Blocked, Kind::Flagged, Kind::Live][rng.place(6)];
    let qos = [0, 1, 1, 2][rng.place(4)];
    Event::Publish { client: rng.place(CLIENTS), kind, qos, retain: rng.once_in(6) }
}

fn fault(rng: &mut Rng) -> Event {
    let device = rng.place(DEVICES);
    match rng.below(10) {
        0 => Event::Restart { device },
        8 => Event::CopyFolder { device },
        9 => Event::PutBack { device },
        1..4 => {
            let death = [Death::Lost, Death::Persisted, Death::Effects(rng.place(4))][rng.place(3)];
            Event::Crash { device, writes: rng.place(6), death }
        }
        4 => Event::DiskFails { device, ms: 100 + rng.below(30_000), persisted: rng.once_in(2) },
        5 | 6 => Event::CutLink { device },
        _ => Event::CrashHub { persisted: rng.once_in(2) },
    }
}

fn change(rng: &mut Rng) -> Event {
    let device = rng.place(DEVICES);
    match rng.below(8) {
        0..4 => Event::Revoke { device },
        4 => Event::RevokeDevice { device },
        5 | 6 => Event::Register { device },
        _ => Event::Reset,
    }
}

fn hostile(rng: &mut Rng) -> Event {
    let (client, device, seed) = (rng.place(CLIENTS), rng.place(DEVICES), rng.next());
    match rng.below(10) {
        0 => Event::Forge { client, seed },
        1..4 => Event::Replay { client, seed },
        4 => Event::Hold { client },
        5 => Event::LetGo { seed },
        6 => Event::PushAgain { device, record: rng.place(64) },
        7 | 8 => Event::Withhold { device, word: rng.once_in(2) },
        _ => Event::PushForged { device, seed },
    }
}
