//! `sealcast device add --csv`: invites many devices, and goes on where an earlier run was stopped.
//!
//! The order makes that safe. The file of tokens is written before the hub's folder has their hashes, so no token that
//! the hub knows is lost. What the file has and the hub has not is given to the hub by the next run. Groups are granted
//! first: between the hub's folder and the person nothing waits for the ledger.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use anyhow::{Context as _, Result};
use sealcast_hub::{HubConfig, Tokens};
use sealcast_identity::{Certificate, DeviceId, StoredToken};
use sealcast_ledger::{Body, DeviceState, Granted, GroupNumber, Number, Record, Replica};
use sealcast_node::{now_ms, output};
use serde::Serialize;

use super::{
    invitation::{Invitation, root},
    list::{self, Wanted},
    tokens,
};
use crate::operator::{Operator, OperatorArgs};

/// What is to be done, for which hub.
pub struct BulkInvitation<'a> {
    /// The CSV file.
    pub csv: &'a Path,
    /// Where the tokens go.
    pub out: Option<&'a Path>,
    /// The hub's folder.
    pub hub: &'a Path,
    /// The hub's configuration.
    pub config: &'a HubConfig,
    /// Who looks at the ledger. Without its folder nobody does, and no group is granted.
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
    /// It got one in an earlier run, and the hub has another one for it by now.
    Replaced,
    /// It got one in an earlier run, which the hub does not have, and nobody could ask the ledger why.
    NotAtHub,
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
            Self::Replaced => "replaced",
            Self::NotAtHub => "not at the hub",
            Self::Enrolled => "enrolled",
            Self::Revoked => "revoked",
        }
    }

    /// Whether the token that the list has is still to be used.
    fn is_awaited(self) -> bool {
        matches!(self, Self::Invited | Self::InvitedBefore)
    }
}

/// A device as programs see it.
#[derive(Serialize)]
struct Row {
    device: String,
    state: State,
    /// Unless it has been used, or is in the file.
    token: Option<String>,
    expires_s: Option<u64>,
    /// The groups that it was granted now.
    granted: Vec<String>,
}

/// The groups that each device was granted.
type Grants = BTreeMap<DeviceId, Vec<String>>;

