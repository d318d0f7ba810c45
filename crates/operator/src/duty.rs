//! `sealcast operator`: a process with the operator's key, until it is stopped. It carries out what a person with the
//! operator's token asks for on the hub's console, and gives the operator's word on how far the ledger is.
//!
//! The hub hands the actions on. It is not believed: each has to be proven by the token, which the hub does not have.

mod judge;

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use sealcast_console::{Act, Action, CALL_PATH, Call, Orders, Outcome, OutcomeState, Token};
use sealcast_identity::DeviceId;
use sealcast_ledger::{Body, Granted, GroupName, Reason, Revoked};
use sealcast_node::{
    PassphraseArgs,
    files::{self, Source},
    now_ms, output, shutdown,
};
use serde::Serialize;
use tokio::time::Instant;
use tracing::{info, warn};

pub(crate) use self::judge::ACTIONS;
use self::judge::{Judge, Verdict};
use crate::operator::{Operator, OperatorArgs};

/// The file in the operator's folder with the token.
pub(crate) const TOKEN: &str = "console.token";
/// How long a call waits at the hub for an action.
const WAIT: Duration = Duration::from_secs(15);
/// After a call that failed.
const AGAIN: Duration = Duration::from_secs(1);

const DEFAULT_EVERY_S: u64 = 120;

/// `sealcast operator`.
#[derive(clap::Args)]
pub struct Options {
    /// Make a new token for the console. The former one is void.
    #[arg(long)]
    new_token: bool,
    /// Seconds from one statement on the ledger to the next, as `sealcast ledger attest` makes them.
    #[arg(long, default_value_t = DEFAULT_EVERY_S, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    every: u64,
    /// Print where the console is, and a new token, as JSON.
    #[arg(long)]
    json: bool,
    /// As which operator.
    #[command(flatten)]
    operator: OperatorArgs,
}

impl Options {
    /// For the operator whose folder is `dir`.
    pub fn of(dir: std::path::PathBuf) -> Self {
        let operator = OperatorArgs { dir, passphrase: PassphraseArgs::default() };
        Self { new_token: false, every: DEFAULT_EVERY_S, json: false, operator }
    }
}

#[derive(Serialize)]
struct Ready {
    console: String,
    /// Where the token is kept.
    token_file: String,
    /// If it was made now.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
}

/// Runs the command. It goes on while the hub is away.
pub async fn run(options: Options) -> Result<()> {
    let dir = &options.operator.dir;
    let operator = options.operator.connect().await?;
    // Two processes would not know of each other which actions were carried out.
    let _lock = files::lock(dir).context("one `sealcast operator` runs for a folder: stop the other one first")?;
    let path = dir.join(TOKEN);
    let is_new = options.new_token || !path.exists();
    let token = if is_new { Token::generate()? } else { Token::read(&path, Source::File)? };
    if is_new {
        token.write(&path)?;
    }
    let shown = is_new.then(|| token.reveal().to_owned());
    let ready = Ready { console: String::new(), token_file: path.display().to_string(), token: shown };
    let duty = Duty {
        operator,
        verifier: token.verifier().to_hex(),
        judge: Judge::open(token, dir)?,
        every: Duration::from_secs(options.every),
        fault: None,
    };
    tokio::select! {
        outcome = duty.run(options.json, ready) => outcome,
        () = shutdown::requested() => Ok(()),
    }
}

struct Duty {
    operator: Operator,
    verifier: String,
    judge: Judge,
    every: Duration,
    /// What the log said last of calls that fail.
    fault: Option<String>,
}

