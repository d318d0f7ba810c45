//! One connection to a device or gateway, as a state machine without sockets and clock: what is asked next, what an answer
//! means, how long to wait after a fault.
//!
//! The driver calls `handle_*` when something happened, does what [`Line::poll_output`] says until that is `None`, and
//! comes back at [`Line::poll_timeout`]. There is one request at a time, and a connection only while there is something to
//! ask. What was asked stays due until it is answered, so a lost connection costs a repetition and no reading.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use tokio_modbus::ExceptionCode;

use super::{
    faults::{About, Faults, Lost, Scope, explain, pause, scope},
    plan::Span,
    settings::{Modbus, Read, Write},
    unit::{Pending, Point, Unit},
    value::{Command, payload},
};

/// How long a command waits for a device that is away.
const COMMAND_AGE: Duration = Duration::from_secs(30);
/// A connection that was idle for so long and gives no answer may have been forgotten by something on the way.
const STALE: Duration = Duration::from_secs(5);
const NO_ANSWER: &str = "the device accepts connections and closes them without an answer: it may have reached its limit of \
                         clients, or allow none from this address";

/// A value that is read: the unit's and the value's place in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReadId {
    unit: usize,
    index: usize,
}

/// A value that is written: the unit's and the value's place in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct WriteId {
    unit: usize,
    index: usize,
}

/// A request to a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The unit's identifier.
    pub unit: u8,
    /// How long it may take to answer.
    pub timeout: Duration,
    /// What it is asked.
    pub ask: Ask,
}

/// What a unit is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// The contents of registers or bits.
    Read(Span),
    /// To write at an address.
    Write(u16, Command),
}

/// A unit's answer.
pub type Answer = Result<Reply, ExceptionCode>;

/// What a unit says that it did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// It read this: two bytes for a register, one for a bit.
    Read(Vec<u8>),
    /// It wrote what was asked.
    Written,
    /// It wrote something, and says that it is not what was asked.
    WrittenOtherwise,
}

/// What the driver has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Connect within this time, then call [`Line::handle_connected`] or [`Line::handle_not_connected`].
    Connect(Duration),
    /// Send this on the connection, then call [`Line::handle_answer`].
    Send(Request),
    /// Publish a reading.
    Publish(ReadId, Vec<u8>),
    /// Log this.
    Say(Notice),
}

/// A line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Whether a person should look at it.
    pub warn: bool,
    /// What it is about.
    pub about: String,
    /// What happened, why, and what to do.
    pub text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    /// No connection, and none before this time.
    Down(Instant),
    Connecting,
    /// `answered` is the time of the last answer on this connection.
    Up {
        answered: Option<Instant>,
    },
}

#[derive(Debug)]
enum InFlight {
    Read { unit: usize, whole: Span, values: Vec<(Span, usize)> },
    Write { id: WriteId, command: Pending },
}

/// The state machine.
#[derive(Debug)]
pub struct Line {
    units: Vec<Unit>,
    link: Link,
    /// What was asked, and when.
    in_flight: Option<(InFlight, Instant)>,
    connect_failures: usize,
    turn: u64,
    /// A write was last: a read that is due has the next turn, so that many commands do not stop the polling.
    wrote: bool,
    /// That the device cuts connections was said.
    cut_said: bool,
    faults: Faults<ReadId>,
    outputs: VecDeque<Output>,
}

impl Line {
    /// Everything is due at once.
    pub fn new(config: Modbus, now: Instant) -> Self {
        Self {
            units: config.units.into_iter().map(|unit| Unit::new(unit, now)).collect(),
            link: Link::Down(now),
            in_flight: None,
            connect_failures: 0,
            turn: 0,
            wrote: false,
            cut_said: false,
            faults: Faults::default(),
            outputs: VecDeque::new(),
        }
    }

    /// All values that can be written.
    pub fn writes(&self) -> impl Iterator<Item = (WriteId, &Write)> {
        self.units.iter().enumerate().flat_map(|(unit, state)| {
            state.writes.iter().enumerate().map(move |(index, write)| (WriteId { unit, index }, write))
        })
    }

    /// A value that is read.
    pub fn read(&self, id: ReadId) -> Option<&Read> {
        self.units.get(id.unit)?.points.get(id.index).map(|point| &point.read)
    }

    /// A message said what to write. It takes the place of one that waits.
    pub fn handle_command(&mut self, id: WriteId, command: Command, now: Instant) {
        if let Some(unit) = self.units.get_mut(id.unit) {
            unit.commands.insert(id.index, Pending { command, until: now + COMMAND_AGE, tried: self.turn });
        }
    }

