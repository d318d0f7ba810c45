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

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::{Subcommand, ValueEnum};
use sealcast_node::{
    files::{self, Mode},
    output,
    upstream::BrokerUrl,
};
use sealcast_topic::Wire;
use serde::Serialize;

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
        /// Print JSON.
        #[arg(long)]
        json: bool,
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
    let Command::Config { broker, operator, no_groups, out, json } = command;
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
    let rows = match &out {
        Some(dir) => write(dir, &files)?,
        None => files.iter().map(|File { name, text }| Row { name, text: Some(text), path: None }).collect(),
    };
    if json {
        return output::json(&serde_json::json!({ "files": rows }));
    }
    let words = |row: &Row<'_>| match &row.path {
        Some(path) => format!("{path} was written"),
        None => format!("# {}\n{}", row.name, row.text.unwrap_or_default()),
    };
    output::line(rows.iter().map(words).collect::<Vec<_>>().join("\n").trim_end())
}

/// A file as programs see it.
#[derive(Serialize)]
struct Row<'a> {
    name: &'a str,
    /// What stands in it, unless it was written.
    text: Option<&'a str>,
    /// Where it was written.
    path: Option<String>,
}

fn write<'a>(dir: &Path, files: &'a [File]) -> Result<Vec<Row<'a>>> {
    files::create_dir(dir)?;
    let one = |File { name, text }: &'a File| {
        let path = dir.join(name);
        files::write(&path, text.as_bytes(), Mode::Public).with_context(|| format!("cannot write {name}"))?;
        Ok(Row { name, text: None, path: Some(path.display().to_string()) })
    };
    files.iter().map(one).collect()
}

/// The port of the broker that the hub uses, if TLS is spoken there; else that of MQTT over TLS.
fn tls_port(broker: &str) -> u16 {
    let url: Option<BrokerUrl> = broker.parse().ok();
    url.filter(|url| url.scheme.tls && !url.scheme.web_socket).map_or(MQTTS, |url| url.address.port)
}
