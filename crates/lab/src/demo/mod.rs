//! `sealcast demo`: the paper's experiment, and what goes beyond it. A hub, six agents (four nodes' and the valve's
//! two) and ordinary MQTT clients in one process, over real TCP and TLS on loopback; each step is told, checked, and counted.

mod attacks;
mod broker;
mod groups;
mod hostile;
mod network;
mod nodes;
mod observer;
mod report;
mod show;
mod standin;
mod valve;
mod wire;
mod world;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail};
use sealcast_node::{output, shutdown, upstream::Upstream};
use sealcast_operator::duty;

use self::{
    broker::BrokerArgs,
    network::NetworkArgs,
    report::Report,
    show::{ServeArgs, Show},
    wire::Capture,
    world::World,
};
use crate::plot::Plot;

/// So many steps there are, for a page that shows how far the experiment is.
const STEPS: usize = 52;

/// `sealcast demo`.
#[derive(clap::Args)]
pub struct Options {
    #[command(flatten)]
    broker: BrokerArgs,
    #[command(flatten)]
    network: NetworkArgs,
    #[command(flatten)]
    serve: ServeArgs,
    /// Print one JSON object instead of the story.
    #[arg(long)]
    json: bool,
    /// Keep the state of the hub and the agents in this folder, which must be empty or not exist yet.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Write what an observer at the broker saw, as a capture for Wireshark.
    #[arg(long, value_name = "FILE")]
    pcap: Option<PathBuf>,
    /// Draw the machine's temperature in the four acts of the valve chapter, as SVG.
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
}

/// Runs the experiment; success only if every step held.
pub async fn run(options: Options) -> Result<ExitCode> {
    for (name, file) in [("--pcap", &options.pcap), ("--plot", &options.plot)] {
        if let Some(file) = file {
            writable(file).with_context(|| format!("{name} {}", file.display()))?;
        }
    }
    let temporary;
    let dir = match &options.keep {
        Some(dir) => {
            if std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some()) {
                bail!("--keep {}: the folder is not empty", dir.display());
            }
            dir.clone()
        }
        None => {
            temporary = tempfile::Builder::new().prefix("sealcast-demo-").tempdir().context("no temporary folder")?;
            temporary.path().to_owned()
        }
    };
    let broker = options.broker.open()?;
    let mut report = Report::new(!options.json);
    let outcome = tokio::select! {
        outcome = experiment(&dir, broker, &options, &mut report) => outcome,
        () = shutdown::requested() => bail!("interrupted"),
    };
    if options.json {
        output::json(&report)?;
    }
    let Found { world, capture, plot } = outcome?;
    if !options.json {
        report.tell_end()?;
        if let Some(dir) = &options.keep {
            let dir = dir.display();
            output::line(&format!(
                "kept in {dir}; look around with\n  sealcast ledger show --agent {dir}/agents/1111\n  \
                 sealcast readings show thermometer --agent {dir}/agents/thermometer"
            ))?;
        }
    }
    // Last, so that a disk that is full takes nobody the figures.
    if let Some(path) = &options.pcap {
        capture.context("there was no observer")?.save(path)?;
        report.tell(&format!("capture written to {}", path.display()))?;
    }
    if let Some(path) = &options.plot {
        std::fs::write(path, plot.to_svg()).with_context(|| format!("--plot {}", path.display()))?;
        report.tell(&format!("the machine's temperature in the four acts: {}", path.display()))?;
    }
    if let Some(show) = report.show() {
        show.end();
        report.end_wait();
        output::line(
            "\nThe page is served until you end this (Ctrl-C). With the next token you can grant and revoke on it.",
        )?;
        duty::run(duty::Options::of(world.operator_dir().to_owned())).await?;
    }
    world.stop().await?;
    Ok(if report.held() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Whether a file can be written there; leaves nothing behind.
fn writable(file: &Path) -> Result<()> {
    if file.exists() {
        std::fs::OpenOptions::new().write(true).open(file)?;
        return Ok(());
    }
    let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    tempfile::tempfile_in(dir).context("no file can be created in its folder")?;
    Ok(())
}

/// What can be written to files when the experiment is over.
struct Found {
    world: World,
    capture: Option<Capture>,
    plot: Plot,
}

async fn experiment(dir: &Path, broker: Option<Upstream>, options: &Options, report: &mut Report) -> Result<Found> {
    report.tell_title()?;
    let mut world = World::start(dir, broker, &options.network, options.serve.serve).await?;
    if let Some(at) = &world.hub.console {
        let show = Show::new(at.console.clone(), &options.serve, STEPS);
        output::line(&format!("\nthe page: {}", at.url))?;
        if let Some(token) = &at.token {
            output::line(&format!("sign in with the token {}. The experiment begins then.", token.reveal()))?;
        }
        show.wait_for_visitor().await;
        world.show = Some(show.clone());
        report.show_on(show);
    }
    nodes::enrol(&mut world, report).await?;
    nodes::broadcast_keys(&mut world, report).await?;
    groups::one_to_one(&mut world, report).await?;
    groups::a_node_joins(&mut world, report).await?;
    nodes::contract_records(&mut world, report).await?;
    groups::second_group(&mut world, report).await?;
    groups::on_the_wire(&mut world, report).await?;
    attacks::revoked(&mut world, report).await?;
    attacks::minus_five_degrees(&mut world, report).await?;
    attacks::other_attacks(&mut world, report).await?;
    let plot = valve::acts(&mut world, report).await?;
    nodes::verify_ledger(&mut world, report).await?;
    let capture = world.observer.take().map(|observer| observer.capture);
    Ok(Found { world, capture, plot })
}
