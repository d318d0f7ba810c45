//! Whether an action is the wish of whoever has the operator's token.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use sealcast_console::{Action, MAX_AGE, Outcome, OutcomeState, Token};
use sealcast_node::files::{self, Mode};
use serde::{Deserialize, Serialize};

/// The file in the operator's folder with the last actions.
pub const ACTIONS: &str = "console.actions";
/// How many are kept. Age does not end them: a clock can be set back.
const MAX_KNOWN: usize = 1_000;

/// See the module.
pub struct Judge {
    token: Token,
    path: PathBuf,
    /// The newest actions that were begun, by id.
    known: BTreeMap<String, Known>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Known {
    at: u64,
    outcome: Outcome,
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
    /// One that knows what was carried out for the operator of folder `dir`.
    pub fn open(token: Token, dir: &Path) -> Result<Self> {
        let path = dir.join(ACTIONS);
        let known = match path.exists() {
            true => serde_json::from_str(&files::read(&path)?).with_context(|| {
                format!(
                    "{} cannot be used: wait two minutes, so that no action can come again, and remove it",
                    path.display()
                )
            })?,
            false => BTreeMap::new(),
        };
        Ok(Self { token, path, known })
    }

    /// Judges an action that the hub has handed on. One that is to be carried out is noted before, so that a hub cannot play it
    /// again to the process that comes after this one.
    pub fn judge(&mut self, action: &Action, now_ms: u64) -> Verdict {
        let max_age_ms = u64::try_from(MAX_AGE.as_millis()).unwrap_or(u64::MAX);
        if !action.is_well_formed() || !action.is_proven(&self.token) {
            return Verdict::Refused("it is not proven by the operator's token".to_owned());
        }
        if let Some(known) = self.known.get(&action.id) {
            return Verdict::Known(known.outcome.clone());
        }
        if action.at.abs_diff(now_ms) > max_age_ms {
            let seconds = action.at.abs_diff(now_ms) / 1000;
            return Verdict::Refused(format!(
                "it is {seconds} s away from now, and may be {}: do it again, and compare the clocks of this machine and the \
                 browser's if it is refused again",
                MAX_AGE.as_secs()
            ));
        }
        let begun = "it was begun, and the operator's process ended before it said what came of it: look at the ledger";
        match self.note(action, Outcome { id: action.id.clone(), state: OutcomeState::Refused, text: begun.to_owned() })
        {
            Ok(()) => Verdict::Act,
            Err(error) => Verdict::Refused(format!("{error:#}")),
        }
    }

    /// Notes what came of an action.
    pub fn note(&mut self, action: &Action, outcome: Outcome) -> Result<()> {
        let mut known = self.known.clone();
        known.insert(action.id.clone(), Known { at: action.at, outcome });
        if known.len() > MAX_KNOWN
            && let Some(oldest) = known.iter().min_by_key(|(_, known)| known.at).map(|(id, _)| id.clone())
        {
            known.remove(&oldest);
        }
        files::write(&self.path, &serde_json::to_vec(&known)?, Mode::Secret)?;
        // Only now: what the file does not have was not begun.
        self.known = known;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use sealcast_console::Act;

    use sealcast_node::files::Source;

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
        let (token, other, dir) = (Token::generate()?, Token::generate()?, tempfile::tempdir()?);
        let proven = action(NOW).proven(&token);
        // What the hub sees of the token: the proof of a sign-in.
        let sign_in = Action { proof: hex::encode(token.sign_in()), ..action(NOW) };
        let mut judge = Judge::open(token, dir.path())?;
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
        let (token, dir) = (Token::generate()?, tempfile::tempdir()?);
        let [young, late] = [NOW, NOW + 61_000].map(|at| action(at).proven(&token));
        let mut judge = Judge::open(token, dir.path())?;
        assert!(is_refused(&judge.judge(&late, NOW), "61 s away"));
        assert!(is_refused(&judge.judge(&young, NOW + 61_000), "61 s away"));
        assert_eq!(judge.judge(&young, NOW + 60_000), Verdict::Act);
        let outcome = Outcome { id: young.id.clone(), state: OutcomeState::Done, text: "done".into() };
        judge.note(&young, outcome.clone())?;
        // Also when the clock was ahead and is set back.
        let junk = Action { proof: "0".repeat(64), ..action(NOW + 1_000_000) };
        judge.judge(&junk, NOW + 1_000_000);
        assert_eq!(judge.judge(&young, NOW + 100_000), Verdict::Known(outcome));
        Ok(())
    }

    #[test]
    fn the_next_process_does_not_carry_it_out_again() -> Result<()> {
        let (token, dir) = (Token::generate()?, tempfile::tempdir()?);
        let path = dir.path().join("token");
        token.write(&path)?;
        let open = || Judge::open(Token::read(&path, Source::File)?, dir.path());
        // The browser's clock is ahead.
        let action = action(NOW + 50_000).proven(&token);
        assert_eq!(open()?.judge(&action, NOW), Verdict::Act);
        let verdict = open()?.judge(&action, NOW + 1_000);
        assert!(matches!(&verdict, Verdict::Known(outcome) if outcome.text.contains("begun")), "{verdict:?}");
        std::fs::remove_file(dir.path().join(ACTIONS))?;
        // A disk that takes nothing: the action is not begun, and is when it takes something again.
        let mut judge = open()?;
        std::fs::create_dir(dir.path().join("console.actions.new"))?;
        assert!(is_refused(&judge.judge(&action, NOW), "cannot write"));
        std::fs::remove_dir(dir.path().join("console.actions.new"))?;
        assert_eq!(judge.judge(&action, NOW), Verdict::Act);
        std::fs::write(dir.path().join(ACTIONS), "{")?;
        assert!(open().is_err_and(|error| format!("{error:#}").contains("wait two minutes")));
        Ok(())
    }
}
