//! Devices in simulated time.

use anyhow::{Result, anyhow};

use super::{
    super::settings::{self, ModbusFile, Table},
    *,
};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// What a device does with a request, and after how long.
struct Reaction(Duration, std::result::Result<Answer, Lost>);

type Device = Box<dyn FnMut(&Request, Duration) -> Reaction>;

/// A line, its device and a clock.
struct World {
    line: Line,
    start: Instant,
    now: Instant,
    device: Device,
    /// Whether connections are taken.
    listens: Box<dyn Fn(Duration) -> bool>,
    /// After so long without a request the device closes the connection.
    patience: Option<Duration>,
    /// Whether the agent sees that at once, or when it sends the next request.
    sees_the_end: bool,
    connected: bool,
    /// When it last answered on this connection.
    answered: Option<Instant>,
    commands: VecDeque<(Duration, usize, Command)>,
    connects: usize,
    requests: Vec<(Duration, Request)>,
    /// Time in ms, topic, payload.
    readings: Vec<(u128, String, String)>,
    notices: Vec<Notice>,
}

impl World {
    fn new(tables: &[&str], device: impl FnMut(&Request, Duration) -> Reaction + 'static) -> Result<Self> {
        let files = tables.iter().map(|text| toml::from_str(&format!("device = 'gateway:502'\n{text}")));
        let config = settings::devices(files.collect::<std::result::Result<Vec<ModbusFile>, _>>()?)?;
        let [config] = <[Modbus; 1]>::try_from(config).map_err(|_| anyhow!("not one device"))?;
        let start = Instant::now();
        Ok(Self {
            line: Line::new(config, start),
            start,
            now: start,
            device: Box::new(device),
            listens: Box::new(|_| true),
            patience: None,
            sees_the_end: true,
            connected: false,
            answered: None,
            commands: VecDeque::new(),
            connects: 0,
            requests: Vec::new(),
            readings: Vec::new(),
            notices: Vec::new(),
        })
    }

    fn run(&mut self, until: Duration) {
        for _ in 0..1_000_000 {
            while self.now < self.start + until
                && let Some(output) = self.line.poll_output(self.now)
            {
                self.step(output);
            }
            let command = self.commands.front().map(|(at, ..)| self.start + *at);
            let end = self.end().filter(|_| self.sees_the_end);
            let next = [self.line.poll_timeout(), command, end].into_iter().flatten().min();
            let until = self.start + until;
            let Some(next) = next.filter(|next| *next < until && self.now < until) else {
                self.now = self.now.max(until);
                return;
            };
            let happens = command.is_some() || end.is_some();
            assert!(next > self.now || happens, "it has nothing to do and does not wait");
            self.now = next.max(self.now);
            if command.is_some_and(|at| at <= self.now)
                && let Some((_, index, command)) = self.commands.pop_front()
            {
                self.line.handle_command(WriteId { unit: 0, index }, command, self.now);
            } else if end == Some(self.now) {
                (self.connected, self.answered) = (false, None);
                self.line.handle_idle_end(&Lost::Closed, self.now);
            }
        }
        panic!("it does not come to rest");
    }

    /// When the device closes the connection if nothing is asked.
    fn end(&self) -> Option<Instant> {
        Some(self.answered? + self.patience?)
    }

    fn step(&mut self, output: Output) {
        let time = self.now - self.start;
        match output {
            Output::Connect(patience) => {
                self.connects += 1;
                self.connected = (self.listens)(time);
                if self.connected {
                    self.now += MS;
                    self.line.handle_connected();
                } else {
                    self.now += patience;
                    self.line.handle_not_connected("timed out", self.now);
                }
            }
            Output::Send(request) => {
                assert!(self.connected, "there is no connection");
                self.requests.push((time, request.clone()));
                let cut = self.end().is_some_and(|end| end <= self.now);
                let Reaction(after, answer) =
                    if cut { Reaction(MS, Err(Lost::Closed)) } else { (self.device)(&request, time) };
                self.now += after;
                self.connected = answer.is_ok();
                self.answered = Some(self.now).filter(|_| self.connected);
                self.line.handle_answer(answer, self.now, 0);
            }
            Output::Publish(id, payload) => {
                let topic = self.line.read(id).map(|read| read.topic.to_string()).unwrap_or_default();
                self.readings.push((time.as_millis(), topic, String::from_utf8_lossy(&payload).into_owned()));
            }
            Output::Say(notice) => self.notices.push(notice),
        }
    }

    fn times(&self, topic: &str) -> Vec<u128> {
        self.readings.iter().filter(|(_, of, _)| of == topic).map(|(time, ..)| *time).collect()
    }

