//! `sealcast bench`: what sealing costs, beside the cryptography that it needs, measured in the same run; what checks cost
//! beside sealing; how a fleet of agents behaves; what the agents cost beside a broker alone; what a ledger takes and gives.

mod client;
mod fleet;
mod ledger;
mod proxy;
mod quality;
mod site;

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Subcommand;
use sealcast_node::{endpoint::EndpointUrl, now_ms, output};
use sealcast_operator::progress::Bar;
use sealcast_seal::{
    Authenticity, Content, Delivery, DeliveryKind, Freshness, HandOver, MAX_BATCH, Opened, Opener, Purpose, QosClass,
    raw::Raw,
};
use serde::Serialize;

use crate::lone_member::lone_member;

/// `sealcast bench`.
#[derive(Subcommand)]
pub enum Command {
    /// Measure sealing and opening a message, beside the raw AES-GCM, sign and verify that it needs.
    Seal {
        /// How long to measure each row, in ms.
        #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=600_000))]
        millis: u64,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Compare clients behind agents with clients that talk straight to a broker: the hub's, and mosquitto where it is installed.
    Proxy {
        /// How many messages each cell sends; to ten subscribers a tenth of them.
        #[arg(long, default_value_t = 50_000, value_parser = clap::value_parser!(u32).range(10..=10_000_000))]
        messages: u32,
        /// At which QoS.
        #[arg(long, default_value = "0,1", value_delimiter = ',', value_parser = clap::value_parser!(u8).range(0..=1))]
        qos: Vec<u8>,
        /// How large the payloads are, in bytes.
        #[arg(long, default_value = "100,1024", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(16..=1_000_000))]
        bytes: Vec<u32>,
        /// How many clients receive each message.
        #[arg(long, default_value = "1,10", value_delimiter = ',', value_parser = clap::value_parser!(u8).range(1..=50))]
        clients: Vec<u8>,
        /// How often each cell is measured. Each figure is the median of the rounds.
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=100))]
        rounds: u8,
        /// With how many idle connections an agent's memory is measured. Each takes two files at the agent: see `ulimit -n`.
        #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u16).range(0..=1_000))]
        connections: u16,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Measure reading, converting and judging a JSON reading by four rules, beside sealing it.
    Quality {
        /// How long to measure, in ms.
        #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(1..=600_000))]
        millis: u64,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Measure how many entries a ledger takes, embedded and on anvil, how fast they are verified, and what a long history costs
    /// at a start.
    Ledger {
        /// How many entries are submitted in batches.
        #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
        entries: u32,
        /// With how many entries agents and hub are started. Several numbers, separated by commas, in order.
        #[arg(long, default_value = "1000,10000,100000", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
        sizes: Vec<u32>,
        /// A development node at the Osaka upgrade, such as anvil, whose well-known first account pays [default: one that is
        /// started here, if anvil is on PATH].
        #[arg(long, value_name = "URL")]
        rpc: Option<EndpointUrl>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Measure many agents against one hub: key agreement, a grant, a revocation, messages from one to all.
    Fleet {
        /// How many agents. Several numbers, separated by commas, are measured one after the other.
        #[arg(long, default_value = "3,10,100", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(2..=500))]
        nodes: Vec<u16>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

const SIZES: [usize; 2] = [100, 1024];
const TOPIC: &str = "hsu0001/room1/temperature";

/// How messages prove their sender.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Each by a signature of its own.
    Alone,
    /// Each by the signature of its batch.
    Batch,
    /// Not.
    Group,
}

impl Mode {
    const ALL: [Self; 3] = [Self::Alone, Self::Batch, Self::Group];

    fn name(self) -> &'static str {
        match self {
            Self::Alone => "signed",
            Self::Batch => "signed, in a batch of 128",
            Self::Group => "group",
        }
    }

    fn authenticity(self) -> Authenticity {
        match self {
            Self::Alone | Self::Batch => Authenticity::Signature,
            Self::Group => Authenticity::Group,
        }
    }

    /// Whether the message at this place of a batch costs a signature.
    fn signs(self, at: usize) -> bool {
        self == Self::Alone || self == Self::Batch && at == 0
    }
}

#[derive(Serialize)]
struct Row {
    payload_bytes: usize,
    mode: &'static str,
    frame_bytes: usize,
    seal_us: f64,
    raw_seal_us: f64,
    open_us: f64,
    raw_open_us: f64,
}

/// Runs the command.
pub async fn run(command: Command) -> Result<()> {
    match command {
        Command::Seal { millis, json } => run_seal(millis, json),
        Command::Proxy { messages, qos, bytes, clients, rounds, connections, json } => {
            let cells = proxy::Cell::all(&qos, &bytes, &clients)?;
            proxy::run(&cells, messages as usize, rounds, connections.into(), json).await
        }
        Command::Quality { millis, json } => quality::run(Duration::from_millis(millis), json),
        Command::Ledger { entries, sizes, rpc, json } => {
            let sizes: Vec<usize> = sizes.into_iter().map(|size| size as usize).collect();
            ledger::run(entries as usize, &sizes, rpc.as_ref(), json).await
        }
        Command::Fleet { nodes, json } => {
            let sizes: Vec<usize> = nodes.into_iter().map(usize::from).collect();
            fleet::run(&sizes, json).await
        }
    }
}

fn run_seal(millis: u64, json: bool) -> Result<()> {
    let mut rows = Vec::new();
    for payload_bytes in SIZES {
        for mode in Mode::ALL {
            let _bar = Bar::waiting(format!("sealing {payload_bytes} bytes, {}", mode.name()));
            rows.push(measure(payload_bytes, mode, Duration::from_millis(millis))?);
        }
    }
    if json {
        return output::json(&rows);
    }
    let cells: Vec<[String; 6]> = rows
        .iter()
        .map(|row| {
            let beside = |own: f64, raw: f64| format!("{own:.2} ({:.2} x {raw:.2})", own / raw);
            [
                row.payload_bytes.to_string(),
                row.mode.to_owned(),
                row.frame_bytes.to_string(),
                (row.frame_bytes - row.payload_bytes).to_string(),
                beside(row.seal_us, row.raw_seal_us),
                beside(row.open_us, row.raw_open_us),
            ]
        })
        .collect();
    output::table(["PAYLOAD", "MODE", "FRAME", "ADDED", "SEAL us (x RAW)", "OPEN us (x RAW)"], &cells)
}

/// Takes the four in turns and of each the quickest 64: what else the machine does slows some, speeds none.
fn measure(payload_bytes: usize, mode: Mode, long: Duration) -> Result<Row> {
    let (keys, mut sealer) = lone_member(mode.authenticity())?;
    let payload = vec![0x55; payload_bytes];
    let content = Content {
        purpose: Purpose::Message,
        class: QosClass::AtMostOnce,
        retain: false,
        props: &[],
        payload: &payload,
    };
    let batch = [(TOPIC, content); MAX_BATCH];
    let freshness = Freshness::unlimited(0);
    let delivery = Delivery { kind: DeliveryKind::Live, hand_over: HandOver::AtMostOnce, freshness: &freshness };
    let (mut signed, mut bare) =
        (Raw::on_topic(TOPIC, payload_bytes, true)?, Raw::on_topic(TOPIC, payload_bytes, false)?);
    let mut opener = Opener::new();
    let now = now_ms();
    let mut frame_bytes = 0;
    let mut best = [Duration::MAX; 4];
    let end = Instant::now() + long;
    while Instant::now() < end {
        let mut frames = Vec::with_capacity(MAX_BATCH);
        let start = Instant::now();
        if mode == Mode::Batch {
            frames.extend(sealer.seal_batch(now, &batch).into_iter().flatten());
        } else {
            for _ in 0..MAX_BATCH {
                frames.push(black_box(sealer.seal(now, TOPIC, &content)?));
            }
        }
        best[0] = best[0].min(start.elapsed());
        ensure!(frames.len() == MAX_BATCH, "a message was not sealed");
        let raw_seal = time(|at| {
            let raw = if mode.signs(at) { &mut signed } else { &mut bare };
            black_box(raw.seal()?);
            Ok(())
        });
        best[1] = best[1].min(raw_seal?);
        let open = time(|at| {
            let frame = frames.get(at).context("a frame for each call")?;
            let Opened::Message(message) = opener.open(&keys, TOPIC, frame, &delivery, now)? else {
                bail!("an own message did not open");
            };
            opener.mark_delivered(&message.receipt());
            black_box(message.payload());
            Ok(())
        });
        best[2] = best[2].min(open?);
        let raw_open = time(|at| {
            black_box(if mode.signs(at) { &signed } else { &bare }.open()?);
            Ok(())
        });
        best[3] = best[3].min(raw_open?);
        frame_bytes = frames.first().map_or(0, Vec::len);
    }
    let [seal_us, raw_seal_us, open_us, raw_open_us] =
        best.map(|all| (all.as_secs_f64() * 1e9 / MAX_BATCH as f64).round() / 1e3);
    Ok(Row { payload_bytes, mode: mode.name(), frame_bytes, seal_us, raw_seal_us, open_us, raw_open_us })
}

/// So many calls are timed together: few enough for the caches, enough for the clock.
fn time(mut call: impl FnMut(usize) -> Result<()>) -> Result<Duration> {
    let start = Instant::now();
    for at in 0..MAX_BATCH {
        call(at)?;
    }
    Ok(start.elapsed())
}
