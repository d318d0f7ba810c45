//! `sealcast ledger import` and `move`: the ledger goes on at a contract on another network.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use sealcast_agent::genesis;
use sealcast_hub::{HubFile, Imported, check_successor};
use sealcast_ledger::{Body, LedgerId, Moved};
use sealcast_node::{
    PassphraseArgs,
    config::{self, folder_of},
    output,
};
use serde::Serialize;

use crate::{
    hub_args::HubArgs,
    operator::{OperatorArgs, network},
    progress::Bar,
    receipt::Receipt,
    source::read_records,
};

/// On which network.
#[derive(clap::Args)]
struct NetworkArgs {
    /// An endpoint of the EVM network, http(s):// or ws(s)://. Can be repeated.
    #[arg(long, value_name = "URL")]
    rpc: Vec<String>,
    /// When a block counts as one that stays: latest, safe, finalized, or how many blocks have to be on top of it [default:
    /// finalized].
    #[arg(long, value_name = "WHEN")]
    finality: Option<String>,
}

/// `sealcast ledger import`.
#[derive(clap::Args)]
pub struct Import {
    /// What `sealcast ledger export` wrote.
    file: PathBuf,
    /// Which hub's ledger it is: its account pays, and its folder says which contract it has deployed.
    #[command(flatten)]
    hub: HubArgs,
    #[command(flatten)]
    network: NetworkArgs,
    /// The hub's configuration file, which may name the network [default: HUB/hub.toml, if it exists].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How the hub's keys are read.
    #[command(flatten)]
    passphrase: PassphraseArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// `sealcast ledger move`.
#[derive(clap::Args)]
pub struct Move {
    /// The contract, CHAIN:0xADDRESS, as `sealcast ledger import` has told it.
    to: LedgerId,
    /// As which operator.
    #[command(flatten)]
    operator: OperatorArgs,
    #[command(flatten)]
    network: NetworkArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What `sealcast ledger move` has done, as programs see it.
#[derive(Serialize)]
struct HasMoved {
    contract: String,
    /// The entry that says so, if it was written now.
    #[serde(flatten)]
    receipt: Option<Receipt>,
}

/// Brings the entries of a file to the successor.
pub async fn import(options: Import) -> Result<()> {
    let Import { file, hub, network: NetworkArgs { rpc, finality }, config, passphrase, json } = options;
    let path = config.clone().unwrap_or_else(|| hub.hub.join("hub.toml"));
    let config = config::load::<HubFile>(config.as_deref(), &path)?.check(&[], |file| {
        let file = file.with_paths(folder_of(&path)).with_passphrase(passphrase.passphrase_file);
        file.with_ledger(rpc, finality).validate()
    })?;
    let records = read_records(&file)?;
    let (known, anchor) = network(&hub.hub)?;
    let all = records.len() as u64;
    let bar = Bar::of("verifying the entries", all);
    let counted = records.iter().zip(0..).map(|(record, done)| {
        bar.set(done);
        record.clone()
    });
    let replica = sealcast_ledger::verify(genesis(&known, &anchor), counted).with_context(|| {
        format!("{} does not have the ledger of the hub in {}, or was changed", file.display(), hub.hub.display())
    })?;
    drop(bar);
    let bar = Bar::of("bringing the entries to the contract", all);
    let Imported { contract, height, new, complete } =
        sealcast_hub::import(&hub.hub, &config, &records, &replica, |height| bar.set(height)).await?;
    drop(bar);
    let next = if complete {
        "the ledger is complete there: name the network in [ledger] of hub.toml (`rpc`), and start the hub".to_owned()
    } else {
        format!(
            "when the rest is to follow, move the ledger with `sealcast ledger move {contract}`, export and import it again"
        )
    };
    let imported = serde_json::json!({
        "contract": contract.to_string(),
        "height": height,
        "new": new,
        "complete": complete,
    });
    output::outcome(json, &imported, &format!("contract {contract} has {height} entries, {new} of them new\n{next}"))
}

/// Signs the last entry here.
pub async fn move_to(options: Move) -> Result<()> {
    let Move { to, operator, network: NetworkArgs { rpc, finality }, json } = options;
    let config = HubFile::default().with_ledger(rpc, finality).validate()?;
    let network = config.ledger.context("on which network is the contract? Give its endpoint with --rpc")?;
    let mut operator = operator.connect().await?;
    // It has moved there already, if this is run again.
    let mut receipt = None;
    if *operator.replica.current_id() != to {
        let _bar = Bar::waiting("looking at the contract, and writing to the ledger");
        check_successor(&network, to, operator.replica.genesis(), &operator.records).await?;
        receipt = Some(Receipt::from(&operator.submit(Body::Moved(Moved { to })).await?));
    }
    let words = format!(
        "the ledger has moved to {to}, and takes no entry before it is complete there: export it, stop the hub, and import it \
         once more"
    );
    output::outcome(json, &HasMoved { contract: to.to_string(), receipt }, &words)
}