    fn said(&self, part: &str) -> usize {
        self.notices.iter().filter(|notice| notice.text.contains(part)).count()
    }

    fn asked(&self, unit: u8) -> Vec<Duration> {
        self.requests.iter().filter(|(_, request)| request.unit == unit).map(|(time, _)| *time).collect()
    }
}

/// The address as each register's contents, or the write as it was asked for.
fn good(request: &Request) -> Reaction {
    let reply = match &request.ask {
        Ask::Read(span) => {
            let addresses = (0..span.count).map(|index| span.address + index);
            Reply::Read(if span.table.is_bits() {
                addresses.map(|address| u8::from(address % 2 == 1)).collect()
            } else {
                addresses.flat_map(u16::to_be_bytes).collect()
            })
        }
        Ask::Write(..) => Reply::Written,
    };
    Reaction(10 * MS, Ok(Ok(reply)))
}

fn no(code: ExceptionCode) -> Reaction {
    Reaction(10 * MS, Ok(Err(code)))
}

fn silence(request: &Request) -> Reaction {
    Reaction(request.timeout, Err(Lost::Timeout(request.timeout)))
}

fn asks(request: &Request, address: u16) -> bool {
    let Ask::Read(span) = &request.ask else { return false };
    (span.address..span.address + span.count).contains(&address)
}

fn holding(topic: &str, address: u16) -> String {
    format!("[[read]]\ntopic = '{topic}'\ntable = 'holding'\naddress = {address}\n")
}

fn unit(id: u8, rest: &str) -> String {
    format!("unit = {id}\n{rest}")
}

const VALVE: &str = "[[write]]\ntopic = 'valve'\ntable = 'coil'\naddress = 0\n";
const SPEED: &str = "[[write]]\ntopic = 'speed'\ntable = 'holding'\naddress = 9\n";

#[test]
fn a_poll_every_60_s_of_a_device_that_closes_after_10_s_reads_all_of_an_hour() -> Result<()> {
    for sees_the_end in [true, false] {
        let config = format!("period_ms = 60000\n{}{VALVE}", holding("t", 7));
        let mut world = World::new(&[&config], |request, _| good(request))?;
        (world.patience, world.sees_the_end) = (Some(10 * SECOND), sees_the_end);
        for minute in 1..=3 {
            world.commands.push_back((minute * 60 * SECOND + 30 * SECOND, 0, Command::Coil(true)));
        }
        world.run(3600 * SECOND);
        // Each on its minute: later by no more than a connection, a request in vain and an answer.
        let late: Vec<u128> = world.times("t").iter().zip(0..).map(|(time, index)| time - index * 60_000).collect();
        assert_eq!(late.len(), 60);
        assert!(late.iter().all(|late| *late <= 15), "{late:?}");
        assert_eq!(world.said("written"), 3);
        // The cut is said once, and is no fault.
        assert_eq!(world.said("closed the connection 10.0 s after"), usize::from(sees_the_end), "{:?}", world.notices);
        assert_eq!(world.said("closed the connection"), 1, "{:?}", world.notices);
        assert_eq!(world.notices.len(), 4, "{:?}", world.notices);
        assert!(world.notices.iter().all(|notice| !notice.warn));
    }
    Ok(())
}

#[test]
fn a_connection_that_is_forgotten_on_the_way_costs_a_time_out_and_no_reading() -> Result<()> {
    let mut last = Duration::ZERO;
    let mut world = World::new(&[&format!("period_ms = 60000\n{}", holding("t", 7))], move |request, time| {
        let forgotten = time.saturating_sub(last) > 30 * SECOND;
        last = time;
        if forgotten { silence(request) } else { good(request) }
    })?;
    world.run(600 * SECOND);
    assert_eq!(world.times("t").len(), 10);
    assert_eq!(world.notices.len(), 1, "{:?}", world.notices);
    Ok(())
}

#[test]
fn a_device_that_closes_after_every_answer_is_read_in_full() -> Result<()> {
    for sees_the_end in [true, false] {
        let config = format!("{}{}{}", holding("a", 0), holding("b", 10), holding("c", 20));
        let mut world = World::new(&[&config], |request, _| good(request))?;
        (world.patience, world.sees_the_end) = (Some(Duration::ZERO), sees_the_end);
        world.run(60 * SECOND);
        assert!(["a", "b", "c"].iter().all(|topic| world.times(topic).len() == 60));
        assert_eq!(world.notices.len(), 1, "{:?}", world.notices);
    }
    Ok(())
}

