//! `sealcast device`: invite, list, show, revoke.

mod add;
mod bulk;
mod invitation;
mod list;
mod tokens;

use anyhow::Result;
use clap::Subcommand;
use sealcast_identity::DeviceId;
use sealcast_ledger::{Body, Device, DeviceRevoked, DeviceState, Reason, Replica};
use sealcast_node::output::{self, Column};
use serde::Serialize;

pub use self::{
    bulk::grant_listed,
    invitation::{Invitation, invite},
};
use crate::{operator::OperatorArgs, receipt::Receipt};

/// `sealcast device`.
#[derive(Subcommand)]
pub enum Command {
    /// Invite a device, or those of a CSV file: make one-time tokens for `sealcast enroll`. Run it on the hub's machine,
    /// where the CA takes the tokens.
    Add(add::Options),
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
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
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
    /// When the certificate ends, Unix seconds.
    pub not_after_s: u64,
    /// Whether it is shut out.
    pub state: State,
    /// Why it is revoked, if somebody has said so.
    pub reason: Option<String>,
    /// Names of the groups that it is granted, sorted.
    pub groups: Vec<String>,
}

/// Whether a device is shut out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It may connect.
    Active,
    /// It is refused.
    Revoked,
}

impl Row {
    fn state_text(&self) -> String {
        match (self.state, &self.reason) {
            (State::Active, _) => "active".to_owned(),
            (State::Revoked, None) => "revoked".to_owned(),
            (State::Revoked, Some(reason)) => format!("revoked: {reason}"),
        }
    }
}

/// The revocation of a device as programs see it.
#[derive(Serialize)]
struct Revoked {
    device: String,
    number: String,
    #[serde(flatten)]
    receipt: Receipt,
}

/// The row of one device.
pub fn row(replica: &Replica, device: &Device) -> Row {
    let granted = replica.groups().filter(|group| replica.is_granted(group.number, device.number));
    let mut groups: Vec<String> = granted.map(|group| group.name.to_string()).collect();
    groups.sort();
    let (state, reason) = match &device.state {
        DeviceState::Active => (State::Active, None),
        DeviceState::Revoked { reason, .. } => {
            (State::Revoked, Some(reason.as_str().to_owned()).filter(|reason| !reason.is_empty()))
        }
    };
    Row {
        device: device.id.to_string(),
        number: device.number.to_string(),
        public_key_sha256: hex::encode(device.key.fingerprint()),
        serial: hex::encode(device.serial.as_bytes()),
        not_after_s: device.not_after_s,
        state,
        reason,
        groups,
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
                row.state_text(),
                row.groups.join(" "),
            ]
        })
        .collect();
    let header = [
        "DEVICE".into(),
        Column::cut("CONTRACT NUMBER"),
        Column::cut("PUBLIC KEY SHA-256"),
        Column::cut("CERTIFICATE"),
        Column::cut("STATE"),
        Column::cut("GROUPS"),
    ];
    output::table_or("No devices yet: `sealcast device add NAME` invites one.", header, &cells)
}

/// Runs the command.
pub async fn run(command: Command) -> Result<()> {
    match command {
        Command::Add(options) => add::run(options).await,
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
        Command::Revoke { device, reason, operator, json } => {
            let mut operator = operator.connect().await?;
            let number = operator.device(&device)?.number;
            let record = operator.submit(Body::DeviceRevoked(DeviceRevoked { device: number, reason })).await?;
            let revoked = Revoked { device: device.to_string(), number: number.to_string(), receipt: (&record).into() };
            let words = format!("{device} is revoked: the broker refuses it, and its groups change their keys");
            output::outcome(json, &revoked, &words)
        }
    }
}

/// A ledger entry as people and programs see it.
#[derive(Serialize)]
pub struct Entry {
    /// Its index.
    pub index: u64,
    /// When, by the block's clock, in Unix seconds.
    pub time_s: u64,
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
            time_s: summary.time_s,
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
        .map(|entry| {
            [entry.index.to_string(), output::utc(entry.time_s), entry.originator.clone(), entry.entry.clone()]
        })
        .collect();
    let header = ["ENTRY".into(), "TIME".into(), "SIGNED BY".into(), Column::cut("WHAT")];
    output::table_or("No entries yet.", header, &cells)
}
