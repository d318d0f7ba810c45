//! `sealcast device add --csv`: invites many devices, and goes on where an earlier run was stopped.
//!
//! The order makes that safe. The file of tokens is written before the hub's folder has their hashes, so no token that
//! the hub knows is lost. What the file has and the hub has not is given to the hub by the next run.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use anyhow::{Context as _, Result};
use sealcast_hub::{HubConfig, Tokens};
use sealcast_identity::{Certificate, DeviceId, StoredToken};
use sealcast_ledger::{Body, DeviceState, Granted, GroupNumber, Number, Record, Replica};
use sealcast_node::{files, now_ms, output};
use serde::Serialize;

use super::{
    invitation::{Invitation, root},
    list::{self, Wanted},
    tokens,
};
use crate::operator::{Operator, OperatorArgs};

/// What is to be done, for which hub.
pub struct Fleet<'a> {
    /// The CSV file.
    pub csv: &'a Path,
    /// Where the tokens go.
    pub out: Option<&'a Path>,
    /// The hub's folder.
    pub hub: &'a Path,
    /// The hub's configuration.
    pub config: &'a HubConfig,
    /// Who looks at the ledger.
    pub operator: &'a OperatorArgs,
    /// Print JSON.
    pub json: bool,
}

/// How far a device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    /// It got a token now.
    Invited,
    /// It got one in an earlier run, and may still enrol with it.
    InvitedBefore,
    /// It has enrolled.
    Enrolled,
    /// It had enrolled, and is revoked.
    Revoked,
}

impl State {
    fn words(self) -> &'static str {
        match self {
            Self::Invited => "invited",
            Self::InvitedBefore => "invited before",
            Self::Enrolled => "enrolled",
            Self::Revoked => "revoked",
        }
    }
}

/// A device as programs see it.
#[derive(Serialize)]
struct Row {
    device: String,
    state: State,
    /// Unless it has been used.
    token: Option<String>,
    expires_s: Option<u64>,
    /// The groups that it was granted now.
    granted: Vec<String>,
}

/// The groups that each device was granted.
type Grants = BTreeMap<DeviceId, Vec<String>>;