#[test]
fn a_device_that_never_answers_is_asked_less_and_less_often() -> Result<()> {
    let mut world = World::new(&[&holding("t", 0)], |_, _| Reaction(MS, Err(Lost::Closed)))?;
    world.run(300 * SECOND);
    assert!((30..40).contains(&world.connects), "{}", world.connects);
    assert_eq!(world.notices.len(), 1, "{:?}", world.notices);
    assert_eq!(world.said("without an answer"), 1);
    // One that cannot be reached; what was due is read at once when it is there.
    let mut world = World::new(&[&format!("period_ms = 3600000\n{}", holding("t", 0))], |request, _| good(request))?;
    world.listens = Box::new(|time| time > 100 * SECOND);
    world.run(300 * SECOND);
    assert_eq!(world.times("t").len(), 1);
    assert!(world.times("t")[0] < 113_000);
    assert_eq!((world.said("no connection: timed out"), world.said("works again")), (1, 1));
    Ok(())
}

#[test]
fn what_is_due_together_and_touches_is_one_request() -> Result<()> {
    let slow = "[[read]]\ntopic = 'c'\ntable = 'holding'\naddress = 2\ntype = 'u32'\nperiod_ms = 3000\n";
    let config = format!("{}{}{slow}{}", holding("b", 1), holding("a", 0), holding("far", 9));
    let mut world = World::new(&[&config], |request, _| good(request))?;
    world.run(6 * SECOND);
    let spans: Vec<(u128, u16, u16)> = world
        .requests
        .iter()
        .filter_map(|(time, request)| match &request.ask {
            Ask::Read(span) => Some((time.as_millis() / 1000, span.address, span.count)),
            Ask::Write(..) => None,
        })
        .collect();
    let expected = (0..6).flat_map(|second| [(second, 0, if second % 3 == 0 { 4 } else { 2 }), (second, 9, 1)]);
    assert_eq!(spans, expected.collect::<Vec<_>>());
    // Each value is its own part of the answer.
    let last =
        |topic: &str| world.readings.iter().rfind(|(_, of, _)| of == topic).map(|(_, _, payload)| payload.clone());
    assert_eq!(
        [last("a"), last("b"), last("c"), last("far")].map(Option::unwrap_or_default),
        ["0", "1", "131075", "9"]
    );
    Ok(())
}

#[test]
fn one_wrong_address_does_not_take_down_its_neighbours() -> Result<()> {
    let config: String = (0..50).map(|address| holding(&format!("t{address}"), address)).collect();
    for code in [ExceptionCode::IllegalDataAddress, ExceptionCode::IllegalDataValue, ExceptionCode::ServerDeviceFailure]
    {
        let mut world =
            World::new(&[&config], move |request, _| if asks(request, 20) { no(code) } else { good(request) })?;
        world.run(10 * SECOND);
        assert!(
            (0..50).filter(|address| *address != 20).all(|address| world.times(&format!("t{address}")).len() == 10)
        );
        assert!(world.times("t20").is_empty());
        // What was learnt is remembered: a few requests a second, and the one value that is wrong is named once.
        assert!(world.requests.len() < 80, "{}", world.requests.len());
        let warnings: Vec<&Notice> = world.notices.iter().filter(|notice| notice.warn).collect();
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert_eq!(warnings[0].about, "t20, unit 1, holding register 20");
        assert_eq!(warnings[0].text, explain(code));
    }
    Ok(())
}

#[test]
fn a_device_that_gives_only_few_registers_at_once_is_read_in_parts() -> Result<()> {
    let config: String = (0..50).map(|address| holding(&format!("t{address}"), address)).collect();
    let limited = |refusal: fn(&Request) -> Reaction| {
        move |request: &Request, _| match &request.ask {
            Ask::Read(span) if span.count > 8 => refusal(request),
            _ => good(request),
        }
    };
    // It says so, it says nothing, it sends less.
    let refusals: [fn(&Request) -> Reaction; 3] =
        [|_| no(ExceptionCode::IllegalDataValue), silence, |_| Reaction(MS, Err(Lost::Lied("too short".into())))];
    for refusal in refusals {
        let mut world = World::new(&[&config], limited(refusal))?;
        world.run(300 * SECOND);
        let requests = world.requests.len();
        world.run(310 * SECOND);
        assert_eq!(world.requests.len() - requests, 80, "8 requests a second for 50 registers");
        assert!((0..50).all(|address| world.times(&format!("t{address}")).len() > 250));
    }
    Ok(())
}

