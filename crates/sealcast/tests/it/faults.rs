//! A network and processes that fail while two applications talk, as a seed decides: what was acknowledged arrives, and nothing
//! else does.
//!
//! All that agents and hub say to a broker passes a [`StandIn`], which cuts, delays, duplicates, reorders, truncates and
//! rewrites. At a plain broker it reads MQTT: it changes messages and control messages, moves them to other topics and repeats
//! old ones. At the hub's own broker it has records of TLS. Agents, hub and broker die by kill -9, in turn.
//!
//! After each event:
//!
//! - Each message whose publisher got its PUBACK reaches a subscriber with a persistent session. mosquitto keeps nothing on
//!   disk: of what was sent before it was killed and started again, what had not arrived is given up.
//! - Each delivery is a message that was published, on its topic.
//! - On one connection of the subscriber a message comes at most as often as it was sent, or twice as often with those that
//!   bear DUP. Once its agent has read that it was acknowledged, it does not come again, except for each further time that it
//!   was sent.
//!
//! `SEALCAST_SECONDS=600 SEALCAST_SEED=7 cargo test -p sealcast --test it faults::mosquitto` runs longer, with another seed.

mod program;

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    str::FromStr,
    time::{Duration, Instant},
};

use self::program::{Event, HUB, LINES, Program, READER, THIRD, Victim, WRITER};
use crate::{
    PATIENCE,
    brokers::{hub_at, login},
    harness::{
        Agent, Cluster, Fault, Hub, Line, Mosquitto, StandIn, Traffic, Wire, configure, output, until, until_joined,
    },
};

/// What waits for longer than these is refused by rule, and not lost by a fault.
const PATIENT: &str = "key_wait_ms = 60000\nfreshness.max_age_ms = 0\n";
/// How long one test lasts.
const SECONDS: u64 = 40;
const SEED: u64 = 1;
/// Messages that have to be acknowledged after each event: the traffic goes on.
const GOES_ON: usize = 5;

fn given<T: FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is to be a number, and is {text}")))
}

/// Whose broker it is.
enum Broker {
    Hubs,
    Mosquitto(Mosquitto),
    /// Three nodes, of which one dies.
    Cluster(Cluster),
    /// It is not killed: it would forget all.
    Single(Cluster),
}

impl Broker {
    /// Where a line leads to at first; the hub's own broker is where the hub says.
    fn place(&self, line: usize) -> String {
        let url = match self {
            Self::Hubs => unreachable!("it is the hub that listens"),
            Self::Mosquitto(broker) => broker.url(),
            Self::Cluster(cluster) => cluster.url([0, 2, 0, 1][line]),
            Self::Single(broker) => broker.url(0),
        };
        url.trim_start_matches("mqtt://").to_owned()
    }
}

/// All that runs, and what has happened to it.
struct Scene {
    seed: u64,
    events: Vec<String>,
    traffic: Traffic,
    agents: [Agent; 3],
    hub: Hub,
    is_third_granted: bool,
    lines: Vec<Line>,
    broker: Broker,
    _stand_in: StandIn,
}

impl Scene {
    /// `login` are lines of the table `upstream`, and of `broker` in `hub.toml`.
    fn new(seed: u64, broker: Broker, login: &str) -> Self {
        let is_hubs = matches!(broker, Broker::Hubs);
        let stand_in = StandIn::new(if is_hubs { Wire::Tls } else { Wire::Mqtt });
        let (hub, lines): (Hub, Vec<Line>) = if is_hubs {
            let hub = Hub::start();
            let lines = (0..HUB).map(|_| stand_in.line(&hub.mqtt)).collect();
            (hub, lines)
        } else {
            let lines: Vec<Line> = (0..LINES.len()).map(|line| stand_in.line(&broker.place(line))).collect();
            (hub_at(&format!("mqtt://127.0.0.1:{}", lines[HUB].port()), login), lines)
        };
        let scheme = if is_hubs { "mqtts" } else { "mqtt" };
        let mut started = hub.members("room", [""; 3]).into_iter().zip(&lines).map(|(dir, line)| {
            configure(&dir, &format!("{PATIENT}[upstream]\nurl = '{scheme}://localhost:{}'\n{login}", line.port()));
            Agent::start(&dir, &[])
        });
        let agents = [(); 3].map(|()| started.next().unwrap());
        drop(started);
        for reader in [READER, THIRD] {
            until_joined(&agents[WRITER], &agents[reader], "room/a");
        }
        let traffic = Traffic::start(agents[WRITER].address(), agents[READER].address());
        let mut scene = Self {
            seed,
            events: Vec::new(),
            traffic,
            agents,
            hub,
            is_third_granted: true,
            lines,
            broker,
            _stand_in: stand_in,
        };
        scene.settle();
        scene
    }

    fn run(mut self, mut program: Program, seconds: u64) {
        let end = Instant::now() + Duration::from_secs(seconds);
        // A machine that does other things gets to fewer events in that time.
        while Instant::now() < end || !self.is_whole() && Instant::now() < end + PATIENCE {
            let event = program.next();
            self.note(&event.to_string());
            self.happen(event);
            self.settle();
        }
        self.note("the faults end");
        self.lines.iter().for_each(Line::disarm);
        self.settle();
        if !self.is_third_granted {
            self.turn();
        }
        until_joined(&self.agents[WRITER], &self.agents[THIRD], "room/joined");
        self.report();
    }