impl BulkInvitation<'_> {
    /// Checks all lines, grants their groups to those that have enrolled, and invites whoever has no invitation.
    pub async fn add(&self) -> Result<()> {
        let (wanted, mut faults) = list::read(self.csv)?;
        let root = root(self.hub)?;
        let mut operator = self.connect().await?;
        let lock = tokens::lock(self.hub)?;
        let mut invitations = match self.out {
            Some(out) => tokens::read(out, root.fingerprint())?,
            None => BTreeMap::new(),
        };
        if let Some(operator) = &mut operator {
            operator.catch_up().await?;
            list::check(&wanted, &operator.replica, |device| invitations.contains_key(device), &mut faults);
        }
        faults.settle(self.csv)?;
        let (granted, outcome) = match &mut operator {
            Some(operator) => grant(operator, &wanted).await?,
            None => (Grants::new(), Ok(())),
        };

        let tokens = Tokens::open(self.hub)?;
        let stored = stored(&tokens, &invitations)?;
        // After that: a token that is gone by now was used, and the ledger has its device.
        if let Some(operator) = &mut operator {
            operator.catch_up().await?;
        }
        let replica = operator.as_ref().map(|operator| &operator.replica);
        let states = self.invite(&wanted, replica, &stored, &root, &mut invitations)?;
        if let Some(out) = self.out {
            tokens::write(out, invitations.values())?;
        }
        let awaited = wanted.iter().zip(&states).filter(|(_, state)| state.is_awaited());
        let awaited = awaited.filter_map(|(wanted, _)| invitations.get(&wanted.device));
        let missing: Vec<StoredToken> = awaited
            .map(|Invitation { token, expires_ms }| token.to_stored(*expires_ms))
            .filter(|token| !is_same(stored.get(&token.device), token))
            .collect();
        tokens.put_all(&missing)?;
        drop(lock);
        self.tell(&wanted, &states, &invitations, &granted)?;
        outcome.context("not all groups were granted: run the command again")
    }

    /// The operator, if its folder is here.
    async fn connect(&self) -> Result<Option<Operator>> {
        if self.operator.is_here() {
            let operator = self.operator.connect().await;
            return operator.map(Some).context("cannot read the ledger: start the hub, then run this again");
        }
        let csv = self.csv.display();
        output::complain(&format!(
            "note: no operator's folder is here ({}): which devices have enrolled and which groups there are is not \
             checked, and no group is granted. Where that folder is, run `sealcast group grant --csv {csv}` after the \
             devices have enrolled",
            self.operator.dir.display()
        ));
        Ok(None)
    }

    /// Makes the invitations that are missing. Gives the state of each line's device, by what the hub has `stored`.
    fn invite(
        &self,
        wanted: &[Wanted],
        replica: Option<&Replica>,
        stored: &BTreeMap<DeviceId, StoredToken>,
        root: &Certificate,
        invitations: &mut BTreeMap<DeviceId, Invitation>,
    ) -> Result<Vec<State>> {
        let now_ms = now_ms();
        let mut state = |device: &DeviceId| {
            if let Some(known) = replica.and_then(|replica| replica.device_by_id(device)) {
                return Ok(match known.state {
                    DeviceState::Active => State::Enrolled,
                    DeviceState::Revoked { .. } => State::Revoked,
                });
            }
            if let Some(before) = invitations.get(device)
                && let Some(state) = before_now(before, stored.get(device), now_ms, replica.is_some())
            {
                return Ok(state);
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
                token: open.filter(|_| self.out.is_none()).map(|open| open.token.to_text().to_string()),
                expires_s: open.map(|invitation| invitation.expires_ms / 1000),
                granted: granted.get(device).cloned().unwrap_or_default(),
            }
        };
        let rows: Vec<Row> = wanted.iter().zip(states).map(row).collect();
        if self.json {
            let out = self.out.map(|out| out.display().to_string());
            return output::json(&serde_json::json!({ "file": out, "devices": rows }));
        }
        tell_grants(granted)?;
        if let Some(out) = self.out {
            return tell_states(out, wanted, states);
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

/// What became of the device that was invited `before`; `None` if it needs another token. `stored` is what the hub has for it.
fn before_now(before: &Invitation, stored: Option<&StoredToken>, now_ms: u64, asked: bool) -> Option<State> {
    let is_open = before.expires_ms > now_ms;
    let before = before.token.to_stored(before.expires_ms);
    match stored {
        Some(_) if is_same(stored, &before) => is_open.then_some(State::InvitedBefore),
        // An old one must not come back: whoever replaced it did not want it used.
        Some(other) if other.expires_ms >= before.expires_ms && other.expires_ms > now_ms => Some(State::Replaced),
        Some(_) => is_open.then_some(State::InvitedBefore),
        // It may be used up, and the ledger would say so. A token that was used must not admit a second key.
        None if !asked => Some(State::NotAtHub),
        None => is_open.then_some(State::InvitedBefore),
    }
}

fn is_same(stored: Option<&StoredToken>, token: &StoredToken) -> bool {
    stored.is_some_and(|stored| stored.secret_sha256 == token.secret_sha256)
}

/// What the hub has for these devices.
fn stored(tokens: &Tokens, invitations: &BTreeMap<DeviceId, Invitation>) -> Result<BTreeMap<DeviceId, StoredToken>> {
    let stored = invitations.keys().filter_map(|device| tokens.of(device).transpose());
    stored.map(|token| token.map(|token| (token.device.clone(), token))).collect()
}

fn tell_grants(granted: &Grants) -> Result<()> {
    if granted.is_empty() {
        return Ok(());
    }
    output::line(&format!("devices that were granted their groups now: {}", granted.len()))
}

/// How many devices are how far, and by name those for which the file's token is of no use.
fn tell_states(out: &Path, wanted: &[Wanted], states: &[State]) -> Result<()> {
    let count = |state| states.iter().filter(|other| **other == state).count();
    output::line(&format!("devices that were invited now: {}", count(State::Invited)))?;
    let [waiting, enrolled, revoked] = [State::InvitedBefore, State::Enrolled, State::Revoked].map(count);
    if waiting + enrolled + revoked > 0 {
        output::line(&format!(
            "the work of an earlier run goes on: of its devices {waiting} have not enrolled yet, {enrolled} have, and \
             {revoked} are revoked"
        ))?;
    }
    let out = out.display();
    let named = |state, why: &str| {
        let of = wanted.iter().zip(states).filter(|(_, other)| **other == state);
        let names: Vec<&str> = of.map(|(wanted, _)| wanted.device.as_str()).collect();
        if names.is_empty() { Ok(()) } else { output::line(&format!("{}: {why}", names.join(", "))) }
    };
    named(State::Replaced, &format!("replaced. The hub has another token, and the one in {out} is void"))?;
    named(
        State::NotAtHub,
        &format!(
            "the hub does not have the token in {out}: it was used, or an earlier run was stopped. Invite those that \
             `sealcast device list` does not have with `sealcast device add`"
        ),
    )?;
    output::line(&format!("{out} has the tokens: whoever reads it can enrol as these devices"))
}

/// `sealcast group grant --csv`: grants their groups to those of the file's devices that have enrolled.
pub async fn grant_listed(csv: &Path, mut operator: Operator, json: bool) -> Result<()> {
    let (wanted, mut faults) = list::read(csv)?;
    list::check(&wanted, &operator.replica, |_| true, &mut faults);
    faults.settle(csv)?;
    let (granted, outcome) = grant(&mut operator, &wanted).await?;
    let enrolled = |device: &DeviceId| operator.replica.device_by_id(device).is_some();
    if json {
        let row = |Wanted { device, .. }: &Wanted| {
            let groups = granted.get(device).cloned().unwrap_or_default();
            serde_json::json!({ "device": device.to_string(), "enrolled": enrolled(device), "granted": groups })
        };
        let rows: Vec<_> = wanted.iter().map(row).collect();
        output::json(&serde_json::json!({ "devices": rows }))?;
    } else {
        tell_grants(&granted)?;
        let missing = wanted.iter().filter(|wanted| !enrolled(&wanted.device)).count();
        if missing > 0 {
            output::line(&format!("devices that have not enrolled yet: {missing}. Run this again when they have"))?;
        }
    }
    outcome.context("not all groups were granted: run the command again")
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
