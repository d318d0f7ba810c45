//! `sealcast device add`: invites one device, or those of a CSV file.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use sealcast_hub::{HubFile, Tokens};
use sealcast_identity::DeviceId;
use sealcast_ledger::{Device, DeviceState};
use sealcast_node::{
    config,
    files::{self, Mode},
    output,
};
use serde::Serialize;

use super::{
    bulk::BulkInvitation,
    invitation::{Invitation, root},
};
use crate::{hub_args::HubArgs, operator::OperatorArgs};

/// `sealcast device add`.
#[derive(clap::Args)]
pub struct Options {
    /// The device's id.
    #[arg(required_unless_present = "csv", conflicts_with = "csv")]
    device: Option<DeviceId>,
    /// Invite the devices of this CSV file, while the hub runs. Its first line names the columns: `device`, and
    /// `groups` if devices are to be granted some. All lines are checked before anybody is invited. Run again, it goes
    /// on where it was stopped (see --out), and grants the groups to the devices that have enrolled meanwhile. Without
    /// the operator's folder it only invites: see `sealcast group grant --csv`.
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Write the token into this file, which only its owner can read, instead of printing it. With --csv it is a CSV
    /// file of all tokens; without it, another run makes other tokens.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Which hub.
    #[command(flatten)]
    hub: HubArgs,
    /// As which operator: one that is there tells whether the device is enrolled already.
    #[command(flatten)]
    operator: OperatorArgs,
    /// The hub's configuration file, which says how long the token is valid [default: HUB/hub.toml, if it exists].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// An invitation as programs see it.
#[derive(Serialize)]
struct Row {
    device: String,
    /// Unless it is in the file.
    token: Option<String>,
    file: Option<String>,
    expires_s: u64,
    /// What the token means for a device that the ledger knows.
    note: Option<String>,
}

impl Row {
    fn new(invitation: &Invitation, out: Option<&Path>, note: Option<String>) -> Self {
        Self {
            device: invitation.token.device().to_string(),
            token: out.is_none().then(|| invitation.token.to_text().to_string()),
            file: out.map(|out| out.display().to_string()),
            expires_s: invitation.expires_ms / 1000,
            note,
        }
    }
}

/// Runs the command.
pub async fn run(options: Options) -> Result<()> {
    let Options { device, csv, out, hub, operator, config, json } = options;
    let config =
        config::load::<HubFile>(config.as_deref(), &hub.hub.join("hub.toml"))?.check(&[], HubFile::validate)?;
    let hub = hub.hub.as_path();
    if let Some(csv) = &csv {
        let bulk = BulkInvitation { csv, out: out.as_deref(), hub, config: &config, operator: &operator, json };
        return bulk.add().await;
    }
    let device = device.context("which device? Give its id, or --csv FILE")?;
    let invitation = Invitation::new(device.clone(), &root(hub)?, &config)?;
    // Before the hub has it: a token that the hub knows is not lost.
    if let Some(out) = &out {
        files::write(out, format!("{}\n", *invitation.token.to_text()).as_bytes(), Mode::Secret)?;
    }
    Tokens::open(hub)?.put(&invitation.token.to_stored(invitation.expires_ms))?;
    if !json {
        let in_file =
            |out: &PathBuf| format!("{} has the token: whoever reads it can enrol as {device}", out.display());
        output::line(&out.as_ref().map_or_else(|| invitation.token.to_text().to_string(), in_file))?;
    }
    // Without a running hub, or without the operator's folder, nobody knows: the token is good all the same.
    let note = match operator.connect().await {
        Ok(operator) => operator.replica.device_by_id(&device).map(enrolled_before),
        Err(error) => {
            tracing::debug!("whether {device} is enrolled is not known: {error:#}");
            None
        }
    };
    note.iter().for_each(|note| output::complain(&format!("note: {note}")));
    if json { output::json(&Row::new(&invitation, out.as_deref(), note)) } else { Ok(()) }
}

/// What a new token means for a device that the ledger knows.
fn enrolled_before(device: &Device) -> String {
    let id = &device.id;
    match &device.state {
        DeviceState::Active => format!(
            "{id} is already enrolled, with a certificate until {}. The token renews that certificate if the device \
             enrols in the same folder. In another folder it gets another key, which ends its grants: grant its groups again",
            output::utc(device.not_after_s)
        ),
        DeviceState::Revoked { .. } => format!(
            "{id} is revoked. Once it has enrolled with the token it is active again, without its former grants: \
             grant its groups again"
        ),
    }
}
