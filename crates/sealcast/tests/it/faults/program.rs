//! What happens in a run, as a seed has it.

use std::{fmt, time::Duration};

use crate::harness::{Armed, Fault, Rng, Subject, Way, Wire};

/// Most faults that wait at a time.
const MOST_AT_ONCE: u64 = 4;
const LONGEST_DELAY_MS: u64 = 3_000;
/// To the broker: the writer's agent, the reader's, that of a device that comes and goes, and the hub.
pub const LINES: [&str; 4] = ["1111", "1112", "1113", "hub"];
pub const WRITER: usize = 0;
pub const READER: usize = 1;
pub const THIRD: usize = 2;
pub const HUB: usize = 3;

/// What happens, drawn from the seed.
pub enum Event {
    Arm(Vec<(usize, Armed)>),
    Cut(usize),
    HoldUp(usize, Duration),
    Kill(Victim),
    /// The third device is granted the group, or revoked: keys are exchanged.
    Turn,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Victim {
    Writer,
    Reader,
    Hub,
    /// While it keeps messages for the reader, whose agent is dead.
    HubInNeed,
    Broker,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Arm(faults) => {
                let faults: Vec<_> = faults.iter().map(|(line, armed)| format!("{} {armed}", LINES[*line])).collect();
                f.write_str(&faults.join(", "))
            }
            Self::Cut(line) => write!(f, "{} cut", LINES[*line]),
            Self::HoldUp(line, time) => write!(f, "{} held up for {time:?}", LINES[*line]),
            Self::Kill(victim) => write!(f, "kill -9 {victim:?}"),
            Self::Turn => f.write_str("1113 is granted, or revoked"),
        }
    }
}

/// Events without end.
pub struct Program {
    rng: Rng,
    wire: Wire,
    /// What is left of this round.
    round: Vec<fn(&mut Self) -> Event>,
    faults: Vec<Fault>,
    victims: Vec<Victim>,
    killed: usize,
    /// This dies first, and does not come back.
    once: Option<Victim>,
}

impl Program {
    pub fn new(seed: u64, wire: Wire, victims: &[Victim], once: Option<Victim>) -> Self {
        let (rng, victims) = (Rng::new(seed), victims.to_vec());
        Self { rng, wire, round: Vec::new(), faults: Vec::new(), victims, killed: 0, once }
    }

    pub fn next(&mut self) -> Event {
        const ROUND: [fn(&mut Program) -> Event; 8] = [
            Program::arm,
            Program::arm,
            Program::arm,
            Program::arm,
            Program::cut,
            Program::hold_up,
            Program::kill,
            Program::turn,
        ];
        if self.round.is_empty() {
            self.round = ROUND.to_vec();
        }
        let at = self.rng.place(self.round.len());
        self.round.swap_remove(at)(self)
    }

    fn arm(&mut self) -> Event {
        let count = 1 + self.rng.below(MOST_AT_ONCE);
        Event::Arm((0..count).map(|_| self.fault()).collect())
    }

    fn fault(&mut self) -> (usize, Armed) {
        if self.faults.is_empty() {
            self.faults = Fault::ALL.to_vec();
        }
        let at = self.rng.place(self.faults.len());
        let fault = self.faults.swap_remove(at);
        let way = if self.rng.once_in(2) { Way::Up } else { Way::Down };
        let (line, subject, way) = match (self.wire, way) {
            (Wire::Tls, way) => (self.rng.place(HUB), Subject::Record, way),
            (Wire::Mqtt, way) if self.rng.once_in(3) => (self.rng.place(LINES.len()), Subject::Control, way),
            (Wire::Mqtt, Way::Up) => (WRITER, Subject::Message, way),
            (Wire::Mqtt, Way::Down) => (READER, Subject::Message, way),
        };
        (line, Armed { fault, subject, way, salt: self.rng.next() })
    }

    fn lines(&self) -> usize {
        if self.wire == Wire::Tls { HUB } else { LINES.len() }
    }

    fn cut(&mut self) -> Event {
        let lines = self.lines();
        Event::Cut(self.rng.place(lines))
    }

    fn hold_up(&mut self) -> Event {
        let lines = self.lines();
        Event::HoldUp(self.rng.place(lines), Duration::from_millis(1 + self.rng.below(LONGEST_DELAY_MS)))
    }

    fn kill(&mut self) -> Event {
        if let Some(victim) = self.once.take() {
            return Event::Kill(victim);
        }
        self.killed += 1;
        Event::Kill(self.victims[self.killed % self.victims.len()])
    }

    fn turn(&mut self) -> Event {
        Event::Turn
    }
}