#[test]
fn an_address_at_which_a_unit_is_silent_costs_its_neighbours_a_time_out_now_and_then() -> Result<()> {
    let config = format!("timeout_ms = 500\n{}{}{}", holding("a", 0), holding("b", 1), holding("c", 2));
    let mut world =
        World::new(&[&config], |request, _| if asks(request, 1) { silence(request) } else { good(request) })?;
    world.run(600 * SECOND);
    for topic in ["a", "c"] {
        let times = world.times(topic);
        assert!(times.len() > 570, "{topic}: {}", times.len());
        let late = times.windows(2).skip(20).map(|pair| pair[1] - pair[0]).max();
        assert!(late < Some(2_000), "{topic}: {late:?}");
    }
    assert!(world.times("b").is_empty());
    assert_eq!(world.said("the unit answers other requests"), 1, "{:?}", world.notices);
    assert!(world.notices.len() < 16, "not each time: {:?}", world.notices);
    Ok(())
}

#[test]
fn a_dead_unit_does_not_delay_the_others_behind_its_gateway() -> Result<()> {
    let (one, two, three) = (unit(1, &holding("a", 0)), unit(2, &holding("b", 0)), unit(3, &holding("c", 0)));
    let alive = |request: &Request, time: Duration| request.unit != 2 || time > 600 * SECOND;
    let mut world =
        World::new(
            &[&one, &two, &three],
            move |request, time| {
                if alive(request, time) { good(request) } else { silence(request) }
            },
        )?;
    world.run(600 * SECOND);
    for topic in ["a", "c"] {
        let gaps: Vec<u128> = world.times(topic).windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(gaps.iter().all(|gap| *gap < 3_100), "one time-out at most: {:?}", gaps.iter().max());
        // A time-out of 2 s in 32 s.
        assert!(gaps.len() > 540, "{topic}: {}", gaps.len());
    }
    assert!(world.asked(2).len() < 30, "{}", world.asked(2).len());
    assert_eq!(world.said("no answer within 2000 ms"), 1, "{:?}", world.notices);
    // And it is heard when it is back.
    world.run(640 * SECOND);
    assert!(world.times("b").len() > 5);
    assert_eq!(world.said("works again"), 1, "{:?}", world.notices);
    Ok(())
}

#[test]
fn a_gateway_that_knows_of_a_dead_unit_keeps_its_connection() -> Result<()> {
    for code in [ExceptionCode::GatewayTargetDevice, ExceptionCode::GatewayPathUnavailable] {
        let (one, two) = (unit(1, &holding("a", 0)), unit(2, &holding("b", 0)));
        let mut world =
            World::new(&[&one, &two], move |request, _| if request.unit == 2 { no(code) } else { good(request) })?;
        world.run(100 * SECOND);
        assert_eq!(world.connects, 1);
        assert_eq!(world.times("a").len(), 100);
        assert!(world.times("a").iter().all(|time| time % 1000 <= 25));
        assert!(world.asked(2).len() < 10);
        let warnings: Vec<&Notice> = world.notices.iter().filter(|notice| notice.warn).collect();
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert_eq!((warnings[0].about.as_str(), warnings[0].text.as_str()), ("unit 2", explain(code).as_str()));
    }
    Ok(())
}

#[test]
fn busy_is_asked_again_after_a_pause_and_other_exceptions_at_the_next_period() -> Result<()> {
    let busy_until =
        |code, until: Duration| move |request: &Request, time| if time < until { no(code) } else { good(request) };
    for code in [ExceptionCode::ServerDeviceBusy, ExceptionCode::Acknowledge] {
        let config = format!("period_ms = 60000\n{}", holding("t", 0));
        let mut world = World::new(&[&config], busy_until(code, 2 * SECOND))?;
        world.run(10 * SECOND);
        // At 0, then after 0.25 s, 0.5 s, 1 s and 3 s.
        let asked: Vec<u128> = world.asked(1).iter().map(Duration::as_millis).collect();
        assert_eq!(asked, [1, 261, 771, 1781, 4791]);
        assert_eq!(world.times("t").len(), 1);
        assert_eq!((world.said(&explain(code)), world.said("works again")), (1, 1));
    }
    let config = format!("period_ms = 5000\n{}", holding("t", 0));
    let mut world = World::new(&[&config], busy_until(ExceptionCode::MemoryParityError, 2 * SECOND))?;
    world.run(10 * SECOND);
    assert_eq!(world.asked(1).len(), 2);
    assert_eq!(world.times("t"), [5_010]);
    Ok(())
}

