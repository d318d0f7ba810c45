//! Whether an action is the wish of whoever has the operator's token.

use std::collections::BTreeMap;

use sealcast_console::{Action, MAX_AGE, Outcome, Token};

/// See the module.
pub struct Judge {
    token: Token,
    /// When this process began, Unix ms. What is older may have been carried out by the one before.
    since_ms: u64,
    /// Actions that were carried out, by id, as long as they are young enough to come again.
    known: BTreeMap<String, (u64, Outcome)>,
}

/// What becomes of an action.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was carried out before.
    Known(Outcome),
    /// It is not carried out, for this reason.
    Refused(String),
    /// It is to be carried out.
    Act,
}

impl Judge {
    /// One that has carried out nothing yet.
    pub fn new(token: Token, since_ms: u64) -> Self {
        Self { token, since_ms, known: BTreeMap::new() }
    }

    /// Judges an action that the hub has handed on.
    pub fn judge(&mut self, action: &Action, now_ms: u64) -> Verdict {
        let max_age_ms = u64::try_from(MAX_AGE.as_millis()).unwrap_or(u64::MAX);
        self.known.retain(|_, (at, _)| at.saturating_add(2 * max_age_ms) >= now_ms);
        if !action.is_well_formed() || !action.is_proven(&self.token) {
            return Verdict::Refused("it is not proven by the operator's token".to_owned());
        }
        if let Some((_, outcome)) = self.known.get(&action.id) {
            return Verdict::Known(outcome.clone());
        }
        if action.at.abs_diff(now_ms) > max_age_ms {
            let seconds = action.at.abs_diff(now_ms) / 1000;
            return Verdict::Refused(format!(
                "it is {seconds} s away from now, and may be {}: do it again, and compare the clocks of this machine and the \
                 browser's if it is refused again",
                MAX_AGE.as_secs()
            ));
        }
        if action.at < self.since_ms {
            return Verdict::Refused("it was asked for before the operator's process began: do it again".to_owned());
        }
        Verdict::Act
    }

    /// It was carried out, or the ledger refused it.
    pub fn remember(&mut self, action: &Action, outcome: Outcome) {
        self.known.insert(action.id.clone(), (action.at, outcome));
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Result;
    use sealcast_console::{Act, OutcomeState};

    use super::*;

    const NOW: u64 = 1_800_000_000_000;

    fn action(at: u64) -> Action {
        let (node, group, reason) = ("1113".into(), "hsu0001".into(), String::new());
        let (id, proof) = ("0123456789abcdef".into(), "0".repeat(64));
        Action { action: Act::Grant, node, group, reason, at, id, proof }
    }

    fn is_refused(verdict: &Verdict, part: &str) -> bool {
        matches!(verdict, Verdict::Refused(why) if why.contains(part))
    }

    #[test]
    fn an_action_that_the_hub_invents_is_refused() -> Result<()> {
        let (token, other) = (Token::generate()?, Token::generate()?);
        let proven = action(NOW).proven(&token);
        // What the hub sees of the token: the proof of a sign-in.
        let sign_in = Action { proof: hex::encode(token.sign_in()), ..action(NOW) };
        let mut judge = Judge::new(token, NOW);
        for invented in
            [action(NOW), action(NOW).proven(&other), sign_in, Action { node: "1114".into(), ..proven.clone() }]
        {
            assert!(is_refused(&judge.judge(&invented, NOW), "not proven"), "{invented:?}");
        }
        assert_eq!(judge.judge(&proven, NOW), Verdict::Act);
        Ok(())
    }

    #[test]
    fn an_action_is_carried_out_once_and_while_it_is_young() -> Result<()> {
        let token = Token::generate()?;
        let [early, young, late] = [NOW - 1, NOW, NOW + 61_000].map(|at| action(at).proven(&token));
        let mut judge = Judge::new(token, NOW);
        assert!(is_refused(&judge.judge(&early, NOW), "before the operator's process began"));
        assert!(is_refused(&judge.judge(&late, NOW), "61 s away"));
        assert!(is_refused(&judge.judge(&young, NOW + 61_000), "61 s away"));
        assert_eq!(judge.judge(&young, NOW + 60_000), Verdict::Act);
        let outcome = Outcome { id: young.id.clone(), state: OutcomeState::Done, text: "done".into() };
        judge.remember(&young, outcome.clone());
        assert_eq!(judge.judge(&young, NOW + 100_000), Verdict::Known(outcome));
        assert!(is_refused(&judge.judge(&young, NOW + 200_000), "200 s away"), "forgotten, and too old");
        Ok(())
    }
}
