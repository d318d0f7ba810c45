//! `sealcast device`: invite, list, show, revoke.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::Subcommand;
use sealcast_hub::{HubConfig, HubFile, Tokens};
use sealcast_identity::{DeviceId, EnrolmentToken};
use sealcast_ledger::{Body, Device, DeviceRevoked, DeviceState, Reason, Replica};
use sealcast_node::{config, files, now_ms, output};
use serde::Serialize;

use crate::operator::OperatorArgs;

/// `sealcast device`.
#[derive(Subcommand)]
pub enum Command {
    /// Invite a device: print a one-time token for `sealcast enroll`. On the hub's machine, as the CA takes the token.
    Add {
        /// The device's id.
        device: DeviceId,
        /// Which hub.
        #[command(flatten)]
        hub: HubArgs,
        /// As which operator: one that is there tells whether the device is enrolled already.
        #[command(flatten)]
        operator: OperatorArgs,
        /// The hub's configuration file, which says how long the token is valid [default: HUB/hub.toml, if it exists].
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// List all devices.
    List {
        /// As which operator.
        #[command(flatten)]
        operator: OperatorArgs,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show one device and its entries on the ledger.
    Show {
        /// The device's id.
        device: DeviceId,
        /// As which operator.
        #[command(flatten)]
        operator: OperatorArgs,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Revoke a device: the broker refuses it, and it loses every group with the group's next epoch.
    Revoke {
        /// The device's id.
        device: DeviceId,
        /// The reason. It is written to the ledger, where everybody can read it.
        #[arg(long, default_value = "")]
        reason: Reason,
        /// As which operator.
        #[command(flatten)]
        operator: OperatorArgs,
    },
}

/// Which hub.
#[derive(clap::Args, Debug, Clone)]
pub struct HubArgs {
    /// The hub's folder.
    #[arg(long, env = "SEALCAST_HUB", value_name = "DIR", default_value = "hub")]
    pub hub: PathBuf,
}

/// A device as people and programs see it.
#[derive(Serialize)]
pub struct Row {
    /// Its id.
    pub device: String,
    /// The paper's contract number: its number on the ledger.
    pub number: String,
    /// SHA-256 of its public key, hex.
    pub public_key_sha256: String,
    /// Its certificate's serial number, hex.
    pub serial: String,
    /// When the certificate ends.
    pub not_after: String,
    /// `active` or `revoked: reason`.
    pub state: String,
    /// Names of the groups that it is granted.
    pub groups: Vec<String>,
}

/// The row of one device.
pub fn row(replica: &Replica, device: &Device) -> Row {
    let granted = replica.groups().filter(|group| replica.is_granted(group.number, device.number));
    Row {
        device: device.id.to_string(),
        number: device.number.to_string(),
        public_key_sha256: hex::encode(device.key.fingerprint()),
        serial: hex::encode(device.serial.as_bytes()),
        not_after: output::utc(device.not_after_s),
        state: match &device.state {
            DeviceState::Active => "active".to_owned(),
            DeviceState::Revoked { reason, .. } if reason.as_str().is_empty() => "revoked".to_owned(),
            DeviceState::Revoked { reason, .. } => format!("revoked: {}", reason.as_str()),
        },
        groups: granted.map(|group| group.name.to_string()).collect(),
    }
}

/// Prints devices as a table.
pub fn table(rows: &[Row]) -> Result<()> {
    let short = |hex: &str| hex.chars().take(16).collect::<String>();
    let cells: Vec<[String; 6]> = rows
        .iter()
        .map(|row| {
            [
                row.device.clone(),
                row.number.clone(),
                short(&row.public_key_sha256),
                short(&row.serial),
                row.state.clone(),
                row.groups.join(" "),
            ]
        })
        .collect();
    output::table(["DEVICE", "CONTRACT NUMBER", "PUBLIC KEY SHA-256", "CERTIFICATE", "STATE", "GROUPS"], &cells)
}

/// Runs the command.
pub async fn run(command: Command) -> Result<()> {
    match command {
        Command::Add { device, hub, operator, config } => {
            let config =
                config::load::<HubFile>(config.as_deref(), &hub.hub.join("hub.toml"))?.check(&[], HubFile::validate)?;
            let token = invite(&hub.hub, device.clone(), &config)?;
            output::line(&token.to_text())?;
            // Without a running hub, or without the operator's folder, nobody knows: the token is good all the same.
            match operator.connect().await {
                Ok(operator) => operator.replica.device_by_id(&device).map(enrolled_before).iter().for_each(|note| {
                    output::complain(note);
                }),
                Err(error) => tracing::debug!("whether {device} is enrolled is not known: {error:#}"),
            }
            Ok(())
        }
        Command::List { operator, json } => {
            let operator = operator.connect().await?;
            let mut rows: Vec<Row> = operator.replica.devices().map(|device| row(&operator.replica, device)).collect();
            rows.sort_by(|one, other| one.device.cmp(&other.device));
            if json { output::json(&rows) } else { table(&rows) }
        }
        Command::Show { device, operator, json } => {
            let operator = operator.connect().await?;
            let found = operator.device(&device)?;
            let row = row(&operator.replica, found);
            let history = operator.replica.about_originator(found.number);
            let history: Vec<Entry> = history.iter().map(|summary| Entry::new(&operator.replica, summary)).collect();
            if json {
                return output::json(&serde_json::json!({ "device": row, "history": history }));
            }
            table(&[row])?;
            output::line("")?;
            entries(&history)
        }
        Command::Revoke { device, reason, operator } => {
            let mut operator = operator.connect().await?;
            let number = operator.device(&device)?.number;
            operator.submit(Body::DeviceRevoked(DeviceRevoked { device: number, reason })).await?;
            output::line(&format!("{device} is revoked: the broker refuses it, and its groups change their keys"))
        }
    }
}

/// What a new token means for a device that the ledger knows.
fn enrolled_before(device: &Device) -> String {
    let id = &device.id;
    match &device.state {
        DeviceState::Active => format!(
            "note: {id} is already enrolled, with a certificate until {}. The token renews that certificate if the device \
             enrols in the same folder. In another folder it gets another key, which ends its grants: grant its groups again",
            output::utc(device.not_after_s)
        ),
        DeviceState::Revoked { .. } => format!(
            "note: {id} is revoked. Once it has enrolled with the token it is active again, without its former grants: \
             grant its groups again"
        ),
    }
}

/// Makes a token for `device` and keeps its hash in the hub's folder.
pub fn invite(hub: &Path, device: DeviceId, config: &HubConfig) -> Result<EnrolmentToken> {
    let root = hub.join("root.pem");
    if !root.exists() {
        bail!("{} is not a hub's folder: start the hub first (`sealcast up --dir {0}`)", hub.display());
    }
    let token = EnrolmentToken::generate(device, &files::certificate(&root)?)?;
    let expires_ms = now_ms() + config.token_lifetime.as_millis() as u64;
    Tokens::open(hub)?.put(&token.to_stored(expires_ms))?;
    Ok(token)
}

/// A ledger entry as people and programs see it.
#[derive(Serialize)]
pub struct Entry {
    /// Its index.
    pub index: u64,
    /// When, by the block's clock.
    pub time: String,
    /// Who signed it.
    pub originator: String,
    /// What it says.
    pub entry: String,
}

impl Entry {
    /// From the replica's summary.
    pub fn new(replica: &Replica, summary: &sealcast_ledger::Summary) -> Self {
        Self {
            index: summary.index,
            time: output::utc(summary.time_s),
            originator: replica
                .name_of(summary.originator)
                .map_or_else(|| summary.originator.to_string(), str::to_owned),
            entry: replica.describe(summary),
        }
    }
}

/// Prints entries as a table.
pub fn entries(entries: &[Entry]) -> Result<()> {
    let cells: Vec<[String; 4]> = entries
        .iter()
        .map(|entry| [entry.index.to_string(), entry.time.clone(), entry.originator.clone(), entry.entry.clone()])
        .collect();
    output::table(["ENTRY", "TIME", "SIGNED BY", "WHAT"], &cells)
}
