//! `sealcast broker config`: what to set at a broker of somebody else's, so that it carries Sealcast's messages, and nobody
//! reads or writes what is not theirs.
//!
//! Nothing depends on these rules: every message proves by itself whose it is. They keep strangers from flooding members, from
//! overwriting what is retained, and from seeing who sends how much.

mod access;
mod emqx;
mod file;
mod mosquitto;
mod nats;
mod rabbitmq;

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::{Subcommand, ValueEnum};
use sealcast_node::{
    files::{self, Mode},
    output,
    upstream::BrokerUrl,
};
use sealcast_topic::Wire;

use self::{access::Access, file::File};
use crate::operator::{OperatorArgs, network};

/// The port of MQTT over TLS (IANA: secure-mqtt).
const MQTTS: u16 = 8883;

/// `sealcast broker`.
#[derive(Subcommand)]
pub enum Command {
    /// Print settings and access rules for a broker that the hub and the agents are clients of, for the groups as they are now.
    Config {
        /// Which broker.
        #[arg(value_enum)]
        broker: Product,
        /// As which operator.
        #[command(flatten)]
        operator: OperatorArgs,
        /// Do not ask the hub for its groups: for the rules of a first start, without which the hub cannot be reached.
        #[arg(long)]
        no_groups: bool,
        /// Write the files into this folder, instead of printing them.
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
}

/// A broker whose settings are known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Product {
    /// Eclipse mosquitto 2.
    Mosquitto,
    /// RabbitMQ 3.10 or later, with its MQTT plugin.
    Rabbitmq,
    /// NATS server 2.10 or later, with JetStream.
    Nats,
    /// EMQX 5.
    Emqx,
}

/// Runs the command.
pub async fn run(command: Command) -> Result<()> {
    let Command::Config { broker, operator, no_groups, out } = command;
    let (network, _) = network(&operator.dir)?;
    let wire = match network.wire.prefix() {
        Some(_) => network.wire.clone(),
        None => Wire::foreign(),
    };
    let access = match no_groups {
        true => Access::without_groups(wire),
        false => Access::new(&operator.connect().await?.replica, wire),
    };
    let files = match broker {
        Product::Mosquitto => mosquitto::files(&access, &network.hub, tls_port(&network.broker)),
        Product::Rabbitmq => rabbitmq::files(&access, &network.hub),
        Product::Nats => nats::files(&access),
        Product::Emqx => emqx::files(&access, &network.hub),
    };
    let Some(dir) = out else {
        let shown: Vec<String> = files.iter().map(|File { name, text }| format!("# {name}\n{text}")).collect();
        return output::line(shown.join("\n").trim_end());
    };
    files::create_dir(&dir)?;
    for File { name, text } in files {
        files::write(&dir.join(name), text.as_bytes(), Mode::Public).with_context(|| format!("cannot write {name}"))?;
        output::line(&format!("{} was written", dir.join(name).display()))?;
    }
    Ok(())
}

/// The port of the broker that the hub uses, if TLS is spoken there; else that of MQTT over TLS.
fn tls_port(broker: &str) -> u16 {
    let url: Option<BrokerUrl> = broker.parse().ok();
    url.filter(|url| url.scheme.tls && !url.scheme.web_socket).map_or(MQTTS, |url| url.address.port)
}
