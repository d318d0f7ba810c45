//! Actions on their way from the page to the process that has the operator's key.
//!
//! The hub hands them on and cannot make one: each has a proof by the operator's token, of which the hub knows the verifier
//! for sign-ins only.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use utoipa::ToSchema;

use crate::access::{Token, Verifier};

/// How old an action may be for the operator's process.
pub const MAX_AGE: Duration = Duration::from_secs(60);
/// Actions that wait for an outcome.
const MAX_WAITING: usize = 16;
/// Without a call for so long, the operator's process is gone.
const GONE: Duration = Duration::from_secs(10);
/// The longest text of an action's field, in bytes.
const MAX_FIELD: usize = 512;

/// What an action does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Act {
    /// Allow a device into a group.
    Grant,
    /// Remove a device from a group.
    Revoke,
}

/// What a person with the operator's token wants done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Action {
    /// What to do.
    pub action: Act,
    /// The device's id.
    pub node: String,
    /// The group's name.
    pub group: String,
    /// Why. It is written to the ledger for a revocation.
    #[serde(default)]
    pub reason: String,
    /// When it was asked for, Unix ms.
    pub at: u64,
    /// 16 hex digits, new for each action.
    pub id: String,
    /// HMAC-SHA256 by the token, hex: see [`Action::text`].
    pub proof: String,
}

/// What became of an action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Outcome {
    /// The action's id.
    pub id: String,
    /// Whether it was done.
    pub state: OutcomeState,
    /// What was done, or why not.
    pub text: String,
}

/// Whether an action was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum OutcomeState {
    /// The ledger has it.
    Done,
    /// It was not.
    Refused,
}

/// A call of the operator's process.
#[derive(Debug, Serialize, Deserialize)]
pub struct Call {
    /// The verifier of the token by which operators sign in, hex.
    pub verifier: String,
    /// What became of earlier actions.
    pub outcomes: Vec<Outcome>,
    /// How long to wait for an action, in ms.
    pub wait_ms: u64,
}

/// The answer: actions without an outcome, also those that were handed out before.
#[derive(Debug, Serialize, Deserialize)]
pub struct Orders {
    /// Oldest first.
    pub actions: Vec<Action>,
    /// Where the console is.
    pub console: String,
}

impl Action {
    /// What its proof is of.
    pub fn text(&self) -> String {
        let act = match self.action {
            Act::Grant => "grant",
            Act::Revoke => "revoke",
        };
        let Self { node, group, reason, at, id, .. } = self;
        format!("sealcast console: action\n{act}\n{node}\n{group}\n{reason}\n{at}\n{id}")
    }

    /// The same with a proof by `token`.
    #[must_use]
    pub fn proven(self, token: &Token) -> Self {
        let proof = hex::encode(token.prove(&self.text()));
        Self { proof, ..self }
    }

    /// Whether its proof is by `token`.
    pub fn is_proven(&self, token: &Token) -> bool {
        hex::decode(&self.proof).is_ok_and(|proof| token.is_proof(&self.text(), &proof))
    }

    /// Whether its fields are what they should be: no line end can move one field's text into the next.
    pub fn is_well_formed(&self) -> bool {
        let is_field = |text: &str| text.len() <= MAX_FIELD && !text.chars().any(char::is_control);
        let is_hex = |text: &str, digits| text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        [&self.node, &self.group, &self.reason].into_iter().all(|text| is_field(text))
            && is_hex(&self.id, 16)
            && is_hex(&self.proof, 64)
    }
}

/// See the module.
#[derive(Default)]
pub struct Actions {
    state: Mutex<Waiting>,
    more: Notify,
}

#[derive(Default)]
struct Waiting {
    actions: VecDeque<(Action, Instant)>,
    verifier: Option<Verifier>,
    /// Calls under way.
    calls: usize,
    heard: Option<Instant>,
}

/// Why an action is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotTaken {
    /// Nobody would carry it out.
    NoOperator,
    /// Too many wait.
    Full,
    /// One with this id waits.
    Known,
}

impl Waiting {
    fn is_connected(&self, now: Instant) -> bool {
        self.calls > 0 || self.heard.is_some_and(|heard| now.duration_since(heard) < GONE)
    }
}

impl Actions {
    /// Takes an action for the operator's process.
    ///
    /// # Errors
    /// Why it is not taken.
    pub fn put(&self, action: Action, now: Instant) -> Result<(), NotTaken> {
        let mut state = self.lock();
        if !state.is_connected(now) {
            return Err(NotTaken::NoOperator);
        }
        if state.actions.len() >= MAX_WAITING {
            return Err(NotTaken::Full);
        }
        if state.actions.iter().any(|(waiting, _)| waiting.id == action.id) {
            return Err(NotTaken::Known);
        }
        state.actions.push_back((action, now));
        drop(state);
        self.more.notify_waiters();
        Ok(())
    }

    /// The operator's process is there. Gives the outcomes that are new; `None` if another process is connected.
    pub fn hear(&self, verifier: Verifier, outcomes: Vec<Outcome>, now: Instant) -> Option<Vec<Outcome>> {
        let mut state = self.lock();
        if state.calls > 0 && state.verifier.is_some_and(|known| known != verifier) {
            return None;
        }
        (state.verifier, state.heard) = (Some(verifier), Some(now));
        let mut new = outcomes;
        new.retain(|outcome| state.actions.iter().any(|(action, _)| action.id == outcome.id));
        state.actions.retain(|(action, _)| new.iter().all(|outcome| outcome.id != action.id));
        Some(new)
    }

