//! Who is signed in.

use std::{
    collections::BTreeMap,
    sync::{Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use aws_lc_rs::{digest, hmac};
use sealcast_identity::Certificate;
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

/// What a session began by. It ends with that.
#[derive(Debug, Clone)]
pub enum SignedInBy {
    /// A token.
    Token(Verifier),
    /// A client certificate.
    Certificate(Certificate),
}

/// A session.
#[derive(Debug, Clone)]
pub struct Session {
    /// What it may do.
    pub role: Role,
    /// What a request that changes something has to show.
    pub csrf: String,
    by: SignedInBy,
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
pub struct Sessions {
    all: Mutex<BTreeMap<SessionId, Session>>,
    /// By which the cookies of certificates are made.
    key: OnceLock<hmac::Key>,
}

impl Sessions {
    /// Begins one; gives its cookie.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn begin(&self, role: Role, verifier: Verifier, now: Instant) -> Result<(String, Session)> {
        let cookie = random()?;
        let session = self.put(&cookie, role, SignedInBy::Token(verifier), now)?;
        Ok((cookie, session))
    }

    /// The cookie of the session of this certificate, and whether the session begins now. No browser gets the cookie.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn of_certificate(&self, role: Role, certificate: Certificate, now: Instant) -> Result<(String, bool)> {
        let key = match self.key.get() {
            Some(key) => key,
            None => {
                let new = hmac::Key::new(hmac::HMAC_SHA256, random()?.as_bytes());
                self.key.get_or_init(|| new)
            }
        };
        let cookie = hex::encode(hmac::sign(key, &certificate.fingerprint().0));
        let is_new = self.find(&cookie, now).is_none_or(|(_, session)| session.role != role);
        if is_new {
            self.put(&cookie, role, SignedInBy::Certificate(certificate), now)?;
        }
        Ok((cookie, is_new))
    }

    fn put(&self, cookie: &str, role: Role, by: SignedInBy, now: Instant) -> Result<Session> {
        let session = Session { role, csrf: random()?, by, since: now };
        let mut sessions = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|_, session| now.duration_since(session.since) < MAX_AGE);
        if sessions.len() >= MAX_SESSIONS
            && let Some(oldest) = sessions.iter().min_by_key(|(_, session)| session.since).map(|(id, _)| *id)
        {
            sessions.remove(&oldest);
        }
        sessions.insert(SessionId::of_cookie(cookie), session.clone());
        Ok(session)
    }

    /// The session of this cookie.
    pub fn find(&self, cookie: &str, now: Instant) -> Option<(SessionId, Session)> {
        let id = SessionId::of_cookie(cookie);
        let sessions = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.get(&id).filter(|session| now.duration_since(session.since) < MAX_AGE).map(|it| (id, it.clone()))
    }

    /// Whether it goes on.
    pub fn lives(&self, id: SessionId, now: Instant) -> bool {
        let sessions = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.get(&id).is_some_and(|session| now.duration_since(session.since) < MAX_AGE)
    }

    /// Ends one.
    pub fn end(&self, id: SessionId) {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    /// Ends those for whose role what they began by is no longer good.
    pub fn keep_only(&self, is_good: impl Fn(Role, &SignedInBy) -> bool) {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, session| is_good(session.role, &session.by));
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
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
        let is_by = |token: Verifier| move |_, by: &SignedInBy| matches!(by, SignedInBy::Token(by) if *by == token);
        sessions.keep_only(is_by(verifier));
        assert!(sessions.lives(id, now));
        sessions.keep_only(is_by(Token::generate()?.verifier()));
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
