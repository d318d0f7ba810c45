//! The paper's valve, whole: a machine that overheats unless its cooling valve opens in time, a thermometer and the valve
//! on Modbus, an agent before each, and a controller that knows nothing of it all.

mod controller;
mod machine;
mod trace;

use std::{
    collections::BTreeSet,
    num::NonZeroU128,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use sealcast_agent::{Alarm, AlarmKind, ClientEvent, Refused};
use sealcast_ledger::{Body, Limits, LimitsSet, ReadingTopic, Replica, Reporters, SequenceRule};
use sealcast_node::now_ms;
use sealcast_operator::readings;
use tokio::{
    sync::{broadcast::error::TryRecvError, watch},
    task::JoinSet,
};

use self::{
    controller::{Controller, OPENS_AT},
    machine::{Machine, OVERHEATS_AT, REST_AMPLITUDE, SCALE, Sensor},
    trace::Trace,
};
use super::{
    groups,
    hostile::{FORGED, Mode},
    report::Report,
    show::Show,
    world::{NodeHandle, World, agent_toml},
};
use crate::app::PATIENCE;
use crate::plot::Plot;

const FIGURE: &str = "the valve";
const GROUP: &str = "machine";
const TEMPERATURE: &str = "machine/temperature";
const COMMAND: &str = "machine/valve";
const OPEN_TEMPERATURE: &str = "open/machine/temperature";
const OPEN_COMMAND: &str = "open/machine/valve";
const LOGBOOK: &str = "machine/logbook";
/// Where each scene begins, the valve shut.
const WARM: f64 = 24.0;
/// How much a thermometer that jumps says too little.
const JUMP: f64 = -5.0;
/// What a DS18B20 says when it has just been switched on; no rule at the edge knows of it here.
const POWER_ON: f64 = 85.0;
/// The largest value that the ledger takes, in 0.01 °C.
const LEDGER_MAX: i128 = 6_000;
const LEDGER_DECIMALS: u8 = 2;
/// How far accepted readings may be apart, in 0.01 °C. The machine goes from 28 to 18 at most, however long the valve stays
/// open because this computer is busy.
const LEDGER_MAX_STEP: u128 = 1_200;
/// So old may a temperature be that the controller is told: longer than a computer that has other work needs to carry one.
const FRESH_MS: u64 = 20_000;
/// So many temperatures in a row as the machine has at rest: none of before it rested is on its way any more.
const STEADY: usize = 6;
/// How long an act goes on for the picture.
const AFTERMATH: Duration = Duration::from_millis(500);

/// The rules of the thermometer's agent.
const RULES: &str = "[[quality]]
filter = 'machine/temperature'
accept_after = 100
range = { min = -20, max = 60 }
step = { max = 3, action = 'block' }
stuck = { readings = 8, action = 'block' }
silent = { after_ms = 600 }
[[publish]]
filter = 'machine/temperature'
input = { format = 'number', unit = 'Cel' }
";

/// What the valve's agent hands on, and what it does when no good value comes.
const FAIL_SAFE: &str = "[[receive]]
filter = 'machine/temperature'
require_checked = true
[[quality]]
filter = 'machine/temperature'
[quality.fail_safe]
on_silence = { after_ms = 1000, publish = 'on', topic = 'machine/valve' }
on_blocked = { after_ms = 400, publish = 'on', topic = 'machine/valve' }
";

/// Runs the four acts; gives their picture.
pub async fn acts(world: &mut World, report: &mut Report) -> Result<Plot> {
    report.chapter(FIGURE, "a machine, its thermometer and its cooling valve on Modbus, an agent before each").await?;
    report.tell(&format!("the valve is to open at {OPENS_AT} degrees; above {OVERHEATS_AT} the machine is damaged"))?;
    let mut stage = Stage::build(world, report).await?;
    stage.act_1_plain().await?;
    stage.act_2_sealed().await?;
    stage.act_3_broken_sensor().await?;
    stage.act_4_ledger().await?;
    Ok(stage.trace.picture(&stage.machine))
}

/// What a thermometer that breaks does, given what it said before.
type Fault = fn(f64) -> Sensor;

struct Stage<'a> {
    world: &'a mut World,
    report: &'a mut Report,
    machine: Arc<Machine>,
    trace: Trace,
    /// Index of the thermometer's node.
    thermometer: usize,
    /// Index of the valve's node.
    valve: usize,
    /// What the controller was told last, in °C.
    believed: watch::Sender<f64>,
    _picture: JoinSet<()>,
}