    /// The connection is there.
    pub fn handle_connected(&mut self) {
        self.link = Link::Up { answered: None };
    }

    /// It could not be made.
    pub fn handle_not_connected(&mut self, reason: &str, now: Instant) {
        self.connection_failed(&format!("no connection: {reason}; check `device` and the network"), now);
    }

    /// The device ended the connection while nothing was asked, or sent what nobody had asked for.
    pub fn handle_idle_end(&mut self, lost: &Lost, now: Instant) {
        let answered = self.answered();
        self.link = Link::Down(now);
        match (lost, answered) {
            (Lost::Closed, Some(answered)) => self.say_cut(lost, answered, now),
            (Lost::Closed, None) => {}
            (lost, _) => self.fault(About::Connection, &lost.to_string()),
        }
    }

    /// What became of the request. After a [`Lost`] the connection is no longer used. `now_ms` is the time in Unix ms.
    pub fn handle_answer(&mut self, answer: Result<Answer, Lost>, now: Instant, now_ms: u64) {
        let Some((in_flight, sent)) = self.in_flight.take() else { return };
        match answer {
            Ok(answer) => {
                self.link = Link::Up { answered: Some(now) };
                self.connect_failures = 0;
                self.over(About::Connection);
                match in_flight {
                    InFlight::Read { unit, whole, values } => {
                        self.read_answered(unit, whole, &values, answer, now, now_ms);
                    }
                    InFlight::Write { id, command } => self.write_answered(id, command, answer, now),
                }
            }
            Err(lost) => self.lost(in_flight, &lost, sent, now),
        }
    }

    /// What to do next; `None` if there is nothing to do before [`Line::poll_timeout`].
    pub fn poll_output(&mut self, now: Instant) -> Option<Output> {
        self.drop_old_commands(now);
        if let Some(output) = self.outputs.pop_front() {
            return Some(output);
        }
        if self.in_flight.is_some() || self.link == Link::Connecting {
            return None;
        }
        let (write, read) = (self.next_write(now), self.next_read(now));
        if write.is_none() && read.is_none() {
            return None;
        }
        if let Link::Down(until) = self.link {
            if now < until {
                return None;
            }
            self.link = Link::Connecting;
            return Some(Output::Connect(self.units.iter().map(|unit| unit.timeout).max().unwrap_or_default()));
        }
        match (write, read) {
            (Some(id), None) => self.send_write(id, now),
            (Some(id), Some(_)) if !self.wrote => self.send_write(id, now),
            (_, Some(id)) => self.send_read(id, now),
            (None, None) => None,
        }
    }