    /// The actions without an outcome. Waits for one, though not longer than `patience`.
    pub async fn wait(&self, patience: Duration) -> Vec<Action> {
        let _call = Calling::begin(self);
        let found = async {
            loop {
                let more = self.more.notified();
                tokio::pin!(more);
                more.as_mut().enable();
                let actions = self.waiting();
                if !actions.is_empty() {
                    return actions;
                }
                more.await;
            }
        };
        tokio::time::timeout(patience, found).await.unwrap_or_default()
    }

    /// The verifier of the token by which operators sign in.
    pub fn verifier(&self) -> Option<Verifier> {
        self.lock().verifier
    }

    /// Whether the operator's process is connected.
    pub fn is_connected(&self, now: Instant) -> bool {
        self.lock().is_connected(now)
    }

    /// Gives up what was not answered while it could have been carried out.
    pub fn expire(&self, now: Instant) -> Vec<Outcome> {
        let mut state = self.lock();
        let (old, young) = state.actions.drain(..).partition(|(_, since)| now.duration_since(*since) > MAX_AGE);
        state.actions = young;
        let old: VecDeque<(Action, Instant)> = old;
        let text = "the operator's process has not said what became of it: see the ledger before you try again";
        old.into_iter()
            .map(|(action, _)| Outcome { id: action.id, state: OutcomeState::Refused, text: text.to_owned() })
            .collect()
    }

    fn waiting(&self) -> Vec<Action> {
        self.lock().actions.iter().map(|(action, _)| action.clone()).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call under way, also if its connection ends meanwhile.
struct Calling<'a>(&'a Actions);

impl<'a> Calling<'a> {
    fn begin(actions: &'a Actions) -> Self {
        actions.lock().calls += 1;
        Self(actions)
    }
}

impl Drop for Calling<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.calls -= 1;
        state.heard = Some(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn action(token: &Token) -> Action {
        let (node, group, reason) = ("1113".into(), "hsu0001".into(), String::new());
        let id = "0123456789abcdef".to_owned();
        Action { action: Act::Grant, node, group, reason, at: 5, id, proof: String::new() }.proven(token)
    }

    #[test]
    fn a_proof_is_for_one_action() {
        let (token, other) = (Token::generate().unwrap(), Token::generate().unwrap());
        let proven = action(&token);
        assert!(proven.is_proven(&token) && proven.is_well_formed() && !proven.is_proven(&other));
        let changed = [
            Action { action: Act::Revoke, ..proven.clone() },
            Action { node: "1114".into(), ..proven.clone() },
            Action { group: "other".into(), ..proven.clone() },
            Action { reason: "x".into(), ..proven.clone() },
            Action { at: 6, ..proven.clone() },
            Action { id: "1123456789abcdef".into(), ..proven.clone() },
            // The proof for a sign-in, which the hub sees.
            Action { proof: hex::encode(token.sign_in()), ..proven.clone() },
        ];
        assert!(changed.iter().all(|action| !action.is_proven(&token)));
        // The same text as `proven`, cut elsewhere.
        assert!(!Action { node: "1113\nhsu0001".into(), group: String::new(), ..proven }.is_well_formed());
    }

    #[tokio::test]
    async fn an_action_is_handed_out_until_it_has_an_outcome() {
        let (actions, now, token) = (Actions::default(), Instant::now(), Token::generate().unwrap());
        let action = action(&token);
        assert_eq!(actions.put(action.clone(), now), Err(NotTaken::NoOperator));
        assert!(actions.hear(token.verifier(), vec![], now).is_some());
        assert_eq!(actions.put(action.clone(), now), Ok(()));
        assert_eq!(actions.put(action.clone(), now), Err(NotTaken::Known));
        for _ in 0..2 {
            assert_eq!(actions.wait(Duration::ZERO).await, std::slice::from_ref(&action));
        }
        let outcome = Outcome { id: action.id.clone(), state: OutcomeState::Done, text: "done".into() };
        let unknown = Outcome { id: "unknown".into(), ..outcome.clone() };
        let told = actions.hear(token.verifier(), vec![unknown, outcome.clone()], now);
        assert_eq!(told, Some(vec![outcome.clone()]));
        assert_eq!(actions.hear(token.verifier(), vec![outcome], now), Some(vec![]), "told once");
        assert!(actions.wait(Duration::ZERO).await.is_empty());
        assert!(!actions.is_connected(Instant::now() + GONE));
    }

    #[tokio::test]
    async fn what_is_not_answered_is_given_up() {
        let (actions, now, token) = (Actions::default(), Instant::now(), Token::generate().unwrap());
        actions.hear(token.verifier(), vec![], now);
        actions.put(action(&token), now).unwrap();
        assert!(actions.expire(now + MAX_AGE).is_empty());
        let given_up = actions.expire(now + MAX_AGE + Duration::from_secs(1));
        assert_eq!(given_up[0].state, OutcomeState::Refused);
        assert!(actions.wait(Duration::ZERO).await.is_empty());
    }

    #[tokio::test]
    async fn one_operators_process_is_connected_at_a_time() {
        let (actions, now) = (Actions::default(), Instant::now());
        let [one, other] = [(); 2].map(|()| Token::generate().unwrap().verifier());
        actions.hear(one, vec![], now);
        {
            let call = actions.wait(Duration::from_secs(60));
            tokio::pin!(call);
            assert!(futures_util::poll!(call.as_mut()).is_pending());
            assert!(actions.hear(other, vec![], now).is_none() && actions.hear(one, vec![], now).is_some());
        }
        assert!(actions.hear(other, vec![], now).is_some());
        assert_eq!(actions.verifier(), Some(other));
    }
}
