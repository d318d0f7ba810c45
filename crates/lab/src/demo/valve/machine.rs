//! A machine that heats up, its thermometer and its cooling valve. The two are Modbus TCP devices on ports of their own, as
//! they would stand in a hall.

use std::{
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::Result;
use sealcast_node::now_ms;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::MissedTickBehavior,
};
use tokio_modbus::{
    ExceptionCode, Request, Response,
    server::{
        Service,
        tcp::{Server, accept_tcp_connection},
    },
};

/// Where its temperature settles with the valve shut, in °C.
const SHUT_SETTLES_AT: f64 = 40.0;
/// The same with the valve open.
const OPEN_SETTLES_AT: f64 = 18.0;
/// How slowly it gets there: the time to go 63 % of the way. From where the valve is to open, the machine takes 3 s to where
/// it is damaged: much longer than all agents need together, also on a computer that has other work.
const TIME_CONSTANT: Duration = Duration::from_secs(14);
const TICK: Duration = Duration::from_millis(10);
/// How far the temperature moves up and down while the machine rests, in °C, and how fast. A thermometer that says exactly
/// the same again and again would be a stuck one.
pub const REST_AMPLITUDE: f64 = 0.03;
const REST_PERIOD_TICKS: u64 = 40;
/// Above this it is damaged.
pub const OVERHEATS_AT: f64 = 28.0;
/// How the thermometer's register is scaled, in °C for each count.
pub const SCALE: f64 = 0.01;

/// What the thermometer does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sensor {
    /// Says the machine's temperature.
    Good,
    /// Says so much more.
    Off(f64),
    /// Says always this.
    Says(f64),
    /// Does not answer.
    Silent,
}

/// The machine at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// Unix ms.
    pub time_ms: u64,
    /// Its temperature in °C.
    pub temperature: f64,
    /// What the thermometer says; not a number while it says nothing.
    pub said: f64,
    /// Whether the valve is open.
    pub open: bool,
}

/// See the module.
pub struct Machine {
    /// Where the thermometer answers: input register 0, [`SCALE`].
    pub thermometer: SocketAddr,
    /// Where the valve answers: coil 0.
    pub valve: SocketAddr,
    state: Arc<Mutex<State>>,
    _tasks: JoinSet<()>,
}

struct State {
    now: Sample,
    /// Around which temperature it stands, and since how many ticks.
    rest: Option<(f64, u64)>,
    sensor: Sensor,
    samples: Vec<Sample>,
}

impl Machine {
    /// Starts both devices on ports that the system chooses. They end when it is dropped.
    pub async fn start() -> Result<Self> {
        let now = Sample { time_ms: now_ms(), temperature: OPEN_SETTLES_AT, said: OPEN_SETTLES_AT, open: true };
        let rest = Some((OPEN_SETTLES_AT, 0));
        let state = Arc::new(Mutex::new(State { now, rest, sensor: Sensor::Good, samples: Vec::new() }));
        let mut tasks = JoinSet::new();
        let thermometer = serve(&mut tasks, Thermometer(state.clone())).await?;
        let valve = serve(&mut tasks, Valve(state.clone())).await?;
        tasks.spawn(run(state.clone()));
        Ok(Self { thermometer, valve, state, _tasks: tasks })
    }

    /// Begins anew at `temperature`, the valve shut and the thermometer in order.
    pub fn begin(&self, temperature: f64) {
        self.set(temperature, None, Some(false));
    }

    /// Stands at `temperature`, whatever the valve does, until it begins; the thermometer is in order.
    pub fn rest(&self, temperature: f64) {
        self.set(temperature, Some((temperature, 0)), None);
    }

    fn set(&self, temperature: f64, rest: Option<(f64, u64)>, open: Option<bool>) {
        let mut state = lock(&self.state);
        state.sensor = Sensor::Good;
        state.rest = rest;
        let open = open.unwrap_or(state.now.open);
        state.now = Sample { time_ms: now_ms(), temperature, said: temperature, open };
        // A picture's line is interrupted here.
        let now = state.now;
        state.samples.extend([Sample { temperature: f64::NAN, said: f64::NAN, ..now }, now]);
    }

    /// What the thermometer does from now on.
    pub fn set_sensor(&self, sensor: Sensor) {
        lock(&self.state).sensor = sensor;
    }

    /// Now.
    pub fn now(&self) -> Sample {
        lock(&self.state).now
    }

    /// What happened from `since_ms` on, every 10 ms.
    pub fn samples(&self, since_ms: u64) -> Vec<Sample> {
        lock(&self.state).samples.iter().copied().filter(|sample| sample.time_ms >= since_ms).collect()
    }