impl<'a> Stage<'a> {
    /// Enrols the two devices and their group.
    async fn build(world: &'a mut World, report: &'a mut Report) -> Result<Self> {
        let machine = Arc::new(Machine::start().await?);
        let thermometer = world.nodes.len();
        for (name, agent_toml) in [
            ("thermometer", thermometer_toml(&machine, &[(OPEN_TEMPERATURE, 50)], "")),
            ("valve", valve_toml(&machine, OPEN_COMMAND, "")),
        ] {
            let id = name.parse()?;
            let token = world.invite(&id)?;
            world.enroll(&token, &world.node_dir(&id)).await?;
            world.start_node(id, &agent_toml).await?;
        }
        world.operator.catch_up().await?;
        let valve = thermometer + 1;
        groups::create(world, GROUP, "machine/#", &[thermometer, valve]).await?;
        let believed = watch::Sender::new(machine.now().temperature);
        let mut picture = JoinSet::new();
        if let Some(show) = report.show() {
            picture.spawn(film(show.clone(), machine.clone(), believed.subscribe()));
        }
        let trace = Trace::default();
        Ok(Self { world, report, machine, trace, thermometer, valve, believed, _picture: picture })
    }

    async fn act_1_plain(&mut self) -> Result<()> {
        self.report.chapter(FIGURE, "act 1: plain MQTT; the broker takes 5 degrees off").await?;
        self.world.hostile.set(Mode::Lower);
        let controller = self.control(OPEN_TEMPERATURE, OPEN_COMMAND).await?;
        let since = self.begin(&controller).await?;
        let opened = self.opened(since).await?;
        let told = controller.told(since).into_iter().map(|(_, degrees)| degrees).find(|degrees| *degrees >= OPENS_AT);
        self.report.tell(&format!(
            "the controller is told {:.2} and opens the valve: the machine is at {opened:.2}",
            told.context("what opened the valve")?
        ))?;
        let hottest = self.machine.hottest(since);
        self.report.check(
            FIGURE,
            "plain: the valve opens too late, the machine overheats",
            true,
            hottest > OVERHEATS_AT,
        )?;
        self.end("1", since, controller).await
    }

