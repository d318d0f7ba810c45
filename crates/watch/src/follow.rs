//! Follows a hub: signs in, loads its state, then hears what happens. After an interruption it goes on behind the last event
//! that it has heard, or loads the state again where the hub no longer has what came behind it.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use sealcast_console::{Entry, RESET, State, Wire};
use tokio::{
    sync::mpsc::Sender,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    client::{Client, ClientError},
    sse::Event,
};

/// Entries and messages that are loaded with the state.
const ENTRIES: usize = 200;
const MESSAGES: usize = 100;
/// The first pause after a failure, and the longest one.
const PAUSE: Duration = Duration::from_millis(250);
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// How long the hub may take to end the session.
const FAREWELL: Duration = Duration::from_secs(2);

/// What whoever shows the hub is told.
#[derive(Debug)]
pub enum Update {
    /// All of it, anew.
    Loaded(Box<Loaded>),
    /// What has happened since.
    Event(Event),
    /// The connection is lost, for this reason. It is tried again.
    Lost(String),
    /// The connection is there again.
    Back,
}

/// The state, and what came last.
#[derive(Debug)]
pub struct Loaded {
    /// The state.
    pub state: State,
    /// Entries of the ledger, newest first.
    pub entries: Vec<Entry>,
    /// Messages at the broker, newest first.
    pub wire: Vec<Wire>,
}

/// Follows until `stop`, or until nobody takes the updates any more. Then it signs out.
///
/// # Errors
/// The hub cannot be reached at first, or the token is not its console's.
pub async fn run(mut client: Client, updates: Sender<Update>, stop: CancellationToken) -> Result<()> {
    let outcome = stop.run_until_cancelled(follow(&mut client, &updates)).await;
    drop(updates);
    // A hub that is gone has no session to end.
    let _ = timeout(FAREWELL, client.sign_out()).await;
    outcome.unwrap_or(Ok(()))
}

/// What is known of the connection.
#[derive(Default)]
struct FollowState {
    /// The last event that was heard; none: the state has to be loaded.
    last: Option<String>,
    /// What was said of a connection that is lost.
    lost: Option<String>,
    pause: Duration,
}

async fn follow(client: &mut Client, updates: &Sender<Update>) -> Result<()> {
    client.sign_in().await?;
    let mut state = FollowState { pause: PAUSE, ..FollowState::default() };
    let mut has_begun = false;
    while let Err(failure) = follow_once(client, updates, &mut state).await {
        has_begun |= state.last.is_some();
        let failure = match failure {
            failure if failure.is_unauthorized() => {
                state.last = None;
                // A hub that has just started knows no operator's token: that is another refusal, and passes.
                match client.sign_in().await {
                    Err(failure) if failure.is_unauthorized() => {
                        return Err(failure).context("the session has ended, and there is no new one");
                    }
                    Err(failure) => Some(failure),
                    Ok(_) => None,
                }
            }
            failure => Some(failure),
        };
        if let Some(failure) = failure {
            if !has_begun {
                bail!(failure);
            }
            let reason = format!("{failure:#}");
            if state.lost.as_ref() != Some(&reason) && updates.send(Update::Lost(reason.clone())).await.is_err() {
                return Ok(());
            }
            state.lost = Some(reason);
        }
        sleep(state.pause).await;
        state.pause = (state.pause * 2).min(MAX_PAUSE);
    }
    Ok(())
}

/// Until the connection fails; `Ok` if nobody takes the updates any more.
async fn follow_once(client: &Client, updates: &Sender<Update>, state: &mut FollowState) -> Result<(), ClientError> {
    loop {
        let last = match &state.last {
            Some(last) => last.clone(),
            None => {
                let loaded = load(client).await?;
                let last = loaded.state.event.clone();
                if updates.send(Update::Loaded(Box::new(loaded))).await.is_err() {
                    return Ok(());
                }
                state.last = Some(last.clone());
                last
            }
        };
        let mut feed = client.feed(&last).await?;
        if state.lost.take().is_some() && updates.send(Update::Back).await.is_err() {
            return Ok(());
        }
        loop {
            let Some(event) = feed.next().await? else {
                return Err(ClientError::Unreachable(anyhow::anyhow!("it has ended its feed")));
            };
            if event.name == RESET {
                state.last = None;
                // All of it is loaded anew: a hub that says nothing else must not keep both busy.
                sleep(state.pause).await;
                state.pause = (state.pause * 2).min(MAX_PAUSE);
                break;
            }
            state.pause = PAUSE;
            state.last = Some(event.id.clone());
            if updates.send(Update::Event(event)).await.is_err() {
                return Ok(());
            }
        }
    }
}

/// The entries and messages are read behind the state: what comes between is told again by the feed, and nothing is missed.
async fn load(client: &Client) -> Result<Loaded, ClientError> {
    let state = client.state().await?;
    let entries = client.entries(ENTRIES).await?.entries;
    let wire = client.wire(MESSAGES).await?.messages;
    Ok(Loaded { state, entries, wire })
}

#[cfg(test)]
mod tests;