#[test]
fn a_command_is_written_when_the_unit_takes_it_and_not_twice() -> Result<()> {
    let writes = |world: &World| {
        let writes = world.requests.iter().filter_map(|(_, request)| match &request.ask {
            Ask::Write(_, command) => Some(command.clone()),
            Ask::Read(_) => None,
        });
        writes.collect::<Vec<_>>()
    };
    let (on, off) = (Command::Coil(true), Command::Coil(false));
    // Busy for 5 s: the newest counts.
    let busy = |request: &Request, time| {
        if time < 5 * SECOND { no(ExceptionCode::ServerDeviceBusy) } else { good(request) }
    };
    let mut world = World::new(&[VALVE], busy)?;
    world.commands.extend([(SECOND, 0, on.clone()), (2 * SECOND, 0, off.clone())]);
    world.run(60 * SECOND);
    assert_eq!(world.said("written"), 1, "{:?}", world.notices);
    assert_eq!(writes(&world).last(), Some(&off));
    // The device has it when it says "acknowledge".
    let mut world = World::new(&[VALVE], |_, _| no(ExceptionCode::Acknowledge))?;
    world.commands.push_back((SECOND, 0, on.clone()));
    world.run(60 * SECOND);
    assert_eq!(writes(&world), std::slice::from_ref(&on));
    assert_eq!(world.said("written; the device needs some time"), 1);
    // A refusal is final, and said each time.
    let mut world = World::new(&[VALVE], |_, _| no(ExceptionCode::IllegalDataAddress))?;
    world.commands.extend([(SECOND, 0, on.clone()), (2 * SECOND, 0, off.clone())]);
    world.run(60 * SECOND);
    assert_eq!(writes(&world), [on.clone(), off.clone()]);
    assert_eq!(world.said("not written: exception 02, illegal data address"), 2);
    // An answer with other contents, too.
    let mut world = World::new(&[VALVE], |_, _| Reaction(MS, Ok(Ok(Reply::WrittenOtherwise))))?;
    world.commands.push_back((SECOND, 0, on.clone()));
    world.run(60 * SECOND);
    assert_eq!((writes(&world).len(), world.said("check what it holds")), (1, 1));
    // Dropped after 30 s, with the reason, and not written later.
    let away = |request: &Request, time| if time < 60 * SECOND { silence(request) } else { good(request) };
    let mut world = World::new(&[VALVE], away)?;
    world.commands.push_back((SECOND, 0, on));
    world.run(100 * SECOND);
    assert_eq!(
        world.said("dropped, because it could not be written within 30 s: no answer within 2000 ms"),
        1,
        "{:?}",
        world.notices
    );
    assert_eq!(world.said("written"), 1);
    assert!(writes(&world).len() >= 6, "it is tried every 5 s at least: {}", writes(&world).len());
    Ok(())
}

#[test]
fn commands_and_polls_take_turns() -> Result<()> {
    let config = format!("period_ms = 10\n{}{VALVE}{SPEED}", holding("t", 0));
    let mut world = World::new(&[&config], |request, _| good(request))?;
    for turn in 0..500 {
        world.commands.push_back((turn * 20 * MS, 0, Command::Coil(true)));
        world.commands.push_back((turn * 20 * MS, 1, Command::Registers(vec![1])));
    }
    world.run(10 * SECOND);
    assert!(world.times("t").len() > 450, "{}", world.times("t").len());
    assert!(world.said("written") > 450, "{}", world.said("written"));
    Ok(())
}

#[test]
fn a_line_that_is_slower_than_its_schedule_serves_all_alike() -> Result<()> {
    let config: String = (0..10)
        .map(|index| format!("{}period_ms = {}\n", holding(&format!("t{index}"), index * 2), 10 + index))
        .collect();
    let mut world = World::new(&[&config], |request, _| good(request))?;
    world.run(10 * SECOND);
    assert!((0..10).all(|index| world.times(&format!("t{index}")).len() > 90));
    Ok(())
}

#[test]
fn tables_of_one_device_are_one_line_and_of_one_unit_one_unit() -> Result<()> {
    let one = unit(1, &format!("timeout_ms = 100\n{}", holding("a", 0)));
    let same = unit(1, &format!("timeout_ms = 300\nperiod_ms = 1000\n{}", holding("b", 1)));
    let mut world = World::new(&[&one, &same], |request, _| good(request))?;
    world.run(SECOND);
    assert_eq!(world.requests.len(), 1, "read together");
    assert_eq!(world.requests[0].1.timeout, 300 * MS);
    assert_eq!(world.requests[0].1.ask, Ask::Read(Span { table: Table::Holding, address: 0, count: 2 }));
    let twice = World::new(&[VALVE, VALVE], |request, _| good(request)).err().map(|error| format!("{error:#}"));
    assert!(twice.clone().is_some_and(|error| error.contains("address 0 is named twice")), "{twice:?}");
    Ok(())
}