    /// When [`Line::poll_output`] may have something new to say, if nothing is handled before.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let commands = || self.units.iter().flat_map(|unit| unit.commands.values().map(move |pending| (unit, pending)));
        let expiry = commands().map(|(_, pending)| pending.until).min();
        if self.in_flight.is_some() || self.link == Link::Connecting {
            return expiry;
        }
        let not_before = match self.link {
            Link::Down(until) => Some(until),
            _ => None,
        };
        let reads = self.units.iter().flat_map(|unit| unit.points.iter().map(|point| unit.readable(point)));
        let writes = commands().filter_map(|(unit, _)| unit.writable().or(not_before));
        let work = reads.chain(writes).min().map(|then| not_before.map_or(then, |until| until.max(then)));
        [expiry, work].into_iter().flatten().min()
    }

    fn answered(&self) -> Option<Instant> {
        match self.link {
            Link::Up { answered } => answered,
            _ => None,
        }
    }

    fn next_write(&self, now: Instant) -> Option<WriteId> {
        let ready = self.units.iter().enumerate().filter(|(_, unit)| unit.writable().is_none_or(|then| then <= now));
        let pending = ready.flat_map(|(unit, state)| {
            state.commands.iter().map(move |(index, pending)| (pending.tried, WriteId { unit, index: *index }))
        });
        pending.min().map(|(_, id)| id)
    }

    fn next_read(&self, now: Instant) -> Option<ReadId> {
        let due = self.units.iter().enumerate().flat_map(|(unit, state)| {
            state.due(now).map(move |(index, point)| (point.tried, point.due, ReadId { unit, index }))
        });
        due.min().map(|(_, _, id)| id)
    }

    fn send_write(&mut self, id: WriteId, now: Instant) -> Option<Output> {
        let unit = self.units.get_mut(id.unit)?;
        let (address, command) = (unit.writes.get(id.index)?.address, unit.commands.remove(&id.index)?);
        let ask = Ask::Write(address, command.command.clone());
        let request = Request { unit: unit.id, timeout: unit.timeout, ask };
        self.in_flight = Some((InFlight::Write { id, command }, now));
        self.wrote = true;
        Some(Output::Send(request))
    }

    fn send_read(&mut self, id: ReadId, now: Instant) -> Option<Output> {
        let unit = self.units.get(id.unit)?;
        let (whole, values) = unit.request(id.index, now)?;
        let request = Request { unit: unit.id, timeout: unit.timeout, ask: Ask::Read(whole) };
        self.in_flight = Some((InFlight::Read { unit: id.unit, whole, values }, now));
        self.wrote = false;
        Some(Output::Send(request))
    }

    fn read_answered(
        &mut self,
        unit: usize,
        whole: Span,
        values: &[(Span, usize)],
        answer: Answer,
        now: Instant,
        now_ms: u64,
    ) {
        let turn = self.next_turn();
        let Some(state) = self.units.get_mut(unit) else { return };
        let answer = match answer {
            Err(code) if scope(code) == Scope::Unit => {
                state.tried(values, turn);
                return self.unit_away(unit, &explain(code), now);
            }
            Err(code) if scope(code) == Scope::Request && state.part(values) => {
                // The parts are asked for at once: all values are due still.
                self.unit_answers(unit);
                let parted =
                    format!("{whole}: cannot be read in one request ({}); read in parts from now on", explain(code));
                return self.say(false, self.unit_name(unit), parted);
            }
            answer => answer,
        };
        state.tried(values, turn);
        state.advance(whole, values, now);
        self.unit_answers(unit);
        for (span, index) in values {
            let id = ReadId { unit, index: *index };
            let read = match &answer {
                Err(code) => Err(explain(*code)),
                Ok(Reply::Read(bytes)) => match (whole.slice(*span, bytes), self.read(id)) {
                    (Some(bytes), Some(read)) => payload(read, bytes, now_ms),
                    _ => Err("the answer is too short".to_owned()),
                },
                Ok(_) => Err("the answer is the answer to a write".to_owned()),
            };
            match read {
                Ok(payload) => {
                    self.over(About::Read(id));
                    self.outputs.push_back(Output::Publish(id, payload));
                }
                Err(reason) => self.fault(About::Read(id), &reason),
            }
        }
    }

    fn write_answered(&mut self, id: WriteId, command: Pending, answer: Answer, now: Instant) {
        let about = self.write_name(id);
        match answer {
            Ok(Reply::WrittenOtherwise) => {
                self.unit_answers(id.unit);
                let text = "written, but the device answered with another address or value: check what it holds";
                self.say(true, about, text.into());
            }
            Ok(_) => {
                self.unit_answers(id.unit);
                self.say(false, about, "written".into());
            }
            // The device has it, and says that it will take its time: it is not told twice.
            Err(ExceptionCode::Acknowledge) => {
                self.unit_answers(id.unit);
                self.pause(id.unit, now);
                self.say(false, about, "written; the device needs some time for it (exception 05, acknowledge)".into());
            }
            Err(code) if scope(code) == Scope::Unit => {
                self.put_back(id, command);
                self.unit_away(id.unit, &explain(code), now);
            }
            Err(code) => {
                self.unit_answers(id.unit);
                self.say(true, about, format!("not written: {}", explain(code)));
            }
        }
    }

    fn lost(&mut self, in_flight: InFlight, lost: &Lost, sent: Instant, now: Instant) {
        let answered = self.answered();
        self.link = Link::Down(now);
        let old = match (lost, answered) {
            // It was closed when the request was sent.
            (Lost::Closed | Lost::Broken(_), Some(_)) => true,
            (Lost::Timeout(_), Some(answered)) => sent.saturating_duration_since(answered) >= STALE,
            _ => false,
        };
        let (unit, read) = match in_flight {
            InFlight::Read { unit, whole, values } => (unit, Some((whole, values))),
            InFlight::Write { id, command } => {
                self.put_back(id, command);
                (id.unit, None)
            }
        };
        if old {
            // No fault of the unit: what was asked has kept its turn, and is repeated at once on the next connection.
            return self.say_cut(lost, answered.unwrap_or(sent), now);
        }
        if matches!(lost, Lost::Closed | Lost::Broken(_)) {
            let reason = match lost {
                Lost::Closed => NO_ANSWER.to_owned(),
                lost => lost.to_string(),
            };
            self.connection_failed(&reason, now);
        }
        let turn = self.next_turn();
        let culprit = read.and_then(|(whole, values)| {
            let state = self.units.get_mut(unit)?;
            state.tried(&values, turn);
            let surely = state.strike(whole, &values, now);
            values.first().filter(|_| surely).map(|(_, index)| ReadId { unit, index: *index })
        });
        match (culprit, lost) {
            (Some(id), _) => self.fault(About::Read(id), &format!("{lost} (the unit answers other requests)")),
            (None, Lost::Closed | Lost::Broken(_)) => self.pause(unit, now),
            (None, _) => self.unit_away(unit, &lost.to_string(), now),
        }
    }

    fn next_turn(&mut self) -> u64 {
        self.turn += 1;
        self.turn
    }

    fn put_back(&mut self, id: WriteId, command: Pending) {
        let tried = self.next_turn();
        if let Some(unit) = self.units.get_mut(id.unit) {
            unit.put_back(id.index, Pending { tried, ..command });
        }
    }

    fn drop_old_commands(&mut self, now: Instant) {
        let mut old = Vec::new();
        for (unit, state) in self.units.iter_mut().enumerate() {
            let expired = state.commands.extract_if(.., |_, pending| pending.until <= now);
            old.extend(expired.map(|(index, _)| WriteId { unit, index }));
        }
        for id in old {
            let unit = self.units.get(id.unit).map_or(0, |unit| unit.id);
            let why = self.faults.reason(&About::Connection).or_else(|| self.faults.reason(&About::Unit(unit)));
            let why = why.unwrap_or("the device was busy with other requests");
            let text = format!("dropped, because it could not be written within {} s: {why}", COMMAND_AGE.as_secs());
            self.say(true, self.write_name(id), text);
        }
    }

    fn unit_answers(&mut self, index: usize) {
        let Some(unit) = self.units.get_mut(index) else { return };
        unit.answers();
        let id = unit.id;
        self.over(About::Unit(id));
    }

    fn unit_away(&mut self, index: usize, reason: &str, now: Instant) {
        self.pause(index, now);
        let Some(id) = self.units.get(index).map(|unit| unit.id) else { return };
        self.fault(About::Unit(id), reason);
    }

    fn pause(&mut self, index: usize, now: Instant) {
        let shared = self.units.len() > 1;
        if let Some(unit) = self.units.get_mut(index) {
            unit.pause(shared, now);
        }
    }

    fn connection_failed(&mut self, reason: &str, now: Instant) {
        self.connect_failures += 1;
        self.link = Link::Down(now + pause(self.connect_failures));
        self.fault(About::Connection, reason);
    }

    fn say_cut(&mut self, lost: &Lost, answered: Instant, now: Instant) {
        if std::mem::replace(&mut self.cut_said, true) {
            return;
        }
        let what = match lost {
            Lost::Closed => "the device closed the connection",
            _ => "the connection broke",
        };
        let idle = now.saturating_duration_since(answered).as_secs_f64();
        let text = format!(
            "{what} {idle:.1} s after its last answer. The agent connects again whenever a request is due, and no reading is \
             lost. This is logged once"
        );
        self.say(false, "connection".into(), text);
    }

    fn fault(&mut self, about: About<ReadId>, reason: &str) {
        if self.faults.put(about, reason) {
            self.say(true, self.name(about), reason.to_owned());
        }
    }

    fn over(&mut self, about: About<ReadId>) {
        if self.faults.over(&about) {
            self.say(false, self.name(about), "works again".into());
        }
    }

    fn say(&mut self, warn: bool, about: String, text: String) {
        self.outputs.push_back(Output::Say(Notice { warn, about, text }));
    }

    fn name(&self, about: About<ReadId>) -> String {
        match about {
            About::Connection => "connection".into(),
            About::Unit(id) => format!("unit {id}"),
            About::Read(id) => {
                let point = self.units.get(id.unit).and_then(|unit| unit.points.get(id.index));
                let name =
                    |point: &Point| format!("{}, {}, {}", point.read.topic, self.unit_name(id.unit), point.span());
                point.map(name).unwrap_or_default()
            }
        }
    }

    fn unit_name(&self, index: usize) -> String {
        self.units.get(index).map_or_else(String::new, |unit| format!("unit {}", unit.id))
    }

    fn write_name(&self, id: WriteId) -> String {
        let write = self.units.get(id.unit).and_then(|unit| unit.writes.get(id.index));
        write.map_or_else(String::new, |write| {
            let span = Span { table: write.table, address: write.address, count: 1 };
            format!("{}, {}, {span}", write.topic.as_str(), self.unit_name(id.unit))
        })
    }
}

#[cfg(test)]
mod tests;
