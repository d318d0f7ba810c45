//! `sealcast bench proxy`: what the agents cost beside the broker alone. One run compares clients that talk straight to a
//! broker, plain or over TLS, with clients behind agents, sealed or signed. Hub, agents and mosquitto are processes of their
//! own, as at a user's; the clients are here.
//!
//! Each cell is measured on all ways in turns, several times, so that what else the machine does meets all of them alike.

mod load;
mod process;
mod site;

use std::time::Duration;

use anyhow::{Context as _, Result};
use sealcast_mqtt::Qos;
use sealcast_node::output;
use sealcast_operator::progress::Bar;
use serde::Serialize;

use self::site::{Site, Way};

/// At what rate latency is measured, in messages a second.
const RATE: u32 = 2_000;

/// One way under one load.
#[derive(Debug, Serialize)]
struct Row {
    broker: &'static str,
    mode: &'static str,
    qos: u8,
    payload_bytes: usize,
    subscribers: usize,
    /// Messages that the publisher sent in a second and all subscribers have got. This figure, as each of the others, is
    /// the median of the rounds.
    messages_per_s: f64,
    /// Compared in each round with the plain connection to mosquitto, if it is here.
    of_plain: Option<f64>,
    /// Compared in each round with messages that are sealed and not signed, at the same broker.
    of_group: Option<f64>,
    /// Half of the messages took no longer, at [`RATE`], in ms. For one subscriber only.
    p50_ms: Option<f64>,
    /// 99 of 100 messages took no longer.
    p99_ms: Option<f64>,
    servers: Vec<Server>,
}

/// What one process of a way used.
#[derive(Debug, Clone, Serialize)]
struct Server {
    role: &'static str,
    cpu_us_per_message: f64,
    rss_mib: f64,
}

/// What one round measures of a way under one load.
struct Measured {
    messages_per_s: f64,
    p50: Option<Duration>,
    p99: Option<Duration>,
    servers: Vec<Server>,
}

/// One load, which is measured on all ways.
#[derive(Clone, Copy)]
pub struct Cell {
    qos: Qos,
    payload_bytes: usize,
    subscribers: usize,
}

impl Cell {
    /// All combinations.
    pub fn all(qos: &[u8], payload_bytes: &[u32], subscribers: &[u8]) -> Result<Vec<Self>> {
        let mut cells = Vec::new();
        for qos in qos {
            let qos = Qos::from_bits(*qos).context("QoS 0 or 1")?;
            for payload_bytes in payload_bytes.iter().map(|bytes| *bytes as usize) {
                cells.extend(subscribers.iter().map(|count| Self { qos, payload_bytes, subscribers: (*count).into() }));
            }
        }
        Ok(cells)
    }
}

/// What a run has measured.
#[derive(Serialize)]
struct Report {
    loads: Vec<Row>,
    idle: Idle,
}

/// An agent whose clients are connected and say nothing.
#[derive(Serialize)]
struct Idle {
    connections: usize,
    rss_mib: f64,
}

/// Measures each cell with so many messages, in so many rounds; then so many idle connections.
pub async fn run(cells: &[Cell], messages: usize, rounds: u8, connections: usize, json: bool) -> Result<()> {
    let bar = Bar::waiting("starting agents and brokers");
    let site = Site::start(connections).await?;
    // Before the loads, which leave their buffers behind.
    let idle = Idle { connections, rss_mib: mib(site.rss_with(connections).await?) };
    let mut rows = Vec::new();
    drop(bar);
    let bar = Bar::of("measuring loads", (cells.len() * usize::from(rounds) * site.ways.len()) as u64);
    let mut measurements = 0;
    for cell in cells.iter().copied() {
        let mut measured: Vec<Vec<Measured>> = site.ways.iter().map(|_| Vec::new()).collect();
        for _ in 0..rounds {
            for (way, measured) in site.ways.iter().zip(&mut measured) {
                measured.push(measure(&site, way, cell, messages).await?);
                measurements += 1;
                bar.set(measurements);
            }
        }
        rows.extend(site.ways.iter().zip(&measured).map(|(way, rounds)| {
            let beside = |is_other: &dyn Fn(&Way) -> bool| {
                let (_, others) = site.ways.iter().zip(&measured).find(|(other, _)| is_other(other))?;
                median(rounds.iter().zip(others).map(|(round, other)| round.messages_per_s / other.messages_per_s))
            };
            let of_plain = beside(&|other| other.mode == site::PLAIN);
            let of_group = beside(&|other| other.broker == way.broker && other.mode == site::GROUP);
            row(way, cell, rounds, of_plain, of_group.filter(|_| way.mode == site::SIGNED))
        }));
    }
    drop(bar);
    if json {
        return output::json(&Report { loads: rows, idle });
    }
    table(&rows)?;
    output::line(&format!("an agent with {} idle connections: {:.0} MiB", idle.connections, idle.rss_mib))?;
    site.missing.iter().try_for_each(|missing| output::line(missing))
}