    /// Whether it was too hot since it last began, or came to rest.
    pub fn is_damaged(&self) -> bool {
        let state = lock(&self.state);
        let of_this_scene = state.samples.iter().rev().take_while(|sample| !sample.temperature.is_nan());
        of_this_scene.into_iter().any(|sample| sample.temperature > OVERHEATS_AT)
    }

    /// The highest temperature from `since_ms` on.
    pub fn hottest(&self, since_ms: u64) -> f64 {
        self.samples(since_ms).iter().map(|sample| sample.temperature).fold(f64::NEG_INFINITY, f64::max)
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The heat model: the temperature moves towards where it settles, the faster the farther away it is.
async fn run(state: Arc<Mutex<State>>) {
    let part = 1.0 - (-TICK.as_secs_f64() / TIME_CONSTANT.as_secs_f64()).exp();
    let mut tick = tokio::time::interval(TICK);
    // A machine that is too busy for the experiment gets a slower one.
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let mut state = lock(&state);
        let settles_at = if state.now.open { OPEN_SETTLES_AT } else { SHUT_SETTLES_AT };
        let temperature = match &mut state.rest {
            Some((temperature, ticks)) => {
                *ticks += 1;
                *temperature + swing(*ticks)
            }
            None => state.now.temperature + (settles_at - state.now.temperature) * part,
        };
        let said = match state.sensor {
            Sensor::Good => temperature,
            Sensor::Off(by) => temperature + by,
            Sensor::Says(value) => value,
            Sensor::Silent => f64::NAN,
        };
        state.now = Sample { time_ms: now_ms(), temperature, said, ..state.now };
        let sample = state.now;
        state.samples.push(sample);
    }
}

/// Up and down by [`REST_AMPLITUDE`].
fn swing(ticks: u64) -> f64 {
    let at = (ticks % REST_PERIOD_TICKS) as f64 / REST_PERIOD_TICKS as f64;
    REST_AMPLITUDE * (1.0 - 4.0 * (at - 0.5).abs())
}

type Answer = Pin<Box<dyn Future<Output = Result<Response, ExceptionCode>> + Send>>;

#[derive(Clone)]
struct Thermometer(Arc<Mutex<State>>);

impl Service for Thermometer {
    type Request = Request<'static>;
    type Response = Response;
    type Exception = ExceptionCode;
    type Future = Answer;

    fn call(&self, request: Self::Request) -> Answer {
        let said = lock(&self.0).now.said;
        Box::pin(async move {
            match request {
                Request::ReadInputRegisters(0, 1) if said.is_nan() => std::future::pending().await,
                // A conversion to an integer keeps to its limits.
                Request::ReadInputRegisters(0, 1) => {
                    Ok(Response::ReadInputRegisters(vec![((said / SCALE).round() as i16).cast_unsigned()]))
                }
                Request::ReadInputRegisters(..) => Err(ExceptionCode::IllegalDataAddress),
                _ => Err(ExceptionCode::IllegalFunction),
            }
        })
    }
}

#[derive(Clone)]
struct Valve(Arc<Mutex<State>>);

impl Service for Valve {
    type Request = Request<'static>;
    type Response = Response;
    type Exception = ExceptionCode;
    type Future = Answer;

    fn call(&self, request: Self::Request) -> Answer {
        let mut state = lock(&self.0);
        let answer = match request {
            Request::ReadCoils(0, 1) => Ok(Response::ReadCoils(vec![state.now.open])),
            Request::WriteSingleCoil(0, open) => {
                state.now.open = open;
                Ok(Response::WriteSingleCoil(0, open))
            }
            Request::ReadCoils(..) | Request::WriteSingleCoil(..) => Err(ExceptionCode::IllegalDataAddress),
            _ => Err(ExceptionCode::IllegalFunction),
        };
        Box::pin(std::future::ready(answer))
    }
}

async fn serve<S>(tasks: &mut JoinSet<()>, device: S) -> Result<SocketAddr>
where
    S: Service<Request = Request<'static>> + Clone + Send + Sync + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tasks.spawn(async move {
        let connected = |stream: TcpStream, peer| {
            std::future::ready(accept_tcp_connection(stream, peer, |_| Ok(Some(device.clone()))))
        };
        if let Err(error) = Server::new(listener).serve(&connected, |_| {}).await {
            tracing::warn!(%error, "the Modbus device has ended");
        }
    });
    Ok(address)
}