    fn note(&mut self, text: &str) {
        let number = self.events.len();
        self.events.push(format!("seed {}, event {number}: {text}", self.seed));
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arm(faults) => faults.into_iter().for_each(|(line, armed)| self.lines[line].arm(armed)),
            Event::Cut(line) => self.lines[line].cut(),
            Event::HoldUp(line, time) => self.lines[line].hold_up(time),
            Event::Kill(Victim::Writer) => {
                self.agents[WRITER].kill();
                self.agents[WRITER].restart();
            }
            Event::Kill(Victim::Reader) => {
                self.agents[READER].kill();
                self.agents[READER].restart();
            }
            Event::Kill(Victim::Hub) => {
                self.hub.kill();
                self.hub.restart();
            }
            Event::Kill(Victim::HubInNeed) => {
                self.agents[READER].kill();
                let outcome = self.traffic.books.goes_on(GOES_ON, PATIENCE);
                self.holds(outcome);
                self.hub.kill();
                self.hub.restart();
                self.agents[READER].restart();
            }
            Event::Kill(Victim::Broker) => self.kill_broker(),
            Event::Turn => self.turn(),
        }
    }

    fn kill_broker(&mut self) {
        match &mut self.broker {
            Broker::Mosquitto(broker) => {
                broker.kill();
                let before = self.traffic.books.subscriptions();
                broker.restart();
                // Until then nobody is there for what it acknowledges.
                let outcome = self.traffic.books.until_subscribed(before, PATIENCE);
                self.holds(outcome);
                self.traffic.books.forgive();
            }
            Broker::Cluster(cluster) => {
                cluster.kill(2);
                self.lines[READER].lead_to(cluster.url(1).trim_start_matches("mqtt://"));
            }
            Broker::Hubs | Broker::Single(_) => unreachable!("nobody kills it"),
        }
    }

    fn turn(&mut self) {
        let change = if self.is_third_granted { "revoke" } else { "grant" };
        until(change, || output(&mut self.hub.command(&["group", change, "room", "1113"])).status.success());
        self.is_third_granted = !self.is_third_granted;
    }

    #[track_caller]
    fn settle(&mut self) {
        let outcome = self.traffic.books.settle(GOES_ON, PATIENCE);
        self.holds(outcome);
    }

    #[track_caller]
    fn holds(&self, outcome: Result<(), String>) {
        if let Err(wrong) = outcome {
            panic!("SEALCAST_SEED={} fails: {wrong}\nafter\n{}", self.seed, self.events.join("\n"));
        }
    }

    /// What was done, for a person to read; the test fails if it was nothing.
    fn report(&self) {
        let totals = self.traffic.books.totals();
        let mut text = format!(
            "SEALCAST_SEED={}: {} events; {} messages acknowledged, {} arrived, {} sent again, {} repeats, {} lost with the broker\n",
            self.seed,
            self.events.len(),
            totals.acknowledged,
            totals.received,
            totals.sent_again,
            totals.repeats,
            totals.lost_with_broker
        );
        for (name, line) in LINES.iter().zip(&self.lines) {
            let _ = writeln!(text, "  {name}: {:?}", line.done());
        }
        eprintln!("{text}");
        assert!(self.is_whole(), "not each fault has happened, or nothing was refused for it: {text}");
    }

    /// Each fault has happened, and where frames pass that can be changed, the seals were put to the test.
    fn is_whole(&self) -> bool {
        let kinds: BTreeSet<Fault> = self.lines.iter().flat_map(|line| line.done().into_keys()).collect();
        let judged = |code: &str| self.agents[READER].log.count(code) > 0;
        let is_tls = matches!(self.broker, Broker::Hubs);
        kinds.len() == Fault::ALL.len() && (is_tls || judged("open-undecryptable") && judged("open-replayed"))
    }
}

fn check(broker: Broker, login: &str, victims: &[Victim]) {
    let seed = given("SEALCAST_SEED").unwrap_or(SEED);
    let seconds = given("SEALCAST_SECONDS").unwrap_or(SECONDS);
    let wire = if matches!(broker, Broker::Hubs) { Wire::Tls } else { Wire::Mqtt };
    let once = matches!(broker, Broker::Cluster(_)).then_some(Victim::Broker);
    let program = Program::new(seed, wire, victims, once);
    Scene::new(seed, broker, login).run(program, seconds);
}

#[test]
fn the_hubs_broker() {
    check(Broker::Hubs, "", &[Victim::Hub, Victim::Writer, Victim::HubInNeed, Victim::Reader]);
}

#[test]
fn mosquitto() {
    check(Broker::Mosquitto(Mosquitto::plain()), "", &[Victim::Broker, Victim::Writer, Victim::Reader, Victim::Hub]);
}

#[test]
#[ignore = "mosquitto stands for brokers of one node: `cargo test -p sealcast --test it faults:: -- --ignored`"]
fn mochi() {
    let Some(broker) = Cluster::mochi() else { return };
    check(Broker::Single(broker), "", &[Victim::Writer, Victim::Reader, Victim::Hub]);
}

#[test]
#[ignore = "three nodes take the processors of other tests: `cargo test -p sealcast --test it faults:: -- --ignored`"]
fn a_nats_cluster() {
    let Some(cluster) = Cluster::nats() else { return };
    check(Broker::Cluster(cluster), "", &[Victim::Writer, Victim::Reader, Victim::Hub]);
}

#[test]
#[ignore = "three nodes take a minute to start: `cargo test -p sealcast --test it faults:: -- --ignored`"]
fn a_rabbitmq_cluster() {
    let dir = tempfile::tempdir().unwrap();
    let login = login("sc", dir.path(), "sc");
    check(Broker::Cluster(Cluster::rabbitmq()), &login, &[Victim::Writer, Victim::Reader, Victim::Hub]);
}