async fn measure(site: &Site, way: &Way, cell: Cell, messages: usize) -> Result<Measured> {
    let Cell { qos, payload_bytes, subscribers } = cell;
    let messages = messages / subscribers;
    let through = || way.through.iter().filter_map(|at| site.processes.get(*at));
    let before = through().map(|process| process.cpu()).collect::<Result<Vec<_>>>()?;
    let took = way.load(qos, payload_bytes, subscribers, messages).at_full_speed().await?;
    let servers = through().zip(before).map(|(process, before)| {
        Ok(Server {
            role: process.role,
            cpu_us_per_message: round(process.cpu()?.saturating_sub(before).as_secs_f64() * 1e6 / messages as f64),
            rss_mib: mib(process.rss_bytes()?),
        })
    });
    let servers = servers.collect::<Result<_>>()?;
    let (mut p50, mut p99) = (None, None);
    if subscribers == 1 {
        let latencies = way.load(qos, payload_bytes, 1, RATE as usize).at_rate(RATE).await?;
        p50 = latencies.get(latencies.len() / 2).copied();
        p99 = latencies.get(latencies.len() * 99 / 100).copied();
    }
    Ok(Measured { messages_per_s: messages as f64 / took.as_secs_f64(), p50, p99, servers })
}

fn row(way: &Way, cell: Cell, rounds: &[Measured], of_plain: Option<f64>, of_group: Option<f64>) -> Row {
    let of_rounds = |figure: &dyn Fn(&Measured) -> Option<f64>| median(rounds.iter().filter_map(figure));
    let ms = |latency: Option<Duration>| latency.map(|latency| latency.as_secs_f64() * 1e3);
    let servers = rounds.first().map_or(&[][..], |round| &round.servers).iter().enumerate().map(|(at, server)| {
        let of_server = |figure: fn(&Server) -> f64| of_rounds(&|round| round.servers.get(at).map(figure));
        Server {
            role: server.role,
            cpu_us_per_message: of_server(|server| server.cpu_us_per_message).unwrap_or_default(),
            rss_mib: of_server(|server| server.rss_mib).unwrap_or_default(),
        }
    });
    Row {
        broker: way.broker,
        mode: way.mode,
        qos: cell.qos as u8,
        payload_bytes: cell.payload_bytes,
        subscribers: cell.subscribers,
        messages_per_s: of_rounds(&|round| Some(round.messages_per_s)).unwrap_or_default().round(),
        of_plain: of_plain.map(round),
        of_group: of_group.map(round),
        p50_ms: of_rounds(&|round| ms(round.p50)).map(round),
        p99_ms: of_rounds(&|round| ms(round.p99)).map(round),
        servers: servers.collect(),
    }
}

fn table(rows: &[Row]) -> Result<()> {
    let shown = |figure: Option<f64>| figure.map_or_else(|| "-".to_owned(), |figure| format!("{figure:.2}"));
    let cells: Vec<[String; 10]> = rows
        .iter()
        .map(|row| {
            let servers: Vec<String> = row
                .servers
                .iter()
                .map(|server| format!("{} {:.1} us, {:.0} MiB", server.role, server.cpu_us_per_message, server.rss_mib))
                .collect();
            [
                row.qos.to_string(),
                row.payload_bytes.to_string(),
                format!("1->{}", row.subscribers),
                format!("{}, {}", row.broker, row.mode),
                format!("{:.0}", row.messages_per_s),
                shown(row.of_plain),
                shown(row.of_group),
                shown(row.p50_ms),
                shown(row.p99_ms),
                servers.join("; "),
            ]
        })
        .collect();
    output::table(
        [
            "QOS",
            "BYTES",
            "CLIENTS",
            "BROKER, WAY",
            "MESSAGES/s",
            "OF PLAIN",
            "OF GROUP",
            "p50 ms",
            "p99 ms",
            "CPU A MESSAGE, MEMORY",
        ],
        &cells,
    )
}

fn median(figures: impl Iterator<Item = f64>) -> Option<f64> {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied()
}

fn mib(bytes: u64) -> f64 {
    round(bytes as f64 / f64::from(1 << 20))
}

/// To two digits behind the point.
fn round(figure: f64) -> f64 {
    (figure * 100.0).round() / 100.0
}
