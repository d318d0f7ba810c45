//! Who is signed in.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Verifier;

/// How long a session lasts.
pub const MAX_AGE: Duration = Duration::from_secs(12 * 3600);
/// Sessions at a time. One more ends the oldest.
const MAX_SESSIONS: usize = 64;

/// What a session may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// See everything.
    Reader,
    /// Ask the operator's process to act, too.
    Operator,
}

/// A session.
#[derive(Debug, Clone)]
pub struct Session {
    /// What it may do.
    pub role: Role,
    /// What a request that changes something has to show.
    pub csrf: String,
    /// By which token it began.
    verifier: Verifier,
    since: Instant,
}

/// SHA-256 of a session's cookie: the cookies themselves are not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionId([u8; 32]);

impl SessionId {
    fn of_cookie(cookie: &str) -> Self {
        let mut id = [0; 32];
        id.copy_from_slice(digest::digest(&digest::SHA256, cookie.as_bytes()).as_ref());
        Self(id)
    }
}

/// All sessions.
#[derive(Default)]
pub struct Sessions(Mutex<BTreeMap<SessionId, Session>>);

impl Sessions {
    /// Begins one; gives its cookie.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn begin(&self, role: Role, verifier: Verifier, now: Instant) -> Result<(String, Session)> {
        let (cookie, csrf) = (random()?, random()?);
        let session = Session { role, csrf, verifier, since: now };
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|_, session| now.duration_since(session.since) < MAX_AGE);
        if sessions.len() >= MAX_SESSIONS
            && let Some(oldest) = sessions.iter().min_by_key(|(_, session)| session.since).map(|(id, _)| *id)
        {
            sessions.remove(&oldest);
        }
        sessions.insert(SessionId::of_cookie(&cookie), session.clone());
        Ok((cookie, session))
    }

    /// The session of this cookie.
    pub fn find(&self, cookie: &str, now: Instant) -> Option<(SessionId, Session)> {
        let id = SessionId::of_cookie(cookie);
        let sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.get(&id).filter(|session| now.duration_since(session.since) < MAX_AGE).map(|it| (id, it.clone()))
    }

    /// Whether it goes on.
    pub fn lives(&self, id: SessionId, now: Instant) -> bool {
        let sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.get(&id).is_some_and(|session| now.duration_since(session.since) < MAX_AGE)
    }

    /// Ends one.
    pub fn end(&self, id: SessionId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    /// Ends those that began by a token which is no more this role's.
    pub fn keep_only(&self, role: Role, verifier: Option<Verifier>) {
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|_, session| session.role != role || Some(session.verifier) == verifier);
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}

fn random() -> Result<String> {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).ok().context("no randomness from the system")?;
    Ok(hex::encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Token;

    #[test]
    fn a_session_ends_by_itself_by_its_owner_or_with_its_token() -> Result<()> {
        let (sessions, now, verifier) = (Sessions::default(), Instant::now(), Token::generate()?.verifier());
        let (cookie, session) = sessions.begin(Role::Reader, verifier, now)?;
        let (id, found) = sessions.find(&cookie, now).context("the session")?;
        assert_eq!((found.csrf, found.role), (session.csrf, Role::Reader));
        assert!(sessions.find("other", now).is_none());
        assert!(sessions.find(&cookie, now + MAX_AGE).is_none() && !sessions.lives(id, now + MAX_AGE));
        sessions.keep_only(Role::Operator, None);
        sessions.keep_only(Role::Reader, Some(verifier));
        assert!(sessions.lives(id, now));
        sessions.keep_only(Role::Reader, Some(Token::generate()?.verifier()));
        assert!(!sessions.lives(id, now) && sessions.is_empty());
        let (cookie, _) = sessions.begin(Role::Operator, verifier, now)?;
        let (id, _) = sessions.find(&cookie, now).context("the session")?;
        sessions.end(id);
        assert!(sessions.find(&cookie, now).is_none());
        Ok(())
    }

    #[test]
    fn one_too_many_ends_the_oldest() -> Result<()> {
        let (sessions, now, verifier) = (Sessions::default(), Instant::now(), Token::generate()?.verifier());
        let begun = |at: usize| sessions.begin(Role::Reader, verifier, now + Duration::from_secs(at as u64));
        let cookies: Vec<String> = (0..=MAX_SESSIONS).map(|at| Ok(begun(at)?.0)).collect::<Result<_>>()?;
        let found = cookies.iter().filter(|cookie| sessions.find(cookie, now).is_some()).count();
        assert_eq!(found, MAX_SESSIONS);
        assert!(sessions.find(&cookies[0], now).is_none());
        Ok(())
    }
}