impl Fleet<'_> {
    /// Checks all lines, then invites whoever has no invitation, and grants their groups to those that have enrolled.
    pub async fn add(&self) -> Result<()> {
        let file = self.csv.display().to_string();
        let bytes = files::read_bytes(self.csv, list::MAX_FILE_BYTES)?;
        let (wanted, mut faults) = list::parse(&bytes).with_context(|| format!("{file} cannot be used"))?;
        let root = root(self.hub)?;
        let mut invitations = match self.out {
            Some(out) => tokens::read(out, root.fingerprint())?,
            None => BTreeMap::new(),
        };
        let mut operator = self
            .operator
            .connect()
            .await
            .context("many devices are invited while the hub runs: its ledger says which there are")?;
        let tokens = Tokens::open(self.hub)?;
        let known = stored(&tokens, &invitations)?;
        // After that: a token that is gone by now was used, and the ledger has its device.
        operator.catch_up().await?;
        list::check(&wanted, &operator.replica, |device| invitations.contains_key(device), &mut faults);
        faults.settle(&file)?;

        let states = self.invite(&wanted, &operator.replica, &root, &mut invitations)?;
        if let Some(out) = self.out {
            tokens::write(out, invitations.values())?;
        }
        let awaited = wanted.iter().zip(&states).filter(|(_, state)| state.is_awaited());
        let awaited = awaited.filter_map(|(wanted, _)| invitations.get(&wanted.device));
        let missing: Vec<StoredToken> = awaited
            .map(|Invitation { token, expires_ms }| token.to_stored(*expires_ms))
            .filter(|token| !known.contains(&token.secret_sha256))
            .collect();
        tokens.put_all(&missing)?;
        let (granted, outcome) = grant(&mut operator, &wanted).await?;
        self.tell(&wanted, &states, &invitations, &granted)?;
        outcome.context("not all groups were granted: run the command again")
    }

    /// Makes the invitations that are missing. Gives the state of each line's device.
    fn invite(
        &self,
        wanted: &[Wanted],
        replica: &Replica,
        root: &Certificate,
        invitations: &mut BTreeMap<DeviceId, Invitation>,
    ) -> Result<Vec<State>> {
        let now_ms = now_ms();
        let mut state = |device: &DeviceId| {
            if let Some(known) = replica.device_by_id(device) {
                return Ok(match known.state {
                    DeviceState::Active => State::Enrolled,
                    DeviceState::Revoked { .. } => State::Revoked,
                });
            }
            if invitations.get(device).is_some_and(|invitation| invitation.expires_ms > now_ms) {
                return Ok(State::InvitedBefore);
            }
            invitations.insert(device.clone(), Invitation::new(device.clone(), root, self.config)?);
            Ok(State::Invited)
        };
        wanted.iter().map(|wanted| state(&wanted.device)).collect()
    }

    fn tell(
        &self,
        wanted: &[Wanted],
        states: &[State],
        invitations: &BTreeMap<DeviceId, Invitation>,
        granted: &Grants,
    ) -> Result<()> {
        let row = |(Wanted { device, .. }, state): (&Wanted, &State)| {
            let open = invitations.get(device).filter(|_| state.is_awaited());
            Row {
                device: device.to_string(),
                state: *state,
                token: open.map(|invitation| invitation.token.to_text().to_string()),
                expires_s: open.map(|invitation| invitation.expires_ms / 1000),
                granted: granted.get(device).cloned().unwrap_or_default(),
            }
        };
        let rows: Vec<Row> = wanted.iter().zip(states).map(row).collect();
        if self.json {
            let out = self.out.map(|out| out.display().to_string());
            return output::json(&serde_json::json!({ "file": out, "devices": rows }));
        }
        if !granted.is_empty() {
            output::line(&format!("{} devices were granted their groups now", granted.len()))?;
        }
        let count = |state| states.iter().filter(|other| **other == state).count();
        if let Some(out) = self.out {
            output::line(&format!("{} devices were invited now", count(State::Invited)))?;
            let [waiting, enrolled, revoked] = [State::InvitedBefore, State::Enrolled, State::Revoked].map(count);
            if waiting + enrolled + revoked > 0 {
                output::line(&format!(
                    "the work of an earlier run goes on: of its devices {waiting} have not enrolled yet, {enrolled} \
                     have, and {revoked} are revoked"
                ))?;
            }
            return output::line(&format!(
                "{} has the tokens: whoever reads it can enrol as these devices",
                out.display()
            ));
        }
        let cells = |row: Row| {
            let dash = || "-".to_owned();
            let expires = row.expires_s.map_or_else(dash, output::utc);
            [row.device, row.state.words().to_owned(), expires, row.token.unwrap_or_else(dash)]
        };
        let cells: Vec<[String; 4]> = rows.into_iter().map(cells).collect();
        output::table(["DEVICE", "STATE", "TOKEN VALID UNTIL", "TOKEN"], &cells)
    }
}

impl State {
    /// Whether its token is still to be used.
    fn is_awaited(self) -> bool {
        matches!(self, Self::Invited | Self::InvitedBefore)
    }
}

/// The SHA-256 of the secrets that the hub has for these devices.
fn stored(tokens: &Tokens, invitations: &BTreeMap<DeviceId, Invitation>) -> Result<BTreeSet<[u8; 32]>> {
    let known = invitations.keys().filter_map(|device| tokens.of(device).transpose());
    known.map(|token| Ok(token?.secret_sha256)).collect()
}

/// Grants their groups to those that have enrolled and were never granted them: what somebody has revoked stays so.
/// Gives the groups that each device was granted now, and why others were not.
async fn grant(operator: &mut Operator, wanted: &[Wanted]) -> Result<(Grants, Result<()>)> {
    let before = granted_ever(&operator.records);
    let mut grants = Vec::new();
    for Wanted { device: id, groups, .. } in wanted {
        let Some(device) = operator.replica.device_by_id(id).filter(|device| device.is_active()) else { continue };
        for name in groups {
            let group = operator.group(name)?.number;
            if !before.contains(&(group, device.number)) {
                grants.push((id, name, Body::Granted(Granted { group, device: device.number })));
            }
        }
    }
    let bodies: Vec<Body> = grants.iter().map(|(.., body)| body.clone()).collect();
    let mut granted = Grants::new();
    let taken = |place: usize, _: &Record| {
        if let Some((id, name, _)) = grants.get(place) {
            granted.entry((*id).clone()).or_default().push(name.to_string());
        }
        Ok(())
    };
    let outcome = operator.submit_all(&bodies, taken).await;
    Ok((granted, outcome))
}

fn granted_ever(records: &[Record]) -> BTreeSet<(GroupNumber, Number)> {
    let grant = |record: &Record| match record.entry.body() {
        Body::Granted(Granted { group, device }) => Some((*group, *device)),
        _ => None,
    };
    records.iter().filter_map(grant).collect()
}