    async fn act_2_sealed(&mut self) -> Result<()> {
        self.report.chapter(FIGURE, "act 2: sealed; the broker forges what it can, then keeps everything back").await?;
        self.world.hostile.set(Mode::Honest);
        let reads = [(TEMPERATURE, 50)];
        self.world.restart_node(self.thermometer, &thermometer_toml(&self.machine, &reads, RULES)).await?;
        self.world.restart_node(self.valve, &valve_toml(&self.machine, COMMAND, FAIL_SAFE)).await?;
        self.watch()?;
        let controller = self.control(TEMPERATURE, COMMAND).await?;
        let start = self.begin(&controller).await?;
        let mut events = self.world.node(self.valve)?.agent.events();
        self.world.hostile.set(Mode::Forge);
        let opened = self.opened(start).await?;
        // Until both kinds of forgery were tried, and the valve has gone through it.
        self.wait("the valve shuts again", |stage| !stage.machine.now().open).await?;
        self.report.tell(&format!(
            "the valve opens at {opened:.2}, and the machine is never above {:.2}",
            self.machine.hottest(start)
        ))?;
        self.report.check(FIGURE, "sealed: the valve opens in time", true, self.is_safe(start, opened))?;
        let mut reasons = BTreeSet::new();
        loop {
            match events.try_recv() {
                Ok(ClientEvent { what: Refused::Delivery { .. }, topic, why, .. }) if topic == TEMPERATURE => {
                    reasons.insert(why.text);
                }
                Ok(_) | Err(TryRecvError::Lagged(_)) => {}
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
        reasons.iter().try_for_each(|reason| self.report.tell(&format!("agent of the valve: {reason}")))?;
        let about = |what: &str| reasons.iter().any(|reason| reason.contains(what));
        self.report.check(
            FIGURE,
            &format!("a plain {FORGED} and changed bits in the place of readings are refused, with the reason"),
            [true; 2],
            [about("not sealed"), about("changed on its way")],
        )?;
        self.check_told(start, &controller)?;

        self.world.hostile.set(Mode::Honest);
        let since = self.begin(&controller).await?;
        self.world.hostile.set(Mode::Hold);
        let opened = self.opened(since).await?;
        self.report.tell(&format!("all is kept back: the valve's agent opens it at {opened:.2}"))?;
        self.report.check(
            FIGURE,
            "kept back: the fail-safe opens the valve in time",
            true,
            self.is_safe(since, opened),
        )?;
        self.world.hostile.set(Mode::Honest);
        self.world.hostile.take_held();
        let now = now_ms();
        self.wait("the controller is told again", |_| !controller.told(now).is_empty()).await?;
        self.wait("the controller shuts the valve", |stage| !stage.machine.now().open).await?;
        self.report.check(
            FIGURE,
            "the fail-safe ends by itself with the first good value",
            false,
            self.machine.now().open,
        )?;
        self.end("2", start, controller).await
    }

    async fn act_3_broken_sensor(&mut self) -> Result<()> {
        self.report.chapter(FIGURE, "act 3: the broker is honest, the thermometer breaks").await?;
        let controller = self.control(TEMPERATURE, COMMAND).await?;
        self.world.node_mut(self.valve)?.app.subscribe(&format!("{GROUP}/alarm/#")).await?;
        let start = self.begin(&controller).await?;
        let faults: [(_, Fault, _, _); 3] = [
            ("jumps", |_| Sensor::Off(JUMP), AlarmKind::Blocked, "step"),
            ("is stuck", Sensor::Says, AlarmKind::Blocked, "stuck"),
            ("is silent", |_| Sensor::Silent, AlarmKind::Silent, ""),
        ];
        for (name, fault, kind, check) in faults {
            let since = self.begin(&controller).await?;
            self.machine.set_sensor(fault(self.machine.now().said));
            let opened = self.opened(since).await?;
            // On a computer that stands still for a moment, an alarm says first that no reading came.
            let names = |alarm: &Alarm| alarm.checks.iter().any(|finding| finding.check == check);
            let says_why = |alarm: &Alarm| alarm.kind == kind && (check.is_empty() || names(alarm));
            let alarm = self
                .alarm(|alarm| alarm.last_ms >= since && alarm.over_ms.is_none() && says_why(alarm))
                .await
                .with_context(|| format!("the thermometer {name}: {kind:?} {check}"))?;
            self.report.tell(&format!("the thermometer {name}: the valve's agent opens the valve at {opened:.2}"))?;
            self.report.tell(&format!("alarm: {}", alarm.reason))?;
            self.report.check(
                FIGURE,
                &format!("the thermometer {name}: the fail-safe opens the valve in time"),
                true,
                self.is_safe(since, opened),
            )?;
            let named = names(&alarm);
            self.report.check(
                FIGURE,
                "the alarm says why",
                (kind, TEMPERATURE.to_owned(), !check.is_empty()),
                (alarm.kind, alarm.topic, named),
            )?;
            let mended = now_ms();
            self.machine.set_sensor(Sensor::Good);
            self.alarm(|alarm| alarm.over_ms.is_some_and(|over_ms| over_ms >= mended)).await?;
            self.wait("the controller shuts the valve", |stage| !stage.machine.now().open).await?;
            self.report.check(
                FIGURE,
                "it works again: the alarm is over, the controller has the valve",
                false,
                self.machine.now().open,
            )?;
        }
        self.check_told(start, &controller)?;
        self.end("3", start, controller).await
    }

    async fn act_4_ledger(&mut self) -> Result<()> {
        self.report
            .chapter(FIGURE, "act 4: readings on the ledger; one is out of limits, and no rule at the edge stops it")
            .await?;
        let device = self.world.node(self.thermometer)?.id.clone();
        let number = self.world.operator.device(&device)?.number;
        let group = self.world.group(GROUP)?;
        let topic: ReadingTopic = LOGBOOK.parse()?;
        let limits = Limits {
            min: 0,
            max: LEDGER_MAX,
            max_step: NonZeroU128::new(LEDGER_MAX_STEP),
            decimals: LEDGER_DECIMALS,
            unit: "Cel".parse()?,
            sequence: SequenceRule::Gapless,
            reporters: Reporters::Listed([number].into()),
        };
        self.world.submit(Body::LimitsSet(LimitsSet { group, topic: topic.clone(), limits })).await?;
        let rested = now_ms();
        let reads = [(TEMPERATURE, 50), (LOGBOOK, 200)];
        let rules = format!("{RULES}[[quality]]\nfilter = '{LOGBOOK}'\nrecord = 'chain'\n");
        self.world.restart_node(self.thermometer, &thermometer_toml(&self.machine, &reads, &rules)).await?;
        self.watch()?;
        let controller = self.control(TEMPERATURE, COMMAND).await?;
        let start = self.begin(&controller).await?;
        let (begun, _) = self.on_ledger(&topic, |_, _| true).await?;
        self.on_ledger(&topic, |accepted, _| accepted >= begun + 3).await?;
        self.machine.set_sensor(Sensor::Says(POWER_ON));
        self.on_ledger(&topic, |_, refused| refused >= 1).await?;
        self.machine.set_sensor(Sensor::Good);
        let (before, _) = self.on_ledger(&topic, |_, _| true).await?;
        self.on_ledger(&topic, |accepted, _| accepted >= before + 2).await?;

        let operator = &self.world.operator;
        let genesis = *operator.replica.genesis();
        let rows = readings::rows(&operator.records, Replica::new(genesis), number, Some(&topic))?;
        for row in &rows {
            self.report.tell(&format!("{:>3}  {:>5} {}  {}", row.sequence, row.value, row.unit, row.verdict()))?;
        }
        let (accepted, refused): (Vec<_>, Vec<_>) = rows.iter().partition(|row| row.accepted);
        let degrees = |row: &&readings::Row| row.value.parse().unwrap_or(f64::NAN);
        let samples = self.machine.samples(rested);
        let had = |value: &f64| samples.iter().any(|sample| (sample.temperature - value).abs() <= SCALE);
        self.report.check(
            FIGURE,
            "what the thermometer measured is on the ledger",
            0,
            accepted.iter().map(degrees).filter(|value| !had(value)).count(),
        )?;
        self.report.check(
            FIGURE,
            &format!("{POWER_ON} is refused by the contract, and the refusal stands there too"),
            vec![(POWER_ON, "above the largest value, 60.00".to_owned()); refused.len().max(1)],
            refused.iter().map(|row| (degrees(row), row.reason.clone().unwrap_or_default())).collect(),
        )?;
        self.end("4", start, controller).await?;
        // Nothing more is recorded from here on: what follows compares ledgers.
        self.world.restart_node(self.thermometer, &agent_toml()).await
    }

    /// A controller at the valve's agent.
    async fn control(&self, temperature: &str, command: &'static str) -> Result<Controller> {
        let agent = self.world.node(self.valve)?.local()?;
        Controller::start(&agent, temperature, command, self.believed.clone()).await
    }

    /// Marks in the picture what the agents refuse from now on.
    fn watch(&self) -> Result<()> {
        let events = |node: &NodeHandle| node.agent.events();
        let thermometer = events(self.world.node(self.thermometer)?);
        self.trace.watch_thermometer(thermometer, TEMPERATURE, self.machine.clone());
        self.trace.watch_valve(events(self.world.node(self.valve)?), TEMPERATURE);
        Ok(())
    }

    /// Begins a scene: the machine is warm and the valve shut. Unix ms.
    async fn begin(&self, controller: &Controller) -> Result<u64> {
        self.machine.rest(WARM);
        // What is still on its way is of the scene before, and may open the valve once more.
        let since = now_ms();
        self.wait("the controller is told how warm the machine is at rest", |_| is_steady(&controller.told(since)))
            .await?;
        self.wait("the valve is shut", |stage| !stage.machine.now().open).await?;
        self.machine.begin(WARM);
        Ok(now_ms())
    }

    /// Waits until the valve has opened, and says at which temperature.
    async fn opened(&self, since_ms: u64) -> Result<f64> {
        let opened = || self.machine.samples(since_ms).into_iter().find(|sample| sample.open);
        self.wait("the valve opens", |_| opened().is_some()).await?;
        Ok(opened().context("the valve's opening")?.temperature)
    }

    /// Whether the machine never was too hot, and the valve opened for a reason.
    fn is_safe(&self, since_ms: u64, opened: f64) -> bool {
        self.machine.hottest(since_ms) < OVERHEATS_AT && opened > WARM
    }

    /// Nothing false has come to the controller.
    fn check_told(&mut self, since_ms: u64, controller: &Controller) -> Result<()> {
        let wrong = self.wrong(since_ms, &controller.told(since_ms));
        self.report.check(
            FIGURE,
            "the controller was told no temperature that the machine had not had just before",
            0,
            wrong,
        )
    }

    /// How many of the temperatures that the controller was told the machine had not had in the [`FRESH_MS`] before.
    fn wrong(&self, since_ms: u64, told: &[(u64, f64)]) -> usize {
        let samples = self.machine.samples(since_ms.saturating_sub(FRESH_MS));
        let had = |(time_ms, degrees): &&(u64, f64)| {
            samples
                .iter()
                .filter(|sample| (time_ms.saturating_sub(FRESH_MS)..=*time_ms).contains(&sample.time_ms))
                .any(|sample| (sample.temperature - degrees).abs() <= SCALE)
        };
        told.iter().filter(|told| !had(told)).count()
    }

    /// The next alarm that is `wanted`.
    async fn alarm(&mut self, wanted: impl Fn(&Alarm) -> bool) -> Result<Alarm> {
        let app = &mut self.world.node_mut(self.valve)?.app;
        let start = Instant::now();
        loop {
            let left = PATIENCE.saturating_sub(start.elapsed());
            let message = app.next(left).await.context("no such alarm came")?;
            // An alarm that is over leaves an empty topic.
            if message.payload.is_empty() {
                continue;
            }
            let alarm: Alarm = serde_json::from_slice(&message.payload).context("an alarm")?;
            if wanted(&alarm) {
                return Ok(alarm);
            }
        }
    }

    /// Waits until the ledger's counts of accepted and refused readings of the thermometer are as `wanted`.
    async fn on_ledger(&mut self, topic: &ReadingTopic, wanted: impl Fn(u64, u64) -> bool) -> Result<(u64, u64)> {
        let start = Instant::now();
        let device = self.world.node(self.thermometer)?.id.clone();
        loop {
            self.world.operator.catch_up().await?;
            let number = self.world.operator.device(&device)?.number;
            let stream = self.world.operator.replica.streams(number).find(|(_, of, _)| *of == topic);
            let (accepted, refused) = stream.map_or((0, 0), |(_, _, stream)| (stream.accepted, stream.refused));
            if wanted(accepted, refused) {
                return Ok((accepted, refused));
            }
            ensure!(
                start.elapsed() < PATIENCE,
                "{accepted} readings accepted, {refused} refused, and no others within {} s",
                PATIENCE.as_secs()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn wait(&self, what: &str, reached: impl Fn(&Self) -> bool) -> Result<()> {
        let start = Instant::now();
        while !reached(self) {
            ensure!(start.elapsed() < PATIENCE, "not within {} s: {what}", PATIENCE.as_secs());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Ends an act, a little later: its last event is to be seen in the picture.
    async fn end(&mut self, name: &str, since_ms: u64, controller: Controller) -> Result<()> {
        tokio::time::sleep(AFTERMATH).await;
        self.trace.act(&format!("act {name}"), since_ms, controller.told(since_ms));
        // As it will be when the next scene begins: agents that start take their time, and a fall from this act's heat would
        // be a jump to the rules.
        self.machine.rest(WARM);
        controller.stop().await
    }
}

/// Shows the machine on the page, until the acts are over.
async fn film(show: Show, machine: Arc<Machine>, believed: watch::Receiver<f64>) {
    loop {
        let now = machine.now();
        show.machine(now.temperature, *believed.borrow(), now.open, machine.is_damaged());
        tokio::time::sleep(Show::frame()).await;
    }
}

/// Whether the last of these temperatures are those of a machine at rest.
fn is_steady(told: &[(u64, f64)]) -> bool {
    let Some(last) = told.len().checked_sub(STEADY).and_then(|from| told.get(from..)) else { return false };
    let most = last.iter().map(|(_, degrees)| *degrees).fold(f64::NEG_INFINITY, f64::max);
    let least = last.iter().map(|(_, degrees)| *degrees).fold(f64::INFINITY, f64::min);
    most - least <= 2.0 * REST_AMPLITUDE + SCALE
}

/// The thermometer's agent polls its register for each topic, every so many ms.
fn thermometer_toml(machine: &Machine, reads: &[(&str, u64)], rules: &str) -> String {
    let modbus = format!("[[modbus]]\ndevice = '{}'\ntimeout_ms = 200\n", machine.thermometer);
    let reads = reads.iter().map(|(topic, period_ms)| {
        format!(
            "[[modbus.read]]\ntopic = '{topic}'\ntable = 'input'\naddress = 0\ntype = 'i16'\nscale = {SCALE}\n\
             unit = 'Cel'\nperiod_ms = {period_ms}\n"
        )
    });
    // Before all tables.
    let share = format!("share = ['{TEMPERATURE}']\n");
    format!("{share}{}{modbus}{}{rules}", agent_toml(), reads.collect::<String>())
}

/// The valve's agent writes its coil when a command comes.
fn valve_toml(machine: &Machine, command: &str, rules: &str) -> String {
    format!(
        "{}[[modbus]]\ndevice = '{}'\n[[modbus.write]]\ntopic = '{command}'\ntable = 'coil'\naddress = 0\n{rules}",
        agent_toml(),
        machine.valve
    )
}