impl Duty {
    async fn run(mut self, json: bool, ready: Ready) -> Result<()> {
        let (mut outcomes, mut attest_at, mut ready) = (Vec::new(), Instant::now(), Some(ready));
        loop {
            if attest_at <= Instant::now() {
                attest_at = Instant::now() + self.every;
                if let Err(error) = self.operator.attest().await {
                    warn!("nothing was said of the ledger, and it is tried again: {error:#}");
                }
            }
            // Until the hub has answered once, nobody was told where the console is.
            let wait =
                if ready.is_some() { Duration::ZERO } else { attest_at.duration_since(Instant::now()).min(WAIT) };
            let Some(Orders { actions, console }) = self.call(&outcomes, wait).await else {
                tokio::time::sleep(AGAIN).await;
                continue;
            };
            if let Some(ready) = ready.take() {
                told(json, Ready { console, ..ready })?;
            }
            outcomes.clear();
            for action in &actions {
                outcomes.push(self.attend(action).await);
            }
        }
    }

    /// Tells the hub what became of the last actions, and asks for new ones. `None` if it does not answer: then they are told
    /// again.
    async fn call(&mut self, outcomes: &[Outcome], wait: Duration) -> Option<Orders> {
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let call = Call { verifier: self.verifier.clone(), outcomes: outcomes.to_vec(), wait_ms };
        let answer = async {
            let answer = self.operator.post(CALL_PATH, serde_json::to_vec(&call)?).await?;
            anyhow::Ok(serde_json::from_slice(&answer)?)
        };
        match answer.await {
            Ok(orders) => {
                if self.fault.take().is_some() {
                    info!("the hub's console is reached again");
                }
                Some(orders)
            }
            Err(error) => {
                let fault = format!("{error:#}");
                if self.fault.as_ref() != Some(&fault) {
                    warn!("no actions come from the hub's console, and it is tried again: {fault}");
                }
                self.fault = Some(fault);
                None
            }
        }
    }

    async fn attend(&mut self, action: &Action) -> Outcome {
        let id = action.id.clone();
        let (state, text) = match self.judge.judge(action, now_ms()) {
            Verdict::Known(outcome) => return outcome,
            Verdict::Refused(why) => {
                warn!(id, node = action.node, group = action.group, "an action was refused: {why}");
                return Outcome { id, state: OutcomeState::Refused, text: why };
            }
            Verdict::Act => match act(&mut self.operator, action).await {
                Ok(text) => (OutcomeState::Done, text),
                Err(error) => (OutcomeState::Refused, format!("{error:#}")),
            },
        };
        info!(id, "{text}");
        let outcome = Outcome { id, state, text };
        if let Err(error) = self.judge.note(action, outcome.clone()) {
            warn!("what came of an action was not noted: {error:#}");
        }
        outcome
    }
}

fn told(json: bool, ready: Ready) -> Result<()> {
    let token = match &ready.token {
        Some(token) => format!("{token} (signs operators in to the console; kept in {})", ready.token_file),
        None => format!("in {}", ready.token_file),
    };
    let words = format!("operator's process\n  console    {}\n  token      {token}", ready.console);
    output::event(json, &ready, &words)
}

/// Signs what the action says and submits it.
async fn act(operator: &mut Operator, action: &Action) -> Result<String> {
    let (device, group, reason) = parse(action)?;
    operator.catch_up().await?;
    let (number, of) = (operator.device(&device)?.number, operator.group(&group)?.number);
    let (body, text) = match action.action {
        Act::Grant => (Body::Granted(Granted { group: of, device: number }), format!("{device} is granted {group}")),
        Act::Revoke => (
            Body::Revoked(Revoked { group: of, device: number, reason }),
            format!("{device} is revoked from {group}: it cannot read anything from the next epoch on"),
        ),
    };
    operator.submit(body).await?;
    Ok(text)
}

fn parse(action: &Action) -> Result<(DeviceId, GroupName, Reason)> {
    let Action { action: act, node, group, reason, .. } = action;
    ensure!(*act == Act::Revoke || reason.is_empty(), "a grant has no reason: the ledger has no place for one");
    let device = node.parse().with_context(|| format!("{node:?} is no device's id"))?;
    let group = group.parse().with_context(|| format!("{group:?} is no group's name"))?;
    Ok((device, group, reason.parse().context("the reason")?))
}
